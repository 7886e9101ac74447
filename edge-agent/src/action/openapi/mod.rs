//! The DSL's `call: openapi` (specification, section "OpenAPI call"): an operation of an OpenAPI 3.0 or 3.1 or a Swagger
//! 2.0 document, found by its id, its parameters put where the document says.

mod operation;
mod parameter;
mod reference;
mod server;

use edge_core::engine::effect::Failure;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    auth::Authentication,
    document::Resource,
    errand::Errand,
    http::{Output, Request, address, encode},
};
use operation::Operation;
pub(super) use parameter::percent;
pub(super) use reference::Resolved;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Arguments {
    document: Resource,
    operation_id: String,
    parameters: Option<Map<String, Value>>,
    authentication: Option<Value>,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    redirect: bool,
}

/// Makes the operation's request, and the task's output of its answer.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let given: Arguments = errand.arguments()?;
    let document = errand.ways.documents.fetch(errand, &given.document).await?;
    let resolved = Resolved::of(document.parsed(errand)?);
    let operation = Operation::find(errand, &resolved, &given.operation_id)?;
    let placed = parameter::place(errand, &resolved, &operation, given.parameters.unwrap_or_default())?;
    let server = server::address(errand, &resolved, &operation, &document.base)?;
    let mut url = address(errand, "document", &format!("{}{}", server.trim_end_matches('/'), placed.path))?;
    if !placed.query.is_empty() {
        let before = url.query().map(|query| format!("{query}&")).unwrap_or_default();
        url.set_query(Some(&format!("{before}{}", placed.query.join("&"))));
    }
    let mut request = Request::new(errand, operation.method, url)?;
    for (name, value) in &placed.headers {
        request.add_header(errand, name, value)?;
    }
    request.authentication = given.authentication.map(|given| Authentication::parse(errand, &given)).transpose()?;
    request.redirect = given.redirect;
    if let Some((body, media)) = placed.body {
        if request.headers.get("content-type").is_none() {
            request.add_header(errand, "content-type", &media)?;
        }
        request.body = Some(encode(errand, &body, &mut request.headers)?);
    }
    let answer = errand.ways.http().perform(errand, &request).await?;
    answer.shape(errand, &request, given.output)
}
