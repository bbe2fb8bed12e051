//! Every network that the program knows, and how one is found by name or path.

use std::path::Path;

use serde::Serialize;

use super::manifest::{AnySize, InputSpec, Manifest, OutputSpec, Resize};
use super::origin::{Origin, Published};
use crate::error::{Code, Error, Result};

/// The network that is used when nobody says otherwise.
pub const DEFAULT: &str = "isnet-medium";

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../models/", $name, ".toml")))),+]
    };
}

/// The manifests that are part of the program, in the order of `cutout model list`.
const EMBEDDED: &[(&str, &str)] = embedded![
    "isnet-medium",
    "isnet-small",
    "inspyrenet-base",
    "inspyrenet-fast",
    "inspyrenet-base-nightly",
    "birefnet-general",
    "birefnet-general-lite",
    "isnet-general-use",
    "u2net",
];

/// A network, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// Size and digest are known: it runs where its file is.
    Runnable(Manifest),
    /// To be fetched, and exported perhaps, before it runs.
    Published(Published),
}

/// Whether a network can run here, and what has to be done if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its file is here (by its size; only `check` and the worker read it all).
    Here,
    /// `make setup` brings it.
    Setup,
    /// `cutout model fetch` brings it.
    Fetch,
    /// `cutout model fetch` brings its checkpoint, `models/export` makes the graph.
    Export,
    /// Given by a manifest's path, whose file is yours to place.
    Missing,
}

impl State {
    /// The word for it, as tables show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Setup => "setup",
            Self::Fetch => "fetch",
            Self::Export => "export",
            Self::Missing => "missing",
        }
    }
}

impl Network {
    /// Parses a manifest of either form: one with an `[origin]` is yet to be fetched.
    ///
    /// Errors: `model_invalid`.
    pub fn parse(text: &str, read_from: &str) -> Result<Self> {
        let published = text
            .parse::<toml::Table>()
            .is_ok_and(|table| table.contains_key("origin"));
        if published {
            Published::parse(text, read_from).map(Self::Published)
        } else {
            // What is no TOML at all is told by the same parser.
            Manifest::parse(text, read_from).map(Self::Runnable)
        }
    }

    /// What jobs and flags call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Runnable(manifest) => &manifest.name,
            Self::Published(published) => &published.name,
        }
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        match self {
            Self::Runnable(manifest) => &manifest.description,
            Self::Published(published) => &published.description,
        }
    }

    /// SPDX expression for the weights.
    pub fn licence(&self) -> &str {
        match self {
            Self::Runnable(manifest) => &manifest.licence,
            Self::Published(published) => &published.licence,
        }
    }

    /// Where the weights come from.
    pub fn provenance(&self) -> &str {
        match self {
            Self::Runnable(manifest) => &manifest.provenance,
            Self::Published(published) => &published.provenance,
        }
    }

    /// File name of the graph.
    pub fn file(&self) -> &str {
        match self {
            Self::Runnable(manifest) => &manifest.file,
            Self::Published(published) => &published.file,
        }
    }

    /// Where it is published, if it is fetched from there.
    pub const fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Runnable(_) => None,
            Self::Published(published) => Some(&published.origin),
        }
    }

    /// How it is fed: resize policy, other sizes, input and output.
    pub const fn treatment(&self) -> (&Resize, Option<AnySize>, &InputSpec, &OutputSpec) {
        match self {
            Self::Runnable(m) => (&m.resize, m.any_size, &m.input, &m.output),
            Self::Published(p) => (&p.resize, p.any_size, &p.input, &p.output),
        }
    }

    /// The manifest by which it would run: the one that lies in `models_dir` under its name if
    /// it is valid, else its own if that is complete.
    pub fn manifest(&self, models_dir: Option<&Path>) -> Option<Manifest> {
        let local = models_dir.and_then(|dir| local(self.name(), dir));
        match (local, self) {
            (Some(Ok(manifest)), _) => Some(manifest),
            (_, Self::Runnable(manifest)) => Some(manifest.clone()),
            (_, Self::Published(_)) => None,
        }
    }

    /// Whether it can run here. Looks at sizes, not at digests.
    pub fn state(&self, models_dir: Option<&Path>) -> State {
        let here = models_dir
            .zip(self.manifest(models_dir))
            .is_some_and(|(dir, manifest)| {
                std::fs::metadata(dir.join(&manifest.file))
                    .is_ok_and(|file| file.len() == manifest.bytes)
            });
        match self {
            _ if here => State::Here,
            Self::Runnable(manifest) if is_known(&manifest.name) => State::Setup,
            Self::Runnable(_) => State::Missing,
            Self::Published(published) => match published.origin {
                Origin::Onnx { .. } => State::Fetch,
                Origin::Checkpoint { .. } => State::Export,
            },
        }
    }
}

