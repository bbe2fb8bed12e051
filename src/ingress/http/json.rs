//! A JSON answer with pictures in it, written as it is sent: base64 is a third larger than the
//! pictures, and is never in memory as a whole.

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
#[derive(Default)]
pub struct PictureJson(Vec<Part>);

impl PictureJson {
    /// Text of the document as it stands.
    pub fn text(&mut self, json: impl Into<String>) {
        self.0.push(Part::Text(json.into()));
    }

    /// A string of base64, quotes included.
    pub fn picture(&mut self, bytes: Bytes) {
        self.text("\"");
        self.0.push(Part::Picture(bytes));
        self.text("\"");
    }

    /// The document, each piece made when it is asked for.
    pub fn pieces(self) -> impl Iterator<Item = Bytes> + Send {
        self.0.into_iter().flat_map(|part| {
            let (text, picture) = match part {
                Part::Text(text) => (Some(Bytes::from(text)), None),
                Part::Picture(bytes) => (None, Some(bytes)),
            };
            let encoded = picture.into_iter().flat_map(|bytes| {
                (0..bytes.len().div_ceil(PIECE)).map(move |i| {
                    let end = bytes.len().min((i + 1) * PIECE);
                    Bytes::from(BASE64_STANDARD.encode(&bytes[i * PIECE..end]))
                })
            });
            text.into_iter().chain(encoded)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_make_one_document_whatever_the_pictures_length() {
        for length in [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 2] {
            let picture: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut json = PictureJson::default();
            json.text("{\"popart\":");
            json.picture(picture.clone().into());
            json.text("}");
            let text: Vec<u8> = json.pieces().flatten().collect();
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let back = BASE64_STANDARD.decode(value["popart"].as_str().unwrap());
            assert_eq!(back.unwrap(), picture);
        }
    }
}
