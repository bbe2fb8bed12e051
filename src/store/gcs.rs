//! Cloud Storage as an object store.
//!
//! Content goes through the official client ([`google_cloud_storage::client::Storage`]): it
//! retries, resumes interrupted reads, checks CRC-32C on both ways and uploads large objects
//! resumably. What that client does not offer (custom metadata of an object, listing, a probe)
//! goes through the JSON API with the same credentials, see [`json`] and
//! `docs/decisions/0002-storage-json-for-stat-and-list.md`.
//!
//! Writes are conditional and therefore safe to repeat. When an answer is lost and the client
//! repeats a write that had succeeded, the repetition meets the object of the first attempt and
//! ends as [`Written::Conflict`]; the caller recognises its own object by its metadata.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use google_cloud_auth::credentials::{self, Credentials};
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::{RetryPolicy, RetryPolicyExt};
use google_cloud_storage::client::Storage;
use google_cloud_storage::model_ext::ObjectHighlights;
use google_cloud_storage::read_object::ReadObjectResponse;
use google_cloud_storage::read_resume_policy::{ReadResumePolicyExt, Recommended};
use google_cloud_storage::retry_policy::RetryableErrors;

use super::{NewObject, ObjectMeta, OpenObject, Precondition, Store, Written};
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName, ObjectRef};
use crate::telemetry::labels::RetryOp;

mod failure;
mod json;
mod retries;

pub use retries::RetryHook;

use json::JsonApi;

/// Cloud Storage's own endpoint.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// Objects of this size and more are uploaded resumably, so that a broken connection does not
/// send the whole of a large cut-out again. Below it the extra round trip costs more than it
/// saves (the official client's default is 16 MiB, most cut-outs of 12 MP photos are 10 to 20).
const RESUMABLE_FROM_BYTES: usize = 8 * 1024 * 1024;

/// The wait before the first retry; it doubles, with full jitter, up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// The longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);

/// How to reach Cloud Storage and how patient to be.
#[derive(Clone, Debug)]
pub struct GcsConfig {
    /// An emulator's `host:port`, with or without a scheme; anonymous credentials are used with
    /// it. `None` means Cloud Storage itself with Application Default Credentials.
    pub emulator_host: Option<String>,
    /// Attempts per call, the first one included.
    pub attempts: u32,
    /// No attempt starts later than this after the first.
    pub retry_limit: Duration,
    /// The longest wait for one answer, or for the next bytes of an object's content.
    pub attempt_timeout: Duration,
    /// Objects of this many bytes and more are uploaded resumably. `None` means 8 MiB with
    /// Cloud Storage and never with an emulator: the official client leaves the port out of
    /// its `Host` header, from which emulators make the address where the upload goes on, and
    /// fake-gcs-server does not check the precondition of a resumable upload.
    pub resumable_from_bytes: Option<usize>,
    /// Hears of what is tried again within a call.
    pub retried: RetryHook,
}

impl Default for GcsConfig {
    /// Patience for the hiccups of a healthy service. What lasts longer is better waited for by
    /// the queue, whose back-off does not hold a job's memory.
    fn default() -> Self {
        Self {
            emulator_host: None,
            attempts: 5,
            retry_limit: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(60),
            resumable_from_bytes: None,
            retried: RetryHook::default(),
        }
    }
}

/// An object store in Cloud Storage's buckets. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct GcsStore {
    storage: Storage,
    json: JsonApi,
    config: GcsConfig,
}

impl GcsStore {
    /// Prepares the clients; nothing is sent yet (see [`Store::probe`]).
    ///
    /// Errors: `credentials_refused` when no credentials can be loaded, `config_invalid` when
    /// the emulator's address is not one.
    pub async fn connect(config: GcsConfig) -> Result<Self> {
        let (endpoint, credentials) = match &config.emulator_host {
            Some(host) => (
                emulator_endpoint(host),
                credentials::anonymous::Builder::new().build(),
            ),
            None => (ENDPOINT.to_owned(), default_credentials()?),
        };
        let cannot_connect = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                Code::ConfigInvalid,
                format!("cannot use the Cloud Storage endpoint {endpoint}: give it as host:port"),
            )
            .caused_by(e)
        };
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_delay(FIRST_BACKOFF)
            .with_maximum_delay(LONGEST_BACKOFF)
            .build()
            .map_err(|e| cannot_connect(Box::from(e)))?;
        let resumable_from = match (config.resumable_from_bytes, &config.emulator_host) {
            (Some(bytes), _) => bytes,
            (None, None) => RESUMABLE_FROM_BYTES,
            (None, Some(_)) => usize::MAX,
        };
        let storage = Storage::builder()
            .with_endpoint(&endpoint)
            .with_credentials(credentials.clone())
            .with_backoff_policy(backoff)
            .with_resumable_upload_threshold(resumable_from)
            // The gRPC half of the client is not used.
            .with_grpc_subchannel_count(1)
            .build()
            .await
            .map_err(|e| cannot_connect(Box::from(e)))?;
        let json = JsonApi::new(&endpoint, credentials, &config).map_err(cannot_connect)?;
        Ok(Self {
            storage,
            json,
            config,
        })
    }

    /// How often, and for how long, a call of the official client is tried.
    fn patience(&self) -> impl RetryPolicy + use<> {
        RetryableErrors
            .with_attempt_limit(self.config.attempts)
            .with_time_limit(self.config.retry_limit)
    }

    /// No call of the official client may last longer.
    fn call_timeout(&self) -> Duration {
        self.config.retry_limit + self.config.attempt_timeout
    }

    /// Turns a failure of the official client into ours.
    async fn explain(
        &self,
        doing: &str,
        object: &ObjectRef,
        error: google_cloud_storage::Error,
    ) -> Error {
        let failed = failure::of_client(doing, &object.to_string(), error);
        self.which_is_missing(object, failed).await
    }

    /// A 404 does not reliably say whether it is the object or its bucket that is missing.
    async fn which_is_missing(&self, object: &ObjectRef, failed: Error) -> Error {
        let Some(bucket) = object.name.bucket() else {
            return failed;
        };
        if failed.code() == Code::SourceNotFound && self.json.bucket_is_missing(bucket).await {
            return failure::no_bucket(Code::StorageUnavailable, bucket).caused_by(failed);
        }
        failed
    }
}

