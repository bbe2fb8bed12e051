//! What a job may touch, and where its output goes: decided before anything is read.

use crate::config::{AllowedPlace, ReviewPlace};
use crate::destination::Template;
use crate::effect::Effect;
use crate::error::{Code, Error, Result};
use crate::job::{Job, Kind, Quality};
use crate::object::{ObjectName, ObjectRef};

/// The rules of one worker.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where photos (and backgrounds) may be read from; `None` for a directory store, which is
    /// its own fence.
    pub sources: Option<Vec<AllowedPlace>>,
    /// Where outputs may be written; `None` for a directory store.
    pub destinations: Option<Vec<AllowedPlace>>,
    /// Bucket of outputs whose job names no destination; `None` for a directory store.
    pub bucket: Option<String>,
    /// Their names.
    pub template: Template,
    /// Prefix of uploads that the template does not see: `inbox/rex/1.jpg` becomes
    /// `outbox/rex/1.cutout.png`. `None` for none.
    pub uploads: Option<String>,
    /// Whether jobs that do not say may replace what their destination holds.
    pub overwrite: bool,
    /// The network that is loaded.
    pub model: String,
    /// Others that are loaded, for who names them.
    pub others: Vec<String>,
    /// Where copies of cut-outs that somebody should look at go. The operator's own place, so it need
    /// not be among `destinations`.
    pub review: Option<ReviewPlace>,
}

/// A job that may be worked on.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The job.
    pub job: Job,
    /// Where its output goes.
    pub destination: ObjectName,
    /// Its effects and where each goes, in the job's order without repetitions.
    pub effects: Vec<(Effect, ObjectName)>,
    /// Whether it may replace what is there.
    pub overwrite: bool,
    /// The picture behind the subject, where the job names one.
    pub background: Option<ObjectRef>,
    /// Where a copy of the cut-out goes if somebody should look at it.
    pub review: Option<ReviewPlace>,
}

impl Admitted {
    /// What the job's results say of its matte, with the place of the copy if there is to be one.
    /// `key` is the job's.
    pub fn with_copy(&self, quality: Quality, key: &str) -> Quality {
        let place = self.review.as_ref().filter(|_| quality.needs_review());
        Quality {
            copy: place.map(|place| place.copy_of(&self.destination, key)),
            ..quality
        }
    }
}

impl Policy {
    /// Checks a job against the rules and fills in what it leaves open.
    pub fn admit(&self, job: Job) -> Result<Admitted> {
        if let Some(model) = &job.model
            && *model != self.model
            && !self.others.contains(model)
        {
            return Err(Error::new(
                Code::ModelUnavailable,
                format!(
                    "the job asks for model {model:?}, and this worker has {:?}: leave `model` out, or send the job to a worker that has it",
                    self.model
                ),
            ));
        }
        allowed(
            &job.source.name,
            self.sources.as_deref(),
            "read from",
            "--source-buckets",
        )?;
        let background = match job.output.effective_kind() {
            Kind::Image(object) => {
                allowed(
                    &object.name,
                    self.sources.as_deref(),
                    "read from",
                    "--source-buckets",
                )?;
                Some(object.clone())
            }
            _ => None,
        };
        // A template's `{stem}` is the photo's; a publisher who names a file means that one's.
        let (destination, stem) = match &job.destination {
            Some(destination) => (destination.clone(), destination.stem()),
            None => {
                let source = self.below_uploads(&job.source.name)?;
                let key = self.template.render(&source, job.output.format.extension());
                let name = match &self.bucket {
                    Some(bucket) => ObjectName::in_bucket(bucket.clone(), key)?,
                    None => ObjectName::local(key)?,
                };
                (name, job.source.name.stem())
            }
        };
        let effects = beside(&destination, stem, &job)?;
        for name in effects.iter().map(|(_, name)| name).chain([&destination]) {
            allowed(
                name,
                self.destinations.as_deref(),
                "write to",
                "--destination-buckets",
            )?;
            if *name == job.source.name {
                return Err(Error::new(
                    Code::InvalidJob,
                    format!("source and destination are both {name}: the photo would be replaced"),
                ));
            }
        }
        Ok(Admitted {
            destination,
            effects,
            overwrite: job.overwrite.unwrap_or(self.overwrite),
            background,
            review: self.review.clone(),
            job,
        })
    }
}

impl Policy {
    /// The source's name as the template sees it.
    fn below_uploads(&self, source: &ObjectName) -> Result<ObjectName> {
        let inside = self
            .uploads
            .as_ref()
            .and_then(|prefix| source.key().strip_prefix(prefix.as_str()));
        match inside {
            Some(key) if !key.is_empty() => source.sibling(key),
            _ => Ok(source.clone()),
        }
    }
}

/// Where the job's effects go: beside the cut-out, as `{stem}.{effect}.png`.
fn beside(destination: &ObjectName, stem: &str, job: &Job) -> Result<Vec<(Effect, ObjectName)>> {
    let (dir, ext) = (destination.dir(), job.output.format.extension());
    let mut effects = Vec::new();
    for effect in Effect::distinct(&job.effects) {
        let file = format!("{stem}.{effect}.{ext}");
        let key = match dir {
            "" => file,
            dir => format!("{dir}/{file}"),
        };
        let name = destination.sibling(key)?;
        if name == *destination {
            return Err(Error::new(
                Code::InvalidJob,
                format!(
                    "the cut-out and its effect {effect} would both be {name}: choose another destination"
                ),
            ));
        }
        effects.push((effect, name));
    }
    Ok(effects)
}

