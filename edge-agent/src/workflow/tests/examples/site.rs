//! What the examples find around them: the hosts that they name, a broker, a gRPC server, programs, files of a bundle.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Redirect, Response},
};
use rumqttc::v5::{AsyncClient, Event as Packet, Incoming, MqttOptions, mqttbytes::QoS};
use shared::policy::PolicySet;

use super::*;
use crate::{
    action::{
        self,
        config::{Address, Calls, Run, Secret},
        tests::{grpc, mosquitto::Mosquitto},
    },
    inference::Inference,
    memory::Memory,
};

/// Every host that a document names.
const HOSTS: [&str; 11] = [
    "petstore.swagger.io",
    "keycloak",
    "fake.com",
    "swapi.dev",
    "superbet-casinos.com",
    "fake-hospital.com",
    "fake-chat-api.com",
    "virtual-wf-powered-race.com",
    "hospital.example.com",
    "external-service.example.com",
    "example.com",
];

/// The function that a document names by its address; a node has it in its bundle.
const LOG: (&str, &str) = (
    "catalogs/raw.githubusercontent.com/serverlessworkflow/catalog/main/functions/log/1.0.0/function.yaml",
    "set: { logged: '${ .level + \": \" + .message }' }",
);

/// The MCP server that a document starts by `npx`: it says which tool was called with what.
const NPX: &str = r#"#!/usr/bin/env node
const lines = require('node:readline').createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const text = () => [params.name, params.arguments.channel_id, params.arguments.payload].join(' ');
  const result = method === 'initialize'
    ? { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 'slack', version: '1' } }
    : { content: [{ type: 'text', text: text() }] };
  console.log(JSON.stringify({ jsonrpc: '2.0', id, result }));
});
"#;

#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    /// How often the pet was asked for that comes at the third time.
    tries: u32,
    /// Where the broker is.
    broker: String,
}

type Shared = Arc<Mutex<Seen>>;

pub(super) struct Site {
    seen: Shared,
    address: String,
    grpc_port: u16,
    broker: Option<Mosquitto>,
    folder: tempfile::TempDir,
}

impl Site {
    pub async fn open(published: &[Value]) -> Self {
        let broker = Mosquitto::start().await;
        if let Some(broker) = &broker {
            publish(broker, published).await;
        }
        let seen = Shared::default();
        seen.lock().unwrap().broker = broker.as_ref().map(|broker| broker.address.to_string()).unwrap_or_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (grpc_port, _) = grpc::greeter().await;
        let folder = tempfile::tempdir().unwrap();
        // What runs as nobody looks for its program there.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        write(folder.path(), "app/greet.proto", grpc::PROTO, 0o644);
        write(folder.path(), "app/common/mood.proto", grpc::MOOD, 0o644);
        write(folder.path(), "npx", NPX, 0o755);
        let grant = json!({
            "authority": "http://keycloak/realms/fake-authority", "grant": "client_credentials",
            "client": {"id": "node", "secret": "s3cret"},
        });
        write(folder.path(), "secret", &grant.to_string(), 0o600);
        Self { seen, address, grpc_port, broker, folder }
    }

    /// The document, linked to the files of a bundle.
    pub fn link(&self, file: &str, text: &str) -> Arc<Workflow> {
        let read = |path: &str| (path == LOG.0).then(|| LOG.1.to_owned());
        Arc::new(Workflow::link(file, text, &read).unwrap_or_else(|problems| panic!("{problems}")))
    }

    pub fn rooms(&self, store: &Store) -> Rooms {
        let to = |text: String| Address::try_from(text).unwrap();
        let mut hosts: BTreeMap<_, _> =
            HOSTS.iter().map(|host| ((*host).to_owned(), to(self.address.clone()))).collect();
        hosts.insert("localhost:5011".to_owned(), to(format!("http://127.0.0.1:{}", self.grpc_port)));
        let user = if action::tests::is_root() { "user = \"nobody\"" } else { "as_agent = true" };
        let path = format!("path = \"{}:/usr/local/bin:/usr/bin:/bin\"", self.folder.path().display());
        let run: Run = toml::from_str(&format!("{user}\n{path}")).unwrap();
        let calls = Calls {
            secrets: BTreeMap::from([("mySecret".to_owned(), Secret::File(self.folder.path().join("secret")))]),
            documents: Some(self.folder.path().to_owned()),
            hosts,
            run: Some(run),
        };
        let (host, port) = self
            .broker
            .as_ref()
            .map_or(("127.0.0.1".to_owned(), 1), |broker| (broker.address.ip().to_string(), broker.address.port()));
        let broker = action::Broker { host, port, login: None, tls: None, client_id: "test".to_owned() };
        let rules = [("all.cedar".to_owned(), "@id(\"all\") permit (principal, action, resource);".to_owned())];
        Rooms::new(
            Inference::new(Vec::new(), &models::catalog::Digests::default()),
            Memory::open(store.clone(), models::embed::default_embedder()),
            action::Action::new(broker, calls),
            Arc::new(PolicySet::parse(&rules).unwrap()),
            "CH".to_owned(),
        )
    }

