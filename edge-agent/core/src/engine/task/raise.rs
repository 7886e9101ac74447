//! `raise`: an error on purpose.

use serde_json::Value;
use shared::workflow::definition::Raise;

use super::super::{
    effect::{Error, kind},
    eval::Scope,
    record::FrameId,
    turn::Turn,
};

/// The error to raise.
pub(super) fn error(turn: &Turn, frame: FrameId, raise: &Raise) -> Result<Error, Error> {
    let unknown = || Error::new(kind::CONFIGURATION, "the error names none that `use.errors` defines");
    let wanted = turn.state.workflow.definition().error(&raise.error).ok_or_else(unknown)?;
    let scope = Scope::within_task(&turn.state, frame);
    let input = &turn.state.task(frame).input;
    let text = |text: &str| match scope.template(&Value::String(text.to_owned()), input)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    };
    let maybe = |value: &Option<String>| value.as_deref().map(text).transpose();
    Ok(Error {
        kind: text(&wanted.kind)?,
        status: wanted.status,
        title: maybe(&wanted.title)?,
        detail: maybe(&wanted.detail)?,
        instance: maybe(&wanted.instance)?,
    })
}
