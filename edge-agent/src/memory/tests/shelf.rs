//! Vector indexes in files: mapped at the next start, made again when they cannot be trusted, replaced when the embedder is.

use std::{os::unix::fs::FileExt as _, path::PathBuf};

use shared::digest::Digest;

use super::*;
use crate::testing::{Door, SOON, until};

/// A manual with more sections than an index takes without a merge.
pub(super) fn manual(machine: &str) -> String {
    let section =
        |number: usize| format!("## Step {number}\n\n{machine} {number}: turn the valve {} times.\n\n", number % 7);
    format!("# {machine}\n\n{}{PRESS}", (0..1_100).map(section).collect::<String>())
}

pub(super) fn files(site: &Site) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(site.dir.path().join("indexes")).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn is_merged(site: &Site) -> bool {
    let indexes = site.memory.inner.indexes.read().expect("no thread panicked");
    indexes.get("manuals").is_some_and(|served| served.index.is_merged())
}

async fn merged(site: &Site) {
    until("the index is merged", || is_merged(site)).await;
}

fn reopen(Site { dir, memory }: Site, embedder: Arc<dyn Embedder>) -> Site {
    drop(memory);
    open_with(dir, embedder)
}

fn open_with(dir: tempfile::TempDir, embedder: Arc<dyn Embedder>) -> Site {
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let memory = Memory::open_in(&dir.path().join("indexes"), store, embedder);
    Site { dir, memory }
}

async fn is_found(site: &Site) {
    assert_eq!(site.places("engine gets too hot").await[0], "Press 3 > Cooling", "no word of the text");
}

#[tokio::test]
async fn a_merged_index_is_mapped_at_the_next_start_and_follows_what_changed_meanwhile() {
    let site = site(&[("documents/manuals/press.md", &manual("Press"))]).await;
    merged(&site).await;
    is_found(&site).await;
    let site = reopen(site, models::embed::default_embedder());
    // Without a merge: nothing but the file can have made it so.
    merged(&site).await;
    assert!(site.memory.inner.merging.lock().expect("no thread panicked").is_none());
    is_found(&site).await;

    write(site.dir.path(), &[("documents/manuals/pump.md", PUMP)]);
    site.refresh().await;
    let site = reopen(site, models::embed::default_embedder());
    site.refresh().await;
    assert!(!is_merged(&site), "two sections are not worth a merge");
    assert_eq!(site.places("fluid escapes from the pump").await[0], "Pump P-7 > Seals");
    std::fs::remove_file(site.dir.path().join("documents/manuals/press.md")).expect("removed");
    site.refresh().await;
    merged(&site).await;
    assert_eq!(site.places("fluid escapes from the pump").await[0], "Pump P-7 > Seals");
}

#[tokio::test]
async fn an_index_that_is_damaged_or_of_another_store_is_made_again() {
    let site = site(&[("documents/manuals/press.md", &manual("Press"))]).await;
    merged(&site).await;
    let file = files(&site).pop().expect("a file");
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes[300] ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    let site = reopen(site, models::embed::default_embedder());
    site.refresh().await;
    is_found(&site).await;
    merged(&site).await;
    assert_ne!(std::fs::read(&file).expect("readable"), bytes);

    let Site { dir, memory } = site;
    drop(memory);
    for file in ["node.db", "node.db-wal", "node.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    write(dir.path(), &[("documents/manuals/press.md", &manual("Lathe"))]);
    let site = open(dir).await;
    assert_eq!(site.places("turn the valve of the lathe").await.len(), 4);
    merged(&site).await;
    let connection = crate::store::open_read_only(&site.dir.path().join("node.db")).expect("readable");
    let sql = "SELECT count(*) FROM memory_chunk";
    let stored: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("a count");
    let indexed = site.memory.inner.indexes.read().expect("no thread panicked")["manuals"].index.len();
    assert_eq!((i64::try_from(indexed), stored > 1_100), (Ok(stored), true));
}

/// Spoils each true vector in the file of an index that is served.
fn spoil(site: &Site) {
    let file = files(site).pop().expect("a file");
    let len = std::fs::metadata(&file).expect("a file").len();
    let (count, dimensions) = {
        let indexes = site.memory.inner.indexes();
        (indexes["manuals"].index.len() as u64, indexes["manuals"].index.dimensions() as u64)
    };
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).expect("a file");
    for row in 1..=count {
        let (at, mut byte) = (len - row * (4 * dimensions + 4), [0]);
        file.read_exact_at(&mut byte, at).expect("readable");
        file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    }
}

