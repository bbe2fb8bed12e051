//! Mattes and masks as planes of bytes, from files and from networks, for `eval` and `compare`.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::LimitArgs;
use crate::error::{Code, Error, Result};
use crate::job::{Kind, Output};
use crate::pipeline::compose::Channels;
use crate::pipeline::cpu::CpuPool;
use crate::pipeline::cutout::{Charged, Cutter, Order};
use crate::pipeline::decode::{self, Limits, Photo};
use crate::telemetry::spent::Spent;

/// A matte or a mask, one byte a pixel.
pub(super) struct Plane {
    pub width: u32,
    pub height: u32,
    pub levels: Vec<u8>,
}

/// Reads files within the limits that photos have.
pub(super) struct Reader {
    pub cpu: CpuPool,
    limits: Limits,
    max_file_bytes: u64,
    patience: Duration,
}

impl Reader {
    pub fn new(cpu: CpuPool, limits: &LimitArgs) -> Self {
        Self {
            cpu,
            limits: Limits {
                max_pixels: limits.max_pixels,
                ..Limits::default()
            },
            max_file_bytes: limits.max_file_bytes.as_u64(),
            patience: limits.job_timeout,
        }
    }

    /// A file's content.
    pub async fn file(&self, path: &Path) -> Result<Bytes> {
        let unreadable = |error: std::io::Error| {
            Error::new(
                Code::SourceNotFound,
                format!("cannot read {}", path.display()),
            )
            .caused_by(error)
        };
        let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if size > self.max_file_bytes {
            return Err(Error::new(
                Code::FileTooLarge,
                format!(
                    "{} has {size} bytes, more than {} (--max-file-bytes)",
                    path.display(),
                    self.max_file_bytes
                ),
            ));
        }
        Ok(tokio::fs::read(path).await.map_err(unreadable)?.into())
    }

    /// A matte or a mask in a file.
    pub async fn plane(&self, path: &Path) -> Result<Plane> {
        self.plane_in(self.file(path).await?, path).await
    }

    /// A matte or a mask in the bytes of a file, which errors name.
    pub async fn plane_in(&self, file: Bytes, path: &Path) -> Result<Plane> {
        let limits = self.limits;
        let read = self.cpu.run((), move || {
            let header = decode::sniff(&file, &limits)?;
            plane_of(decode::decode(&file, &header, &limits)?)
        });
        let named = |error: Error| {
            Error::new(
                error.code(),
                format!("{}: {}", path.display(), error.message()),
            )
        };
        Ok(read.await.map_err(named)?.0)
    }

    /// What a file says of its picture's size, once turned upright: width and height.
    pub fn size(&self, file: &Bytes) -> Result<(u32, u32)> {
        Ok(decode::sniff(file, &self.limits)?.upright_size())
    }

    /// The pixels of a photo.
    pub async fn photo(&self, file: Bytes) -> Result<Photo> {
        let limits = self.limits;
        let read = self.cpu.run((), move || {
            let header = decode::sniff(&file, &limits)?;
            decode::decode(&file, &header, &limits)
        });
        Ok(read.await?.0)
    }

    /// What the network makes of a photo that has a mask. A photo that is not of the mask's size is not run.
    pub async fn matte(&self, cutter: &Cutter, photo: &Path, mask: &Plane) -> Result<Plane> {
        let file = self.file(photo).await?;
        check_sizes(self.size(&file)?, mask, photo)?;
        Ok(self.run(cutter, file).await?.0)
    }

    /// What the network makes of a photo's file, by the whole pipeline but for the encoding, and where the
    /// time went.
    pub async fn run(&self, cutter: &Cutter, file: Bytes) -> Result<(Plane, Spent)> {
        let output = Output {
            kind: Kind::Mask,
            ..Output::default()
        };
        let free = Charged {
            bytes: file,
            paid: None,
        };
        let deadline = Instant::now() + self.patience;
        let order = Order::new(free, &output, deadline);
        let mut spent = Spent::default();
        let cut = cutter.cut(order, &mut spent).await?;
        let picture = cut.picture();
        debug_assert_eq!(picture.channels, Channels::Grey);
        let plane = Plane {
            width: picture.width,
            height: picture.height,
            levels: picture.data.clone(),
        };
        Ok((plane, spent))
    }
}

/// The transparency of a cut-out, or the brightness of a mask.
fn plane_of(photo: Photo) -> Result<Plane> {
    /// How far a grey pixel's channels may lie apart: a JPEG's colours are rounded.
    const GREY: u8 = 2;
    let (width, height) = (photo.width, photo.height);
    if let Some(levels) = photo
        .alpha
        .filter(|alpha| alpha.iter().any(|&a| a < u8::MAX))
    {
        return Ok(Plane {
            width,
            height,
            levels,
        });
    }
    let mut levels = Vec::with_capacity(photo.rgb.len() / 3);
    for [r, g, b] in photo.rgb.as_chunks::<3>().0 {
        if r.abs_diff(*g).max(b.abs_diff(*g)) > GREY {
            return Err(Error::new(
                Code::UnsupportedFormat,
                "this is no mask: it has colours and no transparency; a mask is grey, a cut-out transparent",
            ));
        }
        levels.push(*g);
    }
    Ok(Plane {
        width,
        height,
        levels,
    })
}

/// A matte and its mask must be of one size; `input` is what the error names.
pub(super) fn check_size(matte: &Plane, mask: &Plane, input: &Path) -> Result<()> {
    check_sizes((matte.width, matte.height), mask, input)
}

/// The same by the other's width and height.
pub(super) fn check_sizes((width, height): (u32, u32), mask: &Plane, input: &Path) -> Result<()> {
    if (width, height) == (mask.width, mask.height) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidJob,
        format!(
            "{} has {width}×{height} pixels, its mask {}×{}: they must be of one size, once the photo's EXIF orientation is applied",
            input.display(),
            mask.width,
            mask.height
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(rgb: [u8; 6], alpha: Option<[u8; 2]>) -> Photo {
        Photo {
            width: 2,
            height: 1,
            rgb: rgb.into(),
            alpha: alpha.map(Vec::from),
        }
    }

    #[test]
    fn a_cut_out_counts_by_its_transparency_and_a_mask_by_its_brightness() {
        let levels = |photo| plane_of(photo).map(|plane| plane.levels);
        let coloured = [200, 10, 10, 0, 0, 255];
        assert_eq!(levels(photo(coloured, Some([7, 255]))).unwrap(), [7, 255]);
        assert_eq!(
            levels(photo([9, 10, 11, 80, 80, 80], None)).unwrap(),
            [10, 80]
        );
        assert_eq!(levels(photo([5; 6], Some([255; 2]))).unwrap(), [5, 5]);
        for alpha in [None, Some([255; 2])] {
            let error = levels(photo(coloured, alpha)).unwrap_err();
            assert!(error.message().contains("no mask"), "{error}");
        }
    }
}
