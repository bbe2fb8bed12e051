//! Reads a photo from a request's body: limits are enforced while it is read, and its memory is paid
//! for before the first byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fields::{Fields, MAX_FIELD_BYTES, is_known};
use super::look::BACKGROUND_FILE;
use super::refusal::Refusal;
use crate::pipeline::budget::Budget;
use crate::pipeline::cutout::Charged;

/// What a body may have beside the photo: boundaries, part headers and a form's few fields.
const BESIDE_THE_PHOTO: u64 = 1 << 20;

/// The most that one upload may take of memory and time.
#[derive(Clone, Copy)]
pub struct UploadLimits<'a> {
    /// Largest photo, bytes.
    pub file_bytes: u64,
    /// Memory for uploads.
    pub memory: &'a Budget,
    /// When the whole body must be there.
    pub deadline: Instant,
    /// The longest pause between two pieces of it.
    pub pause: Duration,
}

/// A photo and what its request asks for.
pub struct Upload {
    /// The photo's file.
    pub file: Charged,
    /// The picture to put behind the subject. Both files together are no larger than one may be.
    pub background: Option<Charged>,
    /// Query and form.
    pub fields: Fields,
}

impl Upload {
    /// Reads the photo: the part `file` of a form, or the whole body. `fields` are the query's; a
    /// form's are added.
    ///
    /// Errors: 408 too slow, 413 too large, 415 neither a form nor a picture, 422 no `file`, 400 a
    /// body that is not the form it says it is, 503 no memory in time.
    pub async fn read(
        mut request: Request,
        fields: Fields,
        limits: &UploadLimits<'_>,
    ) -> Result<Self, Refusal> {
        let asks_first = request.headers().contains_key(header::EXPECT);
        let mut rest = Rest::of(&mut request);
        let upload = Self::taken(request, fields, limits, &mut rest).await;
        // Who was too slow is not waited for again, and who asks first has not begun.
        if let Err(refusal) = &upload
            && refusal.status() != StatusCode::REQUEST_TIMEOUT
            && !(asks_first && rest.seen() == 0)
            && Instant::now() < limits.deadline
        {
            rest.discard().await;
        }
        upload
    }

    async fn taken(
        request: Request,
        mut fields: Fields,
        limits: &UploadLimits<'_>,
        rest: &mut Rest,
    ) -> Result<Self, Refusal> {
        let shape = Shape::of(request.headers())?;
        let bytes = announced(request.headers(), limits)?;
        // Before anything is read: a client whose photo must wait is slowed down by TCP.
        let paid = tokio::time::timeout_at(limits.deadline, limits.memory.take(bytes))
            .await
            .map_err(|_| no_memory())?
            .map_err(|error| Refusal::from(&error))?;
        let paid = Arc::new(paid);
        let limits = &UploadLimits {
            // What was not announced may be as large as what could be paid for.
            file_bytes: limits.file_bytes.min(limits.memory.total()),
            ..*limits
        };
        let mut photo = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or_default());
        let mut background = None;
        match shape {
            Shape::Form => {
                let parts = Parts {
                    photo: &mut photo,
                    background: &mut background,
                    fields: &mut fields,
                };
                form(request, parts, limits, rest).await?;
            }
            Shape::Picture => raw(request.into_body(), &mut photo, limits).await?,
        }
        let photo = photo.freeze();
        if photo.is_empty() {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "empty_file",
                "the file is empty: send a photo",
            ));
        }
        let file = Charged {
            bytes: photo,
            paid: Some(Arc::clone(&paid)),
        };
        // Browsers send a part for a file that was not chosen, too.
        let background = background.filter(|picture| !picture.is_empty());
        let background = background.map(|picture| Charged {
            bytes: picture.freeze(),
            paid: Some(paid),
        });
        Ok(Self {
            file,
            background,
            fields,
        })
    }
}

/// Most bytes that a form may have between two parts. A piece of the body counts whole, and has
/// 400 KiB at most.
const BETWEEN_PARTS: u64 = 1 << 20;

/// Takes what the client of a refused request is still sending, so that it gets to read its answer.
pub async fn discard(mut request: Request) {
    // Who asks first whether to send it does not, when refused.
    if !request.headers().contains_key(header::EXPECT) {
        Rest::of(&mut request).discard().await;
    }
}

/// A request's body while it is read, and what a refused client is still sending. Many clients
/// (Python's among them) read no answer before they have sent everything, and are told of a broken
/// connection when it is closed before that.
struct Rest(Arc<Reading>);

