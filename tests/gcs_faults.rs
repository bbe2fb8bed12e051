//! Cloud Storage on a bad day: what the store makes of refusals, outages and broken connections.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cutout::error::{Code, Result};
use cutout::object::{ObjectName, ObjectRef};
use cutout::store::gcs::{GcsConfig, GcsStore, RetryHook};
use cutout::store::{NewObject, Precondition, Store, Written};
use cutout::telemetry::labels::RetryOp;
use futures::TryStreamExt;
use support::proxy::Seen;
use support::{FakeGcs, Fault, Proxy};

const BUCKET: &str = "photos";
const MIB: usize = 1 << 20;

/// A server with a bad network before it, and a store that goes through both.
struct BadDay {
    server: FakeGcs,
    proxy: Proxy,
    store: GcsStore,
    /// What was tried again, as the store told it.
    retried: Arc<Mutex<Vec<(RetryOp, Code)>>>,
}

impl BadDay {
    async fn with(faults: impl FnMut(&Seen) -> Fault + Send + 'static) -> Self {
        let server = FakeGcs::start().await;
        server.create_bucket(BUCKET).await;
        let proxy = Proxy::start(server.endpoint(), faults).await;
        let retried = Arc::<Mutex<Vec<_>>>::default();
        let told = retried.clone();
        let config = GcsConfig {
            retried: RetryHook::new(move |op, code| told.lock().unwrap().push((op, code))),
            emulator_host: Some(proxy.host()),
            attempts: 4,
            retry_limit: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(10),
            resumable_from_bytes: Some(2 * MIB),
        };
        let store = GcsStore::connect(config).await.unwrap();
        Self {
            server,
            proxy,
            store,
            retried,
        }
    }

    /// The first `count` requests meet a fault.
    async fn first(count: usize, fault: Fault) -> Self {
        let mut left = count;
        Self::with(move |_| {
            if left == 0 {
                return Fault::None;
            }
            left -= 1;
            fault
        })
        .await
    }

    async fn create(&self, body: impl Into<Bytes>) -> Result<Written> {
        let object = NewObject {
            body: body.into(),
            content_type: "image/png",
            metadata: BTreeMap::from([("cutout-key".into(), "k1".into())]),
        };
        self.store
            .write(&name(), object, Precondition::Absent)
            .await
    }

    async fn read(&self) -> Result<Vec<u8>> {
        let opened = self.store.open(&name().into()).await?;
        let chunks: Vec<Bytes> = opened.body.try_collect().await?;
        Ok(chunks.concat())
    }

    fn requests(&self) -> usize {
        self.proxy.seen().len()
    }
}

fn name() -> ObjectName {
    ObjectName::in_bucket(BUCKET, "a/rex.png").unwrap()
}

fn is_media_get(seen: &Seen) -> bool {
    seen.target.contains("alt=media")
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 251 + i) as u8).collect()
}

#[tokio::test]
async fn a_few_503_are_waited_out_by_every_call() {
    for (call, op) in [
        ("stat", RetryOp::StoreStat),
        ("list", RetryOp::StoreList),
        ("probe", RetryOp::StoreList),
        ("read", RetryOp::StoreRead),
        ("write", RetryOp::StoreWrite),
    ] {
        let day = BadDay::first(2, Fault::Status(503)).await;
        if call != "write" {
            day.server
                .upload(BUCKET, "a/rex.png", "image/png", "x")
                .await;
        }
        match call {
            "stat" => drop(day.store.stat(&name().into()).await.unwrap()),
            "list" => assert_eq!(day.store.list(Some(BUCKET), "").await.unwrap().len(), 1),
            "probe" => day.store.probe(Some(BUCKET)).await.unwrap(),
            "read" => drop(day.store.open(&name().into()).await.unwrap()),
            _ => assert!(matches!(
                day.create("x").await.unwrap(),
                Written::Created(_)
            )),
        }
        assert!(day.requests() >= 3, "{call}");
        let retried = day.retried.lock().unwrap().clone();
        assert_eq!(retried, [(op, Code::StorageUnavailable); 2], "{call}");
    }
}

#[tokio::test]
async fn an_outage_ends_after_the_attempts_that_were_allowed() {
    let day = BadDay::first(usize::MAX, Fault::Status(503)).await;
    let error = day.store.stat(&name().into()).await.unwrap_err();
    assert_eq!(error.code(), Code::StorageUnavailable);
    assert_eq!(day.requests(), 4);
    let error = day.create("x").await.unwrap_err();
    assert_eq!(error.code(), Code::StorageUnavailable);
    assert_eq!(day.requests(), 8);
}

