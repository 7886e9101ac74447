//! The plant's process: faults and records go in as lines, what happened comes out as lines.

use std::{
    env,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, Command},
};

use super::process::Process;

/// Lines kept of what the plant said: far more than a story has.
const LINES_MAX: usize = 10_000;

/// The simulated plant.
pub struct Plant {
    process: Process,
    input: ChildStdin,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Plant {
    pub(super) fn start(folder: &Path, brokers: &[(&str, SocketAddr)]) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("plant");
        for (site, address) in brokers {
            command.arg("--site").arg(format!("{site}={address}"));
        }
        let (process, pipes) = Process::start("the plant", command, &folder.join("plant.log"))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipes.output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().expect("no thread panicked with the lines");
                if let Ok(value) = serde_json::from_str(&line)
                    && kept.len() < LINES_MAX
                {
                    kept.push(value);
                }
            }
        });
        Ok(Self { process, input: pipes.input, said })
    }

    /// Lets a machine go wrong.
    ///
    /// # Errors
    /// When the plant has ended.
    pub async fn fault(&mut self, site: &str, machine: &str, fault: &str) -> anyhow::Result<()> {
        self.tell(&format!("fault {site} {machine} {fault}\n")).await
    }

    /// Lets somebody write a record.
    ///
    /// # Errors
    /// When the plant has ended.
    pub async fn record(&mut self, site: &str, kind: &str, id: &str) -> anyhow::Result<()> {
        self.tell(&format!("record {site} {kind} {id}\n")).await
    }

    async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        self.input.write_all(line.as_bytes()).await.context("the plant does not listen")
    }

    /// What it said of commands for this machine, in order.
    pub fn commands(&self, site: &str, machine: &str) -> Vec<Value> {
        let said = self.said.lock().expect("no thread panicked with the lines");
        let of = |line: &&Value| line["event"] == "command" && line["site"] == site && line["machine"] == machine;
        said.iter().filter(of).cloned().collect()
    }

    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }

    /// Closing its input ends it; the signal is for the case that it does not look.
    pub(super) async fn stop(self) {
        drop(self.input);
        self.process.stop().await;
    }
}
