//! Networks: what is known of them, and where their files are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use manifest::Manifest;

pub mod manifest;

/// The network that is used when nobody says otherwise.
pub const DEFAULT: &str = "isnet-medium";

/// The manifests that are part of the program.
const EMBEDDED: &[(&str, &str)] = &[
    (
        "isnet-medium",
        include_str!("../../models/isnet-medium.toml"),
    ),
    ("isnet-small", include_str!("../../models/isnet-small.toml")),
];

/// Every manifest that is part of the program.
pub fn known() -> Vec<Manifest> {
    EMBEDDED
        .iter()
        .map(|(name, text)| Manifest::parse(text, name).expect("embedded manifests are tested"))
        .collect()
}

/// Finds a manifest: one of the embedded by name, or a file by a path that ends in `.toml`.
pub fn find(name_or_path: &str) -> Result<Manifest> {
    if Path::new(name_or_path)
        .extension()
        .is_some_and(|e| e == "toml")
    {
        let text = std::fs::read_to_string(name_or_path).map_err(|error| {
            Error::new(
                Code::ModelInvalid,
                format!("cannot read the manifest {name_or_path}: {error}"),
            )
        })?;
        return Manifest::parse(&text, name_or_path);
    }
    match EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        Some((name, text)) => Manifest::parse(text, name),
        None if name_or_path.starts_with("inspyrenet-") => Err(Error::new(
            Code::ModelInvalid,
            format!(
                "the weights of {name_or_path} are not here: make them once with models/export (docs/models.md), which leaves {name_or_path}.onnx and {name_or_path}.toml in models/ of the home directory"
            ),
        )),
        None => {
            let names: Vec<_> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            Err(Error::new(
                Code::ModelInvalid,
                format!(
                    "there is no model {name_or_path:?}: use one of {}, or the path of a manifest (.toml)",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// Where the network's file is, and proof that it is the right one.
///
/// Reads the whole file (88 MB for ISNet: about 0.2 s with SHA extensions), so it blocks.
pub fn verify(manifest: &Manifest, models_dir: &Path) -> Result<PathBuf> {
    let path = models_dir.join(&manifest.file);
    let fail = |what: String| Err(Error::new(Code::ModelInvalid, what));
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            return fail(format!(
                "cannot open {}, the file of model {}: {error}; run `make setup`, or point --home (CUTOUT_HOME) to the directory that holds models/{}",
                path.display(),
                manifest.name,
                manifest.file
            ));
        }
    };
    let size = file.metadata().map(|m| m.len()).unwrap_or_default();
    if size != manifest.bytes {
        return fail(format!(
            "{} has {size} bytes, the manifest of {} says {}: the download is broken or another version; delete it and run `make setup`",
            path.display(),
            manifest.name,
            manifest.bytes
        ));
    }
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => digest.update(&chunk[..n]),
            Err(error) => return fail(format!("cannot read {}: {error}", path.display())),
        }
    }
    let found = hex::encode(digest.finalize());
    if found != manifest.sha256 {
        return fail(format!(
            "{} has sha256 {found}, the manifest of {} says {}: delete it and run `make setup`",
            path.display(),
            manifest.name,
            manifest.sha256
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_manifest_is_valid_and_has_its_own_name() {
        for ((name, _), manifest) in EMBEDDED.iter().zip(known()) {
            assert_eq!(manifest.name, *name);
        }
        assert!(find(DEFAULT).is_ok());
    }

    #[test]
    fn an_unknown_model_names_the_known_ones() {
        let error = find("u3net").unwrap_err();
        assert!(error.message().contains("isnet-medium"), "{error}");
    }

    #[test]
    fn a_missing_a_short_and_a_tampered_file_are_three_different_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = find(DEFAULT).unwrap();
        manifest.bytes = 4;
        let missing = verify(&manifest, dir.path()).unwrap_err();
        assert!(missing.message().contains("cannot open"), "{missing}");
        let path = dir.path().join(&manifest.file);
        std::fs::write(&path, b"abc").unwrap();
        let short = verify(&manifest, dir.path()).unwrap_err();
        assert!(short.message().contains("has 3 bytes"), "{short}");
        std::fs::write(&path, b"abcd").unwrap();
        let tampered = verify(&manifest, dir.path()).unwrap_err();
        assert!(
            tampered
                .message()
                .contains("88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"),
            "{tampered}"
        );
        manifest.sha256 = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589".into();
        assert_eq!(verify(&manifest, dir.path()).unwrap(), path);
    }
}
