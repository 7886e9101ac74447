//! Digests of files that were read before, so that a model of gigabytes is not read at every start. A file is read again when
//! its size, its times, its inode or its device differ; the time of its last change of any sort (`ctime`) cannot be set back.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use shared::digest::Digest;

use super::digest_of_file;
use crate::Error;

/// Files that are remembered; beyond it the list begins anew, which costs one reading of each.
const FILES_MAX: usize = 1_000;

/// Remembers digests; clones share what they remember.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where they are kept from one start to the next; `None`: nowhere.
    file: Option<PathBuf>,
    known: Mutex<BTreeMap<PathBuf, Known>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    mark: Mark,
    digest: Digest,
}

/// What tells that a file is the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    size: u64,
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Digests {
    /// What the file remembers from before, and remembers from now on; it should lie where only the agent may write. One
    /// that is missing or cannot be read remembers nothing.
    #[must_use]
    pub fn kept_in(file: PathBuf) -> Self {
        let known = Mutex::new(read(&file));
        Self { inner: Arc::new(Inner { file: Some(file), known }) }
    }

    /// What the file remembers, without remembering more there.
    #[must_use]
    pub fn known_from(file: &Path) -> Self {
        Self { inner: Arc::new(Inner { file: None, known: Mutex::new(read(file)) }) }
    }

    /// The digest of a file, read only if it is not remembered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(&self, path: &Path) -> Result<Digest, Error> {
        let look = || std::fs::metadata(path).map(|found| Mark::of(&found)).map_err(|e| Error::io("read", path, e));
        let mark = look()?;
        if let Some(known) = self.lock().get(path).filter(|known| known.mark == mark) {
            return Ok(known.digest);
        }
        let digest = digest_of_file(path)?;
        // What was written to meanwhile is read again the next time.
        if look()? == mark {
            let mut known = self.lock();
            if known.len() >= FILES_MAX {
                known.clear();
            }
            known.insert(path.to_owned(), Known { mark, digest });
            self.keep(&known);
        }
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Known>> {
        // A map of what was computed is right whatever another thread died of.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeping costs nothing but the next start's time when it fails.
    fn keep(&self, known: &BTreeMap<PathBuf, Known>) {
        let Some(file) = &self.inner.file else { return };
        let draft = file.with_extension("new");
        let text = serde_json::to_string(known).map_err(std::io::Error::other);
        let kept = text.and_then(|text| std::fs::write(&draft, text)).and_then(|()| std::fs::rename(&draft, file));
        if let Err(error) = kept {
            tracing::debug!(%error, file = %file.display(), "digests are not kept for the next start");
        }
    }
}

fn read(file: &Path) -> BTreeMap<PathBuf, Known> {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_until_it_changes_and_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, model) = (folder.path().join("digests.json"), folder.path().join("m.gguf"));
        std::fs::write(&model, b"abc").unwrap();
        let digests = Digests::kept_in(kept.clone());
        assert_eq!(digests.of(&model).unwrap(), Digest::of(b"abc"));

        // A sentinel in the kept file shows that the next start believes it and reads nothing.
        let text = std::fs::read_to_string(&kept).unwrap();
        let sentinel = Digest::of(b"sentinel");
        std::fs::write(&kept, text.replace(&Digest::of(b"abc").to_string(), &sentinel.to_string())).unwrap();
        assert_eq!(Digests::kept_in(kept.clone()).of(&model).unwrap(), sentinel);

        // Same size and the time of the last writing set back: its `ctime` gives it away.
        let before = std::fs::metadata(&model).unwrap().modified().unwrap();
        std::fs::write(&model, b"xyz").unwrap();
        std::fs::File::options().write(true).open(&model).unwrap().set_modified(before).unwrap();
        assert_eq!(Digests::kept_in(kept.clone()).of(&model).unwrap(), Digest::of(b"xyz"));
        assert_eq!(digests.of(&model).unwrap(), Digest::of(b"xyz"));

        std::fs::write(&kept, b"{broken").unwrap();
        assert_eq!(Digests::kept_in(kept).of(&model).unwrap(), Digest::of(b"xyz"));
        assert!(digests.of(&folder.path().join("absent")).is_err());
    }
}
