//! A network that can be told to fail: an HTTP proxy before a server of the tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinHandle;

/// Larger than anything that a test sends.
const BODY_LIMIT: usize = 64 << 20;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing bad.
    None,
    /// It does not reach the server; the client gets this status.
    Status(u16),
    /// The server does what it was asked, but the client gets 503.
    AnswerLost,
    /// The connection breaks after this many bytes of the answer's body.
    CutAfter(usize),
    /// The first byte of the answer's body arrives changed.
    Damaged,
    /// No answer, ever.
    Silence,
}

/// A request that passed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A running proxy; it ends when this is dropped.
pub struct Proxy {
    host: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Decides what happens to a request, which waits for the answer and holds up no other.
type Faults = Box<dyn FnMut(&Seen) -> BoxFuture<'static, Fault> + Send>;

struct Shared {
    upstream: String,
    http: reqwest::Client,
    host: String,
    remember: bool,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Starts a proxy before `upstream` (`http://host:port`); `faults` decides for each request
    /// in the order of their coming.
    pub async fn start(
        upstream: String,
        faults: impl FnMut(&Seen) -> Fault + Send + 'static,
    ) -> Self {
        Self::launch(upstream, true, at_once(faults)).await
    }

    /// The same, but something may be done before a request goes on.
    pub async fn start_doing(
        upstream: String,
        faults: impl FnMut(&Seen) -> BoxFuture<'static, Fault> + Send + 'static,
    ) -> Self {
        Self::launch(upstream, true, Box::new(faults)).await
    }

    /// The same, but it forgets what it saw: for more requests than memory has room for.
    pub async fn start_forgetful(
        upstream: String,
        faults: impl FnMut(&Seen) -> Fault + Send + 'static,
    ) -> Self {
        Self::launch(upstream, false, at_once(faults)).await
    }

    async fn launch(upstream: String, remember: bool, faults: Faults) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream,
            http: reqwest::Client::new(),
            host: host.clone(),
            remember,
            faults: Mutex::new(faults),
            seen: Mutex::default(),
        });
        let app = axum::Router::new()
            .fallback(forward)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { host, shared, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn at_once(mut faults: impl FnMut(&Seen) -> Fault + Send + 'static) -> Faults {
    Box::new(move |seen| std::future::ready(faults(seen)).boxed())
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method,
        target: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers,
        body: to_bytes(body, BODY_LIMIT).await.unwrap_or_default(),
    };
    let decision = (shared.faults.lock().unwrap())(&seen);
    let fault = decision.await;
    if shared.remember {
        shared.seen.lock().unwrap().push(seen.clone());
    }
    match fault {
        Fault::Status(status) => return empty(status),
        Fault::Silence => return std::future::pending().await,
        _ => {}
    }
    let url = format!("{}{}", shared.upstream, seen.target);
    let mut headers = seen.headers;
    headers.remove(header::HOST);
    let request = shared.http.request(seen.method, url).headers(headers);
    let Ok(answer) = request.body(seen.body).send().await else {
        return empty(502);
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    // Where a resumable upload goes on: through here as well.
    if let Some(location) = headers.get(header::LOCATION) {
        let location = location.to_str().unwrap();
        let location = location.replace(&shared.upstream, &format!("http://{}", shared.host));
        headers.insert(header::LOCATION, location.parse().unwrap());
    }
    let mut body = answer.bytes().await.unwrap().to_vec();
    let body = match fault {
        Fault::AnswerLost => return empty(503),
        Fault::Damaged => {
            body[0] ^= 1;
            Body::from(body)
        }
        Fault::CutAfter(length) => {
            body.truncate(length);
            let start = futures::stream::iter([Ok(Bytes::from(body))]);
            // Not before the start has left: the break would swallow the head of the answer.
            let end = futures::stream::once(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(start.chain(end))
        }
        _ => Body::from(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn empty(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
