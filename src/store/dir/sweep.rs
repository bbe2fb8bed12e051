//! Removes what writers that were killed left behind.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::root::Root;
use super::sidecar::{self, Sidecar};

/// Younger leftovers may belong to a writer that is at work: a write takes seconds.
const MIN_AGE: Duration = Duration::from_secs(3600);

/// Removes old staged files whose writer is dead. Failures are logged: a leftover costs only
/// space.
pub(super) fn staged_files(root: &Root) {
    each_entry(&root.staging(), |path| {
        if !is_old(path)? {
            return Ok(());
        }
        // The lock is the sign of life: the kernel drops it with the writer.
        let file = File::open(path)?;
        if file.try_lock().is_ok() {
            fs::remove_file(path)?;
            tracing::info!(path = %path.display(), "removed what a killed writer had left");
        }
        Ok(())
    });
}

/// Removes old sidecars that describe no object, and the directories that this empties.
pub(super) fn sidecars(root: &Root) {
    each_entry(&root.sidecars(), |dir| {
        for (generation, path) in sidecar::all(dir)? {
            if !is_old(&path)? {
                continue;
            }
            let Ok(sidecar) = serde_json::from_slice::<Sidecar>(&fs::read(&path)?) else {
                tracing::warn!(path = %path.display(), "a sidecar is not JSON; it is left alone");
                continue;
            };
            // Ordered with writers, who make the sidecar before the object.
            let _lock = root.lock(&sidecar.key)?;
            match root.live(&sidecar.key) {
                Ok(live) if live != Some(generation) => {
                    fs::remove_file(&path)?;
                    // Succeeds only when nothing is left in it.
                    let _ = fs::remove_dir(dir);
                }
                _ => {}
            }
        }
        Ok(())
    });
}

fn each_entry(dir: &Path, visit: impl Fn(&Path) -> io::Result<()>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "cannot sweep");
            return;
        }
    };
    for entry in entries {
        let swept = entry.and_then(|entry| visit(&entry.path()));
        match swept {
            Ok(()) => {}
            // Somebody else was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "cannot sweep an entry"),
        }
    }
}

fn is_old(path: &Path) -> io::Result<bool> {
    let age = SystemTime::now().duration_since(path.symlink_metadata()?.modified()?);
    Ok(age.is_ok_and(|age| age > MIN_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Generation;

    fn aged(path: &Path) -> File {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.set_modified(SystemTime::now() - 2 * MIN_AGE).unwrap();
        file
    }

    #[test]
    fn only_old_files_without_a_living_writer_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path().into()).unwrap();
        fs::create_dir_all(root.staging()).unwrap();
        drop(aged(&root.staging().join("dead")));
        let living = aged(&root.staging().join("living"));
        living.lock().unwrap();
        File::create(root.staging().join("young")).unwrap();
        staged_files(&root);
        let mut left: Vec<_> = fs::read_dir(root.staging())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["living", "young"]);
    }

    #[test]
    fn a_sidecar_is_swept_only_when_it_is_old_and_its_object_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path().into()).unwrap();
        let save = |key: &str, generation: Generation, old: bool| {
            let sidecar = Sidecar {
                key: key.into(),
                size: 0,
                content_type: String::new(),
                crc32c: 0,
                metadata: Default::default(),
            };
            sidecar.save(&root, generation).unwrap();
            let path = root.sidecars_of(key).join(format!("{generation}.json"));
            if old {
                aged(&path);
            }
            path
        };
        fs::write(dir.path().join("live.png"), "x").unwrap();
        let live = root.live("live.png").unwrap().unwrap();
        let of_live = save("live.png", live, true);
        let replaced = save("live.png", Generation(live.0 - 1), true);
        let orphan = save("gone.png", Generation(7), true);
        let young = save("coming.png", Generation(7), false);
        sidecars(&root);
        assert!(of_live.exists() && young.exists());
        assert!(!replaced.exists() && !orphan.exists());
        assert!(!orphan.parent().unwrap().exists());
    }
}
