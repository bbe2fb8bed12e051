//! The objects that a job writes: which of them are there already, and how each is written once.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Pipeline;
use super::admit::Admitted;
use super::arms::Placed;
use super::encode::Encoded;
use crate::effect::Effect;
use crate::error::{Class, Code, Error, Result};
use crate::job::{MARKER, OutputObject, Quality, Status};
use crate::object::{ObjectName, ObjectRef};
use crate::store::{NewObject, ObjectMeta, Precondition, Written};
use crate::telemetry::attribute::{self, number, text};
use crate::telemetry::labels::Stage;
use crate::telemetry::spent::Spent;
use crate::version::VERSION;

/// Pixels of a written object, so that a duplicate's result can tell them without decoding.
const SIZE_KEY: &str = "cutout-size";

/// Which of a job's outputs an object is: the cut-out's kind, or the effect.
const OUTPUT_KEY: &str = "cutout-output";

/// Whether somebody should look at the picture, for who lists objects.
const VERDICT_KEY: &str = "cutout-verdict";

/// All of it as JSON, so that a duplicate's result can tell it without the network.
pub(crate) const QUALITY_KEY: &str = "cutout-quality";

/// Where the job belongs in an experiment, for who lists objects.
const EXPERIMENT_KEY: &str = "cutout-experiment";

/// Its arm.
const ARM_KEY: &str = "cutout-arm";

/// One object that a job is to write.
pub(super) struct Target {
    /// `None` for the cut-out itself.
    pub effect: Option<Effect>,
    /// Where it goes.
    pub name: ObjectName,
    /// What results call it: the output's kind, or the effect.
    kind: String,
}

impl Target {
    /// The job's effects, and last its cut-out.
    pub fn of(admitted: &Admitted) -> Vec<Self> {
        let effects = admitted.effects.iter().map(|(effect, name)| Self {
            effect: Some(*effect),
            name: name.clone(),
            kind: effect.to_string(),
        });
        let main = Self {
            effect: None,
            name: admitted.destination.clone(),
            kind: admitted.job.output.effective_kind().to_string(),
        };
        effects.chain([main]).collect()
    }

    /// What there is to do, given what the target's place holds.
    pub fn standing(
        &self,
        present: Option<ObjectMeta>,
        key: &str,
        overwrite: bool,
    ) -> Result<Standing> {
        match present {
            None => Ok(Standing::Free(Precondition::Absent)),
            Some(present) if self.is_in(&present, key) => {
                Ok(Standing::Ours(self.describe(&present)))
            }
            Some(present) if overwrite => {
                Ok(Standing::Free(Precondition::Generation(present.generation)))
            }
            Some(_) => Err(occupied(&self.name)),
        }
    }

    /// Whether an object is this very output of this very job.
    fn is_in(&self, present: &ObjectMeta, key: &str) -> bool {
        let says = |name| present.metadata.get(name).map(String::as_str);
        // Objects of former releases do not say which output they are.
        says(MARKER) == Some(key) && says(OUTPUT_KEY).is_none_or(|kind| kind == self.kind)
    }

    /// The same under any of the job's keys, as it has one for each network of an experiment.
    fn is_in_one_of(&self, present: &ObjectMeta, keys: &[String]) -> bool {
        keys.iter().any(|key| self.is_in(present, key))
    }

    /// A former delivery's output, as the store remembers it.
    fn describe(&self, present: &ObjectMeta) -> OutputObject {
        let size = present
            .metadata
            .get(SIZE_KEY)
            .and_then(|text| text.split_once('x'));
        let side = |text: &str| text.parse::<u32>().ok();
        OutputObject {
            kind: self.kind.clone(),
            uri: present.name.clone(),
            generation: present.generation,
            bytes: present.size,
            width: size.and_then(|(width, _)| side(width)),
            height: size.and_then(|(_, height)| side(height)),
            crc32c: present.crc32c.map(base64_crc32c),
        }
    }
}

/// Whether a former delivery under this key has written one of the targets.
pub(super) fn begun_under(targets: &[Target], present: &[Option<ObjectMeta>], key: &str) -> bool {
    let mut pairs = targets.iter().zip(present);
    pairs.any(|(target, present)| {
        present
            .as_ref()
            .is_some_and(|present| target.is_in(present, key))
    })
}

