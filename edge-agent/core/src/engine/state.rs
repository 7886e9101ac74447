//! Where a run stands: the fold of its records. Applying a record evaluates nothing and decides nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;
use shared::{
    digest::Digest,
    id::RunId,
    label::Label,
    time::Timestamp,
    workflow::{Workflow, definition::Then},
};

use super::{
    agent::Agent,
    effect::{self, Ask, Call, Error},
    record::{Ending, FrameId},
    subscription::Subscription,
};
use crate::hear::{filter::Correlated, gather::Gathered};

/// A run at one moment. Values are shared, so that a copy costs little.
#[derive(Debug, Clone)]
pub struct State {
    pub run: RunId,
    /// The version that the run began with, and keeps.
    pub workflow: Arc<Workflow>,
    pub(super) phase: Phase,
    pub(super) started_at: Timestamp,
    /// The raw input of the workflow.
    pub(super) input: Arc<Value>,
    pub(super) context: Arc<Value>,
    pub(super) label: Label,
    pub(super) deadline: Option<Timestamp>,
    /// Shared between copies of the state: a decision changes few of them.
    pub(super) frames: BTreeMap<FrameId, Arc<Frame>>,
    pub(super) frames_made: FrameId,
    pub(super) asks_made: u32,
    pub(super) tasks_started: u32,
    /// Since when the run rests, if it does.
    pub(super) suspended: Option<Timestamp>,
    /// The events that it had lately.
    pub(super) heard: Arc<VecDeque<Digest>>,
}

/// Whether a run is before, in or past its work.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    New,
    Running,
    Ended { ending: Ending, output: Option<Arc<Value>>, error: Option<Error> },
}

/// One open list or task. A list's parent is the task that opened it (none: it is the workflow's `do`); a task's
/// parent is its list.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub parent: Option<FrameId>,
    pub definition: String,
    pub place: String,
    pub deadline: Option<Timestamp>,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    List(List),
    Task(Task),
}

#[derive(Debug, Clone)]
pub(super) struct List {
    /// The raw input of the next task: the output of the last one.
    pub data: Arc<Value>,
    /// `None`: the list is done.
    pub next: Option<u32>,
    pub only: Option<u32>,
    pub variables: Vec<(String, Arc<Value>)>,
    /// How often each task was entered before, where that was more than never.
    pub visits: BTreeMap<u32, u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub name: String,
    pub index: u32,
    pub started_at: Timestamp,
    pub raw_input: Arc<Value>,
    pub input: Arc<Value>,
    pub progress: Progress,
    /// How far its agent is, if it is one's.
    pub agent: Option<Box<Agent>>,
    /// The messages that it takes one by one, if it does.
    pub subscription: Option<Box<Subscription>>,
}

/// What a task is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Progress {
    /// Nothing of its own: it works within its step, or waits for its one list.
    Plain,
    Asked {
        ask: Ask,
        call: Arc<Call>,
    },
    Waiting {
        until: Timestamp,
    },
    Looping {
        items: Arc<Vec<Value>>,
        index: u32,
    },
    Trying(Attempts),
    BackingOff {
        attempts: Attempts,
        until: Timestamp,
    },
    Catching {
        error: Error,
    },
    Forked {
        branches: Vec<Branch>,
    },
    Listening(Box<Listening>),
    Extending(Extending),
    /// What an extension puts before the task is done.
    Extended,
    /// The outcome of its effect came while the run rested.
    Held(Result<Arc<Value>, Error>),
}

/// What a task that listens has heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listening {
    pub gathered: Gathered,
    pub expected: Arc<Vec<Correlated>>,
    /// What it reads of each event, in the order in which they came.
    pub items: Arc<Vec<Arc<Value>>>,
    /// How many of them it is done with.
    pub done: u32,
    /// Whether it is at the one after these.
    pub is_turning: bool,
    /// What it made of those that it is done with.
    pub outputs: Arc<Vec<Arc<Value>>>,
    /// Roughly the bytes of all of these.
    pub bytes: usize,
}

/// Which extension of a task is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Extending {
    pub extension: u32,
    /// What the task itself came to, and where it goes; `None` before it.
    pub output: Option<Arc<Value>>,
    pub then: Option<Then>,
}

/// How often and since when a task tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Attempts {
    /// 0 for the first.
    pub number: u32,
    pub first_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Branch {
    Open,
    Done(Arc<Value>),
    Failed,
}

impl State {
    /// A run that has not begun.
    #[must_use]
    pub fn new(run: RunId, workflow: Arc<Workflow>) -> Self {
        Self {
            run,
            workflow,
            phase: Phase::New,
            started_at: Timestamp::default(),
            input: Arc::new(Value::Null),
            context: Arc::new(Value::Object(serde_json::Map::new())),
            label: Label::default(),
            deadline: None,
            frames: BTreeMap::new(),
            frames_made: 0,
            asks_made: 0,
            tasks_started: 0,
            suspended: None,
            heard: Arc::default(),
        }
    }

    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The join of the labels of all that flowed in so far.
    #[must_use]
    pub const fn label(&self) -> &Label {
        &self.label
    }

    /// Since when the run rests because somebody wanted it to.
    #[must_use]
    pub const fn suspended(&self) -> Option<Timestamp> {
        self.suspended
    }

    /// The frames of the open tasks.
    #[must_use]
    pub fn open_tasks(&self) -> Vec<FrameId> {
        self.tasks().map(|(id, ..)| id).collect()
    }

