//! Brings a published file here: streamed, checked on the way, in its place only when it is right.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::manifest::Manifest;

/// A host that takes longer to accept a connection is not reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A download that brings nothing for this long is broken; the whole may take as long as it likes.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Chunks (some 16 KiB each) that wait for the disk: enough to even out its hiccups.
const QUEUE: usize = 64;

/// What a file must be. What is not known is not checked.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Size.
    pub bytes: Option<u64>,
    /// Lower-case hex.
    pub md5: Option<String>,
    /// Lower-case hex.
    pub sha256: Option<String>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Size.
    pub bytes: u64,
    /// Lower-case hex.
    pub md5: String,
    /// Lower-case hex.
    pub sha256: String,
}

impl Expected {
    /// What differs: of what, what was expected, what was found.
    fn difference(&self, found: &Found) -> Option<(&'static str, String, String)> {
        let bytes = self.bytes.map(|bytes| bytes.to_string());
        [
            ("a size of", bytes, found.bytes.to_string()),
            ("md5", self.md5.clone(), found.md5.clone()),
            ("sha256", self.sha256.clone(), found.sha256.clone()),
        ]
        .into_iter()
        .find_map(|(what, expected, found)| {
            let expected = expected.filter(|expected| *expected != found)?;
            Some((what, expected, found))
        })
    }

    /// Whether the file is what is expected.
    pub fn matches(&self, found: &Found) -> bool {
        self.difference(found).is_none()
    }
}

/// Why a file could not be brought here. Each says what to do; none leaves anything behind.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is none, or one that nobody should trust.
    #[error("cannot fetch {url:?}: {why}; name an https:// address, or http:// on this machine")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No network, no such host, connection refused, or no trusted certificate.
    #[error(
        "cannot reach {host} for {url}: check the network and HTTPS_PROXY, name a mirror with --url, or fetch the file elsewhere and put it at {}, then run this again, which checks it",
        target.display()
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Whom.
        host: String,
        /// Where the file belongs.
        target: PathBuf,
        /// The client's words.
        #[source]
        cause: reqwest::Error,
    },
    /// The host answers, but not with the file.
    #[error("{url} answers {status}: {}", advice(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The connection broke, or nothing came any more.
    #[error("the download of {url} broke off after {received} bytes: run this again")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// What had come.
        received: u64,
        /// The client's words.
        #[source]
        cause: reqwest::Error,
    },
    /// All of it came, and it is something else.
    #[error(
        "what {url} holds has {what} {found}, the manifest says {expected}: the file was replaced or damaged; nothing was kept, run this again or name a mirror with --url"
    )]
    Different {
        /// What was asked for.
        url: String,
        /// Which property.
        what: &'static str,
        /// As the manifest has it.
        expected: String,
        /// As it came.
        found: String,
    },
    /// No room.
    #[error(
        "no space for {}{}: make room, or name another directory with --home",
        target.display(),
        needed.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"))
    )]
    DiskFull {
        /// Where the file belongs.
        target: PathBuf,
        /// Its size, if the host told it.
        needed: Option<u64>,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
    /// Any other trouble with the directory.
    #[error("cannot write {}", target.display())]
    Write {
        /// Where the file belongs.
        target: PathBuf,
        /// The system's words.
        #[source]
        cause: io::Error,
    },
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        404 | 410 => "the file is there no more; name a mirror with --url",
        401 | 403 => "it is not for everybody; name a mirror with --url",
        408 | 429 | 500.. => "the host cannot now; run this again later",
        _ => "this is not the file; check the address",
    }
}

/// Fetches `url` into `target`, whose directory exists, and tells what came. `progress` is called
/// with the bytes that have come and, where the host told it, the size. Dropping the future
/// leaves nothing behind.
///
/// Errors: see [`FetchError`]; `target` is untouched then.
pub async fn fetch(
    url: &str,
    target: &Path,
    expected: &Expected,
    progress: impl Fn(u64, Option<u64>),
) -> Result<Found, FetchError> {
    let url = address(url)?;
    let unreachable = |cause: reqwest::Error| FetchError::Unreachable {
        host: url.host_str().unwrap_or_default().to_owned(),
        url: url.to_string(),
        target: target.to_owned(),
        cause: cause.without_url(),
    };
    let mut answer = client(&url)
        .map_err(unreachable)?
        .get(url.clone())
        .send()
        .await
        .map_err(unreachable)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.into(),
            status: answer.status(),
        });
    }
    let needed = answer.content_length().or(expected.bytes);
    let unwritable = |cause| unwritable(target, needed, cause);

    let partial = partial_beside(target).map_err(unwritable)?;
    let mut file = partial.reopen().map_err(unwritable)?;
    let (chunks, mut queue) = mpsc::channel(QUEUE);
    // Neither the disk nor the digests may hold up the runtime.
    let writing = tokio::task::spawn_blocking(move || {
        let found = keep(|| queue.blocking_recv(), &mut file)?;
        // Before the rename: a power cut must not leave a file of the right name and wrong bytes.
        file.sync_all()?;
        io::Result::Ok(found)
    });
    let mut received = 0;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                received += chunk.len() as u64;
                progress(received, needed);
                if chunks.send(chunk).await.is_err() {
                    // The writer gave up and tells below why.
                    break None;
                }
            }
            Ok(None) => break None,
            Err(cause) => break Some(cause.without_url()),
        }
    };
    drop(chunks);
    let written = writing
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)));
    if let Some(cause) = broken {
        return Err(FetchError::Interrupted {
            url: url.into(),
            received,
            cause,
        });
    }
    let found = written.map_err(unwritable)?;
    if let Some((what, expected, found)) = expected.difference(&found) {
        return Err(FetchError::Different {
            url: url.into(),
            what,
            expected,
            found,
        });
    }
    put_in_place(partial, target).map_err(unwritable)?;
    Ok(found)
}

