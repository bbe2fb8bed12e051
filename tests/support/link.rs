//! A cable that can be cut, and that can be slow: a TCP proxy before a server of the tests,
//! whatever it speaks.
//!
//! Unlike [`super::Proxy`] it knows nothing of HTTP, so that gRPC streams pass too.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the cable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes pass.
    Whole,
    /// Connections are broken off, new ones as soon as they are made.
    Cut,
    /// Connections stay, and nothing passes: what a firewall or a lost route does.
    Silent,
    /// Every piece is late by this, and then takes the time that this rate needs.
    Slow {
        delay: Duration,
        bytes_per_second: u32,
    },
}

/// A running cable; its connections end when this is dropped.
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    server: Arc<Mutex<String>>,
    /// Connections of an earlier generation than this are stranded.
    stranded: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Link {
    /// Lays a cable to `server` (`host:port`).
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State::Whole);
        let (stranded, generation) = watch::channel(0);
        let server = Arc::new(Mutex::new(server));
        let leads_to = server.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *watched.borrow() == State::Cut {
                    continue;
                }
                let server = leads_to.lock().unwrap().clone();
                let carried = carry(client, server, watched.clone());
                let (mut generation, mine) = (generation.clone(), *generation.borrow());
                tokio::spawn(async move {
                    let mut carried = std::pin::pin!(carried);
                    let forgotten = async { drop(generation.wait_for(|now| *now > mine).await) };
                    let stranded = tokio::select! {
                        () = &mut carried => false,
                        () = forgotten => true,
                    };
                    if stranded {
                        // Both ends stay open, and nobody reads them.
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self {
            address,
            state,
            server,
            stranded,
            task,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Breaks every connection, and those that are made until [`mend`](Self::mend).
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps every connection and lets nothing pass until [`mend`](Self::mend).
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Lets every piece of a stream pass late, and slowly, until [`mend`](Self::mend).
    pub fn slow(&self, delay: Duration, bytes_per_second: u32) {
        self.state.send_replace(State::Slow {
            delay,
            bytes_per_second,
        });
    }

    /// Keeps the connections there are and lets nothing pass through them ever again, while new
    /// ones work: what a gateway does that has forgotten them.
    pub fn strand(&self) {
        self.stranded.send_modify(|generation| *generation += 1);
    }

    /// New connections go to another server (`host:port`).
    pub fn lead_to(&self, server: String) {
        *self.server.lock().unwrap() = server;
    }

    /// Bytes pass again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, server: String, state: watch::Receiver<State>) {
    let mut cut = state.clone();
    tokio::select! {
        _ = cut.wait_for(|state| *state == State::Cut) => {}
        () = async {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let ((client_read, client_write), (server_read, server_write)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                copy(client_read, server_write, state.clone()),
                copy(server_read, client_write, state),
            );
        } => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = state
            .wait_for(|state| *state != State::Silent)
            .await
            .map(|now| *now)
        else {
            return;
        };
        if let State::Slow {
            delay,
            bytes_per_second,
        } = now
        {
            let takes = Duration::from_secs_f64(read as f64 / f64::from(bytes_per_second));
            tokio::time::sleep(delay + takes).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
