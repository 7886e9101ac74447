//! A run as people read it: its tasks in the order in which they began.

mod acts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use serde_json::Value;
use shared::{
    time::Timestamp,
    workflow::draw::{Path, Seen},
};

pub use acts::Act;
use acts::Wanted;

use super::{
    agent::AGENT,
    definition::FUNCTIONS,
    effect::Error,
    record::{FrameId, Record},
};

/// One task that a run entered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// JSON pointer with iterations and repeated visits, unique within the run: `/do/2/each#3/do/0/ask@1`.
    pub place: String,
    /// JSON pointer of the task in its workflow: the place without iterations and visits.
    pub reference: String,
    pub name: String,
    pub status: TaskStatus,
    pub started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The transformed input.
    pub input: Arc<Value>,
    /// The transformed output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Arc<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The function, when the task asked for an effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// What the task's agent did, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    /// Which of the run's records, counted from 0, began it.
    #[serde(skip)]
    pub began_nth: usize,
    /// Which one ended it.
    #[serde(skip)]
    pub ended_nth: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    Running,
    /// For a time, an outcome or a person.
    Waiting,
    Completed,
    Faulted,
    Skipped,
    /// Swept away by a race, an error or the end of the run.
    Cancelled,
}

impl TaskStatus {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.seen().word()
    }

    const fn seen(self) -> Seen {
        match self {
            Self::Running => Seen::Running,
            Self::Waiting => Seen::Waiting,
            Self::Completed => Seen::Completed,
            Self::Faulted => Seen::Faulted,
            Self::Skipped => Seen::Skipped,
            Self::Cancelled => Seen::Cancelled,
        }
    }
}

struct OpenList {
    owner: Option<FrameId>,
    definition: String,
    place: String,
    data: Arc<Value>,
    visits: BTreeMap<u32, u32>,
    /// The reference of the task that it entered last.
    last: Option<String>,
}

/// The tasks of a run, from all its records.
#[must_use]
pub fn tasks<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<TaskView> {
    History::of(records).views
}

/// The path of a run through its workflow, from all its records.
#[must_use]
pub fn path<'a>(records: impl IntoIterator<Item = &'a Record>) -> Path {
    let history = History::of(records);
    let mut path = Path { passages: history.passages, ..Path::default() };
    history.views.iter().for_each(|view| path.visit(&view.reference, view.status.seen()));
    path
}

#[derive(Default)]
struct History {
    lists: BTreeMap<FrameId, OpenList>,
    views: Vec<TaskView>,
    /// From one task of a list to the one that followed it.
    passages: BTreeSet<(String, String)>,
    /// Frame of a task -> its view and its list.
    of: BTreeMap<FrameId, (usize, FrameId)>,
    /// What the agents of tasks want called.
    wanted: BTreeMap<FrameId, Wanted>,
    /// Records that were read before the one that is.
    nth: usize,
}

