//! The node's own configuration, `agent.toml`: what belongs to this machine and never comes from a bundle.
//!
//! It nests per room; unknown keys are refused. Everything has a default but the name and the jurisdiction.

pub mod models;
mod written;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use shared::{
    id::NodeName,
    label::Label,
    problem::{Problem, Problems},
};

use self::models::Models;
use crate::{action, feed, inference, memory};
use written::Written;

/// What a node is told about itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub name: NodeName,
    /// Where this machine stands: an ISO 3166-1 alpha-2 code, or `EU`. Policies compare it with where data was born.
    pub jurisdiction: String,
    /// Everything durable lies here: store, identity, bundles, models.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// A folder to take workflows, feeds, policies and documents from while no control plane has sent a bundle.
    pub site: Option<PathBuf>,
    /// The site's broker, or the embedded one when it has no `url`.
    #[serde(default)]
    pub broker: feed::config::Broker,
    #[serde(default)]
    pub api: Api,
    #[serde(default)]
    pub models: Models,
    /// What models on this node may take of the machine.
    #[serde(default)]
    pub inference: inference::limits::Limits,
    /// How long what workflows keep is kept, and how much of it.
    #[serde(default)]
    pub memory: memory::Limits,
    /// Models at providers and in files; `local/extract` is always there.
    #[serde(default)]
    pub targets: Vec<inference::config::Target>,
    /// What workflows may use by name and never see.
    #[serde(default)]
    pub secrets: BTreeMap<String, action::config::Secret>,
    /// What calls of workflows find on this machine.
    #[serde(default)]
    pub calls: Calls,
    /// Processes that workflows ask for; absent: none are run.
    pub run: Option<action::config::Run>,
    /// What becomes of runs, told on the broker; absent: nothing is.
    pub lifecycle: Option<Lifecycle>,
}

/// Where the lifecycle events of runs are published, as structured CloudEvents.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// What topics begin with, such as `skerry/lifecycle`; `NAMESPACE/NAME/workflow/completed` follows.
    pub topic: String,
    /// Whether those of tasks are told too.
    #[serde(default)]
    pub tasks: bool,
}

/// What calls of workflows find on this machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// The folder of interface documents (OpenAPI, AsyncAPI, proto) and scripts that have no address on the web.
    pub documents: Option<PathBuf>,
    /// Hosts that are reached elsewhere: a mirror or a proxy within the site. By `host` or `host:port`.
    #[serde(default)]
    pub hosts: BTreeMap<String, action::config::Address>,
}

/// The local page, the API and the OpenAI-compatible endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Loopback by default: whoever opens it to a network decides so in writing.
    #[serde(default = "default_api_listen")]
    pub listen: SocketAddr,
    /// A file with the bearer key that the OpenAI-compatible endpoint asks for; absent: only loopback may call it.
    pub key_file: Option<PathBuf>,
    /// What all that comes through the OpenAI-compatible endpoint demands at least; absent: what the caller says, and the
    /// strictest where it says nothing.
    pub label: Option<Label>,
    /// Names that callers may use for this node, beside its addresses and `localhost`.
    #[serde(default)]
    pub hosts: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: default_api_listen(), key_file: None, label: None, hosts: Vec::new() }
    }
}

/// The folder in the data folder with the packed weights of chat models; it may be removed while no agent runs, and is made again.
const WEIGHTS_FOLDER: &str = "weights";

fn default_data_dir() -> PathBuf {
    PathBuf::from("skerry-data")
}

fn default_api_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8686))
}

