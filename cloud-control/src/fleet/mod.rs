//! Decisions about the fleet. Pure: they take what is known and answer what shall be; `control` fetches and does.

pub mod approval;
pub mod enrollment;
pub mod rollout;

/// A request that is understood and not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub why: Why,
    /// One word for programs.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// The class of a refusal; HTTP has a status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Who asks is not known.
    Stranger,
    /// Who asks may not.
    Forbidden,
    /// What is asked for is not there.
    Absent,
    /// It contradicts what is so already.
    Conflict,
    /// It is not well formed.
    Invalid,
}

impl Refused {
    #[must_use]
    pub fn new(why: Why, code: &'static str, message: impl Into<String>) -> Self {
        Self { why, code, message: message.into() }
    }
}
