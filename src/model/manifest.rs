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

/// What a graph that takes any size may be asked for instead of the manifest's own policy:
/// production's `INSPIRENET_RESIZE` and `TARGET_SIZE` choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnySize {
    /// Both sides of the input are multiples of this, in pixels.
    pub multiple: u32,
    /// Side of the square for the policy `static` when `TARGET_SIZE` names none, in pixels.
    pub side: u32,
    /// Pixels of the shorter side for the policy `dynamic`.
    pub short: u32,
}

/// How far a matte moves when its network computes in fewer bits, measured over photos by
/// `cutout bench precision`; values of the matte are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredError {
    /// Mean absolute difference.
    pub mean: f64,
    /// Share of pixels that differ by more than one level of 255.
    pub off: f64,
}

/// Largest side that `TARGET_SIZE` may ask for, in pixels: memory grows with its square.
const MAX_SIDE: u32 = 4096;

/// Largest side that a manifest may give, in pixels: beyond what any network takes, and what is
/// computed from it fits its types.
const LARGEST_SIDE: u32 = 16_384;

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
    /// Other sizes that the graph takes; absent when it takes only those of `resize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_size: Option<AnySize>,
    /// The network's input.
    pub input: InputSpec,
    /// The network's output.
    pub output: OutputSpec,
    /// How far its mattes move in bf16, where that was measured; without it, bf16 is for those
    /// who ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16: Option<MeasuredError>,
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
        let possible = |side: u32| (1..=LARGEST_SIDE).contains(&side);
        let whole = |side: u32, multiple: u32| {
            possible(multiple) && possible(side) && side.is_multiple_of(multiple)
        };
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
            Resize::Static { width, height } => possible(width) && possible(height),
            Resize::Dynamic { short, multiple } => whole(short, multiple),
        } {
            "resize needs sizes above zero, at most 16384 (and `short` a multiple of `multiple`)"
        } else if self
            .any_size
            .is_some_and(|any| !whole(any.side, any.multiple) || !whole(any.short, any.multiple))
        {
            "any_size needs a multiple above zero, and sides that are multiples of it, at most 16384"
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
    ///
    /// `TARGET_SIZE` is the side of the static square. As in transparent-background, it does not
    /// move the shorter side of the dynamic policy: production sets both variables.
    pub fn override_resize(&mut self, policy: Option<&str>, side: Option<u32>) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::ConfigInvalid, message));
        self.resize = match (policy, self.resize, self.any_size) {
            (None, own, _)
            | (Some("static"), own @ Resize::Static { .. }, _)
            | (Some("dynamic"), own @ Resize::Dynamic { .. }, _) => own,
            (Some("static"), _, Some(AnySize { side, .. })) => Resize::Static {
                width: side,
                height: side,
            },
            (
                Some("dynamic"),
                _,
                Some(AnySize {
                    short, multiple, ..
                }),
            ) => Resize::Dynamic { short, multiple },
            (Some("static" | "dynamic"), own, None) => {
                return invalid(format!(
                    "INSPIRENET_RESIZE asks for a policy that {} does not have (its own: {own}): leave the variable out or choose another model",
                    self.name
                ));
            }
            (Some(other), ..) => {
                return invalid(format!(
                    "INSPIRENET_RESIZE {other:?} is not known: use static or dynamic"
                ));
            }
        };
        let Some(side) = side else { return Ok(()) };
        match (self.resize, self.any_size) {
            (Resize::Static { width, height }, _) if side == width && side == height => Ok(()),
            (Resize::Static { .. }, Some(AnySize { multiple, .. })) => {
                if side % multiple != 0 || !(multiple..=MAX_SIDE).contains(&side) {
                    return invalid(format!(
                        "TARGET_SIZE {side} does not fit {}: use a multiple of {multiple} from {multiple} to {MAX_SIDE}",
                        self.name
                    ));
                }
                self.resize = Resize::Static {
                    width: side,
                    height: side,
                };
                Ok(())
            }
            (own @ Resize::Dynamic { .. }, _) => {
                tracing::info!(
                    "TARGET_SIZE {side} does not move {} ({own}): it is the side of the policy static",
                    self.name
                );
                Ok(())
            }
            (own @ Resize::Static { .. }, None) => invalid(format!(
                "TARGET_SIZE {side} does not fit {} (its own: {own}): leave the variable out",
                self.name
            )),
        }
    }

    /// The sizes (width, height) to warm up: what the worker will serve most.
    ///
    /// A GPU chooses its convolutions for each shape anew; a CPU only has to have seen the
    /// weights and taken its memory, and each of the large runs takes it half a minute.
    pub fn warm_up_sizes(&self, each_shape: bool) -> Vec<(u32, u32)> {
        match self.resize {
            Resize::Static { width, height } => vec![(width, height)],
            Resize::Dynamic { short, .. } if !each_shape => vec![(short, short)],
            // A square, and 4:3 either way: what cameras make.
            Resize::Dynamic { short, multiple } => {
                let long = (f64::from(short) * 4.0 / 3.0 / f64::from(multiple)).round_ties_even();
                let long = long as u32 * multiple;
                vec![(short, short), (long, short), (short, long)]
            }
        }
    }

    /// Whether both are the same weights, fed and read the same way, and so give the same mattes.
    pub fn is_treated_as(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
            && self.resize == other.resize
            && self.input == other.input
            && self.output == other.output
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
            ("width = 1024", "width = 16385", "at most 16384"),
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

    /// InSPyReNet's, as the exporter writes it.
    fn any_size() -> Manifest {
        let text = isnet().replace(
            "[input]",
            "[any_size]\nmultiple = 32\nside = 1024\nshort = 1280\n\n[input]",
        );
        Manifest::parse(&text, "any.toml").unwrap()
    }

    fn square(side: u32) -> Resize {
        Resize::Static {
            width: side,
            height: side,
        }
    }

    const DYNAMIC: Resize = Resize::Dynamic {
        short: 1280,
        multiple: 32,
    };

    #[test]
    fn sides_that_are_no_multiples_are_refused_before_a_warm_up_asks_the_graph_for_one() {
        let text = toml::to_string(&any_size()).unwrap();
        Manifest::parse(&text, "test.toml").unwrap();
        for (from, to) in [
            ("short = 1280", "short = 1279"),
            ("side = 1024", "side = 1000"),
            ("multiple = 32", "multiple = 0"),
        ] {
            assert!(text.contains(from), "{text}");
            let error = Manifest::parse(&text.replace(from, to), "test.toml").expect_err(to);
            assert!(error.message().contains("multiple"), "{error}");
        }
    }

    #[test]
    fn productions_variables_choose_among_the_sizes_that_a_graph_takes() {
        for (own, policy, side, expected) in [
            (square(384), None, None, square(384)),
            (square(384), Some("static"), None, square(384)),
            (square(384), Some("static"), Some(512), square(512)),
            (square(384), Some("dynamic"), None, DYNAMIC),
            (DYNAMIC, Some("static"), None, square(1024)),
            (DYNAMIC, Some("static"), Some(384), square(384)),
            // What production sets: the reference's dynamic knows no target size.
            (DYNAMIC, Some("dynamic"), Some(1024), DYNAMIC),
            (DYNAMIC, None, Some(1024), DYNAMIC),
        ] {
            let mut manifest = any_size();
            manifest.resize = own;
            manifest.override_resize(policy, side).unwrap();
            assert_eq!(manifest.resize, expected, "{own} {policy:?} {side:?}");
        }
    }

    #[test]
    fn a_size_that_the_graph_does_not_take_is_an_error_that_names_those_it_takes() {
        let fixed = Manifest::parse(&isnet(), "isnet.toml").unwrap();
        for (manifest, policy, side, says) in [
            (&fixed, Some("dynamic"), None, "1024x1024"),
            (&fixed, None, Some(512), "1024x1024"),
            (&fixed, Some("elastic"), None, "static or dynamic"),
            (&any_size(), Some("static"), Some(100), "multiple of 32"),
            (&any_size(), Some("static"), Some(0), "multiple of 32"),
            (&any_size(), Some("static"), Some(8192), "4096"),
        ] {
            let error = manifest.clone().override_resize(policy, side).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.message().contains(says), "{error}");
        }
        fixed
            .clone()
            .override_resize(Some("static"), Some(1024))
            .unwrap();
    }

    #[test]
    fn a_cpu_warms_up_one_shape_and_a_gpu_each() {
        let mut manifest = any_size();
        assert_eq!(manifest.warm_up_sizes(true), [(1024, 1024)]);
        manifest.resize = DYNAMIC;
        assert_eq!(manifest.warm_up_sizes(false), [(1280, 1280)]);
        assert_eq!(
            manifest.warm_up_sizes(true),
            [(1280, 1280), (1696, 1280), (1280, 1696)]
        );
    }
}
