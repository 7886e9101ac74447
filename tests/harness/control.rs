//! A control plane as a process: its command line, its log-in, its console.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::{binaries, net, process, process::Process, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A control plane in a folder of its own. It runs between `start` and `kill`, as often as a scenario likes.
pub struct Control {
    pub folder: PathBuf,
    /// Where nodes and operators connect, by TLS.
    pub port: u16,
    /// Where the console is, on loopback.
    pub console: u16,
    /// What the first start printed once and nobody stored.
    secret: String,
    process: Option<Process>,
}

impl Control {
    /// Starts one for the first time and keeps the log-in that it prints.
    ///
    /// # Panics
    /// When it does not come up, or prints no log-in.
    pub async fn start(folder: &Path, name: &str) -> Self {
        Self::start_at(folder, name, net::free_port()).await
    }

    /// Like `start`, on a port of the caller's choice.
    ///
    /// # Panics
    /// As `start`.
    pub async fn start_at(folder: &Path, name: &str, port: u16) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the control plane can be made");
        let mut control = Self { folder, port, console: net::free_port(), secret: String::new(), process: None };
        let told = control.restart().await;
        control.secret = told["admin_secret"].as_str().expect("the first start prints a log-in").to_owned();
        control
    }

    /// Starts it again on what it kept, and gives what it says when it is ready.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn restart(&mut self) -> Value {
        let mut command = binaries::command("cloud-control");
        command
            .args(["serve", "--json", "--host", "127.0.0.1", "--data-dir"])
            .arg(self.folder.join("data"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--console", &format!("127.0.0.1:{}", self.console)]);
        let lines_before = self.folder.join("control.log").metadata().map_or(0, |data| data.len());
        let mut process = Process::start("control", &mut command, &self.folder);
        let told = wait::until("the control plane to be ready", BOUND, async || {
            let ended = process.ended();
            assert!(ended.is_none(), "the control plane ended ({ended:?}):\n{}", process.log());
            let log = process.log();
            let new = log.get(usize::try_from(lines_before).unwrap_or(0)..).unwrap_or_default();
            new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["url"].is_string())
        })
        .await;
        self.process = Some(process);
        told
    }

    /// SIGKILL: the link is cut, as far as the nodes can tell.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        self.process.as_mut().expect("the control plane was started").kill();
        self.process = None;
    }

    /// Runs a command of its command line as the first operator.
    pub async fn cli(&self, arguments: &[&str]) -> process::Said {
        let mut command = binaries::command("cloud-control");
        command
            .args(arguments)
            .env("SKERRY_CONTROL_DATA_DIR", self.folder.join("data"))
            .env("SKERRY_CONTROL_SECRET", &self.secret)
            .current_dir(&self.folder);
        process::run(&mut command, Duration::from_secs(120)).await
    }

    /// Runs a command with `--json` and gives what it printed.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        self.cli(&[arguments, &["--json"]].concat()).await.json()
    }

    /// A join token for a group.
    pub async fn token(&self, group: &str) -> String {
        self.cli(&["token", "create", "--group", group]).await.ok().trim().to_owned()
    }

    /// The address of a page of the console.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.console)
    }

    /// Logs in at the console; the cookie of the session.
    ///
    /// # Panics
    /// When the log-in is refused.
    pub async fn log_in(&self) -> String {
        let form = [("secret", &self.secret)];
        let body = form.map(|(key, value)| format!("{key}={value}")).join("&");
        let request = net::http().post(self.page("/login")).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.expect("the console answers");
        let cookie = answer.headers().get("set-cookie").expect("a log-in gives a session");
        let cookie = cookie.to_str().expect("a cookie is text");
        cookie.split(';').next().expect("a cookie has a value").to_owned()
    }
}
