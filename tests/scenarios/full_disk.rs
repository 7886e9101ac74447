//! A disk that fills up: acknowledgements stop, nothing acknowledged is lost, and it goes on when there is room; an agent that
//! is started on one waits.
//!
//! Told twice: by a limit on the size of the agent's files, which every machine allows, and by a small file system in memory,
//! which needs the right to mount; without it those say that they were left out.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{
    agent::{Agent, Setup, site},
    broker::Mosquitto,
    mqtt::Client,
    wait,
};

use crate::outcome::accounts;

const BOUND: Duration = Duration::from_secs(90);
const BEFORE: u64 = 200;
/// Enough that no log file of the store has room for them by chance.
const WHILE_FULL: u64 = 4_000;
/// As many as the client sends without an acknowledgement.
const IN_FLIGHT: u64 = 90;
/// File sizes that a limited agent may reach: in blocks of 512 bytes for the shell, in bytes for `prlimit`. Its logs fit; a
/// store does not.
const FEW_BLOCKS: u64 = 128;

#[tokio::test]
async fn a_full_disk_stops_acknowledgements_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 8) else { return };
    let broker = Mosquitto::start(folder.path()).await;
    let site = site("tests/scenarios/sites/bench", folder.path());
    let setup = Setup { broker: Some(broker.port), data: Some(&disk.path), ..Setup::new("small", &site) };
    let mut agent = Agent::new(folder.path(), &setup);
    agent.start().await;
    let publisher = Client::connect("publisher", broker.port).await;
    publish(&publisher, 0..BEFORE).await;
    journalled(&agent, BEFORE).await;

    let ballast = disk.fill();
    publish(&publisher, BEFORE..BEFORE + WHILE_FULL).await;
    publisher.acknowledged((BEFORE + WHILE_FULL) as usize, BOUND).await;
    agent.running().says("no room on the disk", BOUND).await;
    let kept =
        wait::settled("the journal", Duration::from_secs(1), BOUND, async || accounts(&agent).await.journalled).await;
    assert!(kept < BEFORE + WHILE_FULL, "all {kept} were journalled although the disk is full");

    // Nothing that it acknowledged may hang on memory alone.
    agent.kill();
    fs::remove_file(ballast).expect("the ballast can be removed");
    agent.start().await;
    journalled(&agent, BEFORE + WHILE_FULL).await;
    let end = accounts(&agent).await;
    assert_eq!((end.journalled, end.quarantined), (BEFORE + WHILE_FULL, 0));
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_on_a_full_disk_goes_on_by_itself_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 8) else { return };
    let broker = Mosquitto::start(folder.path()).await;
    let site = site("tests/scenarios/sites/bench", folder.path());
    let setup = Setup { broker: Some(broker.port), data: Some(&disk.path), ..Setup::new("small", &site) };
    let mut agent = Agent::new(folder.path(), &setup);
    agent.start().await;
    let ballast = disk.fill();
    let publisher = Client::connect("publisher", broker.port).await;
    publish(&publisher, 0..WHILE_FULL).await;
    agent.running().says("no room on the disk", BOUND).await;
    fs::remove_file(ballast).expect("the ballast can be removed");
    journalled(&agent, WHILE_FULL).await;
    assert_eq!(accounts(&agent).await.quarantined, 0);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_started_on_a_full_disk_waits_for_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 8) else { return };
    let ballast = disk.fill();
    let site = site("tests/scenarios/sites/bench", folder.path());
    let mut agent = Agent::new(folder.path(), &Setup { data: Some(&disk.path), ..Setup::new("small", &site) });
    agent.spawn();
    waits_for_room(&mut agent).await;
    fs::remove_file(ballast).expect("the ballast can be removed");
    agent.answers().await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_whose_files_may_not_grow_stops_acknowledging_and_goes_on_when_they_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site("tests/scenarios/sites/bench", folder.path());
    let mut agent = Agent::new(folder.path(), &Setup::new("small", &site));
    agent.spawn_under(&format!("trap '' XFSZ; ulimit -S -f {FEW_BLOCKS}"));
    waits_for_room(&mut agent).await;
    may_grow_to(&mut agent, "unlimited");
    agent.answers().await;
    let publisher = Client::connect("publisher", agent.mqtt).await;
    publish(&publisher, 0..BEFORE).await;
    journalled(&agent, BEFORE).await;

    may_grow_to(&mut agent, "4096");
    publish(&publisher, BEFORE..BEFORE + IN_FLIGHT).await;
    agent.running().says("no message is acknowledged", BOUND).await;
    health(&agent, 503, "until it can be kept").await;
    assert_eq!(publisher.acknowledged_now() as u64, BEFORE);
    assert_eq!(accounts(&agent).await.journalled, BEFORE);

    may_grow_to(&mut agent, "unlimited");
    publisher.acknowledged((BEFORE + IN_FLIGHT) as usize, BOUND).await;
    let end = accounts(&agent).await;
    assert_eq!((end.journalled, end.quarantined), (BEFORE + IN_FLIGHT, 0));
    health(&agent, 200, "healthy").await;
    agent.stop().await;
}

async fn waits_for_room(agent: &mut Agent) {
    agent.running().says("the agent waits until there is room", BOUND).await;
    health(agent, 503, "no room on the disk").await;
    assert!(agent.running().ended().is_none(), "it ended:\n{}", agent.running().log());
}

async fn health(agent: &Agent, status: u16, told: &str) {
    wait::until(&format!("/health to say {status} and {told:?}"), BOUND, async || {
        let answer = tests::net::http().get(agent.url("/health")).send().await.ok()?;
        (answer.status().as_u16() == status && answer.text().await.is_ok_and(|text| text.contains(told))).then_some(())
    })
    .await;
}

/// Changes how large the files of a running agent may grow, in bytes.
fn may_grow_to(agent: &mut Agent, limit: &str) {
    let pid = agent.running().pid().to_string();
    let changed = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).output();
    let changed = changed.expect("prlimit is there: every Debian has util-linux");
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
}

async fn publish(publisher: &Client, which: std::ops::Range<u64>) {
    for index in which {
        let payload = format!(r#"{{"at":{},"value":50}}"#, 1_700_000_000_000 + index * 1_000);
        publisher.publish(&format!("bench/machine-{}/load", index % 10), payload).await;
    }
}

async fn journalled(agent: &Agent, count: u64) {
    wait::until(&format!("{count} readings to be journalled"), BOUND, async || {
        (accounts(agent).await.journalled >= count).then_some(())
    })
    .await;
}

/// A file system in memory of a few MB. Needs the right to mount.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, and a line that says so, where mounting is not allowed.
    fn mount(path: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder can be made");
        let size = format!("size={megabytes}m,mode=777");
        if as_root(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &path.display().to_string()]) {
            return Some(Self { path: path.to_owned() });
        }
        eprintln!(
            "skipped: cannot mount a small disk at {}: it needs root, or sudo without a password",
            path.display()
        );
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path.join("ballast");
        let mut file = fs::File::create(&path).expect("an empty file needs no room");
        while file.write_all(&[0; 4_096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have files open.
        as_root(&["umount", "-l", &self.path.display().to_string()]);
    }
}

fn as_root(command: &[&str]) -> bool {
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    run(command[0], &command[1..]) || run("sudo", &[&["-n"], command].concat())
}