impl History {
    fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut history = Self::default();
        for record in records {
            history.read(record);
            history.nth += 1;
        }
        history
    }

    fn read(&mut self, record: &Record) {
        match record {
            Record::ListOpened { frame, parent, definition, place, data, .. } => {
                let (definition, place, data) = (definition.clone(), place.clone(), Arc::clone(data));
                let list = OpenList { owner: *parent, definition, place, data, visits: BTreeMap::new(), last: None };
                self.lists.insert(*frame, list);
            }
            Record::TaskStarted { frame, list, index, name, at } => self.start(*frame, *list, *index, name, *at),
            Record::TaskPrepared { frame, input: Some(input), .. } => {
                if let Some(view) = self.view(*frame) {
                    view.input = Arc::clone(input);
                }
            }
            Record::Asked { frame, call, .. } => {
                if let Some(view) = self.view(*frame) {
                    view.function.get_or_insert_with(|| call.function.clone());
                    view.status = TaskStatus::Waiting;
                }
            }
            Record::AgentBegan { frame, .. } => {
                if let Some(view) = self.view(*frame) {
                    view.function = Some(AGENT.to_owned());
                }
            }
            Record::AgentTurned { frame, .. }
            | Record::ToolAnswered { frame, .. }
            | Record::ToolDropped { frame, .. }
            | Record::AgentTold { frame, .. }
            | Record::AgentHandedOver { frame, .. }
            | Record::AgentAskedPerson { frame, .. } => {
                let act = self.wanted.entry(*frame).or_default().act(record);
                if let Some(view) = self.view(*frame) {
                    view.acts.extend(act);
                }
            }
            Record::WaitBegan { frame, .. }
            | Record::ListenBegan { frame, .. }
            | Record::ItemEnded { frame, .. }
            | Record::MessageDone { frame, .. }
            | Record::TryFailed { frame, retry_at: Some(_), .. } => {
                if let Some(view) = self.view(*frame) {
                    view.status = TaskStatus::Waiting;
                }
            }
            Record::TryBegan { frame, .. } | Record::ItemBegan { frame, .. } | Record::MessagesTaken { frame, .. } => {
                if let Some(view) = self.view(*frame) {
                    view.status = TaskStatus::Running;
                }
            }
            Record::TaskSkipped { frame, at } => self.end(*frame, TaskStatus::Skipped, *at, None, None),
            Record::TaskEnded { frame, at, output, .. } => {
                self.end(*frame, TaskStatus::Completed, *at, Some(output), None);
            }
            Record::TaskFaulted { frame, at, error } => self.end(*frame, TaskStatus::Faulted, *at, None, Some(error)),
            Record::Ended { at, .. } => {
                for view in self.views.iter_mut().filter(|view| view.ended_at.is_none()) {
                    view.status = TaskStatus::Cancelled;
                    view.ended_at = Some(*at);
                    view.ended_nth = Some(self.nth);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, frame: FrameId, list_id: FrameId, index: u32, name: &str, at: Timestamp) {
        let Some(list) = self.lists.get_mut(&list_id) else { return };
        let visit = list.visits.entry(index).or_insert(0);
        let again = if *visit > 0 { format!("@{visit}") } else { String::new() };
        *visit += 1;
        let step = name.replace('~', "~0").replace('/', "~1");
        let (reference, place) = if list.definition == FUNCTIONS {
            (format!("{FUNCTIONS}/{step}"), list.place.clone())
        } else {
            (format!("{}/{index}/{step}", list.definition), format!("{}/{index}/{step}{again}", list.place))
        };
        if let Some(last) = list.last.replace(reference.clone()) {
            self.passages.insert((last, reference.clone()));
        }
        self.of.insert(frame, (self.views.len(), list_id));
        self.views.push(TaskView {
            place,
            reference,
            name: name.to_owned(),
            status: TaskStatus::Running,
            started_at: at,
            ended_at: None,
            input: Arc::clone(&list.data),
            output: None,
            error: None,
            function: None,
            acts: Vec::new(),
            began_nth: self.nth,
            ended_nth: None,
        });
    }

    fn end(
        &mut self,
        frame: FrameId,
        status: TaskStatus,
        at: Timestamp,
        output: Option<&Arc<Value>>,
        error: Option<&Error>,
    ) {
        let Some(&(_, list)) = self.of.get(&frame) else { return };
        let nth = self.nth;
        // What the task held and did not come to its own end was swept away with it.
        let swept: Vec<FrameId> = self.of.keys().copied().filter(|id| self.is_within(*id, frame)).collect();
        for id in swept {
            if let Some(view) = self.view(id).filter(|view| view.ended_at.is_none()) {
                view.status = TaskStatus::Cancelled;
                view.ended_at = Some(at);
                view.ended_nth = Some(nth);
            }
            self.of.remove(&id);
        }
        if let Some(view) = self.view(frame) {
            view.status = status;
            view.ended_at = Some(at);
            view.ended_nth = Some(nth);
            view.output = output.cloned();
            view.error = error.cloned();
        }
        if let (Some(list), Some(output)) = (self.lists.get_mut(&list), output) {
            list.data = Arc::clone(output);
        }
        self.of.remove(&frame);
    }

    fn is_within(&self, inner: FrameId, outer: FrameId) -> bool {
        let owner = |task: FrameId| self.of.get(&task).and_then(|(_, list)| self.lists.get(list)?.owner);
        std::iter::successors(owner(inner), |task| owner(*task)).any(|task| task == outer)
    }

    fn view(&mut self, frame: FrameId) -> Option<&mut TaskView> {
        let (index, _) = self.of.get(&frame)?;
        self.views.get_mut(*index)
    }
}
