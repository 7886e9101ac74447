//! Where a run stands: the fold of its records. Applying a record evaluates nothing and decides nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use shared::{id::RunId, label::Label, time::Timestamp, workflow::Workflow};

use super::{
    effect::{Ask, Call, Error},
    record::{Ending, FrameId, Record},
};

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
    pub(super) frames: BTreeMap<FrameId, Frame>,
    pub(super) frames_made: FrameId,
    pub(super) asks_made: u32,
    pub(super) tasks_started: u32,
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

    /// The effects whose outcome is awaited, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = (Ask, &Arc<Call>)> {
        self.tasks().filter_map(|(_, _, task)| match &task.progress {
            Progress::Asked { ask, call } => Some((*ask, call)),
            _ => None,
        })
    }

    /// When `Wake` is due next; `None` when the run waits for no time.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let frames = self.frames.values().flat_map(|frame| [frame.deadline, frame.pause()]);
        frames.chain([self.deadline]).flatten().min()
    }

    /// The reference of an open task: its JSON pointer in the workflow.
    #[must_use]
    pub fn reference(&self, frame: FrameId) -> Option<String> {
        self.frames.get(&frame).map(|frame| frame.definition.clone())
    }

    /// The places of the innermost open tasks: what the run is at.
    pub fn at(&self) -> impl Iterator<Item = &str> {
        let lists = |id: &FrameId| self.frames.values().any(|frame| frame.parent == Some(*id));
        self.tasks().filter(move |(id, ..)| !lists(id)).map(|(_, frame, _)| frame.place.as_str())
    }

    /// Whether work is left that `Continue` would do.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.idle_lists().next().is_some()
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
            Body::Task(task) => Some((*id, frame, task)),
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
        std::iter::successors(Some(id), |id| self.frames[id].parent).map(|id| (id, &self.frames[&id]))
    }

    /// Remembers. Records must come in the order in which they were decided.
    ///
    /// # Panics
    /// When they do not: the journal is not the one of this run.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Started { at, input, label, deadline } => {
                self.phase = Phase::Running;
                self.started_at = *at;
                self.input = Arc::clone(input);
                self.label = label.clone();
                self.deadline = *deadline;
            }
            Record::Ended { ending, output, error, .. } => {
                self.frames.clear();
                self.deadline = None;
                self.phase = Phase::Ended { ending: *ending, output: output.clone(), error: error.clone() };
            }
            Record::Answered { ask, label } => {
                self.label = self.label.join(label);
                if let Some(id) = self.asked_by(*ask) {
                    self.set(id, Progress::Plain);
                }
            }
            Record::ListOpened { .. } => self.open_list(record),
            Record::TaskStarted { .. } => self.start_task(record),
            Record::TaskPrepared { frame, input, deadline } => {
                self.frame_mut(*frame).deadline = *deadline;
                if let Some(input) = input {
                    self.task_mut(*frame).input = Arc::clone(input);
                }
            }
            Record::TaskSkipped { frame, .. } => {
                let (list, index) = (self.list_of(*frame), self.task(*frame).index);
                self.remove(*frame);
                let list = self.list_mut(list);
                list.next = if list.only.is_some() { None } else { Some(index + 1) };
            }
            Record::TaskEnded { frame, output, context, next, .. } => {
                let list = self.list_of(*frame);
                self.remove(*frame);
                let list = self.list_mut(list);
                list.data = Arc::clone(output);
                list.next = *next;
                if let Some(context) = context {
                    self.context = Arc::clone(context);
                }
            }
            Record::TaskFaulted { frame, .. } => {
                let list = self.list_of(*frame);
                self.remove(*frame);
                self.list_mut(list).next = None;
            }
            _ => self.progress(record),
        }
    }

    /// The records that only change what a task is doing.
    fn progress(&mut self, record: &Record) {
        match record {
            Record::Asked { frame, ask, call } => {
                self.asks_made = self.asks_made.max(ask.0 + 1);
                self.set(*frame, Progress::Asked { ask: *ask, call: Arc::clone(call) });
            }
            Record::WaitBegan { frame, until } => self.set(*frame, Progress::Waiting { until: *until }),
            Record::LoopBegan { frame, items } => {
                self.set(*frame, Progress::Looping { items: Arc::clone(items), index: 0 });
            }
            Record::LoopTurned { frame, index: turned } => {
                self.remove_children(*frame);
                if let Progress::Looping { index, .. } = &mut self.task_mut(*frame).progress {
                    *index = *turned;
                }
            }
            Record::TryBegan { frame, attempt, at } => {
                let first_at = match &self.task(*frame).progress {
                    Progress::BackingOff { attempts, .. } => attempts.first_at,
                    _ => *at,
                };
                self.set(*frame, Progress::Trying(Attempts { number: *attempt, first_at }));
            }
            Record::TryFailed { frame, error, retry_at } => {
                self.remove_children(*frame);
                let progress = match (retry_at, &self.task(*frame).progress) {
                    (Some(until), Progress::Trying(attempts)) => {
                        Progress::BackingOff { attempts: *attempts, until: *until }
                    }
                    _ => Progress::Catching { error: error.clone() },
                };
                self.set(*frame, progress);
            }
            Record::ForkBegan { frame, branches } => {
                self.set(*frame, Progress::Forked { branches: vec![Branch::Open; *branches as usize] });
            }
            Record::BranchEnded { frame, branch, output } => {
                self.close_branch(*frame, *branch);
                if let Progress::Forked { branches } = &mut self.task_mut(*frame).progress {
                    branches[*branch as usize] =
                        output.as_ref().map_or(Branch::Failed, |o| Branch::Done(Arc::clone(o)));
                }
            }
            other => unreachable!("{other:?} is applied elsewhere"),
        }
    }

    fn open_list(&mut self, record: &Record) {
        let Record::ListOpened { frame, parent, definition, place, data, only, variables, deadline } = record else {
            unreachable!("only for ListOpened")
        };
        let list = List {
            data: Arc::clone(data),
            next: Some(only.unwrap_or(0)),
            only: *only,
            variables: variables.clone(),
            visits: BTreeMap::new(),
        };
        let (definition, place) = (definition.clone(), place.clone());
        let body = Body::List(list);
        self.add(*frame, Frame { parent: *parent, definition, place, deadline: *deadline, body });
    }

    fn start_task(&mut self, record: &Record) {
        let Record::TaskStarted { frame, list: list_id, index, name, at } = record else {
            unreachable!("only for TaskStarted")
        };
        let (definition, place) = self.way(*list_id, *index, name);
        let list = self.list_mut(*list_id);
        let visit = list.visits.entry(*index).or_insert(0);
        *visit += 1;
        let place = if *visit > 1 { format!("{place}@{}", *visit - 1) } else { place };
        let data = Arc::clone(&list.data);
        self.tasks_started += 1;
        let task = Task {
            name: name.clone(),
            index: *index,
            started_at: *at,
            raw_input: Arc::clone(&data),
            input: data,
            progress: Progress::Plain,
        };
        self.add(*frame, Frame { parent: Some(*list_id), definition, place, deadline: None, body: Body::Task(task) });
    }

    /// The definition and the place of a list's task. A list whose definition is a reusable function holds that alone.
    fn way(&self, list: FrameId, index: u32, name: &str) -> (String, String) {
        let list = &self.frames[&list];
        let name = name.replace('~', "~0").replace('/', "~1");
        let step = format!("{index}/{name}");
        if list.definition == super::definition::FUNCTIONS {
            (format!("{}/{name}", list.definition), list.place.clone())
        } else {
            (format!("{}/{step}", list.definition), format!("{}/{step}", list.place))
        }
    }

    fn add(&mut self, id: FrameId, frame: Frame) {
        self.frames_made = self.frames_made.max(id + 1);
        let before = self.frames.insert(id, frame);
        assert!(before.is_none(), "frame {id} is opened twice");
    }

    fn remove(&mut self, id: FrameId) {
        self.remove_children(id);
        self.frames.remove(&id);
    }

    fn remove_children(&mut self, id: FrameId) {
        let children: Vec<_> = self.frames.iter().filter(|(_, f)| f.parent == Some(id)).map(|(id, _)| *id).collect();
        for child in children {
            self.remove(child);
        }
    }

    fn close_branch(&mut self, fork: FrameId, branch: u32) {
        let of_branch = |frame: &Frame| matches!(&frame.body, Body::List(list) if list.only == Some(branch));
        let list = self.frames.iter().find(|(_, f)| f.parent == Some(fork) && of_branch(f)).map(|(id, _)| *id);
        self.remove(list.expect("an open branch has a list"));
    }

    pub(super) fn asked_by(&self, wanted: Ask) -> Option<FrameId> {
        self.tasks().find_map(|(id, _, task)| match &task.progress {
            Progress::Asked { ask, .. } if *ask == wanted => Some(id),
            _ => None,
        })
    }

    fn set(&mut self, id: FrameId, progress: Progress) {
        self.task_mut(id).progress = progress;
    }

    fn frame_mut(&mut self, id: FrameId) -> &mut Frame {
        self.frames.get_mut(&id).expect("a record names an open frame")
    }

    fn task_mut(&mut self, id: FrameId) -> &mut Task {
        match &mut self.frame_mut(id).body {
            Body::Task(task) => task,
            Body::List(_) => unreachable!("frame {id} is a list"),
        }
    }

    fn list_mut(&mut self, id: FrameId) -> &mut List {
        match &mut self.frame_mut(id).body {
            Body::List(list) => list,
            Body::Task(_) => unreachable!("frame {id} is a task"),
        }
    }
}

impl Frame {
    /// Until when the frame's own task rests.
    pub fn pause(&self) -> Option<Timestamp> {
        match &self.body {
            Body::Task(Task { progress: Progress::Waiting { until } | Progress::BackingOff { until, .. }, .. }) => {
                Some(*until)
            }
            _ => None,
        }
    }
}
