//! Retrieval over real small documents, with the built-in embedder and a store on disk.

use edge_core::engine::effect::{Completion, EffectKey, Keep};
use serde_json::{Value, json};
use shared::{
    id::RunId,
    label::{DataClass, Label},
    ledger::entry::Fact,
    policy::{Action, PolicySet, Request},
    time::Timestamp,
};

use super::*;

mod episodes;
mod filters;
mod follow;
mod former;
mod gone;
mod judged;
mod kept;
mod lasting;
mod queue;
mod ranked;
mod scripts;
mod sessions;
mod shelf;
mod unrelated;

const PRESS: &str = "# Press 3\n\nGeneral notes on the machine.\n\n## Cooling\n\nIf the motor overheats, look at the fan first. A \
                     blocked fan or a dusty filter is the usual reason for high temperatures.\n\n## Lubrication\n\nUse oil ISO VG \
                     46. Change it after 2000 hours of operation.\n\n## Electrical cabinet\n\nThe main switch is on the left door. \
                     Spare fuses lie in the drawer.\n";
const PUMP: &str = "# Pump P-7\n\nAlarm code E4711 means that the pressure sensor is disconnected. Plug in connector X12 and \
                    restart.\n\n## Seals\n\nA leaking seal shows as drops below the housing.\n";

struct Site {
    dir: tempfile::TempDir,
    memory: Memory,
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
}

async fn open(dir: tempfile::TempDir) -> Site {
    open_with(dir, models::embed::default_embedder()).await
}

async fn open_with(dir: tempfile::TempDir, embedder: Arc<dyn Embedder>) -> Site {
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let memory = Memory::open_in(&dir.path().join("indexes"), store, embedder);
    let site = Site { dir, memory };
    site.refresh().await;
    site
}

async fn site(files: &[(&str, &str)]) -> Site {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), files);
    open(dir).await
}

impl Site {
    /// Reads the bundle's folder again and waits until the indexes are in step.
    async fn refresh(&self) {
        self.memory.set_content(Content::read(self.dir.path()).expect("a valid bundle"));
        let mut status = self.memory.status();
        let settled = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| !status.is_busy)).await;
        assert_eq!(settled.expect("in time").expect("alive").failed, [""; 0]);
    }

    async fn call(&self, function: &str, input: Value) -> Result<Completion, Failure> {
        self.call_until(None, function, input).await
    }

    async fn call_until(
        &self,
        deadline: Option<Timestamp>,
        function: &str,
        input: Value,
    ) -> Result<Completion, Failure> {
        let now = clock::now();
        let call = Call {
            key: EffectKey("run:/do/0/look".to_owned()),
            run: RunId::derive(now, b"test"),
            task: "/do/0/look".to_owned(),
            workflow: "test/look:1.0.0".to_owned(),
            function: function.to_owned(),
            input,
            label: Label::default(),
            deadline,
            agent: None,
            asked_at: now,
            ahead_us: 0,
        };
        let target = match function {
            "remember" => self.memory.kept_in(&call)?,
            _ => self.memory.target(&call)?,
        };
        let request = Request {
            action: match function {
                "remember" => Action::Remember,
                "retrieve" => Action::Retrieve,
                "rerank" => Action::Rerank,
                _ => Action::Classify,
            },
            workflow: "test/look".to_owned(),
            agent: None,
            target,
            label: Label::default(),
            node_jurisdiction: "CH".to_owned(),
        };
        let permit = PolicySet::default_rules().decide(&request).expect("the default rules permit it for open data");
        match function {
            "remember" => self.memory.remember(&call, permit, Keep::Text).await,
            "retrieve" => self.memory.retrieve(&call, permit, Keep::Text).await,
            "rerank" => self.memory.rerank(&call, permit, Keep::Digest).await,
            "embed" => self.memory.embed(&call, permit, Keep::Digest).await,
            _ => self.memory.classify(&call, permit, Keep::Text).await,
        }
    }

    async fn places(&self, query: &str) -> Vec<String> {
        let done = self.call("retrieve", json!({"index": "manuals", "query": query})).await.expect("found");
        let passages = done.output["passages"].as_array().expect("a list").clone();
        passages.iter().map(|passage| passage["place"].as_str().expect("a place").to_owned()).collect()
    }

    fn documents(&self) -> Vec<(i64, String)> {
        let connection = crate::store::open_read_only(&self.dir.path().join("node.db")).expect("readable");
        let mut query = connection.prepare("SELECT id, path FROM memory_document ORDER BY path").expect("a query");
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    }
}

