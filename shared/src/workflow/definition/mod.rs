//! The Open Workflow DSL 1.0.3 as types (`open-workflow-specification/specification`, schema/workflow.yaml). They hold
//! exactly what the document says, so that writing one out gives the same document; strings that are expressions stay
//! strings here. Nothing is resolved or evaluated: that is the business of `check` and of the engine.

mod call;
mod data;
mod duration;
pub mod episodes;
mod event;
mod fault;
mod form;
mod run;
mod task;
mod task_form;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use call::{Call, FOREACH};
pub use data::{
    Authentication, Bearer, Credentials, Endpoint, EndpointConfiguration, Export, ExternalResource, Grant, Input,
    Output, Schema, SchemaSource,
};
pub use duration::{Duration, DurationError, Parts, parse_iso8601};
pub use episodes::Episodes;
pub use event::{Correlation, EventFilter, Read, Schedule, Strategy, Until};
pub use fault::{
    AttemptLimit, Backoff, Catch, CatchErrors, ErrorDefinition, ErrorFilter, Jitter, RetryLimit, RetryPolicy,
    some_status,
};
pub use form::{Item, Reference};
pub use run::{Cleanup, Container, Lifetime, Process, PullPolicy, Returns, Run, Script, Shell, Subflow};
pub use task::{
    Case, Collection, Common, Emit, EmitEvent, For, Foreach, Fork, Kind, Listen, Loop, Raise, Task, Tasks, Then, Try,
};

/// The keys under which the arguments of a call have an address, and so perhaps an `authentication`, or another such key.
pub const AUTHENTICATED: &[&str] =
    &["document", "endpoint", "http", "proto", "server", "service", "source", "transport", "agentCard"];

/// A whole workflow document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub document: Document,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<Use>,
    #[serde(rename = "do")]
    pub tasks: Tasks,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Reference<Timeout>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Evaluate>,
    /// Functions of catalogs that were linked to the workflow, by their path in the bundle. Not part of the document.
    #[serde(skip)]
    pub linked: BTreeMap<String, Task>,
}

/// What the document says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the language.
    pub dsl: String,
    pub namespace: String,
    pub name: String,
    /// The workflow's own semantic version.
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The parts that tasks refer to by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentications: Option<BTreeMap<String, Authentication>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<BTreeMap<String, ErrorDefinition>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<Item<Extension>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<BTreeMap<String, Task>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<BTreeMap<String, RetryPolicy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<BTreeMap<String, Timeout>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogs: Option<BTreeMap<String, Catalog>>,
}

/// Tasks put before and after every task of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    pub extend: Extended,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Tasks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Tasks>,
}

/// The kind of task that an extension surrounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extended {
    Call,
    Composite,
    Emit,
    For,
    Listen,
    Raise,
    Run,
    Set,
    Switch,
    Try,
    Wait,
    All,
}

/// Where functions that are not built in are described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    pub endpoint: Endpoint,
}

/// When to give up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    pub after: Duration,
}

/// How expressions are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<EvaluateMode>,
}

/// `strict`: expressions stand in `${ }`; `loose`: any string may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluateMode {
    Strict,
    Loose,
}

impl Definition {
    /// `namespace/name`, the workflow's name for policy and for people.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        format!("{}/{}", self.document.namespace, self.document.name)
    }

    /// The function of this name under `use.functions` or of a catalog: the task that a `call` of it performs.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Task> {
        let own = self.uses.as_ref().and_then(|uses| uses.functions.as_ref()).and_then(|all| all.get(name));
        own.or_else(|| self.linked.get(&self.function_name(name)?))
    }

    /// The name under which a function is kept: its own, or of one of a catalog its path in the bundle.
    #[must_use]
    pub fn function_name(&self, called: &str) -> Option<String> {
        let own = self.uses.as_ref().and_then(|uses| uses.functions.as_ref());
        if own.is_some_and(|all| all.contains_key(called)) || self.linked.contains_key(called) {
            return Some(called.to_owned());
        }
        let path = super::link::function(&Call::new(called.to_owned(), None).ok()?)?;
        self.linked.contains_key(&path).then_some(path)
    }

    /// The error itself, be it written in place or named under `use.errors`.
    #[must_use]
    pub fn error<'a>(&'a self, error: &'a Reference<ErrorDefinition>) -> Option<&'a ErrorDefinition> {
        error.resolve(|name| self.uses.as_ref()?.errors.as_ref()?.get(name))
    }

    /// The retry policy itself, be it written in place or named under `use.retries`.
    #[must_use]
    pub fn retry<'a>(&'a self, retry: &'a Reference<RetryPolicy>) -> Option<&'a RetryPolicy> {
        retry.resolve(|name| self.uses.as_ref()?.retries.as_ref()?.get(name))
    }

    /// The timeout itself, be it written in place or named under `use.timeouts`.
    #[must_use]
    pub fn timeout<'a>(&'a self, timeout: &'a Reference<Timeout>) -> Option<&'a Timeout> {
        timeout.resolve(|name| self.uses.as_ref()?.timeouts.as_ref()?.get(name))
    }

    /// The names of the secrets that the workflow may refer to.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        self.uses.as_ref().and_then(|uses| uses.secrets.as_deref()).unwrap_or_default()
    }

    /// The extensions in the order they are written.
    pub fn extensions(&self) -> impl Iterator<Item = &Item<Extension>> {
        self.uses.iter().flat_map(|uses| uses.extensions.iter().flatten())
    }
}
