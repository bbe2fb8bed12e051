//! Cut-outs kept in the object store, so that the same photo with the same options costs no second
//! run of the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::engine::EngineInfo;
use crate::error::{Code, Error, Result};
use crate::job::{MARKER, Output, Quality};
use crate::object::{ObjectName, ObjectRef};
use crate::pipeline::QUALITY_KEY;
use crate::store::{NewObject, ObjectMeta, Precondition, Store};
use crate::version::VERSION;

/// The folder that the Python service used: what reads or expires it goes on working.
const FOLDER: &str = "inspirenet-cache";

/// Metadata key: when the object is too old to be used, RFC 3339.
const EXPIRES: &str = "cutout-expires";

/// What makes two requests the same: the photo's bytes, the picture's look, the network with its
/// sizes and precision, and this program's version, as SHA-256 in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

impl CacheKey {
    /// The key of a photo's cut-out.
    pub fn of(photo: &[u8], output: &Output, network: &EngineInfo) -> Self {
        Self::new(
            photo,
            output,
            &serde_json::json!({
                "manifest": network.manifest,
                "provider": network.provider.as_str(),
                "precision": network.precision.as_str(),
            }),
        )
    }

    fn new(photo: &[u8], output: &Output, network: &serde_json::Value) -> Self {
        let identity = serde_json::json!({
            "photo": hex::encode(Sha256::digest(photo)),
            "output": output.identity(false),
            "network": network,
            "version": VERSION,
        });
        Self(hex::encode(Sha256::digest(identity.to_string())))
    }
}

/// Cut-outs in the store.
pub struct Cache {
    store: Arc<dyn Store>,
    /// `None` for a directory store.
    bucket: Option<String>,
    time_to_live: Duration,
    /// Larger objects are not ours.
    max_bytes: u64,
}

impl Cache {
    /// A cache in `bucket`, or in the directory store.
    pub fn new(
        store: Arc<dyn Store>,
        bucket: Option<String>,
        time_to_live: Duration,
        max_bytes: u64,
    ) -> Self {
        Self {
            store,
            bucket,
            time_to_live,
            max_bytes,
        }
    }

    fn name(&self, key: &CacheKey) -> Result<ObjectName> {
        let name = format!("{FOLDER}/{}/{}.png", &key.0[..2], key.0);
        match &self.bucket {
            Some(bucket) => ObjectName::in_bucket(bucket.clone(), name),
            None => ObjectName::local(name),
        }
    }

    /// The cut-out and what its matte was like, if it is there and not too old.
    pub async fn get(&self, key: &CacheKey) -> Result<Option<(Bytes, Option<Quality>)>> {
        let name = self.name(key)?;
        let Some(meta) = self.store.find(&name.clone().into()).await? else {
            return Ok(None);
        };
        if !is_fresh(&meta, Timestamp::now()) || meta.size > self.max_bytes {
            return Ok(None);
        }
        let pinned = ObjectRef {
            name,
            generation: Some(meta.generation),
        };
        let mut open = match self.store.open(&pinned).await {
            Ok(open) => open,
            // Replaced or removed since.
            Err(error) if error.code() == Code::SourceNotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = BytesMut::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        while let Some(chunk) = open.body.next().await {
            content.extend_from_slice(&chunk?);
            if content.len() as u64 > meta.size {
                return Ok(None);
            }
        }
        let quality = meta.metadata.get(QUALITY_KEY);
        let quality = quality.and_then(|json| serde_json::from_str(json).ok());
        Ok(Some((content.freeze(), quality)))
    }

    /// Keeps a cut-out, in place of one that is too old. Who was faster has written the same.
    pub async fn put(&self, key: &CacheKey, png: Bytes, quality: Option<&Quality>) -> Result<()> {
        let name = self.name(key)?;
        let now = Timestamp::now();
        let precondition = match self.store.find(&name.clone().into()).await? {
            Some(meta) if is_fresh(&meta, now) => return Ok(()),
            Some(meta) => Precondition::Generation(meta.generation),
            None => Precondition::Absent,
        };
        let expires = SignedDuration::try_from(self.time_to_live)
            .ok()
            .and_then(|ttl| now.checked_add(ttl).ok())
            .ok_or_else(|| Error::new(Code::ConfigInvalid, "--cache-ttl is too long"))?;
        let mut metadata = BTreeMap::from([
            // No upload notification about it becomes a job.
            (MARKER.to_owned(), format!("cache-{}", key.0)),
            (EXPIRES.to_owned(), expires.to_string()),
        ]);
        let quality = quality.and_then(|quality| serde_json::to_string(quality).ok());
        metadata.extend(quality.map(|json| (QUALITY_KEY.to_owned(), json)));
        let object = NewObject {
            body: png,
            content_type: "image/png",
            metadata,
        };
        self.store.write(&name, object, precondition).await?;
        Ok(())
    }
}

fn is_fresh(meta: &ObjectMeta, now: Timestamp) -> bool {
    meta.metadata
        .get(EXPIRES)
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|expires| now < expires)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Kind;
    use crate::store::dir::DirStore;

    fn key(photo: &str) -> CacheKey {
        CacheKey::new(photo.as_bytes(), &Output::default(), &"1024x1024".into())
    }

    #[test]
    fn whatever_changes_the_picture_changes_the_key() {
        let white = Output {
            kind: Kind::White,
            ..Output::default()
        };
        let plain = Output {
            decontaminate: false,
            ..Output::default()
        };
        let refined = Output {
            refine: true,
            ..Output::default()
        };
        let keys = [
            key("rex"),
            key("max"),
            CacheKey::new(b"rex", &white, &"1024x1024".into()),
            CacheKey::new(b"rex", &plain, &"1024x1024".into()),
            CacheKey::new(b"rex", &refined, &"1024x1024".into()),
            CacheKey::new(b"rex", &Output::default(), &"512x512".into()),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key));
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_until_it_is_too_old_and_then_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).unwrap());
        let cache = |ttl| Cache::new(store.clone(), None, ttl, 1 << 20);
        let (short, long) = (
            cache(Duration::from_millis(1)),
            cache(Duration::from_secs(3600)),
        );
        let quality = Quality {
            coverage: 0.25,
            uncertain: 0.01,
            components: 1,
            border: 0.0,
            edge_width: 0.002,
            verdict: None,
            reasons: Vec::new(),
            copy: None,
        };
        assert_eq!(long.get(&key("rex")).await.unwrap(), None);
        short.put(&key("rex"), "old".into(), None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(long.get(&key("rex")).await.unwrap(), None, "too old");
        long.put(&key("rex"), "new".into(), Some(&quality))
            .await
            .unwrap();
        let kept = Some(("new".into(), Some(quality.clone())));
        assert_eq!(long.get(&key("rex")).await.unwrap(), kept);
        long.put(&key("rex"), "newer".into(), None).await.unwrap();
        assert_eq!(long.get(&key("rex")).await.unwrap(), kept);
        assert_eq!(long.get(&key("max")).await.unwrap(), None);
    }
}
