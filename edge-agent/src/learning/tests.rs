//! `train` on a store: what takes over, what stays behind, what a repeat changes, and what people are told.

use std::sync::Arc;

use edge_core::{
    engine::effect::{Call, Completion, EffectKey, Failure, Keep},
    signal::{config::Detector, learned::Sample},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use shared::{
    id::RunId,
    label::{DataClass, Label},
    policy::{Action, PolicySet, Request},
    time::Timestamp,
};

use super::{
    book::{self, Name, Rule},
    *,
};
use crate::store::Store;

fn name(device: &str) -> Name {
    let [feed, detector, channel] = ["press", "odd", "temperature"].map(str::to_owned);
    Name { feed, detector, device: device.to_owned(), channel }
}

fn rule() -> Rule {
    let json = r#"{"name":"odd","kind":"learned","step":"1m","length":8,"falseAlarmEvery":"2d","coolDown":"10m"}"#;
    let detector: Detector = serde_json::from_str(json).expect("a detector");
    Rule::of(&detector).expect("it learns")
}

/// Swings once in 24 samples around 40, with noise of this size.
fn swinging(indexes: std::ops::Range<i64>, noise: f64) -> Vec<Sample> {
    let value = |index: i64| {
        let turn = f64::from(i32::try_from(index % 24).expect("small")) / 24.0;
        let rough = f64::from(i32::try_from(index.wrapping_mul(7_919) % 101).expect("small")) / 50.0 - 1.0;
        40.0 + 10.0 * (turn * std::f64::consts::TAU).sin() + noise * rough
    };
    indexes.map(|index| Sample { index, value: value(index) }).collect()
}

struct Node {
    _dir: tempfile::TempDir,
    store: Store,
    learning: Learning,
}

async fn node() -> Node {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    Node { _dir: dir, learning: Learning::new(store.clone()), store }
}

fn label() -> Label {
    Label { class: DataClass::Confidential, ..Label::default() }
}

impl Node {
    async fn heard(&self, device: &str, samples: Vec<Sample>) {
        let name = name(device);
        let keep = move |tx: &mut crate::store::Transaction<'_>| {
            Ok(book::keep(tx.connection(), &name, &rule(), &label(), &samples)?)
        };
        assert!(self.store.write("keep", keep).await.expect("kept"), "there is room");
    }

    async fn train(&self, key: &str, more: Value) -> Result<Completion, Failure> {
        let mut input = json!({ "feed": "press", "detector": "odd" });
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let call = Call {
            key: EffectKey(key.to_owned()),
            run: RunId::derive(Timestamp::from_millis(0), b"test"),
            task: "/do/0/learn".to_owned(),
            workflow: "plant/learn:1.0.0".to_owned(),
            function: "train".to_owned(),
            input,
            label: Label::default(),
            deadline: None,
            agent: None,
            asked_at: Timestamp::from_millis(0),
            ahead_us: 0,
        };
        let request = Request {
            action: Action::Train,
            workflow: "plant/learn".to_owned(),
            agent: None,
            target: Learning::target(&call)?,
            label: Label::default(),
            node_jurisdiction: "CH".to_owned(),
        };
        let permit = PolicySet::default_rules().decide(&request).expect("the default rules permit it");
        self.learning.train(&call, permit, Keep::Text).await
    }

    async fn trained(&self, key: &str, more: Value) -> Value {
        let done = self.train(key, more).await.expect("it trains");
        done.output["models"][0].clone()
    }

    async fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.store.read("look", query).await.expect("it reads")
    }

    async fn ledger(&self) -> i64 {
        self.look(|c| c.query_row("SELECT count(*) FROM ledger WHERE fact = 'detector-trained'", [], |row| row.get(0)))
            .await
    }

    /// The version that judges.
    async fn judges(&self) -> Option<i64> {
        self.look(book::learners).await[0].chosen
    }
}

fn refused(trained: Result<Completion, Failure>) -> String {
    trained.expect_err("refused").error.detail.expect("a sentence")
}

#[tokio::test]
async fn the_first_sound_model_takes_over_and_a_repeat_makes_no_second() {
    let node = node().await;
    node.heard("a", swinging(0..2_000, 0.2)).await;
    let done = node.train("run:/do/0", json!({})).await.expect("it trains");
    assert_eq!(done.label, label(), "what was learned from the feed carries its label");
    let told = &done.output["models"][0];
    assert_eq!((&told["version"], &told["tookOver"], &told["device"]), (&json!(1), &json!(true), &json!("a")));
    let report = &told["report"];
    assert!(report["new"]["error"].as_f64() < report["new"]["naiveError"].as_f64(), "{report}");
    assert!(report["loss"].as_f64() < report["lossAtFirst"].as_f64(), "{report}");
    assert_eq!(report["samples"], 2_000);
    assert_eq!(node.trained("run:/do/0", json!({})).await, *told, "asked again, it says the same");
    assert_eq!((node.ledger().await, node.judges().await), (1, Some(1)));
    let chosen = node.look(book::chosen).await;
    let model = chosen[0].1.clone();
    let model = node.look(move |c| book::model(c, &model)).await.expect("the model is there");
    assert_eq!(model.traits().shape, rule().shape);
    let function = shared::workflow::catalog::function("train").expect("a function");
    let schema = shared::workflow::catalog::Schema::compile(function.output()).expect("a schema");
    assert_eq!(schema.mismatches(&done.output), []);
}