/// How many true vectors the index gives.
fn readable(site: &Site) -> usize {
    let indexes = site.memory.inner.indexes();
    let index = &indexes["manuals"].index;
    index.ids().filter(|id| index.vector(*id).is_ok_and(|vector| vector.is_some())).count()
}

#[tokio::test]
async fn vectors_that_are_damaged_while_they_serve_come_again_from_the_store_and_words_find_meanwhile() {
    let site = site(&[("documents/manuals/press.md", &manual("Press"))]).await;
    merged(&site).await;
    let count = || site.memory.inner.indexes()["manuals"].index.len();
    let all = count();
    spoil(&site);
    assert_eq!(readable(&site), 0);
    assert_eq!(site.places("dusty filter").await[0], "Press 3 > Cooling", "by its words, at once");
    until("all vectors are there again", || count() == all).await;
    is_found(&site).await;
    merged(&site).await;
    is_found(&site).await;

    // A merge is the first to meet it.
    spoil(&site);
    write(site.dir.path(), &[("documents/manuals/pump.md", &manual("Pump"))]);
    site.refresh().await;
    merged(&site).await;
    assert_eq!(readable(&site), 2 * all);
    let site = reopen(site, models::embed::default_embedder());
    merged(&site).await;
    assert_eq!(readable(&site), 2 * all);
}

#[tokio::test]
async fn a_memory_that_cannot_be_loaded_says_so_and_is_loaded_when_it_can_be() {
    let Site { dir, memory } = site(&[("documents/manuals/press.md", PRESS)]).await;
    drop(memory);
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let change = |sql: &'static str| store.write("change", move |tx| Ok(tx.connection().execute_batch(sql)?));
    change("ALTER TABLE memory_age RENAME TO away").await.expect("changed");
    let memory = Memory::open_in(&dir.path().join("indexes"), store.clone(), models::embed::default_embedder());
    let site = Site { dir, memory };
    let mut status = site.memory.status();
    let failed = tokio::time::timeout(SOON, status.wait_for(|status| !status.failed.is_empty())).await;
    let failed = failed.expect("in time").expect("alive").failed.join("; ");
    assert!(failed.contains("the memory cannot be loaded and is tried again"), "{failed}");
    assert_eq!(site.memory.status().borrow().unloaded.as_ref(), Some(&failed));
    let input = json!({"index": "manuals", "query": "which oil"});
    let failure = site.call("retrieve", input).await.expect_err("not loaded");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("the memory cannot be loaded")));
    change("ALTER TABLE away RENAME TO memory_age").await.expect("changed");
    let loaded = tokio::time::timeout(SOON, status.wait_for(|status| status.failed.is_empty())).await;
    assert_eq!(loaded.expect("in time").expect("alive").unloaded, None);
    site.refresh().await;
    is_found(&site).await;
}

/// The built-in embedder with its values in another order: near texts are near, but nothing can be compared with the other's.
pub(super) struct Turned {
    inner: Arc<dyn Embedder>,
    name: String,
    by: usize,
    /// A text with this in it is looked at, for its length, when the test says so: before it stands in anybody's way.
    waits_for: &'static str,
    door: Door,
}

impl Turned {
    pub(super) fn by(by: usize, waits_for: &'static str) -> Arc<Self> {
        let (inner, name) = (models::embed::default_embedder(), format!("turned by {by}"));
        Arc::new(Self { inner, name, by, waits_for, door: Door::default() })
    }

