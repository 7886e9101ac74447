//! The confines of a process: another user without further groups, no way to more rights, a session and an empty folder
//! of its own, no environment but what it is given, no open files, and limits that the kernel keeps.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use edge_core::engine::effect::{Failure, kind};
use tokio::process::Command;

use super::{
    super::{config::Run, errand::Errand},
    running::Launch,
};

/// Interpreters reserve far more addresses than they use; this bounds what the limit of memory does not count.
const ADDRESSES: u64 = 4 << 30;
/// What a program opens at one time.
const FILES_MAX: u64 = 256;
/// Locale of the programs: UTF-8, and no language.
const LOCALE: &str = "C.UTF-8";

/// The kernel's number of a limit; its type is the C library's own.
#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// How processes are confined on this node.
pub(in super::super) struct Confined<'r> {
    run: &'r Run,
    /// User and group; `None`: the agent's own.
    user: Option<(u32, u32)>,
}

impl<'r> Confined<'r> {
    /// The confines that `agent.toml` sets.
    pub(in super::super) fn new(errand: &Errand<'_>, run: &'r Run) -> Result<Self, Failure> {
        let unfit = |why: String| errand.failure(kind::CONFIGURATION, &format!("[run] in agent.toml: {why}"));
        Ok(Self { run, user: user_of(run).map_err(unfit)? })
    }

    pub(in super::super) const fn run(&self) -> &'r Run {
        self.run
    }

    /// An empty folder for one process.
    pub(in super::super) fn folder(&self, errand: &Errand<'_>) -> Result<Folder, Failure> {
        Folder::new(errand, self.run, self.user)
    }

    /// The command, ready to be spawned.
    pub(in super::super) fn command(&self, launch: &Launch, folder: &Folder) -> Command {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", &self.run.path)
            .env("HOME", &folder.path)
            .env("LANG", LOCALE)
            .envs(&launch.environment)
            .current_dir(&folder.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((user, group)) = self.user {
            // Root's other groups are given up with this, as `setuid` alone would not.
            command.uid(user).gid(group);
        }
        let limits = self.limits();
        // SAFETY: between fork and exec only functions that are safe in a signal handler may be called: `enter` makes plain
        // system calls, which neither allocate nor lock; what they need was computed before the fork.
        unsafe { command.pre_exec(move || enter(&limits)) };
        command
    }

    fn limits(&self) -> [(Resource, u64); 7] {
        let run = self.run;
        let memory = run.memory_mb.saturating_mul(1 << 20);
        // The kernel counts all of a user's processes: those of the agent's own user are not ours to limit.
        let processes = if self.user.is_some() { run.processes } else { u64::from(u32::MAX) };
        [
            (libc::RLIMIT_DATA, memory),
            (libc::RLIMIT_AS, memory.saturating_add(ADDRESSES)),
            (libc::RLIMIT_CPU, run.timeout_s.saturating_add(1)),
            (libc::RLIMIT_FSIZE, run.file_mb.saturating_mul(1 << 20)),
            (libc::RLIMIT_NPROC, processes),
            (libc::RLIMIT_NOFILE, FILES_MAX),
            (libc::RLIMIT_CORE, 0),
        ]
    }
}

