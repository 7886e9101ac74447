//! A control plane as a process: its command line, its operators' API, its console.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{binaries, net, process, process::Process};

/// A control plane in a folder of its own.
pub struct Control {
    pub folder: PathBuf,
    /// Where nodes and operators connect, by TLS.
    pub port: u16,
    /// Where the console is, on loopback.
    pub console: u16,
    process: Option<Process>,
}

impl Control {
    /// Chooses its ports. Nothing runs yet.
    ///
    /// # Panics
    /// When its folder cannot be made.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let folder = folder.join("control");
        std::fs::create_dir_all(&folder).expect("a folder for the control plane can be made");
        Self { folder, port: net::free_port(), console: net::free_port(), process: None }
    }

    /// The process.
    ///
    /// # Panics
    /// When it is not running.
    pub fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the control plane was started")
    }

    /// SIGKILL: the link is cut, as far as the nodes can tell.
    pub fn kill(&mut self) {
        self.running().kill();
        self.process = None;
    }

    /// A command of its command line that is not run yet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = binaries::command("cloud-control");
        command.args(arguments).current_dir(&self.folder);
        command
    }

    /// Runs a command of its command line to the end.
    pub async fn cli(&self, arguments: &[&str]) -> process::Said {
        process::run(&mut self.command(arguments), Duration::from_secs(60)).await
    }
}
