//! The store's directory: where things lie in it, and what may be reached through it.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::failure;
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName, RESERVED_DIR};

/// The opened directory.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// Bytes of the write that last found no room; 0 when there was room since.
    needed: AtomicU64,
}

impl Root {
    /// Opens the directory, creating it when missing.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let refuse = |error: io::Error| {
            Error::new(
                Code::ConfigInvalid,
                format!(
                    "{} cannot be the store's directory: name a directory that the worker's user can reach",
                    path.display()
                ),
            )
            .caused_by(error)
        };
        fs::create_dir_all(&path).map_err(refuse)?;
        let path = fs::canonicalize(&path).map_err(refuse)?;
        Ok(Self {
            path,
            needed: AtomicU64::new(0),
        })
    }

    /// A write of so many bytes found no room; or, with 0, there is room again.
    pub(super) fn set_needed(&self, bytes: u64) {
        self.needed.store(bytes, Ordering::Relaxed);
    }

    /// How much room was last missing.
    pub(super) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// The root itself, canonical.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where objects are written before they become visible: on the same file system, so that
    /// they can be renamed into place.
    pub(super) fn staging(&self) -> PathBuf {
        self.path.join(RESERVED_DIR).join("tmp")
    }

    /// Where all sidecars lie.
    pub(super) fn sidecars(&self) -> PathBuf {
        self.path.join(RESERVED_DIR).join("meta")
    }

    /// Where the sidecars of one key lie.
    pub(super) fn sidecars_of(&self, key: &str) -> PathBuf {
        // 128 bits: no two keys of one store will ever share a directory by accident.
        self.sidecars().join(&hash(key)[..32])
    }

    /// The key of an object in this store, or an error when it is named as one in a bucket.
    pub(super) fn key<'a>(&self, name: &'a ObjectName) -> Result<&'a str> {
        match name.bucket() {
            None => Ok(name.key()),
            Some(_) => Err(failure::not_a_bucket_store(&name.to_string())),
        }
    }

    /// The real path of an existing object. Links are followed as long as they stay inside:
    /// a photo in the inbox that is a link to `/etc/passwd` must not be read.
    pub(super) fn resolve(&self, key: &str) -> Result<PathBuf> {
        let path = fs::canonicalize(self.path.join(key)).map_err(|e| failure::reading(key, e))?;
        self.check_inside(key, &path)?;
        Ok(path)
    }

    /// The path under which an object is to be written; its directories exist afterwards.
    pub(super) fn destination(&self, key: &str) -> Result<PathBuf> {
        let path = self.path.join(key);
        let parent = path.parent().unwrap_or(&self.path);
        // What exists of the path is checked before anything is made in it: directories must
        // not be created behind a link that leads out either.
        let existing = parent
            .ancestors()
            .find(|dir| dir.symlink_metadata().is_ok());
        let existing = fs::canonicalize(existing.unwrap_or(&self.path))
            .map_err(|e| failure::writing(key, e))?;
        self.check_inside(key, &existing)?;
        create_dirs(parent).map_err(|e| failure::writing(key, e))?;
        let parent = fs::canonicalize(parent).map_err(|e| failure::writing(key, e))?;
        self.check_inside(key, &parent)?;
        Ok(path)
    }

    /// The version of the object that is there now.
    pub(super) fn live(&self, key: &str) -> Result<Option<Generation>> {
        match self.resolve(key) {
            Ok(path) => match fs::metadata(path) {
                Ok(metadata) => Ok(Some(generation_of(&metadata))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(failure::writing(key, e)),
            },
            Err(e) if e.code() == Code::SourceNotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes the lock that orders the writers of `key`, in all processes; it is given back when
    /// the file is dropped, or by the kernel when the process dies.
    pub(super) fn lock(&self, key: &str) -> io::Result<File> {
        let dir = self.path.join(RESERVED_DIR).join("lock");
        create_dirs(&dir)?;
        // One of 256 files for all keys: a file per key would never be removed, and two writers
        // that meet by accident wait a few milliseconds.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(&hash(key)[..2]))?;
        file.lock()?;
        Ok(file)
    }

    fn check_inside(&self, key: &str, path: &Path) -> Result<()> {
        match path.strip_prefix(&self.path) {
            Ok(relative) if !relative.starts_with(RESERVED_DIR) => Ok(()),
            _ => Err(failure::outside(key)),
        }
    }
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// Creates a directory and its parents so that they survive a power failure.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
    create_dirs(parent)?;
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(parent),
        // Another writer was faster, which is as good.
        Err(_) if dir.is_dir() => Ok(()),
        // The name is taken by something else.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, e))
        }
        Err(e) => Err(e),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A file's version: its modification time in nanoseconds, 0 for any before 1970. Negative numbers
/// would not survive being written as `name#generation`.
pub(crate) fn generation_of(metadata: &Metadata) -> Generation {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .unwrap_or_default();
    Generation(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// The modification time that stands for a generation.
pub(super) fn time_of(generation: Generation) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(generation.0.max(0).unsigned_abs())
}
