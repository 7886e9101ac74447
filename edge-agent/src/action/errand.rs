//! One call on its way through the room: its arguments, what it may do, and the words for what is wrong with it.

use std::time::Duration;

use edge_core::engine::effect::{Call, Failure, kind};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::policy::{Action, Permit, Target, TargetKind};

use super::{Ways, trail::Trail};

/// How long a call may take when its task sets no deadline.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// A call whose secrets are values; it never leaves the room.
pub(super) struct Errand<'a> {
    pub(super) call: Call,
    pub(super) trail: &'a Trail<'a>,
    pub(super) ways: &'a Ways,
}

impl Errand<'_> {
    /// The arguments, parsed at the door.
    pub(super) fn arguments<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.call.arguments()
    }

    /// A mistake in an argument.
    pub(super) fn wrong(&self, field: &str, expected: &str) -> Failure {
        self.failure(kind::VALIDATION, &format!("{field}: {expected}"))
    }

    pub(super) fn failure(&self, kind: (&str, u16), detail: &str) -> Failure {
        Failure::new(kind, format!("{} of {}: {detail}", self.call.function, self.call.task))
    }

    pub(super) fn permit(&self, action: Action, kind: TargetKind, name: &str) -> Result<Permit, Failure> {
        self.trail.permit(action, Target::new(kind, name))
    }

    /// A secret of the node, if policy lets this workflow use it. From here on it is struck out of what is told.
    pub(super) fn secret(&self, name: &str) -> Result<Value, Failure> {
        self.permit(Action::UseSecret, TargetKind::Secret, name)?;
        let value = self.ways.secrets.read(name);
        let value = value.map_err(|error| self.failure(kind::CONFIGURATION, &error.to_string()))?;
        self.trail.hide(name, &value);
        Ok(value)
    }

    /// What is left until the task's deadline; without one, this long.
    pub(super) fn within(&self, default: Duration) -> Duration {
        within(&self.call, default)
    }
}

/// What is left until the deadline of the call's task; without one, this long.
pub(super) fn within(call: &Call, default: Duration) -> Duration {
    call.gives_up_at().map_or(default, |end| end.since(crate::clock::now()))
}

/// The text of a value that stands in a query, a header or an environment; `None`: of a list, an object or null.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
