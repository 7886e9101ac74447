//! The targets of a node's configuration: `[[targets]]`, checked when they are read. Keys stay where they are, in the
//! environment or a file, and are read anew for each call, so that they can be changed while the agent runs.

use std::{path::PathBuf, time::Duration};

use models::generate::{Cache, Sampling};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, label::is_jurisdiction};

use super::EXTRACT;

/// A target as the node's configuration names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Target {
    /// `cloud/...` for a provider, `local/...` for a file on this node.
    pub name: String,
    pub source: Source,
}

/// What answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Provider(Box<Provider>),
    /// A chat model in a GGUF file, loaded when first asked.
    Gguf(Gguf),
}

/// A chat model on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    pub file: PathBuf,
    /// What the file must be; one that is something else is refused when it is loaded.
    pub digest: Option<Digest>,
    /// Where `edge-agent models pull` gets it.
    pub hub: Option<Hub>,
    /// What holds where a request does not say.
    pub sampling: Sampling,
    /// In which form keys and values are kept.
    pub cache: Cache,
    /// Requests that are answered at the same time.
    pub parallel: usize,
}

impl Gguf {
    /// A file of which nothing else is said.
    #[must_use]
    pub fn of(file: &std::path::Path) -> Self {
        let (sampling, cache) = (Sampling::default(), Cache::default());
        Self { file: file.to_owned(), digest: None, hub: None, sampling, cache, parallel: 1 }
    }
}

/// Requests at the same time, at most: each has keys and values of its own.
const PARALLEL_MAX: usize = 16;

/// Keys and values as the configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KvCache {
    F16,
    Q8,
}

/// A repository of the model hub. The file there has the name of the target's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// `owner/name`.
    pub repo: String,
    pub revision: String,
}

/// A model behind HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub protocol: Protocol,
    /// Up to and with the version, such as `https://api.openai.com/v1`.
    pub url: reqwest::Url,
    pub model: String,
    pub key: Option<Key>,
    /// Where the provider computes: ISO 3166-1 alpha-2 or `EU`, upper case.
    pub jurisdiction: Option<String>,
    pub provider: Option<String>,
    /// Millionths of a US dollar for a million tokens of prompt.
    pub price_in: u64,
    /// Millionths of a US dollar for a million tokens of answer.
    pub price_out: u64,
    /// How long one call may take when the task sets no deadline.
    pub timeout: Duration,
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Chat completions: `POST {url}/chat/completions`.
    OpenAi,
    /// Messages: `POST {url}/messages`.
    Anthropic,
}

/// Where a provider's key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Env(String),
    File(PathBuf),
}

/// Long enough for a long answer of a large model.
const TIMEOUT_S: u64 = 120;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jurisdiction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// US dollars for a million tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_in: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_out: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kv_cache: Option<KvCache>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parallel: Option<usize>,
}

impl Raw {
    /// Of kind gguf, without anything that is not its name.
    const fn empty(name: String) -> Self {
        Self {
            name,
            kind: Kind::Gguf,
            url: None,
            model: None,
            key_env: None,
            key_file: None,
            jurisdiction: None,
            provider: None,
            price_in: None,
            price_out: None,
            timeout_s: None,
            file: None,
            digest: None,
            repo: None,
            revision: None,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            kv_cache: None,
            parallel: None,
        }
    }