/// What a former delivery's cut-out, the last of the targets, says of its matte.
pub(super) fn recorded_quality(present: &[Option<ObjectMeta>]) -> Option<Quality> {
    let metadata = &present.last()?.as_ref()?.metadata;
    // One that cannot be read was not written by this version; the cut-out is there all the same.
    serde_json::from_str(metadata.get(QUALITY_KEY)?).ok()
}

/// What a target's place holds.
pub(super) enum Standing {
    /// This very job's output, by a former delivery.
    Ours(OutputObject),
    /// Nothing, or what may be replaced.
    Free(Precondition),
}

impl Standing {
    /// The former delivery's output.
    pub fn ours(&self) -> Option<OutputObject> {
        match self {
            Self::Ours(output) => Some(output.clone()),
            Self::Free(_) => None,
        }
    }
}

/// The outputs in the order of results, the cut-out first, if every one of them is there.
pub(super) fn all_ours(standings: &[Standing]) -> Option<Vec<OutputObject>> {
    let mut outputs = standings
        .iter()
        .map(Standing::ours)
        .collect::<Option<Vec<_>>>()?;
    outputs.rotate_right(1);
    Some(outputs)
}

/// For whom something is written.
pub(super) struct Writing<'a> {
    pub admitted: &'a Admitted,
    /// The photo, with its generation.
    pub source: &'a ObjectRef,
    /// The job's key.
    pub key: &'a str,
    /// Its keys on the experiment's other networks.
    pub other_keys: &'a [String],
    /// The network.
    pub placed: &'a Placed,
    /// What its matte is like.
    pub quality: Option<&'a Quality>,
}

/// An object that is durable.
pub(super) struct Outcome {
    pub output: OutputObject,
    /// Whether this delivery wrote it.
    new: bool,
}

impl Outcome {
    /// The job's status, given the one before.
    pub const fn or(&self, before: Status) -> Status {
        if self.new { Status::Done } else { before }
    }
}

impl Pipeline {
    /// What the destination holds, if anything.
    pub(super) async fn present(&self, destination: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.store.find(&destination.clone().into()).await
    }

    /// Writes the copy for review, if there is to be one. Before the cut-out: who finds that finds its copy
    /// too, and a delivery that ends between the two leaves the next one to do the rest.
    ///
    /// It is an output like the others: when it cannot be written the job comes again. A picture that
    /// somebody wanted to see before it is used must not pass unseen because of an outage.
    pub(super) async fn set_aside(
        &self,
        encoded: &Encoded,
        writing: &Writing<'_>,
        spent: &mut Spent,
    ) -> Result<()> {
        let Some(name) = writing.quality.and_then(|quality| quality.copy.clone()) else {
            return Ok(());
        };
        let copy = Target {
            effect: None,
            name,
            kind: "review".to_owned(),
        };
        let written = self.write(&copy, encoded.clone(), Precondition::Absent, writing, spent);
        match written.await {
            // The place is the operator's to mend: the job has done nothing wrong.
            Err(error) if error.class() == Class::Permanent => Err(Error::new(
                Code::StorageUnavailable,
                format!("the copy for review cannot be written to {}", copy.name),
            )
            .caused_by(error)),
            written => written.map(drop),
        }
    }

    /// Writes one object, unless another delivery of the same job was faster.
    pub(super) async fn write(
        &self,
        target: &Target,
        encoded: Encoded,
        precondition: Precondition,
        writing: &Writing<'_>,
        spent: &mut Spent,
    ) -> Result<Outcome> {
        let (bytes, kind) = (encoded.bytes.len() as u64, target.kind.as_str());
        spent.begin(Stage::Upload);
        let outcome = self.put(target, encoded, precondition, writing).await?;
        spent.end(|| vec![text(attribute::KIND, kind), number(attribute::BYTES, bytes)]);
        Ok(outcome)
    }

