//! The schemas of the built-in functions. Those of the language follow its schema (`open-workflow-specification`
//! 1.0.3); the others are this product's own contract.

use serde_json::{Value, json};

/// Name, whether it is performed, arguments of which exactly one must be there, schema of the arguments, of the output.
pub(super) type Entry = (&'static str, bool, &'static [&'static str], Value, Value);

/// Every built-in function in the order of their names.
pub(super) fn all() -> Vec<Entry> {
    vec![
        a2a(),
        agent(),
        approve(),
        asyncapi(),
        classify(),
        embed(),
        forget(),
        grpc(),
        guard(),
        http(),
        infer(),
        mcp(),
        openapi(),
        publish(),
        query(),
        remember(),
        rerank(),
        retrieve(),
        train(),
        upsert(),
    ]
}

/// An object with these properties and no others.
fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

/// What is demanded of everyone who handles a value.
fn label() -> Value {
    object(
        &["class"],
        json!({
            "class": {"enum": ["public", "internal", "confidential", "restricted"]},
            "origins": {"type": "array", "items": {"type": "string"}},
            "personal": {"type": "boolean"},
        }),
    )
}

fn agent() -> Entry {
    let time = json!({"type": "string", "format": "duration"});
    let person = object(
        &["role"],
        json!({
            "role": {"type": "string", "minLength": 1}, "title": {"type": "string"}, "label": label(),
            "limits": object(&[], json!({"time": time})),
        }),
    );
    let mut tool = object(
        &[],
        json!({
            "function": {"type": "string"}, "mcp": {"type": "object"}, "workflow": {"type": "string"},
            "agent": {"type": "object"}, "person": person, "name": {"type": "string"}, "description": {"type": "string"},
            "with": {"type": "object"}, "parameters": {"type": "object"},
        }),
    );
    // A name stands for the function of that name.
    tool["type"] = json!(["string", "object"]);
    let limits = object(
        &[],
        json!({
            "turns": {"type": "integer", "minimum": 1, "maximum": 256},
            "tokens": {"type": "integer", "minimum": 1},
            "costUsd": {"type": "number", "minimum": 0},
            "time": time,
        }),
    );
    let input = object(
        &["name", "goal"],
        json!({
            "name": {"type": "string", "minLength": 1},
            "owner": {"type": "string"},
            "goal": {"type": "string"},
            "input": {},
            "instructions": {"type": "string"},
            "model": {"type": ["string", "array"], "items": {"type": "string"}},
            "tools": {"type": "array", "items": tool, "maxItems": 64},
            "limits": limits,
            "label": label(),
            "schema": {"type": ["object", "boolean"]},
            "offline": {"enum": ["refuse", "local", "degrade", "park"]},
        }),
    );
    let output = json!({"type": "object", "required": ["output", "turns", "ended"], "properties": {
        "output": {}, "turns": {"type": "integer"}, "usage": {"type": "object"},
        "ended": {"enum": ["done", "person", "turns", "tokens", "cost", "time", "repetition"]},
        "person": {"type": "object"}, "agent": {"type": "string"}, "owner": {"type": "string"},
        "toolCalls": {"type": "integer"}, "toolFailures": {"type": "integer"},
    }});
    ("agent", true, &[], input, output)
}

fn guard() -> Entry {
    let checks = ["personalData", "secrets", "injection", "grounding", "schema"];
    let input = object(
        &["content"],
        json!({
            "content": {},
            "policy": {"type": "string", "minLength": 1},
            "checks": {"type": "array", "items": {"enum": checks}, "minItems": 1, "uniqueItems": true},
            "sources": {"type": ["string", "array"], "items": passage(), "maxItems": 256},
            "schema": {"type": ["object", "boolean"]},
            "onFinding": {"enum": ["report", "redact", "refuse"]},
        }),
    );
    let finding = object(
        &["check", "kind", "at", "message", "redacted"],
        json!({
            "check": {"enum": checks},
            "kind": {"type": "string"},
            "at": {"type": "string"},
            "start": {"type": "integer"},
            "end": {"type": "integer"},
            "message": {"type": "string"},
            "redacted": {"type": "boolean"},
        }),
    );
    let output = object(
        &["allowed", "content", "findings"],
        json!({"allowed": {"type": "boolean"}, "content": {}, "findings": {"type": "array", "items": finding}}),
    );
    ("guard", true, &[], input, output)
}

fn query() -> Entry {
    let input = object(
        &["collection"],
        json!({
            "collection": {"type": "string", "minLength": 1},
            "where": {"type": "object"},
            "orderBy": {"type": "string"},
            "descending": {"type": "boolean"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
        }),
    );
    let rows = json!({"type": "array", "items": {"type": "object"}});
    ("query", true, &[], input, object(&["rows"], json!({"rows": rows})))
}

fn upsert() -> Entry {
    let input = object(
        &["collection", "key", "rows"],
        json!({
            "collection": {"type": "string", "minLength": 1},
            "key": {"type": "string", "minLength": 1},
            "rows": {"type": ["string", "array"], "items": {"type": "object"}, "maxItems": 1_000},
        }),
    );
    ("upsert", true, &[], input, object(&["written"], json!({"written": {"type": "integer"}})))
}

fn train() -> Entry {
    let name = || json!({"type": "string", "minLength": 1});
    let duration = || json!({"type": "string", "format": "duration"});
    let input = object(
        &["feed", "detector"],
        json!({
            "feed": name(),
            "detector": name(),
            "device": name(),
            "channel": name(),
            "kind": {"enum": ["forecast", "reconstruct"]},
            "span": duration(),
            "seed": {"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64},
            "timeLimit": duration(),
            "takeOver": {"enum": ["better", "always", "never"]},
            "version": {"type": "integer", "minimum": 1},
            "back": {"type": "boolean"},
        }),
    );
    let evaluation = json!({"type": "object", "properties": {
        "samples": {"type": "integer"}, "error": {"type": "number"}, "naiveError": {"type": "number"},
        "alarms": {"type": "integer"}, "alarmsPromised": {"type": "number"},
        "planted": {"type": "integer"}, "found": {"type": "integer"},
    }});
    let report = json!({"type": "object", "properties": {
        "kind": {"type": "string"}, "samples": {"type": "integer"}, "from": {"type": "string"}, "to": {"type": "string"},
        "rounds": {"type": "integer"}, "bestRound": {"type": "integer"}, "ended": {"enum": ["settled", "rounds", "time"]},
        "lossAtFirst": {"type": "number"}, "loss": {"type": "number"}, "durationMs": {"type": "integer"},
        "new": evaluation, "previous": evaluation, "previousVersion": {"type": "integer"},
    }});
    let model = json!({"type": "object", "required": ["device", "channel", "tookOver", "reason"], "properties": {
        "device": {"type": "string"}, "channel": {"type": "string"}, "version": {"type": "integer"},
        "model": {"type": "string"}, "tookOver": {"type": "boolean"}, "reason": {"type": "string"}, "report": report,
    }});
    let output = object(&["models"], json!({"models": {"type": "array", "items": model}}));
    ("train", true, &[], input, output)
}

fn remember() -> Entry {
    let input = object(
        &["text"],
        json!({
            "text": {"type": "string", "minLength": 1},
            "index": {"type": "string"},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "subject": {"type": "string", "minLength": 1},
            "session": {"type": "string", "minLength": 1},
            "role": {"enum": ["user", "assistant"]},
        }),
    );
    ("remember", true, &[], input, object(&["id"], json!({"id": {"type": "string"}})))
}

fn forget() -> Entry {
    let input = object(
        &[],
        json!({
            "index": {"type": "string"},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "subject": {"type": "string", "minLength": 1},
        }),
    );
    ("forget", true, &[], input, object(&["forgotten"], json!({"forgotten": {"type": "integer"}})))
}

fn rerank() -> Entry {
    let input = object(
        &["query", "passages"],
        json!({
            "query": {"type": "string"},
            "passages": {"type": ["string", "array"], "items": passage(), "maxItems": 256},
            "topK": {"type": "integer", "minimum": 1, "maximum": 100},
        }),
    );
    let output = object(&["passages"], json!({"passages": {"type": "array", "items": passage()}}));
    ("rerank", true, &[], input, output)
}

fn approve() -> Entry {
    let input = object(
        &["role", "title", "proposal"],
        json!({"role": {"type": "string"}, "title": {"type": "string"}, "proposal": {}}),
    );
    let output = object(
        &["approved", "verdict", "by", "at"],
        json!({
            "approved": {"type": "boolean"},
            "verdict": {"enum": ["approved", "rejected"]},
            "by": {"type": "string"},
            "at": {"type": "string"},
            "comment": {"type": ["string", "null"]},
        }),
    );
    ("approve", true, &[], input, output)
}

fn classify() -> Entry {
    let case = object(&["text", "label"], json!({"text": {"type": "string"}, "label": {"type": "string"}}));
    let input = object(
        &["text"],
        json!({
            "text": {"type": "string"},
            "cases": {"type": ["string", "array"], "items": case},
            "k": {"type": "integer", "minimum": 1, "maximum": 100},
        }),
    );
    let output = json!({"type": "object", "required": ["label", "score", "neighbours"], "properties": {
        "label": {"type": "string"}, "score": {"type": "number"}, "neighbours": {"type": "array"},
        "labels": {"type": "array"},
    }});
    ("classify", true, &[], input, output)
}

fn embed() -> Entry {
    let input = object(
        &[],
        json!({"text": {"type": "string"}, "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1}}),
    );
    let vector = json!({"type": "array", "items": {"type": "number"}});
    let output = object(
        &["vectors", "model"],
        json!({"vectors": {"type": "array", "items": vector}, "model": {"type": "string"}}),
    );
    ("embed", true, &["text", "texts"], input, output)
}

fn infer() -> Entry {
    let message = object(
        &["role", "content"],
        json!({"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}}),
    );
    let input = object(
        &[],
        json!({
            "prompt": {},
            "messages": {"type": "array", "items": message, "minItems": 1},
            "passages": {"type": "array", "items": passage(), "maxItems": 256},
            "model": {"type": ["string", "array"], "items": {"type": "string"}},
            "schema": {"type": ["object", "boolean"]},
            "maxTokens": {"type": "integer", "minimum": 1, "maximum": 131_072},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "maxCostUsd": {"type": "number", "minimum": 0},
            "offline": {"enum": ["refuse", "local", "degrade", "park"]},
            "parkFor": {"type": "string", "format": "duration"},
            "priority": {"enum": ["urgent", "normal", "batch"]},
        }),
    );
    let usage = json!({"type": "object", "properties": {
        "tokensIn": {"type": "integer"}, "tokensOut": {"type": "integer"}, "costUsd": {"type": "number"},
    }});
    let output = json!({"type": "object", "required": ["text", "target", "model", "degraded", "usage"], "properties": {
        "text": {"type": "string"}, "target": {"type": "string"}, "model": {"type": "string"},
        "degraded": {"type": "boolean"}, "usage": usage,
    }});
    ("infer", true, &["prompt", "messages"], input, output)
}

/// A passage as `retrieve` gives it and `infer` takes it.
fn passage() -> Value {
    object(
        &["text"],
        json!({
            "text": {"type": "string"},
            "document": {"type": "string"},
            "place": {"type": "string"},
            "score": {"type": "number"},
            "label": label(),
            "role": {"enum": ["user", "assistant"]},
        }),
    )
}

fn publish() -> Entry {
    let input = object(
        &["topic", "payload"],
        json!({
            "topic": {"type": "string", "minLength": 1},
            "payload": {},
            "qos": {"enum": [0, 1, 2]},
            "retain": {"type": "boolean"},
        }),
    );
    let output = object(&["topic", "key"], json!({"topic": {"type": "string"}, "key": {"type": "string"}}));
    ("publish", true, &[], input, output)
}

fn retrieve() -> Entry {
    let input = object(
        &[],
        json!({
            "index": {"type": "string"},
            "query": {"type": "string"},
            "topK": {"type": "integer", "minimum": 1, "maximum": 100},
            "session": {"type": "string", "minLength": 1},
            "last": {"type": "integer", "minimum": 1, "maximum": 200},
            "clearance": label(),
            "rerank": {"type": "boolean"},
        }),
    );
    let output = object(&["passages"], json!({"passages": {"type": "array", "items": passage()}}));
    ("retrieve", true, &["query", "session"], input, output)
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

fn http() -> Entry {
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

fn openapi() -> Entry {
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

fn grpc() -> Entry {
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

fn asyncapi() -> Entry {
    let server = object(&["name"], json!({"name": {"type": "string"}, "variables": {"type": "object"}}));
    let consume = object(
        &[],
        json!({
            "amount": {"type": ["integer", "string"]},
            "for": {"type": ["object", "string"]},
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

fn mcp() -> Entry {
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
        "parameters": {"type": ["object", "string"]},
        "timeout": {"type": ["object", "string"]},
        "transport": {"type": "object"},
        "client": {"type": "object", "required": ["name", "version"]},
    }});
    ("mcp", true, &[], input, json!({}))
}

fn a2a() -> Entry {
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
            "parameters": {"type": ["object", "string"]},
        }),
    );
    ("a2a", false, &[], input, json!({}))
}
