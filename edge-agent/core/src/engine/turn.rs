//! One decision: a copy of the state, the records and effects so far, and what is still to do. Every record is applied
//! to the copy at once, so that what is decided next sees it. Nothing here recurses: a loop of a thousand tasks is a
//! thousand rounds of `run`.

use std::sync::Arc;

use serde_json::Value;
use shared::{label::Label, time::Timestamp, workflow::definition::Then};

use super::{
    Effect, Step, definition,
    effect::{Ask, Error, kind},
    extension, flow, limit,
    record::{Ending, FrameId, Record},
    state::{Body, Phase, Progress, State},
    task,
};

/// Tasks that one step may enter. More would make a step's transaction large and its run unfair to the others; the rest
/// follows in the next step.
const TASKS_PER_STEP_MAX: usize = 128;

/// Lists and tasks that one run may open: a loop over nothing enters no task. Like the limit of tasks it is final: a `catch`
/// could only go on with more of them.
const FRAMES_PER_RUN_MAX: u32 = 4 * TASKS_PER_RUN_MAX;

/// Tasks that one run may enter; beyond it, a loop without end is the likely reason. What would `catch` it is not asked.
const TASKS_PER_RUN_MAX: u32 = 100_000;

pub(super) struct Turn {
    pub state: State,
    pub now: Timestamp,
    records: Vec<Record>,
    references: Vec<Option<String>>,
    effects: Vec<Effect>,
    todo: Vec<Todo>,
    entered: usize,
}

/// What follows from what was just recorded.
enum Todo {
    /// Enter the list's next task, or close the list.
    Advance(FrameId),
    /// The task has this raw output; go where `then` says, or where the task itself says.
    End {
        task: FrameId,
        output: Arc<Value>,
        then: Option<Then>,
    },
    Fail {
        task: FrameId,
        error: Error,
    },
}

/// A list to open.
pub(super) struct Opening {
    pub parent: Option<FrameId>,
    pub definition: String,
    pub place: String,
    pub data: Arc<Value>,
    pub variables: Vec<(String, Arc<Value>)>,
    pub only: Option<u32>,
    pub deadline: Option<Timestamp>,
}

impl Opening {
    /// The list that lies under `step` in this task.
    pub fn within(turn: &Turn, task: FrameId, step: &str, data: Arc<Value>) -> Self {
        let frame = &turn.state.frames[&task];
        let (definition, place) = (format!("{}/{step}", frame.definition), format!("{}/{step}", frame.place));
        Self { parent: Some(task), definition, place, data, variables: Vec::new(), only: None, deadline: None }
    }
}

impl Turn {
    pub fn new(state: State, now: Timestamp) -> Self {
        let (records, references) = (Vec::new(), Vec::new());
        Self { state, now, records, references, effects: Vec::new(), todo: Vec::new(), entered: 0 }
    }

    pub fn step(mut self, before: &State) -> Step {
        // An effect whose task is gone without an answer: nobody waits for it any more.
        let gone = before.asked().filter(|(ask, _)| self.state.asked_by(*ask).is_none());
        let answered =
            |ask: Ask| self.records.iter().any(|r| matches!(r, Record::Answered { ask: a, .. } if *a == ask));
        let withdrawn: Vec<_> = gone.map(|(ask, _)| ask).filter(|ask| !answered(*ask)).collect();
        // One that was asked and cancelled within this very step must not be performed at all.
        let state = &self.state;
        self.effects.retain(|effect| match effect {
            Effect::Call { ask, .. } => state.asked_by(*ask).is_some(),
            Effect::Emit { .. } | Effect::Withdraw { .. } => true,
        });
        self.effects.extend(withdrawn.into_iter().map(|ask| Effect::Withdraw { ask }));
        let Self { records, references, effects, .. } = self;
        Step { more: self.state.has_more(), records, references, effects, after: self.state }
    }

    pub fn record(&mut self, record: Record) {
        // Known as long as the task's frame is open.
        self.references.push(record.ended_task().and_then(|frame| self.state.reference(frame)));
        self.state.apply(&record);
        self.records.push(record);
    }

    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn next_frame(&self) -> FrameId {
        self.state.frames_made
    }

    pub fn next_ask(&self) -> Ask {
        Ask(self.state.asks_made)
    }

    pub fn advance(&mut self, list: FrameId) {
        self.todo.push(Todo::Advance(list));
    }

    pub fn end(&mut self, task: FrameId, output: Arc<Value>, then: Option<Then>) {
        self.todo.push(Todo::End { task, output, then });
    }

