//! The report: one file of HTML that holds all it needs and asks nobody for anything.
//!
//! Style and script are written by hand and named in the policy by their digests; data is JSON, which the script sets
//! as text. The pictures of each photo are an element of their own, read when the photo comes into view.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::row::{ArmRow, Compared, Failed, Key, Outcome};
use super::state::{Header, State};
use super::stats::Statistics;
use crate::evaluate::Measure;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Where the pictures go in the page.
const PICTURES: &str = "<!-- pictures -->";

/// Everything but the pictures.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    header: &'a Header,
    names: [&'a str; 2],
    statistics: &'a Statistics,
    photos: Vec<PhotoJson<'a>>,
    failures: Vec<FailedJson<'a>>,
}

#[derive(Serialize)]
struct PhotoJson<'a> {
    name: &'a str,
    width: u32,
    height: u32,
    difference: f64,
    a_more: f64,
    b_more: f64,
    changed: f64,
    iou: f64,
    boundary_iou: f64,
    arms: [ArmJson; 2],
}

#[derive(Serialize)]
struct ArmJson {
    coverage: f64,
    uncertain: f64,
    infer_ms: Option<f64>,
    total_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measures: Option<BTreeMap<&'static str, f64>>,
}

#[derive(Serialize)]
struct FailedJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    failed: &'a Failed,
}

/// What was written.
pub(super) struct Written {
    pub bytes: u64,
    pub failures: usize,
    pub statistics: Statistics,
}

/// Writes the report of these photos, in this order; whole, or not at all.
pub(super) fn write(to: &Path, state: &State, order: &[Key]) -> anyhow::Result<Written> {
    let (mut photos, mut failures) = (Vec::new(), Vec::new());
    for key in order {
        let row = state.row(key).context("a photo has no row")?;
        match &row.outcome {
            Outcome::Compared(compared) => photos.push((key, compared.as_ref())),
            Outcome::Failed(failed) => failures.push(FailedJson {
                name: &key.name,
                failed,
            }),
        }
    }
    let compared: Vec<&Compared> = photos.iter().map(|(_, compared)| *compared).collect();
    let statistics = Statistics::of(&compared);
    let header = state.header();
    let failed = failures.len();
    let data = Data {
        header,
        names: [header.settings.a.name(), header.settings.b.name()],
        statistics: &statistics,
        photos: photos
            .iter()
            .map(|(key, compared)| PhotoJson::new(&key.name, compared))
            .collect(),
        failures,
    };
    let page = page(&serde_json::to_string(&data)?);
    let (before, after) = page
        .split_once(PICTURES)
        .expect("the page has a place for pictures");

    let unwritable = || format!("cannot write {}", to.display());
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A temporary file is private by default; a report is as public as the umask allows.
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(unwritable)?;
    let mut out = BufWriter::new(file);
    out.write_all(before.as_bytes()).with_context(unwritable)?;
    for (at, (key, _)) in photos.iter().enumerate() {
        let pictures = state.pictures(key)?.context("a photo has no pictures")?;
        element(&mut out, at, &in_script(&serde_json::to_string(&pictures)?))
            .with_context(unwritable)?;
    }
    out.write_all(after.as_bytes()).with_context(unwritable)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error);
    let file = file.with_context(unwritable)?;
    let bytes = file.as_file().metadata().with_context(unwritable)?.len();
    file.persist(to).with_context(unwritable)?;
    Ok(Written {
        bytes,
        failures: failed,
        statistics,
    })
}

/// The pictures of one photo.
fn element(out: &mut impl Write, at: usize, json: &str) -> io::Result<()> {
    writeln!(
        out,
        "<script type=\"application/json\" id=\"pictures-{at}\">{json}</script>"
    )
}

/// The page with everything but the pictures.
fn page(data: &str) -> String {
    // Nothing may be asked for, and no text may become markup, whatever a later edit of the script does. Styles
    // that the script sets are set by property, which no policy forbids.
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; form-action 'none'; \
         base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    let mut page = PAGE.to_owned();
    // The data last: a file may be called as a place is.
    for (place, text) in [
        ("{{policy}}", policy.as_str()),
        ("{{style}}", STYLE),
        ("{{script}}", SCRIPT),
        ("{{data}}", &in_script(data)),
    ] {
        debug_assert_eq!(page.matches(place).count(), 1, "{place}");
        page = page.replacen(place, text, 1);
    }
    page
}

/// As a policy names an inline script or style.
fn digest(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

/// JSON that can stand in a script element: nothing in it ends the element or begins a comment. These characters
/// stand in strings only.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

impl<'a> PhotoJson<'a> {
    fn new(name: &'a str, row: &Compared) -> Self {
        Self {
            name,
            width: row.width,
            height: row.height,
            difference: row.difference(),
            a_more: row.a_more,
            b_more: row.b_more,
            changed: row.changed,
            iou: row.iou,
            boundary_iou: row.boundary_iou,
            arms: [ArmJson::new(&row.arms[0]), ArmJson::new(&row.arms[1])],
        }
    }
}

impl ArmJson {
    fn new(arm: &ArmRow) -> Self {
        let measures = arm.scores.as_ref().map(|scores| {
            let measures = Measure::ALL.into_iter();
            measures
                .map(|measure| (measure.key(), scores.get(measure)))
                .collect()
        });
        Self {
            coverage: arm.coverage,
            uncertain: arm.uncertain,
            infer_ms: arm.run.map(|run| run.infer_ms),
            total_ms: arm.run.map(|run| run.total_ms),
            measures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::asks_nobody_and_makes_no_markup;

    #[test]
    fn a_file_name_cannot_become_markup_or_another_place() {
        let hostile = "\"><script>alert(1)</script><!-- {{style}} &amp; <!-- pictures -->";
        let page = page(&serde_json::to_string(&[hostile]).unwrap());
        assert_eq!(page.matches(PICTURES).count(), 1);
        let (_, rest) = page
            .split_once("<script type=\"application/json\" id=\"data\">")
            .unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        assert!(!json.contains('<') && json.contains("{{style}}"), "{json}");
        let back: Vec<String> = serde_json::from_str(json).unwrap();
        assert_eq!(back, [hostile]);
    }

    #[test]
    fn the_page_asks_nobody_and_makes_no_markup_of_text() {
        for (name, text) in [
            ("report.html", PAGE),
            ("report.css", STYLE),
            ("report.js", SCRIPT),
        ] {
            asks_nobody_and_makes_no_markup(name, text);
        }
        assert!(
            !PAGE.contains(" style="),
            "the policy forbids inline styles"
        );
        // Either would end its element early.
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</"));
    }
}
