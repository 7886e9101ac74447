//! Requests to the operator API of a control plane that serves.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::Method;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Serialize, de::DeserializeOwned};
use shared::wire::v1::Refusal;

use super::{Connection, Failure, with_sources};

/// A whole ledger is recomputed within this, at a million entries a second some thousand times over.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// The file in a data folder that says where the control plane serves.
pub(super) const ADDRESS_FILE: &str = "url";
/// The authority's certificate in a data folder, for everyone to read.
pub(super) const CA_FILE: &str = "ca.pem";

/// One operator at one control plane.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    secret: String,
}

impl Client {
    pub(super) fn new(connection: &Connection) -> Result<Self, Failure> {
        let read = |path: &Path, what: &str| {
            std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("cannot read {what} from {}: {error}", path.display())))
        };
        let data = connection.data_dir.as_deref();
        let url = match (&connection.url, data) {
            (Some(url), _) => url.clone(),
            (None, Some(data)) => read(&data.join(ADDRESS_FILE), "the control plane's address")?,
            (None, None) => {
                let message = "which control plane? give --data-dir (on its own machine) or --url and --ca";
                return Err(Failure::Usage(message.to_owned()));
            }
        };
        let ca = match (&connection.ca, data) {
            (Some(path), _) => read(path, "the authority's certificate")?,
            (None, Some(data)) => read(&data.join(CA_FILE), "the authority's certificate")?,
            (None, None) => {
                let message = "which authority? give --ca with the control plane's ca.pem";
                return Err(Failure::Usage(message.to_owned()));
            }
        };
        let secret = match (&connection.secret, &connection.secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => private::read(path, private::Origin::Given)
                .map_err(|error| Failure::Usage(format!("cannot use the secret: {}", with_sources(&error))))?,
            (None, None) => {
                let message =
                    "who are you? put your operator's secret into SKERRY_CONTROL_SECRET or give --secret-file";
                return Err(Failure::Usage(message.to_owned()));
            }
        };
        let http =
            http(&ca).map_err(|detail| Failure::Usage(format!("cannot use the authority's certificate: {detail}")))?;
        let base = format!("{}/operator/v1", url.trim().trim_end_matches('/'));
        Ok(Self { http, base, secret: secret.trim().to_owned() })
    }

    pub(super) async fn get<O: DeserializeOwned>(&self, path: &str) -> Result<O, Failure> {
        self.answer(self.request(Method::GET, path)).await
    }

    pub(super) async fn get_with<O: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<O, Failure> {
        let pairs = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>();
        self.get(&format!("{path}?{}", pairs.join("&"))).await
    }

    pub(super) async fn post<O: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<O, Failure> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    pub(super) async fn delete<O: DeserializeOwned>(&self, path: &str) -> Result<O, Failure> {
        self.answer(self.request(Method::DELETE, path)).await
    }

    pub(super) async fn put(&self, path: &str, body: reqwest::Body) -> Result<(), Failure> {
        self.answer(self.request(Method::PUT, path).body(body)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.secret)
    }

    async fn answer<O: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<O, Failure> {
        let unreachable = |error: reqwest::Error| {
            let mut text = format!("cannot reach the control plane at {}", self.base);
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            Failure::Unreachable(text)
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                Failure::Failed(format!("the control plane answered something else than expected: {error}"))
            });
        }
        let refusal: Refusal =
            serde_json::from_slice(&bytes).map_err(|_| Failure::Failed(format!("the server answered {status}")))?;
        match status {
            reqwest::StatusCode::UNAUTHORIZED => Err(Failure::Unreachable(refusal.message)),
            status if status.is_server_error() => Err(Failure::Failed(refusal.message)),
            _ => Err(Failure::Refused(refusal)),
        }
    }
}

fn http(ca: &str) -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|error| error.to_string())?;
    roots.add(ca).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .timeout(ANSWER_MAX)
        .build()
        .map_err(|error| error.to_string())
}

/// A value for a query: everything but letters, digits and `-._~` by its bytes (RFC 3986).
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
