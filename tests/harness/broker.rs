//! Mosquitto, as a site runs it: on a free port, everything that must outlive it in a fresh folder.

use std::{path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{net::free_port, process::Process, wait};

/// Held in memory: what is written there outlives a killed process, and this broker is only ever killed. On a disk it waits
/// for an fsync at every single message, which makes it the slowest part by far of whatever is tested with it.
const STORES: &str = "/dev/shm";

/// A running Mosquitto.
pub struct Mosquitto {
    pub port: u16,
    folder: PathBuf,
    store: TempDir,
    process: Process,
}

impl Mosquitto {
    /// Starts one that keeps sessions and queued messages over a kill: it saves on every change.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(folder: &std::path::Path) -> Self {
        let folder = folder.join("mosquitto");
        std::fs::create_dir_all(&folder).expect("a folder for the broker can be made");
        let store = TempDir::with_prefix_in("skerry-mosquitto-", STORES).or_else(|_| TempDir::new_in(&folder));
        let store = store.expect("a folder for the broker's store can be made");
        let port = free_port();
        // `user root`: without it a Mosquitto started by root becomes another user, who may not write the folder.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\n\
             autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nmax_inflight_messages 200\n\
             set_tcp_nodelay true\nlog_type error\nlog_type warning\nlog_type notice\n",
            store.path().display()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).expect("the broker's configuration can be written");
        let process = spawn(&folder);
        let mut broker = Self { port, folder, store, process };
        broker.ready().await;
        broker
    }

    /// Waits until it has written what changed: it saves a moment after it acknowledged, not before.
    pub async fn settle(&self) {
        let file = self.store.path().join("mosquitto.db");
        let written = async || file.metadata().ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        wait::until("the broker's first save", Duration::from_secs(10), async || written().await).await;
        wait::settled("the broker's file", Duration::from_millis(1_500), Duration::from_secs(30), written).await;
    }

    /// SIGKILL, and a new one on the same folder and port.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after `kill`.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.folder);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let port = self.port;
        wait::until("Mosquitto to accept connections", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }
}

fn spawn(folder: &std::path::Path) -> Process {
    let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .unwrap_or("mosquitto");
    Process::start("mosquitto", Command::new(program).arg("-c").arg(folder.join("mosquitto.conf")), folder)
}
