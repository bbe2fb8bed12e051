//! Options of a picture that are types of their own: format, kind, size, padding, threshold, fit.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid;
use super::look::{Depth, Length};
use crate::error::{Error, Result};
use crate::object::ObjectRef;

/// Output file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PNG with straight alpha.
    #[default]
    Png,
    /// WebP, lossless.
    Webp,
}

impl Format {
    /// File name extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// MIME type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The subject with the matte as straight alpha.
    #[default]
    Rgba,
    /// The matte alone, as grey.
    Mask,
    /// The subject on white.
    White,
    /// The subject on the green of chroma keying, rgb(120, 255, 155).
    Green,
    /// The subject on a plain colour.
    Color([u8; 3]),
    /// The subject on its own background, blurred.
    Blur,
    /// The photo with the subject tinted green and its edge drawn.
    Overlay,
    /// The subject on another picture, brought to the photo's size by `background_fit`.
    Image(ObjectRef),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rgba => f.write_str("rgba"),
            Self::Mask => f.write_str("mask"),
            Self::White => f.write_str("white"),
            Self::Green => f.write_str("green"),
            Self::Color([r, g, b]) => write!(f, "color:#{r:02x}{g:02x}{b:02x}"),
            Self::Blur => f.write_str("blur"),
            Self::Overlay => f.write_str("overlay"),
            Self::Image(object) => write!(f, "image:{object}"),
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "rgba" => Self::Rgba,
            "mask" => Self::Mask,
            "white" => Self::White,
            "green" => Self::Green,
            "blur" => Self::Blur,
            "overlay" => Self::Overlay,
            _ => {
                if let Some(object) = text.strip_prefix("image:") {
                    return Ok(Self::Image(object.parse()?));
                }
                if let Some(colour) = parse_colour(text.strip_prefix("color:").unwrap_or(text)) {
                    return Ok(Self::Color(colour));
                }
                return Err(invalid(format!(
                    "{text:?} is not an output kind: use rgba, mask, white, green, color:#rrggbb, blur, overlay or image:gs://bucket/object"
                )));
            }
        })
    }
}

pub(super) fn parse_colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    let mut colour = [0; 3];
    hex::decode_to_slice(digits, &mut colour).ok()?;
    Some(colour)
}

/// How large the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The longer side, in pixels.
    Longest(u32),
    /// A box to fit into, in pixels; the aspect is kept.
    Within(u32, u32),
}

impl Size {
    /// Larger outputs are refused: an enlarged picture is not bounded by the photo's header.
    pub(super) const MAX_SIDE: u32 = 16_384;

    fn checked(self) -> Result<Self> {
        let (w, h) = match self {
            Self::Longest(side) => (side, side),
            Self::Within(w, h) => (w, h),
        };
        if (1..=Self::MAX_SIDE).contains(&w) && (1..=Self::MAX_SIDE).contains(&h) {
            return Ok(self);
        }
        Err(invalid(format!(
            "the output size {self} is outside 1 to {} pixels",
            Self::MAX_SIDE
        )))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Longest(side) => side.fmt(f),
            Self::Within(w, h) => write!(f, "{w}x{h}"),
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| {
            digits.parse::<u32>().map_err(|_| {
                invalid(format!(
                    "{text:?} is not a size: write the longest side in pixels (1200), or WxH (1200x800)"
                ))
            })
        };
        match text.split_once('x') {
            Some((w, h)) => Self::Within(number(w)?, number(h)?),
            None => Self::Longest(number(text)?),
        }
        .checked()
    }
}

/// Room around a cropped subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// Pixels of the photo.
    Pixels(u32),
    /// Percent of the longer side of the subject's box, 0 to 100.
    Percent(f32),
}

impl Default for Padding {
    fn default() -> Self {
        Self::Pixels(0)
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(pixels) => pixels.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Padding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            invalid(format!(
                "{text:?} is not a padding: write pixels (40, at most {}) or percent (5%, at most 100%)",
                Size::MAX_SIDE
            ))
        };
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f32 = percent.trim().parse().map_err(|_| error())?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(error());
                }
                Ok(Self::Percent(percent))
            }
            None => {
                let pixels = text.parse().map_err(|_| error())?;
                if pixels > Size::MAX_SIDE {
                    return Err(error());
                }
                Ok(Self::Pixels(pixels))
            }
        }
    }
}

/// A mask's value above which a pixel is the subject: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Threshold(f32);

impl Threshold {
    /// Errors: `invalid_job` for a number outside 0 to 1, and for what is not a number.
    pub fn new(value: f32) -> Result<Self> {
        // `contains` is false for NaN too.
        if (0.0..=1.0).contains(&value) {
            return Ok(Self(value));
        }
        Err(invalid(format!(
            "the threshold {value} is outside 0 to 1: write 0.5 for the middle of the mask"
        )))
    }

    /// The number, 0 to 1.
    pub const fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Threshold {
    type Error = Error;

    fn try_from(value: f32) -> Result<Self> {
        Self::new(value)
    }
}

impl From<Threshold> for f32 {
    fn from(threshold: Threshold) -> Self {
        threshold.0
    }
}

impl FromStr for Threshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let value = text.parse().map_err(|_| {
            invalid(format!(
                "{text:?} is not a threshold: write a number from 0 to 1"
            ))
        })?;
        Self::new(value)
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// How a background picture is brought to the photo's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Each side scaled by itself, as transparent-background does.
    #[default]
    Stretch,
    /// Its aspect kept, what hangs over cut off evenly.
    Cover,
}

impl Fit {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Fit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "stretch" => Ok(Self::Stretch),
            "cover" => Ok(Self::Cover),
            _ => Err(invalid(format!(
                "{text:?} is not a background fit: use stretch or cover"
            ))),
        }
    }
}

/// (De)serialises a value that is a number or a string in JSON through its text form.
macro_rules! number_or_text {
    ($($name:ident: $schema:tt),+ $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match text.parse::<i64>() {
                    Ok(number) => serializer.serialize_i64(number),
                    Err(_) => serializer.serialize_str(&text),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Raw { Number(i64), Text(String) }
                let text = match Raw::deserialize(deserializer)
                    .map_err(|_| serde::de::Error::custom(concat!(stringify!($name), " is neither a whole number nor text")))?
                {
                    Raw::Number(number) => number.to_string(),
                    Raw::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )+};
}

number_or_text!(
    Kind: { "type": "string", "pattern": "^(rgba|mask|white|green|blur|overlay|(color:)?#[0-9a-fA-F]{6}|image:.+)$" },
    Size: {
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 16384 },
            { "type": "string", "pattern": "^[0-9]+(x[0-9]+)?$" }
        ]
    },
    Padding: {
        "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": 16384 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%?$" }
        ]
    },
    Depth: { "enum": [8, "source"] },
    Length: {
        "anyOf": [
            { "type": "integer", "minimum": -16384, "maximum": 16384 },
            { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?%?$" }
        ]
    },
);
