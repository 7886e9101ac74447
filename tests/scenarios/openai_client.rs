//! The clients that most programs use talk to the node's own endpoint: answers whole and in pieces, tools, schemas, embeddings, models;
//! and what a person sees of it afterwards.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tests::{
    agent::{Agent, Setup},
    binaries, browser, net, process,
};

const PROGRAM: &str = r#"
import json, sys, openai
from typing import Literal
from pydantic import BaseModel
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
models = [m.id for m in client.models.list().data]
assert "local/extract" in models and "local/tiny" in models, models
ask = [{"role": "user", "content": "Passages:\n[1] manual, 1: Stop the pump when it leaks.\n\nWhat to do when the pump leaks?"}]
whole = client.chat.completions.create(model="local/extract", messages=ask, max_tokens=100)
text = whole.choices[0].message.content
assert "Stop the pump" in text, text
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0, whole.usage
options = {"include_usage": True}
pieces = list(client.chat.completions.create(model="local/extract", messages=ask, max_tokens=100, stream=True, stream_options=options))
streamed = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
assert streamed == text, (streamed, text)
assert pieces[-1].usage.total_tokens == whole.usage.total_tokens

class Found(BaseModel):
    part: Literal["fan", "pump"]
    tight: bool
question = [{"role": "user", "content": "Which part?"}]
held = client.chat.completions.parse(model="local/tiny", messages=question, max_tokens=60, response_format=Found)
assert held.choices[0].message.parsed.part in ("fan", "pump"), held
schema = {"type": "object", "properties": {"part": {"enum": ["fan", "pump"]}}, "required": ["part"], "additionalProperties": False}
tools = [{"type": "function", "function": {"name": "stop", "description": "Stops a machine.", "parameters": schema}}]
tell = [{"role": "user", "content": "Stop it."}]
called = client.chat.completions.create(
    model="local/tiny", messages=tell, max_tokens=300, tools=tools, tool_choice="required", parallel_tool_calls=False)
(call,) = called.choices[0].message.tool_calls
assert call.function.name == "stop" and json.loads(call.function.arguments)["part"] in ("fan", "pump"), call
assert called.choices[0].finish_reason == "tool_calls"
answered = tell + [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "stopped"}]
client.chat.completions.create(model="local/tiny", messages=answered, max_tokens=4, tools=tools)
shape = {"type": "json_schema", "json_schema": {"name": "found", "schema": Found.model_json_schema(), "strict": True}}
for seed in range(4):
    (choice,) = client.chat.completions.create(
        model="local/tiny", messages=tell, max_tokens=80, tools=tools, response_format=shape, temperature=1, seed=seed).choices
    for call in choice.message.tool_calls or []:
        assert json.loads(call.function.arguments)["part"] in ("fan", "pump"), call
    assert bool(choice.message.tool_calls) != bool(choice.message.content), choice
    assert choice.message.tool_calls or Found.model_validate_json(choice.message.content), choice
streamed = client.chat.completions.create(
    model="local/tiny", messages=tell, max_tokens=300, tools=tools, tool_choice="required", parallel_tool_calls=False, stream=True)
