//! Every scenario of the conformance kit, over a node's rooms. The two hosts that they call are reached at a server on this
//! machine; nothing of the scenarios is changed.

use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base64::Engine as _;
use shared::policy::PolicySet;

use super::{
    kit::{Played, Scenario, scenarios},
    rooms::{ended, node_of},
    *,
};
use crate::action::config::Calls;

/// The hosts that the kit's documents call.
const HOSTS: [&str; 2] = ["petstore.swagger.io", "httpbin.org"];

fn pet(id: u64) -> Value {
    json!({"id": id, "name": format!("pet {id}"), "status": "available", "photoUrls": []})
}

/// The description of the pet store in OpenAPI 2 (Swagger), as far as the kit uses it.
fn description() -> Value {
    let parameter = |name: &str, place: &str| json!([{"name": name, "in": place, "required": true, "type": "string"}]);
    let responses = json!({"200": {"description": "good"}});
    json!({
        "swagger": "2.0", "host": HOSTS[0], "basePath": "/v2", "schemes": ["https"],
        "info": {"title": "pets", "version": "1.0.0"},
        "paths": {
            "/pet/findByStatus": {"get": {"operationId": "findPetsByStatus", "parameters": parameter("status", "query"),
                "produces": ["application/json"], "responses": responses}},
            "/pet/{petId}": {"get": {"operationId": "getPetById", "parameters": parameter("petId", "path"),
                "produces": ["application/json"], "responses": responses}},
        },
    })
}

/// The services; gives their address. They end with the test's runtime.
async fn services() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let swagger = description();
    let by_id =
        |Path(id): Path<String>| async move { id.parse().map(|id| Json(pet(id))).map_err(|_| StatusCode::NOT_FOUND) };
    let login = |Path((user, password)): Path<(String, String)>, headers: HeaderMap| async move {
        let wanted =
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")));
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(&wanted) { Ok(Json(json!({"authenticated": true}))) } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let router = Router::new()
        .route("/v2/pet/findByStatus", get(|| async { Json(json!([pet(1), pet(2)])) }))
        .route("/v2/pet/{id}", get(by_id))
        .route("/v2/swagger.json", get(|| async { Json(swagger) }))
        .route("/basic-auth/{user}/{password}", get(login));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn play(scenario: &Scenario, address: &str) -> Played {
    let workflow = Workflow::parse("scenario.yaml", scenario.definition());
    let workflow = Arc::new(workflow.unwrap_or_else(|problems| panic!("{problems}")));
    let name = workflow.definition().qualified_name();
    let everything = "@id(\"everything\") permit (principal, action, resource);".to_owned();
    let rules = PolicySet::parse(&[("all.cedar".to_owned(), everything)]).unwrap();
    let reached = |host: &&str| ((*host).to_owned(), address.to_owned().try_into().unwrap());
    let calls = Calls { hosts: HOSTS.iter().map(reached).collect(), ..Calls::default() };
    let (_dir, store, runner) = node_of(rules, vec![workflow], calls).await;
    let run = runner.start(&name, scenario.input(), Label::default(), person()).await.unwrap().run.unwrap();
    let detail = ended(&store, &runner, run).await;
    let outcome = match detail.error {
        Some(error) => Err(error),
        None => Ok(detail.output.unwrap_or_default()),
    };
    Played { tasks: detail.tasks.into_iter().map(|task| task.name).collect(), outcome }
}

#[tokio::test]
async fn every_scenario_of_the_kit_holds_over_a_nodes_rooms() {
    let Some(scenarios) = scenarios() else { return };
    let address = services().await;
    let (mut held, mut broken) = (0, Vec::new());
    for scenario in &scenarios {
        let played = play(scenario, &address).await;
        match scenario.judge(&played) {
            Ok(()) => held += 1,
            Err(why) => broken.push(why),
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    assert!(held >= 21, "only {held} scenarios were found");
}
