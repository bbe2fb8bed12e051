//! Networks that others publish and that are not here yet: where they come from, and what has to
//! be done until they can run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::manifest::{AnySize, InputSpec, Manifest, OutputSpec, Resize, is_file_name, parse_toml};
use crate::error::{Code, Error, Result};

/// Where a network's weights are published, and in which form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// The graph itself: fetched, it runs.
    Onnx {
        /// Where it is.
        url: String,
        /// MD5 of the file, lower-case hex: the only digest its publisher gives.
        md5: String,
    },
    /// A PyTorch checkpoint, which `models/export` makes the graph from.
    Checkpoint {
        /// Where it is.
        url: String,
        /// Its file name.
        file: String,
        /// MD5 of the file, lower-case hex; none where the publisher replaces the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        md5: Option<String>,
    },
}

impl Origin {
    /// Where the file is published.
    pub fn url(&self) -> &str {
        match self {
            Self::Onnx { url, .. } | Self::Checkpoint { url, .. } => url,
        }
    }

    /// The published MD5, lower-case hex.
    pub fn md5(&self) -> Option<&str> {
        match self {
            Self::Onnx { md5, .. } => Some(md5),
            Self::Checkpoint { md5, .. } => md5.as_deref(),
        }
    }
}

/// A manifest without size and SHA-256, which nobody knows before the file is here: its publisher
/// gives an MD5 at most. [`Published::completed`] makes it one that runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What jobs and flags call it.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// File name of the ONNX graph, relative to the models directory.
    pub file: String,
    /// SPDX expression for the weights; `NOASSERTION` where their authors state none.
    pub licence: String,
    /// Where the weights come from.
    pub provenance: String,
    /// Where the file is published.
    pub origin: Origin,
    /// How a photo is brought to the network's size.
    pub resize: Resize,
    /// Other sizes that the graph takes.
    #[serde(default)]
    pub any_size: Option<AnySize>,
    /// The network's input.
    pub input: InputSpec,
    /// The network's output.
    pub output: OutputSpec,
    /// What it was read from, for messages.
    #[serde(skip)]
    pub read_from: String,
}

impl Published {
    /// Parses and checks. `read_from` names it in errors.
    ///
    /// Errors: `model_invalid`, as for [`Manifest::parse`].
    pub fn parse(text: &str, read_from: &str) -> Result<Self> {
        let mut published: Self = parse_toml(text, read_from)?;
        read_from.clone_into(&mut published.read_from);
        published.check()?;
        Ok(published)
    }

    fn check(&self) -> Result<()> {
        // The rest is what any manifest is checked for; the digest is a stand-in.
        self.completed(1, "0".repeat(64)).check()?;
        let is_md5 = |md5: &str| {
            md5.len() == 32 && md5.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let wrong = if !self.origin.md5().is_none_or(is_md5) {
            "origin.md5 must be 32 lower-case hex digits"
        } else if matches!(&self.origin, Origin::Checkpoint { file, .. } if !is_file_name(file)) {
            "origin.file must be a file name without directories"
        } else {
            return Ok(());
        };
        Err(Error::new(
            Code::ModelInvalid,
            format!("the manifest {} is not valid: {wrong}", self.read_from),
        ))
    }

    /// The manifest of the file that is here now. `bytes` is its size, `sha256` lower-case hex.
    pub fn completed(&self, bytes: u64, sha256: String) -> Manifest {
        let from = match &self.origin {
            Origin::Onnx { url, md5 } => format!("; from {url}, md5 {md5}"),
            Origin::Checkpoint { .. } => String::new(),
        };
        Manifest {
            name: self.name.clone(),
            description: self.description.clone(),
            file: self.file.clone(),
            bytes,
            sha256,
            licence: self.licence.clone(),
            provenance: format!("{}{from}", self.provenance),
            resize: self.resize,
            any_size: self.any_size,
            input: self.input.clone(),
            output: self.output.clone(),
            bf16: None,
            read_from: self.read_from.clone(),
        }
    }

    /// The commands that bring it into `models_dir`, as a sentence's end.
    pub fn how_to_get(&self, models_dir: &Path) -> String {
        // A manifest given by its path is fetched by its path.
        let fetch = format!("`cutout model fetch {}`", self.read_from);
        match &self.origin {
            Origin::Onnx { .. } => format!(
                "run {fetch}, which leaves {} and {}.toml in {}",
                self.file,
                self.name,
                models_dir.display()
            ),
            Origin::Checkpoint { file, .. } => format!(
                "run {fetch}, then, in a checkout, `{}` (docs/models.md)",
                self.export_command(&models_dir.join(file), models_dir)
            ),
        }
    }

    /// The command that turns the fetched checkpoint into a graph with its manifest.
    pub fn export_command(&self, checkpoint: &Path, models_dir: &Path) -> String {
        let mode = self.name.strip_prefix("inspyrenet-").unwrap_or(&self.name);
        format!(
            "$(models/export/environment.sh)/bin/python -m models.export --mode {mode} --checkpoint {} --out {} --manifest",
            checkpoint.display(),
            models_dir.join(&self.file).display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::Manifest;

    const BIREFNET: &str = include_str!("../../models/birefnet-general.toml");
    const INSPYRENET: &str = include_str!("../../models/inspyrenet-base.toml");

    #[test]
    fn a_completed_manifest_survives_its_own_text() {
        for text in [BIREFNET, INSPYRENET] {
            let published = Published::parse(text, "x").unwrap();
            let manifest = published.completed(17, "ab".repeat(32));
            let text = toml::to_string(&manifest).unwrap();
            assert_eq!(Manifest::parse(&text, "x").unwrap(), manifest, "{text}");
        }
    }

    #[test]
    fn a_wrong_digest_kind_or_key_of_the_origin_is_named() {
        for (from, to, says) in [
            (
                "kind = \"onnx\"",
                "kind = \"torch\"",
                "expected `onnx` or `checkpoint`",
            ),
            ("md5 = \"7a35", "md5 = \"7A35", "origin.md5"),
            ("url =", "uri =", "uri"),
            ("width = 1024", "width = 0", "above zero"),
        ] {
            let text = BIREFNET.replacen(from, to, 1);
            assert_ne!(text, BIREFNET, "{from}");
            let error = Published::parse(&text, "test.toml").expect_err(to);
            assert!(error.message().contains(says), "{error}");
            assert!(error.message().contains("test.toml"), "{error}");
        }
        let text = INSPYRENET.replacen("file = \"ckpt", "file = \"../ckpt", 1);
        let error = Published::parse(&text, "test.toml").unwrap_err();
        assert!(error.message().contains("origin.file"), "{error}");
    }

    #[test]
    fn the_way_to_a_network_is_a_command_to_copy() {
        let get = |text, name| {
            let published = Published::parse(text, name).unwrap();
            published.how_to_get(Path::new("/srv/models"))
        };
        let how = get(BIREFNET, "birefnet-general");
        assert!(
            how.contains("`cutout model fetch birefnet-general`"),
            "{how}"
        );
        let how = get(INSPYRENET, "inspyrenet-base");
        assert!(
            how.contains("-m models.export --mode base --checkpoint /srv/models/ckpt_base.pth --out /srv/models/inspyrenet-base.onnx --manifest"),
            "{how}"
        );
    }
}