    pub fn fail(&mut self, task: FrameId, error: Error) {
        self.todo.push(Todo::Fail { task, error });
    }

    /// Does what follows, until nothing does or the step is full.
    pub fn run(&mut self) {
        let mut put_off = Vec::new();
        while let Some(todo) = self.todo.pop() {
            // What a finished race or a raised error has swept away has nothing left to do.
            let (Todo::Advance(id) | Todo::End { task: id, .. } | Todo::Fail { task: id, .. }) = &todo;
            if !self.state.frames.contains_key(id) {
                continue;
            }
            match todo {
                Todo::Advance(list) if self.entered < TASKS_PER_STEP_MAX => self.enter_next(list),
                Todo::Advance(list) => put_off.push(list),
                Todo::End { task, output, then } => {
                    let ended = extension::end(self, task, &output, then.clone())
                        .and_then(|extended| if extended { Ok(()) } else { flow::complete(self, task, &output, then) });
                    if let Err(error) = ended {
                        self.fail(task, error);
                    }
                }
                Todo::Fail { task, error } => self.fault(task, error),
            }
        }
    }

    /// Whether the step may enter more tasks.
    pub fn is_full(&self) -> bool {
        self.entered >= TASKS_PER_STEP_MAX
    }

    fn enter_next(&mut self, list: FrameId) {
        if self.state.frames_made >= FRAMES_PER_RUN_MAX {
            return self.outgrown(list, &format!("opened {FRAMES_PER_RUN_MAX} lists and tasks"));
        }
        let frame = &self.state.frames[&list];
        let open = self.state.list(list);
        let workflow = Arc::clone(&self.state.workflow);
        let (index, name) = if frame.definition == definition::FUNCTIONS {
            let name = frame.place.rsplit('/').next().unwrap_or_default();
            (open.next, Some(definition::unescape(name)))
        } else {
            match definition::list(workflow.definition(), &frame.definition) {
                Ok(tasks) => (open.next, open.next.and_then(|i| tasks.get(i as usize)).map(|item| item.name.clone())),
                Err(error) => return self.end_run(Ending::Faulted, None, Some(error)),
            }
        };
        let (Some(index), Some(name)) = (index, name) else {
            // Turning to the end of a list takes its part of the step too.
            self.entered += 1;
            let data = Arc::clone(&open.data);
            return task::list_done(self, list, data);
        };
        if self.state.tasks_started >= TASKS_PER_RUN_MAX {
            return self.outgrown(list, &format!("entered {TASKS_PER_RUN_MAX} tasks"));
        }
        self.entered += 1;
        let frame = self.next_frame();
        self.record(Record::TaskStarted { frame, list, index, name, at: self.now });
        let started =
            flow::prepare(self, frame).and_then(|run| if run { extension::start(self, frame) } else { Ok(()) });
        if let Err(error) = started {
            self.fail(frame, error);
        }
    }

    /// The run ends in this list: it has done as much as any run may, and no `catch` takes that.
    fn outgrown(&mut self, list: FrameId, done: &str) {
        let detail = format!("the run has {done}, the most that one run may; no `catch` takes this");
        // Of a list the task that holds it is meant; of the workflow's own there is none.
        let frame = &self.state.frames[&list];
        let holder = frame.parent.map_or(frame, |parent| &self.state.frames[&parent]);
        let error = Error { instance: Some(holder.definition.clone()), ..Error::new(kind::LIMIT, detail) };
        self.end_run(Ending::Faulted, None, Some(error));
    }

    /// The task failed: so does what it stands in, unless that takes the error.
    fn fault(&mut self, task: FrameId, mut error: Error) {
        let frame = &self.state.frames[&task];
        error.instance.get_or_insert_with(|| frame.definition.clone());
        let list = self.state.list_of(task);
        self.record(Record::TaskFaulted { frame: task, at: self.now, error: error.clone() });
        self.fault_list(list, error);
    }

    /// A list failed as a whole.
    pub fn fault_list(&mut self, list: FrameId, error: Error) {
        match self.state.frames[&list].parent {
            None => self.end_run(Ending::Faulted, None, Some(error)),
            Some(owner) => task::list_failed(self, owner, list, error),
        }
    }

    /// The run ends well with this raw output.
    pub fn finish(&mut self, output: &Arc<Value>) {
        match flow::workflow_output(&self.state, output) {
            Ok(output) => self.end_run(Ending::Completed, Some(output), None),
            Err(error) => self.end_run(Ending::Faulted, None, Some(error)),
        }
    }

