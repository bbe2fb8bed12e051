//! Whole texts: jobs and manifests.

use std::path::{Component, Path};

use cutout::error::{Code, MAX_MESSAGE_BYTES};
use cutout::job::Job;
use cutout::model::manifest::{Manifest, Resize};
use cutout::object::Generation;
use cutout::pipeline::preprocess::target_size;

use super::names;

/// `Job::parse`: refuses with `invalid_job`, or gives a job that is written and read as the same
/// job, with the same key and id; rules that admit it keep its output where it may be.
pub fn job(data: &[u8]) {
    let claimed = Job::claimed_id(data);
    let job = match Job::parse(data) {
        Ok(job) => job,
        Err(error) => {
            assert_eq!(error.code(), Code::InvalidJob, "{error}");
            assert!(error.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
            return;
        }
    };
    if let (Some(claimed), Some(id)) = (&claimed, &job.job_id) {
        assert_eq!(claimed, id);
    }
    unchanged_by_writing(&job);
    names::kept_by_rules(&job);
}

/// What is written is read as the same job, and known by the same names.
pub fn unchanged_by_writing(job: &Job) {
    let written = serde_json::to_vec(job).expect("a job can be written");
    let again = Job::parse(&written)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(again, *job);
    assert_eq!(again.id(), job.id());
    let key = |job: &Job| job.key(Generation(i64::MAX), "sha256");
    assert_eq!(key(&again), key(job));
}

/// `Manifest::parse`: refuses with `model_invalid`, or gives a manifest that is written and read
/// as the same one, names a file in its own folder, and whose sizes can be computed with.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let manifest = match Manifest::parse(text, "fuzz.toml") {
        Ok(manifest) => manifest,
        Err(error) => return assert_eq!(error.code(), Code::ModelInvalid, "{error}"),
    };
    for name in [&manifest.file, &manifest.name] {
        let mut parts = Path::new(name).components();
        assert!(
            matches!(parts.next(), Some(Component::Normal(_))),
            "{name:?}"
        );
        assert_eq!(parts.next(), None, "{name:?}");
    }
    let written = toml(&manifest);
    assert_eq!(Manifest::parse(&written, "fuzz.toml").unwrap(), manifest);
    for policy in [None, Some("static"), Some("dynamic")] {
        for side in [None, Some(0), Some(512), Some(1024), Some(u32::MAX)] {
            let mut manifest = manifest.clone();
            if manifest.override_resize(policy, side).is_ok() {
                sizes_can_be_computed_with(&manifest);
            }
        }
    }
}

fn toml(manifest: &Manifest) -> String {
    toml::to_string(manifest).expect("a manifest can be written")
}

fn sizes_can_be_computed_with(manifest: &Manifest) {
    let most = manifest.tensor_bytes();
    let photos = [(1, 1), (1, 32_768), (4032, 3024), (7000, 7000)];
    let of_photos = photos.map(|(width, height)| target_size(width, height, &manifest.resize));
    let warm_ups = manifest.warm_up_sizes(true);
    for (width, height) in of_photos.into_iter().chain(warm_ups) {
        assert!(width > 0 && height > 0, "{width}x{height}");
        let Resize::Dynamic { multiple, .. } = manifest.resize else {
            continue;
        };
        assert_eq!((width % multiple, height % multiple), (0, 0));
        // A byte at least for each of the three channels.
        assert!(u64::from(width) * u64::from(height) * 3 <= most);
    }
}
