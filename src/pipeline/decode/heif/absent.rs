//! What stands here in a build with neither of the features `heic` and `avif`.

use crate::error::{Code, Error, Result};

use super::{Header, Kept, Limits, SourceFormat, Wanted};

/// None is recognised.
pub(super) fn format_of(_: &[u8]) -> Option<SourceFormat> {
    None
}

pub(super) fn header(_: &[u8], format: SourceFormat, _: &Limits) -> Result<Header> {
    Err(left_out(format))
}

pub(super) fn decode(_: &[u8], header: &Header, _: &Limits, _: &Wanted) -> Result<Kept> {
    Err(left_out(header.format))
}

fn left_out(format: SourceFormat) -> Error {
    Error::new(
        Code::UnsupportedFormat,
        format!("{format} is not built in; save the photo as JPEG or PNG"),
    )
}
