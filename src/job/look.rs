//! Options of a picture's look that are types of their own: colour profile, depth, metadata, shadow.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::invalid;
use super::options::{Size, parse_colour};
use crate::error::{Error, Result};

/// In which colours the file's numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColourProfile {
    /// Converted to sRGB.
    #[default]
    Srgb,
    /// The photo's own RGB profile, with the colours that sRGB does not have. sRGB where the photo has
    /// none that pictures can be written in: CMYK, grey, tables for one direction only.
    Source,
}

impl ColourProfile {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for ColourProfile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "srgb" => Ok(Self::Srgb),
            "source" => Ok(Self::Source),
            _ => Err(invalid(format!(
                "{text:?} is not an output profile: use srgb or source"
            ))),
        }
    }
}

/// Bits of a sample in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// 8.
    #[default]
    Eight,
    /// 16 where the photo has more than 8, else 8.
    Source,
}

impl Depth {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eight => "8",
            Self::Source => "source",
        })
    }
}

impl FromStr for Depth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "8" => Ok(Self::Eight),
            "source" => Ok(Self::Source),
            _ => Err(invalid(format!(
                "{text:?} is not an output depth: use 8, or source for 16 bits where the photo has more than 8"
            ))),
        }
    }
}

/// What of the photo's EXIF goes into the file. Pixels are turned upright, so the orientation is 1 in
/// all of it; the thumbnail, which shows the background, and the maker's notes, which may say
/// anything, never go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepMetadata {
    /// Nothing.
    #[default]
    None,
    /// Who made the photo and who has the rights: `Artist` and `Copyright`.
    Copyright,
    /// What a camera writes, without where it was.
    Exif,
    /// The same with where it was.
    ExifWithLocation,
}

impl KeepMetadata {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for KeepMetadata {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "copyright" => Ok(Self::Copyright),
            "exif" => Ok(Self::Exif),
            "exif_with_location" => Ok(Self::ExifWithLocation),
            _ => Err(invalid(format!(
                "{text:?} is not metadata to keep: use none, copyright, exif (without the location) or exif_with_location"
            ))),
        }
    }
}

/// A length in the photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Pixels of the photo, before `size`.
    Pixels(i32),
    /// Percent of the longer side of the subject's box.
    Percent(f32),
}

impl Length {
    const MOST_PIXELS: i32 = Size::MAX_SIDE as i32;

    /// In pixels, where the subject's box is so long.
    pub fn pixels(self, longer_side: u32) -> f32 {
        match self {
            Self::Pixels(pixels) => pixels as f32,
            Self::Percent(percent) => longer_side as f32 * percent / 100.0,
        }
    }

    fn is_negative(self) -> bool {
        match self {
            Self::Pixels(pixels) => pixels < 0,
            Self::Percent(percent) => percent < 0.0,
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(pixels) => pixels.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Length {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            invalid(format!(
                "{text:?} is not a length: write pixels (12, at most {}) or percent of the subject's longer side (2%, at most 100%)",
                Self::MOST_PIXELS
            ))
        };
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f32 = percent.trim().parse().map_err(|_| error())?;
                // False for NaN too.
                if !(-100.0..=100.0).contains(&percent) {
                    return Err(error());
                }
                Ok(Self::Percent(percent))
            }
            None => {
                let pixels: i32 = text.parse().map_err(|_| error())?;
                if pixels
                    .checked_abs()
                    .is_none_or(|pixels| pixels > Self::MOST_PIXELS)
                {
                    return Err(error());
                }
                Ok(Self::Pixels(pixels))
            }
        }
    }
}

/// A shadow that the subject throws on what is behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// How far it lies to the right; to the left if negative.
    pub x: Length,
    /// How far it lies below; above if negative.
    pub y: Length,
    /// How wide its edge is, as in CSS: twice the standard deviation of a Gaussian.
    pub blur: Length,
    /// How dark it is where the subject is opaque, 0 to 1.
    pub opacity: f32,
    /// Its colour, sRGB.
    pub color: [u8; 3],
}

