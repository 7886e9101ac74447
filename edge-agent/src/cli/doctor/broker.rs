//! Whether the broker that readings come from takes this node, tried as the agent would: name, port, TLS, user, password.

use super::{super::small_runtime, Check};
use crate::{
    config::Config,
    feed::{
        config::Broker,
        connection::{Connection, Error},
        mqtt,
    },
};

pub(super) fn check(config: &Config, running: bool) -> Check {
    match &config.broker.url {
        Some(url) => sites_own(url, &config.broker),
        None => embedded(&config.broker, running),
    }
}

fn embedded(broker: &Broker, running: bool) -> Check {
    let listen = broker.embedded.listen;
    if running || listen.port() == 0 {
        return Check::ok("broker", format!("embedded, on {listen}"));
    }
    match std::net::TcpListener::bind(listen) {
        Ok(_) => Check::ok("broker", format!("embedded, {listen} is free")),
        Err(error) => Check::broken(
            "broker",
            format!("embedded, but {listen} cannot be had ({error})"),
            "end what uses the port, or set `listen` under [broker.embedded]",
        ),
    }
}

fn sites_own(url: &str, broker: &Broker) -> Check {
    let connection = match Connection::of(broker) {
        Ok(Some(connection)) => connection,
        Ok(None) => return Check::ok("broker", "none"),
        Err(error) => {
            let advice = match &error {
                Error::NoCa | Error::Certificates { .. } => {
                    "name a PEM file with the CA that signed the broker's certificate as `ca` under [broker]"
                }
                Error::Password { .. } => {
                    "set it for the agent too: with systemd, `Environment=` or `EnvironmentFile=` of its unit"
                }
                Error::PasswordFile(_) => {
                    "let the agent's user and nobody else read it, or correct `password_file` under [broker]"
                }
                _ => "correct [broker] in the configuration",
            };
            return Check::broken("broker", format!("{:#}", anyhow::Error::new(error)), advice);
        }
    };
    let greeted = match small_runtime() {
        Ok(runtime) => runtime.block_on(mqtt::greet(&connection, &format!("skerry-doctor-{}", std::process::id()))),
        Err(failure) => Err(failure.to_string()),
    };
    match greeted {
        Ok(()) => Check::ok("broker", format!("{url} takes this node")),
        Err(error) => {
            let (found, advice) = meaning(url, &connection, &error);
            Check::broken("broker", format!("{found} ({error})"), advice)
        }
    }
}

