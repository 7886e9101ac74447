//! Why a model on this node gave no answer.

use std::{path::PathBuf, time::Duration};

use edge_core::admit::Refused;
use shared::{digest::Digest, ledger::entry::CallEnd};

use super::residents;

/// Why a local model did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Resident(#[from] residents::Error),
    #[error("the model is refused: {} is {found}: expected {expected}; `edge-agent models pull` brings the right one", file.display())]
    Wrong { file: PathBuf, found: Digest, expected: Digest },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the machine has {degrees:.0} degrees, above `temperature_max` under [inference]: models rest")]
    Hot { degrees: f64 },
    #[error("the model cannot answer")]
    Generate(#[source] models::Error),
    #[error("no answer within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("the model's thread has ended: it panicked, see the log")]
    Ended,
}

impl Error {
    /// How the request ended, for the ledger.
    #[must_use]
    pub const fn ended(&self) -> CallEnd {
        match self {
            Self::Timeout { .. } => CallEnd::TimedOut,
            Self::Generate(models::Error::Request { .. } | models::Error::TooLong { .. }) => CallEnd::Refused,
            _ => CallEnd::Failed,
        }
    }

    /// Whether the request never came to a model: then nobody saw it.
    #[must_use]
    pub const fn is_unasked(&self) -> bool {
        self.is_without_room() || matches!(self, Self::Refused(_) | Self::Hot { .. })
    }

    /// Whether the machine has no room for the model.
    #[must_use]
    pub const fn is_without_room(&self) -> bool {
        matches!(self, Self::Resident(residents::Error::NoRoom(_)))
    }

    /// Whether the machine never has room for the model.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::Resident(residents::Error::NoRoom(refusal)) if refusal.is_for_good())
    }

    /// What happened, without a word of what was asked.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Resident(residents::Error::Load(_)) => "cannot load the model".to_owned(),
            Self::Wrong { .. } => "the model is not what its digest says".to_owned(),
            Self::Generate(models::Error::Request { .. }) => "the model does not take this request".to_owned(),
            Self::Generate(models::Error::TooLong { .. }) => "the prompt is too long for the model".to_owned(),
            Self::Generate(_) => "the model cannot answer".to_owned(),
            Self::Timeout { .. } => "no answer in time".to_owned(),
            Self::Ended => "the model's thread has ended".to_owned(),
            told @ (Self::Resident(residents::Error::NoRoom(_)) | Self::Refused(_) | Self::Hot { .. }) => {
                told.to_string()
            }
        }
    }
}
