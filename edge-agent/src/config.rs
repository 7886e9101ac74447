//! The node's own configuration, `agent.toml`: what belongs to this machine and never comes from a bundle.
//!
//! It nests per room; unknown keys are refused. Everything has a default but the name and the jurisdiction.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use shared::{
    id::NodeName,
    label::Label,
    problem::{Problem, Problems},
};

use crate::{feed, inference};

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
    /// Models at providers and in files; `local/extract` is always there.
    #[serde(default)]
    pub targets: Vec<inference::config::Target>,
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

/// Which model embeds, and where model files lie.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Where `edge-agent models pull` puts files; `<data_dir>/models` when absent.
    pub dir: Option<PathBuf>,
    /// `builtin` (the distilled table) or the name of a catalog model that was pulled, such as `all-minilm-l6-v2`.
    pub embedder: Option<String>,
}

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
        config.models.dir = config.models.dir.map(|dir| base.join(dir));
        resolve_broker(&mut config.broker, base);
        for target in &mut config.targets {
            resolve_target(target, base);
        }
        Ok(config)
    }

    /// Parses the text of a configuration.
    ///
    /// # Errors
    /// Every mistake with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = error.span().map_or((None, None), |span| position(text, span.start));
            Problems(vec![Problem {
                file: file.to_owned(),
                line,
                column,
                field: String::new(),
                message: error.message().to_owned(),
            }])
        })?;
        let code = &config.jurisdiction;
        if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(field(
                file,
                "jurisdiction",
                format!("{code:?} is no jurisdiction: expected two capital letters such as CH, or EU"),
            ));
        }
        if !config.api.listen.ip().is_loopback() && config.api.key_file.is_none() {
            let listen = config.api.listen;
            let message = format!(
                "{listen} is open to others: expected `key_file` with the key that the OpenAI-compatible endpoint asks for, or a loopback address"
            );
            return Err(field(file, "api.listen", message));
        }
        let mut names = std::collections::BTreeSet::new();
        for target in &config.targets {
            if !names.insert(target.name.as_str()) {
                return Err(field(
                    file,
                    "targets",
                    format!("two targets are named {:?}: expected a name of its own for each", target.name),
                ));
            }
        }
        Ok(config)
    }

    /// The node's store.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.data_dir.join("node.db")
    }

    /// Where model files lie.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        self.models.dir.clone().unwrap_or_else(|| self.data_dir.join("models"))
    }
}

fn resolve_target(target: &mut inference::config::Target, base: &Path) {
    match &mut target.source {
        inference::config::Source::Gguf { file } => *file = base.join(&*file),
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
    field(file, "", message)
}

fn field(file: &str, field: &str, message: String) -> Problems {
    Problems(vec![Problem { file: file.to_owned(), line: None, column: None, field: field.to_owned(), message }])
}

/// 1-based line and column of a byte offset.
fn position(text: &str, offset: usize) -> (Option<u32>, Option<u32>) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    (u32::try_from(line).ok(), u32::try_from(column).ok())
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
    fn mistakes_name_the_line_and_what_was_expected() {
        assert!(message("name = \"Basel\"\njurisdiction = \"CH\"\n").contains("agent.toml:1:8"));
        let unknown = message("name = \"a\"\njurisdiction = \"CH\"\ncolour = 1\n");
        assert!(unknown.contains("agent.toml:3:1") && unknown.contains("colour"), "{unknown}");
        assert!(message("name = \"a\"\njurisdiction = \"Swiss\"\n").contains("two capital letters"));
        let open = message("name = \"a\"\njurisdiction = \"CH\"\napi = { listen = \"0.0.0.0:8686\" }\n");
        assert!(open.contains("api.listen") && open.contains("key_file"), "{open}");
    }
}