    fn closed() -> Arc<Self> {
        Self::by(7, "")
    }

    pub(super) fn open(&self) {
        self.door.open();
    }
}

impl Embedder for Turned {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        Digest::of(self.name.as_bytes())
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn size(&self, text: &str) -> usize {
        if text.contains(self.waits_for) {
            self.door.pass();
        }
        self.inner.size(text)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, models::Error> {
        let mut vectors = self.inner.embed(texts)?;
        vectors.iter_mut().for_each(|vector| vector.rotate_left(self.by));
        Ok(vectors)
    }
}

#[tokio::test]
async fn until_the_index_of_a_new_embedder_is_complete_the_one_before_serves() {
    let served_by = |site: &Site| {
        let indexes = site.memory.inner.indexes.read().expect("no thread panicked");
        indexes.get("manuals").map(|served| served.index.embedder())
    };
    let (old, new) = (models::embed::default_embedder().digest(), Digest::of(b"turned by 7"));
    let site = site(&[
        ("documents/manuals/press.md", PRESS),
        ("documents/manuals/pump.md", PUMP),
        ("documents/manuals/notes.txt", "Nothing of note."),
    ])
    .await;
    let before = site.documents();
    let found = ["Press 3 > Cooling".to_owned()];

    // Killed twice before it is done, each time with one document more embedded again.
    let Site { mut dir, memory } = site;
    drop(memory);
    for _ in 0..2 {
        let turned = Turned::closed();
        let site = open_with(dir, Arc::clone(&turned) as Arc<dyn Embedder>);
        until("the index is loaded", || served_by(&site).is_some()).await;
        site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
        until("the old index is written", || files(&site).len() == 1).await;
        assert_eq!((served_by(&site), site.memory.status().borrow().is_busy), (Some(old), true));
        assert_eq!(site.places("the engine gets too hot").await[..1], found);
        drop(site.memory);
        turned.open();
        until("the memory has ended", || Arc::strong_count(&turned) == 1).await;
        dir = site.dir;
    }
    let turned = Turned::closed();
    turned.open();
    let site = open_with(dir, turned);
    site.refresh().await;
    assert_eq!(served_by(&site), Some(new));
    assert_eq!(site.places("the engine gets too hot").await[..1], found);
    assert_eq!(site.documents(), before, "the chunks are the same, their vectors are not");
    assert_eq!(files(&site).len(), 0, "the old one is gone, the new one small");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_of_one_call_the_others_are_served_and_what_it_left_half_done_is_made_again() {
    let site = site(&[("documents/manuals/press.md", PRESS), ("documents/manuals/pump.md", PUMP)]).await;
    is_found(&site).await;
    let inner = Arc::clone(&site.memory.inner);
    let half_done = move || {
        inner.changing(|indexes| {
            let served = indexes.get_mut("manuals").expect("an index");
            served.index = inner.fresh();
            panic!("in the middle of a change");
        });
    };
    assert!(tokio::task::spawn_blocking(half_done).await.is_err_and(|error| error.is_panic()));
    // Every call goes on; once somebody looked, what is served is made again.
    site.call("retrieve", json!({"index": "manuals", "query": "engine gets too hot"})).await.expect("answered");
    until("the index has all again", || readable(&site) > 0).await;
    is_found(&site).await;
    assert!(!site.memory.inner.indexes.is_poisoned());
    // Cases and all else that is guarded alike.
    let inner = Arc::clone(&site.memory.inner);
    let hold = move || {
        let (_cases, _merging) = (inner.cases.write(), inner.merging.lock());
        panic!("with everything in hand");
    };
    assert!(tokio::task::spawn_blocking(hold).await.is_err_and(|error| error.is_panic()));
    site.call("embed", json!({"text": "oil"})).await.expect("answered");
    site.refresh().await;
    is_found(&site).await;
}
