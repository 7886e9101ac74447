//! `run: container`, by the command line of an engine such as Docker or Podman.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use edge_core::engine::effect::{Failure, kind};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    digest::Digest,
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
    confine::Folder,
    running::{Launch, Limits},
    settle, word,
};

/// What the engine's own command line needs of the agent's environment.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "CONTAINER_HOST", "XDG_RUNTIME_DIR"];
/// Processes in one container.
const PROCESSES_MAX: u32 = 256;
/// The label by which a container that an ended agent left behind is found again: a digest of the effect's key.
const KEY_LABEL: &str = "skerry-key";
/// Of the task's own name in the container's.
const NAME_CHARS_MAX: usize = 64;
/// How long the engine may take to say what was left behind. One that is slower is not there for the container either.
const LEFTOVERS_WITHIN: Duration = Duration::from_secs(10);

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
    errand.permit(Action::Run, TargetKind::Command, &container.image)?;
    let end = End::of(errand, container.lifetime.as_ref())?;
    let place = container.common.place(errand)?;
    // The command line runs as the agent, and so reads what only the agent may read.
    let folder = Folder::new(errand, run, None)?;
    let variables = folder.write(errand, "environment", &variables(errand, &container.common.environment(errand)?)?)?;
    let key = Digest::of(errand.call.key.0.as_bytes()).to_string();
    let mut arguments = arguments(errand, run, engine, &container)?;
    let made = Made { engine: engine.engine.clone(), name: name(container.name.as_deref()), end };
    let own = ["run".to_owned(), "--interactive".to_owned(), format!("--name={}", made.name)];
    let own = own.into_iter().chain([format!("--label={KEY_LABEL}={key}"), format!("--env-file={variables}")]);
    arguments.splice(0..0, own.chain((end == End::Removed).then(|| "--rm".to_owned())));
    remove_leftovers(&engine.engine, &key).await;
    let program = engine.engine.to_string_lossy().into_owned();
    // What the workflow gives is for the container. Here it could name a library, a path or another engine.
    let launch = Launch { program, arguments, environment: BTreeMap::new(), stdin: container.common.stdin() };
    let mut command = to_engine(&engine.engine);
    command.args(&launch.arguments).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = launch.start(command, Box::new((made, folder, place))).map_err(|error| {
        let why = format!("cannot start {}: {error} (`engine` under [run.container])", engine.engine.display());
        errand.failure(kind::CONFIGURATION, &why)
    })?;
    let told = format!("{} {}", container.image, container.command.as_deref().unwrap_or_default());
    settle(errand, running, &container.common, Limits::of(run, errand), &told).await
}

/// A name of this call alone, with the task's own in it for people.
fn name(wanted: Option<&str>) -> String {
    let wanted = wanted.unwrap_or("run").chars().take(NAME_CHARS_MAX);
    let wanted: String = wanted.map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect();
    format!("skerry-{wanted}-{}", &hex::encode(crate::clock::seed())[..12])
}

/// The variables as a file for the engine, whose format has no way to write a line's end or a `#` in front.
fn variables(errand: &Errand<'_>, environment: &BTreeMap<String, String>) -> Result<String, Failure> {
    let mut lines = String::new();
    for (name, value) in environment {
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            let expected = format!("{name:?}; expected letters, digits and _ . - in a container's variable");
            return Err(errand.wrong("environment", &expected));
        }
        if value.contains(['\n', '\r']) {
            let expected = format!("{name}: expected one line; a container gets more by stdin or a volume");
            return Err(errand.wrong("environment", &expected));
        }
        lines.extend([name.as_str(), "=", value, "\n"]);
    }
    Ok(lines)
}