    async fn put(
        &self,
        target: &Target,
        encoded: Encoded,
        precondition: Precondition,
        writing: &Writing<'_>,
    ) -> Result<Outcome> {
        let crc32c = crc32c::crc32c(&encoded.bytes);
        let (width, height) = (encoded.width, encoded.height);
        let bytes = encoded.bytes.len() as u64;
        let object = NewObject {
            content_type: encoded.content_type,
            metadata: self.marker(target, writing, width, height),
            body: encoded.bytes,
        };
        match self.store.write(&target.name, object, precondition).await? {
            Written::Created(meta) => {
                self.metrics.bytes_out(meta.size);
                let output = OutputObject {
                    kind: target.kind.clone(),
                    uri: target.name.clone(),
                    generation: meta.generation,
                    bytes,
                    width: Some(width),
                    height: Some(height),
                    crc32c: Some(base64_crc32c(crc32c)),
                };
                Ok(Outcome { output, new: true })
            }
            // Somebody was faster: another delivery of this job, or a stranger.
            Written::Conflict => match self.present(&target.name).await? {
                Some(present) if target.is_in(&present, writing.key) => Ok(Outcome {
                    output: target.describe(&present),
                    new: false,
                }),
                // A delivery elsewhere, where the percentages are others: the next one goes on with its network.
                Some(present)
                    if !writing.admitted.overwrite
                        && !target.is_in_one_of(&present, writing.other_keys) =>
                {
                    Err(occupied(&target.name))
                }
                _ => Err(Error::new(
                    Code::OutputRace,
                    format!(
                        "{} changed while the job was worked on; it is tried again",
                        target.name
                    ),
                )),
            },
        }
    }

    /// The metadata by which a later delivery recognises this job's output, and by which upload
    /// notifications of our own outputs are told from a customer's.
    fn marker(
        &self,
        target: &Target,
        writing: &Writing<'_>,
        width: u32,
        height: u32,
    ) -> BTreeMap<String, String> {
        let mut metadata = writing.admitted.job.metadata.clone();
        metadata.extend([
            (MARKER.to_owned(), writing.key.to_owned()),
            ("cutout-version".to_owned(), VERSION.to_owned()),
            (
                "cutout-model".to_owned(),
                writing.placed.engine.info().manifest.name.clone(),
            ),
            ("cutout-source".to_owned(), writing.source.to_string()),
            (OUTPUT_KEY.to_owned(), target.kind.clone()),
            (SIZE_KEY.to_owned(), format!("{width}x{height}")),
        ]);
        if let Some(used) = &writing.placed.arm {
            metadata.extend([
                (EXPERIMENT_KEY.to_owned(), used.experiment.to_string()),
                (ARM_KEY.to_owned(), used.arm.to_string()),
            ]);
        }
        if let Some(quality) = writing.quality {
            let verdict = quality.verdict.map(|verdict| verdict.as_str().to_owned());
            metadata.extend(verdict.map(|verdict| (VERDICT_KEY.to_owned(), verdict)));
            let all = serde_json::to_string(quality).ok();
            metadata.extend(all.map(|all| (QUALITY_KEY.to_owned(), all)));
        }
        metadata
    }
}

fn occupied(destination: &ObjectName) -> Error {
    Error::new(
        Code::DestinationExists,
        format!(
            "{destination} already holds something that this job did not write: choose another destination, delete it, or set `overwrite` to true"
        ),
    )
}

/// Cloud Storage writes CRC-32C as base64 of its big-endian bytes.
fn base64_crc32c(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Generation;

    #[test]
    fn an_output_of_the_job_by_another_network_is_no_strangers() {
        let target = Target {
            effect: None,
            name: "out/rex.png".parse().unwrap(),
            kind: "rgba".to_owned(),
        };
        let present = |key: &str| ObjectMeta {
            name: target.name.clone(),
            generation: Generation(7),
            size: 1,
            content_type: String::new(),
            crc32c: None,
            metadata: [(MARKER.to_owned(), key.to_owned())].into(),
        };
        let others = ["small".to_owned()];
        assert!(target.is_in_one_of(&present("small"), &others));
        assert!(!target.is_in_one_of(&present("stranger"), &others));
        assert!(!target.is_in_one_of(&present("small"), &[]));
    }
}
