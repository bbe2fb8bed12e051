//! What is stored of one photo that the shadow worked on.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::difference::Difference;
use crate::config::Place;
use crate::engine::tensor::Matte;
use crate::error::{Code, Error, Result};
use crate::experiment::ArmUsed;
use crate::job::{MARKER, ModelUsed};
use crate::model::manifest::Manifest;
use crate::object::{ObjectName, ObjectRef};
use crate::store::NewObject;
use crate::version;

/// The version of the record's format.
const VERSION: u32 = 1;

/// A record, as JSON.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    version: u32,
    /// The worker's version.
    worker: &'static str,
    /// When the shadow was done.
    made: String,
    /// The job.
    pub job_id: &'a str,
    /// Its key, which the cut-out's metadata `cutout-job` has too.
    pub key: &'a str,
    /// The photo with its generation.
    pub source: &'a ObjectRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<&'a str>,
    /// Whose matte the customer got.
    pub primary: &'a ModelUsed,
    /// Whose matte nobody got.
    pub shadow: &'a ModelUsed,
    pub difference: Difference,
    pub seconds: Seconds,
    /// How often the shadow began and gave way to a photo.
    pub interruptions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mattes: Option<Mattes>,
}

/// Where the shadow's time went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Seconds {
    /// From the job's answer to the try that came through.
    pub waited: f64,
    /// Decoding the photo again, and preparing the network's input.
    pub prepare: f64,
    /// The run of the network.
    pub infer: f64,
}

#[derive(Debug, Serialize)]
struct Mattes {
    primary: ObjectName,
    shadow: ObjectName,
}

/// What a record is about.
pub struct About<'a> {
    pub job_id: &'a str,
    pub key: &'a str,
    pub source: &'a ObjectRef,
    pub arm: Option<&'a ArmUsed>,
    pub primary: &'a ModelUsed,
    pub shadow: &'a ModelUsed,
}

/// The folder of a shadow's records inside the place: a later shadow of the same photos has its own.
pub fn folder(shadow: &Manifest) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = shadow
        .name
        .chars()
        .map(|c| if legal(c) { c } else { '_' })
        .collect();
    let digest = &shadow.sha256[..shadow.sha256.len().min(12)];
    format!("{name}-{digest}")
}

/// The longest name that is made in the place: a job's key is 64 hex digits.
pub fn longest(folder: &str) -> String {
    format!("{folder}/{}.primary.png", "0".repeat(64))
}

/// The objects of one photo, the record last: who finds it finds its mattes too.
///
/// Errors: `internal` where a matte cannot be encoded, `config_invalid` for a place that takes no such name.
pub fn objects(
    place: &Place,
    folder: &str,
    about: &About<'_>,
    found: &super::idle::Found,
    interruptions: u32,
) -> Result<Vec<(ObjectName, NewObject)>> {
    let named = |end: &str| place.named(&format!("{folder}/{}.{end}", about.key));
    // No notification about it becomes a job.
    let metadata = BTreeMap::from([
        (MARKER.to_owned(), format!("shadow-{}", about.key)),
        ("cutout-version".to_owned(), version::VERSION.to_owned()),
    ]);
    let object = |content_type, body: Bytes| NewObject {
        body,
        content_type,
        metadata: metadata.clone(),
    };
    let mut objects = Vec::new();
    let mattes = match &found.kept {
        Some((primary, shadow)) => {
            let names = Mattes {
                primary: named("primary.png")?,
                shadow: named("shadow.png")?,
            };
            let png = |file: &Bytes| object("image/png", file.clone());
            objects.push((names.primary.clone(), png(primary)));
            objects.push((names.shadow.clone(), png(shadow)));
            Some(names)
        }
        None => None,
    };
    let record = Record {
        version: VERSION,
        worker: version::VERSION,
        made: jiff::Timestamp::now().to_string(),
        job_id: about.job_id,
        key: about.key,
        source: about.source,
        experiment: about.arm.map(|arm| &*arm.experiment),
        arm: about.arm.map(|arm| &*arm.arm),
        primary: about.primary,
        shadow: about.shadow,
        difference: found.difference,
        seconds: found.seconds,
        interruptions,
        mattes,
    };
    let json = serde_json::to_vec_pretty(&record).map_err(|error| {
        Error::new(Code::Internal, "a shadow's record cannot be written").caused_by(error)
    })?;
    objects.push((named("json")?, object("application/json", json.into())));
    Ok(objects)
}

/// A finished matte as a grey PNG.
pub fn png(matte: &Matte) -> Result<Bytes> {
    let bytes = matte
        .values
        .iter()
        .map(|value| (value * 255.0).round() as u8);
    let picture = image::GrayImage::from_raw(matte.width, matte.height, bytes.collect());
    let picture = picture.ok_or_else(|| Error::new(Code::Internal, "a matte without pixels"))?;
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .map_err(|error| {
            Error::new(Code::Internal, "a matte cannot be encoded as PNG").caused_by(error)
        })?;
    Ok(file.into_inner().into())
}
