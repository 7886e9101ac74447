//! The schemas of the built-in functions. Those of the language follow its schema (`open-workflow-specification`
//! 1.0.3); the others are this product's own contract.

mod memory;
mod outside;

use serde_json::{Value, json};

use memory::{forget, query, remember, rerank, retrieve, upsert};
use outside::{a2a, asyncapi, grpc, http, mcp, openapi, publish};

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

/// A span of time as the language writes it.
fn span() -> Value {
    let part = json!({"type": "integer", "minimum": 0});
    let parts = ["days", "hours", "minutes", "seconds", "milliseconds"].map(|name| (name.to_owned(), part.clone()));
    let mut span = object(&[], Value::Object(parts.into_iter().collect()));
    span["type"] = json!(["string", "object"]);
    span["format"] = json!("duration");
    span["minProperties"] = json!(1);
    span
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
            "sources": {"type": "array", "items": passage(), "maxItems": 256},
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
            "priority": priority(),
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
        json!({
            "text": {"type": "string"},
            "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "priority": priority(),
        }),
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
            "topP": {"type": "number", "minimum": 0, "maximum": 1},
            "seed": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
            "stop": {"type": ["string", "array"], "items": {"type": "string", "minLength": 1, "maxLength": 256}, "minLength": 1, "maxItems": 4},
            "maxCostUsd": {"type": "number", "minimum": 0},
            "offline": {"enum": ["refuse", "local", "degrade", "park"]},
            "parkFor": {"type": "string", "format": "duration"},
            "priority": priority(),
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

/// Before whom a model on the node computes.
fn priority() -> Value {
    json!({"enum": ["urgent", "normal", "batch"]})
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
            "outcome": {"type": "string"},
            "details": {"type": "object"},
        }),
    )
}
