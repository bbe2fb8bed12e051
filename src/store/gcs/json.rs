//! The part of Cloud Storage's JSON API that the official data client does not cover.
//!
//! That client's `Storage` reads and writes content; metadata and listing are in its gRPC half,
//! `StorageControl`, which no emulator answers. The JSON API carries the same information over
//! the same endpoint and credentials as the content.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{FIRST_BACKOFF, GcsConfig, LONGEST_BACKOFF, RetryHook, failure};
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName};
use crate::store::ObjectMeta;
use crate::telemetry::labels::RetryOp;

/// The fields of an object that [`ObjectMeta`] has room for; anything else would be sent in vain.
const FIELDS: &str = "name,generation,size,contentType,crc32c,metadata";

/// Objects per page; Cloud Storage's own maximum.
const PAGE: u32 = 1000;

/// Much of an error answer that is worth keeping for the log.
const DETAIL_BYTES: usize = 2048;

/// A client of the JSON API.
#[derive(Clone, Debug)]
pub(super) struct JsonApi {
    http: reqwest::Client,
    endpoint: Url,
    credentials: Credentials,
    backoff: ExponentialBuilder,
    retried: RetryHook,
}

impl JsonApi {
    /// Prepares a client for `endpoint`, which must be an absolute URL.
    pub(super) fn new(
        endpoint: &str,
        credentials: Credentials,
        config: &GcsConfig,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let endpoint: Url = endpoint.parse()?;
        if endpoint.cannot_be_a_base() {
            return Err(format!("{endpoint} is not an http or https URL").into());
        }
        let http = reqwest::Client::builder()
            .timeout(config.attempt_timeout)
            .connect_timeout(config.attempt_timeout.min(Duration::from_secs(10)))
            .build()?;
        let retries = usize::try_from(config.attempts.saturating_sub(1)).unwrap_or_default();
        let backoff = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(FIRST_BACKOFF)
            .with_max_delay(LONGEST_BACKOFF)
            .with_max_times(retries)
            .with_total_delay(Some(config.retry_limit));
        Ok(Self {
            http,
            endpoint,
            credentials,
            backoff,
            retried: config.retried.clone(),
        })
    }

    /// An object's description.
    pub(super) async fn stat(
        &self,
        bucket: &str,
        key: &str,
        generation: Option<Generation>,
    ) -> Result<ObjectResource> {
        let mut url = self.url(&[bucket, "o", key]);
        url.query_pairs_mut().append_pair("fields", FIELDS);
        let mut what = format!("gs://{bucket}/{key}");
        if let Some(generation) = generation {
            url.query_pairs_mut()
                .append_pair("generation", &generation.to_string());
            what = format!("{what}#{generation}");
        }
        self.get(RetryOp::StoreStat, &what, url).await
    }

    /// One page of the objects whose key starts with `prefix`.
    pub(super) async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        page: Option<&str>,
    ) -> Result<ObjectList> {
        let mut url = self.url(&[bucket, "o"]);
        url.query_pairs_mut()
            .append_pair("fields", &format!("items({FIELDS}),nextPageToken"))
            .append_pair("maxResults", &PAGE.to_string())
            .append_pair("prefix", prefix);
        if let Some(token) = page {
            url.query_pairs_mut().append_pair("pageToken", token);
        }
        let what = format!("gs://{bucket}/{prefix}*");
        self.get(RetryOp::StoreList, &what, url).await
    }

    /// The bucket's first object, if any: a question that is answered by 404 exactly when the
    /// bucket does not exist.
    pub(super) async fn first(&self, bucket: &str) -> Result<ObjectList> {
        let url = self.first_url(bucket);
        self.get(RetryOp::StoreList, &format!("gs://{bucket}"), url)
            .await
    }

    /// Whether it is certain that the bucket does not exist. Asked once: this only makes a
    /// message better.
    pub(super) async fn bucket_is_missing(&self, bucket: &str) -> bool {
        let url = self.first_url(bucket);
        let answer: Result<ObjectList> = self.attempt("list", bucket, &url).await;
        answer.is_err_and(|e| e.code() == Code::SourceNotFound)
    }

    fn first_url(&self, bucket: &str) -> Url {
        let mut url = self.url(&[bucket, "o"]);
        url.query_pairs_mut()
            .append_pair("fields", "items(name,generation,size)")
            .append_pair("maxResults", "1");
        url
    }

    /// `ENDPOINT/storage/v1/b/…`; each segment is percent-encoded as a whole, slashes included,
    /// because an object's name is one segment however many slashes it has.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .expect("the constructor refuses a URL that cannot be a base")
            .pop_if_empty()
            .extend(["storage", "v1", "b"])
            .extend(segments);
        url
    }

    /// Asks until it is answered, or the patience is used up.
    async fn get<T: DeserializeOwned>(&self, op: RetryOp, what: &str, url: Url) -> Result<T> {
        let doing = match op {
            RetryOp::StoreList => "list",
            _ => "describe",
        };
        (|| self.attempt(doing, what, &url))
            .retry(self.backoff)
            .when(|error: &Error| error.code() == Code::StorageUnavailable)
            .notify(|error: &Error, delay| {
                self.retried.tell(op, error.code());
                tracing::debug!(error = %error.chain(), ?delay, "asking Cloud Storage again");
            })
            .await
    }

    async fn attempt<T: DeserializeOwned>(&self, doing: &str, what: &str, url: &Url) -> Result<T> {
        let headers = self.headers(doing, what).await?;
        let response = self.http.get(url.clone()).headers(headers).send().await;
        let response = response.map_err(|e| failure::unanswered(doing, what, e))?;
        let status = response.status();
        if !status.is_success() {
            let mut detail = response.text().await.unwrap_or_default();
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES));
            return Err(failure::of_status(doing, what, status.as_u16(), detail));
        }
        response
            .json()
            .await
            .map_err(|e| failure::unanswered(doing, what, e))
    }

    /// The authorization headers; the credentials cache and renew their token themselves.
    async fn headers(&self, doing: &str, what: &str) -> Result<HeaderMap> {
        match self.credentials.headers(Default::default()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            // Answered only to those who say what they hold already, which we do not.
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => Err(failure::of_credentials(doing, what, error)),
        }
    }
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectList {
    #[serde(default)]
    pub(super) items: Vec<ObjectResource>,
    pub(super) next_page_token: Option<String>,
}

