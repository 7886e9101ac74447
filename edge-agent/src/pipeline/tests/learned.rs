//! A node that learns: its history, a model that takes over at a checkpoint, and a kill between a finding and the next one.

use edge_core::engine::effect::{Call, EffectKey, Keep};
use serde_json::json;
use shared::{
    id::RunId,
    policy::{Action, PolicySet, Request},
    time::Timestamp,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    feed::ingest::{Acknowledge, Incoming, Passed},
    learning::{Learning, book},
    pipeline::{live::Live, worker::Worker},
};

const FEEDS: &str = r#"
feeds:
  - name: press
    topic: plant/+/temperature
    decode:
      device: topic[1]
      channel: topic[2]
      value: /value
      time: { from: /timestamp, format: "YYYY-MM-DD hh:mm:ss" }
    detectors:
      - { name: hot, kind: limits, low: 20, high: 60 }
      - name: odd
        kind: learned
        step: 1m
        length: 8
        falseAlarmEvery: 7d
        coolDown: 10m
        fallback: { kind: limits, low: 0, high: 100 }
"#;

struct Taken;

impl Acknowledge for Taken {
    fn taken(&self, _tickets: &[u64]) {}
}

/// Tells of each event as it is delivered.
struct Tells(mpsc::UnboundedSender<Event>);

impl Deliver for Tells {
    fn deliver(
        &self,
        events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        events.into_iter().for_each(|(event, _)| drop(self.0.send(event)));
        Box::pin(async { Ok(()) })
    }
}

/// Swings once in 24 minutes around 40, with noise; it stands still from the given minute on for a quarter of an hour.
fn value(minute: i64, still_from: i64) -> f64 {
    let at = if (still_from..still_from + 15).contains(&minute) { still_from } else { minute };
    let turn = f64::from(i32::try_from(at % 24).expect("small")) / 24.0;
    let rough = f64::from(i32::try_from(at.wrapping_mul(7_919) % 101).expect("small")) / 250.0;
    40.0 + 10.0 * (turn * std::f64::consts::TAU).sin() + rough
}

