//! A subscription whose messages are each worked on before the next one is taken (`call: asyncapi` with
//! `subscription.foreach`): a task that asks often, as an agent does. Each message is an effect with a key of its own, so
//! it is on the disk before its tasks begin, and whoever has it lets go of it only when the next one is asked for.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shared::workflow::definition::{Call, Duration, FOREACH, Foreach, Kind};

use super::{
    super::{
        definition,
        effect::{self, Error, kind},
        eval::Scope,
        limit,
        record::{FrameId, Record},
        subscription::Subscription,
        turn::Turn,
    },
    call, foreach,
};

/// Messages that one task may take, and bytes of them and of what it makes of them: they are part of the run's state.
const MESSAGES_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 << 20;

pub(super) fn start(turn: &mut Turn, frame: FrameId, mut arguments: Value) -> Result<(), Error> {
    limit::check("the arguments of the call", &arguments)?;
    if let Some(Value::Object(subscription)) = arguments.get_mut("subscription") {
        subscription.shift_remove("foreach");
    }
    let consume = consume(&arguments);
    let has_end =
        ["amount", "while", "until"].iter().any(|key| consume.is_some_and(|consume| consume.contains_key(*key)));
    if !has_end {
        let detail = "subscription.consume: expected one of amount, while and until";
        return Err(Error::new(kind::VALIDATION, detail));
    }
    let span = consume.and_then(|consume| consume.get("for")).map(Duration::span_of).transpose();
    let span = span.map_err(|error| Error::new(kind::VALIDATION, format!("subscription.consume.for: {error}")))?;
    let until = span.map(|span| turn.now.plus(span));
    turn.record(Record::SubscribeBegan { frame, with: Arc::new(arguments), until });
    go_on(turn, frame)
}

fn consume(arguments: &Value) -> Option<&Map<String, Value>> {
    arguments.get("subscription")?.get("consume")?.as_object()
}

/// A message came, or the word that none will: `{message, id}`, `{over: true}`; a list is all there are.
pub(super) fn answered(turn: &mut Turn, frame: FrameId, output: Value) {
    if subscription(turn, frame).over {
        return ended(turn, frame);
    }
    let taken = match output {
        Value::Array(messages) => (messages, None, true),
        Value::Object(mut given) if given.contains_key("message") => {
            let id = given.get("id").and_then(Value::as_str).map(str::to_owned);
            (given.shift_remove("message").into_iter().collect(), id, false)
        }
        _ => (Vec::new(), None, true),
    };
    let (messages, last, over) = taken;
    let messages = messages.into_iter().map(Arc::new).collect();
    turn.record(Record::MessagesTaken { frame, messages, last, over });
    if let Err(error) = go_on(turn, frame) {
        turn.fail(frame, error);
    }
}

/// Taking messages failed; that whoever had them could not be told to let go of the last does no harm.
pub(super) fn unanswered(turn: &mut Turn, frame: FrameId, error: Error) {
    if subscription(turn, frame).over {
        return ended(turn, frame);
    }
    turn.fail(frame, error);
}

/// The tasks for a message are done, and gave this.
pub(super) fn turned(turn: &mut Turn, frame: FrameId, foreach: &Foreach, data: &Arc<Value>) -> Result<(), Error> {
    done(turn, frame, foreach, data)?;
    go_on(turn, frame)
}

fn done(turn: &mut Turn, frame: FrameId, foreach: &Foreach, data: &Arc<Value>) -> Result<(), Error> {
    let index = subscription(turn, frame).outputs.len();
    let message = Arc::clone(&subscription(turn, frame).messages[index]);
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    let (output, context) = foreach::made(turn, frame, foreach, FOREACH, (&message, number), data)?;
    turn.record(Record::MessageDone { frame, output, context });
    Ok(())
}

