//! What workflows keep: texts that `retrieve` finds, and records.

use super::*;

/// Performs with data of this class; the rules permit everything.
async fn kept(site: &Site, function: &str, input: Value, class: DataClass) -> Result<Completion, Failure> {
    kept_as("run:/do/0/keep", site, function, input, class).await
}

/// The same for an effect with a key of its own.
pub(super) async fn kept_as(
    key: &str,
    site: &Site,
    function: &str,
    input: Value,
    class: DataClass,
) -> Result<Completion, Failure> {
    let label = Label { class, ..Label::default() };
    let now = clock::now();
    let call = Call {
        key: EffectKey(key.to_owned()),
        run: RunId::derive(now, b"test"),
        task: "/do/0/keep".to_owned(),
        workflow: "test/keep:1.0.0".to_owned(),
        function: function.to_owned(),
        input,
        label: label.clone(),
        deadline: None,
        agent: None,
        asked_at: now,
        ahead_us: 0,
    };
    let memory = &site.memory;
    let (action, target) = match function {
        "remember" => (Action::Remember, memory.kept_in(&call)?),
        "forget" => (Action::Remember, memory.forgotten_in(&call)?),
        "follow" => (Action::Remember, memory.followed_in(&call)?),
        "retrieve" => (Action::Retrieve, memory.target(&call)?),
        "query" => (Action::Query, memory.collection(&call)?),
        _ => (Action::Upsert, memory.collection(&call)?),
    };
    let (workflow, node_jurisdiction) = ("test/keep".to_owned(), "CH".to_owned());
    let request = Request { action, workflow, agent: None, target, label, node_jurisdiction };
    let permit = PolicySet::default_rules().decide(&request).expect("what stays on the node is permitted");
    match function {
        "remember" => memory.remember(&call, permit, Keep::Digest).await,
        "forget" => memory.forget(&call, permit, Keep::Text).await,
        "follow" => memory.follow(&call, permit, Keep::Text).await,
        "retrieve" => memory.retrieve(&call, permit, Keep::Digest).await,
        "query" => memory.query(&call, permit, Keep::Text).await,
        _ => memory.upsert(&call, permit, Keep::Text).await,
    }
}

async fn public(site: &Site, function: &str, input: Value) -> Value {
    kept(site, function, input, DataClass::Public).await.expect("a good end").output
}

async fn wrong(site: &Site, function: &str, input: Value) -> (u16, String) {
    let error = kept(site, function, input, DataClass::Public).await.expect_err("a bad end").error;
    (error.status, error.detail.unwrap_or_default())
}

async fn found(site: &Site, query: &str) -> Vec<(String, String)> {
    let done = public(site, "retrieve", json!({"index": "notes", "query": query})).await;
    let passages = done["passages"].as_array().expect("a list").clone();
    let text = |passage: &Value, key: &str| passage[key].as_str().expect("a text").to_owned();
    passages.iter().map(|passage| (text(passage, "document"), text(passage, "text"))).collect()
}

#[tokio::test]
async fn a_remembered_text_is_found_whatever_bundle_comes_and_replaced_by_its_id() {
    let site = site(&[("documents/notes/press.md", PRESS)]).await;
    let keep = |id: &str, text: &str| json!({"index": "notes", "id": id, "text": text});
    assert_eq!(
        public(&site, "remember", keep("a", "The bearing of pump 7 was changed on Monday.")).await,
        json!({"id": "a"})
    );
    let first = |found: Vec<(String, String)>| found.into_iter().next().expect("something is found");
    let monday = ("remembered:a".to_owned(), "The bearing of pump 7 was changed on Monday.".to_owned());
    assert_eq!(first(found(&site, "bearing of pump 7").await), monday);
    // The bundle takes its own document away, and nothing else.
    std::fs::remove_file(site.dir.path().join("documents/notes/press.md")).expect("removed");
    site.refresh().await;
    assert_eq!(found(&site, "bearing of pump 7").await, [monday]);
    public(&site, "remember", keep("a", "The bearing of pump 7 was changed on Friday.")).await;
    let Site { dir, memory } = site;
    drop(memory);
    let site = open(dir).await;
    let friday = ("remembered:a".to_owned(), "The bearing of pump 7 was changed on Friday.".to_owned());
    assert_eq!(found(&site, "bearing of pump 7").await, [friday]);
}

