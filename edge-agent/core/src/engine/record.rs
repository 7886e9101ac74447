//! What is remembered of a run. A run's state is the fold of its records and of nothing else, so the serialised form is
//! a file format: variants and fields may be added (with defaults), never renamed or given another meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{label::Label, time::Timestamp};

use super::effect::{Ask, Call, Error};

/// Names a frame within its run; counted up from 0, never used again.
pub type FrameId = u32;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    Completed,
    Faulted,
    Cancelled,
}

/// One thing that became so. A frame's `definition` is a JSON pointer into the workflow; its `place` is the same way
/// with iterations and repeated visits (`/do/2/each#3/do/0/ask@1`), unique within the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Record {
    /// The run began with this raw input.
    Started {
        at: Timestamp,
        input: Arc<Value>,
        label: Label,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A list of tasks was entered; `only` when just that one of its tasks is meant (a branch).
    ListOpened {
        frame: FrameId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<FrameId>,
        definition: String,
        place: String,
        data: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<u32>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        variables: Vec<(String, Arc<Value>)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A task of a list was entered; its raw input is the list's data.
    TaskStarted { frame: FrameId, list: FrameId, index: u32, name: String, at: Timestamp },
    /// What differs from the default before the task does anything: its transformed input, its deadline.
    TaskPrepared {
        frame: FrameId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The task's `if` was false.
    TaskSkipped { frame: FrameId, at: Timestamp },
    /// The task asks for an effect and waits for its outcome.
    Asked { frame: FrameId, ask: Ask, call: Arc<Call> },
    /// The outcome of an effect is here, and it carries this label.
    Answered { ask: Ask, label: Label },
    /// The task waits for a time.
    WaitBegan { frame: FrameId, until: Timestamp },
    /// The task loops over these items.
    LoopBegan { frame: FrameId, items: Arc<Vec<Value>> },
    /// The loop turned to the item with this index.
    LoopTurned { frame: FrameId, index: u32 },
    /// The tried tasks begin, for the `attempt`-th time counted from 0.
    TryBegan { frame: FrameId, attempt: u32, at: Timestamp },
    /// The tried tasks failed and the catch took the error. `retry_at`: when they are tried again; `None`: not any more.
    TryFailed {
        frame: FrameId,
        error: Error,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
    },
    /// The task runs that many branches at once.
    ForkBegan { frame: FrameId, branches: u32 },
    /// A branch came to its end; `None`: it failed in a race that others may still win.
    BranchEnded {
        frame: FrameId,
        branch: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Arc<Value>>,
    },
    /// The task came to a good end. `output` is transformed; `context` is new if the task exported one; `next` is the
    /// task that the list goes on with, `None` when the list is done.
    TaskEnded {
        frame: FrameId,
        at: Timestamp,
        output: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<u32>,
    },
    /// The task came to a bad end.
    TaskFaulted { frame: FrameId, at: Timestamp, error: Error },
    /// The run is over.
    Ended {
        at: Timestamp,
        ending: Ending,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
}