    pub fn end_run(&mut self, ending: Ending, output: Option<Arc<Value>>, error: Option<Error>) {
        self.todo.clear();
        self.record(Record::Ended { at: self.now, ending, output, error });
    }

    /// The first record, and the workflow's own list.
    pub fn begin(&mut self, input: Arc<Value>, label: Label) {
        let before = flow::workflow_input(&self.state, &input, self.now);
        let (data, deadline) = match &before {
            Ok((data, deadline)) => (Arc::clone(data), *deadline),
            Err(_) => (Arc::new(Value::Null), None),
        };
        let kept = if limit::fits(&input) { input } else { Arc::new(Value::Null) };
        self.record(Record::Started { at: self.now, input: kept, label, deadline });
        if let Err(error) = before {
            return self.end_run(Ending::Faulted, None, Some(error));
        }
        let (parent, only, deadline) = (None, None, None);
        let (definition, place) = ("/do".to_owned(), "/do".to_owned());
        self.open(Opening { parent, definition, place, data, variables: Vec::new(), only, deadline });
    }

    /// Opens a list of tasks, and enters its first one when the step comes to it.
    pub fn open(&mut self, opening: Opening) {
        let list = self.open_later(opening);
        self.advance(list);
    }

    /// Opens a list; `advance` is up to the caller.
    pub fn open_later(&mut self, opening: Opening) -> FrameId {
        let Opening { parent, definition, place, data, variables, only, deadline } = opening;
        let frame = self.next_frame();
        self.record(Record::ListOpened { frame, parent, definition, place, data, only, variables, deadline });
        frame
    }

    /// Ends what has waited long enough, earliest first; a rest ends before a deadline of the same instant strikes.
    pub fn wake(&mut self) {
        while !self.is_full() && self.state.phase == Phase::Running {
            let Some(due) = self.due() else { break };
            match due {
                Due::Run => {
                    let error = Error::new(kind::TIMEOUT, "the workflow took longer than its timeout allows");
                    self.end_run(Ending::Faulted, None, Some(Error { instance: Some("/timeout".to_owned()), ..error }));
                }
                Due::Rested(id) => task::rested(self, id),
                Due::Late(id) => {
                    let definition = self.state.frames[&id].definition.clone();
                    let mut error =
                        Error::new(kind::TIMEOUT, format!("{definition} took longer than its timeout allows"));
                    match self.state.frames[&id].body {
                        Body::Task(_) => self.fail(id, error),
                        Body::List(_) => {
                            error.instance = Some(definition);
                            self.fault_list(id, error);
                        }
                    }
                }
            }
            self.run();
        }
    }

    fn due(&self) -> Option<Due> {
        let mut due: Vec<_> = self.state.deadline.map(|at| (at, 1, 0, Due::Run)).into_iter().collect();
        for (id, frame) in &self.state.frames {
            let depth = self.state.ancestors(*id).count();
            due.extend(frame.pause().map(|at| (at, 0, depth, Due::Rested(*id))));
            due.extend(frame.deadline.map(|at| (at, 1, depth, Due::Late(*id))));
        }
        due.retain(|(at, ..)| *at <= self.now);
        due.into_iter().min_by_key(|(at, kind, depth, _)| (*at, *kind, *depth)).map(|(.., due)| due)
    }

    /// Goes on where the last step stopped because it was full.
    pub fn go_on(&mut self) {
        let mut idle: Vec<_> = self.state.idle_lists().collect();
        idle.reverse();
        idle.into_iter().for_each(|list| self.advance(list));
    }

    /// Takes up what was left when the run began to rest, and the outcomes that came since.
    pub fn take_up(&mut self) {
        self.go_on();
        let held = self.state.tasks().filter_map(|(id, _, task)| match &task.progress {
            Progress::Held(outcome) => Some((id, outcome.clone())),
            _ => None,
        });
        for (task, outcome) in held.collect::<Vec<_>>().into_iter().rev() {
            match outcome {
                Ok(output) => task::answered(self, task, Value::clone(&output)),
                Err(error) => task::unanswered(self, task, error),
            }
        }
    }

    /// The outcome of an effect is here; answers the task that asked for it.
    pub fn answered(&mut self, ask: Ask, label: Label) -> Option<FrameId> {
        let task = self.state.asked_by(ask)?;
        self.record(Record::Answered { ask, label });
        Some(task)
    }

    /// What the task is doing.
    pub fn progress(&self, task: FrameId) -> &Progress {
        &self.state.task(task).progress
    }
}

enum Due {
    Run,
    Rested(FrameId),
    Late(FrameId),
}
