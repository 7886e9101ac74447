//! What a bundle consists of. The SHA-256 of a manifest's canonical JSON names the bundle; the signature is over that name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    bundle::path::BundlePath,
    digest::{Digest, canonical_of},
    ledger::note::{self, Note, Signer, VerifierKey},
};

/// The format's name, the first thing in every manifest and signature.
const FORMAT: &str = "skerry.bundle/1";
/// Files in a bundle: far beyond a site's workflows and manuals, small enough to check at every start.
pub const FILES_MAX: usize = 10_000;
/// Bytes of a manifest: `FILES_MAX` entries with long paths.
pub const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// Bytes of all files together; a gateway's disk must hold two bundles.
pub const BUNDLE_BYTES_MAX: u64 = 8 << 30;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: BundlePath,
    pub digest: Digest,
    pub bytes: u64,
}

/// A bundle's files, sorted by path, with its name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    name: String,
    version: u64,
    files: Vec<File>,
}

/// Why something is not a bundle, or not the one that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not a manifest: {0}")]
    Json(String),
    #[error("the manifest has the format {0:?}, expected {FORMAT:?}")]
    Format(String),
    #[error("the manifest is not in canonical form: expected sorted keys and no white space")]
    NotCanonical,
    #[error("a bundle's name has 1 to 100 characters and no control character, found {0:?}")]
    Name(String),
    #[error("a bundle's version is 1 or more")]
    Version,
    #[error("the bundle has {0} files; expected 1 to {FILES_MAX}")]
    Count(usize),
    #[error("the bundle has {0} bytes; expected at most {BUNDLE_BYTES_MAX}")]
    Bytes(u64),
    #[error("{0} is in the bundle twice")]
    Twice(BundlePath),
    #[error("{0} is a file and a folder at once")]
    FileAndFolder(String),
    #[error("the files are not sorted by path")]
    Unsorted,
    #[error("the bundle is {found}, expected {expected}")]
    Digest { found: Digest, expected: Digest },
    #[error("the bundle is not signed by the operator: {0}")]
    Signature(#[from] note::Error),
    #[error("the operator's signature is for another bundle")]
    SignedOther,
}

/// A file that is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    #[error("{0} is missing")]
    Missing(BundlePath),
    #[error("{0} is not in the manifest")]
    Extra(String),
    #[error("{path} is not what the manifest says: found {found}, expected {expected}")]
    Changed { path: BundlePath, found: Digest, expected: Digest },
}

