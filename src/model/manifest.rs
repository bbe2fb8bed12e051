//! A network described by a manifest, not by code: file, checksum, input, resize policy, output.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// How a photo is brought to the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Resize {
    /// Always `width`×`height` pixels; the aspect is not kept.
    Static {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The shorter side becomes `short` pixels, the longer keeps the aspect, both are rounded
    /// to `multiple`.
    Dynamic {
        /// Pixels of the shorter side.
        short: u32,
        /// What both sides are multiples of.
        multiple: u32,
    },
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { width, height } => write!(f, "static, {width}x{height}"),
            Self::Dynamic { short, multiple } => {
                write!(f, "dynamic, shorter side {short}, multiples of {multiple}")
            }
        }
    }
}

/// The element type and axis order of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[N, 3, H, W]` f32, normalised by us: the graph is bare.
    NchwF32,
    /// `[N, H, W, 3]` u8 RGB: the graph normalises.
    NhwcU8,
}

/// How a photo is resampled to the network's size. Both are Pillow's, antialiased when shrinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputFilter {
    /// Pillow's `BILINEAR`, as transparent-background does.
    #[default]
    Bilinear,
    /// Pillow's `LANCZOS` (a = 3), as rembg does.
    Lanczos,
}

/// What a channel's full intensity is, before mean and standard deviation are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRange {
    /// 255, whatever the photo holds.
    #[default]
    Full,
    /// The largest value in the resized photo, over all channels, is stretched to 255: rembg
    /// divides by it (`im / max(np.max(im), 1e-6)` in its sessions/base.py).
    ImageMax,
}

/// The network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The graph's name for it; the graph's first input where the manifest gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Element type and axis order.
    pub layout: Layout,
    /// How a photo is resampled.
    #[serde(default)]
    pub filter: InputFilter,
    /// What counts as full intensity.
    #[serde(default)]
    pub range: InputRange,
    /// Subtracted from each channel (R, G, B), in units of 0..255. Unused for `nhwc-u8`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Each channel is divided by this after the mean is taken off, in units of 0..255.
    #[serde(default = "ones")]
    pub std: [f32; 3],
}

impl InputSpec {
    /// An input about which a manifest says nothing but the layout.
    pub const fn new(layout: Layout) -> Self {
        Self {
            name: None,
            layout,
            filter: InputFilter::Bilinear,
            range: InputRange::Full,
            mean: [0.0; 3],
            std: ones(),
        }
    }
}

const fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// What the network's output values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Already a probability in 0..1.
    Probability,
    /// A logit: the sigmoid is ours to apply.
    Logit,
}

/// How the matte is brought from the network's size to the photo's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatteResize {
    /// Bilinear with half-pixel centres, antialiased when shrinking (PIL's `BILINEAR`).
    #[default]
    Bilinear,
    /// Bilinear with corners aligned, not antialiased (`torch` `align_corners=True`).
    BilinearAlignCorners,
    /// Cut down to bytes first, then PIL's `LANCZOS` (a = 3), as rembg does.
    Lanczos,
}

/// The network's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The graph's name for it; the graph's first output where the manifest gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the values mean.
    pub activation: Activation,
    /// Stretch each image's values to 0..1 by its own minimum and maximum.
    #[serde(default)]
    pub min_max: bool,
    /// How the matte grows back.
    #[serde(default)]
    pub resize: MatteResize,
}

impl OutputSpec {
    /// An output about which a manifest says nothing but the activation.
    pub const fn new(activation: Activation) -> Self {
        Self {
            name: None,
            activation,
            min_max: false,
            resize: MatteResize::Bilinear,
        }
    }
}

/// A network: its file and how to feed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What jobs and flags call it.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// File name of the ONNX graph, relative to the models directory.
    pub file: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// SPDX expression for the weights.
    pub licence: String,
    /// Where the weights come from.
    pub provenance: String,
    /// How a photo is brought to the network's size.
    pub resize: Resize,
    /// The network's input.
    pub input: InputSpec,
    /// The network's output.
    pub output: OutputSpec,
    /// What it was read from, for messages: a path, or the name of an embedded manifest.
    #[serde(skip)]
    pub read_from: String,
}

impl Manifest {
    /// Parses and checks a manifest. `read_from` names it in errors.
    ///
    /// Errors: `model_invalid` for anything but TOML with exactly the known keys and values.
    pub fn parse(text: &str, read_from: &str) -> Result<Self> {
        let mut manifest: Self = parse_toml(text, read_from)?;
        read_from.clone_into(&mut manifest.read_from);
        manifest.check()?;
        Ok(manifest)
    }

