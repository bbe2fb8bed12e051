//! Reading: one object, or the list of all.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use walkdir::WalkDir;

use super::failure;
use super::root::{Root, generation_of};
use super::sidecar::Sidecar;
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName, ObjectRef};
use crate::store::ObjectMeta;

/// Bytes read at a time: large enough that the hand-over between threads does not show, small
/// enough that a slow consumer holds little.
const CHUNK: u64 = 256 * 1024;

/// Opens and describes an object; the flag says whether this store wrote it.
pub(super) fn open(root: &Root, object: &ObjectRef) -> Result<(File, ObjectMeta, bool)> {
    let key = root.key(&object.name)?;
    let path = root.resolve(key)?;
    // Checked before opening: opening a named pipe would wait for its writer for ever.
    let regular = |metadata: &fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(Error::new(
            Code::SourceNotFound,
            format!("{key} is not a regular file"),
        )),
    };
    regular(&fs::metadata(&path).map_err(|e| failure::reading(key, e))?)?;
    let file = File::open(&path).map_err(|e| failure::reading(key, e))?;
    let metadata = file.metadata().map_err(|e| failure::reading(key, e))?;
    regular(&metadata)?;
    let (meta, has_sidecar) = describe(root, &object.name, &metadata)?;
    match object.generation {
        Some(pinned) if pinned != meta.generation => Err(Error::new(
            Code::SourceNotFound,
            format!(
                "generation {pinned} of {key} no longer exists; the live one is {}",
                meta.generation
            ),
        )),
        _ => Ok((file, meta, has_sidecar)),
    }
}

/// Every object whose key starts with `prefix`, in the order of the keys.
pub(super) fn list(root: &Root, prefix: &str) -> Result<Vec<ObjectMeta>> {
    let dir = prefix.rsplit_once('/').map_or("", |(dir, _)| dir);
    if !dir.is_empty() {
        // The same rules as for objects: no absolute path, nothing outside the root.
        ObjectName::local(dir)?;
    }
    if dir.split('/').any(|part| part.starts_with('.')) {
        return Ok(Vec::new());
    }
    let start = match root.resolve(dir) {
        Ok(start) if start.is_dir() => start,
        Ok(_) => return Ok(Vec::new()),
        Err(e) if e.code() == Code::SourceNotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    for entry in WalkDir::new(&start).into_iter().filter_entry(visible) {
        let entry = match entry {
            Ok(entry) => entry,
            // Files come and go while we walk.
            Err(e) if e.io_error().is_some_and(is_gone) => continue,
            Err(e) => return Err(failure::reading(prefix, e.into())),
        };
        let Some(name) = name_of(&start, dir, entry.path()) else {
            if !entry.file_type().is_dir() {
                tracing::debug!(path = %entry.path().display(), "not listed: no object can have this name");
            }
            continue;
        };
        if entry.file_type().is_dir() || !name.key().starts_with(prefix) {
            continue;
        }
        match open(root, &name.clone().into()) {
            Ok((_, meta, _)) => found.push(meta),
            // Gone meanwhile, a pipe, or a link that leads out.
            Err(e) if matches!(e.code(), Code::SourceNotFound | Code::BucketForbidden) => {
                tracing::debug!(object = %name, error = %e.chain(), "not listed");
            }
            Err(e) => return Err(e),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// The object's name of a path found in `start`, which is the directory that `dir` names.
fn name_of(start: &Path, dir: &str, path: &Path) -> Option<ObjectName> {
    let relative = path.strip_prefix(start).ok()?;
    ObjectName::local(Path::new(dir).join(relative).to_str()?).ok()
}

fn describe(root: &Root, name: &ObjectName, metadata: &fs::Metadata) -> Result<(ObjectMeta, bool)> {
    let (key, generation) = (name.key(), generation_of(metadata));
    let sidecar = Sidecar::load(root, key, generation).map_err(|e| failure::reading(key, e))?;
    let has_sidecar = sidecar.is_some();
    let described = match sidecar {
        Some(sidecar) => ObjectMeta {
            name: name.clone(),
            generation,
            size: metadata.len(),
            content_type: sidecar.content_type,
            crc32c: Some(sidecar.crc32c),
            metadata: sidecar.metadata,
        },
        None => ObjectMeta {
            name: name.clone(),
            generation,
            size: metadata.len(),
            content_type: content_type(key).into(),
            crc32c: None,
            metadata: Default::default(),
        },
    };
    Ok((described, has_sidecar))
}

/// The MIME type of a file that somebody else put here, by its extension; empty when unknown.
fn content_type(key: &str) -> &'static str {
    let extension = key.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "avif" => "image/avif",
        "json" => "application/json",
        "txt" => "text/plain",
        _ => "",
    }
}

/// Reads an opened object chunk by chunk and checks at the end that it was the true content.
pub(super) struct Reader {
    file: File,
    key: String,
    generation: Generation,
    remaining: u64,
    crc32c: u32,
    /// What the sidecar says.
    expected: Option<u32>,
    /// Whether nobody but this store writes the file, so that it never changes in place.
    ours: bool,
}

impl Reader {
    pub(super) fn new(file: File, meta: &ObjectMeta, ours: bool) -> Self {
        Self {
            file,
            key: meta.name.key().to_owned(),
            generation: meta.generation,
            remaining: meta.size,
            crc32c: 0,
            expected: meta.crc32c,
            ours,
        }
    }

    /// The next chunk and the reader for the rest; `None` at the verified end.
    pub(super) fn next_chunk(mut self) -> Result<Option<(Bytes, Self)>> {
        if self.remaining == 0 {
            self.verify()?;
            return Ok(None);
        }
        let want = self.remaining.min(CHUNK);
        let mut chunk = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
        let read = (&mut self.file).take(want).read_to_end(&mut chunk);
        read.map_err(|e| failure::reading(&self.key, e))?;
        if chunk.is_empty() {
            return Err(self.shorter());
        }
        self.remaining -= chunk.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &chunk);
        Ok(Some((chunk.into(), self)))
    }

    fn verify(&self) -> Result<()> {
        if let Some(expected) = self.expected
            && expected != self.crc32c
        {
            return Err(Error::new(
                Code::ChecksumMismatch,
                format!(
                    "{} is damaged: its CRC-32C is {:08x}, but {expected:08x} was written",
                    self.key, self.crc32c
                ),
            ));
        }
        if !self.ours {
            // A photo that is still being copied into the inbox grows while it is read.
            let now = self.file.metadata();
            let now = now.map_err(|e| failure::reading(&self.key, e))?;
            if generation_of(&now) != self.generation {
                return Err(self.changed());
            }
        }
        Ok(())
    }

    fn shorter(&self) -> Error {
        match self.ours {
            true => Error::new(
                Code::ChecksumMismatch,
                format!(
                    "{} is damaged: {} bytes are missing at its end",
                    self.key, self.remaining
                ),
            ),
            false => self.changed(),
        }
    }

    fn changed(&self) -> Error {
        Error::new(
            Code::StorageUnavailable,
            format!("{} changed while it was read; it is tried again", self.key),
        )
    }
}
