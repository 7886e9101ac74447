//! Lifecycle events that go out to the broker.

use super::*;

/// Performs what workflows ask for, and loses each publication's first try.
#[derive(Default)]
struct Broker {
    tried: Mutex<std::collections::HashSet<String>>,
    taken: Mutex<Vec<(String, Value)>>,
}

impl Perform for Broker {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>> {
        async move {
            if call.function != "publish" {
                return Err(Failure::new(kind::COMMUNICATION, "on purpose"));
            }
            let topic = call.input["topic"].as_str().unwrap().to_owned();
            if topic.ends_with("/started") {
                return Err(Failure::new(kind::AUTHORIZATION, "no rule permits it"));
            }
            let is_first = self.tried.lock().unwrap().insert(call.key.0.clone());
            if is_first && topic.ends_with("/faulted") {
                return Err(Failure::new(kind::COMMUNICATION, "no broker"));
            }
            self.taken.lock().unwrap().push((topic, call.input["payload"].clone()));
            let facts = vec![Fact::RouteChosen { choice: format!("told {}", call.workflow), reasons: Vec::new() }];
            Ok(Outcome::Done(Completion { output: json!({}), label: call.label.clone(), facts }))
        }
        .boxed()
    }

    fn may_start(&self, _call: &Call, _workflow: &str) -> Result<Vec<Fact>, Failure> {
        Ok(Vec::new())
    }

    fn keep(&self, _workflow: &str, _label: &Label) -> Keep {
        Keep::Text
    }
}

/// What the broker got of a run that fails, and what is left in the store.
async fn told(tasks: bool) -> (Vec<(String, Value)>, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let broker = Arc::new(Broker::default());
    let body = "do: [{ s: { set: { a: 1 } } }, { e: { call: embed, with: { text: x } } }]";
    let clock = clock::Steady::by(examples::Hurried(std::time::Instant::now()), shared::time::Timestamp::default());
    let runner = Runner::open_at(store.clone(), Arc::clone(&broker) as Arc<dyn Perform>, clock).await.unwrap();
    runner.set_workflows(Digest::of(b"bundle"), vec![workflow(0, body)]).await.unwrap();
    runner.tell_lifecycle(Telling { topic: "site/runs".to_owned(), tasks });
    runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap();
    let all_told = "SELECT NOT EXISTS (SELECT 1 FROM outlet) AND NOT EXISTS (SELECT 1 FROM run WHERE ended_at IS NULL)";
    examples::until(&runner, || examples::holds(&store, all_told)).await;
    runner.close().await;
    let taken = broker.taken.lock().unwrap().clone();
    (taken, store.clone())
}

#[tokio::test]
async fn what_becomes_of_runs_is_published_in_order_and_until_it_is_out() {
    let (taken, store) = told(false).await;
    let topics: Vec<&str> = taken.iter().map(|(topic, _)| topic.as_str()).collect();
    // That it started may not be told; that it faulted was told at the second try.
    assert_eq!(
        topics,
        [
            "site/runs/test/w0/workflow/status-changed",
            "site/runs/test/w0/workflow/faulted",
            "site/runs/test/w0/workflow/status-changed"
        ]
    );
    let event = &taken[1].1;
    assert_eq!(
        (&event["type"], &event["specversion"]),
        (&json!("io.serverlessworkflow.workflow.faulted.v1"), &json!("1.0"))
    );
    assert_eq!(event["data"]["error"]["instance"], "/do/1/e");
    let facts = |c: &rusqlite::Connection| {
        c.query_row("SELECT count(*) FROM ledger WHERE fact = 'route-chosen'", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(store.read("look", facts).await.unwrap(), 3, "what went out is in the ledger");
}

#[tokio::test]
async fn tasks_are_told_where_that_is_wanted() {
    let (taken, _) = told(true).await;
    let of_tasks: Vec<&str> =
        taken.iter().filter_map(|(topic, _)| topic.strip_prefix("site/runs/test/w0/task/")).collect();
    assert_eq!(of_tasks, ["created", "completed", "created", "faulted"]);
}
