//! The language's own examples, each executed over a node's rooms against servers on this machine. What is done with each
//! and what comes of it stands in `examples.yaml`; a document without an entry there fails the test.

mod site;

use std::time::Instant;

use serde::Deserialize;
use serde_json::Map;
use shared::time::Timestamp;

use super::{rooms::ended, *};
use crate::clock::{Source, Steady};
use site::Site;

const TABLE: &str = "src/workflow/tests/examples.yaml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    file: String,
    #[serde(default = "nothing")]
    input: Value,
    #[serde(default)]
    events: Vec<Happening>,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    published: Vec<Value>,
    saw: Option<Vec<String>>,
    #[serde(default)]
    emits: Vec<String>,
    output: Option<Value>,
    error: Option<Value>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    container: bool,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct Happening {
    #[serde(rename = "type")]
    kind: String,
    source: Option<String>,
    data: Value,
    #[serde(flatten)]
    attributes: Map<String, Value>,
}

fn nothing() -> Value {
    json!({})
}

impl Happening {
    fn event(&self, number: usize) -> (Event, Label) {
        let source = self.source.clone().unwrap_or_else(|| "https://here".to_owned());
        let mut event = Event::new(number.to_string(), source, self.kind.clone(), self.data.clone());
        event.extensions.extend(self.attributes.clone());
        (event, Label::default())
    }
}

/// A clock on which a minute takes a second and a half, so that what rests is soon done resting.
pub(super) struct Hurried(pub Instant);

const HURRY: u32 = 40;

impl Source for Hurried {
    fn wall(&self) -> Timestamp {
        clock::now().plus(self.0.elapsed() * (HURRY - 1))
    }

    fn passed(&self) -> Duration {
        self.0.elapsed() * HURRY
    }

    fn pass(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span / HURRY).boxed()
    }
}

/// What a run came to, and what was seen of it.
struct Played {
    detail: runs::RunDetail,
    saw: Vec<String>,
    emitted: Vec<String>,
}

