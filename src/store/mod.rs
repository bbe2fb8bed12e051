//! Where photos come from and cut-outs go: one trait, a directory and Cloud Storage behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::{Code, Result};
use crate::object::{Generation, ObjectName, ObjectRef};

pub mod dir;
pub mod gcs;

/// What is known of a stored object without reading its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Where it is.
    pub name: ObjectName,
    /// The version this describes.
    pub generation: Generation,
    /// Length of the content in bytes.
    pub size: u64,
    /// MIME type as stored; empty when unknown.
    pub content_type: String,
    /// CRC-32C (Castagnoli) of the content, where the store knows it.
    pub crc32c: Option<u32>,
    /// Custom metadata. Empty when the store did not send it (see [`Store::open`]).
    pub metadata: BTreeMap<String, String>,
}

/// What must be true of the destination for a write to take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing is there (Cloud Storage's `ifGenerationMatch=0`).
    Absent,
    /// Exactly this version is there (`ifGenerationMatch=N`).
    Generation(Generation),
}

/// A new object's content and description.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// The content.
    pub body: Bytes,
    /// MIME type.
    pub content_type: &'static str,
    /// Custom metadata.
    pub metadata: BTreeMap<String, String>,
}

/// How a conditional write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The object is durable under this generation.
    Created(ObjectMeta),
    /// The precondition did not hold (412); nothing was written.
    Conflict,
}

/// An opened object: its description, and its content as a stream of chunks.
///
/// The stream ends with an error of code `checksum_mismatch` when the content does not match
/// the object's CRC-32C, so a reader that consumed it without error holds the true bytes.
pub struct OpenObject {
    /// Description; `metadata` may be empty here even when the object has some.
    pub meta: ObjectMeta,
    /// The content, in order.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// An object store with versions and conditional writes.
///
/// Errors: a missing object (or pinned generation) is `source_not_found`; 401
/// `credentials_refused`; 403 `storage_forbidden`; everything that another attempt may mend, a
/// missing bucket included, is `storage_unavailable`. Implementations retry transient failures themselves, with a budget.
#[async_trait]
pub trait Store: Send + Sync {
    /// Describes an object, custom metadata included.
    async fn stat(&self, object: &ObjectRef) -> Result<ObjectMeta>;

    /// Describes an object if it is there. Errors: as of [`stat`](Self::stat), but for
    /// `source_not_found`.
    async fn find(&self, object: &ObjectRef) -> Result<Option<ObjectMeta>> {
        match self.stat(object).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.code() == Code::SourceNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an object for reading; its size is known before its content is transferred.
    async fn open(&self, object: &ObjectRef) -> Result<OpenObject>;

    /// Writes an object if the precondition holds; durable when this returns.
    async fn write(
        &self,
        name: &ObjectName,
        object: NewObject,
        precondition: Precondition,
    ) -> Result<Written>;

    /// Every object whose key starts with `prefix`, in the order of their keys.
    /// `bucket` is `None` for a directory store.
    async fn list(&self, bucket: Option<&str>, prefix: &str) -> Result<Vec<ObjectMeta>>;

    /// Checks that the store (a bucket of it, where it has buckets) answers this identity.
    /// A missing bucket is `config_invalid`.
    async fn probe(&self, bucket: Option<&str>) -> Result<()>;
}