/// What a refusal means, and what to do about it. The words are those of rumqttc and rustls.
fn meaning(url: &str, connection: &Connection, error: &str) -> (String, String) {
    let host = &connection.host;
    let known = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if known(&["BadUserNamePassword", "NotAuthorized"]) {
        let found = format!("{url} does not know this user and password");
        let advice = "correct `username` and what `password_env` or `password_file` name under [broker], or give the broker this user";
        return (found, advice.to_owned());
    }
    if known(&["not valid for name", "NotValidForName"]) {
        let found = format!("the certificate of {url} is for another name");
        return (
            found,
            format!("write the name that the certificate is made for into `url`, or have it made for {host}"),
        );
    }
    if known(&["UnknownIssuer", "BadSignature"]) {
        let found = format!("the certificate of {url} is not signed by the CA in `ca`");
        return (found, "name the CA that signed the broker's certificate as `ca` under [broker]".to_owned());
    }
    if known(&["Expired", "expired", "NotValidYet", "not valid yet"]) {
        let found = format!("the certificate of {url} is not valid now");
        return (found, "renew the broker's certificate, or set this machine's clock".to_owned());
    }
    if known(&["ProtocolVersion"]) {
        let found = format!("{url} does not speak this version of MQTT");
        return (found, "set `protocol = \"3.1.1\"` under [broker]".to_owned());
    }
    if connection.tls.is_some() && known(&["InvalidContentType", "InvalidMessage", "corrupt message"]) {
        return (
            format!("{url} does not speak TLS on this port"),
            "write mqtt:// or the TLS port into `url`".to_owned(),
        );
    }
    if known(&["deserialization", "closed by peer", "Connection closed", "reset by peer", "end of file", "eof"]) {
        let found = format!("{url} listens, but does not answer as a broker does");
        let advice =
            "if it speaks TLS write mqtts:// into `url`; if it is old set `protocol = \"3.1.1\"`; its log says more";
        return (found, advice.to_owned());
    }
    let advice = "start the broker, correct `url` under [broker], or let the firewall through; the agent keeps trying";
    (format!("{url} cannot be reached"), advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{
            broker,
            config::{Embedded, Feeds},
            ingest::Ingest,
        },
        store::Store,
    };

    #[test]
    fn every_way_to_miss_a_broker_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = |name: &str| dir.path().join(name).display().to_string();
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (own, other) = (made(), made());
        for (name, text) in [
            ("cert.pem", own.cert.pem()),
            ("key.pem", own.signing_key.serialize_pem()),
            ("other.pem", other.cert.pem()),
            ("empty.pem", String::new()),
            ("secret", "s3cret\n".to_owned()),
            ("guess", "guess\n".to_owned()),
        ] {
            private::write(&dir.path().join(name), text.as_bytes()).expect("written");
        }
        std::fs::write(dir.path().join("open"), "s3cret").expect("written");
        std::fs::set_permissions(dir.path().join("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("set");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let store = Store::open(&dir.path().join("node.db")).expect("a store");
        let (_ingest, door, _control, _passed) = Ingest::open(store, Feeds::default().into()).expect("a journal");
        let start = |more: &str| {
            let users = format!("users = [{{ name = 'plant', password_file = '{}' }}]", place("secret"));
            let settings = format!("listen = '127.0.0.1:0'\n{users}\n{more}");
            let embedded: Embedded = toml::from_str(&settings).expect("settings");
            let folder = dir.path().join(more.len().to_string());
            runtime.block_on(broker::Broker::start(&embedded, &folder, door.clone())).expect("a broker")
        };
        let plain = start("");
        let secure = start(&format!("tls = {{ cert = '{}', key = '{}' }}", place("cert.pem"), place("key.pem")));
        let (plain_port, secure_port) = (plain.address().port(), secure.address().port());
        let nobody =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let login = |file: &str| format!("username = 'plant'\npassword_file = '{}'", place(file));
        let ca = |file: &str| format!("ca = '{}'\n{}", place(file), login("secret"));
        for (url, more, found, advice) in [
            (format!("mqtt://127.0.0.1:{plain_port}"), login("secret"), "takes this node", ""),
            (
                format!("mqtt://127.0.0.1:{plain_port}"),
                format!("protocol = '3.1.1'\n{}", login("secret")),
                "takes this node",
                "",
            ),
            (format!("mqtts://localhost:{secure_port}"), ca("cert.pem"), "takes this node", ""),
            (
                format!("mqtt://127.0.0.1:{plain_port}"),
                login("guess"),
                "does not know this user and password",
                "correct `username`",
            ),
            (
                format!("mqtt://127.0.0.1:{plain_port}"),
                format!("protocol = '3.1.1'\n{}", login("guess")),
                "does not know this user and password",
                "correct `username`",
            ),
            (
                format!("mqtt://127.0.0.1:{plain_port}"),
                login("nowhere"),
                "cannot use the password file: cannot read",
                "correct `password_file`",
            ),
            (
                format!("mqtt://127.0.0.1:{plain_port}"),
                login("open"),
                "may be read by others than its owner (mode 0644): `chmod 640 ",
                "nobody else read it",
            ),
            (
                format!("mqtts://127.0.0.1:{secure_port}"),
                ca("cert.pem"),
                "is for another name",
                "have it made for 127.0.0.1",
            ),
            (
                format!("mqtts://localhost:{secure_port}"),
                ca("other.pem"),
                "is not signed by the CA in `ca`",
                "name the CA",
            ),
            (
                format!("mqtts://localhost:{secure_port}"),
                ca("nowhere.pem"),
                "cannot read the certificates in",
                "name a PEM file",
            ),
            (format!("mqtts://localhost:{secure_port}"), ca("empty.pem"), "no certificate in it", "name a PEM file"),
            (
                format!("mqtt://localhost:{secure_port}"),
                login("secret"),
                "does not answer as a broker does",
                "write mqtts://",
            ),
            (format!("mqtt://127.0.0.1:{nobody}"), String::new(), "cannot be reached", "start the broker"),
            ("mqtt://no-such-host.invalid".to_owned(), String::new(), "cannot be reached", "correct `url`"),
        ] {
            let settings: Broker = toml::from_str(&format!("url = '{url}'\n{more}")).expect("settings");
            let check = sites_own(&url, &settings);
            assert!(check.found.contains(found) && check.advice.contains(advice), "{url} {more}: {check:?}");
            assert_eq!(check.advice.is_empty(), advice.is_empty(), "{check:?}");
        }
        runtime.block_on(async { tokio::join!(plain.stop(), secure.stop()) });
    }
}