struct Reading {
    body: Mutex<BodyDataStream>,
    /// Bytes that have come.
    seen: AtomicU64,
    /// Most that may come for now.
    most: AtomicU64,
}

impl Rest {
    /// More than this is not worth an answer's arrival.
    const MOST_BYTES: usize = 16 << 20;
    const LONGEST: Duration = Duration::from_secs(5);

    fn of(request: &mut Request) -> Self {
        let body = std::mem::take(request.body_mut()).into_data_stream();
        let reading = Arc::new(Reading {
            body: Mutex::new(body),
            seen: AtomicU64::new(0),
            most: AtomicU64::new(u64::MAX),
        });
        let shared = futures::stream::unfold(Arc::clone(&reading), |reading| async {
            // Forms are read as far as there is something; this lets them look at each piece first.
            tokio::task::yield_now().await;
            let chunk = reading.body.lock().await.next().await?;
            let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let seen = reading.seen.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let chunk = chunk.and_then(|chunk| {
                if seen > reading.most.load(Ordering::Relaxed) {
                    return Err(axum::Error::new(std::io::Error::other("too much")));
                }
                Ok(chunk)
            });
            Some((chunk, reading))
        });
        *request.body_mut() = Body::from_stream(shared);
        Self(reading)
    }

    fn seen(&self) -> u64 {
        self.0.seen.load(Ordering::Relaxed)
    }

    /// So many bytes more may come; beyond them the body breaks off.
    fn allow(&mut self, more: u64) {
        let most = self.seen().saturating_add(more);
        self.0.most.store(most, Ordering::Relaxed);
    }

    async fn discard(self) {
        let mut body = self.0.body.lock().await;
        let all = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = body.next().await {
                bytes += chunk.len();
                if bytes > Self::MOST_BYTES {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Self::LONGEST, all).await;
    }
}

enum Shape {
    Form,
    Picture,
}

impl Shape {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map_or(Ok(""), |value| value.to_str())
            .unwrap_or("unreadable")
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match kind.as_str() {
            "multipart/form-data" => Ok(Self::Form),
            "" | "application/octet-stream" => Ok(Self::Picture),
            // What curl --data-binary says unless it is told better.
            "application/x-www-form-urlencoded" => Ok(Self::Picture),
            kind if kind.starts_with("image/") => Ok(Self::Picture),
            _ => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send the photo as the part `file` of multipart/form-data, or as the body with its image type",
            )),
        }
    }
}

/// How many bytes to pay for: what the client announces, or the most that it may send.
fn announced(headers: &HeaderMap, limits: &UploadLimits<'_>) -> Result<u64, Refusal> {
    let most = limits.file_bytes.saturating_add(BESIDE_THE_PHOTO);
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(bytes) if bytes > most => Err(Refusal::too_large(limits.file_bytes)),
        Some(bytes) => Ok(bytes.min(limits.file_bytes)),
        None => Ok(limits.file_bytes.min(limits.memory.total())),
    }
}

async fn raw(body: Body, photo: &mut BytesMut, limits: &UploadLimits<'_>) -> Result<(), Refusal> {
    let mut stream = body.into_data_stream();
    while let Some(chunk) = in_time(stream.next(), limits).await? {
        let chunk = chunk.map_err(|_| cut_off())?;
        append(photo, &chunk, limits)?;
    }
    Ok(())
}

/// What a form is read into.
struct Parts<'a> {
    photo: &'a mut BytesMut,
    background: &'a mut Option<BytesMut>,
    fields: &'a mut Fields,
}

async fn form(
    mut request: Request,
    parts: Parts<'_>,
    limits: &UploadLimits<'_>,
    rest: &mut Rest,
) -> Result<(), Refusal> {
    // The extractor's own limit is 2 MB.
    let most = limits.file_bytes.saturating_add(BESIDE_THE_PHOTO);
    DefaultBodyLimit::max(usize::try_from(most).unwrap_or(usize::MAX)).apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| broken_form())?;
    let mut found = false;
    loop {
        // Between parts there are boundaries and headers, which are looked through from the start for
        // each piece that comes.
        rest.allow(BETWEEN_PARTS);
        let field = in_time(form.next_field(), limits)
            .await?
            .map_err(|error| of_form(&error, limits))?;
        rest.allow(u64::MAX);
        let Some(field) = field else { break };
        match field.name() {
            Some("file") if found => {
                return Err(Refusal::unprocessable(
                    "there is more than one `file`: send one photo",
                ));
            }
            Some("file") => {
                found = true;
                let other = parts.background.as_ref().map_or(0, BytesMut::len);
                part(field, parts.photo, other, limits).await?;
            }
            Some(BACKGROUND_FILE) if parts.background.is_some() => {
                return Err(Refusal::unprocessable(
                    "there is more than one `background_file`: send one picture",
                ));
            }
            Some(BACKGROUND_FILE) => {
                let picture = parts.background.insert(BytesMut::new());
                part(field, picture, parts.photo.len(), limits).await?;
            }
            Some(name) if is_known(name) => {
                let name = name.to_owned();
                let value = text(field, limits).await?;
                parts.fields.set(&name, value)?;
            }
            // Whatever else a shop's form has; its length is bounded by the whole body's.
            _ => ignore(field, limits).await?,
        }
    }
    if found {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "missing_file",
        "the form has no `file`: send the photo as the part of that name",
    ))
}

