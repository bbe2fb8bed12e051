//! Answers on their way: in pieces, so that one that a client takes too slowly can be given up.

use std::fmt;
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;

/// Bytes of a picture that are handed over at a time.
const PIECE: usize = 64 << 10;

/// A body of `pieces`. `kept` (a place, memory) is given back when it is sent, given up at
/// `deadline`, or dropped with its connection.
pub fn body(
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
    kept: impl Send + 'static,
    deadline: Instant,
) -> Body {
    let pieces = futures::stream::iter(pieces).map(move |piece| {
        let _kept = &kept;
        if Instant::now() < deadline {
            Ok(piece)
        } else {
            Err(TooSlow)
        }
    });
    Body::from_stream(pieces)
}

/// A picture's pieces, which share its memory.
pub fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    (0..bytes.len().div_ceil(PIECE)).map(move |i| {
        let end = bytes.len().min((i + 1) * PIECE);
        bytes.slice(i * PIECE..end)
    })
}

/// The client took too long; its connection is closed.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client takes its answer too slowly")
    }
}

impl std::error::Error for TooSlow {}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_picture_comes_whole_and_gives_back_what_it_kept() {
        let kept = Arc::new(());
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let picture: Bytes = (0..length).map(|i| i as u8).collect::<Vec<_>>().into();
            let later = Instant::now() + Duration::from_secs(60);
            let body = body(pieces(picture.clone()), Arc::clone(&kept), later);
            assert_eq!(to_bytes(body, usize::MAX).await.unwrap(), picture);
            assert_eq!(Arc::strong_count(&kept), 1);
        }
    }

    #[tokio::test]
    async fn one_that_is_not_taken_in_time_is_given_up() {
        let body = body(pieces(Bytes::from_static(b"picture")), (), Instant::now());
        assert!(to_bytes(body, usize::MAX).await.is_err());
    }
}
