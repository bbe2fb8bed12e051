//! What a job's picture is to look like, as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid;
use super::look::{self, ColourProfile, Depth, KeepMetadata, Shadow};
use super::options::{Fit, Format, Kind, Padding, Size, Threshold};
use crate::error::Result;

/// What the output looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Output {
    /// File format.
    pub format: Format,
    /// What is written: the cut-out, its mask, or the subject on a new background.
    pub kind: Kind,
    /// Shorthand for `kind`: `#rrggbb` or `image:gs://…`. Only one of the two may be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Kind>,
    /// Longest side in pixels, or `WxH` as a box to fit into; never enlarges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Whether `size` may also enlarge.
    pub upscale: bool,
    /// Crop to the subject's bounding box.
    pub crop: bool,
    /// Room left around the subject when cropping: pixels, or percent of the box's longer side.
    pub padding: Padding,
    /// Written into the file (PNG `pHYs`), in dots per inch.
    #[schemars(range(min = 1, max = 10000))]
    pub dpi: u32,
    // The following are left out of the JSON where they say nothing: the keys of jobs that do not
    // use them must stay what they were.
    /// Makes the mask hard: what is above this is the subject, the rest is not; 0 to 1. The mask
    /// is soft when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Keep the background and remove the subject.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reverse: bool,
    /// How an `image:` background is brought to the photo's size.
    #[serde(skip_serializing_if = "Fit::is_default")]
    pub background_fit: Fit,
    /// Take the old background's colour out of the subject's edge, where the photo shows both
    /// mixed. Has no effect with a `threshold`, nor on `mask` and `overlay`.
    // On by default, unlike the above: see `identity`.
    #[serde(skip_serializing_if = "Clone::clone")]
    #[schemars(extend("default" = true))]
    pub decontaminate: bool,
    /// Let alpha follow the photo's own edges where the network's matte is unsure and much smaller than the photo.
    /// Photos with transparency of their own are left as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refine: bool,
    /// `srgb`, or `source` for the photo's own RGB profile. The file says which.
    #[serde(skip_serializing_if = "ColourProfile::is_default")]
    pub profile: ColourProfile,
    /// 8, or `source` for 16 bits where the photo has more than 8: PNG with `rgba`, `mask` or a plain colour.
    #[serde(skip_serializing_if = "Depth::is_default")]
    pub depth: Depth,
    /// What of the photo's EXIF goes into the file; where it was taken only if asked for.
    #[serde(skip_serializing_if = "KeepMetadata::is_default")]
    pub keep_metadata: KeepMetadata,
    /// A shadow under the subject, in the picture's own size: `crop` with `padding` leaves room for it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "look::shadow"
    )]
    pub shadow: Option<Shadow>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            format: Format::Png,
            kind: Kind::Rgba,
            background: None,
            size: None,
            upscale: false,
            crop: false,
            padding: Padding::Pixels(0),
            dpi: 300,
            threshold: None,
            reverse: false,
            background_fit: Fit::Stretch,
            decontaminate: true,
            refine: false,
            profile: ColourProfile::Srgb,
            depth: Depth::Eight,
            keep_metadata: KeepMetadata::None,
            shadow: None,
        }
    }
}

impl Output {
    /// Refuses what contradicts itself, or what no file can hold.
    ///
    /// Errors: `invalid_job`.
    pub fn check(&self) -> Result<()> {
        if self.background.is_some() && self.kind != Kind::Rgba {
            return Err(invalid(
                "output.kind and output.background both say what is behind the subject: give one"
                    .into(),
            ));
        }
        if !(1..=10_000).contains(&self.dpi) {
            return Err(invalid(format!(
                "output.dpi {} is outside 1 to 10000",
                self.dpi
            )));
        }
        let kind = self.effective_kind();
        if self.depth == Depth::Source {
            if self.format == Format::Webp {
                return Err(invalid(
                    "a WebP has 8 bits a sample: ask for output.format png, or leave output.depth out"
                        .into(),
                ));
            }
            if matches!(kind, Kind::Blur | Kind::Overlay | Kind::Image(_)) {
                return Err(invalid(format!(
                    "{kind} is not made with 16 bits: leave output.depth out, or ask for rgba, mask or a plain colour"
                )));
            }
        }
        if self.shadow.is_some() && matches!(kind, Kind::Mask | Kind::Overlay) {
            return Err(invalid(format!(
                "a shadow has no place on {kind}: leave output.shadow out, or ask for another kind"
            )));
        }
        Ok(())
    }

    /// The kind after `background` has been taken into account.
    pub fn effective_kind(&self) -> &Kind {
        self.background.as_ref().unwrap_or(&self.kind)
    }

    /// Whether a picture of this kind has the old background's colour taken out. A hard mask leaves
    /// nothing that is mixed; `mask` has no colour, and `overlay` shows the photo itself.
    pub const fn decontaminates(&self, kind: &Kind) -> bool {
        self.decontaminate
            && self.threshold.is_none()
            && !matches!(kind, Kind::Mask | Kind::Overlay)
    }

    /// What decides the pixels, for keys under which pictures are found again. `effects` says
    /// whether cut-outs with effects are among them.
    ///
    /// Pictures that were made before there was `decontaminate` are those without it, so here it is
    /// the `true` that is said and the `false` that is left out.
    pub fn identity(&self, effects: bool) -> serde_json::Value {
        let plain = Self {
            decontaminate: true,
            ..self.clone()
        };
        let mut identity = serde_json::json!(plain);
        if self.decontaminates(self.effective_kind())
            || (effects && self.decontaminates(&Kind::Rgba))
        {
            identity["decontaminate"] = true.into();
        }
        identity
    }
}
