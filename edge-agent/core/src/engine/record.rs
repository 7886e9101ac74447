//! What is remembered of a run. A run's state is the fold of its records and of nothing else, so the serialised form is
//! a file format: variants and fields may be added (with defaults), never renamed or given another meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{digest::Digest, id::RunId, label::Label, time::Timestamp, workflow::definition::Then};

use super::{
    agent::{Said, Usage},
    effect::{Ask, Call, Error},
};
use crate::hear::filter::Correlated;

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
    /// The task listens for events. `expected`: for each filter (those of `until` after the others) the values that its
    /// correlations must have.
    ListenBegan {
        frame: FrameId,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        expected: Vec<Correlated>,
    },
    /// An event came that the task listens for; each comes to a run at most once. `item`: what the task reads of it,
    /// `None` when it only ends the listening. `fixes`: the values that those after it must have. `closes`: no more
    /// events are wanted.
    EventTaken {
        frame: FrameId,
        at: Timestamp,
        event: Digest,
        label: Label,
        filter: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Correlated::is_empty")]
        fixes: Correlated,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        closes: bool,
    },
    /// The condition holds that ends the listening.
    ListenClosed { frame: FrameId },
    /// The task turned to the event with this index.
    ItemBegan { frame: FrameId, index: u32 },
    /// The task is done with an event, and this is what it makes of it.
    ItemEnded {
        frame: FrameId,
        output: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<Arc<Value>>,
    },
    /// Tasks before or after the task begin: those of the extension with this number. `output` and `then`: what the task
    /// itself came to, while the tasks after it are performed.
    ExtensionBegan {
        frame: FrameId,
        extension: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Then>,
    },
    /// Nothing stands before the task any more.
    ExtensionsPassed { frame: FrameId },
    /// Somebody wants the run to rest: what is under way comes to its end, and nothing follows.
    Suspended { at: Timestamp },
    /// The run goes on. Deadlines have moved by as long as it rested.
    Resumed { at: Timestamp },
    /// The outcome of an effect came while the run rested.
    Held {
        frame: FrameId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
    /// The run is another one's, up to the task at `from`, and goes on from there. Deadlines have moved by `pause_us`
    /// microseconds.
    Retried { at: Timestamp, of: RunId, from: String, pause_us: i64 },
    /// The task takes messages one by one, and performs tasks for each: these are its arguments, and it takes them until
    /// then.
    SubscribeBegan {
        frame: FrameId,
        with: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Messages came. `last`: what the last of them is known by to whoever has it. `over`: no more will come.
    MessagesTaken {
        frame: FrameId,
        messages: Vec<Arc<Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        over: bool,
    },
    /// The task is done with the message that was next, and made this of it.
    MessageDone {
        frame: FrameId,
        output: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<Arc<Value>>,
    },
    /// The task is an agent's: these are its arguments, and it has until then.
    AgentBegan {
        frame: FrameId,
        at: Timestamp,
        with: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Joins the run's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<Label>,
    },
    /// The agent's model said this: its answer, or which tools it wants called.
    AgentTurned { frame: FrameId, said: Arc<Said> },
    /// What the agent is told of the tool call that was next. `call`: which tool with which arguments.
    ToolAnswered {
        frame: FrameId,
        call: Digest,
        text: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
        /// What the tool itself took of the budget.
        #[serde(default, skip_serializing_if = "Usage::is_none")]
        usage: Usage,
    },
    /// A tool call of the agent's last turn that is not made, as the agent does not go on: `name` is the tool, `why` the
    /// reason.
    ToolDropped { frame: FrameId, name: String, why: String },
    /// The agent is told something that no tool said.
    AgentTold { frame: FrameId, text: String },
    /// Another agent goes on, with what is left of the budget.
    AgentHandedOver {
        frame: FrameId,
        at: Timestamp,
        with: Arc<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Joins the run's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<Label>,
    },
    /// A person with this role is asked to take the case, until then: their answer ends the task.
    AgentAskedPerson {
        frame: FrameId,
        at: Timestamp,
        role: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Joins the run's when they answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<Label>,
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

impl Record {
    /// The task that came to its end by this, a good or a bad one.
    #[must_use]
    pub const fn ended_task(&self) -> Option<FrameId> {
        match self {
            Self::TaskSkipped { frame, .. } | Self::TaskEnded { frame, .. } | Self::TaskFaulted { frame, .. } => {
                Some(*frame)
            }
            _ => None,
        }
    }

    /// The task whose agent acted.
    #[must_use]
    pub const fn agents_task(&self) -> Option<FrameId> {
        match self {
            Self::AgentBegan { frame, .. }
            | Self::AgentTurned { frame, .. }
            | Self::ToolAnswered { frame, .. }
            | Self::ToolDropped { frame, .. }
            | Self::AgentHandedOver { frame, .. }
            | Self::AgentAskedPerson { frame, .. } => Some(*frame),
            _ => None,
        }
    }
}
