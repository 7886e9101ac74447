//! `try`: tasks whose errors are caught, and perhaps tried again. The specification leaves open how `retry` and `do` of
//! one catch go together: we retry first, and `do` when no retry is left. An error that no retry is left for and no
//! `do` handles goes on; with neither `retry` nor `do` the catch swallows it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use shared::{
    digest::Digest,
    time::Timestamp,
    workflow::definition::{Backoff, Catch, ErrorFilter, RetryPolicy, Try},
};

use super::super::{
    effect::{Error, kind},
    eval::Scope,
    record::{FrameId, Record},
    state::{Attempts, Progress},
    turn::{Opening, Turn},
};

/// No delay between two attempts is longer; an exponential backoff reaches it after some forty attempts.
const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

pub(super) fn start(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    attempt(turn, frame, 0)
}

/// The rest between two attempts is over.
pub(super) fn again(turn: &mut Turn, frame: FrameId) {
    let Progress::BackingOff { attempts, .. } = turn.progress(frame) else { unreachable!("only after a rest") };
    let number = attempts.number + 1;
    if let Err(error) = attempt(turn, frame, number) {
        turn.fail(frame, error);
    }
}

fn attempt(turn: &mut Turn, frame: FrameId, number: u32) -> Result<(), Error> {
    let deadline = attempt_deadline(turn, frame)?;
    turn.record(Record::TryBegan { frame, attempt: number, at: turn.now });
    let data = Arc::clone(&turn.state.task(frame).input);
    let opening = Opening::within(turn, frame, "try", data);
    turn.open(Opening { deadline, ..opening });
    Ok(())
}

/// Until when the attempt that begins now must be done.
fn attempt_deadline(turn: &Turn, frame: FrameId) -> Result<Option<Timestamp>, Error> {
    let workflow = Arc::clone(&turn.state.workflow);
    let task = super::definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?;
    let super::Kind::Try(attempt) = &task.kind else { unreachable!("the frame is of a `try`") };
    let Some(policy) = policy(turn, &attempt.catch)? else { return Ok(None) };
    let limit = policy.limit.as_ref().and_then(|l| l.attempt.as_ref()).and_then(|a| a.duration.as_ref());
    let Some(limit) = limit else { return Ok(None) };
    let input = &turn.state.task(frame).input;
    Ok(Some(turn.now.plus(Scope::within_task(&turn.state, frame).duration(limit, input)?)))
}

/// The tried tasks, or those that handle the error, came to a good end.
pub(super) fn done(turn: &mut Turn, frame: FrameId, attempt: &Try, data: Arc<Value>) {
    let caught = matches!(turn.progress(frame), Progress::Catching { .. });
    turn.end(frame, data, if caught { attempt.catch.then.clone() } else { None });
}

/// The tried tasks, or those that handle the error, failed. `Err`: the error goes on.
pub(super) fn failed(turn: &mut Turn, frame: FrameId, attempt: &Try, error: Error) -> Result<(), Error> {
    let Progress::Trying(attempts) = *turn.progress(frame) else { return Err(error) };
    let catch = &attempt.catch;
    if !takes(turn, frame, catch, &error)? {
        return Err(error);
    }
    let policy = policy(turn, catch)?.cloned();
    if let Some(policy) = &policy {
        if let Some(retry_at) = retry_at(turn, frame, catch, policy, attempts, &error)? {
            turn.record(Record::TryFailed { frame, error, retry_at: Some(retry_at) });
            return Ok(());
        }
        if catch.tasks.is_none() && catch.then.is_none() {
            return Err(error);
        }
    }
    let variables = variables(catch, &error);
    turn.record(Record::TryFailed { frame, error, retry_at: None });
    let data = Arc::clone(&turn.state.task(frame).input);
    if catch.tasks.is_none() {
        turn.end(frame, data, catch.then.clone());
        return Ok(());
    }
    let opening = Opening::within(turn, frame, "catch/do", data);
    turn.open(Opening { variables, ..opening });
    Ok(())
}

fn variables(catch: &Catch, error: &Error) -> Vec<(String, Arc<Value>)> {
    let name = catch.variable.as_deref().unwrap_or("error");
    vec![(name.to_owned(), Arc::new(error.to_value()))]
}

fn policy<'a>(turn: &'a Turn, catch: &'a Catch) -> Result<Option<&'a RetryPolicy>, Error> {
    let Some(reference) = &catch.retry else { return Ok(None) };
    let unknown = || Error::new(kind::CONFIGURATION, "the retry names none that `use.retries` defines");
    turn.state.workflow.definition().retry(reference).map(Some).ok_or_else(unknown)
}