/// `Err`: the node does not take the document.
async fn play(example: &Example, text: &str) -> Result<Played, String> {
    let site = Site::open(&example.published).await;
    let workflow = site.link(&example.file, text);
    let name = workflow.definition().qualified_name();
    let others = example.also.iter().map(|text| Arc::new(Workflow::parse("also.yaml", text).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let clock = Steady::by(Hurried(Instant::now()), Timestamp::default());
    let runner = Runner::open_at(store.clone(), Arc::new(site.rooms(&store)), clock).await.unwrap();
    let is_started = workflow.definition().schedule.as_ref().is_some_and(|schedule| schedule.on.is_some());
    runner
        .set_workflows(Digest::of(b"bundle"), [Arc::clone(&workflow)].into_iter().chain(others).collect())
        .await
        .map_err(|error| error.to_string())?;
    let events = || example.events.iter().enumerate().map(|(number, event)| event.event(number)).collect();
    let run = if is_started {
        runner.deliver(events()).await.unwrap();
        let first = |c: &rusqlite::Connection| c.query_row("SELECT id FROM run", [], |row| row.get::<_, String>(0));
        store.read("look", first).await.unwrap().parse().unwrap()
    } else {
        runner.start(&name, example.input.clone(), Label::default(), person()).await.unwrap().run.unwrap()
    };
    if !is_started && !example.events.is_empty() {
        until(&runner, || holds(&store, "SELECT EXISTS (SELECT 1 FROM listening)")).await;
        runner.deliver(events()).await.unwrap();
    }
    if example.open {
        let wanted = example.saw.as_ref().map_or(0, Vec::len);
        let told = || store.read_blocking("look", emitted).unwrap().len() >= example.emits.len();
        until(&runner, || site.saw().len() >= wanted && told()).await;
        runner.steer(run, Act::Cancel, person()).await.unwrap();
    }
    let detail = ended(&store, &runner, run).await;
    let emitted = store.read("look", emitted).await.unwrap();
    runner.close().await;
    Ok(Played { detail, saw: site.saw(), emitted })
}

pub(super) fn holds(store: &Store, sql: &str) -> bool {
    store.read_blocking("look", |c| c.query_row(sql, [], |row| row.get(0))).unwrap()
}

pub(super) async fn until(runner: &Runner, holds: impl Fn() -> bool) {
    let mut changes = runner.changes();
    let wait = async {
        while !holds() {
            drop(tokio::time::timeout(Duration::from_millis(20), changes.changed()).await);
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("what was waited for comes");
}

fn emitted(c: &rusqlite::Connection) -> rusqlite::Result<Vec<String>> {
    let mut all = c.prepare("SELECT body FROM ledger WHERE fact = 'event-emitted' ORDER BY seq")?;
    let kinds = all.query_map([], |row| {
        let entry: Value = serde_json::from_slice(&row.get::<_, Vec<u8>>(0)?).unwrap();
        Ok(entry["kind"].as_str().unwrap_or_default().to_owned())
    })?;
    kinds.collect()
}

/// Whether the found is what was written: objects may have more, a text may go on where `*` stands.
fn fits(written: &Value, found: &Value) -> bool {
    match (written, found) {
        (Value::Object(written), Value::Object(found)) => {
            written.iter().all(|(key, value)| found.get(key).is_some_and(|found| fits(value, found)))
        }
        (Value::Array(written), Value::Array(found)) => {
            written.len() == found.len() && written.iter().zip(found).all(|(written, found)| fits(written, found))
        }
        (Value::String(written), Value::String(found)) => {
            written.strip_suffix('*').map_or(written == found, |start| found.starts_with(start))
        }
        _ => written == found,
    }
}

/// What is not as it is written in the table.
fn judge(example: &Example, played: Result<Played, String>) -> Result<(), String> {
    let Played { detail, saw, emitted } = match (played, &example.refused) {
        (Ok(played), None) => played,
        (Err(why), Some(wanted)) if why.contains(wanted) => return Ok(()),
        (Err(why), _) => return Err(format!("{}: is refused: {why}", example.file)),
        (Ok(_), Some(_)) => return Err(format!("{}: is not refused", example.file)),
    };
    let told = || {
        format!(
            "{}: {} output {:?} error {:?} saw {saw:#?}",
            example.file, detail.summary.status, detail.output, detail.error
        )
    };
    let no_engine = json!({ "status": 400, "type": "https://serverlessworkflow.io/spec/1.0.0/errors/configuration" });
    let error = if example.container { Some(&no_engine) } else { example.error.as_ref() };
    let ends = match (&example.output, error) {
        (Some(output), None) => detail.output.as_ref().is_some_and(|found| fits(output, found)),
        (None, Some(error)) => detail.error.as_ref().is_some_and(|found| fits(error, found)),
        (None, None) => example.open && detail.summary.status == "cancelled",
        (Some(_), Some(_)) => return Err(format!("{}: expected one of output and error", example.file)),
    };
    let is_seen = example.saw.as_ref().is_none_or(|wanted| *wanted == saw);
    if ends && is_seen && example.emits == emitted { Ok(()) } else { Err(told()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_does_what_it_says() {
    let Some(folder) = kit::folder("examples") else { return };
    let table = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap();
    let table: Vec<Example> = serde_yaml_ng::from_str(&table).unwrap();
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    let mut known: Vec<&str> = table.iter().map(|example| example.file.as_str()).collect();
    known.sort_unstable();
    assert_eq!(files, known, "each document has one entry in {TABLE}");
    let mut wrong = Vec::new();
    for example in &table {
        let text = std::fs::read_to_string(folder.join(&example.file)).unwrap();
        wrong.extend(judge(example, play(example, &text).await).err());
    }
    let containers = table.iter().filter(|example| example.container).count();
    let refused = table.iter().filter(|example| example.refused.is_some()).count();
    let executed = table.len() - containers - refused;
    println!("{executed} documents executed, {containers} need a container, {refused} are refused for what they say");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