#[tokio::test]
async fn a_model_that_is_no_better_stays_behind_and_people_may_choose_it_and_go_back() {
    let node = node().await;
    node.heard("a", swinging(0..2_000, 0.2)).await;
    node.trained("one", json!({})).await;
    let again = node.trained("two", json!({})).await;
    assert_eq!((&again["version"], &again["tookOver"]), (&json!(2), &json!(false)), "{again}");
    assert_eq!(again["report"]["previousVersion"], 1);
    assert_eq!(node.judges().await, Some(1));
    node.trained("three", json!({ "version": 2 })).await;
    assert_eq!(node.judges().await, Some(2));
    node.trained("four", json!({ "back": true })).await;
    assert_eq!(node.judges().await, Some(1));
    node.trained("four", json!({ "back": true })).await;
    assert_eq!(node.judges().await, Some(1), "asked again after a kill, it goes back once");
    assert_eq!(node.ledger().await, 4);
    let detail = refused(node.train("five", json!({ "version": 9 })).await);
    assert!(detail.contains("a/temperature has no version 9; there is [2, 1]"), "{detail}");
}

#[tokio::test]
async fn a_model_of_another_time_gives_way_to_one_that_knows_the_new_ways() {
    let node = node().await;
    node.heard("a", swinging(0..2_000, 0.1)).await;
    node.trained("one", json!({})).await;
    // From now on it swings twice as fast: what was learned is wrong.
    let faster = swinging(0..4_400, 0.1).into_iter().step_by(2).zip(2_000..);
    node.heard("a", faster.map(|(sample, index)| Sample { index, ..sample }).collect()).await;
    let next = node.trained("two", json!({ "span": "PT36H" })).await;
    assert_eq!((&next["tookOver"], &next["version"]), (&json!(true), &json!(2)), "{next}");
    let (new, previous) = (&next["report"]["new"], &next["report"]["previous"]);
    assert!(new["error"].as_f64() < previous["error"].as_f64(), "{next}");
    assert_eq!(node.judges().await, Some(2));
    let kept = node.trained("three", json!({ "span": "PT36H", "takeOver": "always", "kind": "reconstruct" })).await;
    assert_eq!((&kept["tookOver"], &kept["report"]["kind"]), (&json!(true), &json!("reconstruct")), "{kept}");
}

#[tokio::test]
async fn few_versions_are_kept_and_the_one_that_judges_always_is() {
    let node = node().await;
    node.heard("a", swinging(0..400, 0.2)).await;
    for round in 0..9 {
        let never = if round == 0 { "always" } else { "never" };
        node.trained(&format!("{round}"), json!({ "takeOver": never, "seed": round })).await;
    }
    let learners = node.look(book::learners).await;
    let versions = node.look(move |c| book::versions(c, &learners[0])).await;
    let kept: Vec<i64> = versions.iter().map(|version| version.version).collect();
    assert_eq!(kept, [9, 8, 7, 6, 5, 1]);
    assert!(versions[5].is_chosen);
}

#[tokio::test]
async fn what_cannot_be_trained_says_why() {
    let node = node().await;
    let detail = refused;
    assert!(detail(node.train("k", json!({})).await).contains("press/odd has no history"));
    node.heard("a", swinging(0..100, 0.2)).await;
    let short = detail(node.train("k", json!({})).await);
    assert!(
        short.contains("train of /do/0/learn: the history has 100 samples of 1m: expected at least 216"),
        "{short}"
    );
    let other = detail(node.train("k", json!({ "device": "b" })).await);
    assert!(other.contains("device: no such series has a history; there is a/temperature"), "{other}");
    assert!(detail(node.train("k", json!({ "timeLimit": "PT2H" })).await).contains("at most PT1H"));
    assert!(detail(node.train("k", json!({ "span": "soon" })).await).contains("span: \"soon\" is no ISO 8601"));
    // Among several, one that is too young keeps nobody from learning.
    node.heard("b", swinging(0..2_000, 0.2)).await;
    let both = node.train("k", json!({})).await.expect("it trains").output;
    assert_eq!(
        (&both["models"][0]["tookOver"], &both["models"][1]["tookOver"]),
        (&json!(false), &json!(true)),
        "{both}"
    );
}

#[tokio::test]
async fn the_history_is_bounded_and_begins_anew_with_another_step() {
    let node = node().await;
    node.heard("a", swinging(0..12_000, 0.2)).await;
    let id = node.look(book::learners).await[0].id;
    let length = move |c: &Connection| Ok((book::history(c, id, None)?.len(), book::history(c, id, Some(60))?.len()));
    assert_eq!(node.look(length).await, (10_080, 60));
    let mut other = rule();
    other.shape.step *= 2;
    let keep = move |tx: &mut crate::store::Transaction<'_>| {
        Ok(book::keep(tx.connection(), &name("a"), &other, &label(), &swinging(0..5, 0.2))?)
    };
    assert!(node.store.write("keep", keep).await.expect("kept"));
    assert_eq!(node.look(length).await, (5, 5));
}

#[tokio::test]
async fn a_damaged_model_is_no_model() {
    let node = node().await;
    node.heard("a", swinging(0..400, 0.2)).await;
    let told = node.trained("one", json!({ "takeOver": "always" })).await;
    let digest: Arc<str> = told["model"].as_str().expect("a digest").into();
    let spoil = |tx: &mut crate::store::Transaction<'_>| {
        Ok(tx.connection().execute("UPDATE detector_model SET weights = substr(weights, 1, 300)", [])?)
    };
    node.store.write("spoil", spoil).await.expect("spoilt");
    assert_eq!(node.look(move |c| book::model(c, &digest)).await, None);
    let next = node.trained("two", json!({})).await;
    assert_eq!(next["tookOver"], true, "it is compared with nothing: {next}");
}
