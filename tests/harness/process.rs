//! One process under test: its log in a file, its end certain.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::wait;

/// How much of a log a failing test shows.
const LOG_TAIL_LINES: usize = 60;

/// A running process. Dropped, it is killed; when the test is failing by then, the end of its log is printed.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with both its outputs appended to `<folder>/<name>.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("the log can be opened");
        let err = out.try_clone().expect("the log can be opened twice");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// All that it has said so far, over all its starts in the same folder.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status when it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGKILL, as a power cut: no chance to clean up.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When it is not gone after the bound.
    pub async fn stop(&mut self, bound: Duration) -> ExitStatus {
        self.signal("TERM");
        wait::until(&format!("{} to end", self.name), bound, async || self.ended()).await
    }

    /// SIGINT, as Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it has not after the bound.
    pub async fn end(&mut self, bound: Duration) -> ExitStatus {
        wait::until(&format!("{} to end", self.name), bound, async || self.ended()).await
    }

    /// Stops it where it stands, until `resume`.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Waits until its log contains a text.
    ///
    /// # Panics
    /// When it does not in time, or the process ends before.
    pub async fn says(&mut self, text: &str, bound: Duration) {
        let name = self.name.clone();
        wait::until(&format!("{name} to say {text:?}"), bound, async || {
            if self.log().contains(text) {
                return Some(());
            }
            let ended = self.ended();
            assert!(ended.is_none(), "{name} ended ({ended:?}) before it said {text:?}:\n{}", self.log());
            None
        })
        .await;
    }

    fn signal(&self, name: &str) {
        let pid = self.pid();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh can be run");
        assert!(sent.success(), "cannot send {name} to {} ({pid})", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("---- the end of the log of {} ----\n{}\n----", self.name, tail.join("\n"));
        }
    }
}

/// What a command said that ran to its end.
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The exit code.
    ///
    /// # Panics
    /// When a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {}{}", self.out, self.err))
    }

    /// What it printed, when it succeeded.
    ///
    /// # Panics
    /// When it did not, with all that it said.
    #[expect(clippy::must_use_candidate, reason = "that it succeeded is often all that matters")]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "exit {:?}\n{}{}", self.status.code(), self.out, self.err);
        self.out
    }

    /// What it printed, as JSON, when it succeeded.
    ///
    /// # Panics
    /// When it did not succeed or did not print JSON.
    #[must_use]
    pub fn json(self) -> serde_json::Value {
        assert!(self.status.success(), "exit {:?}\n{}{}", self.status.code(), self.out, self.err);
        self.printed()
    }

    /// What it printed, as JSON, whether or not it succeeded.
    ///
    /// # Panics
    /// When it did not print JSON.
    #[must_use]
    pub fn printed(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}):\n{}{}", self.out, self.err))
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started, or is still running after the bound.
pub async fn run(command: &mut Command, bound: Duration) -> Said {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("true")));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(bound, command.output())
        .await
        .unwrap_or_else(|_| panic!("still running after {bound:?}: {shown}"))
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    Said {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