    const fn sampling(&self) -> Sampling {
        let Self { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *self;
        Sampling { temperature, top_k, top_p, min_p, repetition_penalty }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    OpenAi,
    Anthropic,
    Gguf,
}

impl TryFrom<Raw> for Target {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let (prefix, source) = match raw.kind {
            Kind::Gguf => ("local/", gguf(&raw)?),
            Kind::OpenAi => ("cloud/", Source::Provider(Box::new(provider(&raw, Protocol::OpenAi)?))),
            Kind::Anthropic => ("cloud/", Source::Provider(Box::new(provider(&raw, Protocol::Anthropic)?))),
        };
        if raw.name == EXTRACT {
            return Err(format!("name: {EXTRACT} is built in; choose another name under local/"));
        }
        match raw.name.strip_prefix(prefix) {
            Some(rest) if !rest.is_empty() && !rest.contains(['*', ' ']) => Ok(Self { name: raw.name, source }),
            _ => {
                Err(format!("name: {:?} is not a name of this kind of target; expected {prefix} and a word", raw.name))
            }
        }
    }
}

fn gguf(raw: &Raw) -> Result<Source, String> {
    let foreign = [
        ("url", raw.url.is_some()),
        ("model", raw.model.is_some()),
        ("key_env", raw.key_env.is_some()),
        ("key_file", raw.key_file.is_some()),
        ("price_in", raw.price_in.is_some()),
        ("price_out", raw.price_out.is_some()),
    ];
    if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
        return Err(format!(
            "{field}: target {} of kind gguf has no such field; it has `file`, `digest`, `repo`, `revision`, `temperature`, `top_k`, \
             `top_p`, `min_p`, `repetition_penalty`, `kv_cache` and `parallel`",
            raw.name
        ));
    }
    let file =
        raw.file.clone().ok_or_else(|| format!("file: target {} of kind gguf needs the model's file", raw.name))?;
    let (name, digest) = (&raw.name, raw.digest);
    let hub = match (&raw.repo, &raw.revision) {
        (None, None) => None,
        (None, Some(_)) => return Err(format!("revision: target {name} has no `repo` that it could be of")),
        (Some(repo), revision) => {
            let hub = Hub::new(repo, revision.as_deref()).map_err(|wrong| format!("{wrong} (target {name})"))?;
            if digest.is_none() {
                return Err(format!(
                    "digest: target {name} has a `repo`: expected the digest of what comes from there"
                ));
            }
            Some(hub)
        }
    };
    let sampling = raw.sampling();
    sampling.check().map_err(|wrong| format!("{wrong} (target {name})"))?;
    let parallel = raw.parallel.unwrap_or(1);
    if !(1..=PARALLEL_MAX).contains(&parallel) {
        return Err(format!(
            "parallel: {parallel} of target {name}; expected 1 to {PARALLEL_MAX} requests at the same time"
        ));
    }
    let cache = match raw.kv_cache {
        None | Some(KvCache::F16) => Cache::Half,
        Some(KvCache::Q8) => Cache::Eight,
    };
    Ok(Source::Gguf(Gguf { file, digest, hub, sampling, cache, parallel }))
}

impl Hub {
    /// # Errors
    /// What is wrong with the repository's name or the revision.
    pub fn new(repo: &str, revision: Option<&str>) -> Result<Self, String> {
        let is_word = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let is_repo = repo.split_once('/').is_some_and(|(owner, name)| is_word(owner) && is_word(name));
        if !is_repo {
            return Err(format!("repo: {repo:?} is no repository of the hub; expected owner/name"));
        }
        let revision = revision.unwrap_or("main");
        if !is_word(revision) {
            return Err(format!("revision: {revision:?}; expected a branch, tag or commit"));
        }
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }
}

fn provider(raw: &Raw, protocol: Protocol) -> Result<Provider, String> {
    let name = &raw.name;
    let foreign = [
        ("file", raw.file.is_some()),
        ("digest", raw.digest.is_some()),
        ("repo", raw.repo.is_some()),
        ("revision", raw.revision.is_some()),
        ("temperature, top_k, top_p, min_p or repetition_penalty", raw.sampling() != Sampling::default()),
        ("kv_cache or parallel", raw.kv_cache.is_some() || raw.parallel.is_some()),
    ];
    if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
        return Err(format!("{field}: target {name} is a provider; only kind gguf has that"));
    }
    let url = raw.url.as_deref().ok_or_else(|| format!("url: target {name} needs the provider's address"))?;
    let url = reqwest::Url::parse(url.trim_end_matches('/'))
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| format!("url: {url:?} of target {name} is not an address; expected https://host/v1"))?;
    let key = match (&raw.key_env, &raw.key_file) {
        (Some(_), Some(_)) => return Err(format!("key_file: target {name} has key_env too; keep one of them")),
        (Some(variable), None) => Some(Key::Env(variable.clone())),
        (None, Some(file)) => Some(Key::File(file.clone())),
        (None, None) => None,
    };
    if let Some(place) = raw.jurisdiction.as_ref().filter(|code| !is_jurisdiction(code)) {
        return Err(format!(
            "jurisdiction: {place:?} of target {name}; expected two capital letters such as DE, or EU"
        ));
    }
    Ok(Provider {
        protocol,
        url,
        model: raw
            .model
            .clone()
            .ok_or_else(|| format!("model: target {name} needs the provider's name of the model"))?,
        key,
        jurisdiction: raw.jurisdiction.clone(),
        provider: raw.provider.clone(),
        price_in: price(raw.price_in, "price_in", name)?,
        price_out: price(raw.price_out, "price_out", name)?,
        timeout: Duration::from_secs(raw.timeout_s.unwrap_or(TIMEOUT_S).max(1)),
    })
}

