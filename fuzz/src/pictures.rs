//! Photos: `sniff` and `decode`.

use std::collections::BTreeSet;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cutout::error::{Class, Error};
use cutout::job::{ColourProfile, Depth, KeepMetadata};
use cutout::pipeline::decode::{Header, Limits, Wanted, decode, decode_keeping, sniff};

use super::memory::peak_of;

/// Small, so that the work for one input is bounded; all that grows with a photo grows by pixels.
const LIMITS: Limits = Limits {
    max_pixels: 1 << 20,
    max_side: 4096,
};

/// What a header may cost, whatever it says: a colour profile of 8 MiB, unpacked into a buffer
/// that doubles as it grows, and tables.
const HEADER_BYTES: u64 = 20 << 20;

/// Names, messages, a rayon thread's first job: what is allocated around the decoder.
const SLACK: u64 = 256 << 10;

/// `sniff`: refuses with a permanent error, or accepts what lies within the limits, without
/// allocating pixels.
pub fn sniffed(data: &[u8]) {
    each_form(data, |bytes| {
        for limits in [LIMITS, Limits::default()] {
            let (header, peak) = peak_of(|| sniff(bytes, &limits));
            let bound = HEADER_BYTES + 2 * bytes.len() as u64 + SLACK;
            assert!(peak <= bound, "sniff took {peak} of {bound} bytes");
            match header {
                Err(error) => refused(&error),
                Ok(header) => {
                    assert!(header.width > 0 && header.height > 0, "{header:?}");
                    assert!(header.pixels() <= limits.max_pixels, "{header:?}");
                    let longest = header.width.max(header.height);
                    assert!(longest <= limits.max_side, "{header:?}");
                    let (width, height) = header.upright_size();
                    assert_eq!(width.max(height), longest, "{header:?}");
                    assert!(header.decode_bytes() > header.pixels() * 6, "{header:?}");
                }
            }
        }
    });
}

/// `decode`: refuses with a permanent error, or gives as many pixels as the header says, within
/// the memory that the header announces beside the file.
pub fn decoded(data: &[u8]) {
    each_form(data, |bytes| {
        let Ok(header) = sniff(bytes, &LIMITS) else {
            return;
        };
        let (photo, peak) = peak_of(|| contained(|| decode(bytes, &header, &LIMITS)));
        let bound = header.decode_bytes() + bytes.len() as u64 + SLACK;
        assert!(
            peak <= bound,
            "decode took {peak} of {bound} bytes: {header:?}"
        );
        match photo {
            Err(error) => refused(&error),
            Ok(photo) => {
                assert_eq!((photo.width, photo.height), header.upright_size());
                assert_eq!(photo.rgb.len(), photo.pixels() * 3);
                if let Some(alpha) = &photo.alpha {
                    assert_eq!(alpha.len(), photo.pixels());
                    assert!(header.alpha, "alpha that the header did not announce");
                }
                let flat = photo.flattened(128);
                assert_eq!(flat.is_some(), photo.alpha.is_some());
                with_everything(bytes, &header);
            }
        }
    });
}

/// The same photo with all that can be kept of it: it decodes again, within what that announces.
fn with_everything(bytes: &[u8], header: &Header) {
    let wanted = Wanted {
        profile: ColourProfile::Source,
        depth: Depth::Source,
        metadata: KeepMetadata::ExifWithLocation,
        dpi: 300,
    };
    let (kept, peak) = peak_of(|| contained(|| decode_keeping(bytes, header, &LIMITS, &wanted)));
    let bound = header.decode_bytes() + header.keeping_bytes(&wanted) + bytes.len() as u64 + SLACK;
    assert!(
        peak <= bound,
        "keeping took {peak} of {bound} bytes: {header:?}"
    );
    let mut kept = kept.expect("the photo was decoded before");
    let pixels = kept.photo.pixels();
    assert_eq!((kept.photo.width, kept.photo.height), header.upright_size());
    if let Some(deep) = &kept.deep {
        assert_eq!(deep.rgb.len(), pixels * 3);
        let samples = |alpha: &Option<Vec<u16>>| alpha.as_ref().map(Vec::len);
        assert_eq!(
            samples(&deep.alpha),
            kept.photo.alpha.as_ref().map(Vec::len)
        );
    }
    let exif = kept.carried.exif.as_ref();
    assert!(exif.is_none_or(|exif| exif.len() <= 128 << 10));
    let seen = kept.in_srgb(|photo| photo.rgb.len());
    assert_eq!(seen, pixels * 3);
}

/// No other worker could do more with these bytes.
fn refused(error: &Error) {
    assert_eq!(error.class(), Class::Permanent, "{}", error.chain());
    assert!(!error.message().is_empty());
}

/// The input; and, if it is a PNG whose checksums mutation has broken, the same with true ones:
/// the decoder would look no further.
fn each_form(data: &[u8], body: impl Fn(&[u8])) {
    body(data);
    if let Some(repaired) = with_true_checksums(data) {
        body(&repaired);
    }
}

fn with_true_checksums(data: &[u8]) -> Option<Vec<u8>> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    data.starts_with(SIGNATURE).then_some(())?;
    let mut repaired = data.to_vec();
    let mut at = SIGNATURE.len();
    while let Some(length) = repaired.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let end = at.checked_add(8)?.checked_add(length)?;
        if end + 4 > repaired.len() {
            break;
        }
        let sum = crc32(&repaired[at + 4..end]).to_be_bytes();
        repaired[end..end + 4].copy_from_slice(&sum);
        at = end + 4;
    }
    (repaired != data).then_some(repaired)
}

/// PNG's own (<https://www.w3.org/TR/png/#5CRC-algorithm>), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1))
        })
    })
}

/// Whether a decoder is at work whose panics `decode` catches.
static CONTAINED: AtomicBool = AtomicBool::new(false);

/// Where decoders have panicked.
static PANICS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn contained<T>(work: impl FnOnce() -> T) -> T {
    CONTAINED.store(true, Ordering::SeqCst);
    let result = work();
    CONTAINED.store(false, Ordering::SeqCst);
    result
}

/// Lets the panics of other people's decoders pass, which `decode` catches and answers with
/// `image_corrupt`: each place is reported once and remembered. Panics of our own code go to the
/// hook that was there before, caught or not: libFuzzer's aborts.
pub fn note_contained_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !CONTAINED.load(Ordering::SeqCst) || is_ours(panic) {
            return before(panic);
        }
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        let mut known = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(place) {
            eprintln!("caught by decode: {panic}");
        }
    }));
}

/// The places in decoders whose panics `decode` has caught so far.
pub fn contained_panics() -> Vec<String> {
    let known = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().cloned().collect()
}

/// Crates from a registry and the standard library are others', by the paths of their sources.
fn is_ours(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_none_or(|location| {
        let file = location.file();
        !["/registry/src/", "/rustc/", "/library/"]
            .iter()
            .any(|part| file.contains(part))
    })
}
