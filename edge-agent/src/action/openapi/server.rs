//! Where an operation is: its server's address.

use edge_core::engine::effect::{Failure, kind};
use serde_json::Value;

use super::{
    super::{document::Base, errand::Errand},
    operation::{Operation, is_swagger},
    reference::Resolved,
};

/// The address in front of the operation's path: of the operation's own servers, its path's or the document's, the first.
pub(super) fn address(
    errand: &Errand<'_>,
    document: &Resolved<'_>,
    operation: &Operation<'_>,
    base: &Base,
) -> Result<String, Failure> {
    let written =
        if is_swagger(document) { swagger(document.0, operation.own, base) } else { servers(document, operation) };
    if written.contains("://") {
        return Ok(written);
    }
    // Relative to where the document is (OpenAPI 3.1, "Server Object").
    match base {
        Base::Web(url) => url.join(&written).map(String::from).map_err(|error| {
            errand.failure(kind::CONFIGURATION, &format!("the document's server {written:?} is no address: {error}"))
        }),
        Base::File(path) => {
            let why = format!("{}: names no server with a host, and was not fetched from one", path.display());
            Err(errand.failure(kind::CONFIGURATION, &why))
        }
    }
}

fn servers(document: &Resolved<'_>, operation: &Operation<'_>) -> String {
    let places = [operation.own, operation.of_path, document.0];
    let Some(server) = places.into_iter().find_map(|place| document.items(place, "servers").next()) else {
        return "/".to_owned();
    };
    let mut url = server.get("url").and_then(Value::as_str).unwrap_or("/").to_owned();
    for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
        let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    url
}

/// Swagger 2.0: scheme, host and base path; what is not said is as for the document itself.
fn swagger(document: &Value, operation: &Value, base: &Base) -> String {
    let path = document.get("basePath").and_then(Value::as_str).unwrap_or("/");
    let schemes = [operation, document].into_iter().find_map(|place| place.get("schemes")?.as_array());
    let offers = |scheme: &str| schemes.is_some_and(|schemes| schemes.iter().any(|offered| offered == scheme));
    let own = match base {
        Base::Web(url) => Some(url.scheme()),
        Base::File(_) => None,
    };
    let scheme = match own {
        Some(own) if schemes.is_none() || offers(own) => own,
        _ if offers("http") && !offers("https") => "http",
        _ => "https",
    };
    match document.get("host").and_then(Value::as_str) {
        Some(host) => format!("{scheme}://{host}{path}"),
        None => path.to_owned(),
    }
}