/// US dollars to millionths of one.
fn price(usd: Option<f64>, field: &str, name: &str) -> Result<u64, String> {
    match usd.unwrap_or(0.0) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be 0 to 10^12")]
        usd if (0.0..=1e6).contains(&usd) => Ok((usd * 1e6).round() as u64),
        usd => Err(format!("{field}: {usd} of target {name}; expected US dollars for a million tokens, 0 or more")),
    }
}

impl From<Target> for Raw {
    fn from(target: Target) -> Self {
        let empty = Self::empty(target.name);
        #[expect(clippy::cast_precision_loss, reason = "prices are far below 2^52 micro-USD")]
        let usd = |micro: u64| (micro > 0).then(|| micro as f64 / 1e6);
        match target.source {
            Source::Gguf(Gguf { file, digest, hub, sampling, cache, parallel }) => {
                let (repo, revision) = hub.map(|hub| (hub.repo, hub.revision)).unzip();
                let Sampling { temperature, top_k, top_p, min_p, repetition_penalty } = sampling;
                Self {
                    file: Some(file),
                    digest,
                    repo,
                    revision,
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    repetition_penalty,
                    kv_cache: (cache == Cache::Eight).then_some(KvCache::Q8),
                    parallel: (parallel > 1).then_some(parallel),
                    ..empty
                }
            }
            Source::Provider(provider) => {
                let (key_env, key_file) = match provider.key {
                    Some(Key::Env(variable)) => (Some(variable), None),
                    Some(Key::File(file)) => (None, Some(file)),
                    None => (None, None),
                };
                let kind = match provider.protocol {
                    Protocol::OpenAi => Kind::OpenAi,
                    Protocol::Anthropic => Kind::Anthropic,
                };
                Self {
                    kind,
                    url: Some(provider.url.to_string()),
                    model: Some(provider.model),
                    key_env,
                    key_file,
                    jurisdiction: provider.jurisdiction,
                    provider: provider.provider,
                    price_in: usd(provider.price_in),
                    price_out: usd(provider.price_out),
                    timeout_s: Some(provider.timeout.as_secs()),
                    ..empty
                }
            }
        }
    }
}

