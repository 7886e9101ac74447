//! What may happen to a run. The only way to change one is to decide about a command.

use std::sync::Arc;

use serde_json::Value;
use shared::{event::Event, label::Label};

use super::effect::{Ask, Error};

/// Something that happened, or that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begin, with this raw input and its label.
    Start { input: Arc<Value>, label: Label },
    /// An effect came to a good end. `label` is that of the output; it joins the run's.
    Complete { ask: Ask, output: Value, label: Label },
    /// An effect came to a bad end.
    ///
    /// `label` is that of what the error quotes; it joins the run's.
    Fail { ask: Ask, error: Error, label: Label },
    /// It is later than it was: end what has waited long enough, interrupt what takes too long. Idempotent.
    Wake,
    /// An event that the run may listen for. Nothing is remembered of one that it does not. Idempotent.
    Hear { event: Arc<Event>, label: Label },
    /// So many events that the run may have listened for could not wait for it: every task that listens fails.
    Miss { events: u64 },
    /// Go on after a step that said `more`. Idempotent.
    Continue,
    /// Somebody wants the run to rest: what it asked for comes to its end, and nothing follows. Idempotent.
    Suspend,
    /// The run goes on where it rested. Idempotent.
    Resume,
    /// Somebody wants the run to stop.
    Cancel,
}

/// Why a command changes nothing. The run stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the run has already begun")]
    AlreadyStarted,
    #[error("the run has not begun")]
    NotStarted,
    #[error("the run has already ended")]
    Ended,
    /// The effect was answered before, or nobody waits for it any more because its branch was cancelled or timed out.
    #[error("nothing waits for the effect {0}")]
    NotAsked(Ask),
}
