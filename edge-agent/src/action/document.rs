//! Documents that describe interfaces, and scripts: fetched from their address, or read from the folder that `agent.toml`
//! names. What was fetched is kept for a while, and beyond it for as long as its host cannot be reached.

use std::{
    collections::VecDeque,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use edge_core::engine::effect::{Failure, kind};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{
    errand::Errand,
    http::{Endpoint, Request, address},
};

/// The largest public OpenAPI documents have some 10 MB as text; those of devices and plants are far smaller.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Beyond it the one that was fetched first is dropped.
const DOCUMENTS_MAX: usize = 32;
/// How long a document is not asked for again.
const FRESH_FOR: Duration = Duration::from_secs(600);

/// The DSL's external resource.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    #[serde(rename = "name")]
    _name: Option<String>,
    pub(super) endpoint: Endpoint,
}

/// A document as it came.
pub(super) struct Document {
    pub(super) text: String,
    /// Where it came from: what relative addresses in it are relative to.
    pub(super) base: Base,
    parsed: OnceLock<Result<Value, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    Web(Url),
    /// A path below the folder of documents.
    File(PathBuf),
}

/// Documents at hand.
pub(super) struct Documents {
    folder: Option<PathBuf>,
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    address: String,
    document: Arc<Document>,
    fetched: Instant,
}

impl Document {
    fn new(text: String, base: Base) -> Self {
        Self { text, base, parsed: OnceLock::new() }
    }

    /// The document as JSON, from JSON or YAML.
    pub(super) fn parsed(&self, errand: &Errand<'_>) -> Result<&Value, Failure> {
        let parsed = self.parsed.get_or_init(|| match serde_json::from_str(&self.text) {
            Ok(value) => Ok(value),
            Err(_) => serde_yaml_ng::from_str(&self.text).map_err(|error| error.to_string()),
        });
        parsed.as_ref().map_err(|error| {
            let detail = format!("{}: is neither JSON nor YAML: {error}", self.base.shown());
            errand.failure(kind::CONFIGURATION, &detail)
        })
    }
}

impl Base {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Web(url) => url.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The address of what this one calls `reference`.
    pub(super) fn join(&self, reference: &str) -> Option<String> {
        match self {
            Self::Web(url) => url.join(reference).ok().map(String::from),
            Self::File(path) => {
                Some(path.parent().unwrap_or(Path::new("")).join(reference).to_string_lossy().into_owned())
            }
        }
    }
}

impl Documents {
    pub(super) fn below(folder: Option<PathBuf>) -> Self {
        Self { folder, kept: Mutex::default() }
    }

    /// The document of an external resource.
    pub(super) async fn fetch(&self, errand: &Errand<'_>, resource: &Resource) -> Result<Arc<Document>, Failure> {
        self.load(errand, &resource.endpoint).await
    }

    /// The document at an address.
    pub(super) async fn fetch_address(&self, errand: &Errand<'_>, address: &str) -> Result<Arc<Document>, Failure> {
        self.load(errand, &Endpoint::Address(address.to_owned())).await
    }

    async fn load(&self, errand: &Errand<'_>, endpoint: &Endpoint) -> Result<Arc<Document>, Failure> {
        let written = endpoint.address();
        if !written.starts_with("http://") && !written.starts_with("https://") {
            return self.read(errand, written);
        }
        let url = address(errand, "document", written)?;
        let at_hand = self.kept(url.as_str());
        if let Some((document, _)) = at_hand.as_ref().filter(|(_, is_fresh)| *is_fresh) {
            return Ok(Arc::clone(document));
        }
        let mut request = Request::new(errand, "GET", url.clone())?;
        "document".clone_into(&mut request.function);
        request.redirect = true;
        // Asking twice for a document is no effect.
        request.headers.remove("idempotency-key");
        request.authentication = endpoint.authentication(errand)?;
        let fetched = match Box::pin(errand.ways.http().perform(errand, &request)).await {
            Ok(answer) if answer.status.is_success() => text(errand, answer.body)?,
            Ok(answer) => return Err(answer.refusal(errand)),
            // An old copy is better than none while the link is down; policy has spoken before.
            Err(failure) if failure.error.kind == kind::COMMUNICATION.0 => {
                return at_hand.map(|(document, _)| document).ok_or(failure);
            }
            Err(failure) => return Err(failure),
        };
        let document = Arc::new(Document::new(fetched, Base::Web(url.clone())));
        self.keep(url.into(), Arc::clone(&document));
        Ok(document)
    }

    fn read(&self, errand: &Errand<'_>, written: &str) -> Result<Arc<Document>, Failure> {
        let unfit = |why: String| errand.failure(kind::CONFIGURATION, &format!("document {written:?}: {why}"));
        let Some(folder) = &self.folder else {
            return Err(unfit(
                "no folder of documents is set: expected `documents` under [calls] in agent.toml".into(),
            ));
        };
        let path = Path::new(written.strip_prefix("file://").unwrap_or(written).trim_start_matches('/'));
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_plain || path.as_os_str().is_empty() {
            return Err(unfit("expected a path below the folder of documents".into()));
        }
        let read = || -> std::io::Result<Option<Vec<u8>>> {
            let real = folder.join(path).canonicalize()?;
            if !real.starts_with(folder.canonicalize()?) {
                return Ok(None);
            }
            if std::fs::metadata(&real)?.len() > DOCUMENT_BYTES_MAX as u64 {
                return Err(std::io::Error::other(format!("it has more than {DOCUMENT_BYTES_MAX} bytes")));
            }
            std::fs::read(real).map(Some)
        };
        match read() {
            Ok(Some(bytes)) => Ok(Arc::new(Document::new(text(errand, bytes)?, Base::File(path.to_owned())))),
            Ok(None) => Err(unfit("it is a link to a place outside the folder of documents".into())),
            Err(error) => Err(unfit(format!("{}: {error}", folder.join(path).display()))),
        }
    }

    fn kept(&self, address: &str) -> Option<(Arc<Document>, bool)> {
        let kept = self.kept.lock().expect("no thread panicked with the documents");
        let found = kept.iter().find(|kept| kept.address == address)?;
        Some((Arc::clone(&found.document), found.fetched.elapsed() < FRESH_FOR))
    }

    fn keep(&self, address: String, document: Arc<Document>) {
        let mut kept = self.kept.lock().expect("no thread panicked with the documents");
        kept.retain(|other| other.address != address);
        kept.push_back(Kept { address, document, fetched: Instant::now() });
        if kept.len() > DOCUMENTS_MAX {
            kept.pop_front();
        }
    }
}

fn text(errand: &Errand<'_>, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| errand.failure(kind::CONFIGURATION, "the document is not text in UTF-8"))
}
