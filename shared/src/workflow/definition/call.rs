//! Calls of functions. The arguments stay JSON: their shape depends on the function and is checked against its schema.

use serde_json::{Map, Value};

/// `call`, with the arguments as they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `http`, `infer`, `infer:1.0.0@default`, or a name under `use.functions`.
    pub function: String,
    pub with: Option<Map<String, Value>>,
}

impl Call {
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
