//! Messages of JSON-RPC 2.0, as the Model Context Protocol uses it.

use serde_json::{Value, json};

use super::Error;

const METHOD_NOT_FOUND: i64 = -32_601;

/// A request with its number.
pub(super) fn request(id: u64, method: &str, parameters: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters})
}

/// That the client is ready, after the server's answer to `initialize`.
pub(super) fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

/// What a message from the server is to us.
pub(super) enum Heard {
    /// The result of our request, or its error.
    Answer(Result<Value, Error>),
    /// The server asks something itself; this is the reply.
    Question(Value),
    /// A notification, or an answer to another request.
    Other,
}

/// Reads a message, when we wait for the answer to request `id`.
pub(super) fn hear(message: &Value, id: u64) -> Heard {
    if message.get("method").is_some() {
        return match (message.get("id"), message["method"].as_str()) {
            (None, _) => Heard::Other,
            (Some(theirs), Some("ping")) => Heard::Question(json!({"jsonrpc": "2.0", "id": theirs, "result": {}})),
            (Some(theirs), _) => {
                // We offered no capability, so there is nothing that a server could ask for.
                let error = json!({"code": METHOD_NOT_FOUND, "message": "this client offers nothing"});
                Heard::Question(json!({"jsonrpc": "2.0", "id": theirs, "error": error}))
            }
        };
    }
    if message.get("id").and_then(Value::as_u64) != Some(id) {
        return Heard::Other;
    }
    if let Some(result) = message.get("result") {
        return Heard::Answer(Ok(result.clone()));
    }
    let error = message.get("error");
    let code = error.and_then(|error| error.get("code")?.as_i64()).unwrap_or_default();
    let message = error.and_then(|error| error.get("message")?.as_str()).unwrap_or("no reason given").to_owned();
    Heard::Answer(Err(Error::Rpc { code, message }))
}

/// The version that both sides speak from here on, of the server's answer to `initialize`.
pub(super) fn version(answer: &Value) -> Result<String, Error> {
    let version = answer.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    if super::VERSIONS.contains(&version) {
        return Ok(version.to_owned());
    }
    let expected = super::VERSIONS.join(", ");
    Err(Error::Nonsense(format!("it speaks version {version:?}; expected one of {expected}")))
}
