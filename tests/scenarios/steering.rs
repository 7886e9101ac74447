//! People start, suspend, resume, cancel and retry runs of a real agent, by its command line and its API; and a document
//! runs once with no agent at all.

use std::{path::Path, time::Duration};

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use tests::{
    agent::{Agent, Setup, site},
    binaries,
    mqtt::Client,
    net,
    process::{self, Process},
    wait,
};

use crate::outcome::ledger;

const BOUND: Duration = Duration::from_secs(60);

/// Publishes, asks a person, and then a server that may not be there.
fn check(port: u16) -> String {
    format!(
        "document: {{ dsl: '1.0.3', namespace: line, name: check, version: '1.0.0' }}\ndo:\n\
         - first: {{ call: publish, with: {{ topic: checks/first, payload: {{ n: '${{ .n }}' }} }} }}\n\
         - ask: {{ call: approve, with: {{ role: maintenance, title: 'Go on?', proposal: {{ step: 2 }} }} }}\n\
         - last: {{ call: http, with: {{ method: get, endpoint: 'http://127.0.0.1:{port}/last' }} }}\n"
    )
}

#[tokio::test]
async fn people_steer_runs_by_command_line_and_api_and_the_ledger_says_who() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site("tests/scenarios/sites/line", folder.path());
    let port = net::free_port();
    std::fs::write(site.join("workflows/check.yaml"), check(port)).expect("a workflow");
    let mut agent = Agent::new(folder.path(), &Setup::new("line", &site));
    agent.start().await;
    let plant = Client::connect("plant", agent.mqtt).await;
    plant.subscribe("checks/#").await;
    let mia = Operator::new(&agent, "Mia Keller", "operator").await;
    let other = Operator::new(&agent, "Jon Frei", "maintenance").await;

    // Start: a name that is nearly right, a person who may not, and then.
    let near = mia.cli(&agent, &["start", "line/chek"]).await;
    assert_eq!((near.code(), near.err.contains("did you mean line/check?")), (3, true), "{}", near.err);
    let stranger = other.cli(&agent, &["start", "line/check"]).await;
    assert!(stranger.code() == 1 && stranger.err.contains("is for the role operator"), "{}", stranger.err);
    let run = mia.act(&agent, &["start", "line/check", "--input", r#"{"n": 1}"#, "--comment", "a trial"]).await;
    status(&agent, &run, "waiting").await;
    let shown = agent.json(&["runs", &run]).await;
    assert_eq!((&shown["note"], &shown["tasks"][0]["input"]), (&json!("waits for maintenance"), &json!({"n": 1})));

    // Suspended by the API, across a kill; the answer that comes meanwhile is kept and nothing follows.
    assert_eq!(mia.post(&agent, &run, "suspend").await.0, 200);
    agent.kill();
    agent.start().await;
    let question = agent.json(&["approve"]).await[0]["approval"].as_str().expect("a question").to_owned();
    other.answers(&agent, &question).await;
    let (code, refusal) = mia.post(&agent, &run, "suspend").await;
    assert!(code == 409 && refusal["error"].as_str().is_some_and(|why| why.contains("rests already")), "{refusal}");
    assert_eq!(agent.json(&["runs", "--status", "suspended"]).await[0]["run"], json!(run));
    mia.act(&agent, &["resume", &run]).await;
    let failed = status(&agent, &run, "faulted").await;
    assert!(failed["note"].as_str().is_some_and(|note| note.contains("communication")), "{failed}");
    the_path_is_drawn(&agent, &run, &check(port)).await;

    // Retried from the task that failed, by a slip of its name first; what was done before is not done again.
    let slip = mia.cli(&agent, &["retry", &run, "--from", "lsat"]).await;
    assert!(slip.code() == 2 && slip.err.contains("did you mean /do/2/last?"), "{}", slip.err);
    serve(port).await;
    let again = mia.act(&agent, &["retry", &run, "--from", "last"]).await;
    let done = status(&agent, &again, "completed").await;
    assert_eq!(
        (&done["output"], &done["trigger"]),
        (&json!("done"), &json!(format!("retry of {run} from /do/2/last")))
    );
    assert_eq!(plant.received().iter().filter(|(topic, _)| topic == "checks/first").count(), 1);

    // Cancelled, once.
    let unwanted = mia.act(&agent, &["start", "line/check", "--input", r#"{"n": 2}"#]).await;
    status(&agent, &unwanted, "waiting").await;
    mia.act(&agent, &["cancel", &unwanted]).await;
    status(&agent, &unwanted, "cancelled").await;
    assert_eq!(agent.json(&["approve"]).await, json!([]), "its question is closed");
    let late = mia.cli(&agent, &["cancel", &unwanted]).await;
    assert!(late.code() == 2 && late.err.contains("has ended"), "{}", late.err);
    let none = mia.cli(&agent, &["resume", "01J00000000000000000000000"]).await;
    assert!(none.code() == 3 && none.err.contains("there is no run 01J0"), "{}", none.err);

    let steered: Vec<Value> = ledger(&agent).await.into_iter().filter(|entry| entry["fact"] == "run-steered").collect();
    let told = |entry: &Value| ["act", "by", "role", "place"].map(|key| entry[key].as_str().unwrap_or("").to_owned());
    let mia = |act: &str, place: &str| [act, "Mia Keller", "operator", place].map(str::to_owned);
    let line = "command line";
    let expected =
        [("start", line), ("suspend", "api"), ("resume", line), ("retry", line), ("start", line), ("cancel", line)];
    assert_eq!(steered.iter().map(told).collect::<Vec<_>>(), expected.map(|(act, place)| mia(act, place)));
    agent.stop().await;
}

#[tokio::test]
async fn a_document_runs_once_without_an_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::new(folder.path(), &Setup::new("line", &site("tests/scenarios/sites/line", folder.path())));
    agent.start().await;
    let plant = Client::connect("plant", agent.mqtt).await;
    plant.subscribe("checks/#").await;
    let port = net::free_port();
    serve(port).await;
    let desk = folder.path().join("desk");
    std::fs::create_dir_all(&desk).expect("a folder");
    std::fs::write(desk.join("check.yaml"), check(port)).expect("a workflow");
    std::fs::write(desk.join("input.json"), r#"{"n": 7}"#).expect("an input");
    let broker = format!("mqtt://127.0.0.1:{}", agent.mqtt);

    let said = run(&desk, &["check.yaml", "--input", "@input.json", "--yes", "--broker", &broker]).await;
    assert_eq!((said.code(), said.out.trim()), (0, "\"done\""), "{}", said.err);
    let message = plant.receives("the message", BOUND, |topic, _| topic == "checks/first").await;
    assert_eq!(message["n"], 7);
    for line in
        ["> /do/0/first (publish)  {\"n\":7}", "? it asks maintenance: Go on?: approved", "< /do/2/last  \"done\""]
    {
        assert!(said.err.contains(line), "{line}\n{}", said.err);
    }
    let whole = run(&desk, &["check.yaml", "--yes", "--broker", &broker, "--json"]).await;
    assert_eq!((whole.printed()["tasks"][1]["function"].as_str(), whole.err.as_str()), (Some("approve"), ""));
    let asked = run(&desk, &["check.yaml", "--broker", &broker]).await;
    assert!(asked.code() == 2 && asked.err.contains("give --yes or --no"), "{}", asked.err);
    let alone = run(&desk, &["check.yaml"]).await;
    assert!(alone.code() == 1 && alone.err.contains("check.yaml:3:3: /do/0/first: "), "{}", alone.err);
    assert!(alone.err.contains("give --broker"), "{}", alone.err);

    std::fs::write(desk.join("broken.yaml"), check(port).replace("call: http", "call: htpp")).expect("a workflow");
    let broken = run(&desk, &["broken.yaml"]).await;
    assert!(broken.code() == 2 && broken.err.contains("broken.yaml:5:"), "{}", broken.err);
    what_is_wrong_is_a_list_for_programs(&desk).await;
    let head = "document: { dsl: '1.0.3', namespace: line, name: more, version: '1.0.0' }\n";
    let shell = "do: [{ s: { run: { shell: { command: 'echo $((6 * 7))' } } } }]\n";
    std::fs::write(desk.join("shell.yaml"), format!("{head}{shell}")).expect("a workflow");
    // Processes of workflows never run as root.
    let is_root = std::process::Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let allowed = run(&desk, &["shell.yaml", if is_root { "--allow-run=nobody" } else { "--allow-run" }]).await;
    assert!(allowed.code() == 0 && allowed.out.contains("42"), "{}{}", allowed.out, allowed.err);

    std::fs::write(desk.join("wait.yaml"), format!("{head}do: [{{ w: {{ wait: PT1H }} }}]\n")).expect("a workflow");
    let mut command = binaries::command("edge-agent");
    command.args(["workflow", "run", "wait.yaml"]).current_dir(&desk);
    let mut waiting = Process::start("desk", &mut command, folder.path());
    waiting.says("? waits until", BOUND).await;
    waiting.interrupt();
    assert_eq!(waiting.end(BOUND).await.code(), Some(130));
    agent.stop().await;
}

/// A file that is not there keeps none of the others from being looked at.
async fn what_is_wrong_is_a_list_for_programs(desk: &Path) {
    let check = async |arguments: &[&str]| {
        let mut command = binaries::command("edge-agent");
        command.args(["workflow", "check"]).args(arguments).current_dir(desk);
        process::run(&mut command, Duration::from_secs(120)).await
    };
    let told = check(&["none.yaml", "broken.yaml", "check.yaml", "--json"]).await;
    let problems: Value = serde_json::from_str(&told.out).expect("a list of problems");
    let files: Vec<_> = problems.as_array().expect("a list").iter().map(|problem| problem["file"].clone()).collect();
    assert_eq!((told.code(), files), (2, vec![json!("none.yaml"), json!("broken.yaml")]), "{}", told.err);
    assert_eq!((&problems[1]["line"], &problems[1]["field"]), (&json!(5), &json!("/do/2/last/call")));
    let good = check(&["check.yaml", "--json"]).await;
    assert_eq!((good.code(), good.out.trim()), (0, "[]"));
    let plain = check(&["none.yaml", "check.yaml"]).await;
    assert!(plain.code() == 2 && plain.out.contains("check.yaml: good: line/check"), "{}{}", plain.out, plain.err);
}

/// The path of the faulted run over its workflow: as text and as a picture, from what the run keeps and from the file.
async fn the_path_is_drawn(agent: &Agent, run: &str, workflow: &str) {
    let desk = tempfile::tempdir().expect("a folder");
    let file = desk.path().join("check.yaml");
    std::fs::write(&file, workflow).expect("a workflow");
    let chart = agent.cli(&["runs", run, "--draw"]).await;
    assert_eq!(chart.code(), 0, "{}", chart.err);
    assert!(chart.out.contains("\nflowchart "), "{}", chart.out);
    assert!(chart.out.contains("class t1,t2 completed\n") && chart.out.contains("class t3 faulted"), "{}", chart.out);
    let picture = agent.cli(&["runs", run, "--draw=svg"]).await.out;
    assert!(picture.starts_with("<svg") && picture.contains("<style>"), "{picture}");
    for (class, times) in [("box call completed", 2), ("box call faulted", 1), ("way taken", 3)] {
        assert_eq!(picture.matches(&format!("class=\"{class}\"")).count(), times, "{class}: {picture}");
    }
    let named = file.display().to_string();
    let out = file.with_file_name("run.svg").display().to_string();
    let drawn = agent.cli(&["workflow", "draw", &named, "--run", run, "--out", &out]).await;
    assert_eq!((drawn.code(), drawn.out.as_str()), (0, ""), "{}", drawn.err);
    assert_eq!(std::fs::read_to_string(&out).expect("a picture").trim_end(), picture.trim_end());
    let plain = agent.cli(&["workflow", "draw", &named]).await;
    assert!(plain.out.contains("\nflowchart ") && !plain.out.contains("faulted\n"), "{}", plain.out);
    let other = file.with_file_name("other.yaml");
    std::fs::write(&other, workflow.replace("Go on?", "Go?")).expect("another version");
    let refused = agent.cli(&["workflow", "draw", &other.display().to_string(), "--run", run]).await;
    assert!(refused.code() == 2 && refused.err.contains(&format!("`edge-agent runs {run} --draw`")), "{}", refused.err);
    let unknown = agent.cli(&["workflow", "draw", &named, "--run", "01J00000000000000000000000"]).await;
    assert!(unknown.code() == 3 && unknown.err.contains("there is no run 01J0"), "{}", unknown.err);
}

async fn run(folder: &Path, arguments: &[&str]) -> process::Said {
    let mut command = binaries::command("edge-agent");
    command.args(["workflow", "run"]).args(arguments).current_dir(folder);
    process::run(&mut command, Duration::from_secs(120)).await
}

async fn serve(port: u16) {
    let app = Router::new().route("/last", get(|| async { Json("done") }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    tokio::spawn(async move { axum::serve(listener, app).await });
}

/// Waits until a run has this status; the run in full.
async fn status(agent: &Agent, run: &str, status: &str) -> Value {
    wait::until(&format!("{run} to be {status}"), BOUND, async || {
        Some(agent.json(&["runs", run]).await).filter(|run| run["status"] == status)
    })
    .await
}

/// Somebody on the node's list.
struct Operator {
    name: String,
    /// The file with their secret.
    secret: String,
}

impl Operator {
    async fn new(agent: &Agent, name: &str, role: &str) -> Self {
        let secret = agent.approver(name, role).await.display().to_string();
        Self { name: name.to_owned(), secret }
    }

    async fn cli(&self, agent: &Agent, act: &[&str]) -> process::Said {
        let who = ["--as", &self.name, "--secret-file", &self.secret];
        agent.cli(&[&["runs"], act, &who].concat()).await
    }

    /// Does it, and gives the run that the ledger's entry names.
    async fn act(&self, agent: &Agent, act: &[&str]) -> String {
        let entry = self.cli(agent, &[act, &["--json"]].concat()).await.json();
        entry["run"].as_str().expect("the entry names the run").to_owned()
    }

    async fn post(&self, agent: &Agent, run: &str, act: &str) -> (u16, Value) {
        let secret = std::fs::read_to_string(&self.secret).expect("the secret");
        let body = json!({ "act": act, "by": self.name, "secret": secret });
        let url = agent.url(&format!("/api/v1/runs/{run}"));
        let said = net::http().post(url).bearer_auth(agent.token()).json(&body).send().await.expect("it answers");
        (said.status().as_u16(), said.json().await.unwrap_or(Value::Null))
    }

    async fn answers(&self, agent: &Agent, question: &str) {
        agent.answers_question(question, "--yes", &self.name, Path::new(&self.secret)).await.ok();
    }
}
