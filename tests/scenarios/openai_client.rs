//! The client that most programs use talks to the node's own endpoint: answers whole and in pieces, embeddings, models.

use std::{process::Command, time::Duration};

use tests::{
    agent::{Agent, Setup},
    process,
};

const PROGRAM: &str = r#"
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
models = [m.id for m in client.models.list().data]
assert "local/extract" in models, models
ask = [{"role": "user", "content": "Passages:\n[1] manual, 1: Stop the pump when it leaks.\n\nWhat to do when the pump leaks?"}]
whole = client.chat.completions.create(model="local/extract", messages=ask, max_tokens=100)
text = whole.choices[0].message.content
assert "Stop the pump" in text, text
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0, whole.usage
pieces = client.chat.completions.create(model="local/extract", messages=ask, max_tokens=100, stream=True)
streamed = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
assert streamed == text, (streamed, text)
vectors = client.embeddings.create(model=next(m for m in models if "extract" not in m), input=["pump", "press"]).data
assert len(vectors) == 2 and len(vectors[0].embedding) == len(vectors[1].embedding) > 100
try:
    client.chat.completions.create(model="no/such", messages=ask)
    raise SystemExit("a model that is not there answered")
except openai.NotFoundError as error:
    assert "no/such" in str(error), error
print("compatible")
"#;

#[tokio::test]
async fn the_openai_client_for_python_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::new(folder.path(), &Setup { site: None, ..Setup::new("serving", folder.path()) });
    agent.start().await;
    let python = std::env::var("SKERRY_OPENAI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut program = Command::new(python);
    program.args(["-c", PROGRAM, &agent.url("/v1"), &agent.token()]);
    let said = process::run(&mut program, Duration::from_secs(60)).await.ok();
    assert!(said.contains("compatible"));
    agent.stop().await;
}