#[tokio::test]
async fn texts_are_taken_away_by_id_by_source_and_by_whom_they_are_about() {
    let site = site(&[("documents/notes/press.md", PRESS)]).await;
    for (id, source, subject) in [
        ("a", Some("interviews"), Some("Mia Keller")),
        ("b", Some("interviews"), Some("Jon Frei")),
        ("c", Some("letters"), Some("Mia Keller")),
        ("d", None, None),
    ] {
        let mut input = json!({"index": "notes", "id": id, "text": format!("The bearing of pump {id} was changed.")});
        for (name, value) in [("source", source), ("subject", subject)] {
            if let Some(value) = value {
                input[name] = value.into();
            }
        }
        public(&site, "remember", input).await;
    }
    let listed = || {
        let list = |connection: &rusqlite::Connection| crate::store::documents::list(connection, Some("notes"));
        site.memory.inner.store.read_blocking("list the documents", list).expect("a list")
    };
    let names = || listed().into_iter().map(|listed| listed.document).collect::<Vec<_>>();
    let first = &listed()[1];
    assert_eq!((first.source.as_deref(), first.subject.as_deref()), (Some("interviews"), Some("Mia Keller")));
    assert!(first.kept && first.passages == 1 && first.bytes > 20, "{first:?}");
    let forget = |input: Value| public(&site, "forget", input);
    assert_eq!(
        forget(json!({"index": "notes", "subject": "Mia Keller", "source": "letters"})).await,
        json!({"forgotten": 1})
    );
    assert_eq!(names(), ["press.md", "remembered:a", "remembered:b", "remembered:d"]);
    assert_eq!(forget(json!({"index": "notes", "subject": "Mia Keller"})).await, json!({"forgotten": 1}));
    assert_eq!(forget(json!({"index": "notes", "source": "interviews"})).await, json!({"forgotten": 1}));
    let found = |found: Vec<(String, String)>| found.into_iter().map(|(document, _)| document).collect::<Vec<_>>();
    let left = found(self::found(&site, "bearing of pump b").await);
    assert!(left.iter().all(|name| name == "remembered:d" || name == "press.md"), "{left:?}");
    assert_eq!(forget(json!({"index": "notes", "id": "d"})).await, json!({"forgotten": 1}));
    assert_eq!(forget(json!({"index": "notes", "id": "d"})).await, json!({"forgotten": 0}));
    assert_eq!(names(), ["press.md"], "what the bundle brought stays");
    let (status, told) = wrong(&site, "forget", json!({"index": "notes"})).await;
    assert!(status == 400 && told.contains("expected an id, a source or a subject"), "{told}");
}

#[tokio::test]
async fn what_another_embedder_made_of_a_remembered_text_is_made_again() {
    let site = site(&[]).await;
    public(&site, "remember", json!({"index": "notes", "id": "a", "text": "The motor overheats."})).await;
    let Site { dir, memory } = site;
    drop(memory);
    let connection = rusqlite::Connection::open(dir.path().join("node.db")).expect("a store");
    connection
        .execute_batch("UPDATE memory_document SET embedder = x'00'; UPDATE memory_chunk SET vector = x''")
        .expect("changed");
    drop(connection);
    let site = open(dir).await;
    assert_eq!(found(&site, "the engine gets too hot").await.len(), 1, "no word of the text");
}

#[tokio::test]
async fn a_text_that_comes_to_too_many_passages_is_refused_and_others_are_kept() {
    let site = site(&[]).await;
    let bomb = "# a\nx\n".repeat(60_000);
    let (status, told) = wrong(&site, "remember", json!({"index": "notes", "id": "bomb", "text": bomb})).await;
    assert!(status == 400 && told.contains("text: it comes to more than 50000 passages"), "{status} {told}");
    public(&site, "remember", json!({"index": "notes", "id": "a", "text": "The pump is blue."})).await;
    assert_eq!(found(&site, "pump").await.len(), 1);
}

