//! A server process on a free port that cannot outlive its test.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server; the Pub/Sub emulator takes seconds on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A port may be taken between our look at it and the server's bind.
const PORTS_TRIED: u32 = 5;

/// The shell that stands between test and server. It leads a process group of its own and waits
/// on its standard input, which the test holds open: when the test ends, however it ends, the
/// input closes and the shell kills the whole group (an emulator may be a script that starts
/// Java). When the server ends by itself, so does the group, and the test can see that.
const SUPERVISOR: &str = r#"{ "$@" </dev/null; kill -s KILL 0; } & read -r _; kill -s KILL 0"#;

/// A running server.
pub struct Server {
    supervisor: Child,
    /// The port it listens on, on 127.0.0.1.
    pub port: u16,
    log: PathBuf,
    /// Locked for as long as the port is ours.
    _port_claim: File,
}

impl Server {
    /// Starts `program` with the arguments that `arguments` makes for a port, and waits until
    /// an HTTP request to that port is answered, by whatever status.
    ///
    /// Panics, with the server's log, when it does not come up.
    pub async fn start(
        program: &Path,
        environment: &[(&str, String)],
        arguments: impl Fn(u16) -> Vec<String>,
    ) -> Self {
        let mut last_log = String::new();
        for _ in 0..PORTS_TRIED {
            let (port, claim) = claim_port();
            let log = scratch().join(format!("{}-{port}.log", file_name(program)));
            let output = File::create(&log).unwrap();
            let mut command = Command::new("sh");
            command
                .args(["-c", SUPERVISOR, "sh"])
                .arg(program)
                .args(arguments(port))
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::piped())
                .stdout(output.try_clone().unwrap())
                .stderr(output)
                .process_group(0);
            let supervisor = command.spawn().expect("cannot start sh");
            let mut server = Self {
                supervisor,
                port,
                log,
                _port_claim: claim,
            };
            if server.is_ready().await {
                return server;
            }
            last_log = server.log();
        }
        panic!("{} does not start:\n{last_log}", program.display());
    }

    /// What the server has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills the server, as a crash would.
    pub fn kill(&mut self) {
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().expect("the supervisor is our child");
    }

    async fn is_ready(&mut self) -> bool {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if self.supervisor.try_wait().unwrap().is_some() {
                return false;
            }
            if reqwest::get(&url).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// The path of a server's binary. Panics when it is not there.
pub fn binary(variable: &str, name: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(".cache/bin")
            .join(name),
    };
    assert!(
        path.exists(),
        "{} is missing: run `make setup` (or set {variable})",
        path.display()
    );
    path
}

/// A free port, and a lock that keeps other tests of this checkout from choosing it before the
/// server has bound it.
fn claim_port() -> (u16, File) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let claim = File::create(scratch().join(format!("port-{port}.lock"))).unwrap();
        if claim.try_lock().is_ok() {
            return (port, claim);
        }
    }
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
