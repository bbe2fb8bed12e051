//! Which file belongs to which: the same name below both folders, whatever the extension.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::report::Failed;
use crate::cli::remove;
use crate::error::Code;

/// A photo or a matte, and its true mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// What both are called, without folder and extension.
    pub name: String,
    pub input: PathBuf,
    pub mask: PathBuf,
}

/// What fits, and what does not.
#[derive(Debug)]
pub(super) struct Matched {
    pub cases: Vec<Case>,
    /// Inputs without a mask, or masks without the matte that was to be measured.
    pub missing: Vec<Failed>,
    /// Masks that nobody asked about.
    pub unused: usize,
}

/// The pictures below a folder, by name.
pub(in crate::cli) struct Index {
    folder: PathBuf,
    files: BTreeMap<String, PathBuf>,
}

impl Index {
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        let mut files = BTreeMap::new();
        for file in remove::photos(&[folder.to_owned()])
            .map_err(|error| error.context(format!("in {}", folder.display())))?
        {
            let name = file.strip_prefix(folder)?.with_extension("");
            let name = name.to_string_lossy().into_owned();
            if let Some(other) = files.insert(name, file.clone()) {
                anyhow::bail!(
                    "{} and {} have the same name: which one is meant?",
                    other.display(),
                    file.display()
                );
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            files,
        })
    }

    /// The picture of this name: its path below the folder, without extension.
    pub fn get(&self, name: &str) -> Option<&Path> {
        self.files.get(name).map(PathBuf::as_path)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// These masks for those photos. Each photo needs its mask; masks of other photos may lie there.
    pub(super) fn photos(&self, photos: &Self) -> Matched {
        let mut matched = Matched {
            cases: Vec::new(),
            missing: Vec::new(),
            unused: self
                .files
                .keys()
                .filter(|name| !photos.files.contains_key(*name))
                .count(),
        };
        for (name, photo) in &photos.files {
            match self.files.get(name) {
                Some(mask) => matched.cases.push(Case {
                    name: name.clone(),
                    input: photo.clone(),
                    mask: mask.clone(),
                }),
                None => matched.missing.push(Failed {
                    name: name.clone(),
                    code: Code::SourceNotFound,
                    message: format!(
                        "{} has no mask: there is no picture {name} in {}",
                        photo.display(),
                        self.folder.display()
                    ),
                }),
            }
        }
        matched
    }

    /// These masks for those mattes. Each mask needs its matte: one that a network failed to make would
    /// flatter it if it were left out.
    pub(super) fn predictions(&self, mattes: &Self) -> Matched {
        let swapped = mattes.photos(self);
        let back = |case: Case| Case {
            name: case.name,
            input: case.mask,
            mask: case.input,
        };
        let missing = swapped.missing.into_iter().map(|failed| Failed {
            message: format!(
                "there is no matte {} in {}",
                failed.name,
                mattes.folder.display()
            ),
            ..failed
        });
        Matched {
            cases: swapped.cases.into_iter().map(back).collect(),
            missing: missing.collect(),
            unused: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> (tempfile::TempDir, anyhow::Result<Index>) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, b"").unwrap();
        }
        let index = Index::of(folder.path());
        (folder, index)
    }

    fn names(cases: &[Case]) -> Vec<&str> {
        cases.iter().map(|case| case.name.as_str()).collect()
    }

    #[test]
    fn a_photo_goes_with_the_mask_of_its_name_in_the_same_place() {
        let (_a, photos) = folder(&["cat.jpg", "sub/dog.JPEG", "sub/fox.jpg", "notes.txt"]);
        let (_b, masks) = folder(&["cat.png", "sub/dog.png", "dog.png", "owl.png"]);
        let (photos, masks) = (photos.unwrap(), masks.unwrap());
        let matched = masks.photos(&photos);
        assert_eq!(names(&matched.cases), ["cat", "sub/dog"]);
        assert!(matched.cases[1].mask.ends_with("sub/dog.png"));
        assert!(matched.cases[1].input.ends_with("sub/dog.JPEG"));
        assert_eq!(matched.missing[0].name, "sub/fox");
        assert!(matched.missing[0].message.contains("fox.jpg"));
        assert_eq!(matched.unused, 2);
    }

    #[test]
    fn a_mask_without_its_matte_is_missed_and_a_matte_without_mask_is_not() {
        let (_a, masks) = folder(&["cat.png", "dog.png"]);
        let (_b, mattes) = folder(&["cat.webp", "owl.png"]);
        let matched = masks.unwrap().predictions(&mattes.unwrap());
        assert_eq!(names(&matched.cases), ["cat"]);
        assert!(matched.cases[0].input.ends_with("cat.webp"));
        assert_eq!(matched.missing.len(), 1);
        assert_eq!(matched.missing[0].name, "dog");
        assert_eq!(matched.unused, 0);
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let (_folder, index) = folder(&["cat.png", "cat.jpg"]);
        let error = index.err().unwrap().to_string();
        assert!(
            error.contains("cat.png") && error.contains("cat.jpg"),
            "{error}"
        );
        assert!(Index::of(Path::new("/no/such/folder")).is_err());
    }
}