impl Config {
    /// Reads a configuration. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// Every mistake with its line; a file that cannot be read.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            whole(&file, format!("cannot be read ({error}); expected a TOML file with `name` and `jurisdiction`"))
        })?;
        let mut config = Self::parse(&file, &text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.data_dir = base.join(&config.data_dir);
        config.site = config.site.map(|site| base.join(site));
        config.api.key_file = config.api.key_file.map(|key| base.join(key));
        config.models.resolve(base);
        resolve_broker(&mut config.broker, base);
        for target in &mut config.targets {
            resolve_target(target, base);
        }
        config.calls.documents = config.calls.documents.map(|folder| base.join(folder));
        for secret in config.secrets.values_mut() {
            if let action::config::Secret::File(file) = secret {
                *file = base.join(&*file);
            }
        }
        if let Some(run) = &mut config.run {
            run.resolve(base, &config.data_dir);
        }
        Ok(config)
    }

    /// Parses the text of a configuration.
    ///
    /// # Errors
    /// Every mistake with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let written = Written::read(file, text).map_err(|problem| Problems(vec![problem]))?;
        let config: Self = written.whole().map_err(|problem| Problems(vec![problem]))?;
        let problems: Vec<Problem> =
            config.mistakes().into_iter().map(|(field, message)| written.problem(&field, message)).collect();
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    /// A problem with a field of a file that was loaded, such as `inference.memory`, where it stands there now.
    #[must_use]
    pub fn problem(path: &Path, field: &str, message: String) -> Problem {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        match Written::read(&file, &text) {
            Ok(written) => written.problem(field, message),
            Err(_) => Problem { file, line: None, column: None, field: field.to_owned(), message },
        }
    }

    /// What is wrong although every field by itself may be so: the field, and what was expected.
    fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let code = &self.jurisdiction;
        if !shared::label::is_jurisdiction(code) {
            let message = format!("{code:?} is no jurisdiction: expected two capital letters such as CH, or EU");
            found.push(("jurisdiction".to_owned(), message));
        }
        let listen = self.api.listen;
        if !listen.ip().is_loopback() && self.api.key_file.is_none() {
            let message = format!(
                "{listen} is open to others: expected `key_file` with the key that the OpenAI-compatible endpoint asks for, or a loopback address"
            );
            found.push(("api.listen".to_owned(), message));
        }
        found.extend(self.broker.mistakes().into_iter().map(|(field, message)| (format!("broker.{field}"), message)));
        found.extend(self.models.mistakes());
        found.extend(self.memory.mistakes());
        if self.run.as_ref().is_some_and(|run| run.user.is_some() == run.as_agent) {
            let message = "expected either `user`, whom processes of workflows run as, or `as_agent = true`, which lets \
                them read what the agent can read";
            found.push(("run".to_owned(), message.to_owned()));
        }
        if let Some(Lifecycle { topic, .. }) = &self.lifecycle
            && (topic.is_empty()
                || topic.starts_with(['/', '$'])
                || topic.ends_with('/')
                || topic.contains(['+', '#', '\0']))
        {
            let message =
                format!("{topic:?} is not what topics begin with: expected such as skerry/lifecycle, without + and #");
            found.push(("lifecycle.topic".to_owned(), message));
        }
        let mut names = std::collections::BTreeSet::new();
        for (index, target) in self.targets.iter().enumerate() {
            if !names.insert(target.name.as_str()) {
                let message = format!("a second target is called {:?}: each needs its own name", target.name);
                found.push((format!("targets.{index}.name"), message));
            }
        }
        found
    }

    /// Everything about calls, for the room that makes them.
    #[must_use]
    pub fn calls(&self) -> action::config::Calls {
        let Calls { documents, hosts } = self.calls.clone();
        action::config::Calls { secrets: self.secrets.clone(), documents, hosts, run: self.run.clone() }
    }

    /// The node's store.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.data_dir.join("node.db")
    }

    /// Where packed weights of chat models are kept, if they are.
    #[must_use]
    pub fn weights_dir(&self) -> PathBuf {
        self.data_dir.join(WEIGHTS_FOLDER)
    }

    /// Where model files lie.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        self.models.dir.clone().unwrap_or_else(|| self.data_dir.join("models"))
    }
}

