//! What a document says of an operation or channel: the server, the protocol, the address. AsyncAPI 2 and 3 differ in
//! where they say it.

use edge_core::engine::effect::{Failure, kind};
use serde_json::{Map, Value};

use super::super::{
    errand::{Errand, scalar},
    openapi::{Resolved, percent},
};

/// What the task names.
pub(super) struct Wanted<'a> {
    pub(super) channel: Option<&'a str>,
    pub(super) operation: Option<&'a str>,
    pub(super) server: Option<&'a str>,
    pub(super) variables: &'a Map<String, Value>,
    pub(super) protocol: Option<&'a str>,
    /// The message, which may say what the parameters of the address are.
    pub(super) payload: &'a Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Mqtt,
    Http,
}

/// Where messages go, or come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) protocol: Protocol,
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// In front of the address, where the protocol has paths.
    pub(super) path: String,
    /// The topic, or the path.
    pub(super) address: String,
    /// From the bindings of the document.
    pub(super) qos: Option<u8>,
    pub(super) retain: bool,
    pub(super) method: Option<String>,
}

/// A channel, with what its operation says.
struct Channel<'d> {
    address: &'d str,
    own: &'d Value,
    operation: &'d Value,
}

/// Finds the operation or channel and the server to reach it at.
pub(super) fn find<'d>(errand: &Errand<'_>, document: &Resolved<'d>, wanted: &Wanted<'_>) -> Result<Place, Failure> {
    let unfit = |why: &str| errand.failure(kind::CONFIGURATION, why);
    let version = document.0.get("asyncapi").and_then(Value::as_str).unwrap_or_default();
    let channel = match version.split('.').next() {
        Some("2") => channel_of_2(document, wanted),
        Some("3") => channel_of_3(document, wanted),
        _ => return Err(unfit(&format!("the document is of AsyncAPI {version:?}; expected 2.x or 3.x"))),
    };
    let channel = channel.map_err(|why| unfit(&why))?;
    let server = server(document, &channel, wanted).map_err(|why| unfit(&why))?;
    let address = fill(document, &channel, wanted).map_err(|why| unfit(&why))?;
    let bindings = |name: &str| {
        let all = document.get(channel.operation, "bindings")?;
        document.get(all, name).or_else(|| document.get(all, "mqtt5").filter(|_| name == "mqtt"))
    };
    let mqtt = bindings("mqtt");
    let qos = mqtt.and_then(|mqtt| u8::try_from(mqtt.get("qos")?.as_u64()?).ok());
    let retain = mqtt.and_then(|mqtt| mqtt.get("retain")?.as_bool()).unwrap_or_default();
    let method = bindings("http").and_then(|http| http.get("method")?.as_str()).map(str::to_owned);
    Ok(Place { address, qos, retain, method, ..server })
}

/// AsyncAPI 2: a channel is named by its address, and has an operation for each direction.
fn channel_of_2<'d>(document: &Resolved<'d>, wanted: &Wanted<'_>) -> Result<Channel<'d>, String> {
    let channels = document.get(document.0, "channels").and_then(Value::as_object);
    let mut known = Vec::new();
    for (address, item) in channels.into_iter().flatten() {
        let own = document.value(item);
        for direction in ["publish", "subscribe"] {
            let operation = document.get(own, direction);
            let id = operation.and_then(|operation| operation.get("operationId")?.as_str());
            let is_named = id.is_some() && id == wanted.operation;
            if is_named || wanted.channel == Some(address) {
                let operation = operation.or_else(|| document.get(own, "subscribe")).unwrap_or(&Value::Null);
                return Ok(Channel { address, own, operation });
            }
            known.extend(id.filter(|_| wanted.operation.is_some()));
        }
        known.extend(Some(address.as_str()).filter(|_| wanted.operation.is_none()));
    }
    Err(none(wanted, &known))
}

/// AsyncAPI 3: an operation names its channel, which has an address.
fn channel_of_3<'d>(document: &Resolved<'d>, wanted: &Wanted<'_>) -> Result<Channel<'d>, String> {
    let all = |name: &str| document.get(document.0, name).and_then(Value::as_object);
    let found = match (wanted.operation, wanted.channel) {
        (Some(name), _) => all("operations").and_then(|operations| operations.get(name)).and_then(|operation| {
            let operation = document.value(operation);
            Some((document.get(operation, "channel")?, operation))
        }),
        (None, Some(name)) => all("channels").and_then(|channels| {
            let same = |own: &&Value| document.value(own).get("address").and_then(Value::as_str) == Some(name);
            let own = channels.get(name).or_else(|| channels.values().find(same))?;
            Some((document.value(own), &Value::Null))
        }),
        (None, None) => None,
    };
    let Some((own, operation)) = found else {
        let names = if wanted.operation.is_some() { all("operations") } else { all("channels") };
        return Err(none(
            wanted,
            &names.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect::<Vec<_>>(),
        ));
    };
    match own.get("address").and_then(Value::as_str) {
        Some(address) => Ok(Channel { address, own, operation }),
        None => Err("the channel has no address in the document".to_owned()),
    }
}

fn none(wanted: &Wanted<'_>, known: &[&str]) -> String {
    let (what, name) = match (wanted.operation, wanted.channel) {
        (Some(name), _) => ("operation", name),
        (None, Some(name)) => ("channel", name),
        (None, None) => return "expected `operation` or `channel`".to_owned(),
    };
    format!("{what}: the document has no {name:?}; expected one of {}", known.join(", "))
}