    /// What is asked under this number.
    #[must_use]
    pub fn call(&self, ask: Ask) -> Option<&Arc<Call>> {
        self.asked().find(|(known, _)| *known == ask).map(|(_, call)| call)
    }

    /// The effects whose outcome is awaited, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = (Ask, &Arc<Call>)> {
        self.tasks().filter_map(|(_, _, task)| match &task.progress {
            Progress::Asked { ask, call } => Some((*ask, call)),
            _ => None,
        })
    }

    /// What is to be performed under this number, with all that the records do not repeat.
    #[must_use]
    pub fn performed(&self, ask: Ask) -> Option<Arc<Call>> {
        let (frame, call) = self.asked_by(ask).and_then(|frame| Some((frame, self.call(ask)?)))?;
        let call = super::task::whole(self, frame, call);
        // It may have moved since the call was asked for: by as long as the run rested.
        let deadline = self.gives_up_at(frame);
        Some(if call.deadline == deadline { call } else { Arc::new(Call { deadline, ..Call::clone(&call) }) })
    }

    /// When nobody waits any more for what a task asks for: the nearest timeout of it and of all that it stands in.
    pub(super) fn gives_up_at(&self, frame: FrameId) -> Option<Timestamp> {
        let around = self.ancestors(frame).filter_map(|(_, frame)| frame.deadline);
        let agent = self.task(frame).agent.as_ref().and_then(|agent| agent.until);
        around.chain(agent).chain(self.deadline).min()
    }

    /// When `Wake` is due next; `None` when the run waits for no time.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.suspended.is_some() {
            return None;
        }
        let frames = self.frames.values().flat_map(|frame| [frame.deadline, frame.pause()]);
        frames.chain([self.deadline]).flatten().min()
    }

    /// The reference of an open task: its JSON pointer in the workflow.
    #[must_use]
    pub fn reference(&self, frame: FrameId) -> Option<String> {
        self.frames.get(&frame).map(|frame| frame.definition.clone())
    }

    /// Which agent an open task is of.
    #[must_use]
    pub fn agent(&self, frame: FrameId) -> Option<effect::Agent> {
        match &self.frames.get(&frame)?.body {
            Body::Task(task) => task.agent.as_ref().map(|agent| super::agent::identity(&agent.with)),
            Body::List(_) => None,
        }
    }

    /// The tool whose result the agent of an open task waits for.
    #[must_use]
    pub fn agent_wants(&self, frame: FrameId) -> Option<String> {
        match &self.frames.get(&frame)?.body {
            Body::Task(task) => Some(task.agent.as_ref()?.next_call()?.name.clone()),
            Body::List(_) => None,
        }
    }

    /// The places of the innermost open tasks: what the run is at.
    pub fn at(&self) -> impl Iterator<Item = &str> {
        let lists = |id: &FrameId| self.frames.values().any(|frame| frame.parent == Some(*id));
        self.tasks().filter(move |(id, ..)| !lists(id)).map(|(_, frame, _)| frame.place.as_str())
    }

    /// Whether work is left that `Continue` would do.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let has_held = || self.tasks().any(|(.., task)| matches!(task.progress, Progress::Held(_)));
        self.suspended.is_none() && (self.idle_lists().next().is_some() || has_held())
    }

    /// The lists that have no open task: their next one is to be entered, or they are done.
    pub(super) fn idle_lists(&self) -> impl Iterator<Item = FrameId> {
        self.frames
            .iter()
            .filter(|(_, frame)| matches!(frame.body, Body::List(_)))
            .map(|(id, _)| *id)
            .filter(|id| self.frames.values().all(|frame| frame.parent != Some(*id)))
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = (FrameId, &Frame, &Task)> {
        self.frames.iter().filter_map(|(id, frame)| match &frame.body {
            Body::Task(task) => Some((*id, &**frame, task)),
            Body::List(_) => None,
        })
    }

    /// The frame of an open task.
    pub(super) fn task(&self, id: FrameId) -> &Task {
        match &self.frames[&id].body {
            Body::Task(task) => task,
            Body::List(_) => unreachable!("frame {id} is a list"),
        }
    }

    /// The frame of an open list.
    pub(super) fn list(&self, id: FrameId) -> &List {
        match &self.frames[&id].body {
            Body::List(list) => list,
            Body::Task(_) => unreachable!("frame {id} is a task"),
        }
    }

    /// The list that a task stands in.
    pub(super) fn list_of(&self, task: FrameId) -> FrameId {
        self.frames[&task].parent.expect("a task stands in a list")
    }

    /// The frame and those around it, innermost first.
    pub(super) fn ancestors(&self, id: FrameId) -> impl Iterator<Item = (FrameId, &Frame)> {
        std::iter::successors(Some(id), |id| self.frames[id].parent).map(|id| (id, &*self.frames[&id]))
    }

    pub(super) fn asked_by(&self, wanted: Ask) -> Option<FrameId> {
        self.tasks().find_map(|(id, _, task)| match &task.progress {
            Progress::Asked { ask, .. } if *ask == wanted => Some(id),
            _ => None,
        })
    }
}

impl Frame {
    /// Until when the frame's own task rests, or its agent may take.
    pub fn pause(&self) -> Option<Timestamp> {
        match &self.body {
            Body::Task(Task { progress: Progress::Waiting { until } | Progress::BackingOff { until, .. }, .. }) => {
                Some(*until)
            }
            Body::Task(Task { progress: Progress::Asked { .. }, agent: Some(agent), .. }) => agent.until,
            _ => None,
        }
    }
}