arguments = "".join(c.function.arguments or "" for p in streamed if p.choices for c in p.choices[0].delta.tool_calls or [])
assert json.loads(arguments)["part"] in ("fan", "pump"), arguments
drawn = dict(model="local/tiny", messages=question, max_tokens=6, temperature=0.9, top_p=0.9, seed=7, extra_body={"top_k": 20, "min_p": 0.01})
first, again = (client.chat.completions.create(**drawn, logprobs=True, top_logprobs=3).choices[0] for _ in range(2))
assert first.message.content == again.message.content
assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in first.logprobs.content), first.logprobs
continued = client.completions.create(model="local/tiny", prompt="The pump", max_tokens=8, seed=1)
assert continued.usage.completion_tokens == 8
rest = client.completions.create(model="local/tiny", prompt="The pump", max_tokens=8, seed=1, stream=True)
assert "".join(p.choices[0].text for p in rest if p.choices) == continued.choices[0].text
# The client asks for base64 unless it is told otherwise.
embedder = next(m for m in models if not m.startswith("local/"))
vectors, floats = (client.embeddings.create(model=embedder, input=["pump", "press"], **how).data for how in ({}, {"encoding_format": "float"}))
assert len(vectors) == 2 and vectors[1].embedding == floats[1].embedding, (vectors[1], floats[1])
assert abs(sum(x * x for x in vectors[0].embedding) - 1) < 1e-3
# In tokens of the embedder's own, of which a full stop is one.
assert client.embeddings.create(model=embedder, input=["Grease it.", "pump"]).usage.total_tokens == 4
def refused(kind, expected, call):
    try:
        call()
    except kind as error:
        told = f"{error.param} {error.code} {error}"
        assert expected in told, told
    else:
        raise SystemExit(f"{expected}: was answered")
assert client.models.retrieve("local/tiny").id == "local/tiny"
refused(openai.NotFoundError, "no/such", lambda: client.models.retrieve("no/such"))
refused(openai.NotFoundError, "no/such", lambda: client.chat.completions.create(model="no/such", messages=ask))
refused(openai.NotFoundError, "no/such", lambda: client.embeddings.create(model="no/such", input="a"))
refused(openai.BadRequestError, "temprature None Error", lambda: client.chat.completions.create(model="local/tiny", messages=ask, extra_body={"temprature": 1}))
refused(openai.BadRequestError, "context_length_exceeded", lambda: client.chat.completions.create(model="local/tiny", messages=[{"role": "user", "content": "pump " * 3000}]))
with client.chat.completions.create(model="local/tiny", messages=question, max_tokens=200, stream=True) as broken:
    next(iter(broken))
assert client.chat.completions.create(model="local/tiny", messages=question, max_tokens=1).usage.completion_tokens == 1
print("compatible")
"#;

#[tokio::test]
async fn the_openai_client_for_python_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = serving(folder.path()).await;
    let python = std::env::var("SKERRY_OPENAI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut program = Command::new(python);
    program.args(["-c", PROGRAM, &agent.url("/v1"), &agent.token()]);
    let said = process::run(&mut program, Duration::from_secs(120)).await.ok();
    assert!(said.contains("compatible"), "{said}");
    agent.stop().await;
}

/// A node with the tiny model beside the extractive one.
async fn serving(folder: &Path) -> Agent {
    serving_with(folder, "").await
}

async fn serving_with(folder: &Path, others: &str) -> Agent {
    let model = with_more_context(folder);
    let more = format!(
        "label = {{ class = \"internal\" }}\n\n[inference]\nmemory = \"64 MB\"\n\n[[targets]]\nname = \"local/tiny\"\nkind = \"gguf\"\nfile = {:?}\n{others}",
        model.display().to_string()
    );
    let mut agent = Agent::new(folder, &Setup { site: None, more: &more, ..Setup::new("serving", folder) });
    agent.start().await;
    agent
}

