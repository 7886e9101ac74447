//! Turns of agents: what each protocol is given of tools, and how tool calls come back.

use super::*;

/// A turn of an agent with one tool, after it called that once.
fn turn() -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "You are a scout."},
            {"role": "user", "content": "Find it."},
            {"role": "assistant", "content": "", "toolCalls": [
                {"id": "a", "name": "retrieve", "arguments": {"query": "fan"}}, {"id": "b", "name": "retrieve", "arguments": {"query": "hum"}},
            ]},
            {"role": "tool", "toolCallId": "a", "content": "nothing"},
            {"role": "tool", "toolCallId": "b", "content": "a page"},
        ],
        "tools": [{"name": "retrieve", "description": "Looks up.", "parameters": {"type": "object"}}],
        "model": "cloud/large",
    })
}

fn chat(input: Value) -> Call {
    Call { function: "chat".to_owned(), ..call(input) }
}

#[tokio::test]
async fn an_openai_server_is_given_tools_and_its_calls_come_back_from_the_pieces() {
    let piece = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let called = |index: u32, more: Value| {
        let mut call = json!({ "index": index });
        call.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        piece(json!({ "tool_calls": [call] }))
    };
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200}});
    let events = [
        called(0, json!({"id": "c1", "type": "function", "function": {"name": "retrieve", "arguments": ""}})),
        called(0, json!({"function": {"arguments": "{\"query\": "}})),
        called(0, json!({"function": {"arguments": "\"bearing\"}"}})),
        called(1, json!({"id": "c2", "function": {"name": "retrieve", "arguments": "{\"query\""}})),
        format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n"),
    ];
    let (url, server) = serve(vec![(200, vec![SSE], events.into_iter().map(Ok).collect())]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let done = infer(&inference, &chat(turn()), &[]).await.expect("answered");
    assert_eq!(
        done.output["toolCalls"],
        // Text that is no JSON stays text: the engine tells the model what is wrong with it.
        json!([{"id": "c1", "name": "retrieve", "arguments": {"query": "bearing"}}, {"id": "c2", "name": "retrieve", "arguments": "{\"query\""}])
    );
    assert_eq!((&done.output["text"], &done.output["usage"]["tokensOut"]), (&json!(""), &json!(200)));
    let (_, body) = server.seen.lock().expect("free")[0].clone();
    assert_eq!(body["tools"][0]["function"]["name"], "retrieve");
    assert_eq!(body["messages"][2]["tool_calls"][1]["function"]["arguments"], "{\"query\":\"hum\"}");
    assert_eq!(body["messages"][4], json!({"role": "tool", "tool_call_id": "b", "content": "a page"}));
}

#[tokio::test]
async fn anthropic_is_given_results_in_one_message_and_its_tool_use_comes_back() {
    let content = json!([{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1", "name": "retrieve", "input": {"query": "bearing"}}]);
    let whole = json!({"content": content, "usage": {"input_tokens": 5, "output_tokens": 6}}).to_string();
    let event = |event: Value| Ok(format!("event: e\ndata: {event}\n\n"));
    let streamed = vec![
        event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I look."}})),
        event(
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "retrieve", "input": {}}}),
        ),
        event(
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"query\": \"bea"}}),
        ),
        event(
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "ring\"}"}}),
        ),
        event(json!({"type": "message_delta", "usage": {"output_tokens": 6}})),
        event(json!({"type": "message_stop"})),
    ];
    let (url, server) =
        serve(vec![(200, vec![("content-type", "application/json")], vec![Ok(whole)]), (200, vec![SSE], streamed)])
            .await;
    let inference = Inference::new(vec![target("cloud/large", "anthropic", &url)], &Digests::default());
    for _ in 0..2 {
        let done = infer(&inference, &chat(turn()), &[]).await.expect("answered");
        assert_eq!(done.output["text"], "I look.");
        assert_eq!(
            done.output["toolCalls"],
            json!([{"id": "t1", "name": "retrieve", "arguments": {"query": "bearing"}}])
        );
    }
    let (_, body) = server.seen.lock().expect("free")[0].clone();
    assert_eq!(body["system"], "You are a scout.");
    assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object"}));
    let messages = body["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(
        messages[1]["content"][0],
        json!({"type": "tool_use", "id": "a", "name": "retrieve", "input": {"query": "fan"}})
    );
    assert_eq!(messages[2]["content"][1], json!({"type": "tool_result", "tool_use_id": "b", "content": "a page"}));
}

#[tokio::test]
async fn the_extractive_model_says_that_it_cannot_call_tools() {
    let inference = Inference::new(Vec::new(), &Digests::default());
    let mut input = turn();
    input["model"] = json!(EXTRACT);
    let failure = infer(&inference, &chat(input), &[]).await.expect_err("it has no tools");
    assert_eq!(failure.error.kind, kind::CONFIGURATION.0);
    assert!(failure.error.detail.expect("told").contains("name a chat model"));
}
