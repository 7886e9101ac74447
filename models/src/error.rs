//! What can go wrong with a model, its files or its input.

use std::path::{Path, PathBuf};

/// Why a model could not be loaded or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation, as a verb: `read`, `write`.
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file is not what it should be: cut off, damaged, or of another kind.
    #[error("{}: {message}", path.display())]
    File {
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// The request cannot be served as it stands: an unknown schema keyword, a text that is too long.
    #[error("{message}")]
    Request {
        /// Names the field and what was expected.
        message: String,
    },
    /// The prompt has no place in what the model can hold.
    #[error("{message}")]
    TooLong {
        /// How long it is and what was expected.
        message: String,
    },
    /// The computation came to no end, through no fault of the request: what computed beside it broke down, or a file could not be read.
    #[error("{message}")]
    Broken { message: String },
}

impl Error {
    /// Whether a file is damaged or the disk does not give it: asking again brings nothing else, making the file again may.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Io { doing: "read", .. })
    }

    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::Broken { message: message.into() }
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::Request { message: message.into() }
    }
}
