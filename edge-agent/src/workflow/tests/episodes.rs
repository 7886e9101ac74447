//! Ended runs that are kept as episodes, through the engine and the node's own rooms.

use shared::policy::PolicySet;

use super::{rooms::ended, *};
use crate::{
    action::{self, config::Calls},
    inference::Inference,
    memory::{Memory, documents::Content},
    store::documents,
};

const ADVISE: &str = include_str!("../../../../demo/press/site/workflows/advise.yaml");

fn site() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/press/site")
}

/// The node over what a folder holds; what was open before goes on.
async fn node(dir: &tempfile::TempDir, rules: PolicySet, workflows: Vec<Arc<Workflow>>) -> (Store, Runner) {
    let store = Store::open(&path(dir)).unwrap();
    let memory = Memory::open(store.clone(), models::embed::default_embedder());
    memory.set_content(Content::read(&site()).unwrap());
    let broker =
        action::Broker { host: "127.0.0.1".to_owned(), port: 1, login: None, tls: None, client_id: "test".to_owned() };
    let inference = Inference::new(Vec::new(), &models::catalog::Digests::default());
    let action = action::Action::new(broker, Calls::default());
    let rooms = Rooms::new(inference, memory, action, Arc::new(rules), "CH".to_owned());
    let runner = Runner::open(store.clone(), Arc::new(rooms)).await.unwrap();
    runner.set_workflows(Digest::of(b"bundle"), workflows).await.unwrap();
    (store, runner)
}

fn asking(body: &str, episodes: &str) -> Arc<Workflow> {
    let head = "document: { dsl: '1.0.3', namespace: test, name: w0, version: '0.1.0', metadata: { episodes: ";
    Arc::new(Workflow::parse("w0.yaml", &format!("{head}{episodes} }} }}\n{body}\n")).unwrap())
}

/// What is kept, when nothing is on its way any more.
async fn kept(store: &Store) -> Vec<documents::Listed> {
    let none_due = |c: &rusqlite::Connection| {
        c.query_row("SELECT NOT EXISTS (SELECT 1 FROM episode_due)", [], |row| row.get::<_, bool>(0))
    };
    let begun = std::time::Instant::now();
    while !store.read("look", none_due).await.unwrap() {
        assert!(begun.elapsed() < PATIENCE, "an episode is still due");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.read("look", |c| documents::list(c, Some("episodes"))).await.unwrap()
}

async fn begin(runner: &Runner, workflow: &str, input: Value) -> RunId {
    runner.start(workflow, input, Label::default(), person()).await.unwrap().run.unwrap()
}

/// Answers the one question that is open.
async fn answer(store: &Store, runner: &Runner, verdict: Verdict) -> PendingApproval {
    let begun = std::time::Instant::now();
    let question = loop {
        let open = store.read("look", runs::approvals_pending).await.unwrap();
        if let Some(question) = open.into_iter().next() {
            break question;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody is asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let answer = Answer {
        approval: question.approval,
        shown: question.shown,
        verdict,
        by: "Ada".to_owned(),
        authority: Authority::Roles(vec!["operator".to_owned()]),
        comment: Some("the pump first".to_owned()),
        place: "page".to_owned(),
    };
    runner.decide_approval(answer).await.unwrap();
    question
}

#[tokio::test]
async fn what_was_done_and_said_before_is_an_example_for_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let advise = || vec![Arc::new(Workflow::parse("advise.yaml", ADVISE).unwrap())];
    let (store, runner) = node(&dir, PolicySet::default_rules(), advise()).await;
    let hot = json!({"machine": "press-1", "symptom": "the temperature of the coolant is too high"});
    for (verdict, like) in [(Verdict::Rejected, 0), (Verdict::Approved, 1)] {
        let run = begin(&runner, "plant/advise", hot.clone()).await;
        let question = answer(&store, &runner, verdict).await;
        assert_eq!(question.proposal.unwrap()["like"].as_array().unwrap().len(), like);
        let detail = ended(&store, &runner, run).await;
        assert_eq!(detail.output.unwrap()["examples"], like, "{:?}", detail.error);
        kept(&store).await;
    }
    // The node is off and on again.
    runner.close().await;
    let (store, runner) = node(&dir, PolicySet::default_rules(), advise()).await;
    let run =
        begin(&runner, "plant/advise", json!({"machine": "press-2", "symptom": "coolant temperature high"})).await;
    let question = answer(&store, &runner, Verdict::Approved).await.proposal.unwrap();
    let mut outcomes: Vec<_> =
        question["like"].as_array().unwrap().iter().map(|case| case["outcome"].clone()).collect();
    outcomes.sort_by_key(Value::to_string);
    assert_eq!(outcomes, [json!("completed"), json!("rejected")]);
    let detail = ended(&store, &runner, run).await;
    let asked = detail.tasks.iter().find(|task| task.name == "advise").unwrap();
    assert_eq!(asked.status.name(), "completed");
    let before = detail.tasks.iter().find(|task| task.name == "before").unwrap().output.clone().unwrap();
    let text = before["passages"][0]["text"].as_str().unwrap();
    for line in [
        "Situation: press-1: the temperature of the coolant is too high",
        "Answers: operator ",
        " by Ada (the pump first)",
        "Path: case, before, manuals, advise, decide",
    ] {
        assert!(text.contains(line), "{text} lacks {line}");
    }
    let all = kept(&store).await;
    let about: Vec<_> = all.iter().map(|own| own.subject.as_deref().unwrap()).collect();
    assert_eq!(about, ["press-1", "press-1", "press-2"]);
    assert!(all.iter().all(|own| own.source.as_deref() == Some("plant/advise") && own.expires_in_s.is_some()));
}

#[tokio::test]
async fn a_run_that_fails_is_kept_with_its_error_and_label_and_once_over_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let fails = asking(
        "do: [{ say: { set: { a: 1 } } }, { stop: { raise: { error: { type: 'https://e.example/worn', status: 500, detail: the belt is worn } } } }]",
        "true",
    );
    let (store, runner) = node(&dir, PolicySet::default_rules(), vec![Arc::clone(&fails)]).await;
    let label = Label { class: DataClass::Confidential, ..Label::default() };
    let run = runner.start("test/w0", json!({"noise": "loud"}), label, person()).await.unwrap().run.unwrap();
    ended(&store, &runner, run).await;
    let first = kept(&store).await;
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].document.as_str(), first[0].label.class),
        (format!("episode:{run}").as_str(), DataClass::Confidential)
    );
    assert_eq!(first[0].outcome.as_deref(), Some("faulted"));
    let details =
        |c: &rusqlite::Connection| c.query_row("SELECT details FROM memory_episode", [], |row| row.get::<_, String>(0));
    let details: Value = serde_json::from_str(&store.read("look", details).await.unwrap()).unwrap();
    assert_eq!((&details["path"], &details["error"]["detail"]), (&json!(["say", "stop"]), &json!("the belt is worn")));
    // The node dies when the memory has it and the runner has not heard: it is given again.
    runner.close().await;
    let again = format!("INSERT INTO episode_due (run) VALUES ('{run}')");
    store.write("note", move |tx| Ok(tx.connection().execute_batch(&again)?)).await.unwrap();
    drop((store, runner));
    let (store, runner) = node(&dir, PolicySet::default_rules(), vec![fails]).await;
    let second = kept(&store).await;
    assert_eq!((second.len(), &second[0].document), (1, &first[0].document));
    runner.close().await;
}