/// Every network that the program knows.
pub fn known() -> Vec<Network> {
    EMBEDDED
        .iter()
        .map(|(name, text)| Network::parse(text, name).expect("embedded manifests are tested"))
        .collect()
}

fn is_known(name: &str) -> bool {
    EMBEDDED.iter().any(|(known, _)| *known == name)
}

/// What is known of a network, whether its file is here or not: an embedded manifest by name, or
/// any by a path that ends in `.toml`.
///
/// Errors: `model_invalid` for an unknown name, a file that cannot be read or is no manifest.
pub fn look_up(name_or_path: &str) -> Result<Network> {
    if is_path(name_or_path) {
        return Network::parse(&read(Path::new(name_or_path))?, name_or_path);
    }
    match EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        Some((name, text)) => Network::parse(text, name),
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

/// Finds the manifest to run by: that of a path; the one that lies in `models_dir` under this
/// name, where fetching and exporting leave it; or an embedded one.
///
/// Errors: `model_invalid`. For a network that has to be fetched first it says by which command.
pub fn find(name_or_path: &str, models_dir: Option<&Path>) -> Result<Manifest> {
    if !is_path(name_or_path)
        && let Some(found) = models_dir.and_then(|dir| local(name_or_path, dir))
    {
        return found;
    }
    match look_up(name_or_path)? {
        Network::Runnable(manifest) => Ok(manifest),
        Network::Published(published) => Err(Error::new(
            Code::ModelInvalid,
            format!(
                "the network {} has to be brought here first: {}",
                published.name,
                published.how_to_get(models_dir.unwrap_or(Path::new(".cache/models")))
            ),
        )),
    }
}

/// What brings the file of a network that lacks it or has a broken one, as a sentence's end.
pub(super) fn remedy(manifest: &Manifest, models_dir: &Path) -> String {
    let known = EMBEDDED.iter().find(|(name, _)| *name == manifest.name);
    match known.map(|(name, text)| Network::parse(text, name)) {
        Some(Ok(Network::Published(published))) => published.how_to_get(models_dir),
        // A manifest of the user's own may go by a known name: only the file decides.
        Some(Ok(Network::Runnable(own))) if own.sha256 == manifest.sha256 => {
            "run `make setup`".to_owned()
        }
        _ => format!(
            "put the right file there, or correct the manifest {}",
            manifest.read_from
        ),
    }
}

/// The manifest that lies in the models directory under this name.
fn local(name: &str, models_dir: &Path) -> Option<Result<Manifest>> {
    let path = models_dir.join(format!("{name}.toml"));
    if !path.is_file() {
        return None;
    }
    Some(read(&path).and_then(|text| Manifest::parse(&text, &path.to_string_lossy())))
}

fn is_path(name_or_path: &str) -> bool {
    Path::new(name_or_path)
        .extension()
        .is_some_and(|extension| extension == "toml")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::new(
            Code::ModelInvalid,
            format!("cannot read the manifest {}: {error}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_manifest_is_valid_and_has_its_own_name() {
        for ((name, _), network) in EMBEDDED.iter().zip(known()) {
            assert_eq!(network.name(), *name);
            assert_eq!(network.file(), format!("{name}.onnx"));
            if let Some(origin) = network.origin() {
                assert!(origin.url().starts_with("https://"), "{origin:?}");
            }
        }
        assert!(find(DEFAULT, None).is_ok());
    }

    #[test]
    fn an_unknown_model_names_the_known_ones() {
        let error = find("u3net", None).unwrap_err();
        assert!(error.message().contains("isnet-medium"), "{error}");
        assert!(error.message().contains("birefnet-general"), "{error}");
    }

    #[test]
    fn a_network_that_is_not_here_says_what_brings_it_until_its_manifest_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let models = Some(dir.path());
        for (name, says, state) in [
            ("u2net", "cutout model fetch u2net", State::Fetch),
            (
                "inspyrenet-fast",
                "models.export --mode fast",
                State::Export,
            ),
            ("isnet-small", "", State::Setup),
        ] {
            let network = look_up(name).unwrap();
            assert_eq!(network.state(models), state, "{name}");
            if let Network::Published(published) = network {
                let error = find(name, models).unwrap_err();
                assert_eq!(error.code(), Code::ModelInvalid);
                assert!(error.message().contains(says), "{error}");
                let manifest = published.completed(3, "0".repeat(64));
                let text = toml::to_string(&manifest).unwrap();
                std::fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
                assert_eq!(find(name, models).unwrap().bytes, 3);
                let network = look_up(name).unwrap();
                assert_eq!(network.state(models), state, "the file is still missing");
                std::fs::write(dir.path().join(network.file()), "abc").unwrap();
                assert_eq!(network.state(models), State::Here, "{name}");
            }
        }
    }
}