impl Default for Shadow {
    /// `soft`: light from above and a little from the left.
    fn default() -> Self {
        Self {
            x: Length::Percent(1.0),
            y: Length::Percent(2.0),
            blur: Length::Percent(4.0),
            opacity: 0.4,
            color: [0; 3],
        }
    }
}

impl Shadow {
    fn checked(self) -> Result<Self> {
        if self.blur.is_negative() {
            return Err(invalid(format!(
                "the shadow's blur {} is negative: write 0 for a sharp shadow",
                self.blur
            )));
        }
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(invalid(format!(
                "the shadow's opacity {} is outside 0 to 1",
                self.opacity
            )));
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "x" => self.x = value.parse()?,
            "y" => self.y = value.parse()?,
            "blur" => self.blur = value.parse()?,
            "opacity" => {
                self.opacity = value.parse().map_err(|_| {
                    invalid(format!(
                        "{value:?} is not an opacity: write a number from 0 to 1"
                    ))
                })?;
            }
            "color" => {
                self.color = parse_colour(value)
                    .ok_or_else(|| invalid(format!("{value:?} is not a colour: write #rrggbb")))?;
            }
            _ => {
                return Err(invalid(format!(
                    "{name:?} is nothing that a shadow has: use x, y, blur, opacity and color"
                )));
            }
        }
        Ok(())
    }
}

/// `x=1%,y=2%,blur=4%,opacity=0.4,color=#000000`, which reads back.
impl fmt::Display for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            x,
            y,
            blur,
            opacity,
            color: [r, g, b],
        } = self;
        write!(
            f,
            "x={x},y={y},blur={blur},opacity={opacity},color=#{r:02x}{g:02x}{b:02x}"
        )
    }
}

/// `soft`, or what differs from it.
impl FromStr for Shadow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut shadow = Self::default();
        if text == "soft" {
            return Ok(shadow);
        }
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                invalid(format!(
                    "{text:?} is not a shadow: write soft, or what differs from it, as in x=1%,y=2%,blur=4%,opacity=0.4,color=#000000"
                ))
            })?;
            shadow.set(name.trim(), value.trim())?;
        }
        shadow.checked()
    }
}

/// As an object, all of it: one look has one JSON.
impl Serialize for Shadow {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        let [r, g, b] = self.color;
        let told = Told {
            x: Some(self.x),
            y: Some(self.y),
            blur: Some(self.blur),
            opacity: Some(self.opacity),
            color: Some(format!("#{r:02x}{g:02x}{b:02x}")),
        };
        told.serialize(serializer)
    }
}

/// The shadow as JSON has it: what is left out is that of `soft`.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(default)]
    x: Option<Length>,
    #[serde(default)]
    y: Option<Length>,
    #[serde(default)]
    blur: Option<Length>,
    #[serde(default)]
    opacity: Option<f32>,
    #[serde(default)]
    color: Option<String>,
}

impl Told {
    fn shadow(self) -> Result<Shadow> {
        let mut shadow = Shadow::default();
        shadow.x = self.x.unwrap_or(shadow.x);
        shadow.y = self.y.unwrap_or(shadow.y);
        shadow.blur = self.blur.unwrap_or(shadow.blur);
        shadow.opacity = self.opacity.unwrap_or(shadow.opacity);
        if let Some(color) = &self.color {
            shadow.set("color", color)?;
        }
        shadow.checked()
    }
}

/// `true`, `false`, text or an object.
pub(super) fn shadow<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Shadow>, D::Error> {
    // Not an untagged enum: that would say of a wrong length that nothing matched.
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    let wrong = |error: Error| serde::de::Error::custom(error.message().to_owned());
    match value {
        None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => Ok(None),
        Some(serde_json::Value::Bool(true)) => Ok(Some(Shadow::default())),
        Some(serde_json::Value::String(text)) => text.parse().map(Some).map_err(wrong),
        Some(object @ serde_json::Value::Object(_)) => {
            let told: Told = serde_json::from_value(object).map_err(serde::de::Error::custom)?;
            told.shadow().map(Some).map_err(wrong)
        }
        Some(_) => Err(serde::de::Error::custom(
            "the shadow is neither true, nor text, nor an object with x, y, blur, opacity and color",
        )),
    }
}

