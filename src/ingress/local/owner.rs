//! Who holds leases, and whether they still live.
//!
//! Each consumer keeps a file of its own locked (`flock`) for as long as it lives. The kernel
//! drops the lock with the process, however it dies, so leases of the dead are known at once
//! and without the ambiguity of process ids, which are reused and mean nothing in another
//! container. Locks of this kind need a local file system, as SQLite's WAL does anyway.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A consumer's sign of life. Dropping it removes the file and the lock.
#[derive(Debug)]
pub(super) struct OwnerFile {
    id: String,
    path: PathBuf,
    _lock: File,
}

impl OwnerFile {
    /// Announces a new owner in `folder`; `id` must be unique.
    pub(super) fn create(folder: &Path, id: String) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        // Locked before it gets its name: nobody ever sees the file of a living owner unlocked.
        let unnamed = folder.join(format!(".{id}.new"));
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        let path = folder.join(&id);
        std::fs::rename(&unnamed, &path)?;
        Ok(Self {
            id,
            path,
            _lock: lock,
        })
    }

    /// The owner's id, as leases record it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for OwnerFile {
    fn drop(&mut self) {
        // A file that stays behind is only litter; `sweep` takes it.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Whether the owner is certainly dead. Doubt counts as life: its leases end by time.
pub(super) fn is_dead(folder: &Path, id: &str) -> bool {
    match File::open(folder.join(id)) {
        Ok(file) => unlocked(&file),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes the files that killed owners left behind.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // Files under creation begin with a dot and may not be locked yet.
        let named = !entry.file_name().as_encoded_bytes().starts_with(b".");
        if named && File::open(entry.path()).is_ok_and(|file| unlocked(&file)) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

fn unlocked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(e)) => {
            tracing::warn!(error = %e, "cannot tell whether another consumer of the queue lives; its leases end by time");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_lives_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let owner = OwnerFile::create(folder.path(), "a".into()).unwrap();
        assert!(!is_dead(folder.path(), "a"));
        sweep(folder.path());
        assert!(!is_dead(folder.path(), "a"), "the living are not swept");
        drop(owner);
        assert!(is_dead(folder.path(), "a"));
    }

    #[test]
    fn what_the_killed_left_behind_counts_as_dead_and_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b"), "").unwrap();
        assert!(is_dead(folder.path(), "b"));
        sweep(folder.path());
        assert!(!folder.path().join("b").exists());
    }
}
