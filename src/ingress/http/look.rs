//! What the picture looks like: the job's `output`, as fields of a query or a form.

use std::str::FromStr;

use axum::http::StatusCode;
use utoipa::IntoParams;

use super::fields::Fields;
use super::refusal::Refusal;
use crate::error::{Code, Error};
use crate::job::{ColourProfile, Depth, Fit, Format, Kind, Output};
use crate::object::ObjectName;

/// Names of the fields that every photo route knows.
pub const OF_ALL: [&str; 10] = [
    "decontaminate",
    "refine",
    "size",
    "upscale",
    "crop",
    "padding",
    "dpi",
    "threshold",
    "reverse",
    "keep_metadata",
];

/// Names of the fields that `/remove-background` knows beside them.
pub const OF_THE_PICTURE: [&str; 6] = [
    "kind",
    "background",
    "background_fit",
    "profile",
    "depth",
    "shadow",
];

/// The part of a form that is the picture behind the subject.
pub const BACKGROUND_FILE: &str = "background_file";

/// Fields of every photo route, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct Look {
    /// `png` (default) or `webp`, lossless
    output_format: Option<String>,
    /// 1 to 100; without effect
    quality: Option<u8>,
    /// true by default
    use_cache: Option<bool>,
    /// true by default: the old background's colour is taken out of the edge
    decontaminate: Option<bool>,
    /// Whether alpha follows the photo's own edges where the network's matte is unsure and much smaller
    refine: Option<bool>,
    /// Longest side in pixels, or `WxH` as a box to fit into
    size: Option<String>,
    /// Whether `size` may enlarge too
    upscale: Option<bool>,
    /// Crop to the subject
    crop: Option<bool>,
    /// Room around a cropped subject: pixels, or percent of its longer side
    padding: Option<String>,
    /// Dots per inch, written into the file; 300 by default
    dpi: Option<u32>,
    /// Makes the mask hard: above this it is the subject, 0 to 1
    threshold: Option<f32>,
    /// Keep the background and remove the subject
    reverse: Option<bool>,
    /// What of the photo's EXIF to keep: `none` (default), `copyright`, `exif`, `exif_with_location`
    keep_metadata: Option<String>,
}

/// Fields of the picture itself, which effects do not have.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct PictureLook {
    /// `rgba` (default), `mask`, `white`, `green`, `color:#rrggbb`, `blur`, `overlay`
    kind: Option<String>,
    /// Shorthand for `kind`: `#rrggbb`
    background: Option<String>,
    /// How `background_file` is brought to the photo's size: `stretch` (default) or `cover`
    background_fit: Option<String>,
    /// `srgb` (default), or `source` for the photo's own RGB profile
    profile: Option<String>,
    /// `8` (default), or `source` for 16 bits where the photo has more than 8
    depth: Option<String>,
    /// A shadow under the subject: `soft`, or `x=1%,y=2%,blur=4%,opacity=0.4,color=#000000`
    shadow: Option<String>,
}

impl Fields {
    /// The picture's look. `quality` is checked and has no effect: both formats are lossless.
    ///
    /// `has_background` says whether the form has a picture to put behind the subject; it is then named
    /// as the kind.
    pub fn output(&self, has_background: bool) -> Result<Output, Refusal> {
        let default = Output::default();
        if let Some(text) = self.text("quality")
            && !text.parse().is_ok_and(|n| (1..=100).contains(&n))
        {
            return Err(Refusal::unprocessable(
                "quality is not a number from 1 to 100",
            ));
        }
        let mut output = Output {
            format: self.format()?,
            kind: self.parsed("kind")?.unwrap_or(default.kind),
            background: self.parsed("background")?,
            size: self.parsed("size")?,
            upscale: self.flag("upscale", default.upscale)?,
            crop: self.flag("crop", default.crop)?,
            padding: self.parsed("padding")?.unwrap_or(default.padding),
            dpi: self.dpi(default.dpi)?,
            threshold: self.parsed("threshold")?,
            reverse: self.flag("reverse", default.reverse)?,
            background_fit: self.parsed("background_fit")?.unwrap_or_default(),
            decontaminate: self.flag("decontaminate", default.decontaminate)?,
            refine: self.flag("refine", default.refine)?,
            profile: self.parsed("profile")?.unwrap_or_default(),
            depth: self.parsed("depth")?.unwrap_or_default(),
            keep_metadata: self.parsed("keep_metadata")?.unwrap_or_default(),
            shadow: self.shadow()?,
        };
        if let Kind::Image(_) = output.effective_kind() {
            return Err(refused(
                "a request names no objects: send the picture behind the subject as the part `background_file`",
            ));
        }
        if has_background {
            if *output.effective_kind() != Kind::Rgba {
                return Err(refused(
                    "`background_file` and `kind` or `background` both say what is behind the subject: send one",
                ));
            }
            // The name is not looked at: the file is here already.
            let name = ObjectName::local(BACKGROUND_FILE).map_err(|error| Refusal::from(&error))?;
            output.kind = Kind::Image(name.into());
        }
        output.check().map_err(|error| Refusal::from(&error))?;
        Ok(output)
    }

