//! The files of bundles, by digest. A blob is on the disk whole and right, or not at all.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use shared::digest::Digest;
use tokio::io::AsyncWriteExt as _;

use super::{Error, invalid};

/// Largest file of a bundle: a chat model that a gateway can run.
pub const BLOB_BYTES_MAX: u64 = 4 << 30;

/// A folder of files that are named by their digests.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { operation: format!("make the folder {}", folder.display()), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        // What an upload left behind when the process was killed.
        for item in std::fs::read_dir(folder).map_err(failed)?.flatten() {
            if item.path().extension().is_some_and(|extension| extension == "part") {
                drop(std::fs::remove_file(item.path()));
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the blob is or would be.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(hex::encode(digest.as_bytes()))
    }

    /// The blob's length in bytes, if it is here.
    pub async fn len(&self, digest: Digest) -> Option<u64> {
        tokio::fs::metadata(self.path(digest)).await.ok().map(|metadata| metadata.len())
    }

    /// The blob's bytes.
    ///
    /// # Errors
    /// When it is not here.
    pub async fn read(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let operation = || format!("read blob {digest}");
        tokio::fs::read(self.path(digest)).await.map_err(|source| Error::Io { operation: operation(), source })
    }

    /// Takes a blob in.
    ///
    /// # Errors
    /// When what came is not what its digest says or is too long; nothing is kept then.
    pub async fn put<E: std::fmt::Display>(
        &self,
        digest: Digest,
        mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), Error> {
        let failed = |source| Error::Io { operation: format!("keep blob {digest}"), source };
        let part = self.folder.join(format!("{}.part", hex::encode(crate::clock::random::<16>())));
        let part = Part(part);
        let mut file = tokio::fs::File::create(&part.0).await.map_err(failed)?;
        let mut hash = Sha256::new();
        let mut len = 0_u64;
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(|error| failed(io::Error::other(error.to_string())))?;
            len += chunk.len() as u64;
            if len > BLOB_BYTES_MAX {
                return Err(invalid("blob-size", format!("a file of a bundle has at most {BLOB_BYTES_MAX} bytes")));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found != digest {
            return Err(invalid("blob-digest", format!("what came is {found}, expected {digest}")));
        }
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&part.0, self.path(digest)).await.map_err(failed)?;
        // The name is on the disk, too, before the upload is answered: what is here is not sent again.
        #[cfg(unix)]
        tokio::fs::File::open(&self.folder).await.map_err(failed)?.sync_all().await.map_err(failed)?;
        Ok(())
    }
}

/// A file that is gone when its upload ends without success.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
