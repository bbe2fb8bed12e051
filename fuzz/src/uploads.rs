//! A photo that is sent over HTTP: a form, or the whole body.
//!
//! An input is text lines, the request's `Content-Type` and its query, then the body.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use cutout::ingress::http::fields::Fields;
use cutout::ingress::http::upload::{Upload, UploadLimits};
use cutout::pipeline::budget::Budget;

const MOST: u64 = 1000;

/// `Upload::read`: refuses as the client's mistake, or gives a photo within its limit and fields that
/// can be asked for; its memory comes back either way. How the body is cut into pieces makes no
/// difference.
pub fn upload(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let kind = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let query = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let body = parts.next().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads");
    let [whole, pieces] =
        [usize::MAX, 7].map(|piece| runtime.block_on(read(&kind, &query, body, piece)));
    // A form that is both too large and broken may be told either, by what is met first.
    assert_eq!(
        whole.map(Result::ok),
        pieces.map(Result::ok),
        "by the body's pieces"
    );
}

/// The photo, or the refusal's code.
async fn read(
    kind: &str,
    query: &str,
    body: &[u8],
    piece: usize,
) -> Option<Result<Vec<u8>, &'static str>> {
    let chunks: Vec<_> = body
        .chunks(piece.min(body.len().max(1)))
        .map(|chunk| Ok::<_, Infallible>(chunk.to_vec()))
        .collect();
    let request = Request::builder()
        .uri(format!("/?{query}"))
        .header("content-type", kind)
        .body(Body::from_stream(futures::stream::iter(chunks)))
        .ok()?;
    let memory = Budget::new(1 << 16);
    let limits = UploadLimits {
        file_bytes: MOST,
        memory: &memory,
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        pause: Duration::from_secs(60),
    };
    let fields = match Fields::of_query(request.uri()) {
        Ok(fields) => fields,
        Err(refusal) => return Some(Err(refusal.code())),
    };
    let answer = match Upload::read(request, fields, &limits).await {
        Ok(upload) => {
            let behind = upload
                .background
                .as_ref()
                .map_or(0, |file| file.bytes.len());
            let both = (upload.file.bytes.len() + behind) as u64;
            assert!(!upload.file.bytes.is_empty() && both <= MOST, "{both}");
            let fields = &upload.fields;
            for told in [
                fields.output(upload.background.is_some()).err(),
                fields.effect().err(),
                fields.effects().err(),
                fields.params().err(),
                fields.flag("use_cache", true).err(),
            ] {
                assert!(told.is_none_or(|refusal| refusal.status().is_client_error()));
            }
            Ok(upload.file.bytes.to_vec())
        }
        Err(refusal) => {
            assert!(refusal.status().is_client_error(), "{refusal:?}");
            Err(refusal.code())
        }
    };
    assert_eq!(memory.used(), 0, "memory was kept");
    Some(answer)
}
