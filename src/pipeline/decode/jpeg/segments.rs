//! A look at what stands before a JPEG's first scan, before its decoder does: that copies every
//! piece of metadata, and sorts the pieces of an extended XMP packet anew for each segment.

use std::ops::Range;

/// Photos have a few dozen. Metadata is cut into pieces of 64 KB each, so that even a file that is
/// nothing else has some 800 in 50 MiB.
const MAX_SEGMENTS: usize = 1 << 14;

/// Some cameras leave a few bytes between segments; a megabyte of them only costs time.
const MAX_STRAY_BYTES: usize = 1 << 20;

/// A profile has no more parts: they are numbered by a byte (ICC.1:2022, B.4).
const MAX_PROFILE_PARTS: usize = 255;

/// What stands before the first scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pipeline::decode) struct Segments {
    /// Frame headers: one, unless the file is odd.
    pub frames: Vec<Frame>,
    /// The data of the last of Adobe's segments, which tells what the components are.
    pub adobe: Option<Range<usize>>,
    /// The data of the last EXIF segment, which is the one that counts for the decoder.
    pub exif: Option<Range<usize>>,
    /// The data of the parts of a colour profile; empty if they are too many.
    pub profile: Vec<Range<usize>>,
    /// Where the scans begin: the data of the first scan's header. `None` if there is none.
    pub scans: Option<Range<usize>>,
}

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::decode) struct Frame {
    /// The low half of its marker: 0 and 1 are sequential, 2 is progressive.
    pub kind: u8,
    pub width: u16,
    pub height: u16,
    pub components: u8,
}

/// Why a header is not worth reading.
pub(in crate::pipeline::decode) type Absurd = String;

impl Segments {
    /// Steps over the segments as the decoder does: a marker is a byte other than 0 and 255 behind
    /// a 255, and all have a length. What is broken otherwise is the decoder's to find.
    pub fn of(bytes: &[u8]) -> Result<Self, Absurd> {
        let mut found = Self::default();
        let (mut at, mut count, mut stray) = (2, 0_usize, 0_usize);
        while let Some(&[first, marker]) = bytes.get(at..at + 2) {
            if first != 0xff || matches!(marker, 0x00 | 0xff) {
                at += 1;
                stray += 1;
                if stray > MAX_STRAY_BYTES {
                    return Err(format!(
                        "it has more than {} MiB of nothing between its segments",
                        MAX_STRAY_BYTES >> 20
                    ));
                }
                continue;
            }
            let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                break;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let data = (at + 4).min(bytes.len())..(at + 2 + length.max(2)).min(bytes.len());
            at += 2 + length.max(2);
            count += 1;
            if count > MAX_SEGMENTS {
                return Err(format!(
                    "it has more than {MAX_SEGMENTS} segments before its picture"
                ));
            }
            if found.note(marker, data, bytes) {
                break;
            }
        }
        if found.profile.len() > MAX_PROFILE_PARTS {
            found.profile.clear();
        }
        Ok(found)
    }

