//! `listen`: waits for events. What it waits for is in the state, an event that came is a record, so both survive the node.
//! The output is the array of what is read of each event, or of what `foreach` makes of it. Events that come while
//! `foreach` is at one wait for their turn.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::{
    digest::Digest,
    event::Event,
    label::Label,
    workflow::{
        definition::{EventFilter, Foreach, Kind, Listen, Strategy, Until},
        expression::body,
    },
};

use super::super::{
    definition,
    effect::{Error, kind},
    eval::Scope,
    limit,
    record::{FrameId, Record},
    state::{Listening, Progress, State},
    turn::Turn,
};
use super::foreach;
use crate::hear::{
    self,
    filter::{self, Correlated},
    gather,
};

/// Where `foreach` stands in its task.
const STEP: &str = "foreach";

/// Events that one task may take.
const EVENTS_MAX: usize = 10_000;

/// Bytes of what one task reads of its events and makes of them. They are part of the run's state as long as it listens.
const BYTES_MAX: usize = 8 << 20;

pub(super) fn start(turn: &mut Turn, frame: FrameId, listen: &Listen) -> Result<(), Error> {
    let scope = Scope::within_task(&turn.state, frame);
    let input = &turn.state.task(frame).input;
    let expected: Vec<Correlated> =
        gather::filters(&listen.to).map(|filter| expected(&scope, filter, input)).collect::<Result<_, _>>()?;
    let expected = if expected.iter().all(Correlated::is_empty) { Vec::new() } else { expected };
    turn.record(Record::ListenBegan { frame, at: turn.now, expected });
    if matches!(&listen.to, Strategy::All(filters) if filters.is_empty()) {
        turn.end(frame, json!([]).into(), None);
    }
    Ok(())
}

/// The values that the filter's correlations must have.
fn expected(scope: &Scope<'_>, filter: &EventFilter, input: &Value) -> Result<Correlated, Error> {
    let mut values = Correlated::new();
    for (name, correlation) in filter.correlate.iter().flatten() {
        if let Some(text) = &correlation.expect {
            let value = match body(text) {
                Some(_) => scope.expression(text, input)?,
                None => json!(text),
            };
            values.insert(name.clone(), value);
        }
    }
    Ok(values)
}

/// An event came: every task of the run that listens for it takes it.
pub(in super::super) fn take(turn: &mut Turn, event: &Event, label: &Label) {
    let name = hear::identity(event);
    if turn.state.heard.contains(&name) {
        return;
    }
    let listening: Vec<FrameId> = turn.state.listening_frames().collect();
    for frame in listening {
        if let Err(error) = offer(turn, frame, event, name, label) {
            turn.fail(frame, error);
        }
        turn.run();
    }
}

/// Events that may have been for this run are lost: what listens cannot know whether they were.
pub(in super::super) fn missed(turn: &mut Turn, events: u64) {
    let listening: Vec<FrameId> = turn.state.listening_frames().collect();
    for frame in listening {
        let detail = format!(
            "{events} events that may have been for this task came when no more could wait for the run, and are lost"
        );
        turn.fail(frame, Error::new(kind::LIMIT, detail));
        turn.run();
    }
}

fn offer(turn: &mut Turn, frame: FrameId, event: &Event, name: Digest, label: &Label) -> Result<(), Error> {
    // An earlier one of the same event may have swept this one away.
    let Some(Progress::Listening(listening)) = turn.state.frames.get(&frame).map(|_| turn.progress(frame)) else {
        return Ok(());
    };
    let workflow = Arc::clone(&turn.state.workflow);
    let listen = definition_of(&workflow, &turn.state, frame)?;
    let scope = Scope::within_task(&turn.state, frame);
    let (expressions, variables) = (workflow.expressions(), |name: &str| scope.variable(name));
    let taken = listening.gathered.offer(&listen.to, &listening.expected, &|filter| {
        filter::matches(expressions, filter, event, &variables)
            .then(|| filter::correlated(expressions, filter, event, &variables))
            .flatten()
    });
    let Some(taken) = taken else { return Ok(()) };
    let item = taken.is_item.then(|| Arc::new(hear::read(listen.read.unwrap_or_default(), event)));
    item.as_ref().map_or(Ok(()), |item| limit::check("the event", item))?;
    if listening.items.len() >= EVENTS_MAX {
        let detail = format!("the task has taken {EVENTS_MAX} events, the most that one `listen` may");
        return Err(Error::new(kind::LIMIT, detail));
    }
    let more = item.as_deref().map_or(0, limit::size);
    if listening.bytes + more > BYTES_MAX {
        let detail =
            format!("the task's events have more than {BYTES_MAX} bytes together, the most that one `listen` may");
        return Err(Error::new(kind::LIMIT, detail));
    }
    turn.record(Record::EventTaken {
        frame,
        at: turn.now,
        event: name,
        label: label.clone(),
        filter: taken.filter,
        item,
        fixes: taken.fixes,
        closes: taken.closes,
    });
    go_on(turn, frame, listen)
}

fn definition_of<'w>(
    workflow: &'w shared::workflow::Workflow,
    state: &State,
    frame: FrameId,
) -> Result<&'w Listen, Error> {
    match &definition::task(workflow.definition(), &state.frames[&frame].definition)?.kind {
        Kind::Listen(listen) => Ok(listen),
        _ => Err(Error::new(kind::CONFIGURATION, "the task does not listen")),
    }
}

