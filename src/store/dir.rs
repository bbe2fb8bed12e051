//! A directory as an object store: the embedded default, with Cloud Storage's guarantees.
//!
//! Objects are the regular files below the root; an object's key is its relative path and its
//! generation is its modification time in nanoseconds. A file that anybody copied into the
//! directory is an object too. What a file cannot carry (MIME type, checksum, custom metadata)
//! lies in a sidecar:
//!
//! ```text
//! <root>/2026/rex.cutout.png               the object
//! <root>/.cutout/meta/<key hash>/<generation>.json   its sidecar, durable before the object is visible
//! <root>/.cutout/tmp/                      objects being written
//! <root>/.cutout/lock/                     advisory locks that order writers of all processes
//! ```
//!
//! Conditional writes are atomic between tasks and between processes that use this store. A
//! creation is atomic against everybody (the file system refuses to replace); an overwrite by
//! generation is not protected from programs that write into the directory without the lock.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use super::{NewObject, ObjectMeta, OpenObject, Precondition, Store, Written};
use crate::error::{Code, Error, Result};
use crate::object::{ObjectName, ObjectRef};

mod failure;
mod read;
mod root;
mod sidecar;
mod sweep;
mod write;

use root::Root;
pub(crate) use root::generation_of;

/// An object store in a directory. Cheap to clone; see the [module](self) for the layout.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: Arc<Root>,
    /// The folder, relative to the root, that the probe must be able to write to.
    outputs: Arc<str>,
}

impl DirStore {
    /// Opens the directory, creating it when missing, and sweeps away what killed writers left
    /// behind. Blocks for a few file-system calls.
    ///
    /// Errors: `config_invalid` when it is not a directory or cannot be created. A read-only
    /// directory opens (photos can be read from it); [`Store::probe`] says that it is read-only.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = Arc::new(Root::open(root.into())?);
        sweep::staged_files(&root);
        let swept = Arc::clone(&root);
        // Looking at every sidecar takes a second per hundred thousand objects: not something
        // that a cold start should wait for.
        std::thread::spawn(move || sweep::sidecars(&swept));
        Ok(Self {
            root,
            outputs: "".into(),
        })
    }

    /// Names the folder, relative to the root, that outputs go to: [`Store::probe`] says when it
    /// takes none. Outputs may go elsewhere too.
    #[must_use]
    pub fn with_outputs_in(self, folder: &str) -> Self {
        Self {
            outputs: folder.into(),
            ..self
        }
    }

    /// The root, absolute and free of symbolic links.
    pub fn root(&self) -> &std::path::Path {
        self.root.path()
    }
}

#[async_trait]
impl Store for DirStore {
    async fn stat(&self, object: &ObjectRef) -> Result<ObjectMeta> {
        let (root, object) = (Arc::clone(&self.root), object.clone());
        blocking(move || read::open(&root, &object).map(|(_, meta, _)| meta)).await
    }

    async fn open(&self, object: &ObjectRef) -> Result<OpenObject> {
        let (root, object) = (Arc::clone(&self.root), object.clone());
        let (file, meta, has_sidecar) = blocking(move || read::open(&root, &object)).await?;
        let reader = read::Reader::new(file, &meta, has_sidecar);
        let body = futures::stream::try_unfold(reader, |reader| blocking(|| reader.next_chunk()));
        Ok(OpenObject {
            meta,
            body: body.boxed(),
        })
    }

    async fn write(
        &self,
        name: &ObjectName,
        object: NewObject,
        precondition: Precondition,
    ) -> Result<Written> {
        let (root, name) = (Arc::clone(&self.root), name.clone());
        blocking(move || write::write(&root, &name, &object, precondition)).await
    }

    async fn list(&self, bucket: Option<&str>, prefix: &str) -> Result<Vec<ObjectMeta>> {
        if let Some(bucket) = bucket {
            return Err(failure::not_a_bucket_store(&format!("gs://{bucket}")));
        }
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        blocking(move || read::list(&root, &prefix)).await
    }

    async fn probe(&self, bucket: Option<&str>) -> Result<()> {
        if let Some(bucket) = bucket {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!("the store is a directory, so it has no bucket {bucket:?}"),
            ));
        }
        let (root, outputs) = (Arc::clone(&self.root), Arc::clone(&self.outputs));
        blocking(move || write::probe(&root, &outputs)).await
    }
}

/// Runs file-system work where it may block. The work runs to its end even when the caller
/// stops waiting, so a cancelled job never leaves a half-done commit.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(Error::new(
            Code::Internal,
            "the directory store's worker thread failed; the job is tried again",
        )
        .caused_by(join)),
    }
}