impl JsonSchema for Shadow {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Shadow".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let length = generator.subschema_for::<Length>();
        schemars::json_schema!({
            "description": "A shadow that the subject throws on what is behind it: true or \"soft\", or what differs from that, as text (\"x=1%,y=2%,blur=4%,opacity=0.4,color=#000000\") or as an object.",
            "anyOf": [
                { "type": "boolean" },
                { "type": "string", "pattern": "^(soft|(x|y|blur|opacity|color)=.+)$" },
                {
                    "type": "object",
                    "properties": {
                        "x": length, "y": length, "blur": length,
                        "opacity": { "type": "number", "minimum": 0, "maximum": 1 },
                        "color": { "type": "string", "pattern": "^#[0-9a-fA-F]{6}$" }
                    }
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::job::{Job, Output};

    fn output(json: &str) -> Result<Output> {
        let json = format!(r#"{{"source":"gs://perkie/x.jpg","output":{json}}}"#);
        Job::parse(json.as_bytes()).map(|job| job.output)
    }

    #[test]
    fn a_shadow_is_true_text_or_an_object_and_they_are_the_same() {
        let soft = output(r#"{"shadow":true}"#).unwrap();
        assert_eq!(soft.shadow, Some(Shadow::default()));
        assert_eq!(output(r#"{"shadow":"soft"}"#).unwrap(), soft);
        assert_eq!(output(r#"{"shadow":{}}"#).unwrap(), soft);
        let text = output(r##"{"shadow":"x=-3,blur=0,color=#102030"}"##).unwrap();
        let object = output(r##"{"shadow":{"x":-3,"blur":"0","color":"#102030"}}"##).unwrap();
        assert_eq!(text, object);
        let shadow = text.shadow.unwrap();
        assert_eq!(
            (shadow.x, shadow.y),
            (Length::Pixels(-3), Length::Percent(2.0))
        );
        assert_eq!(shadow.color, [0x10, 0x20, 0x30]);
        assert_eq!(shadow.to_string().parse::<Shadow>().unwrap(), shadow);
        let again: Output = serde_json::from_value(serde_json::json!(text)).unwrap();
        assert_eq!(again, text);
        for none in [r#"{"shadow":false}"#, r#"{"shadow":null}"#, "{}"] {
            assert_eq!(output(none).unwrap().shadow, None);
        }
    }

    #[test]
    fn what_is_no_look_is_refused_with_what_to_write() {
        for (json, says) in [
            (r#"{"shadow":1}"#, "neither true"),
            (r#"{"shadow":"hard"}"#, "write soft"),
            (r#"{"shadow":"depth=3"}"#, "x, y, blur, opacity and color"),
            (r#"{"shadow":{"blur":-1}}"#, "negative"),
            (r#"{"shadow":{"blur":"101%"}}"#, "at most 100%"),
            (r#"{"shadow":{"x":"NaN%"}}"#, "not a length"),
            (r#"{"shadow":{"x":-2147483648}}"#, "not a length"),
            (r#"{"shadow":{"opacity":1.5}}"#, "outside 0 to 1"),
            (r#"{"shadow":"opacity=NaN"}"#, "outside 0 to 1"),
            (r#"{"shadow":{"color":"red"}}"#, "#rrggbb"),
            (r#"{"shadow":true,"kind":"mask"}"#, "no place"),
            (r#"{"shadow":true,"kind":"overlay"}"#, "no place"),
            (r#"{"depth":16}"#, "use 8, or source"),
            (r#"{"depth":"source","format":"webp"}"#, "png"),
            (r#"{"depth":"source","kind":"blur"}"#, "16 bits"),
            (
                r#"{"depth":"source","background":"image:gs://perkie/b.jpg"}"#,
                "16 bits",
            ),
            (r#"{"profile":"p3"}"#, "srgb"),
            (r#"{"keep_metadata":"all"}"#, "exif_with_location"),
        ] {
            let error = output(json).expect_err(json);
            assert_eq!(error.code(), Code::InvalidJob, "{json}");
            assert!(error.message().contains(says), "{json}: {error}");
        }
    }
}