const MODULE: &str = r#"
import assert from "node:assert";
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[1], apiKey: process.argv[2], maxRetries: 0 });
const ids = (await client.models.list()).data.map((model) => model.id);
assert(ids.includes("local/extract") && ids.includes("local/tiny"), ids);
const messages = [{ role: "user", content: "Passages:\n[1] manual, 1: Stop the pump when it leaks.\n\nWhat to do when the pump leaks?" }];
const whole = await client.chat.completions.create({ model: "local/extract", messages, max_tokens: 100 });
const text = whole.choices[0].message.content;
assert(text.includes("Stop the pump"), text);
const pieces = await client.chat.completions.create({
  model: "local/extract", messages, max_tokens: 100, stream: true, stream_options: { include_usage: true },
});
let streamed = "", usage = null;
for await (const piece of pieces) { streamed += piece.choices[0]?.delta?.content ?? ""; usage = piece.usage ?? usage; }
assert.equal(streamed, text);
assert.equal(usage.total_tokens, whole.usage.total_tokens);
const schema = { type: "object", properties: { part: { enum: ["fan", "pump"] } }, required: ["part"], additionalProperties: false };
const held = await client.chat.completions.create({
  model: "local/tiny", messages: [{ role: "user", content: "Which part?" }], max_tokens: 40,
  response_format: { type: "json_schema", json_schema: { name: "part", strict: true, schema } },
});
assert(["fan", "pump"].includes(JSON.parse(held.choices[0].message.content).part), held.choices[0].message.content);
const tools = [{ type: "function", function: { name: "stop", description: "Stops a machine.", parameters: schema } }];
const called = await client.chat.completions.create({
  model: "local/tiny", messages: [{ role: "user", content: "Stop it." }], max_tokens: 300, tools, tool_choice: "required",
});
const call = called.choices[0].message.tool_calls[0];
assert.equal(call.function.name, "stop");
assert(["fan", "pump"].includes(JSON.parse(call.function.arguments).part), call.function.arguments);
// Random weights that may choose call again and again; the one tool that is named is called once.
const named = await client.chat.completions.create({
  model: "local/tiny", messages: [{ role: "user", content: "Stop it." }], max_tokens: 300, tools,
  tool_choice: { type: "function", function: { name: "stop" } },
});
assert.equal(named.choices[0].message.tool_calls.length, 1);
assert.equal(named.choices[0].finish_reason, "tool_calls");
const ask = { model: "local/tiny", prompt: "The pump", max_tokens: 8, seed: 1 };
const continued = await client.completions.create(ask);
assert.equal(continued.usage.completion_tokens, 8);
let rest = "";
for await (const piece of await client.completions.create({ ...ask, stream: true })) rest += piece.choices[0]?.text ?? "";
assert.equal(rest, continued.choices[0].text);
const vectors = (await client.embeddings.create({ model: ids.find((id) => !id.startsWith("local/")), input: ["pump", "press"] })).data;
assert(vectors.length === 2 && vectors[0].embedding.length === vectors[1].embedding.length && vectors[0].embedding.length > 100);
await assert.rejects(client.chat.completions.create({ model: "no/such", messages }), OpenAI.NotFoundError);
const stop = new AbortController();
const broken = await client.chat.completions.create(
  { model: "local/tiny", messages: [{ role: "user", content: "Go on." }], max_tokens: 200, stream: true }, { signal: stop.signal });
for await (const piece of broken) { if (piece.choices[0]?.delta?.content) stop.abort(); }
console.log("compatible");
"#;

/// The folder with OpenAI's client for Node, as tests/run installs it, if there is a Node to run it.
fn node_client() -> Option<PathBuf> {
    let folder = std::env::var_os("SKERRY_OPENAI_NODE").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/skerry/openai-node")));
    let folder = folder.filter(|folder| folder.join("node_modules/openai/package.json").exists());
    let is_there = Command::new("node").arg("--version").output().is_ok_and(|said| said.status.success());
    match (folder, is_there) {
        (Some(folder), true) => Some(folder),
        (None, _) => {
            eprintln!(
                "skipped: no folder with the `openai` client for Node; tests/run installs one, and SKERRY_OPENAI_NODE names another"
            );
            None
        }
        (_, false) => {
            eprintln!("skipped: there is no `node` here");
            None
        }
    }
}

