//! Which photos are compared, and what each is called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::remove;

/// A photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Photo {
    /// Its path below the folder that was named, or its file name.
    pub name: String,
    pub path: PathBuf,
}

impl Photo {
    /// What its matte and its mask are called: the same without the extension.
    pub fn stem(&self) -> String {
        Path::new(&self.name)
            .with_extension("")
            .to_string_lossy()
            .into_owned()
    }
}

/// The photos that are named and those below the folders that are named, in that order. `by_stem`: mattes or
/// masks are found by the name without extension, so that must be of one photo.
pub(super) fn photos(inputs: &[PathBuf], by_stem: bool) -> anyhow::Result<Vec<Photo>> {
    let mut photos = Vec::new();
    let mut known = BTreeMap::new();
    let mut add = |path: PathBuf, name: &Path| {
        let name = name.to_string_lossy().into_owned();
        let photo = Photo { name, path };
        let called = match by_stem {
            true => photo.stem(),
            false => photo.name.clone(),
        };
        if let Some(other) = known.insert(called.clone(), photo.path.clone()) {
            anyhow::bail!(
                "{} and {} would both be called {called}: name the folder that both are in, or leave one out",
                other.display(),
                photo.path.display()
            );
        }
        photos.push(photo);
        Ok(())
    };
    for input in inputs {
        if !input.is_dir() {
            let name = input
                .file_name()
                .with_context(|| format!("{} is not a file", input.display()))?;
            add(input.clone(), Path::new(name))?;
            continue;
        }
        let below = remove::photos(std::slice::from_ref(input));
        for path in below.with_context(|| format!("in {}", input.display()))? {
            let name = path.strip_prefix(input)?.to_owned();
            add(path, &name)?;
        }
    }
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_are_called_by_their_path_below_what_was_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/sub/b.jpg", "in/a.png", "in/a.jpg", "c.jpg"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let inputs = [dir.path().join("c.jpg"), dir.path().join("in")];
        let names: Vec<_> = photos(&inputs, false)
            .unwrap()
            .into_iter()
            .map(|photo| (photo.stem(), photo.name))
            .collect();
        let expected = [
            ("c", "c.jpg"),
            ("a", "a.jpg"),
            ("a", "a.png"),
            ("sub/b", "sub/b.jpg"),
        ];
        assert_eq!(
            names,
            expected.map(|(stem, name)| (stem.into(), name.into()))
        );
        let error = photos(&inputs, true).unwrap_err().to_string();
        assert!(error.contains("would both be called a"), "{error}");
        let twice = [dir.path().join("c.jpg"), dir.path().join("c.jpg")];
        assert!(photos(&twice, false).is_err());
    }
}
