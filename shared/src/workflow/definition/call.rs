//! Calls of functions. The arguments stay JSON: their shape depends on the function and is checked against its schema.

use serde_json::{Map, Value};

use super::{Foreach, Item, Task};
use crate::problem::yaml;

/// Where the tasks for each message of a subscription stand in a call.
pub const FOREACH: &str = "with/subscription/foreach";

/// `call`, with the arguments as they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `http`, `infer`, `infer:1.0.0@default`, or a name under `use.functions`.
    pub function: String,
    pub with: Option<Map<String, Value>>,
    /// `with.subscription.foreach` of an `asyncapi` call, parsed; `with` keeps it as it is written.
    foreach: Option<Box<Foreach>>,
}

impl Call {
    /// # Errors
    /// Why the tasks in it cannot be read.
    pub fn new(function: String, with: Option<Map<String, Value>>) -> Result<Self, String> {
        let mut call = Self { function, with, foreach: None };
        if call.name() == "asyncapi"
            && let Some(given) = call.with.as_ref().and_then(|with| with.get("subscription")?.get("foreach"))
        {
            let parsed =
                yaml::decode(given).map_err(|(path, side, message)| yaml::within(FOREACH, &path, side, &message))?;
            call.foreach = Some(Box::new(parsed));
        }
        Ok(call)
    }

    /// What is done with each message of a subscription, if anything is.
    #[must_use]
    pub fn foreach(&self) -> Option<&Foreach> {
        self.foreach.as_deref()
    }

    /// The tasks for each message of a subscription.
    #[must_use]
    pub fn tasks(&self) -> &[Item<Task>] {
        self.foreach().and_then(|foreach| foreach.tasks.as_deref()).unwrap_or_default()
    }

    /// The function's name without version and catalog: `infer` of `infer:1.0.0@default`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.function.split([':', '@']).next().unwrap_or(&self.function)
    }

    /// The version that was asked for, if any: `1.0.0` of `infer:1.0.0@default`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let (_, rest) = self.function.split_once(':')?;
        rest.split('@').next()
    }

    /// The catalog that was asked for, if any: `default` of `infer:1.0.0@default`.
    #[must_use]
    pub fn catalog(&self) -> Option<&str> {
        self.function.split_once('@').map(|(_, catalog)| catalog)
    }
}
