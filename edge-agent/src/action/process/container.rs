//! `run: container`, by the command line of an engine such as Docker or Podman.

use std::{
    path::{Component, Path},
    process::Stdio,
    time::Duration,
};

use edge_core::engine::effect::{Failure, kind};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    policy::{Action, TargetKind},
    workflow::definition::Duration as Span,
};
use tokio::process::Command;

use super::{
    super::{
        config::{self, Run},
        errand::Errand,
    },
    Common,
    running::{Launch, Limits},
    settle, word,
};

/// What the engine's own command line needs of the agent's environment.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "CONTAINER_HOST", "XDG_RUNTIME_DIR"];
/// Processes in one container.
const PROCESSES_MAX: u32 = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    image: String,
    name: Option<String>,
    command: Option<String>,
    #[serde(default)]
    ports: Map<String, Value>,
    #[serde(default)]
    volumes: Map<String, Value>,
    lifetime: Option<Lifetime>,
    #[serde(default)]
    pull_policy: PullPolicy,
    #[serde(flatten)]
    common: Common,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lifetime {
    cleanup: Cleanup,
    after: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cleanup {
    Always,
    Never,
    Eventually,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

/// Runs the container, and makes the task's output of what it says.
pub(super) async fn call(errand: &Errand<'_>, run: &Run) -> Result<Value, Failure> {
    let Some(engine) = &run.container else {
        let why = "this node runs no containers: expected [run.container] in agent.toml with an `engine`";
        return Err(errand.failure(kind::CONFIGURATION, why));
    };
    let container: Container = errand.arguments()?;
    let name = match &container.name {
        Some(name) => name.clone(),
        None => format!("skerry-{}", &shared::digest::Digest::of(errand.call.key.0.as_bytes()).to_string()[..16]),
    };
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect();
    errand.permit(Action::Run, TargetKind::Command, &container.image)?;
    let remove_after = removal(errand, container.lifetime.as_ref())?;
    let arguments = arguments(errand, run, engine, &container, &name)?;
    let environment = container.common.environment(errand)?;
    let program = engine.engine.to_string_lossy().into_owned();
    let launch = Launch { program, arguments, environment, stdin: container.common.stdin() };
    let mut command = Command::new(&launch.program);
    let own = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.args(&launch.arguments).env_clear().envs(own).envs(&launch.environment).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let held = Box::new(Killed { engine: launch.program.clone(), name: name.clone() });
    let running = launch.start(command, held).map_err(|error| {
        let why = format!("cannot start {}: {error} (`engine` under [run.container])", engine.engine.display());
        errand.failure(kind::CONFIGURATION, &why)
    })?;
    let told = format!("{} {}", container.image, container.command.as_deref().unwrap_or_default());
    let outcome = settle(errand, running, &container.common, Limits::of(run, errand), &told).await;
    if let Some(wait) = remove_after {
        let engine = engine.engine.to_string_lossy().into_owned();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            tell(&engine, &["rm", "--force", &name]);
        });
    }
    outcome
}

/// The command line that runs the container.
fn arguments(
    errand: &Errand<'_>,
    run: &Run,
    engine: &config::Container,
    container: &Container,
    name: &str,
) -> Result<Vec<String>, Failure> {
    let pull = match container.pull_policy {
        PullPolicy::IfNotPresent => "missing",
        PullPolicy::Always => "always",
        PullPolicy::Never => "never",
    };
    let mut arguments: Vec<String> =
        ["run", "--interactive", "--name", name, "--pull", pull, "--security-opt", "no-new-privileges"]
            .map(str::to_owned)
            .to_vec();
    arguments.push(format!("--memory={}m", run.memory_mb));
    arguments.push(format!("--pids-limit={PROCESSES_MAX}"));
    if container.lifetime.as_ref().is_some_and(|lifetime| lifetime.cleanup == Cleanup::Always) {
        arguments.push("--rm".to_owned());
    }
    // By name alone: the values are in the environment of the command line, where `ps` does not show them.
    arguments.extend(container.common.environment(errand)?.into_keys().map(|name| format!("--env={name}")));
    for (host, inside) in &container.volumes {
        let is_plain = !host.contains(':') && Path::new(host).components().all(|part| part != Component::ParentDir);
        if !is_plain || !engine.volumes.iter().any(|allowed| Path::new(host).starts_with(allowed)) {
            let why =
                format!("volumes: {host:?} is not below a folder in `volumes` under [run.container] in agent.toml");
            return Err(errand.failure(kind::CONFIGURATION, &why));
        }
        arguments.push(format!("--volume={host}:{}", word(errand, "volumes", inside)?));
    }
    if !container.ports.is_empty() && !engine.ports {
        let why = "ports: expected `ports = true` under [run.container] in agent.toml";
        return Err(errand.failure(kind::CONFIGURATION, why));
    }
    for (host, inside) in &container.ports {
        arguments.push(format!("--publish={host}:{}", word(errand, "ports", inside)?));
    }
    // Nothing after this is an option of the engine.
    if container.image.starts_with('-') {
        return Err(errand.wrong("image", &format!("{:?}; expected the name of an image", container.image)));
    }
    arguments.push(container.image.clone());
    if let Some(command) = &container.command {
        // As for a shell task: text with parameters.
        arguments.extend(["sh", "-c", command, "sh"].map(str::to_owned));
    }
    arguments.extend(container.common.arguments(errand)?);
    Ok(arguments)
}

/// How long after its end the container is removed; `None`: it is not, or by the engine.
fn removal(errand: &Errand<'_>, lifetime: Option<&Lifetime>) -> Result<Option<Duration>, Failure> {
    let Some(Lifetime { cleanup: Cleanup::Eventually, after }) = lifetime else { return Ok(None) };
    let Some(after) = after else { return Err(errand.wrong("lifetime.after", "expected with cleanup: eventually")) };
    let span = Span::span_of(after).map_err(|error| errand.wrong("lifetime.after", &error.to_string()))?;
    Ok(Some(span))
}

/// Its container does not outlive it: the command line may have been ended, which the engine does not notice.
struct Killed {
    engine: String,
    name: String,
}

impl Drop for Killed {
    fn drop(&mut self) {
        tell(&self.engine, &["kill", &self.name]);
    }
}

/// Tells the engine something that may be unnecessary.
fn tell(engine: &str, words: &[&str]) {
    let mut command = Command::new(engine);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::warn!(engine, ?words, %error, "the container engine cannot be told");
    }
}
