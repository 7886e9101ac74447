//! `call: openapi` against a server that gives its own document.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

const OPENAPI: &str = r##"
openapi: 3.1.0
info: {title: plant, version: "1"}
servers: [{url: "/api/{stage}", variables: {stage: {default: v1}}}]
paths:
  /pumps/{id}:
    parameters: [{$ref: "#/components/parameters/id"}]
    get:
      operationId: readPump
      parameters:
        - {name: fields, in: query, schema: {type: array}}
        - {name: tags, in: query, explode: false, schema: {type: array}}
        - {name: filter, in: query, style: deepObject, schema: {type: object}}
        - {name: limit, in: query, schema: {type: integer, default: 10}}
        - {name: x-site, in: header, required: true, schema: {type: string}}
        - {name: session, in: cookie, schema: {type: string}}
    post:
      operationId: setPump
      requestBody: {$ref: "#/components/requestBodies/pump"}
components:
  parameters:
    id: {name: id, in: path, required: true, schema: {type: string}}
  requestBodies:
    pump:
      required: true
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Pump"}
  schemas:
    Pump:
      allOf: [{$ref: "#/components/schemas/Base"}, {properties: {speed: {type: number}}}]
    Base: {properties: {name: {type: string}}}
"##;

const SWAGGER: &str = r#"{"swagger": "2.0", "basePath": "/v2", "schemes": ["https", "http"],
    "paths": {
        "/pet/findByStatus": {"get": {"operationId": "findPetsByStatus",
            "parameters": [{"name": "status", "in": "query", "type": "array", "collectionFormat": "multi"}]}},
        "/pet": {"post": {"operationId": "addPet", "consumes": ["application/json"],
            "parameters": [{"name": "pet", "in": "body", "required": true}]}},
        "/pet/{petId}": {"post": {"operationId": "updatePetWithForm",
            "parameters": [{"name": "petId", "in": "path", "type": "integer"}, {"name": "name", "in": "formData"}]}}
    }}"#;

/// A server with both documents, which says what it was asked; and how often a document was fetched.
async fn plant() -> (String, Arc<AtomicUsize>) {
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    let router = Router::new()
        .route(
            "/docs/openapi.yaml",
            get(move || async move {
                count.fetch_add(1, Ordering::SeqCst);
                OPENAPI
            }),
        )
        .route("/v2/swagger.json", get(|| async { SWAGGER }))
        .fallback(|method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let cookie = headers.get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let mut said = echo(method, uri, headers, body).await;
            said.headers_mut().insert("x-cookie", cookie.parse().expect("a header"));
            said
        });
    (serve(router).await, fetched)
}

fn ask(document: &str, operation: &str, parameters: Value) -> Value {
    json!({"document": {"endpoint": document}, "operationId": operation, "parameters": parameters})
}

async fn openapi(action: &Action, input: Value) -> Done {
    perform(action, &call("openapi", input)).await
}

#[tokio::test]
async fn parameters_go_where_the_document_puts_them() {
    let (url, fetched) = plant().await;
    let (document, action) = (format!("{url}/docs/openapi.yaml"), nowhere());
    let mut input = ask(
        &document,
        "readPump",
        json!({"id": "a/b c", "fields": ["x", "y"], "tags": ["p", "q&r"], "filter": {"state": "on"}, "x-site": "basel", "session": "s1"}),
    );
    input["output"] = json!("response");
    let output = openapi(&action, input).await.output();
    assert_eq!(
        output["content"]["uri"],
        "/api/v1/pumps/a%2Fb%20c?fields=x&fields=y&tags=p,q%26r&filter%5Bstate%5D=on&limit=10"
    );
    assert_eq!((&output["content"]["x"], &output["headers"]["x-cookie"]), (&json!("basel"), &json!("session=s1")));
    let done = openapi(&action, ask(&document, "setPump", json!({"id": 7, "name": "p", "speed": 2.5}))).await;
    assert_eq!(done.told()[0], "http 127.0.0.1 yes", "policy is asked about the server: {:?}", done.told());
    let output = done.output();
    assert_eq!((&output["uri"], &output["body"]), (&json!("/api/v1/pumps/7"), &json!(r#"{"name":"p","speed":2.5}"#)));
    assert_eq!(output["key"], "run:/do/0/act");
    let whole = openapi(&action, ask(&document, "setPump", json!({"id": 7, "body": {"any": 1}}))).await.output();
    assert_eq!(whole["body"], r#"{"any":1}"#);
    assert_eq!(fetched.load(Ordering::SeqCst), 1, "the document is kept");
}

#[tokio::test]
async fn swagger_two_is_read_too() {
    let (url, _) = plant().await;
    let (document, action) = (format!("{url}/v2/swagger.json"), nowhere());
    let find = openapi(&action, ask(&document, "findPetsByStatus", json!({"status": ["a", "b"]}))).await.output();
    assert_eq!(find["uri"], "/v2/pet/findByStatus?status=a&status=b");
    let add = openapi(&action, ask(&document, "addPet", json!({"pet": {"name": "m"}}))).await.output();
    assert_eq!((&add["method"], &add["body"]), (&json!("POST"), &json!(r#"{"name":"m"}"#)));
    let form = openapi(&action, ask(&document, "updatePetWithForm", json!({"petId": 1, "name": "a b"}))).await.output();
    assert_eq!((&form["uri"], &form["body"]), (&json!("/v2/pet/1"), &json!("name=a+b")));
    assert_eq!(form["type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn mistakes_say_what_the_document_has() {
    let (url, _) = plant().await;
    let document = format!("{url}/docs/openapi.yaml");
    for (input, expected) in [
        (ask(&document, "stopPump", json!({})), "there is no \"stopPump\"; expected one of readPump, setPump"),
        (ask(&document, "readPump", json!({"x-site": "b"})), "parameters.id: missing"),
        (ask(&document, "setPump", json!({"id": 1})), "parameters.body: missing"),
        (
            ask(&document, "setPump", json!({"id": 1, "sped": 2})),
            "parameters.sped: the operation has no such parameter",
        ),
        (ask(&format!("{url}/docs/none.yaml/x"), "a", json!({})), "operationId"),
        (ask("plant.yaml", "a", json!({})), "`documents` under [calls] in agent.toml"),
    ] {
        let detail = openapi(&nowhere(), input.clone()).await.detail();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
}

#[tokio::test]
async fn documents_on_the_node_lie_in_one_folder() {
    let (url, _) = plant().await;
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("apis");
    std::fs::create_dir(&folder).expect("made");
    let text = OPENAPI.replace("/api/{stage}", &format!("{url}/{{stage}}"));
    std::fs::write(folder.join("plant.yaml"), text).expect("written");
    std::fs::write(dir.path().join("outside.yaml"), OPENAPI).expect("written");
    std::os::unix::fs::symlink(dir.path().join("outside.yaml"), folder.join("link.yaml")).expect("linked");
    let action = with(Calls { documents: Some(folder), ..Calls::default() });
    for address in ["plant.yaml", "file:///plant.yaml"] {
        let done = openapi(&action, ask(address, "setPump", json!({"id": 1, "name": "p"}))).await;
        assert_eq!(done.output()["uri"], "/v1/pumps/1");
    }
    for address in ["../outside.yaml", "file://../outside.yaml", "link.yaml", "none.yaml", ""] {
        let done = openapi(&action, ask(address, "setPump", json!({"id": 1}))).await;
        assert_eq!(done.failure().error.kind, kind::CONFIGURATION.0, "{address}");
    }
}
