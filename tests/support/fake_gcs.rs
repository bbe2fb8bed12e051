//! A Cloud Storage server in memory, and helpers that speak to it without the code under test.

use std::collections::BTreeMap;

use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use super::process::{Server, binary};
use super::pubsub::PubSub;

/// A running fake-gcs-server; it dies when this is dropped.
pub struct FakeGcs {
    server: Server,
    http: Client,
}

impl FakeGcs {
    /// Starts an empty server.
    pub async fn start() -> Self {
        Self::launch(&[], &[]).await
    }

    /// Starts an empty server that publishes an upload notification for every new object to
    /// `topic`, as a bucket with a notification configuration does.
    pub async fn start_notifying(pubsub: &PubSub, topic: &str) -> Self {
        Self::launch(
            &[("PUBSUB_EMULATOR_HOST", pubsub.host())],
            &[
                "-event.pubsub-project-id".into(),
                pubsub.project().into(),
                "-event.pubsub-topic".into(),
                topic.into(),
            ],
        )
        .await
    }

    async fn launch(environment: &[(&str, String)], more: &[String]) -> Self {
        let program = binary("CUTOUT_TEST_FAKE_GCS", "fake-gcs-server");
        let server = Server::start(&program, environment, |port| {
            let port = port.to_string();
            let address = format!("127.0.0.1:{port}");
            // The external URL is where a resumable upload is told to go on.
            let external = format!("http://{address}");
            #[rustfmt::skip]
            let mut arguments: Vec<String> = [
                "-scheme", "http", "-host", "127.0.0.1", "-port", &port, "-backend", "memory",
                "-public-host", &address, "-external-url", &external, "-log-level", "warn",
            ].map(String::from).to_vec();
            arguments.extend_from_slice(more);
            arguments
        });
        Self {
            server: server.await,
            http: Client::new(),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `127.0.0.1:PORT`, the value of `STORAGE_EMULATOR_HOST`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Kills the server, as an outage would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Creates a bucket.
    pub async fn create_bucket(&self, name: &str) {
        let url = self.url(&["storage", "v1", "b"]);
        let request = self.http.post(url).json(&json!({ "name": name }));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Deletes a bucket with all that it holds.
    pub async fn delete_bucket(&self, name: &str) {
        for key in self.list(name, "").await.into_keys() {
            let url = self.url(&["storage", "v1", "b", name, "o", &key]);
            let answer = self.http.delete(url).send().await.unwrap();
            answer.error_for_status().unwrap();
        }
        let url = self.url(&["storage", "v1", "b", name]);
        let answer = self.http.delete(url).send().await.unwrap();
        answer.error_for_status().unwrap();
    }

    /// Puts an object and returns its generation.
    pub async fn upload(
        &self,
        bucket: &str,
        key: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> i64 {
        let mut url = self.url(&["upload", "storage", "v1", "b", bucket, "o"]);
        url.query_pairs_mut()
            .append_pair("uploadType", "media")
            .append_pair("name", key);
        let request = self.http.post(url).header("content-type", content_type);
        let response = request.body(body.into()).send().await.unwrap();
        let object: Value = response.error_for_status().unwrap().json().await.unwrap();
        object["generation"].as_str().unwrap().parse().unwrap()
    }

    /// An object's content; `None` when there is no such object.
    pub async fn download(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let mut url = self.url(&["storage", "v1", "b", bucket, "o", key]);
        url.query_pairs_mut().append_pair("alt", "media");
        let response = self.http.get(url).send().await.unwrap();
        if response.status() == StatusCode::NOT_FOUND {
            return None;
        }
        let response = response.error_for_status().unwrap();
        Some(response.bytes().await.unwrap().to_vec())
    }

    /// An object's resource as the JSON API shows it; `None` when there is no such object.
    pub async fn describe(&self, bucket: &str, key: &str) -> Option<Value> {
        let url = self.url(&["storage", "v1", "b", bucket, "o", key]);
        let response = self.http.get(url).send().await.unwrap();
        if response.status() == StatusCode::NOT_FOUND {
            return None;
        }
        Some(response.error_for_status().unwrap().json().await.unwrap())
    }

    /// The generations of all objects under a prefix, by key.
    pub async fn list(&self, bucket: &str, prefix: &str) -> BTreeMap<String, i64> {
        let mut url = self.url(&["storage", "v1", "b", bucket, "o"]);
        url.query_pairs_mut().append_pair("prefix", prefix);
        let response = self.http.get(url).send().await.unwrap();
        let page: Value = response.error_for_status().unwrap().json().await.unwrap();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let entry = |item: &Value| {
            let generation = item["generation"].as_str().unwrap().parse().unwrap();
            (item["name"].as_str().unwrap().to_owned(), generation)
        };
        items.iter().map(entry).collect()
    }

    /// Removes an object.
    pub async fn delete(&self, bucket: &str, key: &str) {
        let url = self.url(&["storage", "v1", "b", bucket, "o", key]);
        let response = self.http.delete(url).send().await.unwrap();
        response.error_for_status().unwrap();
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url: Url = self.endpoint().parse().unwrap();
        url.path_segments_mut().unwrap().extend(segments);
        url
    }
}