/// The last steps of the child before it becomes the program: a session of its own, no way to more rights, its limits, and
/// no open files but its three.
fn enter(limits: &[(Resource, u64)]) -> io::Result<()> {
    // SAFETY: the calls read their arguments alone; `limit` lives until `setrlimit` is back.
    unsafe {
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // It ends with the agent, which would else start it once more beside itself. By the time this runs the user is the
        // last one: a change of it would take this back.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        for (resource, limit) in limits {
            let limit = libc::rlimit { rlim_cur: *limit, rlim_max: *limit };
            check(libc::setrlimit(*resource, &limit))?;
        }
        // Should a library have forgotten to say so of a file: marked to close when the program starts. Kernels before 5.11
        // cannot; there it stays with what each library said.
        let marked = libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        match check(i32::try_from(marked).unwrap_or(-1)) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The user and group that processes run as; `None`: the agent's own.
fn user_of(run: &Run) -> Result<Option<(u32, u32)>, String> {
    let user = match (&run.user, run.as_agent) {
        (Some(name), false) => Some(look_up(name)?),
        (None, true) => None,
        _ => return Err("expected either `user`, or `as_agent = true`".to_owned()),
    };
    let is_root = user.map_or_else(super::is_root, |(user, group)| user == 0 || group == 0);
    if is_root {
        return Err("processes of workflows never run as root: expected another `user`".to_owned());
    }
    Ok(user)
}

/// What keeps processes from running as `[run]` says, as far as it is seen without starting one.
pub fn problems(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    match user_of(run) {
        Err(why) => found.push(why),
        Ok(Some(_)) if !super::is_root() => {
            let user = run.user.as_deref().unwrap_or_default();
            found.push(format!("user: only an agent that runs as root may start processes as {user}"));
        }
        Ok(_) => {}
    }
    if let Err(error) = try_folder(&run.work_dir) {
        found.push(format!("work_dir: {} cannot be written: {error}", run.work_dir.display()));
    }
    found
}

/// Makes a folder there and takes it away again.
fn try_folder(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("skerry-{}", hex::encode(crate::clock::seed())));
    std::fs::create_dir(&path)?;
    std::fs::remove_dir(&path)
}

fn check(returned: i32) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// User and group of a name. Read from the file itself: the name service of the C library loads plug-ins, which a static
/// binary cannot.
fn look_up(name: &str) -> Result<(u32, u32), String> {
    let known = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    let found = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.ok_or_else(|| format!("there is no user {name:?} in /etc/passwd (`useradd --system {name}` makes one)"))
}

/// How the names of processes' folders begin.
const NAMES: &str = "skerry-";

/// The same for those of one node.
fn own_names(mark: &str) -> String {
    format!("{NAMES}{mark}-")
}

/// Removes the folders of processes that were under way when an agent of this node was killed; how many they were. To be called while no other
/// process of this node runs.
pub fn sweep(run: &Run) -> usize {
    let Some(names) = run.mark.as_deref().map(own_names) else { return 0 };
    let is_own = |name: &str| {
        let rest = name.strip_prefix(&names);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let entries = std::fs::read_dir(&run.work_dir).into_iter().flatten().flatten();
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let own = entries.filter(|entry| is_own(&entry.file_name().to_string_lossy()) && is_folder(entry));
    own.filter(|entry| match std::fs::remove_dir_all(entry.path()) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(folder = %entry.path().display(), %error, "the folder of a process stays behind");
            false
        }
    })
    .count()
}

/// A folder that is removed with all that lies in it.
pub(in super::super) struct Folder {
    path: PathBuf,
    user: Option<(u32, u32)>,
}

impl Folder {
    /// An empty one in this folder, for this user and group; `None`: the agent's own.
    pub(super) fn new(errand: &Errand<'_>, run: &Run, user: Option<(u32, u32)>) -> Result<Self, Failure> {
        let mark = run.mark.as_deref().map(own_names).unwrap_or_else(|| NAMES.to_owned());
        let path = run.work_dir.join(format!("{mark}{}", hex::encode(crate::clock::seed())));
        let make = || {
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
            let folder = Self { path: path.clone(), user };
            folder.own(&path).map(|()| folder)
        };
        make().map_err(|error| {
            let why = format!("cannot make the folder {}: {error} (`work_dir` under [run])", path.display());
            errand.failure(kind::CONFIGURATION, &why)
        })
    }

    /// Writes a file that the process may read; gives its path.
    pub(super) fn write(&self, errand: &Errand<'_>, name: &str, text: &str) -> Result<String, Failure> {
        let path = self.path.join(name);
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            self.own(&path)
        };
        match write() {
            Ok(()) => Ok(path.to_string_lossy().into_owned()),
            Err(error) => Err(errand.failure(kind::RUNTIME, &format!("cannot write {}: {error}", path.display()))),
        }
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "the folder of a process stays behind");
        }
    }
}
