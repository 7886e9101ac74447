//! Filters of searches while others write: nobody sees what the label does not allow, and all else is found.

use std::sync::atomic::Ordering;

use super::{kept::kept_as, *};

async fn passages(site: &Site, class: DataClass) -> Vec<(String, DataClass)> {
    let label = Label { class, ..Label::default() };
    let input = json!({"index": "notes", "query": "the pump by the wall", "topK": 100, "clearance": label});
    let done = kept_as("run:/do/0/look", site, "retrieve", input, DataClass::Public).await.expect("found");
    assert!(label.covers(&done.label), "{:?}", done.label);
    let passage = |passage: &Value| {
        let label: Label = serde_json::from_value(passage["label"].clone()).expect("a label");
        (passage["text"].as_str().expect("a text").to_owned(), label.class)
    };
    done.output["passages"].as_array().expect("a list").iter().map(passage).collect()
}

async fn keep(site: &Site, number: usize, class: DataClass) {
    let text = format!("The {class:?} pump {number} by the wall.");
    let input = json!({"index": "notes", "id": format!("{}", number % 7), "text": text});
    kept_as(&format!("run:/do/{number}/keep"), site, "remember", input, class).await.expect("kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_texts_change_their_labels_nobody_sees_what_is_stricter_than_the_clearance() {
    let site = Arc::new(site(&[("documents/notes/a.md", "The pump stands by the wall.")]).await);
    keep(&site, 0, DataClass::Public).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let look = |class: DataClass| {
        let (site, is_over) = (Arc::clone(&site), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut looks = 0;
            while !is_over.load(Ordering::Relaxed) || looks == 0 {
                for (text, own) in passages(&site, class).await {
                    assert!(
                        own <= class && !(class < DataClass::Restricted && text.contains("Restricted")),
                        "{text} {own:?}"
                    );
                }
                looks += 1;
            }
        })
    };
    let lookers = [DataClass::Public, DataClass::Internal, DataClass::Restricted].map(look);
    let writers = [0, 1].map(|which| {
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            for number in 0..60 {
                let class = if (number + which) % 2 == 0 { DataClass::Public } else { DataClass::Restricted };
                keep(&site, 2 * number + which, class).await;
                if number % 10 == 9 {
                    let input = json!({"index": "notes", "id": format!("{}", number % 7)});
                    kept_as("run:/do/0/forget", &site, "forget", input, DataClass::Public).await.expect("gone");
                }
            }
        })
    });
    for writer in writers {
        writer.await.expect("written");
    }
    is_over.store(true, Ordering::Relaxed);
    for looker in lookers {
        looker.await.expect("what was allowed");
    }
    // Nothing that went before it came is left, and nothing that came is lacking.
    let stored = site.memory.inner.store.read_blocking("list", |connection| {
        let mut query = connection.prepare(
            "SELECT c.id FROM memory_chunk c JOIN memory_document d ON d.id = c.document WHERE d.idx = 'notes'",
        )?;
        query
            .query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?
            .collect::<rusqlite::Result<BTreeSet<u64>>>()
    });
    let stored = stored.expect("a list");
    let (indexed, listed): (BTreeSet<u64>, BTreeSet<u64>) = {
        let indexes = site.memory.inner.indexes();
        (indexes["notes"].index.ids().collect(), indexes["notes"].roster.ids().collect())
    };
    assert_eq!((&indexed, &listed), (&stored, &stored));
    assert_eq!(passages(&site, DataClass::Restricted).await.len(), stored.len());
}

#[tokio::test]
async fn a_document_that_gets_a_stricter_label_is_found_by_those_alone_who_are_cleared_for_it() {
    let site = site(&[
        ("documents/notes/a.md", "The pump stands by the wall."),
        ("documents/notes/b/b.md", "The pump by the wall runs."),
    ])
    .await;
    assert_eq!(passages(&site, DataClass::Internal).await.len(), 2);
    write(site.dir.path(), &[("documents/notes/b/label.yaml", "class: restricted\n")]);
    site.refresh().await;
    assert_eq!(
        (passages(&site, DataClass::Internal).await.len(), passages(&site, DataClass::Restricted).await.len()),
        (1, 2)
    );
    std::fs::remove_file(site.dir.path().join("documents/notes/b/label.yaml")).expect("removed");
    site.refresh().await;
    assert_eq!(passages(&site, DataClass::Internal).await.len(), 2);
}
