//! What is seen of a model's speed: of answers that are broken off, and of those without text.

use std::ops::ControlFlow;

use super::*;

/// A tiny model whose context has room for a description of tools.
fn roomy(folder: &std::path::Path) -> Inference {
    let mut file = std::fs::read(tiny_file("tiny-qwen3")).expect("it is there");
    let key = b"qwen3.context_length";
    let at = file.windows(key.len()).position(|bytes| bytes == key).expect("it says its context") + key.len();
    // The number of its type, a u32, and the value.
    file[at + 4..at + 8].copy_from_slice(&2_048_u32.to_le_bytes());
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, file).expect("written");
    let target = json!({"name": "local/a", "kind": "gguf", "file": path});
    Inference::new(vec![serde_json::from_value(target).expect("a valid target")], &Digests::default())
}

async fn ask(inference: &Inference, request: generate::Request, looks: usize) -> generate::Answer {
    let mut left = looks;
    let on_text: OnText = Box::new(move |_| {
        left = left.saturating_sub(1);
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let worker = inference.worker("local/a").expect("it is there");
    worker.ask(request, on_text, LOCAL_TIMEOUT, Priority::Normal).await.expect("answered")
}

/// A request that is answered by calls of a tool alone.
fn calling(words: &str) -> generate::Request {
    let tool = generate::Tool {
        name: "stop".to_owned(),
        description: words.to_owned(),
        parameters: json!({"type": "object", "properties": {"part": {"enum": ["fan", "pump"]}}, "required": ["part"]}),
    };
    let (tools, tool_choice) = (vec![tool], generate::ToolChoice::Required);
    generate::Request { tools, tool_choice, single_call: true, max_tokens: 200, ..generate::Request::ask("Stop it.") }
}

#[tokio::test]
async fn an_answer_without_text_tells_the_speed_too_and_one_that_was_broken_off_tells_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let inference = roomy(folder.path());
    let figures = || inference.figures().swap_remove(0).1;
    let written =
        generate::Request { max_tokens: 8, ..generate::Request::ask("Stop the pump when it leaks. ".repeat(4)) };
    let broken = ask(&inference, written, 2).await;
    assert_eq!(broken.finish, generate::Finish::Cancelled);
    let seen = figures();
    assert_eq!((seen.answers, seen.speed.first, seen.speed.answer), (0, None, None), "{seen:?}");
    assert!(seen.tokens_in > 0 && seen.tokens_out > 0, "it was computed: {seen:?}");

    let called = ask(&inference, calling("Stops a machine."), usize::MAX).await;
    assert!(called.text.is_empty() && called.calls.len() == 1, "{called:?}");
    let (seen, next) = (figures(), calling("Stops a machine."));
    assert!(seen.answers == 1 && seen.speed.prompt > Some(0.0) && seen.speed.decode > Some(0.0), "{seen:?}");
    let worker = inference.worker("local/a").expect("it is there");
    assert!(worker.expected(&next, None, Priority::Normal).await.is_some(), "so a deadline can be told to be too near");
}

#[tokio::test]
async fn a_model_asks_whether_to_go_on_between_the_parts_of_a_prompt_and_then_behind_its_first_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let inference = roomy(folder.path());
    let tokens = async |looks: usize| {
        // Each begins otherwise, so that nothing is known of it from before.
        let words = format!("Machine {looks} stops at once. ").repeat(30);
        let answer = ask(&inference, calling(&words), looks).await;
        (answer.tokens_in, answer.tokens_out)
    };
    let (prompt, written) = tokens(1).await;
    assert_eq!((prompt.div_ceil(figures::PART_LEN), written), (3, 0), "{prompt} tokens");
    assert_eq!(tokens(2).await.1, 0, "two looks between three parts");
    assert!(tokens(3).await.1 > 0, "the third is behind the first token");
}
