//! Group commit, its failures, and what a reader sees.

use rusqlite::params;
use shared::{
    id::RunId,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};

use super::*;

pub(crate) mod chance;
pub(crate) mod disk;
pub(crate) mod vfs;

fn entry(n: i64) -> Entry {
    let fact = Fact::AgentStarted { version: n.to_string() };
    Entry { at: Timestamp::from_micros(n), run: None, task: None, fact }
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("node.db")).expect("a new store");
    (dir, store)
}

#[tokio::test]
async fn a_failed_job_undoes_its_own_rows_and_nothing_else() {
    let (_dir, store) = open();
    let good = |n| store.write("append", move |tx| Ok(tx.append(&entry(n))?));
    let bad = store.write("append and fail", |tx| {
        tx.append(&entry(100))?;
        Err::<(), _>(Error::Data { operation: "append and fail", detail: "on purpose".to_owned() })
    });
    let (first, failed, second) = tokio::join!(good(1), bad, good(2));
    assert_eq!((first.expect("kept"), second.expect("kept")), (0, 1));
    assert!(matches!(failed, Err(Error::Data { .. })));
    let count: i64 =
        store.read("count", |c| c.query_row("SELECT count(*) FROM ledger", [], |r| r.get(0))).await.expect("readable");
    assert_eq!(count, 2);
    assert_eq!(*store.ledger_size().borrow(), 2);
}

/// Jobs of both kinds, some of which fail, in one group: what each appended is there once, and only if it was kept.
#[test]
fn jobs_that_share_a_savepoint_are_kept_or_undone_each_by_itself() {
    let failed = |operation| Error::Data { operation, detail: "on purpose".to_owned() };
    for bad in [vec![], vec![0], vec![3], vec![7], vec![1, 2, 6], (0..8).collect::<Vec<i64>>()] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // The first to write commits what the others have brought by then.
        let store = Store::open_here(&dir.path().join("node.db"), 24, Arc::new(|| 1)).expect("a new store");
        let run = RunId::derive(Timestamp::from_micros(1), b"run");
        let write = async |n: i64| {
            let entry = Entry { run: (n % 2 == 0).then_some(run), ..entry(n) };
            let fails = bad.contains(&n);
            let job = move |tx: &mut Transaction<'_>| {
                tx.append(&entry)?;
                tx.append(&entry)?;
                if fails { Err(failed("append and fail")) } else { Ok(n) }
            };
            // Most are repeatable; one between them is not.
            if n == 4 { store.write("append", job).await } else { store.write_repeatable("append", job).await }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let outcomes = runtime.block_on(futures::future::join_all((0..8).map(write)));
        let kept: Vec<i64> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(kept, (0..8).filter(|n| !bad.contains(n)).collect::<Vec<_>>(), "{bad:?}");
        let of_run = kept.iter().filter(|n| *n % 2 == 0).count() as i64;
        let found = store.read_blocking("look", |c| {
            let mut all = c.prepare("SELECT at FROM ledger ORDER BY seq")?;
            let all = all.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
            let spans = c.query_row("SELECT total(count), count(*) FROM ledger_span", [], |row| {
                Ok((row.get::<_, f64>(0)?, row.get::<_, i64>(1)?))
            })?;
            Ok((all, spans))
        });
        let (entries, spans) = found.expect("readable");
        assert_eq!(entries, kept.iter().flat_map(|n| [*n, *n]).collect::<Vec<_>>(), "{bad:?}");
        assert_eq!(spans, (of_run as f64 * 2.0, of_run), "one span for each job: {bad:?}");
        assert_eq!(*store.ledger_size().borrow(), entries.len() as u64);
    }
}

#[tokio::test]
async fn the_tree_continues_where_it_stood_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("node.db");
    let root_after = |range: std::ops::Range<i64>| {
        let path = path.clone();
        async move {
            let store = Store::open(&path).expect("opens");
            let mut root = None;
            for n in range {
                root = store
                    .write("append", move |tx| {
                        tx.append(&entry(n))?;
                        Ok(Some(tx.tail().root()))
                    })
                    .await
                    .expect("appends");
            }
            root
        }
    };
    root_after(0..5).await;
    let continued = root_after(5..11).await;
    let (_other, store) = open();
    let mut whole = None;
    for n in 0..11 {
        whole = store
            .write("append", move |tx| {
                tx.append(&entry(n))?;
                Ok(Some(tx.tail().root()))
            })
            .await
            .expect("appends");
    }
    assert_eq!(continued, whole);
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_was_answered_stays() {
    let (_dir, store) = open();
    store.write("append", |tx| Ok(tx.append(&entry(1))?)).await.expect("there is room");
    // SQLite's own page limit stands for the disk: the same error code, at a size of our choosing.
    store
        .write("limit the file", |tx| {
            let pages: i64 = tx.connection().query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.connection().pragma_update(None, "max_page_count", pages + 4)?;
            tx.connection().execute_batch("CREATE TABLE ballast (bytes BLOB)")?;
            Ok(())
        })
        .await
        .expect("the limit is set");
    let stuffed = store
        .write("stuff", |tx| {
            tx.append(&entry(2))?;
            tx.connection().execute("INSERT INTO ballast VALUES (zeroblob(1000000))", params![])?;
            Ok(())
        })
        .await;
    assert!(stuffed.as_ref().is_err_and(Error::is_full), "{stuffed:?}");
    let next = store.write("append", |tx| Ok(tx.append(&entry(3))?)).await.expect("a small job still fits");
    assert_eq!(next, 1, "the entry of the failed job left no gap");
}

#[tokio::test]
async fn a_store_that_cannot_grow_says_so_until_it_can() {
    let (_dir, store) = open();
    let limit = |more: i64| {
        store.write("limit the file", move |tx| {
            let now: i64 = tx.connection().query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.connection().pragma_update(None, "max_page_count", now + more)?;
            Ok(())
        })
    };
    let stuff = || {
        store.write("stuff", |tx| {
            Ok(tx
                .connection()
                .execute("INSERT INTO quarantine VALUES (NULL, 'f', 't', 'r', 0, 0, 0, zeroblob(100000))", [])?)
        })
    };
    limit(1).await.expect("limited");
    assert_eq!(store.trouble(), None);
    assert!(stuff().await.is_err_and(|error| error.is_full()));
    let told = async || {
        let mut trouble = store.trouble.clone();
        let seen = trouble.wait_for(Option::is_some);
        tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.expect("in time").expect("open").clone()
    };
    assert_eq!(told().await.as_deref(), Some("no room on the disk to write to the store"));
    limit(1_000).await.expect("room again");
    stuff().await.expect("kept");
    let mut trouble = store.trouble.clone();
    let gone = trouble.wait_for(Option::is_none);
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("in time").expect("open");
}
