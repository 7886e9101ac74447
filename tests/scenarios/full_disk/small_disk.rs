//! A disk that is really full: a file system in memory of a few MB. Mounting it needs root.

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

use super::{BEFORE, BOUND, journalled, publish, waits_for_room};
use crate::outcome::accounts;

/// Enough that no log file of the store has room for them by chance.
const WHILE_FULL: u64 = 4_000;

#[tokio::test]
async fn a_full_disk_stops_acknowledgements_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, broker, mut agent) = on_a_small_disk(folder.path()).await;
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
    let (disk, broker, mut agent) = on_a_small_disk(folder.path()).await;
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
    let disk = SmallDisk::mount(&folder.path().join("disk"), 8);
    let ballast = disk.fill();
    let site = site("tests/scenarios/sites/bench", folder.path());
    let mut agent = Agent::new(folder.path(), &Setup { data: Some(&disk.path), ..Setup::new("small", &site) });
    agent.spawn();
    waits_for_room(&mut agent).await;
    fs::remove_file(ballast).expect("the ballast can be removed");
    agent.answers().await;
    agent.stop().await;
}

/// A running agent of a site with Mosquitto, whose data lies on a small disk.
async fn on_a_small_disk(folder: &Path) -> (SmallDisk, Mosquitto, Agent) {
    let disk = SmallDisk::mount(&folder.join("disk"), 8);
    let broker = Mosquitto::start(folder).await;
    let site = site("tests/scenarios/sites/bench", folder);
    let setup = Setup { broker: Some(broker.port), data: Some(&disk.path), ..Setup::new("small", &site) };
    let mut agent = Agent::new(folder, &setup);
    agent.start().await;
    (disk, broker, agent)
}

/// A file system in memory of a few MB. Needs the right to mount.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Where mounting is not allowed, `tests/run` leaves the tests that need it out and says so.
    fn mount(path: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(path).expect("a folder can be made");
        let size = format!("size={megabytes}m,mode=777");
        let mounted = as_root(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &path.display().to_string()]);
        assert!(mounted, "cannot mount a small disk at {}: expected root, or sudo without a password", path.display());
        Self { path: path.to_owned() }
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