/// Reads a file; `other` are the bytes of the form's other one.
async fn part(
    mut field: Field<'_>,
    photo: &mut BytesMut,
    other: usize,
    limits: &UploadLimits<'_>,
) -> Result<(), Refusal> {
    let most = limits.file_bytes.saturating_sub(other as u64);
    let limits = &UploadLimits {
        file_bytes: most,
        ..*limits
    };
    while let Some(chunk) = in_time(field.chunk(), limits)
        .await?
        .map_err(|error| of_form(&error, limits))?
    {
        append(photo, &chunk, limits)?;
    }
    Ok(())
}

async fn ignore(mut field: Field<'_>, limits: &UploadLimits<'_>) -> Result<(), Refusal> {
    while in_time(field.chunk(), limits)
        .await?
        .map_err(|error| of_form(&error, limits))?
        .is_some()
    {}
    Ok(())
}

async fn text(mut field: Field<'_>, limits: &UploadLimits<'_>) -> Result<String, Refusal> {
    let mut value = Vec::new();
    while let Some(chunk) = in_time(field.chunk(), limits)
        .await?
        .map_err(|error| of_form(&error, limits))?
    {
        if value.len() + chunk.len() > MAX_FIELD_BYTES {
            return Err(Refusal::unprocessable(format!(
                "a field has more than {MAX_FIELD_BYTES} bytes"
            )));
        }
        value.extend_from_slice(&chunk);
    }
    String::from_utf8(value).map_err(|_| Refusal::unprocessable("a field is not UTF-8"))
}

fn append(photo: &mut BytesMut, chunk: &[u8], limits: &UploadLimits<'_>) -> Result<(), Refusal> {
    if (photo.len() + chunk.len()) as u64 > limits.file_bytes {
        return Err(Refusal::too_large(limits.file_bytes));
    }
    photo.extend_from_slice(chunk);
    Ok(())
}

/// The next piece, unless it takes too long or all of it does.
async fn in_time<T>(
    piece: impl Future<Output = T>,
    limits: &UploadLimits<'_>,
) -> Result<T, Refusal> {
    let until = limits.deadline.min(Instant::now() + limits.pause);
    tokio::time::timeout_at(until, piece)
        .await
        .map_err(|_| Refusal::too_slow())
}

fn of_form(error: &MultipartError, limits: &UploadLimits<'_>) -> Refusal {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal::too_large(limits.file_bytes);
    }
    broken_form()
}

fn broken_form() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "malformed_form",
        "the body is not the multipart form that its Content-Type says",
    )
}

fn cut_off() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "upload_incomplete",
        "the upload ended early; send it again",
    )
}

