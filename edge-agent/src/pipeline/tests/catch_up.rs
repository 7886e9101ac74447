//! What the pipeline does when it starts while messages come in.

use shared::time::Timestamp;

use super::*;
use crate::{
    feed::ingest::{Acknowledge, Incoming},
    pipeline::{live::Live, worker::Worker},
};

#[tokio::test]
async fn what_comes_in_while_the_pipeline_catches_up_is_taken_once() {
    // More than a day of readings: taken twice, they would look like a clock that was put back, and begin the series anew.
    const OLD: u64 = 400;
    const NEW: u64 = 400;
    struct Taken;
    impl Acknowledge for Taken {
        fn taken(&self, _tickets: &[u64]) {}
    }
    let reading = |index: u64| {
        let at = Timestamp::from_micros(i64::try_from(index).expect("few") * 300_000_000);
        let (topic, sender) = ("plant/press/temperature".to_owned(), "s".into());
        let payload =
            format!(r#"{{"timestamp":"{} {}","value":{}}}"#, &at.to_string()[..10], &at.to_string()[11..19], index % 7);
        let receipt = Some((Arc::new(Taken) as Arc<dyn Acknowledge>, index));
        Incoming {
            topic,
            payload: payload.into(),
            received: at,
            dup: false,
            sender,
            packet_id: 1,
            receipt,
            cut_from: None,
        }
    };
    let dir = tempfile::tempdir().expect("a directory");
    let feeds = Arc::new(Feeds::parse("feeds.yaml", FEEDS).expect("feeds"));
    let store = Store::open(&dir.path().join("node.db")).expect("the store opens");
    let mut last = 0;
    let mut waiting = None;
    for readings in [0..OLD, OLD..OLD + NEW] {
        let (ingest, door, _control, passed) =
            Ingest::open(store.clone(), Arc::clone(&feeds)).expect("the journal opens");
        last = ingest.last();
        for index in readings {
            door.bring(reading(index)).await.expect("open");
        }
        drop(door);
        // All of it is one batch, which waits for the pipeline; the first time there is none, as when it was killed.
        ingest.run().await;
        waiting = Some(passed);
    }
    assert_eq!(u64::try_from(last).expect("a place"), OLD);
    let (live, _snapshots) = Live::new();
    let sink = Arc::new(Nobody);
    let stop = CancellationToken::new();
    let node = "hamburg".parse().expect("a name");
    let worker = Worker::load(store, node, feeds, sink, live, stop).await.expect("the place is read");
    worker.run(waiting.expect("two rounds"), last).await;
    let (counted, late): (i64, i64) = look(dir.path(), |c| {
        let counted = "SELECT json_extract(CAST(state AS TEXT), '$.counted'), json_extract(CAST(state AS TEXT), '$.late') FROM series";
        c.query_row(counted, [], |row| Ok((row.get(0)?, row.get(1)?)))
    });
    assert_eq!((counted.unsigned_abs(), late), (OLD + NEW, 0));
}

/// Takes whatever is found.
struct Nobody;

impl Deliver for Nobody {
    fn deliver(
        &self,
        _events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async { Ok(()) })
    }
}
