//! An edge agent as a process: its configuration, its site, its command line, its local API.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::{binaries, net, process, process::Process, wait};

/// How long an agent may take to come up, or to go. A debug build on a busy machine is slow.
const BOUND: Duration = Duration::from_secs(60);

/// A node: a folder with `agent.toml`, the site that it serves, and its data. It runs between `start` and `stop` or
/// `kill`, as often as a scenario likes.
pub struct Agent {
    pub name: String,
    pub folder: PathBuf,
    /// The port of the local page and API.
    pub api: u16,
    /// The port of the broker that its feeds come from: its own, or the site's.
    pub mqtt: u16,
    process: Option<Process>,
}

/// What differs between nodes.
pub struct Setup<'a> {
    pub name: &'a str,
    pub jurisdiction: &'a str,
    /// The port of the site's broker; `None`: the agent runs its own.
    pub broker: Option<u16>,
    /// The folder with feeds, workflows, policies and documents; `None`: it waits for a bundle.
    pub site: Option<&'a Path>,
    /// Where its data lies; `None`: `data` in its folder.
    pub data: Option<&'a Path>,
    /// More of `agent.toml`.
    pub more: &'a str,
}

impl<'a> Setup<'a> {
    /// A node in Switzerland with a site and its own broker.
    #[must_use]
    pub const fn new(name: &'a str, site: &'a Path) -> Self {
        Self { name, jurisdiction: "CH", broker: None, site: Some(site), data: None, more: "" }
    }
}

impl Agent {
    /// Writes its configuration into a folder of its own. Nothing runs yet.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path, setup: &Setup<'_>) -> Self {
        let folder = folder.join(setup.name);
        std::fs::create_dir_all(&folder).expect("a folder for the node can be made");
        let (api, own) = (net::free_port(), net::free_port());
        let broker = match setup.broker {
            Some(port) => format!("[broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n"),
            None => format!("[broker.embedded]\nlisten = \"127.0.0.1:{own}\"\n"),
        };
        let site = setup.site.map_or_else(String::new, |site| format!("site = {:?}\n", site.display().to_string()));
        let data = setup.data.map_or_else(|| "data".to_owned(), |data| data.display().to_string());
        let config = format!(
            "name = {:?}\njurisdiction = {:?}\ndata_dir = {data:?}\n{site}\n{broker}\n[api]\nlisten = \"127.0.0.1:{api}\"\n\n{}\n",
            setup.name, setup.jurisdiction, setup.more
        );
        std::fs::write(folder.join("agent.toml"), config).expect("the configuration can be written");
        Self { name: setup.name.to_owned(), folder, api, mqtt: setup.broker.unwrap_or(own), process: None }
    }

    /// Starts it and waits until it is ready for messages.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(&mut self) {
        self.spawn();
        self.answers().await;
    }

    /// Waits until it is ready for messages.
    ///
    /// # Panics
    /// When it is not in time, or ends.
    pub async fn answers(&mut self) {
        let url = self.url("/health");
        let client = net::http();
        let process = self.process.as_mut().expect("the agent was started");
        wait::until(&format!("{} to be healthy", self.name), BOUND, async || {
            let ended = process.ended();
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, process.log());
            client.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&mut self) {
        let mut command = self.command(&["run"]);
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()));
        self.process = Some(Process::start(&self.name, &mut command, &self.folder));
    }

    /// Starts it from a shell that first does something to itself, such as setting a limit, and waits for nothing.
    pub fn spawn_under(&mut self, first: &str) {
        let agent = self.command(&["run"]);
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(agent.get_program()).args(agent.get_args());
        shell.current_dir(&self.folder);
        for (name, value) in agent.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        self.process = Some(Process::start(&self.name, &mut shell, &self.folder));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.running().kill();
        self.process = None;
    }

    /// SIGTERM; it must end well.
    ///
    /// # Panics
    /// When it does not.
    pub async fn stop(&mut self) {
        let status = self.running().stop(BOUND).await;
        assert!(status.success(), "{} ended with {status}", self.name);
        self.process = None;
    }

    /// The process.
    ///
    /// # Panics
    /// When it is not running.
    pub fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// A command of its command line that is not run yet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = binaries::command("edge-agent");
        command.args(arguments).arg("--config").arg(self.folder.join("agent.toml")).current_dir(&self.folder);
        command
    }

    /// Runs a command of its command line to the end.
    pub async fn cli(&self, arguments: &[&str]) -> process::Said {
        process::run(&mut self.command(arguments), Duration::from_secs(120)).await
    }

    /// Runs a command with `--json` and gives what it printed.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        self.cli(&[arguments, &["--json"]].concat()).await.json()
    }

    /// Adds a person who may answer for a role. The file with their secret.
    ///
    /// # Panics
    /// When they cannot be added.
    pub async fn approver(&self, name: &str, role: &str) -> PathBuf {
        let said = self.json(&["approvers", "add", name, "--role", role]).await;
        let secret = said["secret"].as_str().expect("a secret was made");
        let file = self.folder.join(format!("secret of {name}"));
        private::write(&file, secret.as_bytes()).expect("the secret can be written");
        file
    }

    /// Answers a question on the command line.
    pub async fn answers_question(&self, id: &str, verdict: &str, name: &str, secret: &Path) -> process::Said {
        let secret = secret.display().to_string();
        self.cli(&["approve", id, verdict, "--as", name, "--secret-file", &secret]).await
    }

    /// The token that whoever may read its data folder shows to its local API.
    ///
    /// # Panics
    /// When the agent has not written one.
    #[must_use]
    pub fn token(&self) -> String {
        let token = std::fs::read_to_string(self.folder.join("data/local-token")).expect("the agent wrote its token");
        token.trim().to_owned()
    }

    /// The address of a path of its local API.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    /// The sum of a metric over all its labels that contain `with`; 0 when it is not there (yet).
    pub async fn metric(&self, name: &str, with: &str) -> f64 {
        let Ok(answer) = net::http().get(self.url("/metrics")).send().await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        text.lines()
            .filter(|line| !line.starts_with('#') && line.contains(with))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let of = series.split('{').next()?;
                (of == name).then(|| value.parse::<f64>().ok()).flatten()
            })
            .sum()
    }
}

/// Copies a site, such as `tests/scenarios/sites/line`, into a folder so that a scenario may change it.
///
/// # Panics
/// When it cannot be copied.
#[must_use]
pub fn site(path: &str, folder: &Path) -> PathBuf {
    let to = folder.join("site");
    copy(&binaries::checkout().join(path), &to);
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let path = entry.expect("an entry can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}