fn listening(turn: &Turn, frame: FrameId) -> &Listening {
    match turn.progress(frame) {
        Progress::Listening(listening) => listening,
        _ => unreachable!("the task listens"),
    }
}

/// Turns to the next event that waits, or ends the task when enough have come.
fn go_on(turn: &mut Turn, frame: FrameId, listen: &Listen) -> Result<(), Error> {
    let now = listening(turn, frame);
    let Some(foreach) = &listen.foreach else {
        if !now.gathered.closed && until_holds(turn, frame, listen, &now.items)? {
            turn.record(Record::ListenClosed { frame });
        }
        let now = listening(turn, frame);
        if now.gathered.closed {
            let output = array(&now.items);
            turn.end(frame, output.into(), None);
        }
        return Ok(());
    };
    if now.is_turning {
        return Ok(());
    }
    let index = now.done;
    let Some(item) = now.items.get(index as usize).cloned() else {
        if now.gathered.closed {
            let output = array(&now.outputs);
            turn.end(frame, output.into(), None);
        }
        return Ok(());
    };
    turn.record(Record::ItemBegan { frame, index });
    if foreach::open(turn, frame, foreach, STEP, &item, index) {
        return Ok(());
    }
    let data = Arc::clone(&item);
    item_done(turn, frame, listen, foreach, &data)
}

/// The tasks for one event are done, and gave this.
pub(super) fn turned(turn: &mut Turn, frame: FrameId, listen: &Listen, data: &Arc<Value>) -> Result<(), Error> {
    match &listen.foreach {
        Some(foreach) => item_done(turn, frame, listen, foreach, data),
        None => Ok(()),
    }
}

/// Without `foreach.output` the event itself is what the task gives for it.
fn item_done(
    turn: &mut Turn,
    frame: FrameId,
    listen: &Listen,
    foreach: &Foreach,
    data: &Arc<Value>,
) -> Result<(), Error> {
    let now = listening(turn, frame);
    let index = now.done;
    let item = now.items.get(index as usize).cloned().unwrap_or_default();
    let (output, context) = foreach::made(turn, frame, foreach, STEP, (&item, index), data)?;
    turn.record(Record::ItemEnded { frame, output, context });
    let now = listening(turn, frame);
    let done = now.done as usize;
    if !now.gathered.closed && until_holds(turn, frame, listen, &now.items[..done])? {
        // What came after the one with which it was enough is not wanted.
        turn.record(Record::ListenClosed { frame });
        let output = array(&listening(turn, frame).outputs);
        turn.end(frame, output.into(), None);
        return Ok(());
    }
    go_on(turn, frame, listen)
}

/// Whether the condition holds that ends the listening, over the events so far.
fn until_holds(turn: &Turn, frame: FrameId, listen: &Listen, items: &[Arc<Value>]) -> Result<bool, Error> {
    let Strategy::Any { until: Some(Until::Condition(condition)), .. } = &listen.to else { return Ok(false) };
    if items.is_empty() {
        return Ok(false);
    }
    Scope::within_task(&turn.state, frame).condition(condition, &array(items))
}

fn array(items: &[Arc<Value>]) -> Value {
    Value::Array(items.iter().map(|item| Value::clone(item)).collect())
}

/// What a run listens for, as far as it can be told without evaluating anything over an event: whoever has events looks
/// here first.
#[derive(Debug, Clone, PartialEq)]
pub struct Interest {
    /// The type and source that an event must have, where they are literal.
    pub kind: Option<String>,
    pub source: Option<String>,
    /// An expression over the event, and the value that it must give.
    pub correlate: Option<(String, Value)>,
}

impl State {
    fn listening_frames(&self) -> impl Iterator<Item = FrameId> {
        self.tasks().filter(|(.., task)| matches!(task.progress, Progress::Listening(_))).map(|(id, ..)| id)
    }

    /// Whether a task listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening_frames().next().is_some()
    }

    /// Everything that the run listens for.
    #[must_use]
    pub fn interests(&self) -> Vec<Interest> {
        let mut found = Vec::new();
        for (id, _, task) in self.tasks() {
            let Progress::Listening(listening) = &task.progress else { continue };
            let Ok(listen) = definition_of(&self.workflow, self, id) else { continue };
            if listen.to.filters().is_empty() && !listening.gathered.closed {
                found.push(Interest { kind: None, source: None, correlate: None });
            }
            for (number, filter) in (0_u32..).zip(gather::filters(&listen.to)) {
                if !listening.gathered.wants(&listen.to, number) {
                    continue;
                }
                let literal = |name: &str| filter::literal(filter, name).map(str::to_owned);
                let required = |name: &String| {
                    let own = listening.expected.get(number as usize).and_then(|values| values.get(name));
                    own.or_else(|| listening.gathered.correlation.get(name))
                };
                let of_event_alone =
                    |from: &str| self.workflow.expressions().variables(from).is_ok_and(|needed| needed.is_empty());
                let mut correlations = filter.correlate.iter().flatten().filter(|(_, c)| of_event_alone(&c.from));
                let correlate = correlations.find_map(|(name, c)| Some((c.from.clone(), required(name)?.clone())));
                found.push(Interest { kind: literal("type"), source: literal("source"), correlate });
            }
        }
        found
    }
}