/// The server that is named; else the first of the channel's (all, when it names none) with a protocol that fits.
fn server<'d>(document: &Resolved<'d>, channel: &Channel<'d>, wanted: &Wanted<'_>) -> Result<Place, String> {
    let all = document.get(document.0, "servers").and_then(Value::as_object);
    let Some(all) = all.filter(|all| !all.is_empty()) else { return Err("the document has no servers".to_owned()) };
    let own = channel.own.get("servers").and_then(Value::as_array).filter(|own| !own.is_empty());
    let of_channel = |name: &str| {
        let is = |server: &Value| {
            // A name in AsyncAPI 2, a reference in 3.
            server.as_str() == Some(name)
                || server.get("$ref").and_then(Value::as_str) == Some(&format!("#/servers/{name}"))
        };
        own.is_none_or(|own| own.iter().any(is))
    };
    let mut refused = Vec::new();
    for (name, server) in all {
        let server = document.value(server);
        let protocol = server.get("protocol").and_then(Value::as_str).unwrap_or_default();
        let is_meant = match (wanted.server, wanted.protocol) {
            (Some(wanted), _) => wanted == name,
            (None, wanted) => of_channel(name) && wanted.is_none_or(|wanted| family(wanted) == family(protocol)),
        };
        if !is_meant {
            refused.push(format!("{name} ({protocol})"));
            continue;
        }
        match family(protocol) {
            Some((protocol, is_secure)) => {
                return place(document, name, server, wanted, protocol, is_secure);
            }
            None if wanted.server.is_some() || wanted.protocol.is_some() => {
                return Err(format!("server {name} speaks {protocol:?}; this product speaks mqtt, mqtt5 and http"));
            }
            None => refused.push(format!("{name} ({protocol})")),
        }
    }
    let wish = wanted.server.or(wanted.protocol).unwrap_or("mqtt, mqtt5 or http");
    Err(format!("the document has no server for {wish}; it has {}", refused.join(", ")))
}

fn family(protocol: &str) -> Option<(Protocol, bool)> {
    match protocol.to_ascii_lowercase().as_str() {
        "mqtt" | "mqtt5" => Some((Protocol::Mqtt, false)),
        "mqtts" | "secure-mqtt" => Some((Protocol::Mqtt, true)),
        "http" => Some((Protocol::Http, false)),
        "https" => Some((Protocol::Http, true)),
        _ => None,
    }
}

/// The server's own words: a URL in AsyncAPI 2, host and path name in 3, both with variables.
fn place(
    document: &Resolved<'_>,
    name: &str,
    server: &Value,
    wanted: &Wanted<'_>,
    protocol: Protocol,
    is_secure: bool,
) -> Result<Place, String> {
    let text = |key: &str| server.get(key).and_then(Value::as_str);
    let mut written = match (text("url"), text("host")) {
        (Some(url), _) => url.to_owned(),
        (None, Some(host)) => format!("{host}{}", text("pathname").unwrap_or_default()),
        (None, None) => return Err(format!("server {name} has neither url nor host")),
    };
    for (variable, about) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
        let default = document.value(about).get("default").and_then(scalar);
        let value = wanted.variables.get(variable).and_then(scalar).or(default);
        let value = value.ok_or_else(|| format!("server {name} wants the variable {variable:?}"))?;
        written = written.replace(&format!("{{{variable}}}"), &value);
    }
    let (scheme, rest) = written.split_once("://").unwrap_or(("", &written));
    let is_secure = is_secure || matches!(scheme, "mqtts" | "ssl" | "https");
    let port = match (protocol, is_secure) {
        (Protocol::Mqtt, false) => 1_883,
        (Protocol::Mqtt, true) => 8_883,
        (Protocol::Http, false) => 80,
        (Protocol::Http, true) => 443,
    };
    let url =
        url::Url::parse(&format!("skerry://{rest}")).map_err(|error| format!("server {name}: {written}: {error}"))?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty() && !written.contains(['{', '}'])) else {
        return Err(format!("server {name}: {written:?} names no host"));
    };
    let (host, port, path) =
        (host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(port), url.path().to_owned());
    let address = String::new();
    Ok(Place { protocol, is_secure, host, port, path, address, qos: None, retain: false, method: None })
}

/// The channel's address with its parameters: what the message says where the document says to look, or the default.
fn fill(document: &Resolved<'_>, channel: &Channel<'_>, wanted: &Wanted<'_>) -> Result<String, String> {
    let mut address = channel.address.to_owned();
    let parameters = channel.own.get("parameters").and_then(Value::as_object);
    for (name, about) in parameters.into_iter().flatten() {
        let about = document.value(about);
        let place = about.get("location").and_then(Value::as_str);
        let pointer = place.and_then(|place| place.strip_prefix("$message.payload#"));
        let said = pointer.and_then(|pointer| wanted.payload.pointer(pointer)).and_then(scalar);
        let schema = document.get(about, "schema").unwrap_or(about);
        let value = said.or_else(|| schema.get("default").and_then(scalar));
        let given = value.or_else(|| wanted.variables.get(name).and_then(scalar));
        let value = given.ok_or_else(|| {
            format!("the channel wants {name:?}: expected it in the message or in `server.variables`")
        })?;
        // What a value brings must not make another topic of it.
        let value = if value.contains(['/', '+', '#']) { percent(&value) } else { value };
        address = address.replace(&format!("{{{name}}}"), &value);
    }
    if address.contains('{') {
        return Err(format!("the channel's address {address:?} has a parameter that the document does not describe"));
    }
    Ok(address)
}
