//! What happened before: kept once, found by how similar it was and what it came to, bounded, forgotten.

use super::{kept::kept_as, *};

async fn keep(site: &Site, id: &str, text: &str, outcome: &str, class: DataClass) {
    let input = json!({
        "kind": "episode", "id": id, "text": text, "outcome": outcome, "subject": id, "details": {"path": ["look", "ask"]},
    });
    kept_as(&format!("run:/do/{id}"), site, "remember", input, class).await.expect("kept");
}

async fn look(site: &Site, more: Value) -> Completion {
    let mut input = json!({"kind": "episode", "query": "the press is too hot", "topK": 10});
    input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    kept_as("run:/do/0/look", site, "retrieve", input, DataClass::Public).await.expect("found")
}

async fn found(site: &Site, more: Value) -> Vec<String> {
    let passages = look(site, more).await.output["passages"].as_array().expect("a list").clone();
    passages.iter().map(|own| own["document"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn similar_cases_are_found_with_what_they_came_to_over_a_restart_too() {
    let site = site(&[("documents/episodes/press.md", PRESS)]).await;
    assert_eq!(found(&site, json!({"index": "none yet"})).await, [""; 0], "before the first there are none");
    keep(&site, "hot", "press-1: the motor overheats", "completed", DataClass::Public).await;
    keep(&site, "hot", "press-1: the motor overheats", "completed", DataClass::Public).await;
    keep(&site, "oil", "press-2: oil drips on the floor", "completed", DataClass::Public).await;
    keep(&site, "fan", "press-3: high temperature, a fan stands still", "faulted", DataClass::Confidential).await;
    let Site { dir, memory } = site;
    drop(memory);
    let site = open(dir).await;
    let all = found(&site, json!({})).await;
    assert_eq!(all.len(), 3, "each once, and no document among them: {all:?}");
    assert_ne!(all[2], "episode:hot");
    assert_eq!(found(&site, json!({"outcome": "faulted"})).await, ["episode:fan"]);
    assert_eq!(found(&site, json!({"outcome": ["faulted", "cancelled"], "source": "other/one"})).await, [""; 0]);
    assert_eq!(found(&site, json!({"source": "test/keep"})).await.len(), 3);
    assert!(!found(&site, json!({"clearance": {"class": "internal"}})).await.contains(&"episode:fan".to_owned()));
    let done = look(&site, json!({"outcome": "completed", "topK": 1})).await;
    let first = &done.output["passages"][0];
    assert_eq!(
        (&first["outcome"], &first["place"], &first["details"]),
        (&json!("completed"), &json!("test/keep"), &json!({"path": ["look", "ask"]}))
    );
    assert_eq!(first["text"], "Situation: press-1: the motor overheats\nPath: look, ask\nOutcome: completed");
    assert_eq!(look(&site, json!({})).await.label.class, DataClass::Confidential, "its label joins the run's");
    let plain = json!({"index": "episodes", "query": "the motor overheats"});
    let done = kept_as("run:/do/0/look", &site, "retrieve", plain, DataClass::Public).await.expect("found");
    let documents = done.output["passages"].as_array().expect("a list").clone();
    assert!(!documents.is_empty() && documents.iter().all(|own| own["document"] == "press.md"), "{documents:?}");
}

#[tokio::test]
async fn the_oldest_episodes_make_room_and_texts_are_not_counted_with_them() {
    let mut site = site(&[]).await;
    site.memory = site.memory.clone().within(toml::from_str("entries = 2").expect("limits"));
    let text = json!({"index": "episodes", "id": "a", "text": "The press was greased."});
    kept_as("run:/do/0/a", &site, "remember", text, DataClass::Public).await.expect("kept");
    for at in ["1", "2", "3"] {
        keep(&site, at, "the press is hot", "completed", DataClass::Public).await;
    }
    let mut left = found(&site, json!({})).await;
    left.sort();
    assert_eq!(left, ["episode:2", "episode:3"]);
    let list = |connection: &rusqlite::Connection| crate::store::documents::list(connection, Some("episodes"));
    let listed = site.memory.inner.store.read_blocking("list the documents", list).expect("a list");
    let outcomes: Vec<_> = listed.iter().map(|own| (own.document.as_str(), own.outcome.as_deref())).collect();
    assert_eq!(outcomes, [("episode:2", Some("completed")), ("episode:3", Some("completed")), ("remembered:a", None)]);
}

#[tokio::test]
async fn episodes_are_forgotten_by_id_by_workflow_and_by_whom_they_are_about() {
    let site = site(&[]).await;
    for id in ["a", "b", "c"] {
        keep(&site, id, "the press is hot", "completed", DataClass::Public).await;
    }
    let forget = async |more: Value| {
        let mut input = json!({"kind": "episode"});
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        kept_as("run:/do/9/go", &site, "forget", input, DataClass::Public).await.expect("gone").output["forgotten"]
            .clone()
    };
    assert_eq!(forget(json!({"id": "a"})).await, 1);
    assert_eq!(forget(json!({"subject": "b"})).await, 1);
    assert_eq!(forget(json!({"source": "test/keep"})).await, 1);
    assert_eq!(found(&site, json!({})).await, [""; 0]);
    for (function, input, told) in [
        ("remember", json!({"kind": "episode", "text": "a"}), "outcome: missing; expected what it came to"),
        ("remember", json!({"text": "a", "outcome": "b"}), "outcome: given for what has none"),
        ("remember", json!({"kind": "session", "text": "a"}), "session: missing"),
        ("retrieve", json!({"index": "a", "query": "b", "outcome": "c"}), "index: \"a\" is not an index"),
        ("retrieve", json!({"kind": "episode", "query": "b", "outcome": 1}), "an outcome, or a list of them"),
    ] {
        let error = kept_as("run:/do/0/a", &site, function, input, DataClass::Public).await.expect_err("refused").error;
        let detail = error.detail.expect("told");
        assert!(detail.contains(told), "{detail}");
    }
}