#[tokio::test]
async fn a_refusal_is_not_asked_again() {
    for (status, code) in [
        (401, Code::CredentialsRefused),
        (403, Code::StorageForbidden),
    ] {
        let day = BadDay::first(usize::MAX, Fault::Status(status)).await;
        let errors = [
            day.store.stat(&name().into()).await.unwrap_err(),
            day.read().await.unwrap_err(),
            day.create("x").await.unwrap_err(),
            day.store.probe(Some(BUCKET)).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code(), code, "{}", error.chain());
        }
        assert_eq!(day.requests(), 4);
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_a_conflict_with_our_own_object() {
    let day = BadDay::first(1, Fault::AnswerLost).await;
    assert_eq!(day.create("ours").await.unwrap(), Written::Conflict);
    assert_eq!(day.requests(), 2);
    let there = day.store.stat(&name().into()).await.unwrap();
    assert_eq!(there.metadata["cutout-key"], "k1");
    let content = day.server.download(BUCKET, "a/rex.png").await;
    assert_eq!(content.unwrap(), b"ours");
}

#[tokio::test]
async fn an_interrupted_read_goes_on_where_it_stopped() {
    let mut cuts = 0;
    let day = BadDay::with(move |seen| {
        if is_media_get(seen) && cuts < 2 {
            cuts += 1;
            return Fault::CutAfter(100_000);
        }
        Fault::None
    })
    .await;
    let photo = bytes(MIB);
    day.server
        .upload(BUCKET, "a/rex.png", "image/png", photo.clone())
        .await;
    assert!(day.read().await.unwrap() == photo);
    let ranges: Vec<_> = day
        .proxy
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.headers.get("range")?.to_str().unwrap().to_owned()))
        .collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(!ranges[1].starts_with("bytes=0"), "{ranges:?}");
    let retried = day.retried.lock().unwrap().clone();
    assert_eq!(retried, [(RetryOp::StoreRead, Code::StorageUnavailable); 2]);
}

#[tokio::test]
async fn damaged_bytes_are_a_checksum_mismatch() {
    let day = BadDay::with(|seen| match is_media_get(seen) {
        true => Fault::Damaged,
        false => Fault::None,
    })
    .await;
    day.server
        .upload(BUCKET, "a/rex.png", "image/png", bytes(300_000))
        .await;
    let error = day.read().await.unwrap_err();
    assert_eq!(error.code(), Code::ChecksumMismatch, "{}", error.chain());
}

#[tokio::test]
async fn a_silent_server_does_not_hold_a_job() {
    let day = BadDay::first(usize::MAX, Fault::Silence).await;
    let config = GcsConfig {
        emulator_host: Some(day.proxy.host()),
        attempts: 2,
        retry_limit: Duration::from_millis(200),
        attempt_timeout: Duration::from_millis(300),
        ..GcsConfig::default()
    };
    let store = GcsStore::connect(config).await.unwrap();
    let started = Instant::now();
    let object = ObjectRef::from(name());
    let errors = [
        store.stat(&object).await.unwrap_err(),
        store.open(&object).await.err().unwrap(),
        store.probe(Some(BUCKET)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), Code::StorageUnavailable, "{}", error.chain());
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_small_object_is_sent_at_once_with_its_precondition_type_checksum_and_metadata() {
    let day = BadDay::with(|_| Fault::None).await;
    day.create("hello").await.unwrap();
    let seen = day.proxy.seen();
    let [upload] = &seen[..] else {
        panic!("{} requests", seen.len());
    };
    assert!(upload.target.contains("uploadType=multipart"));
    assert!(upload.target.contains("ifGenerationMatch=0"));
    let body = String::from_utf8_lossy(&upload.body);
    for part in [
        r#""contentType":"image/png""#,
        r#""crc32c":"mnG7TA==""#,
        r#""cutout-key":"k1""#,
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
}

#[tokio::test]
async fn a_large_object_is_uploaded_resumably_with_its_precondition_type_and_metadata() {
    let day = BadDay::with(|_| Fault::None).await;
    let body = bytes(3 * MIB);
    let Written::Created(meta) = day.create(body.clone()).await.unwrap() else {
        panic!("nothing was there");
    };
    let seen = day.proxy.seen();
    assert!(seen[0].target.contains("uploadType=resumable"));
    // Sent is all that can be shown: fake-gcs-server does not check it on resumable uploads.
    assert!(seen[0].target.contains("ifGenerationMatch=0"));
    let description = String::from_utf8_lossy(&seen[0].body);
    assert!(description.contains(r#""contentType":"image/png""#));
    let content = day.server.download(BUCKET, "a/rex.png").await;
    assert!(content.unwrap() == body);
    let stat = day.store.stat(&name().into()).await.unwrap();
    assert_eq!(stat.generation, meta.generation);
    assert_eq!(stat.metadata["cutout-key"], "k1");
}
