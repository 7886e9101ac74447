//! One process at a time works on a data folder: two would each be wrong about what the other did. The lock goes with the process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::make_data_folder;

/// Who works on the folder; its name stands in the lock's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    Agent,
    /// A command that does by itself what it would have asked the agent for.
    Command,
}

/// Between two looks at a folder that another process has.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A command that asks a model on a small machine takes no longer.
const COMMAND_WITHIN: Duration = Duration::from_secs(180);
/// The claimant's name is written a moment after the lock is taken; until then the one before stands there.
const NAMED_WITHIN: Duration = Duration::from_millis(500);

impl Claimant {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Command => "command",
        }
    }
}

/// Takes the folder, once a command that has it is done.
///
/// # Errors
/// When an agent has it, a command does not come to an end, or the folder cannot be used.
pub(super) async fn claim(folder: &Path, claimant: Claimant) -> anyhow::Result<File> {
    make_data_folder(folder)?;
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let began = Instant::now();
    // Since when its name is none of a command's.
    let mut unnamed = began;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(anyhow::Error::new(error).context(format!("cannot lock {}", path.display())));
            }
        }
        let is_commands = std::fs::read_to_string(&path).is_ok_and(|name| name == Claimant::Command.name());
        if is_commands {
            unnamed = Instant::now();
        }
        if began.elapsed() > COMMAND_WITHIN || unnamed.elapsed() > NAMED_WITHIN {
            bail!("{}", taken(folder, unnamed.elapsed() <= NAMED_WITHIN, claimant));
        }
        if is_commands && !std::mem::replace(&mut is_told, true) {
            tracing::info!(folder = %folder.display(), "waits for a command that works on the data folder");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // On a full disk it stays unnamed, and who comes meanwhile is turned away at once.
    let _unnamed = file.set_len(0).and_then(|()| file.write_all(claimant.name().as_bytes()));
    Ok(file)
}

fn taken(folder: &Path, is_commands: bool, claimant: Claimant) -> String {
    let folder = folder.display();
    match (is_commands, claimant) {
        (true, _) => format!("other commands work on the data folder {folder} and do not end: try again later"),
        (false, Claimant::Command) => {
            format!("an agent has the data folder {folder} and does not answer: if it is only starting, try again")
        }
        (false, Claimant::Agent) => {
            format!(
                "another agent runs on the data folder {folder}: stop it first, or give this one its own `data_dir`"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(folder: &Path, claimant: Claimant) -> String {
        claim(folder, claimant).await.expect_err("an agent has it").to_string()
    }

    #[tokio::test]
    async fn an_agent_waits_for_a_command_and_nobody_for_an_agent() {
        let folder = tempfile::tempdir().expect("a folder");
        let command = claim(folder.path(), Claimant::Command).await.expect("nobody has it");
        let mut next = tokio::spawn({
            let folder = folder.path().to_owned();
            async move { claim(&folder, Claimant::Agent).await }
        });
        tokio::time::timeout(NAMED_WITHIN + 2 * LOOK_EVERY, &mut next).await.expect_err("it waits");
        drop(command);
        let agent = next.await.expect("no panic").expect("the command is done");
        assert!(refusal(folder.path(), Claimant::Agent).await.contains("another agent runs on the data folder"));
        assert!(refusal(folder.path(), Claimant::Command).await.contains("an agent has the data folder"));
        drop(agent);
        claim(folder.path(), Claimant::Command).await.expect("the agent is gone");
    }
}
