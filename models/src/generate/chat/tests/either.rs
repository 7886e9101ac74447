//! Tools beside a schema: calls or a value, as the model begins.

use super::{super::template::Form, *};

#[test]
fn beside_tools_a_model_calls_or_answers_by_the_schema_as_it_begins() {
    let part =
        serde_json::json!({"type": "object", "properties": {"part": {"enum": ["fan", "pump"]}}, "required": ["part"]});
    let tree = serde_json::json!({
        "type": "object", "required": ["leaves"], "additionalProperties": false,
        "properties": {"leaves": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
    });
    let tool = Tool { name: "stop".to_owned(), description: String::new(), parameters: part.clone() };
    let ask = Request { tools: vec![tool], schema: Some(tree.clone()), max_tokens: 60, ..Request::ask("Stop it.") };
    let is_value = |text: &str| serde_json::from_str(text).is_ok_and(|value| jsonschema::is_valid(&tree, &value));
    let load = |template: &str| {
        let mut chat = Chat::load(&path("tiny-qwen3")).unwrap();
        chat.template = Template::new(Some(template), "", "").unwrap();
        chat.decoder.set_context(1024);
        chat
    };
    let tags = "{{ messages[0].content }}{% if tools %}{{ tools | length }} <tool_call>{% endif %}";
    let bare = "{{ messages[0].content }}{% if tools %}{{ tools | length }} \"parameters\"{% endif %}";
    for (form, template) in [("tags", tags), ("bare", bare)] {
        let chat = load(template);
        let (mut calls, mut values) = (0, 0);
        for seed in 0..24 {
            let max_tokens = [0, 20, 60][seed as usize % 3];
            let mut said = String::new();
            let request = Request { seed, sampling: warm(), max_tokens, ..ask.clone() };
            let answer = chat.generate(&request, &mut |text| {
                said.push_str(text);
                ControlFlow::Continue(())
            });
            let answer = answer.unwrap();
            assert_eq!(said, answer.text, "what is streamed is what is said");
            match answer.calls.as_slice() {
                [] => values += 1,
                all => calls += all.len(),
            }
            assert_eq!(answer.calls.is_empty(), is_value(&answer.text), "{form} {seed}: {answer:?}");
            assert!(answer.calls.iter().all(|call| jsonschema::is_valid(&part, &call.arguments)), "{answer:?}");
        }
        assert!(values > 0 && (calls > 0 || form == "tags"), "{form}: {calls} calls, {values} values");
    }
    let chat = load(tags);
    script(&chat, "<tool_call>");
    let called = answer(&chat, &Request { single_call: true, ..ask.clone() });
    assert_eq!((called.text.as_str(), called.calls.len()), ("", 1));
    assert!(jsonschema::is_valid(&part, &called.calls[0].arguments), "{called:?}");
    chat.script.lock().unwrap().clear();
    // Behind a call nothing is said but other calls.
    script(&chat, "<tool_call>");
    // The rest of the first tag is given.
    chat.script.lock().unwrap().truncate(1);
    script(&chat, "\n<tool_call>");
    let called = answer(&chat, &Request { max_tokens: 300, ..ask.clone() });
    assert_eq!((called.text.as_str(), called.calls.len() >= 2), ("", true), "{called:?}");
    assert!(called.calls.iter().all(|call| jsonschema::is_valid(&part, &call.arguments)), "{called:?}");
    chat.script.lock().unwrap().clear();
    script(&chat, "{");
    let told = answer(&chat, &ask);
    assert!(told.calls.is_empty() && is_value(&told.text), "{told:?}");
}

/// A schema that takes any object takes one with a tool's name too, and arguments that the tool does not.
#[test]
fn what_only_looks_like_a_call_is_the_value() {
    let parameters =
        serde_json::json!({"type": "object", "properties": {"part": {"enum": ["fan", "pump"]}}, "required": ["part"]});
    let tool = Tool { name: "stop".to_owned(), description: String::new(), parameters };
    let chat = Chat::load(&path("tiny-qwen3")).unwrap();
    let is_call = |text: &str| chat.is_call(&[&tool], Form::Bare, text).unwrap();
    assert!(is_call(r#"{"name": "stop", "parameters": {"part": "fan"}}"#));
    for text in [
        r#"{"name": "stop", "parameters": {"part": "zzz"}}"#,
        r#"{"name": "stop", "parameters": {}}"#,
        r#"{"name": "stop", "arguments": {"part": "fan"}}"#,
        r#"{"name": "stop", "parameters": {"part": "fan"}, "leaves": []}"#,
        r#"{"name": "stop", "parameters": {"part": "fan"}"#,
    ] {
        assert!(!is_call(text), "{text}");
    }
}