#[async_trait]
impl Store for GcsStore {
    async fn stat(&self, object: &ObjectRef) -> Result<ObjectMeta> {
        let (bucket, key) = parts(&object.name)?;
        match self.json.stat(bucket, key, object.generation).await {
            Ok(resource) => resource.into_meta(bucket),
            Err(failed) => Err(self.which_is_missing(object, failed).await),
        }
    }

    async fn open(&self, object: &ObjectRef) -> Result<OpenObject> {
        let (bucket, key) = parts(&object.name)?;
        let (retried, attempts) = (&self.config.retried, self.config.attempts);
        let resume = Recommended.with_attempt_limit(attempts);
        let mut request = self
            .storage
            .read_object(resource_name(bucket), key)
            .with_retry_policy(retried.on(RetryOp::StoreRead, self.patience()))
            .with_read_resume_policy(retried.on(RetryOp::StoreRead, resume));
        if let Some(generation) = object.generation {
            request = request.set_generation(generation.0);
        }
        let response = match in_time(self.call_timeout(), "read", object, request.send()).await? {
            Ok(response) => response,
            Err(error) => return Err(self.explain("read", object, error).await),
        };
        let mut meta = described(&object.name, &response.object());
        if meta.size == 0 {
            // Cloud Storage names the size in a header that emulators leave out. Asking costs
            // nothing with the real service, where only empty objects come here.
            let pinned = ObjectRef {
                name: object.name.clone(),
                generation: Some(meta.generation),
            };
            meta.size = self.stat(&pinned).await?.size;
        }
        let reader = Reader {
            response,
            object: object.clone(),
            idle_timeout: self.config.attempt_timeout,
        };
        let body = futures::stream::try_unfold(reader, Reader::next_chunk);
        Ok(OpenObject {
            meta,
            body: body.boxed(),
        })
    }

    async fn write(
        &self,
        name: &ObjectName,
        object: NewObject,
        precondition: Precondition,
    ) -> Result<Written> {
        let (bucket, key) = parts(name)?;
        let crc32c = crc32c::crc32c(&object.body);
        let size = object.body.len() as u64;
        let retried = &self.config.retried;
        let request = self
            .storage
            .write_object(resource_name(bucket), key, object.body)
            .set_if_generation_match(match precondition {
                Precondition::Absent => 0,
                Precondition::Generation(generation) => generation.0,
            })
            .set_content_type(object.content_type)
            .set_metadata(object.metadata.clone())
            .with_known_crc32c(crc32c)
            .with_retry_policy(retried.on(RetryOp::StoreWrite, self.patience()))
            .with_idempotency(true)
            .send_unbuffered();
        let target = ObjectRef::from(name.clone());
        match in_time(self.call_timeout(), "write", &target, request).await? {
            Ok(written) => Ok(Written::Created(ObjectMeta {
                name: name.clone(),
                generation: Generation(written.generation),
                size,
                content_type: object.content_type.to_owned(),
                crc32c: Some(crc32c),
                metadata: object.metadata,
            })),
            Err(error) if failure::status(&error) == Some(412) => Ok(Written::Conflict),
            Err(error) => Err(self.explain("write", &target, error).await),
        }
    }