    /// Every request that came, in order.
    pub fn saw(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Messages that the broker keeps for those who subscribe later.
async fn publish(broker: &Mosquitto, messages: &[Value]) {
    let options = MqttOptions::new("before", broker.address.ip().to_string(), broker.address.port());
    let (client, mut events) = AsyncClient::new(options, 16);
    for (number, message) in (1..).zip(messages) {
        let topic = format!("open/notifications/{number}");
        client.publish(topic, QoS::AtLeastOnce, true, message.to_string()).await.unwrap();
        let acknowledged =
            async { while !matches!(events.poll().await.unwrap(), Packet::Incoming(Incoming::PubAck(_))) {} };
        tokio::time::timeout(PATIENCE, acknowledged).await.expect("the broker has it");
    }
}

async fn answer(State(seen): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header("host").unwrap_or_default().to_owned();
    let mut line = format!("{method} {host}{uri}");
    if let Some(authorization) = header("authorization") {
        line.push_str(&format!(" [{authorization}]"));
    }
    if !body.is_empty() {
        line.push_str(&format!(" {}", String::from_utf8_lossy(&body)));
    }
    let mut seen = seen.lock().unwrap();
    seen.requests.push(line);
    match (host.as_str(), method.as_str(), uri.path()) {
        ("petstore.swagger.io", ..) => petstore(&mut seen, &method, uri.path(), &body),
        ("keycloak", _, path) => keycloak(path),
        ("fake.com", "GET", "/docs/asyncapi.json") => Json(asyncapi(&seen.broker)).into_response(),
        ("fake.com", "GET", "/sample") => Json(json!({"called": true})).into_response(),
        ("swapi.dev", "GET", path) => swapi(path, uri.query()),
        ("external-service.example.com", ..) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (_, "POST" | "PUT", path) => Json(json!({"heard": path})).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn pet(id: u64) -> Value {
    json!({"id": id, "petId": id, "name": format!("pet {id}"), "status": "available"})
}

fn petstore(seen: &mut Seen, method: &Method, path: &str, body: &[u8]) -> Response {
    if path == "/v2/swagger.json" {
        return Json(swagger()).into_response();
    }
    let name = path.trim_start_matches("/v2/pet/");
    match (method.as_str(), name.parse::<u64>()) {
        ("GET", Ok(404)) => StatusCode::NOT_FOUND.into_response(),
        ("GET", Ok(503)) if seen.tries < 2 => {
            seen.tries += 1;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        ("GET", Ok(id)) => Json(pet(id)).into_response(),
        ("PUT", Ok(_)) => Json(serde_json::from_slice::<Value>(body).unwrap_or_default()).into_response(),
        ("GET", Err(_)) if name == "findByStatus" => Json(json!([pet(1), pet(2)])).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn swagger() -> Value {
    let parameters = json!([{"name": "status", "in": "query", "required": true, "type": "string"}]);
    json!({
        "swagger": "2.0", "host": "petstore.swagger.io", "basePath": "/v2", "schemes": ["https"],
        "info": {"title": "pets", "version": "1.0.0"},
        "paths": {"/pet/findByStatus": {"get": {"operationId": "findPetsByStatus", "parameters": parameters,
            "responses": {"200": {"description": "good"}}}}},
    })
}

fn keycloak(path: &str) -> Response {
    let realm = "/realms/fake-authority";
    match path.strip_prefix(realm) {
        Some("/.well-known/openid-configuration") => {
            let issuer = format!("http://keycloak{realm}");
            Json(json!({"issuer": issuer, "token_endpoint": format!("{issuer}/protocol/token")})).into_response()
        }
        Some("/auth/token" | "/oauth2/token" | "/protocol/token") => {
            Json(json!({"access_token": "given-1", "token_type": "Bearer", "expires_in": 300})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn asyncapi(broker: &str) -> Value {
    let of =
        |channel: &str, action: &str| json!({"action": action, "channel": {"$ref": format!("#/channels/{channel}")}});
    json!({
        "asyncapi": "3.0.0", "info": {"title": "pets", "version": "1.0.0"},
        "servers": {
            "site": {"host": broker, "protocol": "mqtt5"},
            "staging": {"host": "fake.com", "protocol": "https"},
        },
        "channels": {
            "/notifications": {"address": "open/notifications/+", "servers": [{"$ref": "#/servers/site"}]},
            "pets": {"address": "/pets", "servers": [{"$ref": "#/servers/staging"}]},
        },
        "operations": {"findPetsByStatus": of("pets", "send"), "getNotifications": of("~1notifications", "receive")},
    })
}

fn swapi(path: &str, query: Option<&str>) -> Response {
    match (path, query) {
        ("/api/people/", Some("search=moved")) => Redirect::temporary("/api/people/?search=luke").into_response(),
        ("/api/people/", Some("search=luke")) => {
            Json(json!({"count": 1, "results": [{"name": "Luke Skywalker"}]})).into_response()
        }
        ("/api/people/1", None) => {
            Json(json!({"name": "Luke Skywalker", "homeworld": "https://swapi.dev/api/planets/1/"})).into_response()
        }
        ("/api/planets/1/", None) => Json(json!({"name": "Tatooine"})).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