#[tokio::test]
async fn a_passage_is_found_by_its_word_and_by_its_meaning() {
    let site = site(&[("documents/manuals/press.md", PRESS), ("documents/manuals/pump.md", PUMP)]).await;
    assert_eq!(site.places("E4711").await[0], "Pump P-7", "a code that no embedder knows");
    assert_eq!(site.places("the engine gets too hot").await[0], "Press 3 > Cooling", "no word of the text");
    assert_eq!(site.places("fluid escapes from the pump").await[0], "Pump P-7 > Seals");
    let done =
        site.call("retrieve", json!({"index": "manuals", "query": "which oil", "topK": 1})).await.expect("found");
    let passage = &done.output["passages"][0];
    assert_eq!((&passage["document"], &passage["place"]), (&json!("press.md"), &json!("Press 3 > Lubrication")));
    let Some(Fact::Retrieved { index, hits, .. }) = done.facts.first() else { panic!("{:?}", done.facts) };
    assert_eq!((index.as_str(), hits.len(), hits[0].document.as_str()), ("manuals", 1, "press.md"));
}

#[tokio::test]
async fn the_label_of_what_was_found_joins_the_runs() {
    let label = "class: restricted\norigins: [DE]\npersonal: true\n";
    let site = site(&[
        ("documents/manuals/press.md", PRESS),
        ("documents/manuals/staff/label.yaml", label),
        ("documents/manuals/staff/shifts.txt", "Anna Keller works the night shift on Tuesday."),
    ])
    .await;
    let ask = |query: &str| json!({"query": query, "topK": 1});
    let done = site.call("retrieve", ask("who works the night shift")).await.expect("found");
    assert_eq!((done.label.class, done.label.personal), (DataClass::Restricted, true));
    let done = site.call("retrieve", ask("which oil ISO VG")).await.expect("found");
    assert_eq!((done.label.class, done.label.personal), (DataClass::Internal, false));
}

#[tokio::test]
async fn nothing_is_found_that_the_clearance_does_not_cover() {
    let label = "class: restricted\norigins: [DE]\npersonal: true\n";
    let site = site(&[
        ("documents/manuals/press.md", PRESS),
        ("documents/manuals/staff/label.yaml", label),
        ("documents/manuals/staff/shifts.txt", "Anna Keller works the night shift on Tuesday. She oils the press."),
    ])
    .await;
    let found = async |clearance: Value| {
        let input =
            json!({"query": "who works the night shift and oils the press", "topK": 10, "clearance": clearance});
        let done = site.call("retrieve", input).await.expect("found");
        let passages = done.output["passages"].as_array().expect("a list").clone();
        let documents = passages.iter().map(|passage| passage["document"].as_str().expect("a name").to_owned());
        (documents.collect::<BTreeSet<_>>(), done.label.class, passages[0]["label"].clone())
    };
    let (documents, class, label) = found(json!({"class": "internal"})).await;
    assert_eq!((documents.into_iter().collect::<Vec<_>>(), class), (vec!["press.md".to_owned()], DataClass::Internal));
    assert_eq!(label, json!({"class": "internal", "origins": [], "personal": false}));
    let (documents, class, label) = found(json!({"class": "restricted", "origins": ["DE"], "personal": true})).await;
    assert_eq!((documents.len(), class, &label["origins"]), (2, DataClass::Restricted, &json!(["DE"])));
    let none = json!({"query": "oil", "clearance": {"class": "public"}});
    let done = site.call("retrieve", none).await.expect("an answer");
    assert_eq!((done.output, done.label), (json!({"passages": [], "fits": false}), Label::default()));
}

#[tokio::test]
async fn the_label_of_the_cases_joins_the_runs_and_their_words_stay_out_of_the_ledger() {
    let case = json!({"text": "Ms A fell in the ward", "label": "fall of Ms A"}).to_string();
    let label = "class: confidential\norigins: [CH]\npersonal: true\n";
    let site = site(&[("cases/ward.jsonl", &case), ("cases/ward.label.yaml", label)]).await;
    let done = site.call("classify", json!({"text": "a fall", "cases": "ward", "k": 1})).await.expect("known");
    assert_eq!((done.label.class, done.label.personal), (DataClass::Confidential, true));
    let told = serde_json::to_string(&done.facts).expect("plain data");
    assert!(!told.contains("Ms A"), "{told}");
}

#[tokio::test]
async fn a_refresh_embeds_what_changed_and_forgets_what_is_gone() {
    let site = site(&[
        ("documents/manuals/press.md", PRESS),
        ("documents/manuals/pump.md", PUMP),
        ("documents/old/notes.txt", "Obsolete."),
    ])
    .await;
    let before = site.documents();
    write(site.dir.path(), &[("documents/manuals/pump.md", "# Pump\n\nAlarm E9 means low voltage.\n")]);
    std::fs::remove_dir_all(site.dir.path().join("documents/old")).expect("removed");
    site.refresh().await;
    let after = site.documents();
    assert_eq!(after.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), ["press.md", "pump.md"]);
    assert!(before.contains(&after[0]), "press.md is the row that it was");
    assert!(!before.contains(&after[1]));
    assert_eq!(site.places("E9").await[0], "Pump");
    assert!(!site.places("E4711").await.iter().any(|place| place == "Pump P-7"));
    let failure = site.call("retrieve", json!({"index": "old", "query": "a"})).await.expect_err("gone");
    assert!(
        failure
            .error
            .detail
            .is_some_and(|d| d.contains("index: \"old\" is not an index of this node; it has [manuals]"))
    );
}

