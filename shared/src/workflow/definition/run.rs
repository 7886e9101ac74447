//! `run`: processes and other workflows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{data::ExternalResource, duration::Duration, form::count_set};

/// A process or workflow to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RunForm", into = "RunForm")]
pub struct Run {
    /// Whether to wait for its end; `true` when absent.
    pub await_end: Option<bool>,
    /// What of a process becomes the output; `stdout` when absent.
    pub returns: Option<Returns>,
    pub process: Process,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Process {
    Container(Box<Container>),
    Script(Script),
    Shell(Shell),
    Workflow(Subflow),
}

impl Process {
    /// The key that names the kind of process, and what is written under it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, Value) {
        let (key, value) = match self {
            Self::Container(container) => ("container", serde_json::to_value(container)),
            Self::Script(script) => ("script", serde_json::to_value(script)),
            Self::Shell(shell) => ("shell", serde_json::to_value(shell)),
            Self::Workflow(subflow) => ("workflow", serde_json::to_value(subflow)),
        };
        (key, value.unwrap_or_default())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Returns {
    #[default]
    Stdout,
    Stderr,
    Code,
    All,
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Container {
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    pub cleanup: Cleanup,
    /// Goes with `eventually`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    Always,
    Never,
    Eventually,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PullPolicy {
    IfNotPresent,
    Always,
    Never,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub language: String,
    /// Exactly one of `code` and `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ExternalResource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Map<String, Value>>,
}

/// Another workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subflow {
    pub namespace: String,
    pub name: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Map<String, Value>>,
}

#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunForm {
    #[serde(rename = "await", default, skip_serializing_if = "Option::is_none")]
    await_end: Option<bool>,
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    returns: Option<Returns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<Box<Container>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<Script>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shell: Option<Shell>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workflow: Option<Subflow>,
}

impl TryFrom<RunForm> for Run {
    type Error = &'static str;

    fn try_from(form: RunForm) -> Result<Self, Self::Error> {
        let wrong = "`run` needs exactly one of `container`, `script`, `shell` and `workflow`";
        let set = [form.container.is_some(), form.script.is_some(), form.shell.is_some(), form.workflow.is_some()];
        if count_set(&set) != 1 {
            return Err(wrong);
        }
        if let Some(script) = &form.script
            && script.code.is_some() == script.source.is_some()
        {
            return Err("a script needs exactly one of `code` and `source`");
        }
        if let Some(lifetime) = form.container.as_ref().and_then(|container| container.lifetime.as_ref())
            && (lifetime.cleanup == Cleanup::Eventually) != lifetime.after.is_some()
        {
            return Err("`lifetime.after` goes with `cleanup: eventually`, and only with it");
        }
        let contained = form.container.map(Process::Container).or(form.script.map(Process::Script));
        let plain = form.shell.map(Process::Shell).or(form.workflow.map(Process::Workflow));
        let process = contained.or(plain).ok_or(wrong)?;
        Ok(Self { await_end: form.await_end, returns: form.returns, process })
    }
}

impl From<Run> for RunForm {
    fn from(run: Run) -> Self {
        let mut form = Self { await_end: run.await_end, returns: run.returns, ..Self::default() };
        match run.process {
            Process::Container(container) => form.container = Some(container),
            Process::Script(script) => form.script = Some(script),
            Process::Shell(shell) => form.shell = Some(shell),
            Process::Workflow(subflow) => form.workflow = Some(subflow),
        }
        form
    }
}