/// Whether the catch takes the error.
fn takes(turn: &Turn, frame: FrameId, catch: &Catch, error: &Error) -> Result<bool, Error> {
    let filter = catch.errors.as_ref().and_then(|errors| errors.with.as_ref());
    if !filter.is_none_or(|filter| fits(filter, error)) {
        return Ok(false);
    }
    holds(turn, frame, catch, error, catch.when.as_deref(), catch.except_when.as_deref())
}

/// Whether `when` holds and `exceptWhen` does not; an absent one does not matter.
fn holds(
    turn: &Turn,
    frame: FrameId,
    catch: &Catch,
    error: &Error,
    when: Option<&str>,
    except_when: Option<&str>,
) -> Result<bool, Error> {
    let variables = variables(catch, error);
    let scope = Scope::within_task(&turn.state, frame).with_variables(&variables);
    let input = &turn.state.task(frame).input;
    let wanted = when.map_or(Ok(true), |when| scope.condition(when, input))?;
    Ok(wanted && !except_when.map_or(Ok(false), |except| scope.condition(except, input))?)
}

fn fits(filter: &ErrorFilter, error: &Error) -> bool {
    let equal = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    filter.kind.as_ref().is_none_or(|wanted| same_kind(wanted, &error.kind))
        && filter.status.is_none_or(|wanted| wanted == error.status)
        && equal(&filter.instance, &error.instance)
        && equal(&filter.title, &error.title)
        && equal(&filter.detail, &error.detail)
}

/// Whether two URIs name the same type of error. The standard types have had several homes (serverlessworkflow.io,
/// open-workflow-specification.org, `/spec/1.0.0/errors/`, `/dsl/errors/types/`), so these are compared by their last segment.
fn same_kind(wanted: &str, found: &str) -> bool {
    let standard = |uri: &str| {
        let (home, name) = uri.rsplit_once('/')?;
        let at_home = home.contains("serverlessworkflow.io") || home.contains("open-workflow-specification.org");
        let known = kind::STANDARD.iter().any(|(uri, _)| uri.rsplit('/').next() == Some(name));
        (at_home && known).then(|| name.to_owned())
    };
    wanted == found || standard(wanted).is_some_and(|wanted| Some(wanted) == standard(found))
}

/// When to try again; `None`: not any more.
fn retry_at(
    turn: &Turn,
    frame: FrameId,
    catch: &Catch,
    policy: &RetryPolicy,
    attempts: Attempts,
    error: &Error,
) -> Result<Option<Timestamp>, Error> {
    if !holds(turn, frame, catch, error, policy.when.as_deref(), policy.except_when.as_deref())? {
        return Ok(None);
    }
    let limit = policy.limit.as_ref();
    let count = limit.and_then(|limit| limit.attempt.as_ref()).and_then(|attempt| attempt.count);
    if count.is_some_and(|count| attempts.number >= count) {
        return Ok(None);
    }
    let variables = variables(catch, error);
    let scope = Scope::within_task(&turn.state, frame).with_variables(&variables);
    let input = &turn.state.task(frame).input;
    let base = policy.delay.as_ref().map_or(Ok(Duration::ZERO), |delay| scope.duration(delay, input))?;
    let factor = match &policy.backoff {
        None | Some(Backoff::Constant(_)) => 1,
        Some(Backoff::Linear(_)) => attempts.number.saturating_add(1),
        Some(Backoff::Exponential(_)) => 2_u32.saturating_pow(attempts.number),
    };
    let mut delay = base.checked_mul(factor).unwrap_or(DELAY_MAX);
    if let Some(jitter) = &policy.jitter {
        let (from, to) = (scope.duration(&jitter.from, input)?, scope.duration(&jitter.to, input)?);
        delay += from + to.saturating_sub(from).mul_f64(chance(turn, frame, attempts));
    }
    let at = turn.now.plus(delay.min(DELAY_MAX));
    let whole = limit.and_then(|limit| limit.duration.as_ref());
    let until = whole.map(|whole| scope.duration(whole, input).map(|span| attempts.first_at.plus(span))).transpose()?;
    Ok(if until.is_some_and(|until| at > until) { None } else { Some(at) })
}

/// A number from 0 to 1 that looks random and is the same whenever this attempt of this run is decided again.
fn chance(turn: &Turn, frame: FrameId, attempts: Attempts) -> f64 {
    let seed = format!("{}{}{}", turn.state.run, turn.state.frames[&frame].place, attempts.number);
    let digest = Digest::of(seed.as_bytes());
    f64::from(u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]])) / f64::from(u16::MAX)
}
