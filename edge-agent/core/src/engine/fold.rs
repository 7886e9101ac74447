//! How a run's state follows from its records. Applying a record evaluates nothing and decides nothing.

use std::{collections::BTreeMap, sync::Arc};

use shared::{digest::Digest, time::Timestamp};

use super::{
    limit,
    record::{FrameId, Record},
    state::{Attempts, Body, Branch, Extending, Frame, List, Listening, Phase, Progress, State, Task},
};

/// Events of which a run knows that it has had them.
const HEARD_MAX: usize = 1_024;

impl State {
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
            Record::Suspended { at } => self.suspended = Some(*at),
            Record::Resumed { at } => {
                if let Some(since) = self.suspended.take() {
                    self.put_off(at.as_micros().saturating_sub(since.as_micros()));
                }
            }
            Record::Retried { pause_us, .. } => self.put_off(*pause_us),
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
            Record::ExtensionBegan { frame, extension, output, then } => {
                let (output, then) = (output.clone(), then.clone());
                self.remove_children(*frame);
                self.set(*frame, Progress::Extending(Extending { extension: *extension, output, then }));
            }
            Record::ExtensionsPassed { frame } => {
                self.remove_children(*frame);
                self.set(*frame, Progress::Extended);
            }
            Record::Held { frame, output, error } => {
                let outcome = error.clone().map_or_else(|| Ok(output.clone().unwrap_or_default()), Err);
                self.set(*frame, Progress::Held(outcome));
            }
            record => self.listen(record),
        }
    }

    /// The records of a task that listens.
    fn listen(&mut self, record: &Record) {
        match record {
            Record::ListenBegan { frame, expected, .. } => {
                let listening = Listening { expected: Arc::new(expected.clone()), ..Listening::default() };
                self.set(*frame, Progress::Listening(Box::new(listening)));
            }
            Record::EventTaken { frame, event, label, filter, item, fixes, closes, .. } => {
                self.label = self.label.join(label);
                self.hear(*event);
                let listening = self.listening_mut(*frame);
                listening.gathered.take(*filter, fixes, *closes);
                listening.bytes += item.as_deref().map_or(0, limit::size);
                Arc::make_mut(&mut listening.items).extend(item.clone());
            }
            Record::ListenClosed { frame } => self.listening_mut(*frame).gathered.closed = true,
            Record::ItemBegan { frame, .. } => self.listening_mut(*frame).is_turning = true,
            Record::ItemEnded { frame, output, context } => {
                self.remove_children(*frame);
                let listening = self.listening_mut(*frame);
                listening.is_turning = false;
                listening.done += 1;
                listening.bytes += limit::size(output);
                Arc::make_mut(&mut listening.outputs).push(Arc::clone(output));
                if let Some(context) = context {
                    self.context = Arc::clone(context);
                }
            }
            Record::SubscribeBegan { .. } | Record::MessagesTaken { .. } | Record::MessageDone { .. } => {
                self.subscription_goes_on(record);
            }
            record => self.agent_goes_on(record),
        }
    }

    fn listening_mut(&mut self, frame: FrameId) -> &mut Listening {
        match &mut self.task_mut(frame).progress {
            Progress::Listening(listening) => listening,
            _ => unreachable!("frame {frame} does not listen"),
        }
    }

    fn hear(&mut self, event: Digest) {
        if self.heard.back() != Some(&event) {
            let heard = Arc::make_mut(&mut self.heard);
            heard.push_back(event);
            if heard.len() > HEARD_MAX {
                heard.pop_front();
            }
        }
    }

    /// Moves every deadline by this many microseconds.
    fn put_off(&mut self, micros: i64) {
        let move_on = |at: &mut Option<Timestamp>| *at = at.map(|at| at.plus_micros(micros));
        move_on(&mut self.deadline);
        let timed =
            |frame: &Frame| frame.deadline.is_some() || matches!(&frame.body, Body::Task(task) if task.agent.is_some());
        for frame in self.frames.values_mut().filter(|frame| timed(frame)) {
            let frame = Arc::make_mut(frame);
            move_on(&mut frame.deadline);
            if let Body::Task(Task { agent: Some(agent), .. }) = &mut frame.body {
                move_on(&mut agent.until);
                if let Some(case) = &mut agent.case {
                    move_on(&mut case.agents_until);
                }
            }
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
            agent: None,
            subscription: None,
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
        let before = self.frames.insert(id, Arc::new(frame));
        assert!(before.is_none(), "frame {id} is opened twice");
    }

    fn remove(&mut self, id: FrameId) {
        self.remove_children(id);
        self.frames.remove(&id);
    }

    pub(super) fn remove_children(&mut self, id: FrameId) {
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

    fn set(&mut self, id: FrameId, progress: Progress) {
        self.task_mut(id).progress = progress;
    }

    fn frame_mut(&mut self, id: FrameId) -> &mut Frame {
        Arc::make_mut(self.frames.get_mut(&id).expect("a record names an open frame"))
    }

    pub(super) fn task_mut(&mut self, id: FrameId) -> &mut Task {
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