/// Turns to the next message, asks for it, or ends the task.
fn go_on(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    let workflow = Arc::clone(&turn.state.workflow);
    let call = call_of(&workflow, turn, frame)?;
    let Some(foreach) = call.foreach() else {
        return Err(Error::new(kind::CONFIGURATION, "the task has nothing to do with each message"));
    };
    loop {
        let now = subscription(turn, frame);
        if now.messages.len() > MESSAGES_MAX || now.bytes > BYTES_MAX {
            let detail = format!(
                "the task has taken more than {MESSAGES_MAX} messages or {BYTES_MAX} bytes, the most that one subscription may"
            );
            return Err(Error::new(kind::LIMIT, detail));
        }
        let index = now.outputs.len();
        if is_enough(turn, frame, now)? {
            return finish(turn, frame);
        }
        let Some(message) = now.messages.get(index).map(Arc::clone) else {
            return if now.over { finish(turn, frame) } else { ask(turn, frame) };
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        if foreach::open(turn, frame, foreach, FOREACH, &message, number) {
            return Ok(());
        }
        done(turn, frame, foreach, &message)?;
    }
}

/// Whether those that are done are enough: by their number, because `until` holds or `while` no longer does.
fn is_enough(turn: &Turn, frame: FrameId, now: &Subscription) -> Result<bool, Error> {
    let Some(consume) = consume(&now.with) else { return Ok(true) };
    let count = now.outputs.len();
    if consume.get("amount").and_then(Value::as_u64).is_some_and(|amount| count as u64 >= amount) {
        return Ok(true);
    }
    if !["until", "while"].iter().any(|key| consume.contains_key(*key)) {
        return Ok(false);
    }
    let all = Value::Array(now.messages[..count].iter().map(|message| Value::clone(message)).collect());
    // The examples of the specification count these two, which nothing else defines.
    let mut context = Value::clone(&turn.state.context);
    if let Value::Object(context) = &mut context {
        for name in ["consumedMessages", "messages"] {
            context.entry(name).or_insert_with(|| all.clone());
        }
    }
    let scope = Scope::within_task(&turn.state, frame).with_context(&context);
    let holds =
        |key: &str| consume.get(key).and_then(Value::as_str).map(|text| scope.condition(text, &all)).transpose();
    Ok(holds("until")?.unwrap_or(false) || (count > 0 && !holds("while")?.unwrap_or(true)))
}

/// Asks for the next message; with that, the one before it may be let go of.
fn ask(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    let now = subscription(turn, frame);
    let number = now.messages.len();
    let mut next = json!({ "number": number });
    if let Some(until) = now.until {
        next["until"] = json!(until);
    }
    ask_for(turn, frame, &number.to_string(), next)
}

fn ask_for(turn: &mut Turn, frame: FrameId, step: &str, mut next: Value) -> Result<(), Error> {
    let now = subscription(turn, frame);
    if !now.recent.is_empty() {
        next["after"] = json!(now.recent);
    }
    let mut input = Value::clone(&now.with);
    input["subscription"]["next"] = next;
    call::ask_for(turn, frame, &format!("/message/{step}"), "asyncapi", input)
}

/// It was enough: whoever has the messages need keep no more of them. The task ends when that is done.
fn finish(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    if subscription(turn, frame).over {
        ended(turn, frame);
        return Ok(());
    }
    turn.record(Record::MessagesTaken { frame, messages: Vec::new(), last: None, over: true });
    ask_for(turn, frame, "end", json!({ "close": true }))
}

/// The task gives what it made of the messages. Of those that came and were not wanted any more nothing is given.
fn ended(turn: &mut Turn, frame: FrameId) {
    let outputs = &subscription(turn, frame).outputs;
    let output = Value::Array(outputs.iter().map(|output| Value::clone(output)).collect());
    turn.end(frame, output.into(), None);
}

fn call_of<'w>(workflow: &'w shared::workflow::Workflow, turn: &Turn, frame: FrameId) -> Result<&'w Call, Error> {
    match &definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?.kind {
        Kind::Call(call) => Ok(call),
        _ => Err(Error::new(kind::CONFIGURATION, "the task calls nothing")),
    }
}

fn subscription(turn: &Turn, frame: FrameId) -> &Subscription {
    turn.state.task(frame).subscription.as_deref().expect("the task takes messages")
}

/// The call that lets whoever has the messages of a subscription keep no more of them, when nobody waits for the next one
/// any more. `None`: the call asks for no message.
#[must_use]
pub fn closing(call: &effect::Call) -> Option<effect::Call> {
    let next = call.input.pointer("/subscription/next")?;
    if next.get("close").is_some() {
        return None;
    }
    let mut closing = call.clone();
    if let Some((task, _)) = call.key.0.rsplit_once("/message/") {
        closing.key = effect::EffectKey(format!("{task}/message/end"));
    }
    closing.input["subscription"]["next"] = json!({ "close": true });
    closing.deadline = None;
    Some(closing)
}