/// An object as the JSON API describes it; 64-bit numbers are strings there
/// (<https://cloud.google.com/storage/docs/json_api/v1/objects#resource>).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectResource {
    name: String,
    generation: String,
    size: String,
    #[serde(default)]
    content_type: String,
    crc32c: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl ObjectResource {
    /// Our description of it; an error when its name or numbers are not what they should be.
    pub(super) fn into_meta(self, bucket: &str) -> Result<ObjectMeta> {
        let name = ObjectName::in_bucket(bucket, self.name)?;
        let malformed = |field: &str| {
            Error::new(
                Code::StorageUnavailable,
                format!("cannot describe {name}: its {field} is malformed; it is tried again"),
            )
        };
        let generation = self
            .generation
            .parse()
            .map_err(|_| malformed("generation"))?;
        let size = self.size.parse().map_err(|_| malformed("size"))?;
        let crc32c = match self.crc32c {
            None => None,
            Some(text) => Some(parse_crc32c(&text).ok_or_else(|| malformed("crc32c"))?),
        };
        Ok(ObjectMeta {
            generation: Generation(generation),
            size,
            content_type: self.content_type,
            crc32c,
            metadata: self.metadata,
            name,
        })
    }
}

/// Base64 of the big-endian bytes.
fn parse_crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(endpoint: &str) -> JsonApi {
        let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
        JsonApi::new(endpoint, anonymous, &GcsConfig::default()).unwrap()
    }

    #[test]
    fn an_objects_name_is_one_path_segment_whatever_it_contains() {
        for endpoint in ["http://localhost:4443", "http://localhost:4443/"] {
            let url = api(endpoint).url(&["photos", "o", "a b/../#1?x=%2F+ü.jpg"]);
            assert_eq!(
                url.as_str(),
                "http://localhost:4443/storage/v1/b/photos/o/a%20b%2F..%2F%231%3Fx=%252F+%C3%BC.jpg"
            );
        }
    }

    #[test]
    fn a_resource_becomes_a_description() {
        let json = r#"{"name":"a/b.png","generation":"17","size":"5","contentType":"image/png",
                       "crc32c":"mnG7TA==","metadata":{"cutout-key":"k"}}"#;
        let resource: ObjectResource = serde_json::from_str(json).unwrap();
        let meta = resource.into_meta("photos").unwrap();
        assert_eq!(meta.name.to_string(), "gs://photos/a/b.png");
        assert_eq!((meta.generation, meta.size), (Generation(17), 5));
        assert_eq!(meta.crc32c, Some(crc32c::crc32c(b"hello")));
        assert_eq!(meta.metadata["cutout-key"], "k");
    }

    #[test]
    fn an_address_without_a_host_is_refused() {
        let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
        assert!(JsonApi::new("mailto:x", anonymous, &GcsConfig::default()).is_err());
    }
}
