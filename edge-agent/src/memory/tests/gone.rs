//! What is taken away is gone from the disk too: from the store, its log and the files of vectors.

use super::{
    kept::kept_as,
    lasting::{Hands, found, fresh, kept},
    shelf::{files, manual},
    *,
};
use crate::testing::until;

/// Does what idle time is for.
async fn idle(site: &Site) {
    let inner = Arc::clone(&site.memory.inner);
    let tend = move || {
        while inner.expire().expect("swept") || inner.tend().expect("tended") || inner.merge_words().expect("merged") {}
        inner.empty_log().expect("emptied");
    };
    tokio::task::spawn_blocking(tend).await.expect("no panic");
}

async fn forget(site: &Site, input: Value) -> Value {
    kept_as("run:/do/0/forget", site, "forget", input, DataClass::Public).await.expect("gone").output["forgotten"]
        .clone()
}

/// Whether any file of the memory holds these bytes.
fn is_on_disk(site: &Site, bytes: &[u8]) -> bool {
    let all = ["node.db", "node.db-wal"].map(|name| site.dir.path().join(name)).into_iter().chain(files(site));
    all.into_iter().any(|path| {
        let content = std::fs::read(path).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test]
async fn of_what_is_removed_by_subject_no_text_is_left_in_the_store() {
    let hands = Hands::default();
    let site = fresh(&hands, "").await;
    // Long and short ones side by side, so that pages are split and joined.
    for number in 0..160 {
        let (subject, animal) = if number % 3 == 0 { ("Mia", "quokka") } else { ("Jon", "beaver") };
        let text = format!(
            "Animal {number}: {}",
            format!("the {animal} sat beside pump {number}. ").repeat(number * 7 % 90 + 1)
        );
        kept(&site, &number.to_string(), &text, json!({"subject": subject})).await;
    }
    for number in (1..160).step_by(6) {
        kept(&site, &number.to_string(), "The beaver went away.", json!({"subject": "Jon"})).await;
    }
    let turn = json!({"session": "chat", "text": "I saw a quokka.", "subject": "Mia"});
    kept_as("run:/do/0/say", &site, "remember", turn, DataClass::Public).await.expect("said");
    let seen = json!({"kind": "episode", "index": "notes", "text": "A quokka came.", "outcome": "completed", "subject": "Mia",
        "details": {"note": "quokkas bite"}});
    kept_as("run:/do/0/seen", &site, "remember", seen, DataClass::Public).await.expect("kept");
    idle(&site).await;
    assert!(is_on_disk(&site, b"quokka") && is_on_disk(&site, b"beaver"));
    assert_eq!(forget(&site, json!({"index": "notes", "subject": "Mia"})).await, 54);
    assert_eq!(forget(&site, json!({"kind": "session", "subject": "Mia"})).await, 1);
    assert_eq!(forget(&site, json!({"kind": "episode", "index": "notes", "subject": "Mia"})).await, 1);
    let live = || {
        let sql = "SELECT count(*) FROM memory_text_data WHERE instr(block, CAST('quokka' AS BLOB))";
        site.memory
            .inner
            .store
            .read_blocking("count", |c| c.query_row(sql, [], |row| row.get::<_, i64>(0)))
            .expect("a number")
    };
    let noted = || {
        let sql = "SELECT purge FROM memory_age";
        site.memory
            .inner
            .store
            .read_blocking("look", |c| c.query_row(sql, [], |row| row.get::<_, bool>(0)))
            .expect("noted")
    };
    idle(&site).await;
    for text in ["quokka sat beside", "I saw a quokka", "quokka came", "quokkas bite"] {
        assert!(!is_on_disk(&site, text.as_bytes()), "{text}");
    }
    assert!(live() > 0 && noted(), "the words follow, once for many removals");
    hands.pass(1);
    idle(&site).await;
    assert!(live() == 0 && !noted());
    assert_eq!(found(&site, "the quokka that sat beside").await.len(), 100, "the others stay");
    assert!(is_on_disk(&site, b"beaver"));
}

#[tokio::test]
async fn vectors_of_what_is_removed_by_source_leave_the_file_soon_and_not_with_each_removal() {
    let hands = Hands::default();
    let site = fresh(&hands, "").await;
    for (id, source) in [("a", "mail"), ("b", "mail"), ("c", "letters"), ("d", "calls")] {
        kept(&site, id, &format!("The pump {id} stands still."), json!({"source": source})).await;
    }
    kept(&site, "manual", &manual("Press"), json!({})).await;
    idle(&site).await;
    let gone = || site.memory.inner.indexes()["notes"].index.gone();
    let merged = || site.memory.inner.indexes()["notes"].index.is_merged();
    assert!(merged());
    let before = std::fs::metadata(&files(&site)[0]).expect("a file").len();
    forget(&site, json!({"index": "notes", "source": "mail"})).await;
    idle(&site).await;
    assert_eq!(gone(), 2, "others may follow");
    hands.pass(1);
    idle(&site).await;
    assert!(merged());
    assert!(std::fs::metadata(&files(&site)[0]).expect("a file").len() < before);
    // A file is not written for each of many removals.
    forget(&site, json!({"index": "notes", "source": "letters"})).await;
    idle(&site).await;
    assert_eq!(gone(), 1);
    // A restart does not forget what was asked.
    let Site { dir, memory } = site;
    drop(memory);
    let site = lasting::site_by(&hands, dir, "").await;
    let gone = || site.memory.inner.indexes()["notes"].index.gone();
    assert_eq!(gone(), 1);
    hands.pass(1);
    idle(&site).await;
    assert_eq!(gone(), 0);
    // With the last text the file goes.
    forget(&site, json!({"index": "notes", "source": "calls"})).await;
    forget(&site, json!({"index": "notes", "id": "manual"})).await;
    idle(&site).await;
    until("the file is gone", || files(&site).is_empty()).await;
}
