//! The DSL's `run: shell`, `run: script` and `run: container` (specification, section "Run"): processes on the node, where
//! its policy and its configuration allow them.

mod confine;
mod container;
mod memory;
mod running;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edge_core::engine::effect::{Failure, kind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::policy::{Action, TargetKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use confine::{Confined, Folder};
pub use confine::{problems, sweep};
use running::{Ended, Limits};
pub(super) use running::{Group, Launch};

use super::{
    config::Run,
    document::Resource,
    errand::{Errand, scalar},
};

/// Names the effect to what runs, so that it can know a repetition.
const KEY_VARIABLE: &str = "SKERRY_KEY";
/// Processes with `await: false` at one time. Nothing else holds them back, as their tasks are done at once; each may take
/// the memory that `[run]` allows until its limit of time.
const UNAWAITED_MAX: usize = 8;

/// Places for the processes that no task waits for.
pub(super) struct Unawaited(Arc<Semaphore>);

impl Default for Unawaited {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNAWAITED_MAX)))
    }
}

#[derive(Deserialize)]
struct Shell {
    command: String,
    #[serde(flatten)]
    common: Common,
}

#[derive(Deserialize)]
struct Script {
    language: String,
    code: Option<String>,
    source: Option<Resource>,
    #[serde(flatten)]
    common: Common,
}

/// What every process is given.
#[derive(Deserialize)]
struct Common {
    stdin: Option<Value>,
    #[serde(default)]
    arguments: Vec<Value>,
    #[serde(default)]
    environment: Map<String, Value>,
    #[serde(default = "yes", rename = "await")]
    waits: bool,
    #[serde(default, rename = "return")]
    returns: Returns,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Returns {
    #[default]
    Stdout,
    Stderr,
    Code,
    All,
    None,
}

/// What a task calls a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Shell,
    Script,
    Container,
}

/// Runs the process, and makes the task's output of what it says.
pub(super) async fn call(errand: &Errand<'_>, kind: Kind) -> Result<Value, Failure> {
    let run = enabled(errand)?;
    match kind {
        Kind::Container => container::call(errand, run).await,
        Kind::Shell => {
            let Shell { command, common } = errand.arguments()?;
            errand.permit(Action::Run, TargetKind::Command, command.trim())?;
            // The name of the program is `$0`, so that the first argument is `$1`.
            let mut arguments = vec!["-c".to_owned(), command.clone(), "sh".to_owned()];
            arguments.extend(common.arguments(errand)?);
            let confined = Confined::new(errand, run)?;
            let folder = confined.folder(errand)?;
            finish(errand, &confined, common, folder, "sh", arguments, &command).await
        }
        Kind::Script => {
            let Script { language, code, source, common } = errand.arguments()?;
            let interpreter = Interpreter::of(&language)
                .ok_or_else(|| errand.wrong("language", &format!("{language:?}; expected js, python or sh")))?;
            errand.permit(Action::Run, TargetKind::Command, interpreter.name)?;
            let code = match (code, source) {
                (Some(code), None) => code,
                (None, Some(source)) => errand.ways.documents.fetch(errand, &source).await?.text.clone(),
                _ => return Err(errand.wrong("code", "expected exactly one of code and source")),
            };
            let confined = Confined::new(errand, run)?;
            let folder = confined.folder(errand)?;
            let file = folder.write(errand, interpreter.file(&code), &code)?;
            let arguments = [file].into_iter().chain(common.arguments(errand)?).collect();
            finish(errand, &confined, common, folder, interpreter.program, arguments, &code).await
        }
    }
}

/// How long a process may take on this node.
pub(super) fn time_limit(run: Option<&Run>) -> Duration {
    Duration::from_secs(run.map_or(0, |run| run.timeout_s))
}

/// Whether the agent itself is root.
pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The folder of a process belongs to the user that it acts as.
    std::fs::metadata("/proc/self").map_or(true, |own| own.uid() == 0)
}

/// Whether this node runs processes at all.
pub(super) fn enabled<'e>(errand: &'e Errand<'_>) -> Result<&'e Run, Failure> {
    errand.ways.run.as_ref().ok_or_else(|| {
        let why = "this node runs no processes: expected [run] in agent.toml with the `user` that they run as";
        errand.failure(kind::CONFIGURATION, why)
    })
}

/// What runs a script.
struct Interpreter {
    /// The language, as policy names it.
    name: &'static str,
    program: &'static str,
}

impl Interpreter {
    fn of(language: &str) -> Option<Self> {
        match language.to_ascii_lowercase().as_str() {
            "js" | "javascript" => Some(Self { name: "js", program: "node" }),
            "python" => Some(Self { name: "python", program: "python3" }),
            "sh" | "shell" => Some(Self { name: "sh", program: "sh" }),
            _ => None,
        }
    }

