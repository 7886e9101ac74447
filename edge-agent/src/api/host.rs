//! Which names this node answers to. A page elsewhere can make a browser on this machine ask a name that leads here (DNS
//! rebinding); then the request carries that name, and is refused.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use std::{net::IpAddr, sync::Arc};

use super::Server;

/// Lets a request pass that names this node by an address, as `localhost`, or by a name from its configuration.
pub(super) async fn check(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("")),
    };
    // No browser leaves it out; a program that does was not led here by a page.
    if named.is_none_or(|named| is_ours(named, &server.handles.hosts)) {
        return next.run(request).await;
    }
    let reason = "this node does not answer to that name: use its address, or list the name in `hosts` under [api]";
    let body = axum::Json(serde_json::json!({"error": reason, "code": "host"}));
    (StatusCode::MISDIRECTED_REQUEST, body).into_response()
}

fn is_ours(named: &str, hosts: &[String]) -> bool {
    let Ok(authority) = named.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_listed_names_are_ours_and_no_others() {
        let hosts = ["gateway.plant.local".to_owned()];
        for ours in ["127.0.0.1:8686", "[::1]:8686", "192.0.2.7", "LocalHost:1", "gateway.plant.local:8686"] {
            assert!(is_ours(ours, &hosts), "{ours}");
        }
        for foreign in ["evil.example", "127.0.0.1.evil.example:8686", "localhost.evil.example", "", "a b", "@"] {
            assert!(!is_ours(foreign, &hosts), "{foreign}");
        }
    }
}
