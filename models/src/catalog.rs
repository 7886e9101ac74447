//! Known models: which files make one, how large they are, their digests, licences and where to get them. Downloads nothing.

mod digests;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

pub use digests::Digests;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use shared::{
    digest::Digest,
    problem::{Problem, Problems},
};

use crate::Error;

/// The manifests that are compiled in.
const BUILT_IN: &[(&str, &str)] = &[("all-minilm-l6-v2.toml", include_str!("../catalog/all-minilm-l6-v2.toml"))];

/// A model: what it is and the files that make it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What people call it, and the name of its folder.
    pub name: String,
    /// What loads it.
    pub architecture: Architecture,
    pub description: String,
    /// SPDX.
    pub licence: String,
    /// Each file's path is added to this to get it.
    pub url: String,
    pub files: Vec<ModelFile>,
}

/// What loads a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// A sentence embedder: `encoder::load_embedder`.
    Bert,
    /// A chat model in one GGUF file: `generate::load_gguf`.
    Gguf,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Relative to the model's folder, and to its url.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    pub digest: Digest,
}

/// What is wrong with a file on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("{} is missing", path.display())]
    Missing { path: PathBuf },
    #[error("{} has {found} bytes: expected {expected}", path.display())]
    Size { path: PathBuf, found: u64, expected: u64 },
    #[error("{} is {found}: expected {expected}", path.display())]
    Digest { path: PathBuf, found: Digest, expected: Digest },
}

/// Where models come from unless another hub is named.
pub const HUB: &str = "https://huggingface.co";

impl Manifest {
    /// The models that Skerry knows.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        BUILT_IN
            .iter()
            .map(|(file, text)| {
                Self::parse(file, text).expect("a manifest that is compiled in is right; a test reads each")
            })
            .collect()
    }

    /// The same model from another hub, such as a mirror: one that has the same repositories under `hub`, as `https://huggingface.co` has.
    #[must_use]
    pub fn from_hub(mut self, hub: &str) -> Self {
        if let Some(path) = self.url.strip_prefix(HUB) {
            self.url = format!("{}{path}", hub.trim_end_matches('/'));
        }
        self
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Names the line and field of what is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().map(|span| &text[..span.start.min(text.len())]);
            let line = before.and_then(|before| u32::try_from(before.matches('\n').count() + 1).ok());
            problem(file, line, "", error.message())
        })?;
        for (at, entry) in manifest.files.iter().enumerate() {
            let is_inside = entry.path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_inside || entry.path.as_os_str().is_empty() {
                let message = format!("{} leads out of the model's folder", entry.path.display());
                return Err(problem(file, None, &format!("files[{at}].path"), &message));
            }
        }
        if manifest.files.is_empty() {
            return Err(problem(file, None, "files", "a model has at least one file"));
        }
        Ok(manifest)
    }

    /// Where a file is to be had.
    #[must_use]
    pub fn url_of(&self, file: &ModelFile) -> String {
        format!("{}/{}", self.url.trim_end_matches('/'), file.path.display())
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Compares the files in a folder with what they should be; nothing is wrong when the list is empty.
    ///
    /// # Errors
    /// When a file is there but cannot be read.
    pub fn verify(&self, folder: &Path) -> Result<Vec<Flaw>, Error> {
        self.verify_with(folder, &Digests::default())
    }

    /// The same, reading no file again whose digest is remembered.
    ///
    /// # Errors
    /// When a file is there but cannot be read.
    pub fn verify_with(&self, folder: &Path, digests: &Digests) -> Result<Vec<Flaw>, Error> {
        let mut flaws = Vec::new();
        for file in &self.files {
            flaws.extend(file.verify(folder, digests)?);
        }
        Ok(flaws)
    }
}

impl ModelFile {
    /// Compares one file in a folder with what it should be. Reads it only when its size is right.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn verify(&self, folder: &Path, digests: &Digests) -> Result<Option<Flaw>, Error> {
        let (full, path) = (folder.join(&self.path), self.path.clone());
        let found = match std::fs::metadata(&full) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Ok(Some(Flaw::Missing { path })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(Flaw::Missing { path })),
            Err(source) => return Err(Error::io("read", &full, source)),
        };
        if found != self.size {
            return Ok(Some(Flaw::Size { path, found, expected: self.size }));
        }
        let found = digests.of(&full)?;
        Ok((found != self.digest).then_some(Flaw::Digest { path, found, expected: self.digest }))
    }
}

/// The digest of a file of any size, read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_file(path: &Path) -> Result<Digest, Error> {
    let read = || -> std::io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Digest::from_bytes(hash.finalize().into())),
                length => hash.update(&piece[..length]),
            }
        }
    };
    read().map_err(|source| Error::io("read", path, source))
}

fn problem(file: &str, line: Option<u32>, field: &str, message: &str) -> Problems {
    let (file, field, message) = (file.to_owned(), field.to_owned(), message.to_owned());
    Problems(vec![Problem { file, line, column: None, field, message }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
name = "small"
architecture = "gguf"
description = "for the test"
licence = "Apache-2.0"
url = "https://models.example/small/"

[[files]]
path = "a/weights.gguf"
size = 3
digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

    #[test]
    fn every_manifest_that_is_compiled_in_is_right() {
        for manifest in Manifest::built_in() {
            assert!(manifest.url.starts_with("https://") && manifest.size() > 0, "{}", manifest.name);
        }
    }

    #[test]
    fn a_file_that_is_missing_short_or_different_is_named() {
        let manifest = Manifest::parse("small.toml", SMALL).unwrap();
        assert_eq!(manifest.url_of(&manifest.files[0]), "https://models.example/small/a/weights.gguf");
        let folder = tempfile::tempdir().unwrap();
        let check = |content: Option<&[u8]>, expected: &str| {
            if let Some(content) = content {
                std::fs::create_dir_all(folder.path().join("a")).unwrap();
                std::fs::write(folder.path().join("a/weights.gguf"), content).unwrap();
            }
            let flaws = manifest.verify(folder.path()).unwrap();
            let found = flaws.iter().map(ToString::to_string).collect::<String>();
            assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{found}");
        };
        check(None, "a/weights.gguf is missing");
        check(Some(b"ab"), "a/weights.gguf has 2 bytes: expected 3");
        check(Some(b"abd"), "a/weights.gguf is sha256:");
        check(Some(b"abc"), "");
    }

    #[test]
    fn a_wrong_manifest_is_refused_with_its_place() {
        let check = |from: &str, to: &str, expected: &str| {
            let error = Manifest::parse("small.toml", &SMALL.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("size = 3", "size = -3", "small.toml:10: ");
        check("licence", "license", "small.toml:5: unknown field `license`");
        check("a/weights.gguf", "../weights.gguf", "files[0].path: ../weights.gguf leads out of the model's folder");
        check("gguf\"\ndesc", "pickle\"\ndesc", "unknown variant `pickle`, expected `bert` or `gguf`");
    }
}