fn no_memory() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "out_of_budget",
        "no memory for the upload became free in time; send it again later",
    )
    .retry_after(super::refusal::RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: &Budget) -> UploadLimits<'_> {
        UploadLimits {
            file_bytes: 1000,
            memory,
            deadline: Instant::now() + Duration::from_secs(5),
            pause: Duration::from_millis(100),
        }
    }

    async fn read(kind: Option<&str>, body: impl Into<Body>) -> Result<Upload, Refusal> {
        let memory = Budget::new(1 << 20);
        let mut request = Request::builder().method("POST").uri("/");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(body.into()).unwrap();
        Upload::read(request, Fields::default(), &limits(&memory)).await
    }

    fn form_of(parts: &[(&str, &str)]) -> String {
        let mut body = String::new();
        for (name, value) in parts {
            body += &format!(
                "--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        body + "--X--\r\n"
    }

    const FORM: Option<&str> = Some("multipart/form-data; boundary=X");

    fn status<T>(answer: Result<T, Refusal>) -> (u16, &'static str) {
        let refusal = answer.err().expect("it should be refused");
        (refusal.status().as_u16(), refusal.code())
    }

    #[tokio::test]
    async fn a_photo_is_the_forms_file_or_the_whole_body() {
        let body = form_of(&[("use_cache", "false"), ("file", "photo"), ("x", "y")]);
        let upload = read(FORM, body).await.unwrap();
        assert_eq!(upload.file.bytes, "photo");
        assert!(!upload.fields.flag("use_cache", true).unwrap());
        for kind in [None, Some("image/jpeg"), Some("application/octet-stream")] {
            assert_eq!(read(kind, "photo").await.unwrap().file.bytes, "photo");
        }
    }

    #[tokio::test]
    async fn a_background_comes_beside_the_photo_and_both_share_its_limit() {
        let (photo, lawn) = ("p".repeat(600), "l".repeat(400));
        for parts in [
            [("file", &*photo), ("background_file", &*lawn)],
            [("background_file", &*lawn), ("file", &*photo)],
        ] {
            let upload = read(FORM, form_of(&parts)).await.unwrap();
            assert_eq!(upload.file.bytes, photo.as_bytes());
            assert_eq!(upload.background.unwrap().bytes, lawn.as_bytes());
            let more = "m".repeat(401);
            let parts = parts.map(|(name, content)| match name {
                "file" => (name, content),
                _ => (name, &*more),
            });
            let answer = read(FORM, form_of(&parts)).await;
            assert_eq!(status(answer), (413, "file_too_large"));
        }
        let none = form_of(&[("file", "photo"), ("background_file", "")]);
        assert!(read(FORM, none).await.unwrap().background.is_none());
        let twice = form_of(&[
            ("background_file", "a"),
            ("background_file", "b"),
            ("file", "photo"),
        ]);
        assert_eq!(status(read(FORM, twice).await), (422, "invalid_request"));
        // A photo that is the whole body has none.
        assert!(read(None, "photo").await.unwrap().background.is_none());
    }

    #[tokio::test]
    async fn what_is_not_a_photo_of_a_form_says_what_is_wrong() {
        let missing = form_of(&[("photo", &"x".repeat(900))]);
        assert_eq!(status(read(FORM, missing).await), (422, "missing_file"));
        let twice = form_of(&[("file", "a"), ("file", "b")]);
        assert_eq!(status(read(FORM, twice).await), (422, "invalid_request"));
        assert_eq!(status(read(FORM, "no form").await), (400, "malformed_form"));
        let boundless = Some("multipart/form-data");
        assert_eq!(status(read(boundless, "x").await), (400, "malformed_form"));
        let empty = form_of(&[("file", "")]);
        assert_eq!(status(read(FORM, empty).await), (400, "empty_file"));
        let json = Some("application/json");
        assert_eq!(
            status(read(json, "{}").await),
            (415, "unsupported_media_type")
        );
    }

    #[tokio::test]
    async fn too_large_is_noticed_while_it_is_read_whatever_was_announced() {
        let large = "x".repeat(1001);
        assert_eq!(
            status(read(None, large.clone()).await),
            (413, "file_too_large")
        );
        let form = form_of(&[("file", &large)]);
        assert_eq!(status(read(FORM, form).await), (413, "file_too_large"));
        let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(100)));
        let endless = Body::from_stream(chunks);
        assert_eq!(status(read(None, endless).await), (413, "file_too_large"));
        let long = form_of(&[("effect", &"x".repeat(MAX_FIELD_BYTES + 1))]);
        assert_eq!(status(read(FORM, long).await), (422, "invalid_request"));
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_not_waited_for() {
        let stalled = futures::stream::once(async { Ok::<_, std::io::Error>("half") })
            .chain(futures::stream::pending());
        let answer = read(None, Body::from_stream(stalled)).await;
        assert_eq!(status(answer), (408, "upload_timeout"));
    }

    #[tokio::test]
    async fn memory_is_paid_for_first_and_given_back_with_the_photo() {
        let memory = Budget::new(4096);
        let request = |body: &'static str| Request::new(Body::from(body));
        let first = Upload::read(request("a"), Fields::default(), &limits(&memory))
            .await
            .unwrap();
        assert_eq!(memory.used(), 4096);
        let hasty = UploadLimits {
            deadline: Instant::now() + Duration::from_millis(50),
            ..limits(&memory)
        };
        let second = Upload::read(request("b"), Fields::default(), &hasty).await;
        assert_eq!(status(second), (503, "out_of_budget"));
        drop(first);
        assert_eq!(memory.used(), 0);
    }
}
