//! Functions that reach what is not on the node.

use serde_json::{Value, json};

use super::{super::words::TOPIC, Entry, object, span};

pub(super) fn publish() -> Entry {
    let input = object(
        &["topic", "payload"],
        json!({
            "topic": {"type": "string", "pattern": TOPIC},
            "payload": {},
            "qos": {"enum": [0, 1, 2]},
            "retain": {"type": "boolean"},
        }),
    );
    let output = object(&["topic", "key"], json!({"topic": {"type": "string"}, "key": {"type": "string"}}));
    ("publish", true, &[], input, output)
}

/// An address as text, or with how to authenticate there.
fn endpoint() -> Value {
    let mut endpoint = object(&["uri"], json!({"uri": {"type": "string"}, "authentication": {"type": "object"}}));
    endpoint["type"] = json!(["string", "object"]);
    endpoint
}

fn resource() -> Value {
    object(&["endpoint"], json!({"name": {"type": "string"}, "endpoint": endpoint()}))
}

fn output_kind() -> Value {
    json!({"enum": ["raw", "content", "response"]})
}

pub(super) fn http() -> Entry {
    let input = object(
        &["method", "endpoint"],
        json!({
            "method": {"type": "string"},
            "endpoint": endpoint(),
            "headers": {"type": "object"},
            "body": {},
            "query": {"type": "object"},
            "output": output_kind(),
            "redirect": {"type": "boolean"},
        }),
    );
    ("http", true, &[], input, json!({}))
}

pub(super) fn openapi() -> Entry {
    let input = object(
        &["document", "operationId"],
        json!({
            "document": resource(),
            "operationId": {"type": "string"},
            "parameters": {"type": "object"},
            "authentication": {"type": "object"},
            "output": output_kind(),
            "redirect": {"type": "boolean"},
        }),
    );
    ("openapi", true, &[], input, json!({}))
}

pub(super) fn grpc() -> Entry {
    let service = object(
        &["name", "host"],
        json!({
            "name": {"type": "string"},
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 0, "maximum": 65_535},
            "authentication": {"type": "object"},
        }),
    );
    let input = object(
        &["proto", "service", "method"],
        json!({"proto": resource(), "service": service, "method": {"type": "string"}, "arguments": {"type": "object"}}),
    );
    ("grpc", true, &[], input, json!({}))
}

pub(super) fn asyncapi() -> Entry {
    let server = object(&["name"], json!({"name": {"type": "string"}, "variables": {"type": "object"}}));
    let consume = object(
        &[],
        json!({
            "amount": {"type": "integer"},
            "for": span(),
            "while": {"type": "string"},
            "until": {"type": "string"},
        }),
    );
    let protocols = [
        "amqp",
        "amqp1",
        "anypointmq",
        "googlepubsub",
        "http",
        "ibmmq",
        "jms",
        "kafka",
        "mercure",
        "mqtt",
        "mqtt5",
        "nats",
        "pulsar",
        "redis",
        "sns",
        "solace",
        "sqs",
        "stomp",
        "ws",
    ];
    let input = object(
        &["document"],
        json!({
            "document": resource(),
            "channel": {"type": "string"},
            "operation": {"type": "string"},
            "server": server,
            "protocol": {"enum": protocols},
            "message": object(&[], json!({"payload": {"type": "object"}, "headers": {"type": "object"}})),
            "subscription": object(&["consume"], json!({
                "filter": {"type": "string"}, "consume": consume, "foreach": {"type": "object"},
            })),
            "authentication": {"type": "object"},
        }),
    );
    ("asyncapi", true, &["message", "subscription"], input, json!({}))
}

pub(super) fn mcp() -> Entry {
    let methods = [
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
    ];
    let input = json!({"type": "object", "required": ["method", "transport"], "properties": {
        "protocolVersion": {"type": "string"},
        "method": {"enum": methods},
        "parameters": {"type": "object"},
        "timeout": span(),
        "transport": {"type": "object"},
        "client": {"type": "object", "required": ["name", "version"]},
    }});
    ("mcp", true, &[], input, json!({}))
}

pub(super) fn a2a() -> Entry {
    let methods = [
        "message/send",
        "message/stream",
        "tasks/get",
        "tasks/list",
        "tasks/cancel",
        "tasks/resubscribe",
        "tasks/pushNotificationConfig/set",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "tasks/pushNotificationConfig/delete",
        "agent/getAuthenticatedExtendedCard",
    ];
    let input = object(
        &["method"],
        json!({
            "agentCard": resource(),
            "server": endpoint(),
            "method": {"enum": methods},
            "parameters": {"type": "object"},
        }),
    );
    ("a2a", false, &[], input, json!({}))
}