fn allowed(
    name: &ObjectName,
    places: Option<&[AllowedPlace]>,
    what: &str,
    flag: &str,
) -> Result<()> {
    let Some(places) = places else {
        if name.bucket().is_none() {
            return Ok(());
        }
        return Err(Error::new(
            Code::InvalidJob,
            format!(
                "{name}: this worker has a directory store; name the photo by a path relative to its root"
            ),
        ));
    };
    let Some(bucket) = name.bucket() else {
        return Err(Error::new(
            Code::InvalidJob,
            format!("{name}: this worker reads from Cloud Storage; write gs://bucket/object"),
        ));
    };
    if places
        .iter()
        .any(|place| place.bucket == bucket && name.key().starts_with(&place.prefix))
    {
        return Ok(());
    }
    Err(Error::new(
        Code::BucketForbidden,
        format!("this worker may not {what} {name}: add its bucket (or bucket/prefix) to {flag}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            sources: Some(vec![
                "perkie-uploads/2026/".parse().unwrap(),
                "perkie-results".parse().unwrap(),
            ]),
            destinations: Some(vec!["perkie-results".parse().unwrap()]),
            bucket: Some("perkie-results".into()),
            template: "{dir}/{stem}.cutout.{ext}".parse().unwrap(),
            uploads: None,
            overwrite: false,
            model: "isnet-medium".into(),
            others: vec!["isnet-small".into()],
            review: None,
        }
    }

    fn admit(json: &str) -> Result<Admitted> {
        policy().admit(Job::parse(json.as_bytes())?)
    }

    #[test]
    fn a_job_without_destination_gets_one_from_the_template() {
        let admitted = admit(r#"{"source":"gs://perkie-uploads/2026/11/rex.jpg"}"#).unwrap();
        assert_eq!(
            admitted.destination.to_string(),
            "gs://perkie-results/2026/11/rex.cutout.png"
        );
        assert!(!admitted.overwrite);
    }

    #[test]
    fn local_outputs_keep_the_folders_below_the_inbox() {
        let local = Policy {
            sources: None,
            destinations: None,
            bucket: None,
            template: "outbox/{dir}/{stem}.cutout.{ext}".parse().unwrap(),
            uploads: Some("inbox/".into()),
            ..policy()
        };
        for (source, destination) in [
            ("inbox/rex.jpg", "outbox/rex.cutout.png"),
            ("inbox/monday/rex.jpg", "outbox/monday/rex.cutout.png"),
            ("photos/rex.jpg", "outbox/photos/rex.cutout.png"),
        ] {
            let admitted = local.admit(Job::new(source.parse().unwrap())).unwrap();
            assert_eq!(admitted.destination.to_string(), destination);
        }
    }

    #[test]
    fn buckets_and_prefixes_off_the_list_are_forbidden_for_every_object_a_job_names() {
        for json in [
            r#"{"source":"gs://somebody-else/rex.jpg"}"#,
            r#"{"source":"gs://perkie-uploads/2025/rex.jpg"}"#,
            r#"{"source":"gs://perkie-uploads/2026/rex.jpg","destination":"gs://perkie-uploads/2026/rex.png"}"#,
            r#"{"source":"gs://perkie-uploads/2026/rex.jpg","output":{"kind":"image:gs://secrets/x.png"}}"#,
            r##"{"source":"gs://perkie-uploads/2026/rex.jpg","output":{"background":"image:gs://secrets/x.png"}}"##,
        ] {
            assert_eq!(
                admit(json).unwrap_err().code(),
                Code::BucketForbidden,
                "{json}"
            );
        }
    }

    #[test]
    fn a_local_path_in_the_cloud_and_a_bucket_in_a_directory_are_invalid() {
        assert_eq!(
            admit(r#"{"source":"inbox/rex.jpg"}"#).unwrap_err().code(),
            Code::InvalidJob
        );
        let local = Policy {
            sources: None,
            destinations: None,
            bucket: None,
            ..policy()
        };
        let job = Job::new("gs://perkie-uploads/rex.jpg".parse().unwrap());
        assert_eq!(local.admit(job).unwrap_err().code(), Code::InvalidJob);
    }

    #[test]
    fn a_photo_is_never_its_own_destination_and_another_model_is_not_here() {
        let same = r#"{"source":"gs://perkie-results/a.png","destination":"gs://perkie-results/a.png","overwrite":true}"#;
        assert_eq!(admit(same).unwrap_err().code(), Code::InvalidJob);
        let other = r#"{"source":"gs://perkie-results/a.png","model":"u2net"}"#;
        assert_eq!(admit(other).unwrap_err().code(), Code::ModelUnavailable);
        for here in ["isnet-medium", "isnet-small"] {
            let job = format!(r#"{{"source":"gs://perkie-results/a.png","model":"{here}"}}"#);
            assert!(admit(&job).is_ok(), "{here}");
        }
    }
}
