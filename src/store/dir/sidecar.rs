//! What a file cannot say of itself: MIME type, checksum and custom metadata.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::root::{Root, create_dirs, sync_dir};
use crate::object::Generation;

/// The description of one generation of one object, as JSON in the store's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    /// The object's key: the directory's name is only its hash.
    pub key: String,
    /// Bytes of content.
    pub size: u64,
    /// MIME type.
    pub content_type: String,
    /// CRC-32C of the content.
    pub crc32c: u32,
    /// Custom metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Sidecar {
    /// Writes the sidecar; durable when this returns.
    pub(super) fn save(&self, root: &Root, generation: Generation) -> io::Result<()> {
        let dir = root.sidecars_of(&self.key);
        create_dirs(&dir)?;
        create_dirs(&root.staging())?;
        let mut file = tempfile::Builder::new()
            .prefix("meta-")
            .tempfile_in(root.staging())?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.as_file().sync_all()?;
        file.persist(path(root, &self.key, generation))?;
        sync_dir(&dir)
    }

    /// The sidecar of one generation; `None` for an object that this store did not write.
    pub(super) fn load(root: &Root, key: &str, generation: Generation) -> io::Result<Option<Self>> {
        match fs::read(path(root, key, generation)) {
            Ok(json) => {
                let sidecar: Self = serde_json::from_slice(&json)?;
                Ok((sidecar.key == key).then_some(sidecar))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The newest generation that the key ever had a sidecar of, as far as it is remembered.
pub(super) fn newest(root: &Root, key: &str) -> io::Result<Option<Generation>> {
    let generations = all(&root.sidecars_of(key))?.into_iter();
    Ok(generations.map(|(generation, _)| generation).max())
}

/// Removes one generation's sidecar: its object did not come to be.
pub(super) fn remove(root: &Root, key: &str, generation: Generation) {
    // What cannot be removed now is swept later.
    let _ = fs::remove_file(path(root, key, generation));
}

/// Removes the sidecars of all other generations. To be called with the key's lock held.
pub(super) fn keep_only(root: &Root, key: &str, generation: Generation) -> io::Result<()> {
    for (other, path) in all(&root.sidecars_of(key))? {
        if other != generation {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The sidecars in one key's directory.
pub(super) fn all(dir: &Path) -> io::Result<Vec<(Generation, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let generation = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(generation) = generation {
            found.push((Generation(generation), path));
        }
    }
    Ok(found)
}

fn path(root: &Root, key: &str, generation: Generation) -> PathBuf {
    root.sidecars_of(key).join(format!("{generation}.json"))
}