/// What the file at `path` is. Reads all of it, so it blocks.
pub fn examine(path: &Path) -> io::Result<Found> {
    let mut file = std::fs::File::open(path)?;
    let mut failed = None;
    let mut chunk = vec![0; 1 << 20];
    let next = || match io::Read::read(&mut file, &mut chunk) {
        Ok(0) => None,
        Ok(n) => Some(Bytes::copy_from_slice(&chunk[..n])),
        Err(error) => {
            failed = Some(error);
            None
        }
    };
    let found = keep(next, &mut io::sink())?;
    failed.map_or(Ok(found), Err)
}

/// Writes a manifest beside its graph, as `NAME.toml`, and tells where. Blocks.
pub fn write_manifest(manifest: &Manifest, models_dir: &Path) -> Result<PathBuf, FetchError> {
    let target = models_dir.join(format!("{}.toml", manifest.name));
    let write = || {
        let text = toml::to_string(manifest).map_err(io::Error::other)?;
        let mut file = partial_beside(&target)?;
        write!(file, "# Written by `cutout model fetch`.\n{text}")?;
        file.as_file().sync_all()?;
        put_in_place(file, &target)
    };
    match write() {
        Ok(()) => Ok(target),
        Err(cause) => Err(unwritable(&target, None, cause)),
    }
}

/// The files have digests, but a manifest may know only an MD5, which is no proof against malice:
/// TLS is. So plain HTTP is for this machine only, and a redirect may not leave TLS.
fn address(text: &str) -> Result<Url, FetchError> {
    let wrong = |why: String| FetchError::Address {
        url: text.to_owned(),
        why,
    };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        scheme => Err(wrong(format!("{scheme} proves nothing about who answers"))),
    }
}

fn client(url: &Url) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("cutout/", env!("CARGO_PKG_VERSION")))
        .https_only(url.scheme() == "https")
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
}

/// Writes what `next` gives until there is no more, and tells what it was.
fn keep(mut next: impl FnMut() -> Option<Bytes>, out: &mut impl Write) -> io::Result<Found> {
    let mut bytes = 0;
    let mut md5 = md5::Context::new();
    let mut sha256 = Sha256::new();
    while let Some(chunk) = next() {
        out.write_all(&chunk)?;
        md5.consume(&chunk);
        sha256.update(&chunk);
        bytes += chunk.len() as u64;
    }
    Ok(Found {
        bytes,
        md5: format!("{:x}", md5.finalize()),
        sha256: hex::encode(sha256.finalize()),
    })
}

/// In the same directory, because a rename works only within a file system. Removed when dropped.
fn partial_beside(target: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let directory = target.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".fetch-")
        // A worker of another user reads it; a temporary file is private by default.
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
}

fn put_in_place(partial: NamedTempFile, target: &Path) -> io::Result<()> {
    partial.persist(target).map_err(|error| error.error)?;
    // The name is durable only with its directory.
    std::fs::File::open(target.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn unwritable(target: &Path, needed: Option<u64>, cause: io::Error) -> FetchError {
    let target = target.to_owned();
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::DiskFull {
            target,
            needed,
            cause,
        },
        _ => FetchError::Write { target, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_trouble() {
        let mut full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut chunks = vec![Bytes::from_static(b"abc")];
        let cause = keep(|| chunks.pop(), &mut full).unwrap_err();
        let error = unwritable(Path::new("models/x.onnx"), Some(3), cause);
        assert!(matches!(error, FetchError::DiskFull { .. }), "{error:?}");
        assert!(
            error.to_string().contains("(3 bytes): make room"),
            "{error}"
        );
        let other = unwritable(Path::new("x"), None, io::ErrorKind::PermissionDenied.into());
        assert!(matches!(other, FetchError::Write { .. }), "{other:?}");
    }

    #[test]
    fn only_tls_and_this_machine_are_trusted() {
        for fine in [
            "https://example.org/x",
            "http://127.0.0.1:8000/x",
            "http://localhost/x",
        ] {
            assert!(address(fine).is_ok(), "{fine}");
        }
        for bad in [
            "http://example.org/x",
            "ftp://127.0.0.1/x",
            "x.onnx",
            "file:///etc/passwd",
        ] {
            let error = address(bad).unwrap_err().to_string();
            assert!(error.contains("https://"), "{error}");
        }
    }

    #[test]
    fn a_file_is_what_its_digests_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let found = examine(&path).unwrap();
        assert_eq!(found.bytes, 3);
        assert_eq!(found.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert!(found.sha256.starts_with("ba7816bf"), "{}", found.sha256);
        assert!(Expected::default().matches(&found));
        let other = Expected {
            md5: Some("0".repeat(32)),
            ..Expected::default()
        };
        assert!(!other.matches(&found));
        assert!(examine(&dir.path().join("none")).is_err());
    }
}