    /// Node tells modules, which `import`, from older scripts by the name of the file.
    fn file(&self, code: &str) -> &'static str {
        let is_module = || {
            let mut lines = code.lines().map(str::trim_start);
            lines.any(|line| ["import ", "import{", "export "].iter().any(|word| line.starts_with(word)))
        };
        match self.name {
            "js" if is_module() => "script.mjs",
            "js" => "script.cjs",
            "python" => "script.py",
            _ => "script.sh",
        }
    }
}

impl Common {
    fn arguments(&self, errand: &Errand<'_>) -> Result<Vec<String>, Failure> {
        self.arguments.iter().map(|value| word(errand, "arguments", value)).collect()
    }

    /// What the task gives and the effect's key.
    fn environment(&self, errand: &Errand<'_>) -> Result<BTreeMap<String, String>, Failure> {
        let mut environment = BTreeMap::from([(KEY_VARIABLE.to_owned(), errand.call.key.0.clone())]);
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(errand.wrong("environment", &format!("{name:?} is no name of a variable")));
            }
            environment.insert(name.clone(), word(errand, "environment", value)?);
        }
        Ok(environment)
    }

    /// A place for a process that nobody waits for, to be held until its end; `None`: its task waits.
    fn place(&self, errand: &Errand<'_>) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if self.waits {
            return Ok(None);
        }
        Arc::clone(&errand.ways.unawaited.0).try_acquire_owned().map(Some).map_err(|_| {
            let why =
                format!("{UNAWAITED_MAX} processes with `await: false` run already; try again when one has ended");
            errand.failure(kind::RUNTIME, &why)
        })
    }

    fn stdin(&self) -> Option<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.stdin.as_ref().filter(|value| !value.is_null()).map(text)
    }
}

/// A text without the zero that ends one for the system.
fn word(errand: &Errand<'_>, field: &str, value: &Value) -> Result<String, Failure> {
    let text = scalar(value).filter(|text| !text.contains('\0'));
    text.ok_or_else(|| errand.wrong(field, &format!("{value}; expected texts, numbers or booleans")))
}

/// Starts the process and waits for its end, or leaves it to itself where the task does not wait.
async fn finish(
    errand: &Errand<'_>,
    confined: &Confined<'_>,
    common: Common,
    folder: Folder,
    program: &str,
    arguments: Vec<String>,
    told: &str,
) -> Result<Value, Failure> {
    let run = confined.run();
    let (environment, place) = (common.environment(errand)?, common.place(errand)?);
    let launch = Launch { program: program.to_owned(), arguments, environment, stdin: common.stdin() };
    let command = confined.command(&launch, &folder);
    let running = launch.start(command, Box::new((folder, place))).map_err(|error| {
        let why = format!("cannot start {program}: {error}; is it installed on {:?} (`path` under [run])?", run.path);
        errand.failure(kind::CONFIGURATION, &why)
    })?;
    settle(errand, running, &common, Limits::of(run, errand), told).await
}

/// Waits for the end of what runs, and makes the task's output of it.
async fn settle(
    errand: &Errand<'_>,
    running: running::Running,
    common: &Common,
    limits: Limits,
    told: &str,
) -> Result<Value, Failure> {
    let sent = errand.trail.begin(&errand.call.function, told);
    if !common.waits {
        let (task, key) = (errand.call.task.clone(), errand.call.key.0.clone());
        tokio::spawn(async move {
            match running.end(limits).await {
                Ok(ended) => tracing::info!(task, key, code = ended.code, "a process that nobody waits for has ended"),
                Err(error) => tracing::warn!(task, key, %error, "a process that nobody waits for was ended"),
            }
        });
        sent.answered("started");
        return Ok(Value::Null);
    }
    match running.end(limits).await {
        Ok(ended) => {
            sent.answered(&ended.all().to_string());
            shape(errand, ended, common.returns)
        }
        Err(error) => {
            let failure = errand.failure(error.kind(), &error.to_string());
            sent.failed(&failure);
            Err(failure)
        }
    }
}

/// The task's output. Whoever asks for the code, or for the errors, sees a bad end there; for all others it is an error.
fn shape(errand: &Errand<'_>, ended: Ended, returns: Returns) -> Result<Value, Failure> {
    if ended.code != 0 && matches!(returns, Returns::Stdout | Returns::None) {
        let said: String = ended.stderr.chars().take(300).collect();
        return Err(errand.failure(kind::RUNTIME, &format!("ended with code {}: {said}", ended.code)));
    }
    Ok(match returns {
        Returns::Stdout => ended.stdout.into(),
        Returns::Stderr => ended.stderr.into(),
        Returns::Code => ended.code.into(),
        Returns::All => ended.all(),
        Returns::None => Value::Null,
    })
}

impl Ended {
    fn all(&self) -> Value {
        json!({"code": self.code, "stdout": self.stdout, "stderr": self.stderr})
    }
}

#[cfg(test)]
mod tests {
    use edge_core::engine::support::LANGUAGES;

    use super::Interpreter;

    #[test]
    fn what_the_check_takes_for_a_language_is_run() {
        assert!(LANGUAGES.iter().all(|language| Interpreter::of(language).is_some()));
        assert!(Interpreter::of("cobol").is_none());
    }
}