impl Manifest {
    /// A manifest of these files.
    ///
    /// # Errors
    /// When a limit is passed or a path is there twice.
    pub fn new(name: &str, version: u64, mut files: Vec<File>) -> Result<Self, Error> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Self { format: FORMAT.to_owned(), name: name.to_owned(), version, files };
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads a manifest from its canonical JSON.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Error::Json(format!("{} bytes, expected at most {MANIFEST_BYTES_MAX}", bytes.len())));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| Error::Json(error.to_string()))?;
        manifest.check()?;
        if manifest.canonical().as_bytes() == bytes { Ok(manifest) } else { Err(Error::NotCanonical) }
    }

    /// Reads the manifest of the bundle `expected`, signed by this key.
    ///
    /// # Errors
    /// When it is another bundle or the signature is missing or wrong.
    pub fn verify(bytes: &[u8], expected: Digest, signature: &Note, key: &VerifierKey) -> Result<Self, Error> {
        let found = Digest::of(bytes);
        if found != expected {
            return Err(Error::Digest { found, expected });
        }
        let manifest = Self::parse(bytes)?;
        if signature.verified_by(key)? == manifest.signed_text() { Ok(manifest) } else { Err(Error::SignedOther) }
    }

    /// This bundle's signature.
    ///
    /// # Errors
    /// Never for a checked manifest: its name holds no control character.
    pub fn sign(&self, signer: &Signer) -> Result<Note, Error> {
        Ok(signer.sign(&self.signed_text())?)
    }

    fn signed_text(&self) -> String {
        format!("{FORMAT}\n{}\nversion {}\n", self.digest(), self.version)
    }

    /// The bytes that the digest is over.
    ///
    /// # Panics
    /// Never: a manifest is plain data.
    #[must_use]
    pub fn canonical(&self) -> String {
        canonical_of(self)
    }

    /// The bundle's digest: its name everywhere.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The files, sorted by path.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// What of a folder's files (path and digest of each) is not what the manifest says; empty when all is right.
    #[must_use]
    pub fn differences(&self, found: &BTreeMap<String, Digest>) -> Vec<Difference> {
        let mut differences = Vec::new();
        for file in &self.files {
            match found.get(file.path.as_str()) {
                None => differences.push(Difference::Missing(file.path.clone())),
                Some(digest) if *digest != file.digest => differences.push(Difference::Changed {
                    path: file.path.clone(),
                    found: *digest,
                    expected: file.digest,
                }),
                Some(_) => {}
            }
        }
        let known = |path: &str| self.files.binary_search_by(|file| file.path.as_str().cmp(path)).is_ok();
        differences.extend(found.keys().filter(|path| !known(path)).cloned().map(Difference::Extra));
        differences
    }

    fn check(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            return Err(Error::Format(self.format.clone()));
        }
        if !(1..=100).contains(&self.name.chars().count()) || self.name.contains(char::is_control) {
            return Err(Error::Name(self.name.clone()));
        }
        if self.version == 0 {
            return Err(Error::Version);
        }
        if !(1..=FILES_MAX).contains(&self.files.len()) {
            return Err(Error::Count(self.files.len()));
        }
        if self.bytes() > BUNDLE_BYTES_MAX {
            return Err(Error::Bytes(self.bytes()));
        }
        for pair in self.files.windows(2) {
            match pair[0].path.cmp(&pair[1].path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(Error::Twice(pair[0].path.clone())),
                std::cmp::Ordering::Greater => return Err(Error::Unsorted),
            }
        }
        let files: std::collections::BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let both = self.files.iter().flat_map(|file| file.path.folders()).find(|folder| files.contains(folder));
        both.map_or(Ok(()), |folder| Err(Error::FileAndFolder(folder.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        let path = path.parse().expect("a safe path");
        File { path, digest: Digest::of(content.as_bytes()), bytes: content.len() as u64 }
    }

    fn manifest(version: u64) -> Manifest {
        let files = vec![file("workflows/b.yaml", "b"), file("feeds.yaml", "a")];
        Manifest::new("plant", version, files).expect("a bundle")
    }

    fn operator() -> Signer {
        Signer::new("operator", &[3; 32]).expect("a name")
    }

    #[test]
    fn a_signed_manifest_verifies_and_any_other_byte_or_key_does_not() {
        let manifest = manifest(4);
        let (bytes, digest) = (manifest.canonical(), manifest.digest());
        let signature = manifest.sign(&operator()).expect("signs");
        let verify = |bytes: &str, expected, signature: &Note, key: &Signer| {
            Manifest::verify(bytes.as_bytes(), expected, signature, key.public())
        };
        assert_eq!(verify(&bytes, digest, &signature, &operator()), Ok(manifest));
        let changed = bytes.replace("feeds", "foods");
        assert!(matches!(verify(&changed, digest, &signature, &operator()), Err(Error::Digest { .. })));
        let other = Digest::of(changed.as_bytes());
        assert_eq!(verify(&changed, other, &signature, &operator()), Err(Error::SignedOther));
        let stranger = Signer::new("operator", &[4; 32]).expect("a name");
        assert!(matches!(verify(&bytes, digest, &signature, &stranger), Err(Error::Signature(_))));
    }

    #[test]
    fn a_manifest_has_one_spelling() {
        let text = manifest(1).canonical();
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest(1)));
        assert_eq!(Manifest::parse(format!("{text} ").as_bytes()), Err(Error::NotCanonical));
        assert!(matches!(Manifest::parse(text.replace("}]", ",\"x\":1}]").as_bytes()), Err(Error::Json(_))));
        assert!(matches!(Manifest::parse(text.replace("feeds.yaml", "../feeds").as_bytes()), Err(Error::Json(_))));
        assert!(matches!(Manifest::parse(text.replace("/1\"", "/2\"").as_bytes()), Err(Error::Format(_))));
    }

    #[test]
    fn a_path_is_there_once_and_no_file_is_a_folder() {
        let new = |paths: &[&str]| Manifest::new("p", 1, paths.iter().map(|path| file(path, "x")).collect());
        assert!(matches!(new(&["a", "a"]), Err(Error::Twice(_))));
        assert!(matches!(new(&["a/b/c", "a/b"]), Err(Error::FileAndFolder(_))));
        assert!(matches!(new(&["a", "a-b", "a/b"]), Err(Error::FileAndFolder(_))));
        assert_eq!(new(&[]), Err(Error::Count(0)));
        assert!(new(&["a-b", "a/b"]).is_ok());
    }

    #[test]
    fn a_folder_is_compared_file_by_file() {
        let found = |pairs: &[(&str, &str)]| {
            let found =
                pairs.iter().map(|(path, content)| ((*path).to_owned(), Digest::of(content.as_bytes()))).collect();
            manifest(1).differences(&found).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(found(&[("feeds.yaml", "a"), ("workflows/b.yaml", "b")]).is_empty());
        let all = found(&[("feeds.yaml", "z"), ("other", "")]);
        assert_eq!(all.len(), 3);
        assert!(all[0].starts_with("feeds.yaml is not what the manifest says"));
        assert_eq!(all[1..], ["workflows/b.yaml is missing", "other is not in the manifest"]);
    }
}
