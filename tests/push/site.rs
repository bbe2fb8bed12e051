//! A project whose worker is pushed to: servers, an issuer of tokens, and a client that pushes as
//! Pub/Sub does.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, Worker, file, quick};
use crate::support::{FakeGcs, Fault, Issuer, Key, Proxy, PubSub, SubscriptionOptions};

pub const BUCKET: &str = "photos";
pub const JOBS: &str = "cutout-jobs";
pub const RESULTS: &str = "cutout-results";
pub const DEAD: &str = "cutout-dead-letters";
pub const AUDIENCE: &str = "https://cutout.example/pubsub/push";
pub const ACCOUNT: &str = "pusher@perkie.iam.gserviceaccount.com";
pub const PATH: &str = "/pubsub/push";

/// Tries until it is so, and lets everything else go on meanwhile.
pub async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was answered to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Of the JSON; empty when there is none.
    pub code: String,
    pub body: String,
    pub retry_after: bool,
}

impl Answer {
    /// Status and code.
    pub fn said(&self) -> (u16, &str) {
        (self.status, &self.code)
    }
}

pub struct Site {
    pub pubsub: PubSub,
    pub gcs: FakeGcs,
    /// Between worker and store; remembers what was asked.
    pub proxy: Proxy,
    pub store_away: Arc<AtomicBool>,
    pub issuer: Issuer,
    pub key: Key,
    http: reqwest::Client,
    ids: AtomicU32,
}

impl Site {
    pub async fn start() -> Self {
        let pubsub = PubSub::start().await;
        for topic in [JOBS, RESULTS, DEAD] {
            pubsub.create_topic(topic).await;
        }
        for topic in [RESULTS, DEAD] {
            let options = SubscriptionOptions::default();
            pubsub.create_subscription(topic, topic, options).await;
        }
        let gcs = FakeGcs::start_notifying(&pubsub, JOBS).await;
        gcs.create_bucket(BUCKET).await;
        let store_away = Arc::new(AtomicBool::new(false));
        let away = store_away.clone();
        let proxy = Proxy::start(gcs.endpoint(), move |_| {
            match away.load(Ordering::Relaxed) {
                true => Fault::Status(503),
                false => Fault::None,
            }
        })
        .await;
        let key = Key::new("first");
        Self {
            issuer: Issuer::start(&[&key]).await,
            pubsub,
            gcs,
            proxy,
            store_away,
            key,
            http: reqwest::Client::new(),
            ids: AtomicU32::new(1),
        }
    }

    /// A worker's command, with everything that pushes need.
    pub fn command(&self, args: &[&str], failpoints: &str) -> std::process::Command {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "push"])
            .args(args)
            .env("CUTOUT_PUSH_AUDIENCE", AUDIENCE)
            .env("CUTOUT_PUSH_SERVICE_ACCOUNT", ACCOUNT)
            .env("CUTOUT_PUSH_KEYS_URL", self.issuer.url())
            .env("STORAGE_BUCKET", BUCKET)
            .env("PUBSUB_EMULATOR_HOST", self.pubsub.host())
            .env("STORAGE_EMULATOR_HOST", self.proxy.host())
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project())
            .env("FAILPOINTS", failpoints);
        command
    }

    pub fn worker(&self, args: &[&str], failpoints: &str) -> Worker {
        Worker::start(self.command(args, failpoints)).ready()
    }

    /// The claims of a token as Pub/Sub's are, changed; null takes one away.
    pub fn claims(&self, change: &Value) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": "https://accounts.google.com", "aud": AUDIENCE, "azp": "113774264463038321964",
            "sub": "113774264463038321964", "email": ACCOUNT, "email_verified": true,
            "iat": now, "exp": now + 3600,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        claims
    }

    /// A valid token.
    pub fn token(&self) -> String {
        self.key.sign(&self.claims(&json!({})))
    }

    /// Puts a photo. It is announced to nobody but a subscription that a test makes itself.
    pub async fn photo(&self, key: &str) -> i64 {
        let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
        self.gcs.upload(BUCKET, key, "image/jpeg", photo).await
    }

    /// The envelope of a message, as Pub/Sub writes it, under a new id.
    pub fn envelope(&self, data: &str) -> Value {
        let id = self.ids.fetch_add(1, Ordering::Relaxed).to_string();
        let now = jiff::Timestamp::now().to_string();
        json!({
            "message": {
                "data": BASE64_STANDARD.encode(data), "attributes": { "shop": "perkie" },
                "messageId": id, "message_id": id, "publishTime": now, "publish_time": now,
            },
            "subscription": format!("projects/{}/subscriptions/{JOBS}", self.pubsub.project()),
            "deliveryAttempt": 1,
        })
    }

    /// The envelope of a job for a photo.
    pub fn job(&self, key: &str) -> Value {
        let job = json!({ "job_id": key, "source": format!("gs://{BUCKET}/{key}") });
        self.envelope(&job.to_string())
    }

    /// Pushes, with a valid token.
    pub async fn push(&self, worker: &Worker, envelope: &Value) -> Answer {
        self.push_as(worker, Some(&self.token()), envelope.to_string())
            .await
    }

    /// Pushes anything with any token.
    pub async fn push_as(&self, worker: &Worker, token: Option<&str>, body: String) -> Answer {
        let request = self.http.post(worker.url(PATH)).body(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let retry_after = answer.headers().contains_key("retry-after");
        let body = answer.text().await.unwrap();
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        Answer {
            status,
            code: json["code"].as_str().unwrap_or_default().to_owned(),
            body,
            retry_after,
        }
    }

    pub async fn results(&self, count: usize) -> Vec<Value> {
        let results = self.pubsub.pull(RESULTS, count, PATIENCE).await;
        assert_eq!(results.len(), count, "{results:?}");
        results.iter().map(|result| result.json()).collect()
    }

    /// Checks that there is no result that nobody has seen.
    pub async fn no_more_results(&self) {
        let more = self.pubsub.pull(RESULTS, 1, Duration::from_secs(1)).await;
        assert!(more.is_empty(), "{more:?}");
    }
}

/// Gives a token to what Google's emulator pushes, which has none. What stands between is the
/// only thing that is not Pub/Sub's: envelope, redelivery and acknowledgement are the emulator's.
pub struct Relay {
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    token: String,
    http: reqwest::Client,
    worker: Mutex<Option<String>>,
    passed: Mutex<Vec<(Value, u16)>>,
}

impl Relay {
    pub async fn start(token: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{PATH}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            token,
            http: reqwest::Client::new(),
            worker: Mutex::default(),
            passed: Mutex::default(),
        });
        let app = Router::new()
            .route(PATH, post(pass_on))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared, task }
    }

    /// From now on pushes reach this worker; before, nobody.
    pub fn lead_to(&self, worker: &Worker) {
        *self.shared.worker.lock().unwrap() = Some(worker.url(PATH));
    }

    /// What was pushed, and how it was answered.
    pub fn passed(&self) -> Vec<(Value, u16)> {
        self.shared.passed.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let worker = shared.worker.lock().unwrap().clone();
    let envelope = serde_json::from_slice(&body).expect("Pub/Sub pushes JSON");
    let status = match worker {
        None => 503,
        Some(worker) => {
            let request = shared.http.post(worker).bearer_auth(&shared.token);
            let answer = request.body(body).send().await;
            answer.map_or(502, |answer| answer.status().as_u16())
        }
    };
    shared.passed.lock().unwrap().push((envelope, status));
    StatusCode::from_u16(status).unwrap()
}
