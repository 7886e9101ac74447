//! A node whose embedder was changed: the one before serves until the new index is complete, whichever it was.

use models::embed::default_embedder;
use shared::digest::Digest;

use super::{
    kept::kept_as,
    shelf::{Turned, files},
    *,
};
use crate::testing::until;

/// A memory whose embedder was another one before, which is loaded again if it may be.
fn open_after(dir: tempfile::TempDir, chosen: &Arc<Turned>, may_load: bool) -> Site {
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let origin = Some(chosen.name().to_owned());
    let recall = move |origin: &str| -> Result<Arc<dyn Embedder>, String> {
        let (true, "turned by 7") = (may_load, origin) else { return Err(format!("no room for {origin}")) };
        let before = Turned::by(7, "");
        before.open();
        Ok(before)
    };
    let chosen = Arc::clone(chosen) as Arc<dyn Embedder>;
    let embedders = Embedders { chosen, origin, recall: Box::new(recall) };
    let memory = Memory::open_in(&dir.path().join("indexes"), store, embedders);
    Site { dir, memory }
}

/// What was embedded by the one before, and is to be embedded anew; each of the two presses waits for the test.
async fn embedded_before() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let files = ["a", "b"].map(|name| (format!("documents/manuals/{name}.md"), PRESS));
    write(dir.path(), &files.each_ref().map(|(path, text)| (path.as_str(), *text)));
    write(dir.path(), &[("documents/manuals/pump.md", PUMP)]);
    let before = Turned::by(7, "");
    before.open();
    let site = open_after(dir, &before, false);
    site.refresh().await;
    let Site { dir, memory } = site;
    drop(memory);
    until("the memory has ended", || Arc::strong_count(&before) == 1).await;
    dir
}

fn served_by(site: &Site) -> Option<Digest> {
    site.memory.inner.indexes().get("manuals").map(|served| served.index.embedder())
}

async fn note(site: &Site) {
    let text = "The motor overheats when the sun shines on it.";
    let input = json!({"index": "manuals", "id": "sun", "text": text});
    kept_as("run:/do/0/keep", site, "remember", input, DataClass::Public).await.expect("kept");
}

/// Documents that are found without a word of theirs.
async fn found(site: &Site) -> BTreeSet<String> {
    let input = json!({"index": "manuals", "query": "engine gets too hot"});
    let done = site.call("retrieve", input).await.expect("found");
    let passages = done.output["passages"].as_array().expect("a list").clone();
    passages.iter().map(|passage| passage["document"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn whichever_embedder_was_before_serves_until_the_switch_and_finds_what_came_meanwhile() {
    let mut dir = embedded_before().await;
    let (old, new) = (Digest::of(b"turned by 7"), Digest::of(b"turned by 11"));
    let all: BTreeSet<String> = ["a.md", "b.md", "remembered:sun"].map(str::to_owned).into();
    // Killed twice before it is done; the second start finds the new text in the store alone, with a vector of the new embedder.
    for round in 0..2 {
        let chosen = Turned::by(11, "Cooling");
        let site = open_after(dir, &chosen, true);
        site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
        until("the old index is written", || files(&site).len() == 1 && served_by(&site).is_some()).await;
        assert_eq!((served_by(&site), site.memory.status().borrow().is_busy), (Some(old), true));
        if round == 0 {
            note(&site).await;
        }
        let holds = || site.memory.inner.indexes()["manuals"].index.len();
        let stored = || site.memory.inner.indexes()["manuals"].roster.ids().count();
        until("all is in the index that serves", || holds() == stored()).await;
        assert_eq!(found(&site).await, all, "round {round}");
        assert_eq!(site.memory.inner.former.count(), 1);
        drop(site.memory);
        chosen.open();
        until("the memory has ended", || Arc::strong_count(&chosen) == 1).await;
        dir = site.dir;
    }
    let chosen = Turned::by(11, "");
    chosen.open();
    let site = open_after(dir, &chosen, true);
    site.refresh().await;
    assert_eq!((served_by(&site), found(&site).await), (Some(new), all));
    assert_eq!(site.memory.inner.former.count(), 0, "its memory is given back");
    assert_eq!(files(&site).len(), 0, "the old index is gone, the new one small");
}

#[tokio::test]
async fn without_the_embedder_before_words_find_all_and_meaning_what_is_embedded_again() {
    let dir = embedded_before().await;
    let chosen = Turned::by(11, "Cooling");
    let site = open_after(dir, &chosen, false);
    site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
    until("it is loaded", || served_by(&site).is_some()).await;
    note(&site).await;
    assert_eq!(found(&site).await, BTreeSet::from(["remembered:sun".to_owned()]));
    assert_eq!(site.places("dusty filter").await[0], "Press 3 > Cooling", "by its words");
    chosen.open();
    site.refresh().await;
    assert_eq!(found(&site).await.len(), 3);
}

#[tokio::test]
async fn the_built_in_embedder_serves_until_the_switch_though_nobody_noted_where_it_is() {
    let Site { dir, memory } = site(&[("documents/manuals/a.md", PRESS)]).await;
    drop(memory);
    let chosen = Turned::by(11, "Cooling");
    let site = open_after(dir, &chosen, false);
    site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
    until("it is loaded", || served_by(&site).is_some()).await;
    assert_eq!(served_by(&site), Some(default_embedder().digest()));
    assert_eq!(found(&site).await, BTreeSet::from(["a.md".to_owned()]));
    chosen.open();
}