impl Provider {
    /// What these tokens cost, in millionths of a US dollar, rounded up.
    #[must_use]
    pub const fn cost_micro_usd(&self, tokens_in: u64, tokens_out: u64) -> u64 {
        let sum = tokens_in.saturating_mul(self.price_in).saturating_add(tokens_out.saturating_mul(self.price_out));
        sum.div_ceil(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        targets: Vec<Target>,
    }

    fn parse(text: &str) -> Result<Vec<Target>, String> {
        toml::from_str::<File>(text).map(|file| file.targets).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_is_read_with_its_price_in_micro_dollars() {
        let targets = parse(
            r#"[[targets]]
            name = "cloud/large"
            kind = "openai"
            url = "https://api.example.com/v1/"
            model = "gpt"
            key_env = "EXAMPLE_KEY"
            jurisdiction = "US"
            price_in = 2.5
            price_out = 10"#,
        )
        .expect("valid");
        let Source::Provider(provider) = &targets[0].source else { panic!("a provider") };
        assert_eq!(provider.url.as_str(), "https://api.example.com/v1");
        assert_eq!((provider.price_in, provider.price_out), (2_500_000, 10_000_000));
        assert_eq!(provider.cost_micro_usd(1_000, 200), 4_500);
        assert_eq!(provider.cost_micro_usd(1, 0), 3, "rounded up");
        let again: Target =
            serde_json::from_value(serde_json::to_value(&targets[0]).expect("plain")).expect("the same");
        assert_eq!(again, targets[0]);
    }

    #[test]
    fn a_model_on_the_node_has_its_own_way_of_drawing_tokens() {
        let targets = parse(
            "[[targets]]\nname = 'local/a'\nkind = 'gguf'\nfile = 'f'\ntemperature = 0.7\ntop_k = 40\nmin_p = 0.05\nrepetition_penalty = 1.1\nkv_cache = 'q8'\nparallel = 4",
        );
        let Source::Gguf(model) = &targets.expect("valid")[0].source else { panic!("a file") };
        let set = Sampling {
            temperature: Some(0.7),
            top_k: Some(40),
            min_p: Some(0.05),
            repetition_penalty: Some(1.1),
            top_p: None,
        };
        assert_eq!((model.sampling, model.cache, model.parallel), (set, Cache::Eight, 4));
        let asked = Sampling { temperature: Some(0.0), top_p: Some(0.9), ..Sampling::default() };
        assert_eq!(
            asked.or(set),
            Sampling { temperature: Some(0.0), top_p: Some(0.9), ..set },
            "a request has its way"
        );
    }

    #[test]
    fn a_mistake_names_the_field_and_what_was_expected() {
        let wrong = [
            ("name = 'cloud/a'\nkind = 'openai'\nmodel = 'm'", "url: target cloud/a needs"),
            ("name = 'cloud/a'\nkind = 'openai'\nurl = 'ftp://x'\nmodel = 'm'", "expected https://host/v1"),
            ("name = 'cloud/a'\nkind = 'gguf'\nfile = 'm.gguf'", "expected local/ and a word"),
            ("name = 'local/a'\nkind = 'gguf'", "file: target local/a of kind gguf needs"),
            ("name = 'local/a'\nkind = 'gguf'\nfile = 'f'\nurl = 'u'", "has no such field"),
            ("name = 'local/extract'\nkind = 'gguf'\nfile = 'f'", "is built in"),
            ("name = 'local/a'\nkind = 'gguf'\nfile = 'f'\ndigest = 'sha256:12'", "digest"),
            ("name = 'local/a'\nkind = 'gguf'\nfile = 'f'\nrepo = 'a/b'", "digest: target local/a has a `repo`"),
            ("name = 'local/a'\nkind = 'gguf'\nfile = 'f'\nrepo = '../b'", "expected owner/name"),
            (
                "name = 'local/a'\nkind = 'gguf'\nfile = 'f'\nmin_p = 1.5",
                "min_p: 1.5: expected 0 to 1 (target local/a)",
            ),
            ("name = 'cloud/a'\nkind = 'openai'\nurl = 'http://x'\nmodel = 'm'\ntop_k = 3", "top_k, top_p, min_p"),
            ("name = 'cloud/a'\nkind = 'openai'\nurl = 'http://x'\nmodel = 'm'\nrepo = 'a/b'", "only kind gguf"),
            (
                "name = 'cloud/a'\nkind = 'openai'\nurl = 'http://x'\nmodel = 'm'\nkeyenv = 'K'",
                "unknown field `keyenv`",
            ),
            ("name = 'cloud/a'\nkind = 'azure'", "unknown variant `azure`, expected one of `openai`"),
            ("name = 'cloud/a'\nkind = 'openai'\nurl = 'http://x'\nmodel = 'm'\nprice_in = -1", "price_in: -1"),
            ("name = 'cloud/a'\nkind = 'openai'\nurl = 'http://x'\nmodel = 'm'\njurisdiction = 'usa'", "two capital"),
        ];
        for (text, expected) in wrong {
            let error = parse(&format!("[[targets]]\n{text}")).expect_err(text);
            assert!(error.contains(expected), "{text}\n gave {error}\n expected {expected}");
        }
    }
}
