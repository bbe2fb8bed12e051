//! The side port's server: hyper's HTTP/1 connections on a listener, with limits.
//!
//! `axum::serve` sets no timer, so that a client which sends half a request keeps its
//! connection for ever; on a port that probes depend on, that is how a worker dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Code, Error, Result};

/// What one client, and all of them, may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For a request's head, and between two requests of a connection. Probes and scrapers
    /// send theirs in one packet; Prometheus opens a new connection when its old one is gone.
    head: Duration,
    /// For a client to take something of its answer. One that reads nothing would keep a picture, and
    /// its place, in memory.
    write: Duration,
    /// Connections at once. Probes, a scraper and an operator need five.
    connections: usize,
    /// For answers under way when the server is told to stop. The whole drain has ten seconds.
    drain: Duration,
}

const LIMITS: Limits = Limits {
    head: Duration::from_secs(10),
    write: Duration::from_secs(60),
    connections: 256,
    drain: Duration::from_secs(2),
};

/// Takes the port.
///
/// # Errors
/// `config_invalid`, naming the port and the variable that sets it.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {port} on {host} is taken by another program: stop it, or set PORT to a free one"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {port} on {host} needs privileges: set PORT to one above 1023"
            ),
            _ => format!("cannot listen on port {port} of {host}: check the host, and PORT"),
        };
        Error::new(Code::ConfigInvalid, what).caused_by(error)
    })
}

/// Answers on `listener` until `shutdown`, then finishes the answers under way and returns.
///
/// Cancel `shutdown` last: during the drain, /health is to say so. A failure to accept is
/// logged and tried again, since it is most often a passing lack of file descriptors.
/// Handlers find the client's address as [`ConnectInfo`].
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_router(listener, router, LIMITS, shutdown).await;
}

async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let router = router.clone().layer(Extension(ConnectInfo(peer)));
                let connection = answer(stream, router, limits, shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the side port cannot accept a connection; trying again");
                // Without file descriptors `accept` fails at once, every time.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(
            connections = connections.len(),
            "the side port stops with connections open"
        );
    }
}

/// Serves one connection.
async fn answer(stream: TcpStream, router: Router, limits: Limits, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(%error, "a connection to the side port ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side::routes::{More, router};
    use crate::side::state::{Phase, SideState};
    use crate::telemetry::metrics::Metrics;
    use axum::routing::get;
    use std::net::SocketAddr;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    const SECOND: Duration = Duration::from_secs(1);

    /// Starts a server on a free port; the token stops it.
    async fn start(
        router: Router,
        limits: Limits,
    ) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_router(listener, router, limits, shutdown.clone()));
        (address, shutdown, server)
    }

    /// Sends `text` and reads until the server closes the connection.
    async fn exchange(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(10 * SECOND, stream.read_to_string(&mut answer))
            .await
            .expect("the server keeps the connection")
            .unwrap();
        answer
    }

    fn head(request: &str) -> String {
        format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn the_port_answers_before_the_model_is_loaded_and_stops_when_told() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = SideState::new(SECOND);
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(
            listener,
            router(Arc::clone(&state), Metrics::new(), More::default()),
            shutdown.clone(),
        ));
        let answer = exchange(address, &head("GET /startup")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        state.set_phase(Phase::Ready);
        let answer = exchange(address, &head("GET /startup")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = exchange(address, &head("HEAD /health")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");

        shutdown.cancel();
        server.await.unwrap();
        TcpStream::connect(address).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_taken_port_is_refused_by_number_and_variable() {
        let first = bind("127.0.0.1", 0).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains(&port.to_string()), "{error}");
        assert!(error.message().contains("PORT"), "{error}");
    }

    #[tokio::test]
    async fn half_a_request_loses_its_connection() {
        let limits = Limits {
            head: SECOND / 5,
            ..LIMITS
        };
        let (address, _shutdown, _server) = start(Router::new(), limits).await;
        let start = Instant::now();
        exchange(address, "GET /health HTTP/1.1\r\nhost: x\r\n").await;
        exchange(address, "").await;
        assert!(start.elapsed() >= SECOND / 5);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_loses_its_answer() {
        let limits = Limits {
            write: SECOND / 5,
            ..LIMITS
        };
        let (told, dropped) = tokio::sync::oneshot::channel::<()>();
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        // More than the sockets' buffers take, and held until it is sent or given up.
        let large = move || {
            let held = told.lock().unwrap().take();
            async move {
                let chunks = futures::stream::repeat_with(move || {
                    let _held = &held;
                    Ok::<_, io::Error>(vec![0; 1 << 20])
                });
                axum::body::Body::from_stream(futures::StreamExt::take(chunks, 256))
            }
        };
        let router = Router::new().route("/large", get(large));
        let (address, _shutdown, _server) = start(router, limits).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = head("GET /large");
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::timeout(10 * SECOND, dropped)
            .await
            .expect("the answer is kept for a client that does not read")
            .unwrap_err();
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_a_probe_out_for_longer_than_their_time() {
        let limits = Limits {
            head: SECOND / 2,
            connections: 2,
            drain: SECOND,
            ..LIMITS
        };
        let router = Router::new().route("/", get(async || "here"));
        let (address, _shutdown, _server) = start(router, limits).await;
        let _idle = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let answer = exchange(address, &head("GET /")).await;
        assert!(answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn an_answer_under_way_is_finished_and_an_endless_one_is_not_waited_for() {
        let slow = || async {
            tokio::time::sleep(SECOND / 2).await;
            "done"
        };
        let router = Router::new()
            .route("/slow", get(slow))
            .route("/never", get(std::future::pending::<String>));
        let (address, shutdown, server) = start(router, LIMITS).await;
        let finished = tokio::spawn(async move { exchange(address, &head("GET /slow")).await });
        let mut endless = TcpStream::connect(address).await.unwrap();
        endless
            .write_all(head("GET /never").as_bytes())
            .await
            .unwrap();
        tokio::time::sleep(SECOND / 5).await;

        let stop = Instant::now();
        shutdown.cancel();
        server.await.unwrap();

        assert!(finished.await.unwrap().ends_with("done"));
        assert!(stop.elapsed() < LIMITS.drain + SECOND);
    }
}
