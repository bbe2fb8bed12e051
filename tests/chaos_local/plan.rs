//! The jobs of a run, and the ways in which they come to the worker.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cutout::ingress::OutgoingMessage;
use serde_json::json;

use crate::harness::file;
use crate::support::chaos::GOOD;

/// What is wrong with a bad job, the code that it must fail with, and whether it can be an upload.
const BAD: &[(&str, &str, bool)] = &[
    ("text", "unsupported_format", true),
    ("truncated", "image_corrupt", true),
    ("bomb", "image_too_large", true),
    ("missing", "source_not_found", false),
    ("kind", "invalid_job", false),
    ("leaving", "invalid_job", false),
    ("link", "bucket_forbidden", false),
];

/// How a job comes to the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A message on the queue, by the library.
    Published,
    /// The same, by `cutout publish`.
    ByProgram,
    /// A file in the inbox.
    Dropped(Dropping),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dropping {
    Copied,
    RenamedIn,
    Slowly,
}

/// One job of the plan.
pub struct Planned {
    pub id: String,
    pub way: Way,
    /// The code of its failure; `None` for a good one.
    pub fails: Option<&'static str>,
    /// Its message, if it is published.
    pub message: String,
    /// Where its photo lies, relative to the root; for uploads, where it is dropped.
    photo: String,
    /// The photo to drop.
    original: PathBuf,
}

/// 5 % of the jobs are bad. Photos of published jobs are in their places afterwards.
pub fn plan(count: usize, random: &mut fastrand::Rng, root: &Path, outside: &Path) -> Vec<Planned> {
    fs::create_dir_all(root.join("photos")).unwrap();
    (0..count)
        .map(|i| {
            let fault = (i % 20 == 7).then(|| BAD[random.usize(..BAD.len())]);
            job(format!("job-{i:05}"), fault, random, root, outside)
        })
        .collect()
}

fn job(
    id: String,
    fault: Option<(&'static str, &'static str, bool)>,
    random: &mut fastrand::Rng,
    root: &Path,
    outside: &Path,
) -> Planned {
    let images = "tests/fixtures/images";
    let original = match fault {
        Some(("text", ..)) => format!("{images}/text.jpg"),
        Some(("truncated", ..)) => format!("{images}/truncated.jpg"),
        Some(("bomb", ..)) => format!("{images}/bomb-30000x30000.png"),
        _ => GOOD[random.usize(..GOOD.len())].to_owned(),
    };
    let way = match random.u8(..10) {
        0..=3 => Way::Published,
        4..=5 => Way::ByProgram,
        6..=7 => Way::Dropped(Dropping::Copied),
        8 => Way::Dropped(Dropping::RenamedIn),
        _ => Way::Dropped(Dropping::Slowly),
    };
    let way = match fault {
        Some((_, _, false)) => Way::Published,
        _ => way,
    };
    let extension = original.rsplit_once('.').unwrap().1;
    let folder = match way {
        Way::Dropped(_) => "inbox",
        _ => "photos",
    };
    let photo = format!("{folder}/{id}.{extension}");
    let original = file(&original);
    match (way, fault) {
        (Way::Dropped(_), _) | (_, Some(("missing" | "leaving", ..))) => {}
        (_, Some(("link", ..))) => symlink(outside, root.join(&photo)).unwrap(),
        _ => drop(fs::copy(&original, root.join(&photo)).unwrap()),
    }
    let source = match fault {
        Some(("leaving", ..)) => format!("../{photo}"),
        _ => photo.clone(),
    };
    let kind = match fault {
        Some(("kind", ..)) => "hologram",
        _ => ["rgba", "mask", "white"][random.usize(..3)],
    };
    let message = json!({
        "job_id": id,
        "source": source,
        "destination": format!("out/{id}.png"),
        "output": { "kind": kind },
    });
    Planned {
        id,
        way,
        fails: fault.map(|(_, code, _)| code),
        message: message.to_string(),
        photo,
        original,
    }
}

impl Planned {
    /// Where its output goes, relative to the root.
    pub fn output(&self) -> String {
        match self.way {
            Way::Dropped(_) => format!("outbox/{}.cutout.png", self.id),
            _ => format!("out/{}.png", self.id),
        }
    }

    /// Drops an upload. A slow copy goes on while other things happen.
    pub fn upload(&self, root: &Path) -> Option<std::thread::JoinHandle<()>> {
        let target = root.join(&self.photo);
        match self.way {
            Way::Dropped(Dropping::Copied) => drop(fs::copy(&self.original, target).unwrap()),
            Way::Dropped(Dropping::RenamedIn) => {
                let staged = root.join("photos").join(&self.id);
                fs::copy(&self.original, &staged).unwrap();
                fs::rename(staged, target).unwrap();
            }
            Way::Dropped(Dropping::Slowly) => {
                let photo = fs::read(&self.original).unwrap();
                let copy = File::create(target).unwrap();
                return Some(std::thread::spawn(move || trickle(copy, &photo)));
            }
            Way::Published | Way::ByProgram => unreachable!("not an upload"),
        }
        None
    }

    /// The announcement of an upload that is complete, once more.
    pub fn announcement(&self, root: &Path) -> OutgoingMessage {
        let file = fs::metadata(root.join(&self.photo)).unwrap();
        let age = file.modified().unwrap().duration_since(UNIX_EPOCH);
        let generation = age.unwrap().as_nanos().to_string();
        let resource = json!({
            "name": self.photo,
            "generation": generation,
            "size": file.len().to_string(),
            "contentType": "image/jpeg",
        });
        let attributes = [
            ("eventType", "OBJECT_FINALIZE"),
            ("payloadFormat", "JSON_API_V1"),
            ("objectId", &self.photo),
            ("objectGeneration", &generation),
        ];
        OutgoingMessage {
            data: resource.to_string().into(),
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ordering_key: String::new(),
        }
    }
}

/// Copies with pauses, and waits where the disk is full, as people do.
fn trickle(mut copy: File, photo: &[u8]) {
    let mut rest = photo;
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(photo.len().div_ceil(3))];
        match copy.write(part) {
            Ok(written) => rest = &rest[written..],
            Err(e) if e.kind() == ErrorKind::StorageFull => {}
            Err(e) => panic!("{e}"),
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