    fn format(&self) -> Result<Format, Refusal> {
        match self.text("output_format").map(str::to_ascii_lowercase) {
            None => Ok(Format::Png),
            Some(text) => match text.as_str() {
                "png" => Ok(Format::Png),
                "webp" => Ok(Format::Webp),
                _ => Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_format",
                    "output_format is neither png nor webp",
                )),
            },
        }
    }

    fn dpi(&self, default: u32) -> Result<u32, Refusal> {
        match self.text("dpi").map(str::parse) {
            None => Ok(default),
            Some(Ok(dpi)) => Ok(dpi),
            Some(Err(_)) => Err(refused("dpi is not a number from 1 to 10000")),
        }
    }

    /// `true` and `false` as in a job's JSON, or its text.
    fn shadow(&self) -> Result<Option<crate::job::Shadow>, Refusal> {
        match self.flag("shadow", false) {
            Ok(soft) => Ok(soft.then(Default::default)),
            // Neither yes nor no.
            Err(_) => self.parsed("shadow"),
        }
    }

    fn parsed<T: FromStr<Err = Error>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|error: Error| {
            let told = format!("{name}: {}", error.message());
            Refusal::from(&Error::new(Code::InvalidJob, told))
        })
    }
}

/// Refuses what the picture may have and its effects do not: they start from the plain cut-out.
pub fn check_of_effects(output: &Output) -> Result<(), Refusal> {
    let plain = *output.effective_kind() == Kind::Rgba
        && output.profile == ColourProfile::Srgb
        && output.depth == Depth::Eight
        && output.background_fit == Fit::default()
        && output.shadow.is_none();
    if plain {
        return Ok(());
    }
    Err(refused(
        "effects start from the plain cut-out: kind, background, background_file, background_fit, profile, depth and shadow are for /remove-background",
    ))
}

fn refused(why: &str) -> Refusal {
    Refusal::from(&Error::new(Code::InvalidJob, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{KeepMetadata, Padding, Shadow, Size};

    fn output(query: &str) -> Result<Output, Refusal> {
        let uri = format!("/?{query}").parse().unwrap();
        Fields::of_query(&uri).unwrap().output(false)
    }

    #[test]
    fn a_request_that_says_nothing_has_the_look_of_a_job_that_says_nothing() {
        assert_eq!(output("").unwrap(), Output::default());
    }

    #[test]
    fn fields_are_a_jobs_words() {
        let found = output(
            "kind=white&size=1200x800&upscale=yes&crop=1&padding=5%25&dpi=96&reverse=on&profile=source&depth=source&keep_metadata=exif&shadow=x%3D3,opacity%3D0.5",
        );
        let found = found.unwrap();
        assert_eq!(found.kind, Kind::White);
        assert_eq!(found.size, Some(Size::Within(1200, 800)));
        assert_eq!((found.padding, found.dpi), (Padding::Percent(5.0), 96));
        assert!(found.upscale && found.crop && found.reverse);
        assert_eq!(found.profile, ColourProfile::Source);
        assert_eq!(found.depth, Depth::Source);
        assert_eq!(found.keep_metadata, KeepMetadata::Exif);
        assert_eq!(found.shadow, "x=3,opacity=0.5".parse().ok());
        for (text, expected) in [
            ("true", Some(Shadow::default())),
            ("soft", Some(Shadow::default())),
            ("false", None),
        ] {
            assert_eq!(output(&format!("shadow={text}")).unwrap().shadow, expected);
        }
    }

    #[test]
    fn what_is_no_look_is_refused_by_its_name() {
        for (query, says) in [
            ("size=0", "size:"),
            ("padding=lots", "padding:"),
            ("dpi=many", "dpi"),
            ("dpi=0", "dpi"),
            ("threshold=2", "threshold:"),
            ("kind=hologram", "kind:"),
            ("kind=image:gs://perkie/b.jpg", "background_file"),
            ("background=image:b.jpg", "background_file"),
            ("kind=mask&background=white", "give one"),
            ("depth=source&output_format=webp", "png"),
            ("shadow=hard", "shadow:"),
            ("shadow=soft&kind=mask", "no place"),
        ] {
            let refusal = output(query).unwrap_err();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{query}");
            assert!(refusal.detail().contains(says), "{query}: {refusal:?}");
        }
    }

    #[test]
    fn a_background_is_a_file_and_said_once() {
        let of = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            Fields::of_query(&uri).unwrap().output(true)
        };
        assert!(matches!(
            of("background_fit=cover").unwrap().kind,
            Kind::Image(_)
        ));
        assert!(of("kind=white").is_err());
        assert!(of("background=%23ffffff").is_err());
    }

    #[test]
    fn effects_have_no_look_of_the_picture() {
        for query in [
            "kind=white",
            "background=%23102030",
            "background_fit=cover",
            "shadow=soft",
            "profile=source",
            "depth=source",
        ] {
            assert!(
                check_of_effects(&output(query).unwrap()).is_err(),
                "{query}"
            );
        }
        let query = "size=20&crop=true&keep_metadata=copyright&output_format=webp";
        check_of_effects(&output(query).unwrap()).unwrap();
    }
}