fn resolve_target(target: &mut inference::config::Target, base: &Path) {
    match &mut target.source {
        inference::config::Source::Gguf(model) => model.file = base.join(&model.file),
        inference::config::Source::Provider(provider) => {
            if let Some(inference::config::Key::File(file)) = &mut provider.key {
                *file = base.join(&*file);
            }
        }
    }
}

fn resolve_broker(broker: &mut feed::config::Broker, base: &Path) {
    let users = broker.embedded.users.iter_mut().filter_map(|user| user.password_file.as_mut());
    let tls = broker.embedded.tls.iter_mut().flat_map(|tls| [&mut tls.cert, &mut tls.key]);
    for path in broker.password_file.iter_mut().chain(&mut broker.ca).chain(users).chain(tls) {
        *path = base.join(&*path);
    }
}

fn whole(file: &str, message: String) -> Problems {
    Problems(vec![Problem { file: file.to_owned(), line: None, column: None, field: String::new(), message }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Config::parse("agent.toml", text).expect_err("refused").to_string()
    }

    #[test]
    fn a_name_and_a_jurisdiction_are_enough() {
        let config = Config::parse("agent.toml", "name = \"basel\"\njurisdiction = \"CH\"\n").expect("valid");
        assert_eq!(config.name.as_str(), "basel");
        assert!(config.broker.url.is_none());
        assert!(config.api.listen.ip().is_loopback());
    }

    #[test]
    fn every_mistake_names_line_field_and_what_was_expected() {
        let begin = "name = \"a\"\njurisdiction = \"CH\"\n";
        let target =
            "[[targets]]\nname = \"cloud/a\"\nkind = \"openai\"\nurl = \"https://a.example/v1\"\nmodel = \"m\"\n";
        let mut wrong = Vec::new();
        for (text, told) in [
            ("name = \"Basel\"\njurisdiction = \"CH\"\n".to_owned(), "1:8: name: "),
            ("jurisdiction = \"CH\"\n".to_owned(), "1:1: missing field `name`"),
            (
                "name = \"a\"\njurisdiction = \"Swiss\"\n".to_owned(),
                "2:16: jurisdiction: \"Swiss\" is no jurisdiction: expected two capital letters such as CH, or EU",
            ),
            (format!("{begin}colour = 1\n"), "3:1: colour: unknown field `colour`, expected one of "),
            (format!("{begin}site = 7\n"), "3:8: site: invalid type: integer `7`, expected a path"),
            (format!("{begin}site = \n"), "3:8: "),
            (format!("{begin}site = 'a'\nsite = 'b'\n"), "4:1: site: duplicate key"),
            (
                format!("{begin}api = {{ listen = \"0.0.0.0:8686\" }}\n"),
                "3:18: api.listen: 0.0.0.0:8686 is open to others: expected `key_file`",
            ),
            (format!("{begin}[api]\nlisten = \"here\"\n"), "4:10: api.listen: invalid socket address syntax"),
            (
                format!("{begin}[broker]\nurl = \"http://a\"\n"),
                "4:7: broker.url: \"http://a\" is not a broker's address: expected mqtt://host:1883 or mqtts://host:8883",
            ),
            (format!("{begin}[broker]\nurl = \"mqtts://a\"\n"), "3:2: broker.ca: it is missing: expected a PEM file"),
            (
                format!("{begin}[broker]\nprotocol = \"4\"\n"),
                "4:12: broker.protocol: unknown variant `4`, expected `5` or `3.1.1`",
            ),
            (
                format!("{begin}[broker]\nusername = \"u\"\n"),
                "4:12: broker.username: expected one of `password_env` and `password_file`",
            ),
            (
                format!("{begin}[broker]\npassword_env = \"P\"\n"),
                "4:16: broker.password_env: a password without a user",
            ),
            (
                format!("{begin}[broker.embedded]\nlisten = \"0.0.0.0:1883\"\n"),
                "4:10: broker.embedded.listen: 0.0.0.0:1883 is open to others: expected `users`",
            ),
            (
                format!("{begin}[[broker.embedded.users]]\nname = \"u\"\n"),
                "4:8: broker.embedded.users[0].name: expected one of `password_env` and `password_file`",
            ),
            (
                format!("{begin}[models]\nembedder = \"best\"\n"),
                "4:12: models.embedder: no embedder is called \"best\": expected builtin or all-minilm-l6-v2",
            ),
            (
                format!("{begin}[models]\nprecision = \"int8\"\n"),
                "4:13: models.precision: only an embedder of the catalog takes it here",
            ),
            (
                format!("{begin}[models.reranker]\nfolder = \"ranker\"\n"),
                "3:1: models.reranker: missing field `digest`",
            ),
            (
                format!("{begin}{}", target.replace("cloud/a", "large")),
                "4:8: targets[0].name: \"large\" is not a name of this kind of target",
            ),
            (format!("{begin}{}", target.replace("https", "ftp")), "6:7: targets[0].url: "),
            (
                format!("{begin}{}", target.replace("openai", "other")),
                "5:8: targets[0].kind: unknown variant `other`, expected one of `openai`, `anthropic`, `gguf`",
            ),
            (format!("{begin}{}", target.replace("model", "modell")), "7:1: targets[0].modell: unknown field `modell`"),
            (format!("{begin}{}", target.replace("model = \"m\"\n", "")), "3:1: targets[0].model: "),
            (format!("{begin}{target}jurisdiction = \"Germany\"\n"), "8:16: targets[0].jurisdiction: \"Germany\""),
            (format!("{begin}{target}price_in = -1.0\n"), "8:12: targets[0].price_in: -1"),
            (
                format!("{begin}[inference]\nmemory = \"600\"\n"),
                "4:10: inference.memory: \"600\" is no size: expected such as \"600 MB\" or \"1.5 GB\"",
            ),
            (
                format!("{begin}[memory]\nkeep_for = \"90 days\"\n"),
                "4:12: memory.keep_for: found \"90 days\", expected a span of time such as P30D",
            ),
            (
                format!("{begin}[memory.indexes.notes]\nentries = 0\n"),
                "4:11: memory.indexes.notes.entries: 0: expected 1",
            ),
            (
                format!("{begin}[inference]\nunload_after_s = 0\n"),
                "4:18: inference.unload_after_s: invalid value: integer `0`, expected a whole number from 1",
            ),
            (format!("{begin}[run]\ntimeout_s = 5\n"), "3:1: run: expected either `user`, whom processes"),
            (format!("{begin}[secrets.erp]\nvalue = \"x\"\n"), "3:1: secrets.erp: unknown variant `value`"),
            (
                format!("{begin}{target}{target}"),
                "9:8: targets[1].name: a second target is called \"cloud/a\": each needs its own name",
            ),
        ] {
            let found = message(&text);
            if !found.starts_with(&format!("agent.toml:{told}")) {
                wrong.push(format!("{text}\nis told of as {found}\n     expected {told}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }

    #[test]
    fn a_problem_found_later_names_the_place_too() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "name = 'a'\n[inference]\nkeys_and_values = '1 KB'\n").expect("written");
        let told = Config::problem(file.path(), "inference.keys_and_values", "too little".to_owned()).to_string();
        assert!(told.ends_with(":3:19: inference.keys_and_values: too little"), "{told}");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = "name = \"a\"\njurisdiction = \"ch\"\n[broker]\nurl = \"a\"\n[models]\nembedder = \"best\"\n";
        let lines: Vec<_> = message(text).lines().map(|line| line.split(": ").nth(1).map(str::to_owned)).collect();
        assert_eq!(lines, ["jurisdiction", "broker.url", "models.embedder"].map(|field| Some(field.to_owned())));
    }
}