    /// Whether that was the last segment of interest.
    fn note(&mut self, marker: u8, data: Range<usize>, bytes: &[u8]) -> bool {
        let content = &bytes[data.clone()];
        match marker {
            // Frames of every kind; 0xc4, 0xc8 and 0xcc are something else.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                if let Some(&[_, h1, h0, w1, w0, components]) = content.first_chunk::<6>() {
                    self.frames.push(Frame {
                        kind: marker & 0x0f,
                        width: u16::from_be_bytes([w1, w0]),
                        height: u16::from_be_bytes([h1, h0]),
                        components,
                    });
                }
            }
            0xe1 if content.starts_with(b"Exif\0\0") => self.exif = Some(data),
            0xe2 if content.starts_with(b"ICC_PROFILE\0")
                && self.profile.len() <= MAX_PROFILE_PARTS =>
            {
                self.profile.push(data);
            }
            0xee if content.starts_with(b"Adobe") => self.adobe = Some(data),
            0xda => self.scans = Some(data),
            _ => {}
        }
        // The end of the image, where there should be a picture, ends it too.
        matches!(marker, 0xda | 0xd9)
    }

    /// The metadata that the header needs, at most 128 KB of it.
    pub fn small_metadata(&self) -> Vec<Range<usize>> {
        self.adobe.iter().chain(&self.exif).cloned().collect()
    }

    /// The metadata that the picture needs: a profile too, unless it is longer than `max_profile`.
    pub fn metadata(&self, max_profile: usize) -> Vec<Range<usize>> {
        let mut places = self.small_metadata();
        // Each part begins with a name, its number and how many there are.
        let profile = self
            .profile
            .iter()
            .map(|part| part.len().saturating_sub(14));
        if profile.sum::<usize>() <= max_profile {
            places.extend(self.profile.iter().cloned());
        } else {
            tracing::debug!("the colour profile is too large; ignored");
        }
        places
    }

    /// Whether the file is sequential and its components come in scans of their own.
    pub fn is_sequential_in_parts(&self, bytes: &[u8]) -> bool {
        let of_scan = self.scans.clone().and_then(|scan| bytes.get(scan)?.first());
        match (self.frames.first(), of_scan) {
            (Some(frame), Some(&in_first_scan)) => {
                frame.kind < 2 && in_first_scan < frame.components
            }
            _ => false,
        }
    }

    /// What follows the first scan's header; empty if there is none.
    pub fn behind_first_scan_header<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let scan = self.scans.as_ref();
        scan.and_then(|scan| bytes.get(scan.end..))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], data].concat()
    }

    const FRAME: [u8; 9] = [8, 0, 2, 0, 3, 1, 1, 0x11, 0];

    #[test]
    fn segments_are_found_behind_stray_and_fill_bytes() {
        let file = [
            b"\xff\xd8",
            &segment(0xe1, b"Exif\0\0first")[..],
            &segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0"),
            b"stray\xff\0\xff\xff",
            &segment(0xe1, b"Exif\0\0last"),
            &segment(0xe2, b"ICC_PROFILE\0\x01\x01data"),
            &segment(0xc2, &FRAME),
            &segment(0xda, &[1, 1, 0, 0, 63, 0]),
            b"picture",
        ]
        .concat();
        let found = Segments::of(&file).unwrap();
        assert_eq!(&file[found.exif.clone().unwrap()], b"Exif\0\0last");
        assert_eq!(
            &file[found.profile[0].clone()],
            b"ICC_PROFILE\0\x01\x01data"
        );
        let frame = found.frames[0];
        assert_eq!(
            (frame.kind, frame.width, frame.height, frame.components),
            (2, 3, 2, 1)
        );
        assert_eq!(found.behind_first_scan_header(&file), b"picture");
        assert!(!found.is_sequential_in_parts(&file));
        let small = found.small_metadata();
        assert_eq!(small, [found.exif.clone().unwrap()]);
        assert_eq!(found.metadata(99).len(), 2);
        assert_eq!(found.metadata(3), small);
    }

    #[test]
    fn what_no_camera_writes_is_absurd() {
        let tiny = segment(0xe3, b"");
        assert!(Segments::of(&[b"\xff\xd8", &tiny.repeat(MAX_SEGMENTS)[..]].concat()).is_ok());
        assert!(Segments::of(&[b"\xff\xd8", &tiny.repeat(MAX_SEGMENTS + 1)[..]].concat()).is_err());
        assert!(Segments::of(&vec![0xff; MAX_STRAY_BYTES]).is_ok());
        assert!(Segments::of(&vec![0xff; MAX_STRAY_BYTES + 9]).is_err());
        let part = segment(0xe2, b"ICC_PROFILE\0\x01\x01data");
        let found = |parts: usize| Segments::of(&[b"\xff\xd8", &part.repeat(parts)[..]].concat());
        assert_eq!(found(255).unwrap().profile.len(), 255);
        assert_eq!(found(256).unwrap().profile.len(), 0);
    }

    #[test]
    fn every_beginning_of_a_file_can_be_looked_at() {
        let file = [
            b"\xff\xd8",
            &segment(0xc0, &FRAME)[..],
            &segment(0xda, b"x"),
        ]
        .concat();
        for end in 0..=file.len() {
            Segments::of(&file[..end]).unwrap();
        }
    }
}