#[tokio::test]
async fn the_label_of_what_is_kept_comes_back_with_it() {
    let site = site(&[]).await;
    let text = json!({"index": "notes", "text": "Ms A fell in the ward."});
    kept(&site, "remember", text, DataClass::Confidential).await.expect("kept");
    let done = kept(&site, "retrieve", json!({"index": "notes", "query": "who fell"}), DataClass::Public)
        .await
        .expect("found");
    assert_eq!(done.label.class, DataClass::Confidential);
    let row = json!({"collection": "falls", "key": "id", "rows": [{"id": 1, "who": "Ms A"}]});
    kept(&site, "upsert", row, DataClass::Restricted).await.expect("written");
    let done = kept(&site, "query", json!({"collection": "falls"}), DataClass::Public).await.expect("read");
    assert_eq!(done.label.class, DataClass::Restricted);
    let Some(Fact::ToolCalled { output, .. }) = done.facts.first() else { panic!("{:?}", done.facts) };
    assert_eq!(output.text, None, "policy was asked about less");
}

#[tokio::test]
async fn records_are_written_by_their_key_and_found_by_their_fields() {
    let site = site(&[]).await;
    let rows = json!([{"id": "a", "n": 1, "on": true}, {"id": "b", "n": 2, "on": true}, {"id": "c", "n": 3}]);
    let write = |rows: Value| json!({"collection": "shifts", "key": "id", "rows": rows});
    assert_eq!(public(&site, "upsert", write(rows)).await, json!({"written": 3}));
    assert_eq!(public(&site, "upsert", write(json!([{"id": "b", "n": 9, "on": true}]))).await, json!({"written": 1}));
    for (input, expected) in [
        (json!({}), json!(["a", "b", "c"])),
        (json!({"where": {"on": true}}), json!(["a", "b"])),
        (json!({"where": {"on": null}}), json!(["c"])),
        (json!({"where": {"n": 9, "on": true}}), json!(["b"])),
        (json!({"orderBy": "n", "descending": true}), json!(["b", "c", "a"])),
        (json!({"orderBy": "n", "limit": 2}), json!(["a", "c"])),
    ] {
        let mut asked = input.clone();
        asked["collection"] = json!("shifts");
        let rows = public(&site, "query", asked).await["rows"].as_array().expect("a list").clone();
        assert_eq!(json!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>()), expected, "{input}");
    }
    assert_eq!(public(&site, "query", json!({"collection": "nothing"})).await, json!({"rows": []}));
}

#[tokio::test]
async fn a_write_that_does_not_fit_leaves_nothing_behind() {
    let site = site(&[]).await;
    let write = |rows: Value| json!({"collection": "c", "key": "id", "rows": rows});
    for (rows, expected) in [
        (json!([{"id": "a"}, {"n": 1}]), "rows[1].id: expected a text"),
        (json!([{"id": "a", "text": "x".repeat(70_000)}]), "rows[0]: 70"),
    ] {
        let (status, detail) = wrong(&site, "upsert", write(rows)).await;
        assert!(status == 400 && detail.contains(expected), "{status} {detail}");
    }
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
                INSERT INTO record SELECT 'c', 'k' || i, '{}', '{}', 0 FROM n";
    let filled = move |tx: &mut crate::store::Transaction<'_>| Ok(tx.connection().execute_batch(fill)?);
    site.memory.inner.store.write("fill", filled).await.expect("filled");
    let (status, detail) = wrong(&site, "upsert", write(json!([{"id": "one more"}]))).await;
    assert!(status == 413 && detail.contains("10001 rows; at most 10000"), "{status} {detail}");
    let more = public(&site, "query", json!({"collection": "c", "where": {"id": "one more"}})).await;
    assert_eq!(more, json!({"rows": []}));
    let (status, detail) = wrong(&site, "query", json!({"collection": "c", "where": {"a": [1]}})).await;
    assert!(status == 400 && detail.contains("where.a: expected a text, number"), "{detail}");
}
