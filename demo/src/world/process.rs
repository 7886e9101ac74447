//! Programs as child processes: their output goes to a file, and they are ended by their own id, politely first.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a program may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(8);
/// How much of its log is told when a program ended by itself.
const LOG_LINES_TOLD: usize = 12;

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The ends of a program's pipes that the demo holds.
pub struct Pipes {
    pub input: ChildStdin,
    pub output: ChildStdout,
}

impl Process {
    /// Starts a program; what it writes to standard error goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<(Self, Pipes)> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // A Ctrl-C in the terminal reaches the demo alone, which ends the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take()).map(|(input, output)| Pipes { input, output });
        let pipes = pipes.context("a started program has pipes")?;
        Ok((Self { name: name.to_owned(), child, log: log.to_owned() }, pipes))
    }

    /// Fails when the program has ended by itself, with the end of its log.
    ///
    /// # Errors
    /// Then.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES_TOLD)..].join("\n  ");
            bail!("{} ended by itself ({status}); the end of {}:\n  {end}", self.name, self.log.display());
        }
        Ok(())
    }

    /// Asks the program to end, and ends it if it does not.
    pub async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            // The shell's own `kill` is everywhere; a signal by id needs no further library then.
            let asked =
                Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).stderr(Stdio::null()).status().await;
            if asked.is_ok() && tokio::time::timeout(GOODBYE, self.child.wait()).await.is_ok() {
                return;
            }
        }
        let _ = self.child.kill().await;
    }
}

/// Runs a program to its end and gives what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub async fn output(mut command: Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std().get_program());
    let done = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {shown}"))?;
    if !done.status.success() {
        bail!("{shown} failed ({}): {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
