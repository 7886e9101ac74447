//! Prompts by the chat templates of model files. A template is a program of whoever made the file, so it runs in a process of its own, with
//! limits on memory and time: one that was made to break what runs it breaks that process alone. The process stays while a model is loaded.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use models::generate::Draft;
use serde::{Deserialize, Serialize};

/// What the process may take: its addresses (less where the machine has little free), and the processor's time for each prompt.
pub const MEMORY_BYTES_MAX: u64 = 512 << 20;
pub const SECONDS_MAX: u64 = 10;
/// What the process says first, once its limits hold.
pub const READY: &str = "skerry writes prompts";
/// The agent's own program, also where its file has been replaced, and the command of it.
const PROGRAM: &str = "/proc/self/exe";
const COMMAND: &str = "write-prompts";
/// What JSON may make of a byte of a prompt, and what stands around it.
const ESCAPED_BYTES: u64 = 6;
const AROUND_BYTES: u64 = 1 << 16;

/// What came of a draft.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    Prompt(String),
    TooLong,
    Refused(String),
}

impl From<Result<Option<String>, String>> for Written {
    fn from(written: Result<Option<String>, String>) -> Self {
        match written {
            Ok(Some(prompt)) => Self::Prompt(prompt),
            Ok(None) => Self::TooLong,
            Err(why) => Self::Refused(why),
        }
    }
}

/// Writes prompts, one after the other.
#[derive(Default)]
pub struct Writer(Mutex<Held>);

/// The process between two prompts.
#[derive(Default)]
enum Held {
    #[default]
    None,
    Waits(Process),
    /// It does not start here, and is not tried again.
    Never,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Writer {
    /// The prompt of a draft; `None` when it would be too long.
    ///
    /// # Errors
    /// Why the template refuses the messages, or that it took too much.
    pub fn write(&self, draft: &Draft) -> Result<Option<String>, String> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_vec(draft).map_err(|error| error.to_string())?;
        match std::mem::take(&mut *held) {
            Held::Waits(mut process) => {
                // It may have been ended by others, such as by a kernel without memory.
                if let Ok(written) = process.ask(&line, draft.most) {
                    *held = Held::Waits(process);
                    return told(written);
                }
            }
            Held::None => {}
            Held::Never => {
                *held = Held::Never;
                drop(held);
                return draft.write();
            }
        }
        let mut process = match Process::start() {
            Ok(Some(process)) => process,
            Ok(None) => {
                tracing::warn!("chat templates run in the agent itself: a process for them does not start here");
                *held = Held::Never;
                drop(held);
                return draft.write();
            }
            Err(error) => return Err(format!("no process can be started for it: {error}")),
        };
        let written = process.ask(&line, draft.most).map_err(|_| {
            let most = MEMORY_BYTES_MAX >> 20;
            format!("it takes more than {most} MB or {SECONDS_MAX} seconds to be written")
        })?;
        *held = Held::Waits(process);
        told(written)
    }

    /// Ends the process until there is another prompt.
    pub fn rest(&self) {
        // One that is at work is needed.
        if let Ok(mut held) = self.0.try_lock()
            && matches!(*held, Held::Waits(_))
        {
            *held = Held::None;
        }
    }
}

fn told(written: Written) -> Result<Option<String>, String> {
    match written {
        Written::Prompt(prompt) => Ok(Some(prompt)),
        Written::TooLong => Ok(None),
        Written::Refused(why) => Err(why),
    }
}

impl Process {
    /// `None` where it ends before its limits hold, such as where they are forbidden.
    fn start() -> io::Result<Option<Self>> {
        let mut program = Command::new(PROGRAM);
        // The allocator's reserve counts towards the limit; what it reserved before the limit held would not.
        program.env_clear().env("MIMALLOC_ARENA_RESERVE", "32MiB");
        program.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn()?;
        let (to, from) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let mut process = Self { child, to, from: BufReader::new(from) };
        let mut said = String::new();
        process.from.by_ref().take(AROUND_BYTES).read_line(&mut said)?;
        Ok((said.trim_end() == READY).then_some(process))
    }

    /// What comes of a draft, whose prompt has so many bytes at most.
    fn ask(&mut self, line: &[u8], most: usize) -> io::Result<Written> {
        self.to.write_all(line)?;
        self.to.write_all(b"\n")?;
        self.to.flush()?;
        let mut said = Vec::new();
        let most = (most as u64).saturating_mul(ESCAPED_BYTES).saturating_add(AROUND_BYTES);
        self.from.by_ref().take(most).read_until(b'\n', &mut said)?;
        Ok(serde_json::from_slice(&said)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be at work on what nobody waits for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