#[tokio::test]
async fn the_openai_client_for_node_is_served_and_figures_tell_of_it() {
    let Some(client) = node_client() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = serving(folder.path()).await;
    let mut program = Command::new("node");
    program.args(["--input-type=module", "-e", MODULE, &agent.url("/v1"), &agent.token()]).current_dir(client);
    let said = process::run(&mut program, Duration::from_secs(120)).await.ok();
    assert!(said.contains("compatible"), "{said}");

    for (name, with) in [
        ("skerry_model_answers_total", "local/tiny"),
        ("skerry_model_tokens_total", "local/tiny"),
        ("skerry_model_first_text_seconds", "local/tiny"),
        ("skerry_model_answer_tokens_per_second", "local/tiny"),
        ("skerry_model_memory_bytes", "local/tiny"),
        ("skerry_keys_and_values_bytes_max", ""),
    ] {
        assert!(agent.metric(name, with).await > 0.0, "{name} tells nothing");
    }
    let cookie = log_in(&agent).await;
    let page = browser::look(&agent.url("/"), Some(&cookie), folder.path()).await;
    for expected in ["Models on this node", "local/tiny", "tokens/s", "Keys and values have"] {
        assert!(page.dom.contains(expected), "the page does not show {expected:?}:\n{}", page.dom);
    }
    page.is_not_blank();
    agent.stop().await;
}

#[tokio::test]
async fn a_template_that_takes_all_memory_ends_neither_the_agent_nor_the_next_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = with_template(
        folder.path(),
        "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    );
    let more =
        format!("\n[[targets]]\nname = \"local/greedy\"\nkind = \"gguf\"\nfile = {:?}\n", file.display().to_string());
    let mut agent = serving_with(folder.path(), &more).await;
    for _ in 0..2 {
        for (model, status, told) in [("local/greedy", 400, "takes more than"), ("local/tiny", 200, "assistant")] {
            let body = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hot?"}]});
            let request = net::http().post(agent.url("/v1/chat/completions")).bearer_auth(agent.token()).json(&body);
            let answer = request.send().await.expect("the agent lives");
            let found = answer.status().as_u16();
            let text = answer.text().await.expect("it says why");
            assert!(found == status && text.contains(told), "{model}: {found} {text}");
        }
    }
    agent.stop().await;
}

/// The tiny model with another chat template, which must be shorter than its own.
fn with_template(folder: &Path, template: &str) -> PathBuf {
    let mut file =
        std::fs::read(binaries::checkout().join("models/reference/tiny/tiny-qwen3.gguf")).expect("it is there");
    let key = b"tokenizer.chat_template";
    // Past the key and the number of the value's type.
    let at = file.windows(key.len()).position(|bytes| bytes == key).expect("it has a template") + key.len() + 4;
    let len = u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    let own = at + 8..at + 8 + usize::try_from(len).expect("a length");
    file[own.clone()].fill(b' ');
    file[own.start..own.start + template.len()].copy_from_slice(template.as_bytes());
    let path = folder.join("greedy.gguf");
    std::fs::write(&path, file).expect("written");
    path
}

/// A tiny model whose context has room for a description of tools.
fn with_more_context(folder: &Path) -> PathBuf {
    let mut file =
        std::fs::read(binaries::checkout().join("models/reference/tiny/tiny-qwen3.gguf")).expect("it is there");
    let key = b"qwen3.context_length";
    let at = file.windows(key.len()).position(|bytes| bytes == key).expect("it says its context") + key.len();
    // The number of its type, a u32, and the value.
    assert_eq!(file[at..at + 8], [4, 0, 0, 0, 0, 1, 0, 0], "256 tokens");
    file[at + 4..at + 8].copy_from_slice(&1_024_u32.to_le_bytes());
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, file).expect("written");
    path
}

/// The cookie of a session at the local page.
async fn log_in(agent: &Agent) -> String {
    let request = net::http().post(agent.url("/login")).body(format!("token={}", agent.token()));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.send().await.expect("the page answers");
    let cookie = answer.headers().get("set-cookie").expect("a log-in gives a session");
    cookie.to_str().expect("a cookie is text").split(';').next().expect("a cookie has a value").to_owned()
}
