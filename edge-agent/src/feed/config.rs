//! What a person writes of the node's broker in `agent.toml`; what is written of feeds is `edge_core::feed`.

use std::{net::SocketAddr, path::PathBuf};

pub use edge_core::feed::{Events, Feed, Feeds, Schema};
use serde::Deserialize;

/// The node's broker: the site's own if `url` is given, else the embedded one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// `mqtt://host:1883` or `mqtts://host:8883` of the site's broker.
    pub url: Option<String>,
    /// The MQTT version spoken with the site's broker.
    pub protocol: Protocol,
    /// The stable client id of the node's session; `skerry-<node>` if not given.
    pub client_id: Option<String>,
    pub username: Option<String>,
    /// Where the password is: the name of an environment variable, or a file.
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    /// PEM file with the CA that signed the broker's certificate; the system's roots are not asked.
    pub ca: Option<PathBuf>,
    /// How long the site's broker is asked to keep the session while the node is away.
    pub session_expiry_s: u32,
    pub keep_alive_s: u16,
    pub embedded: Embedded,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: None,
            protocol: Protocol::default(),
            client_id: None,
            username: None,
            password_env: None,
            password_file: None,
            ca: None,
            session_expiry_s: 7 * 86_400,
            keep_alive_s: 30,
            embedded: Embedded::default(),
        }
    }
}

impl Broker {
    /// What is wrong with the settings by themselves, each with its field under `broker`; no file and no variable is read.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut wrong = |field: &str, message: String| found.push((field.to_owned(), message));
        match self.url.as_deref().map(|url| (url, super::connection::address(url))) {
            Some((url, None)) => wrong(
                "url",
                format!("{url:?} is not a broker's address: expected mqtt://host:1883 or mqtts://host:8883"),
            ),
            Some((_, Some((true, ..)))) if self.ca.is_none() => wrong(
                "ca",
                "it is missing: expected a PEM file with the CA that signed the broker's certificate, because `url` is mqtts://"
                    .to_owned(),
            ),
            _ => {}
        }
        let one_of_two = "expected one of `password_env` and `password_file` to say where the password is";
        if self.username.is_some() && self.password_env.is_some() == self.password_file.is_some() {
            wrong("username", one_of_two.to_owned());
        }
        if self.username.is_none() && (self.password_env.is_some() || self.password_file.is_some()) {
            let field = if self.password_env.is_some() { "password_env" } else { "password_file" };
            wrong(field, "a password without a user: expected `username` beside it".to_owned());
        }
        for (index, user) in self.embedded.users.iter().enumerate() {
            if user.password_env.is_some() == user.password_file.is_some() {
                wrong(&format!("embedded.users.{index}.name"), one_of_two.to_owned());
            }
        }
        let listen = self.embedded.listen;
        if self.url.is_none() && self.embedded.users.is_empty() && !listen.ip().is_loopback() {
            wrong(
                "embedded.listen",
                format!(
                    "{listen} is open to others: expected `users` who may connect, or a loopback address such as 127.0.0.1:1883"
                ),
            );
        }
        found
    }
}

/// The version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V4,
}

/// The embedded broker, used when no `url` is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// Port 0: a free one. Loopback by default, so that nothing is open to the plant before someone says so.
    pub listen: SocketAddr,
    /// Who may connect. Empty: anyone, which is only allowed on a loopback address.
    pub users: Vec<User>,
    pub tls: Option<ServerTls>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 1883)), users: Vec::new(), tls: None }
    }
}

/// One that may connect to the embedded broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// The embedded broker's certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM files.
    pub cert: PathBuf,
    pub key: PathBuf,
}
