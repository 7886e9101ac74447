//! What the machine gives the node: a clock, a folder to write to, room on the disk.

use std::path::Path;

use rusqlite::Connection;
use shared::time::Timestamp;

use super::Check;
use crate::{action, config::Config, inference::pull};

/// Free space below which the doctor warns: a day of a busy feed's journal.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// No clock that was ever set shows a time before this version was made.
const CLOCK_FLOOR: &str = "2026-01-01T00:00:00Z";
/// How far behind the last record a clock may be: a second look at the time sets it by as much.
const BEHIND_MICROS_MAX: i64 = 60_000_000;
/// The store's log is written back at 16 MB; many times as much means that something keeps it from that.
const LOG_BYTES_MAX: u64 = 256 << 20;
const SET_THE_CLOCK: &str = "set the clock (timedatectl, chrony); local work goes on, but times in the ledger are wrong and certificates may be refused";

pub(super) fn clock() -> Check {
    let now = crate::clock::now();
    if now < CLOCK_FLOOR.parse().unwrap_or_default() {
        return Check::warning("clock", now.to_string(), SET_THE_CLOCK);
    }
    Check::ok("clock", now.to_string())
}

/// Whether processes of workflows can run as `[run]` says; nothing where it is not there.
pub(super) fn processes(config: &Config) -> Option<Check> {
    let run = config.calls().run?;
    let found = action::process_problems(&run);
    if found.is_empty() {
        let who = run.user.as_deref().unwrap_or("the agent's own user");
        return Some(Check::ok("processes", format!("of workflows run as {who}, {} MB each", run.memory_mb)));
    }
    let advice = "mend [run] in agent.toml: tasks that run processes fail meanwhile";
    Some(Check::broken("processes", found.join("\n"), advice))
}

/// Whether the clock is behind what this node has recorded already.
pub(super) fn time_goes_on(connection: &Connection) -> Option<Check> {
    let newest = "SELECT max(at) FROM (SELECT at FROM ledger ORDER BY seq DESC LIMIT 100)";
    let newest: Option<i64> = connection.query_row(newest, [], |row| row.get(0)).ok()?;
    behind(crate::clock::now(), Timestamp::from_micros(newest?))
}

fn behind(now: Timestamp, recorded: Timestamp) -> Option<Check> {
    if now.plus_micros(BEHIND_MICROS_MAX) >= recorded {
        return None;
    }
    let found =
        format!("{now}, but the ledger already holds an entry of {recorded}: the clock was ahead, or is behind");
    Some(Check::warning("clock", found, SET_THE_CLOCK))
}

pub(super) fn data_folder(config: &Config) -> Check {
    let folder = &config.data_dir;
    let shown = folder.display();
    if !folder.exists() {
        let found = format!("{shown} does not exist yet");
        return Check::warning("data folder", found, "it is made at the first `edge-agent run`");
    }
    if let Err(error) = written(folder) {
        let advice = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "make room: until there is, no message is acknowledged and a start waits".to_owned()
            }
            _ => format!("let the agent's user write to {shown}"),
        };
        return Check::broken("data folder", format!("{shown} cannot be written ({error})"), advice);
    }
    match pull::free_bytes(folder) {
        Some(free) if free < FREE_BYTES_MIN => Check::warning(
            "data folder",
            format!("{shown}: only {} free", indicatif::HumanBytes(free)),
            "make room: when the disk is full, messages are no longer acknowledged until there is",
        ),
        Some(free) => Check::ok("data folder", format!("{shown}: {} free", indicatif::HumanBytes(free))),
        None => Check::ok("data folder", format!("{shown}: writable")),
    }
}

/// One block, so that a full disk shows.
fn written(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(".doctor");
    let written = std::fs::write(&path, [0; 4_096]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// How large the store is, and whether its log is written back.
pub(super) fn store(config: &Config, connection: &Connection) -> Option<Check> {
    let path = config.store_path();
    let bytes = std::fs::metadata(&path).ok()?.len();
    let log = std::fs::metadata(format!("{}-wal", path.display())).map_or(0, |file| file.len());
    let rows: i64 = connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).ok()?;
    let found = format!(
        "{}, its log {}; {rows} readings in the journal",
        indicatif::HumanBytes(bytes),
        indicatif::HumanBytes(log)
    );
    if log > LOG_BYTES_MAX {
        let advice =
            "end what reads it for long, such as a backup or an open sqlite3: the log cannot be written back meanwhile";
        return Some(Check::warning("store", found, advice));
    }
    Some(Check::ok("store", found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_behind_the_ledger_is_told_and_one_that_was_just_set_is_not() {
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        let now = at("2026-11-21T08:00:00Z");
        assert!(behind(now, at("2026-11-21T08:00:59Z")).is_none());
        let check = behind(now, at("2026-11-22T08:00:00Z")).expect("a day behind");
        assert!(check.found.contains("2026-11-22T08:00:00Z") && check.advice.starts_with("set the clock"));
    }
}
