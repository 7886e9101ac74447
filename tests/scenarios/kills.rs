//! The process is killed at writes and syncs of its store, by strace, which kills it just before the call. The runner and
//! the store are the real ones on a real file system; what is outside the node is a file that honours no key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// Kills, spread evenly over all the writes and syncs of an undisturbed run.
const KILLS: u64 = 50;

/// What SQLite writes and syncs with.
const CALLS: &str = "pwrite64,fdatasync,fsync,ftruncate";

/// The program that runs one workflow with most kinds of tasks, and takes it up where it stood. All kinds are in the sweep over a
/// simulated disk.
fn program() -> PathBuf {
    tests::binaries::folder().join("examples/steps_bench")
}

fn strace(folder: &Path, options: &[&str]) -> Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(folder.join("trace"))
        .args(options)
        .arg(program())
        .args(["kinds".as_ref(), folder.as_os_str()])
        .output()
        .expect("strace is installed: tests/run does that")
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_process_killed_at_a_write_or_sync_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = told(&strace(folder.path(), &["-e", &format!("trace={CALLS}")]));
    assert_eq!(whole["run"][0], "completed");
    let trace = std::fs::read_to_string(folder.path().join("trace")).expect("strace wrote its file");
    // strace counts the calls of each thread; the store's writer makes nearly all of them.
    let threads = trace.lines().filter(|line| !line.contains("resumed")).filter_map(|line| line.split(' ').next());
    let mut of_thread = BTreeMap::<&str, u64>::new();
    threads.for_each(|thread| *of_thread.entry(thread).or_default() += 1);
    let calls = of_thread.values().copied().max().unwrap_or(0);
    assert!(calls > KILLS, "only {calls} writes and syncs");
    let mut kills = 0;
    for kill in 0..KILLS {
        let at = 1 + kill * calls / KILLS;
        let folder = tempfile::tempdir().expect("a folder");
        let inject = format!("inject={CALLS}:signal=KILL:when={at}");
        let killed = strace(folder.path(), &["-e", &format!("trace={CALLS}"), "-e", &inject]);
        // What is committed together differs from run to run, and so does the number of calls: one may end before its kill.
        kills += u64::from(!killed.status.success());
        let after = Command::new(program()).args(["kinds".as_ref(), folder.path().as_os_str()]).output();
        let after = told(&after.expect("the program starts"));
        assert_eq!((&after["run"], &after["ledger"]), (&whole["run"], &whole["ledger"]), "killed at call {at}");
        let (effects, once) = (&after["effects"], &whole["effects"]);
        let keys = |effects: &Value| effects.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(effects), keys(once), "killed at call {at}");
        let most = effects.as_object().and_then(|map| map.values().filter_map(Value::as_u64).max());
        assert!(most <= Some(2), "killed at call {at}: at most one repeat: {effects}");
    }
    assert!(kills > KILLS / 2, "only {kills} of {KILLS} came in time");
}
