//! A process under way, until its end or its limit. Whatever it started in its group ends with it.

use std::{collections::BTreeMap, io, time::Duration};

use edge_core::engine::effect::kind;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    task::JoinHandle,
};

use super::{
    super::{config::Run, errand::Errand},
    memory,
};

/// How long output may still come after the end of the process: only what has left its group could write it.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked at what the processes hold together.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A program and what it is given.
pub(in super::super) struct Launch {
    pub(in super::super) program: String,
    pub(in super::super) arguments: Vec<String>,
    pub(in super::super) environment: BTreeMap<String, String>,
    pub(in super::super) stdin: Option<String>,
}

/// What a process may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    time: Duration,
    output_bytes: u64,
    memory_bytes: u64,
}

/// How a process ended. The code of one that a signal ended is 128 and the signal, as shells say it.
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Why a process was not let go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it took longer than {} ms and was killed", .0.as_millis())]
    Late(Duration),
    #[error("it wrote more than {0} bytes")]
    TooLong(u64),
    #[error("its processes held more than {} MB together and were killed", .0 >> 20)]
    TooLarge(u64),
    #[error("cannot wait for it: {0}")]
    Lost(#[from] io::Error),
}

impl Error {
    pub(super) const fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Late(_) => kind::TIMEOUT,
            Self::TooLong(_) | Self::TooLarge(_) | Self::Lost(_) => kind::RUNTIME,
        }
    }
}

impl Limits {
    pub(super) fn of(run: &Run, errand: &Errand<'_>) -> Self {
        let time = super::time_limit(Some(run));
        Self {
            time: errand.within(time).min(time),
            output_bytes: run.output_kb.saturating_mul(1 << 10),
            memory_bytes: run.memory_mb.saturating_mul(1 << 20),
        }
    }
}

/// The processes that have the number of the first one as their group; they end when this is dropped.
pub(in super::super) struct Group(Option<i32>);

impl Group {
    pub(in super::super) fn of(child: &Child) -> Self {
        // Never 0 or 1, which would mean other groups.
        Self(child.id().and_then(|id| i32::try_from(id).ok()).filter(|id| *id > 1))
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // SAFETY: touches no memory. That none is left of the group is as good.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Something that a process needs until its end.
pub(super) type Held = Box<dyn std::any::Any + Send>;

/// A process under way.
pub(super) struct Running {
    group: Group,
    child: Child,
    stdin: Option<String>,
    /// What goes after it, such as its folder.
    _held: Held,
}

impl Launch {
    /// As one line, for people and for policy.
    pub(in super::super) fn line(&self) -> String {
        [&self.program].into_iter().chain(&self.arguments).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Starts the command, which leads a group of its own.
    pub(super) fn start(self, mut command: Command, held: Held) -> io::Result<Running> {
        let child = command.kill_on_drop(true).spawn()?;
        Ok(Running { group: Group::of(&child), child, stdin: self.stdin, _held: held })
    }
}

impl Running {
    /// Waits for the end, with what was written until then.
    pub(super) async fn end(self, limits: Limits) -> Result<Ended, Error> {
        let late = limits.time;
        tokio::time::timeout(late, self.wait(limits)).await.unwrap_or(Err(Error::Late(late)))
    }

    async fn wait(mut self, limits: Limits) -> Result<Ended, Error> {
        let stdout = self.child.stdout.take().map(|pipe| tokio::spawn(read(pipe, limits.output_bytes)));
        let stderr = self.child.stderr.take().map(|pipe| tokio::spawn(read(pipe, limits.output_bytes)));
        if let (Some(mut pipe), Some(text)) = (self.child.stdin.take(), self.stdin.take()) {
            // A program that does not read its input is no error.
            tokio::spawn(async move { drop(pipe.write_all(text.as_bytes()).await) });
        }
        let leader = self.child.id();
        let status = tokio::select! {
            status = self.child.wait() => status?,
            () = exceeded(leader, limits.memory_bytes) => return Err(Error::TooLarge(limits.memory_bytes)),
        };
        // At once: the number is free for another process when nobody is left in the group.
        self.group.kill();
        let (stdout, stderr) = (collect(stdout).await?, collect(stderr).await?);
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        Ok(Ended { code: status.code().unwrap_or(128 + signal), stdout, stderr })
    }
}

/// Ends when the processes of the leader's session hold more than so many bytes together.
async fn exceeded(leader: Option<u32>, bytes: u64) {
    let Some(leader) = leader else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let held = tokio::task::spawn_blocking(move || memory::of_session(leader)).await;
        if held.is_ok_and(|held| held > bytes) {
            return;
        }
    }
}

/// Reads up to the limit. Past it the pipe is closed, which ends most programs that go on writing.
async fn read(pipe: impl AsyncRead + Unpin, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut read = Vec::new();
    pipe.take(bytes_max + 1).read_to_end(&mut read).await?;
    if read.len() as u64 > bytes_max { Err(Error::TooLong(bytes_max)) } else { Ok(read) }
}

async fn collect(reader: Option<JoinHandle<Result<Vec<u8>, Error>>>) -> Result<String, Error> {
    let Some(reader) = reader else { return Ok(String::new()) };
    let abort = reader.abort_handle();
    let Ok(read) = tokio::time::timeout(GRACE, reader).await else {
        abort.abort();
        return Err(Error::Late(GRACE));
    };
    let bytes = read.map_err(io::Error::other)??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