#[tokio::test]
async fn what_is_stored_is_found_again_after_a_restart_without_embedding() {
    let Site { dir, memory } = site(&[("documents/manuals/press.md", PRESS)]).await;
    drop(memory);
    let again = open(dir).await;
    let before = again.documents();
    assert_eq!(again.places("the engine gets too hot").await[0], "Press 3 > Cooling");
    again.refresh().await;
    assert_eq!(again.documents(), before);
}

#[tokio::test]
async fn a_text_is_classified_by_the_cases_of_the_bundle_or_by_its_own() {
    let cases = [
        ("the fan is blocked and the motor is hot", "cooling"),
        ("filter full of dust, temperature rises", "cooling"),
        ("oil drips from the seal", "leak"),
        ("water below the pump housing", "leak"),
    ];
    let lines: Vec<String> =
        cases.iter().map(|(text, label)| json!({"text": text, "label": label}).to_string()).collect();
    let site = site(&[("cases/cause.jsonl", &lines.join("\n"))]).await;
    let done = site
        .call("classify", json!({"text": "a drop of oil on the floor", "cases": "cause", "k": 3}))
        .await
        .expect("known");
    assert_eq!((&done.output["label"], done.output["neighbours"].as_array().map(Vec::len)), (&json!("leak"), Some(3)));
    let own = json!([{"text": "yes of course", "label": "yes"}, {"text": "no never", "label": "no"}]);
    let done = site.call("classify", json!({"text": "never", "cases": own, "k": 1})).await.expect("known");
    assert_eq!(done.output["label"], "no");
    assert_eq!(done.label, Label::default(), "its own cases have the run's label");
    let failure = site.call("classify", json!({"text": "a", "cases": "effect"})).await.expect_err("unknown");
    assert!(
        failure
            .error
            .detail
            .is_some_and(|detail| detail.contains("cases: \"effect\" is not a set of this bundle; it has cause"))
    );
}

#[tokio::test]
async fn texts_become_vectors_and_mistakes_name_their_field() {
    let site = site(&[]).await;
    let done = site.call("embed", json!({"texts": ["a pump", "a fan"]})).await.expect("embedded");
    assert_eq!(done.output["vectors"].as_array().map(Vec::len), Some(2));
    for (function, input, expected) in [
        ("embed", json!({}), "text: give either text or texts"),
        ("embed", json!({"text": " "}), "text: empty"),
        ("embed", json!({"texts": ["a pump", ""]}), "texts[1]: empty"),
        ("retrieve", json!({"query": "a"}), "index: missing; this node has []"),
        ("retrieve", json!({"index": "a", "qery": "b"}), "unknown field `qery`"),
        ("classify", json!({"text": "a", "cases": []}), "cases: cannot classify without cases"),
        ("classify", json!({"text": "a", "cases": 5}), "the name of a set in cases/"),
    ] {
        let failure = site.call(function, input.clone()).await.expect_err("wrong");
        let detail = failure.error.detail.unwrap_or_default();
        assert!(detail.contains(expected), "{input} gave {detail}");
    }
}

#[tokio::test]
async fn passages_are_put_in_the_order_of_how_well_they_answer() {
    let site = site(&[]).await;
    let passages = json!([
        {"text": "Compressors need clean air. The filter is changed every 500 hours.", "document": "a.md"},
        {"text": "Pumps need no priming. Seal kit SK-40 fits the main cylinder of the press.", "document": "b.md", "score": 0.1},
    ]);
    let input = json!({"query": "Which seal kit fits the press cylinder?", "passages": passages, "topK": 1});
    let output = site.call("rerank", input).await.expect("ranked").output;
    assert_eq!(output["passages"].as_array().map(Vec::len), Some(1));
    assert_eq!(output["passages"][0]["document"], "b.md");
    assert!(output["passages"][0]["score"].as_f64().is_some_and(|score| score > 0.3), "{output}");
    let none = site.call("rerank", json!({"query": "x", "passages": []})).await.expect("ranked").output;
    assert_eq!(none, json!({"passages": []}));
    let empty = site.call("rerank", json!({"query": "x", "passages": [{"text": " "}]})).await.expect_err("no text");
    assert!(empty.error.detail.is_some_and(|detail| detail.contains("passages[0].text: empty")));
}
