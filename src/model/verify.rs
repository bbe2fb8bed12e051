//! Proof that a network's file is the one its manifest describes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use super::registry;
use crate::error::{Code, Error, Result};

/// Where the network's file is, and proof that it is the right one.
///
/// Reads the whole file (88 MB for ISNet: about 0.2 s with SHA extensions), so it blocks.
///
/// Errors: `model_invalid`, each for its own reason: no file, another size, another digest.
pub fn verify(manifest: &Manifest, models_dir: &Path) -> Result<PathBuf> {
    let path = models_dir.join(&manifest.file);
    let remedy = || registry::remedy(manifest, models_dir);
    let fail = |what: String| Err(Error::new(Code::ModelInvalid, what));
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            return fail(format!(
                "cannot open {}, which the manifest {} names: {error}; {}, or point --home (CUTOUT_HOME) to the directory that holds models/{}",
                path.display(),
                manifest.read_from,
                remedy(),
                manifest.file
            ));
        }
    };
    let size = file.metadata().map(|m| m.len()).unwrap_or_default();
    if size != manifest.bytes {
        return fail(format!(
            "{} has {size} bytes, the manifest {} says {}: the download is broken or another version; delete the file and {}",
            path.display(),
            manifest.read_from,
            manifest.bytes,
            remedy()
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
            "{} has sha256 {found}, the manifest {} says {}; delete the file and {}",
            path.display(),
            manifest.read_from,
            manifest.sha256,
            remedy()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::registry::{DEFAULT, find};

    const ABCD: &str = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589";

    #[test]
    fn a_missing_a_short_and_a_tampered_file_are_three_different_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = find(DEFAULT, None).unwrap();
        let missing = verify(&manifest, dir.path()).unwrap_err();
        assert!(missing.message().contains("cannot open"), "{missing}");
        assert!(missing.message().contains("make setup"), "{missing}");
        manifest.bytes = 4;
        let path = dir.path().join(&manifest.file);
        std::fs::write(&path, b"abc").unwrap();
        let short = verify(&manifest, dir.path()).unwrap_err();
        assert!(short.message().contains("has 3 bytes"), "{short}");
        std::fs::write(&path, b"abcd").unwrap();
        let tampered = verify(&manifest, dir.path()).unwrap_err();
        assert!(tampered.message().contains(ABCD), "{tampered}");
        manifest.sha256 = ABCD.into();
        assert_eq!(verify(&manifest, dir.path()).unwrap(), path);
    }

    #[test]
    fn what_to_do_about_a_broken_file_depends_on_where_the_network_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let registry::Network::Published(published) = registry::look_up("u2net").unwrap() else {
            panic!("u2net is published");
        };
        let mut manifest = published.completed(4, ABCD.into());
        let error = verify(&manifest, dir.path()).unwrap_err();
        assert!(
            error.message().contains("cutout model fetch u2net"),
            "{error}"
        );
        "mine".clone_into(&mut manifest.name);
        "here/mine.toml".clone_into(&mut manifest.read_from);
        let error = verify(&manifest, dir.path()).unwrap_err();
        assert!(
            error
                .message()
                .contains("correct the manifest here/mine.toml"),
            "{error}"
        );
    }
}
