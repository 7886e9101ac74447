//! How the node's own clients reach its broker.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::config::{Broker, Protocol};

/// The largest message taken from or sent to the site's broker. One above what is decoded is quarantined; one above this
/// is not sent by a broker of MQTT 5, and ends the connection with one of 3.1.1.
pub const PACKET_LEN_MAX: u32 = 16 << 20;
/// The largest packet that MQTT has (3.1.1, section 2.2.3).
const MQTT_PACKET_LEN_MAX: usize = 268_435_455;

/// What a client needs to reach the broker.
#[derive(Clone)]
pub struct Connection {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub credentials: Option<(String, String)>,
    pub tls: Option<Arc<ClientConfig>>,
    pub keep_alive: Duration,
}

/// What is wrong with the broker's settings, in words for the one who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("broker.url {url:?} is not a broker's address: expected mqtt://host:1883 or mqtts://host:8883")]
    Url { url: String },
    #[error("broker.ca is missing: a broker behind mqtts:// is only trusted by the CA that you name")]
    NoCa,
    #[error("cannot read the certificates in {path}: {reason}")]
    Certificates { path: String, reason: String },
    #[error("the password of {user:?} is missing: expected {field} to name {what}")]
    Password { user: String, field: String, what: String },
    #[error("cannot use the password file")]
    PasswordFile(#[source] private::Error),
    #[error("cannot use the key of the certificate")]
    KeyFile(#[source] private::Error),
    #[error("broker.embedded.listen {listen} is open to others: name `users` who may connect, or listen on 127.0.0.1")]
    Open { listen: std::net::SocketAddr },
    #[error(
        "cannot listen on {listen}: is another broker running there? `listen` may name another port, or 0 for a free one"
    )]
    Listen { listen: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot open the embedded broker's storage in {path}: {reason}")]
    Storage { path: String, reason: String },
}

impl Connection {
    /// The site's broker as configured; `None` when none is.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn of(broker: &Broker) -> Result<Option<Self>, Error> {
        let Some(url) = &broker.url else { return Ok(None) };
        let (secure, host, port) = address(url).ok_or_else(|| Error::Url { url: url.clone() })?;
        let tls = if secure { Some(trust(broker.ca.as_deref().ok_or(Error::NoCa)?)?) } else { None };
        let credentials = match &broker.username {
            None => None,
            Some(user) => Some((
                user.clone(),
                password("broker", user, broker.password_env.as_deref(), broker.password_file.as_deref())?,
            )),
        };
        let keep_alive = Duration::from_secs(u64::from(broker.keep_alive_s.max(5)));
        Ok(Some(Self { host: host.to_owned(), port, protocol: broker.protocol, credentials, tls, keep_alive }))
    }

    /// Options for a client of MQTT 5. Session and acknowledgement are the caller's to set.
    #[must_use]
    pub fn options_v5(&self, client_id: &str) -> rumqttc::v5::MqttOptions {
        let mut options = rumqttc::v5::MqttOptions::new(client_id, &self.host, self.port);
        options.set_keep_alive(self.keep_alive);
        options.set_max_packet_size(Some(PACKET_LEN_MAX));
        options.set_network_options(network());
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            options
                .set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        options
    }

    /// Options for a client of MQTT 3.1.1. Session and acknowledgement are the caller's to set.
    #[must_use]
    pub fn options_v4(&self, client_id: &str) -> rumqttc::MqttOptions {
        let mut options = rumqttc::MqttOptions::new(client_id, &self.host, self.port);
        options.set_keep_alive(self.keep_alive);
        // Nobody told this broker how much is taken: it would send a larger message again and again, before all others.
        // It is taken, and put into quarantine.
        options.set_max_packet_size(MQTT_PACKET_LEN_MAX, PACKET_LEN_MAX as usize);
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            options
                .set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        options
    }
}

/// Whether TLS is spoken, the host and the port of a broker's URL; `None` when it is none.
#[must_use]
pub fn address(url: &str) -> Option<(bool, &str, u16)> {
    let (secure, rest) = match url.split_once("://")? {
        ("mqtt" | "tcp", rest) => (false, rest),
        ("mqtts" | "ssl", rest) => (true, rest),
        _ => return None,
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (rest, if secure { 8883 } else { 1883 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains(['/', '@'])).then_some((secure, host, port))
}

/// Small packets go at once: an acknowledgement must not wait for the next.
pub(super) fn network() -> rumqttc::NetworkOptions {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

/// A password from the environment or a file; never from the configuration itself.
pub(super) fn password(place: &str, user: &str, env: Option<&str>, file: Option<&Path>) -> Result<String, Error> {
    match (env, file) {
        (Some(name), None) => std::env::var(name).map_err(|_| Error::Password {
            user: user.to_owned(),
            field: format!("{place}.password_env"),
            what: format!("an environment variable that is set, and {name} is not"),
        }),
        (None, Some(path)) => {
            let text = private::read(path, private::Origin::Given).map_err(Error::PasswordFile)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        _ => Err(Error::Password {
            user: user.to_owned(),
            field: format!("{place}.password_env or {place}.password_file"),
            what: "where it is (one of the two)".to_owned(),
        }),
    }
}

/// Trusts what this CA signed and nothing else.
fn trust(ca: &Path) -> Result<Arc<ClientConfig>, Error> {
    let failed = |reason: String| Error::Certificates { path: ca.display().to_string(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it; expected PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