/// The command line that runs the container.
fn arguments(
    errand: &Errand<'_>,
    run: &Run,
    engine: &config::Container,
    container: &Container,
) -> Result<Vec<String>, Failure> {
    let pull = match container.pull_policy {
        PullPolicy::IfNotPresent => "missing",
        PullPolicy::Always => "always",
        PullPolicy::Never => "never",
    };
    let mut arguments = vec![format!("--pull={pull}"), "--security-opt=no-new-privileges".to_owned()];
    arguments.push(format!("--memory={}m", run.memory_mb));
    arguments.push(format!("--pids-limit={PROCESSES_MAX}"));
    for (host, inside) in &container.volumes {
        let Some(host) = below(&engine.volumes, host) else {
            let why = format!(
                "volumes: {host:?} is not below a folder in `volumes` under [run.container] in agent.toml, or not there"
            );
            return Err(errand.failure(kind::CONFIGURATION, &why));
        };
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

/// Where the path really is, if that is below one of these folders: links lead nowhere else.
fn below(folders: &[PathBuf], path: &str) -> Option<String> {
    let real = Some(Path::new(path)).filter(|path| path.is_absolute())?.canonicalize().ok()?;
    let is_below =
        folders.iter().filter_map(|folder| folder.canonicalize().ok()).any(|folder| real.starts_with(folder));
    // A colon ends the path on the engine's command line.
    real.to_str().filter(|real| is_below && !real.contains(':')).map(str::to_owned)
}

/// What becomes of a container at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Removed,
    Kept,
    /// Removed after this long.
    Later(Duration),
}

impl End {
    /// As the task says; a task that says nothing leaves nothing behind.
    fn of(errand: &Errand<'_>, lifetime: Option<&Lifetime>) -> Result<Self, Failure> {
        let Some(Lifetime { cleanup, after }) = lifetime else { return Ok(Self::Removed) };
        match (cleanup, after) {
            (Cleanup::Always, _) => Ok(Self::Removed),
            (Cleanup::Never, _) => Ok(Self::Kept),
            (Cleanup::Eventually, None) => Err(errand.wrong("lifetime.after", "expected with cleanup: eventually")),
            (Cleanup::Eventually, Some(after)) => {
                let span = Span::span_of(after);
                span.map(Self::Later).map_err(|error| errand.wrong("lifetime.after", &error.to_string()))
            }
        }
    }
}

/// A container that this call made. It does not run on after the call: the command line may have been ended, which the
/// engine does not notice.
struct Made {
    engine: PathBuf,
    name: String,
    end: End,
}

impl Drop for Made {
    fn drop(&mut self) {
        match self.end {
            End::Removed => tell(&self.engine, &["rm", "--force", &self.name]),
            End::Kept => tell(&self.engine, &["kill", &self.name]),
            End::Later(wait) => {
                tell(&self.engine, &["kill", &self.name]);
                let (engine, name) = (self.engine.clone(), self.name.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    tell(&engine, &["rm", "--force", &name]);
                });
            }
        }
    }
}

/// The engine's command line, with what it needs of the agent's environment and nothing else.
fn to_engine(engine: &Path) -> Command {
    let mut command = Command::new(engine);
    let own = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.env_clear().envs(own).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Removes what an earlier try of the same effect left behind, when the agent was ended in the middle of it.
async fn remove_leftovers(engine: &Path, key: &str) {
    let filter = format!("label={KEY_LABEL}={key}");
    let mut asked = to_engine(engine);
    let asked = asked.args(["ps", "--all", "--quiet", "--filter", &filter]).output();
    // An engine that cannot say so cannot run anything either, and is heard then.
    let Ok(Ok(said)) = tokio::time::timeout(LEFTOVERS_WITHIN, asked).await else { return };
    let said = String::from_utf8_lossy(&said.stdout);
    for left in said.lines().filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit())) {
        let removed = to_engine(engine).args(["rm", "--force", left]).stdout(Stdio::null()).status();
        if !matches!(tokio::time::timeout(LEFTOVERS_WITHIN, removed).await, Ok(Ok(status)) if status.success()) {
            tracing::warn!(container = left, "a container that was left behind cannot be removed");
        }
    }
}

/// Tells the engine something that may be unnecessary.
fn tell(engine: &Path, words: &[&str]) {
    let mut command = to_engine(engine);
    command.args(words).stdout(Stdio::null()).kill_on_drop(false);
    if let Err(error) = command.spawn() {
        tracing::warn!(engine = %engine.display(), ?words, %error, "the container engine cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_below_an_open_folder_wherever_links_lead() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().canonicalize().expect("a path");
        let [open, closed, near] = ["open", "closed", "opened"].map(|name| dir.join(name));
        for folder in [&open.join("a"), &closed, &near] {
            std::fs::create_dir_all(folder).expect("made");
        }
        std::os::unix::fs::symlink(&closed, open.join("out")).expect("linked");
        std::os::unix::fs::symlink(open.join("a"), closed.join("in")).expect("linked");
        std::os::unix::fs::symlink(&open, dir.join("named")).expect("linked");
        let allowed = [dir.join("named"), dir.join("absent")];
        let a = open.join("a").display().to_string();
        for (path, expected) in [
            ("open/a", Some(&a)),
            ("named/a", Some(&a)),
            ("closed/in", Some(&a)),
            ("open/../open/a", Some(&a)),
            ("open/out", None),
            ("open/../closed", None),
            ("opened", None),
            ("open/absent", None),
        ] {
            let asked = dir.join(path).display().to_string();
            assert_eq!(below(&allowed, &asked).as_ref(), expected, "{path}");
        }
        assert_eq!(below(&[PathBuf::from("/")], "etc"), None, "relative to nothing");
    }

    #[test]
    fn no_call_takes_the_name_of_another_container() {
        let (one, other) = (name(Some("mosquitto -x")), name(Some("mosquitto -x")));
        assert!(one.starts_with("skerry-mosquitto--x-") && one != other, "{one} {other}");
        assert!(name(None).starts_with("skerry-run-"));
        assert!(name(Some(&"x".repeat(500))).len() < 100);
    }
}