    /// Errors: `model_invalid` for values that no network can have.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |n: u32| n > 0;
        let wrong = if !is_file_name(&self.name) {
            "name must be one word, because it names files: no directories, no white space"
        } else if self.sha256.len() != 64
            || !self
                .sha256
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            "sha256 must be 64 lower-case hex digits"
        } else if !is_file_name(&self.file) {
            "file must be a file name without directories"
        } else if self.input.std.iter().any(|&s| !s.is_normal()) {
            "input.std must be finite and not zero"
        } else if self.input.mean.iter().any(|m| !m.is_finite()) {
            "input.mean must be finite"
        } else if self.input.layout == Layout::NhwcU8 && self.input.range != InputRange::Full {
            "input.range can be image-max only for nchw-f32: a graph of u8 pixels normalises by itself"
        } else if !match self.resize {
            Resize::Static { width, height } => positive(width) && positive(height),
            Resize::Dynamic { short, multiple } => positive(multiple) && short >= multiple,
        } {
            "resize needs sizes above zero (and `short` of at least `multiple`)"
        } else {
            return Ok(());
        };
        Err(Error::new(
            Code::ModelInvalid,
            format!("the manifest {} is not valid: {wrong}", self.read_from),
        ))
    }

    /// Applies production's `INSPIRENET_RESIZE` and `TARGET_SIZE`. What the network cannot do is
    /// an error, not a silent difference.
    pub fn override_resize(&mut self, policy: Option<&str>, side: Option<u32>) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::ConfigInvalid, message));
        match policy {
            None => {}
            Some("static") if matches!(self.resize, Resize::Static { .. }) => {}
            Some("dynamic") if matches!(self.resize, Resize::Dynamic { .. }) => {}
            Some("static" | "dynamic") => {
                return invalid(format!(
                    "INSPIRENET_RESIZE asks for a policy that {} does not have (its own: {}): leave the variable out or choose another model",
                    self.name, self.resize
                ));
            }
            Some(other) => {
                return invalid(format!(
                    "INSPIRENET_RESIZE {other:?} is not known: use static or dynamic"
                ));
            }
        }
        match (side, self.resize) {
            (None, _) => Ok(()),
            (Some(side), Resize::Static { width, height }) if side == width && side == height => {
                Ok(())
            }
            (Some(side), _) => invalid(format!(
                "TARGET_SIZE {side} does not fit {} (its own: {}): leave the variable out",
                self.name, self.resize
            )),
        }
    }

    /// The sizes (width, height) to warm up: what the worker will serve most.
    pub fn warm_up_sizes(&self) -> Vec<(u32, u32)> {
        match self.resize {
            Resize::Static { width, height } => vec![(width, height)],
            // A square, and 4:3 either way: what cameras make.
            Resize::Dynamic { short, multiple } => {
                let long = (short * 4 / 3).div_ceil(multiple) * multiple;
                vec![(short, short), (long, short), (short, long)]
            }
        }
    }

    /// Upper bound of the bytes that one image's input tensor and matte take.
    pub fn tensor_bytes(&self) -> u64 {
        let (width, height) = match self.resize {
            Resize::Static { width, height } => (width, height),
            Resize::Dynamic { short, .. } => (short.saturating_mul(4), short),
        };
        let element = match self.input.layout {
            Layout::NchwF32 => 12,
            Layout::NhwcU8 => 3,
        };
        u64::from(width) * u64::from(height) * (element + 4)
    }
}

/// TOML to a type; what does not fit is told with its place in the text.
pub(super) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str, read_from: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        Error::new(
            Code::ModelInvalid,
            format!(
                "the manifest {read_from} is not valid{place}: {}",
                error.message()
            ),
        )
    })
}

/// Whether it can name a file in the models directory, and nothing outside it.
pub(super) fn is_file_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && !text.contains(|c: char| matches!(c, '/' | '\\') || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isnet() -> String {
        include_str!("../../models/isnet-medium.toml").to_owned()
    }

    #[test]
    fn an_unknown_policy_key_or_checksum_is_named() {
        for (from, to, says) in [
            ("policy = \"static\"", "policy = \"elastic\"", "elastic"),
            ("licence", "license", "license"),
            ("b6e8497b", "B6E8497B", "sha256"),
            ("width = 1024", "width = 0", "above zero"),
            (
                "file = \"isnet-medium.onnx\"",
                "file = \"../x.onnx\"",
                "without directories",
            ),
            ("std = [256.0,", "std = [0.0,", "std"),
            ("name = \"isnet-medium\"", "name = \"a b\"", "one word"),
            (
                "layout = \"nchw-f32\"",
                "layout = \"nhwc-u8\"\nrange = \"image-max\"",
                "image-max",
            ),
            (
                "layout = \"nchw-f32\"",
                "layout = \"nchw-f32\"\nfilter = \"nearest\"",
                "expected `bilinear` or `lanczos`",
            ),
        ] {
            let text = isnet().replacen(from, to, 1);
            assert_ne!(text, isnet(), "{from}");
            let error = Manifest::parse(&text, "test.toml").expect_err(to);
            assert_eq!(error.code(), Code::ModelInvalid);
            assert!(error.message().contains(says), "{error}");
            assert!(error.message().contains("test.toml"), "{error}");
        }
    }
}