struct Node {
    dir: tempfile::TempDir,
    store: Store,
    feeds: Arc<Feeds>,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("node.db")).expect("the store opens");
        Self { dir, store, feeds: Arc::new(Feeds::parse("feeds.yaml", FEEDS).expect("feeds")) }
    }

    /// Brings the readings of these minutes into the journal. What the pipeline would get of it, and the journal's end
    /// before and after.
    async fn hear(&self, minutes: std::ops::Range<i64>, still_from: i64) -> (mpsc::Receiver<Passed>, [i64; 2]) {
        let opened = Ingest::open(self.store.clone(), Arc::clone(&self.feeds));
        let (ingest, door, _control, passed) = opened.expect("the journal opens");
        let before = ingest.last();
        for minute in minutes.clone() {
            let at = Timestamp::from_micros(minute * 60_000_000);
            let shown = at.to_string();
            let (day, hour) = (&shown[..10], &shown[11..19]);
            let payload = format!(r#"{{"timestamp":"{day} {hour}","value":{}}}"#, value(minute, still_from));
            let (topic, sender) = ("plant/press/temperature".to_owned(), "s".into());
            let receipt = Some((Arc::new(Taken) as Arc<dyn Acknowledge>, minute.unsigned_abs()));
            let (received, payload) = (at, payload.into());
            let incoming =
                Incoming { topic, payload, received, dup: false, sender, packet_id: 1, receipt, cut_from: None };
            door.bring(incoming).await.expect("open");
        }
        drop(door);
        ingest.run().await;
        let count = i64::try_from(minutes.count()).expect("few");
        (passed, [before, before + count])
    }

    async fn worker(&self) -> (Worker, mpsc::UnboundedReceiver<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        let (live, _snapshots) = Live::new();
        let (store, node, feeds) = (self.store.clone(), "hamburg".parse().expect("a name"), Arc::clone(&self.feeds));
        let worker = Worker::load(store, node, feeds, Arc::new(Tells(sender)), live, CancellationToken::new()).await;
        (worker.expect("the place is read"), events)
    }

    /// Takes these minutes, to an orderly end.
    async fn take(&self, minutes: std::ops::Range<i64>) -> Vec<Event> {
        let (passed, [before, _]) = self.hear(minutes, i64::MAX - 100).await;
        let (worker, mut events) = self.worker().await;
        worker.run(passed, before).await;
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    async fn train(&self) -> serde_json::Value {
        let call = Call {
            key: EffectKey("run:/do/0".to_owned()),
            run: RunId::derive(Timestamp::from_millis(0), b"test"),
            task: "/do/0/learn".to_owned(),
            workflow: "plant/learn:1.0.0".to_owned(),
            function: "train".to_owned(),
            input: json!({ "feed": "press", "detector": "odd" }),
            label: Label::default(),
            deadline: None,
            agent: None,
            asked_at: Timestamp::from_millis(0),
            ahead_us: 0,
        };
        let (target, label) = (Learning::target(&call).expect("a target"), Label::default());
        let (workflow, node_jurisdiction) = ("plant/learn".to_owned(), "CH".to_owned());
        let request = Request { action: Action::Train, workflow, agent: None, target, label, node_jurisdiction };
        let permit = PolicySet::default_rules().decide(&request).expect("permitted");
        let done = Learning::new(self.store.clone()).train(&call, permit, Keep::Text).await.expect("it trains");
        done.output["models"][0].clone()
    }

    /// The model that judges, by the last checkpoint.
    fn judges(&self) -> serde_json::Value {
        let state: String =
            look(self.dir.path(), |c| c.query_row("SELECT CAST(state AS TEXT) FROM series", [], |row| row.get(0)));
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        state["watches"]["odd"]["memory"]["learned"]["model"].clone()
    }
}

/// Runs the worker until it has told of something, and kills it before it has saved its place.
async fn killed_after_a_finding(node: &Node, passed: mpsc::Receiver<Passed>, last: i64) -> Event {
    let (worker, mut events) = node.worker().await;
    let mut running = Box::pin(worker.run(passed, last));
    let told = async {
        tokio::select! {
            () = &mut running => panic!("it ended without a finding"),
            event = events.recv() => event.expect("an event"),
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("in time")
}

#[tokio::test]
async fn a_trained_model_takes_over_survives_a_kill_and_finds_what_limits_do_not() {
    let node = Node::new();
    assert_eq!(node.take(0..2_000).await, []);
    let history = look(node.dir.path(), |c| book::history(c, 1, None));
    assert_eq!(history.len(), 1_999, "each minute that is over");
    assert_eq!(node.judges(), serde_json::Value::Null);
    let told = node.train().await;
    assert_eq!(told["tookOver"], true, "{told}");
    assert_eq!(node.judges(), serde_json::Value::Null, "until the next checkpoint");
    assert_eq!(node.take(2_000..2_200).await, []);
    assert_eq!(node.judges(), told["model"]);

    // It stands still, well within the limits. The node dies right after the finding, and before its next checkpoint.
    let (passed, [before, after]) = node.hear(2_200..2_300, 2_250).await;
    let position =
        || look(node.dir.path(), |c| c.query_row("SELECT position FROM journal_state", [], |row| row.get(0)));
    let saved: i64 = position();
    let first = killed_after_a_finding(&node, passed, before).await;
    assert_eq!(position(), saved, "nothing was saved before the kill");
    let minute = first.time.expect("a time").as_micros() / 60_000_000;
    assert!((2_250..2_270).contains(&minute), "{first:?}");
    let data = first.data.clone().expect("data");
    assert_eq!((&data["detector"], &data["feed"]), (&json!("odd"), &json!("press")));

    let (worker, mut events) = node.worker().await;
    let (nothing, passed) = mpsc::channel(1);
    drop(nothing);
    worker.run(passed, after).await;
    let again: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    assert_eq!(again.first(), Some(&first), "told again, the same to the last bit");
    assert!(again.iter().all(|event| event.data.as_ref().is_some_and(|data| data["detector"] == "odd")), "{again:?}");
}
