//! Names: objects, places, templates, and what rules make of them.

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;
use std::sync::LazyLock;

use cutout::config::AllowedPlace;
use cutout::destination::Template;
use cutout::job::{Fit, Job, Kind, Padding, Size, Threshold};
use cutout::object::{ObjectName, ObjectRef, RESERVED_DIR};
use cutout::pipeline::admit::Policy;

/// What a text can be parsed as is printed and parsed as the same; a local name stays below its
/// root. Two lines are a template and a source: what the template makes of the source, it
/// recognises as its own.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (first, second) = text.split_once('\n').unwrap_or((text, "2026/11/rex.jpg"));
    if let Some(name) = prints_back::<ObjectName>(first) {
        inside(&name);
    }
    if let Some(object) = prints_back::<ObjectRef>(first) {
        inside(&object.name);
    }
    prints_back::<Kind>(first);
    prints_back::<Size>(first);
    prints_back::<Padding>(first);
    if let Ok(threshold) = first.parse::<Threshold>() {
        assert!((0.0..=1.0).contains(&threshold.get()));
    }
    let _ = first.parse::<Fit>();
    if let Ok(place) = first.parse::<AllowedPlace>() {
        let printed = format!("gs://{}/{}", place.bucket, place.prefix);
        let again: AllowedPlace = printed.parse().expect("what was parsed can be parsed");
        assert_eq!(again, place);
    }
    if let Some(template) = prints_back::<Template>(first) {
        recognises_its_own(&template, second);
    }
}

fn prints_back<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq,
    T::Err: Display,
{
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    match printed.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "{printed:?}"),
        Err(error) => panic!("{text:?} is accepted, {printed:?} is not: {error}"),
    }
    Some(value)
}

/// A local name cannot leave its root, nor enter the store's own folder.
fn inside(name: &ObjectName) {
    assert!(name.key().len() <= 1024);
    if name.bucket().is_some() {
        return;
    }
    let path = Path::new(name.key());
    assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
    assert!(!path.starts_with(RESERVED_DIR), "{path:?}");
    assert!(!name.key().contains(['\\', '\0']), "{path:?}");
}

fn recognises_its_own(template: &Template, source: &str) {
    for source in [source, "rex", "a/b/c.d.e", "gs://perkie/2026/rex.jpg"] {
        let Ok(source) = source.parse::<ObjectName>() else {
            continue;
        };
        for extension in ["png", "webp"] {
            let key = template.render(&source, extension);
            assert!(
                template.may_have_produced(&key),
                "{template} made {key:?} of {source} and does not recognise it"
            );
        }
        let _ = template.may_have_produced(source.key());
    }
}

/// Rules as workers have them: a directory store with inbox and outbox, and Cloud Storage.
pub static RULES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let places = |text: &str| Some(vec![text.parse().expect("a place")]);
    let template = |text: &str| text.parse().expect("a template");
    [
        Policy {
            sources: None,
            destinations: None,
            bucket: None,
            template: template("outbox/{dir}/{stem}.cutout.{ext}"),
            uploads: Some("inbox/".into()),
            overwrite: false,
            model: "isnet-medium".into(),
            others: Vec::new(),
            review: None,
        },
        Policy {
            sources: places("perkie-uploads/2026/"),
            destinations: places("perkie-results"),
            bucket: Some("perkie-results".into()),
            template: template("{dir}/{stem}.cutout.{ext}"),
            uploads: None,
            overwrite: true,
            model: "inspyrenet-base".into(),
            others: Vec::new(),
            review: "gs://perkie-review/rex/".parse().ok(),
        },
    ]
});

/// A job that rules admit reads and writes where they allow it, and never over its own photo.
pub fn kept_by_rules(job: &Job) {
    for rules in &*RULES {
        let Ok(admitted) = rules.admit(job.clone()) else {
            continue;
        };
        assert_ne!(admitted.destination, job.source.name);
        let source = &job.source.name;
        let background = admitted.background.iter().map(|object| &object.name);
        for read in background.chain([source]) {
            inside(read);
            assert!(allowed(&rules.sources, read), "{read} is read");
        }
        inside(&admitted.destination);
        let written = &admitted.destination;
        assert!(
            allowed(&rules.destinations, written),
            "{written} is written"
        );
        if job.destination.is_none() {
            assert!(rules.template.may_have_produced(written.key()));
        }
    }
}

fn allowed(places: &Option<Vec<AllowedPlace>>, name: &ObjectName) -> bool {
    match (places, name.bucket()) {
        (None, bucket) => bucket.is_none(),
        (Some(_), None) => false,
        (Some(places), Some(bucket)) => places
            .iter()
            .any(|place| place.bucket == bucket && name.key().starts_with(&place.prefix)),
    }
}