    async fn list(&self, bucket: Option<&str>, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let bucket = bucket.ok_or_else(|| no_bucket_named(prefix))?;
        let mut found = Vec::new();
        let mut page = None;
        loop {
            let list = match self.json.list(bucket, prefix, page.as_deref()).await {
                Ok(list) => list,
                Err(e) if e.code() == Code::SourceNotFound => {
                    return Err(failure::no_bucket(Code::SourceNotFound, bucket).caused_by(e));
                }
                Err(e) => return Err(e),
            };
            for resource in list.items {
                match resource.into_meta(bucket) {
                    Ok(meta) => found.push(meta),
                    Err(error) => tracing::debug!(bucket, error = %error.chain(), "not listed"),
                }
            }
            page = list.next_page_token.filter(|token| !token.is_empty());
            if page.is_none() {
                break;
            }
        }
        // Cloud Storage sorts by UTF-8 already; emulators need not.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Asks for the first object's name: the one permission that reading photos needs anyway,
    /// where asking for the bucket itself would need another role.
    async fn probe(&self, bucket: Option<&str>) -> Result<()> {
        let Some(bucket) = bucket else {
            return Err(Error::new(
                Code::ConfigInvalid,
                "Cloud Storage is the store, so a bucket must be named: set STORAGE_BUCKET",
            ));
        };
        match self.json.first(bucket).await {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Code::SourceNotFound => {
                Err(failure::no_bucket(Code::ConfigInvalid, bucket).caused_by(e))
            }
            Err(e) => Err(e),
        }
    }
}

/// An object's content as it arrives.
struct Reader {
    response: ReadObjectResponse,
    object: ObjectRef,
    idle_timeout: Duration,
}

impl Reader {
    /// The next chunk and the reader for the rest; `None` at the end, which the client reports
    /// only after it compared the CRC-32C.
    async fn next_chunk(mut self) -> Result<Option<(bytes::Bytes, Self)>> {
        let next = self.response.next();
        match in_time(self.idle_timeout, "read", &self.object, next).await? {
            Some(Ok(chunk)) => Ok(Some((chunk, self))),
            Some(Err(error)) => {
                let name = self.object.to_string();
                Err(failure::of_client("read", &name, error))
            }
            None => Ok(None),
        }
    }
}

/// Bounds a call of the official client, which has no time limit of its own for one attempt: a
/// connection that went silent would hold the job until TCP gives up, many minutes later.
async fn in_time<T>(
    limit: Duration,
    doing: &str,
    object: &ObjectRef,
    call: impl Future<Output = T>,
) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(|_| {
        Error::new(
            Code::StorageUnavailable,
            format!(
                "cannot {doing} {object}: Cloud Storage was silent for {} s; it is tried again",
                limit.as_secs()
            ),
        )
    })
}

fn default_credentials() -> Result<Credentials> {
    credentials::Builder::default().build().map_err(|e| {
        Error::new(
            Code::CredentialsRefused,
            "no Google credentials can be loaded: attach a service account, set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
        )
        .caused_by(e)
    })
}

/// `STORAGE_EMULATOR_HOST` is written with and without a scheme by different tools.
fn emulator_endpoint(host: &str) -> String {
    let host = host.trim_end_matches('/');
    match host.contains("://") {
        true => host.to_owned(),
        false => format!("http://{host}"),
    }
}

/// The bucket's name as the official client wants it.
fn resource_name(bucket: &str) -> String {
    format!("projects/_/buckets/{bucket}")
}

fn parts(name: &ObjectName) -> Result<(&str, &str)> {
    match name.bucket() {
        Some(bucket) => Ok((bucket, name.key())),
        None => Err(no_bucket_named(name.key())),
    }
}

fn no_bucket_named(key: &str) -> Error {
    Error::new(
        Code::InvalidJob,
        format!(
            "{key:?} names no bucket: this worker's store is Cloud Storage, write gs://bucket/object"
        ),
    )
}

fn described(name: &ObjectName, object: &ObjectHighlights) -> ObjectMeta {
    ObjectMeta {
        name: name.clone(),
        generation: Generation(object.generation),
        size: object.size.max(0).unsigned_abs(),
        content_type: object.content_type.clone(),
        crc32c: object.checksums.as_ref().and_then(|sums| sums.crc32c),
        // The headers of a read carry custom metadata with their keys in lower case, which is
        // not what was written; `stat` has the true ones.
        metadata: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulators_address_may_come_with_or_without_a_scheme() {
        for (given, endpoint) in [
            ("127.0.0.1:4443", "http://127.0.0.1:4443"),
            ("http://127.0.0.1:4443/", "http://127.0.0.1:4443"),
            ("https://gcs.example", "https://gcs.example"),
        ] {
            assert_eq!(emulator_endpoint(given), endpoint);
        }
    }

    #[tokio::test]
    async fn a_silent_connection_ends_as_a_retryable_error() {
        let object: ObjectRef = "gs://photos/rex.jpg".parse().unwrap();
        let silence = std::future::pending::<()>();
        let error = in_time(Duration::from_millis(20), "read", &object, silence).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::StorageUnavailable);
        assert!(error.message().contains("rex.jpg"), "{error}");
    }
}
