//! A JSON answer with pictures in it, written as it is sent: base64 is a third larger than the
//! pictures, and is never in memory as a whole.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

/// Bytes that become one piece of base64; a multiple of three, so that no piece is padded but the
/// last.
const PIECE: usize = 48 << 10;

enum Part {
    Text(String),
    Picture(Bytes),
}

/// An object under construction.
pub struct PictureJson {
    parts: Vec<Part>,
    /// Dropped when all is sent.
    kept: Box<dyn Send>,
}

impl PictureJson {
    /// An empty document that holds on to `kept` until it is sent.
    pub fn new(kept: impl Send + 'static) -> Self {
        Self {
            parts: Vec::new(),
            kept: Box::new(kept),
        }
    }

    /// Text of the document as it stands.
    pub fn text(&mut self, json: impl Into<String>) {
        self.parts.push(Part::Text(json.into()));
    }

    /// A string of base64, quotes included.
    pub fn picture(&mut self, bytes: Bytes) {
        self.text("\"");
        self.parts.push(Part::Picture(bytes));
        self.text("\"");
    }

    fn pieces(self) -> impl Iterator<Item = String> + Send {
        let kept = self.kept;
        self.parts.into_iter().flat_map(move |part| {
            let _ = &kept;
            let (text, picture) = match part {
                Part::Text(text) => (Some(text), None),
                Part::Picture(bytes) => (None, Some(bytes)),
            };
            let encoded = picture.into_iter().flat_map(|bytes| {
                (0..bytes.len().div_ceil(PIECE)).map(move |i| {
                    let end = bytes.len().min((i + 1) * PIECE);
                    BASE64_STANDARD.encode(&bytes[i * PIECE..end])
                })
            });
            text.into_iter().chain(encoded)
        })
    }
}

impl IntoResponse for PictureJson {
    fn into_response(self) -> Response {
        let pieces = self.pieces().map(Ok::<_, std::convert::Infallible>);
        let mut response = Response::new(Body::from_stream(futures::stream::iter(pieces)));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_make_one_document_whatever_the_pictures_length() {
        for length in [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 2] {
            let picture: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut json = PictureJson::new(());
            json.text("{\"popart\":");
            json.picture(picture.clone().into());
            json.text("}");
            let text: String = json.pieces().collect();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let back = BASE64_STANDARD.decode(value["popart"].as_str().unwrap());
            assert_eq!(back.unwrap(), picture);
        }
    }
}
