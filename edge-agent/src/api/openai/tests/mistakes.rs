//! What is wrong in a request, told in the form that OpenAI's clients read.

use super::*;

#[tokio::test]
async fn what_is_null_is_as_if_it_were_not_there() {
    let url = serve(None).await;
    let nothing = json!({"model": "local/extract", "messages": [{"role": "user", "content": "a"}], "stream": null, "logprobs": null, "seed": null});
    let (status, answer) = ask(&url, "chat/completions", nothing).await;
    assert_eq!(status, 200, "{answer}");
    let nothing = json!({"model": "local/extract", "prompt": "a", "stream": null, "echo": null, "logprobs": null});
    let (status, answer) = ask(&url, "completions", nothing).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_model_that_never_fits_is_an_error_after_which_nobody_tries_again() {
    let told = "local/large: there is no room for the model: local/large needs 91 MB and never fits";
    let response = Refusal::from(effect::Error::new(effect::kind::CONFIGURATION, told)).into_response();
    assert_eq!((response.status(), response.headers().get(header::RETRY_AFTER)), (StatusCode::BAD_REQUEST, None));
    let body = axum::body::to_bytes(response.into_body(), 4096).await.expect("read");
    let error = &serde_json::from_slice::<Value>(&body).expect("JSON")["error"];
    let (message, kind) = (format!("model: {told}"), "invalid_request_error");
    assert_eq!(*error, json!({"message": message, "type": kind, "param": "model", "code": "model_too_large"}));
}

#[tokio::test]
async fn a_conversation_needs_no_message_by_the_user() {
    let url = serve(None).await;
    for role in ["system", "developer", "assistant"] {
        let messages = json!([{"role": role, "content": "A blocked fan makes the motor hot. Why is the motor hot?"}]);
        let (status, answer) =
            ask(&url, "chat/completions", json!({"model": "local/extract", "messages": messages})).await;
        assert_eq!(status, 200, "{role}: {answer}");
        assert!(answer.contains("blocked fan"), "{role}: {answer}");
    }
}

#[tokio::test]
async fn mistakes_are_told_in_openais_form() {
    let url = serve(None).await;
    let embedder = embedder();
    let user = json!([{"role": "user", "content": "a"}]);
    for (path, body, status, expected) in [
        ("chat/completions", json!({"model": "gpt-9", "messages": user}), 404, "no chat model \"gpt-9\""),
        ("chat/completions", json!({"model": "local/extract"}), 400, "missing field `messages`"),
        ("chat/completions", json!({"model": "local/extract", "messages": []}), 400, "messages: expected at least one"),
        ("chat/completions", json!({"model": "local/extract", "messages": user, "n": 2}), 400, "n: a local model"),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "min_p": 2}),
            400,
            "min_p: 2: expected 0 to 1",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "top_logprobs": 3}),
            400,
            "with logprobs true",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tool_choice": "required"}),
            400,
            "there are no tools",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tools": [{"type": "function", "function": {"name": "stop"}}]}),
            400,
            "the extractive generator calls none",
        ),
        ("chat/completions", json!({"model": "local/broken", "messages": user}), 500, "the model broke"),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "presence_penalty": 1}),
            400,
            "presence_penalty: 1;",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tools": [{"function": {"name": "stop it"}}]}),
            400,
            "tools[0].function.name: \"stop it\"; expected 1 to 64 of a-z",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tools": [{"function": {"name": "a"}}, {"function": {"name": "a"}}]}),
            400,
            "tools[1].function.name: \"a\"; another tool has it",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tools": [{"function": {"name": "a", "parameters": {"type": "string"}}}]}),
            400,
            "tools[0].function.parameters: the type is not object",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tools": [{"function": {"name": "a", "parameters": true}}]}),
            400,
            "tools[0].function.parameters: expected a JSON schema of an object",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "stop": 5}),
            400,
            "stop: expected a text or a list of texts",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "tool_choice": 1}),
            400,
            "tool_choice: expected auto, none, required or a function",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": "hi"}),
            400,
            "messages: invalid type: string \"hi\", expected a list",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": [{"role": "user", "content": 5}]}),
            400,
            "a text or a list of parts",
        ),
        ("completions", json!({"model": "local/extract", "prompt": "a", "stopp": "b"}), 400, "stopp: no field"),
        ("completions", json!({"model": "local/extract", "prompt": "a", "stop": vec!["b"; 17]}), 400, "stop: expected"),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "stop": "b", "response_format": {"type": "json_object"}}),
            400,
            "stop: not beside a response_format",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "service_tier": "best"}),
            400,
            "service_tier: \"best\"; expected",
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "logprobs": true}),
            400,
            "logprobs: the extractive generator",
        ),
        ("embeddings", json!({"model": embedder, "input": []}), 400, "input: 0 texts"),
        ("embeddings", json!({"model": embedder, "input": ["a", " "]}), 400, "input[1]: no text"),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": user, "max_tokens": "many"}),
            400,
            "max_tokens: invalid type: string \"many\", expected a whole number from 0",
        ),
        ("embeddings", json!({"model": embedder, "input": [[1, 2]]}), 400, "a text or a list of texts"),
        ("embeddings", json!({"model": embedder, "input": "a", "task": "query"}), 400, "task: no field"),
        ("embeddings", json!({"model": embedder, "input": "a", "service_tier": "best"}), 400, "service_tier: \"best\""),
        ("embeddings", json!({"model": "ada", "input": "a"}), 404, "no embedder \"ada\" on this node; it has"),
    ] {
        let (found, answer) = ask(&url, path, body.clone()).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(found, status, "{body}: {answer}");
        let told = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(
            told.contains(expected) && !told.contains("untagged") && !told.contains("begun with"),
            "{body}: {told}"
        );
    }
    let body = json!({"model": "local/broken", "messages": user, "stream": true});
    let (status, stream) = ask(&url, "chat/completions", body).await;
    assert!(status == 200 && stream.contains("half an ") && stream.contains("\"error\"") && !stream.contains("[DONE]"));
    let large = json!({"model": "x".repeat(BODY_BYTES_MAX), "messages": []});
    let (status, told) = ask(&url, "chat/completions", large).await;
    assert_eq!(status, 413);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["error"]["type"], "invalid_request_error", "{told}");
}
