//! HTTPS to the control plane, with TLS that trusts one authority and says plainly what is wrong with a certificate.

use std::{io, sync::Arc, time::Duration};

use futures::StreamExt as _;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use serde::{Serialize, de::DeserializeOwned};
use shared::{digest::Digest, wire::v1::Refusal};

use super::{Error, Membership, with_sources};

/// A link that does not answer for so long is down.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How soon a connection that broke without a word is noticed.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer: a sync with every open answer in it, or the largest manifest.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Requests to one control plane.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    /// The pinned authority, while the node has no membership yet.
    pin: Option<Digest>,
}

impl Client {
    /// With the member's certificate, trusting its authority alone.
    pub(super) fn of_member(member: &Membership) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(member.ca_pem.as_bytes()).map_err(|error| failed(&error))?;
        roots.add(ca).map_err(|error| failed(&error))?;
        let certificate =
            CertificateDer::from_pem_slice(member.certificate_pem.as_bytes()).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::from_pem_slice(member.key_pem.as_bytes()).map_err(|error| failed(&error))?;
        let config = builder()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .map_err(|error| failed(&error))?;
        Self::new(config, &member.url, None)
    }

    /// Without a certificate, trusting the authority with this digest alone.
    pub(super) fn pinned(url: &str, authority: Digest) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Pinned { authority, provider });
        let config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Self::new(config, url, Some(authority))
    }

    fn new(mut config: ClientConfig, url: &str, pin: Option<Digest>) -> Result<Self, Error> {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            // The control plane is dialled as the token says, not by way of a proxy of the environment.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_MAX)
            .build()
            .map_err(|error| Error::Tls(with_sources(&error)))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), pin })
    }

    /// Posts JSON and reads JSON.
    pub(super) async fn post<O: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<O, Error> {
        let request = self.http.post(format!("{}{path}", self.url)).json(body).timeout(limit);
        let bytes = self.read(operation, self.send(request).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Answer { operation, detail: error.to_string() })
    }

    /// Reads a small thing whole.
    pub(super) async fn get(&self, operation: &'static str, path: &str, limit: Duration) -> Result<Vec<u8>, Error> {
        let request = self.http.get(format!("{}{path}", self.url)).timeout(limit);
        self.read(operation, self.send(request).await?).await
    }

    /// Begins to read a large thing behind its first `from` bytes. The answer may begin at 0 all the same.
    pub(super) async fn get_from(&self, path: &str, from: u64) -> Result<reqwest::Response, Error> {
        let mut request = self.http.get(format!("{}{path}", self.url));
        if from > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={from}-"));
        }
        self.send(request).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.read("a refused request", response).await?;
        let refusal = serde_json::from_slice(&bytes);
        Err(Error::Refused(refusal.unwrap_or_else(|_| Refusal {
            code: "status".to_owned(),
            message: format!("the server answered {status}"),
        })))
    }

    async fn read(&self, operation: &'static str, response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.unreachable(&error))?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer { operation, detail: format!("more than {ANSWER_BYTES_MAX} bytes") });
            }
        }
        Ok(bytes)
    }

    /// What a request that got no answer died of.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> Error {
        let url = self.url.clone();
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                Error::CertificateRefused { url, detail: format!("TLS alert {alert:?}") }
            }
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::General(_)) if self.pin.is_some() => {
                Error::WrongAuthority { url, expected: self.pin.expect("just looked at") }
            }
            Some(rustls::Error::InvalidCertificate(detail)) => {
                Error::WrongServer { url, detail: format!("{detail:?}") }
            }
            _ => {
                let detail = with_sources(error);
                // With TLS 1.3 the refusal comes after the handshake, and HTTP/2 keeps its text alone.
                match detail.split_once("received fatal alert: ") {
                    Some((_, alert)) => Error::CertificateRefused { url, detail: format!("TLS alert {alert}") },
                    None => Error::Unreachable { url, detail },
                }
            }
        }
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Tls(error.to_string()))
}

/// The TLS error among an error's causes; I/O errors hide theirs.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Trusts a server whose chain holds the authority with this digest and is otherwise as it must be.
#[derive(Debug)]
struct Pinned {
    authority: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|certificate| Digest::of(certificate) == self.authority);
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let mut roots = RootCertStore::empty();
        roots.add(pinned.ok_or_else(unknown)?.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
