//! Functions that find and keep: documents, texts, conversations and records.

use serde_json::json;

use super::{Entry, label, object, passage, priority};

pub(super) fn query() -> Entry {
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

pub(super) fn upsert() -> Entry {
    let input = object(
        &["collection", "key", "rows"],
        json!({
            "collection": {"type": "string", "minLength": 1},
            "key": {"type": "string", "minLength": 1},
            "rows": {"type": "array", "items": {"type": "object"}, "maxItems": 1_000},
        }),
    );
    ("upsert", true, &[], input, object(&["written"], json!({"written": {"type": "integer"}})))
}

pub(super) fn remember() -> Entry {
    let input = object(
        &["text"],
        json!({
            "text": {"type": "string", "minLength": 1},
            "index": {"type": "string"},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "subject": {"type": "string", "minLength": 1},
            "keepFor": {"type": "string", "format": "duration"},
            "kind": {"enum": ["text", "session", "episode"]},
            "outcome": {"type": "string", "minLength": 1},
            "details": {"type": "object"},
            "session": {"type": "string", "minLength": 1},
            "role": {"enum": ["user", "assistant"]},
        }),
    );
    ("remember", true, &[], input, object(&["id"], json!({"id": {"type": "string"}})))
}

pub(super) fn forget() -> Entry {
    let input = object(
        &[],
        json!({
            "kind": {"enum": ["text", "session", "episode"]},
            "index": {"type": "string"},
            "session": {"type": "string", "minLength": 1},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "subject": {"type": "string", "minLength": 1},
        }),
    );
    ("forget", true, &[], input, object(&["forgotten"], json!({"forgotten": {"type": "integer"}})))
}

pub(super) fn rerank() -> Entry {
    let input = object(
        &["query", "passages"],
        json!({
            "query": {"type": "string"},
            "passages": {"type": "array", "items": passage(), "maxItems": 256},
            "topK": {"type": "integer", "minimum": 1, "maximum": 256},
            "priority": priority(),
        }),
    );
    let output = object(&["passages"], json!({"passages": {"type": "array", "items": passage()}}));
    ("rerank", true, &[], input, output)
}

pub(super) fn retrieve() -> Entry {
    let input = object(
        &[],
        json!({
            "index": {"type": "string"},
            "query": {"type": "string"},
            "topK": {"type": "integer", "minimum": 1, "maximum": 100},
            "session": {"type": "string", "minLength": 1},
            "last": {"type": "integer", "minimum": 1, "maximum": 200},
            "kind": {"enum": ["text", "session", "episode"]},
            "outcome": {"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1, "maxItems": 16},
            "source": {"type": "string", "minLength": 1},
            "clearance": label(),
            "rerank": {"type": "boolean"},
            "priority": priority(),
        }),
    );
    let output = json!({"passages": {"type": "array", "items": passage()}, "fits": {"type": "boolean"}});
    let output = object(&["passages"], output);
    ("retrieve", true, &["query", "session"], input, output)
}