#[tokio::test]
async fn policy_decides_what_is_kept_and_says_so_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "@id(\"all\") permit (principal, action, resource); @id(\"no-episodes\") forbid (principal, action == \
        Action::\"remember\", resource == Target::\"episodes\");";
    let rules = PolicySet::parse(&[("p.cedar".to_owned(), rules.to_owned())]).unwrap();
    let (store, runner) =
        node(&dir, rules, vec![asking("do: [{ say: { set: { a: 1 } } }]", "{ situation: '${ .b }' }")]).await;
    let run = begin(&runner, "test/w0", json!({"b": "quiet"})).await;
    ended(&store, &runner, run).await;
    assert_eq!(kept(&store).await, []);
    let refused = |c: &rusqlite::Connection| {
        c.query_row("SELECT count(*) FROM ledger WHERE fact = 'policy-decided'", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(store.read("look", refused).await.unwrap(), 1);
    runner.close().await;
}

#[test]
fn what_a_document_says_of_episodes_is_checked_with_the_rest() {
    let told = |episodes: &str| {
        let head = "document: { dsl: '1.0.3', namespace: test, name: w0, version: '0.1.0', metadata: { episodes: ";
        let text = format!("{head}{episodes} }} }}\ndo: [{{ s: {{ set: {{ a: 1 }} }} }}]\n");
        Workflow::parse("w0.yaml", &text).expect_err(episodes).to_string()
    };
    for (episodes, expected) in [
        ("1", "expected true, or an object with index, situation, subject and keepFor"),
        ("{ situatoin: a }", "unknown field `situatoin`, expected one of `index`, `situation`, `subject`, `keepFor`"),
        ("{ keepFor: 30 days }", "found \"30 days\", expected a span of time such as P30D"),
        ("{ situation: '${ .a | nothing }' }", "the expression does not compile"),
        ("{ subject: '${ $context.a }' }", "`$context` is not known here"),
    ] {
        let told = told(episodes);
        assert!(told.contains(expected) && told.contains("w0.yaml:1:"), "{told}");
    }
}
