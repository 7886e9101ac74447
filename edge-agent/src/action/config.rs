//! What `agent.toml` says about calls: secrets, the folder of interface documents, processes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde::Deserialize;
use shared::digest::Digest;

/// Where a secret's value is: a text, or an object in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// The name of an environment variable of the agent.
    Env(String),
    /// A file that others on the machine may not read.
    File(PathBuf),
}

/// Everything about calls.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    pub secrets: BTreeMap<String, Secret>,
    /// Where `file:` addresses and relative ones of documents (OpenAPI, AsyncAPI, proto, scripts) lie.
    pub documents: Option<PathBuf>,
    /// Hosts that are reached elsewhere, by `host` or `host:port`.
    pub hosts: BTreeMap<String, Address>,
    /// Absent: this node runs no processes for workflows.
    pub run: Option<Run>,
}

/// The scheme, host and port of a web server: `http://127.0.0.1:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(pub(super) Url);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bare = |url: &Url| {
            let ends = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            ends && url.username().is_empty() && url.password().is_none()
        };
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.filter(bare).map(Self);
        url.ok_or_else(|| format!("{text:?}; expected http:// or https:// and a host, with a port or without"))
    }
}

/// How processes run that workflows ask for: `run: shell`, `run: script`, MCP servers on stdio.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The user that they run as; needs an agent that may change users, as root may.
    pub user: Option<String>,
    /// Without `user`: they run as the agent itself and can read what it can read, its keys too.
    #[serde(default)]
    pub as_agent: bool,
    /// Where programs are looked for.
    #[serde(default = "default_path")]
    pub path: String,
    /// Where each process gets an empty folder of its own, which is removed after it.
    #[serde(default = "std::env::temp_dir")]
    pub work_dir: PathBuf,
    /// The longest that one may take, whatever its task allows.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// Memory of each process.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u64,
    /// What one may write to stdout and to stderr, each.
    #[serde(default = "default_output_kb")]
    pub output_kb: u64,
    /// The largest file that one may write.
    #[serde(default = "default_file_mb")]
    pub file_mb: u64,
    /// Processes and threads that the user may have at one time.
    #[serde(default = "default_processes")]
    pub processes: u64,
    /// Absent: containers are refused.
    pub container: Option<Container>,
    /// In the names of folders in `work_dir`, so that a node knows its own, where it has the folder of data to itself.
    #[serde(skip)]
    pub mark: Option<String>,
}

/// How containers run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The command line of an engine: `docker`, `podman`, or a path.
    pub engine: PathBuf,
    /// Folders of the host that containers may be given, with what lies below them.
    #[serde(default)]
    pub volumes: Vec<PathBuf>,
    /// Whether containers may take ports of the host.
    #[serde(default)]
    pub ports: bool,
}

impl Run {
    /// The relative paths made relative to this folder; `data` is the node's own folder.
    pub fn resolve(&mut self, base: &Path, data: &Path) {
        self.work_dir = base.join(&self.work_dir);
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        self.mark = Some(Digest::of(data.as_os_str().as_encoded_bytes()).short());
    }
}

fn default_path() -> String {
    "/usr/local/bin:/usr/bin:/bin".to_owned()
}

/// As long as a call without a deadline of its own takes in other protocols, twice: processes do work.
const fn default_timeout_s() -> u64 {
    60
}

/// What an interpreter needs to start, five times.
const fn default_memory_mb() -> u64 {
    256
}

/// Output becomes part of the run's state, which is stored at every step.
const fn default_output_kb() -> u64 {
    1_024
}

const fn default_file_mb() -> u64 {
    64
}

const fn default_processes() -> u64 {
    64
}
