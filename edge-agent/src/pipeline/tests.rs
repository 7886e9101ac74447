//! The whole way of a message, with the embedded broker and with a real Mosquitto, in a process of its own that is killed.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, atomic::AtomicUsize},
    time::Instant,
};

mod catch_up;
mod learned;
mod sessions;

use rand_free::Dice;
use rusqlite::Connection as Sqlite;

use super::*;
use crate::feed::{
    journal::{self, Totals},
    replay::{Speed, replay},
};

/// A dice from a seed, so that a failing test can be told which.
mod rand_free {
    pub(super) struct Dice(u64);

    impl Dice {
        pub(super) const fn new(seed: u64) -> Self {
            Self(seed)
        }

        /// SplitMix64 (Steele, Lea, Flood 2014).
        pub(super) const fn roll(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }
}

const FEEDS: &str = r#"
feeds:
  - name: temperature
    topic: plant/+/temperature
    decode:
      device: topic[1]
      channel: topic[2]
      value: /value
      time: { from: /timestamp, format: "YYYY-MM-DD hh:mm:ss" }
      unit: { constant: celsius }
    schema: { type: object, required: [timestamp, value], properties: { value: { type: number, maximum: 1000 } } }
    label: { class: internal, origins: [DE] }
    window: { kind: sliding, size: 1h, step: 10m }
    detectors:
      - { name: hot, kind: limits, high: 90, hysteresis: 2, severity: critical, coolDown: 1h }
      - { name: odd, kind: robust, length: 36, threshold: 6, coolDown: 1h }
      - { name: mean, kind: robust, of: mean, length: 48, threshold: 5, coolDown: 2h }
      - { name: daily, kind: seasonal, threshold: 5, coolDown: 6h }
"#;

/// Keeps events in the store, once each, as the workflow room does.
struct Keeper(Store);

impl Deliver for Keeper {
    fn deliver(
        &self,
        events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async move {
            let keep = self.0.write("keep events", move |tx| {
                for (event, _) in events {
                    let body = serde_json::to_string(&event).expect("plain data");
                    tx.connection().execute("INSERT OR IGNORE INTO delivered VALUES (?1, ?2)", [event.id, body])?;
                }
                Ok(())
            });
            Ok(keep.await?)
        })
    }
}

async fn begin(dir: &Path, broker: config::Broker) -> Running {
    let store = Store::open(&dir.join("node.db")).expect("the store opens");
    store
        .write("make a table", |tx| {
            Ok(tx
                .connection()
                .execute_batch("CREATE TABLE IF NOT EXISTS delivered (id TEXT PRIMARY KEY, body TEXT) STRICT")?)
        })
        .await
        .expect("a table");
    let feeds = Arc::new(Feeds::parse("feeds.yaml", FEEDS).expect("feeds"));
    let settings = Settings { node: "hamburg".parse().expect("a name"), data_dir: dir.to_owned(), broker };
    start(store.clone(), settings, feeds, Arc::new(Keeper(store))).await.expect("the pipeline starts")
}

fn embedded(port: u16) -> config::Broker {
    let mut broker = config::Broker::default();
    broker.embedded.listen.set_port(port);
    broker
}

fn remote(port: u16, protocol: &str) -> config::Broker {
    toml::from_str(&format!("url = 'mqtt://127.0.0.1:{port}'\nprotocol = '{protocol}'")).expect("settings")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A machine's temperature with a daily rhythm, noise and a few faults; some rows do not fit the schema.
fn recording(dir: &Path, rows: u64, seed: u64) -> (PathBuf, u64) {
    let mut dice = Dice::new(seed);
    let mut text = String::from("timestamp,value\n");
    let mut misfits = 0;
    let first: shared::time::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    for row in 0..rows {
        let at = first.plus_micros(i64::try_from(row).expect("small") * 300_000_000).to_string();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (noise, phase) = ((dice.roll() % 1_000) as f64 / 500.0, (row % 288) as f64 / 288.0 * std::f64::consts::TAU);
        let mut value = 70.0 + 8.0 * phase.sin() + noise;
        if row % 2_500 > 2_480 {
            value += 25.0;
        }
        if row % 997 == 500 {
            (value, misfits) = (5_000.0, misfits + 1);
        }
        text.push_str(&format!("{},{value:.4}\n", at.replace('T', " ").trim_end_matches('Z')));
    }
    let file = dir.join("recording.csv");
    std::fs::write(&file, text).expect("written");
    (file, misfits)
}

fn look<T>(dir: &Path, query: impl FnOnce(&Sqlite) -> rusqlite::Result<T>) -> T {
    let connection = store::open_read_only(&dir.join("node.db")).expect("the store opens");
    query(&connection).expect("a query")
}

fn totals(dir: &Path) -> Totals {
    look(dir, journal::totals)
        .into_iter()
        .find(|(feed, _)| feed == "temperature")
        .map(|(_, totals)| totals)
        .unwrap_or_default()
}

/// Events by id; series with their state; the journal's times and values.
type Found = (Vec<String>, Vec<(String, String)>, Vec<(i64, f64)>);

/// All that must be the same however often the node was killed.
fn result(dir: &Path) -> Found {
    look(dir, |sqlite| {
        let events = sqlite
            .prepare("SELECT body FROM delivered ORDER BY id")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let series = sqlite
            .prepare("SELECT device || '/' || channel, CAST(state AS TEXT) FROM series ORDER BY 1")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let values = sqlite
            .prepare("SELECT at, value FROM journal ORDER BY seq")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        Ok((events, series, values))
    })
}

/// Waits until all that was journalled is through and saved.
fn settle(dir: &Path, rows: u64) {
    let since = Instant::now();
    loop {
        let (last, position): (i64, i64) = look(dir, |sqlite| {
            sqlite.query_row("SELECT last, position FROM journal_state", [], |row| Ok((row.get(0)?, row.get(1)?)))
        });
        let totals = totals(dir);
        if last == position && totals.journalled + totals.quarantined >= i64::try_from(rows).expect("small") {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "not settled: last {last}, position {position}, {totals:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn accounted(dir: &Path, rows: u64, misfits: u64) {
    let totals = totals(dir);
    let (rows, misfits) = (i64::try_from(rows).expect("small"), i64::try_from(misfits).expect("small"));
    assert_eq!((totals.journalled, totals.quarantined), (rows - misfits, misfits), "{totals:?}");
    assert_eq!(totals.received, totals.journalled + totals.quarantined + totals.duplicate, "{totals:?}");
}

async fn undisturbed(dir: &Path, rows: u64, seed: u64) -> Found {
    let (file, misfits) = recording(dir, rows, seed);
    let running = begin(dir, embedded(0)).await;
    let published = replay(&file, "plant/press-1/temperature", Speed::Max, running.connection(), |_, _| {}).await;
    assert_eq!(published.expect("played"), rows);
    running.shutdown().await;
    accounted(dir, rows, misfits);
    result(dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_is_accounted_for_and_faults_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let (events, series, values) = undisturbed(dir.path(), 6_000, 1).await;
    assert_eq!(series.len(), 1);
    assert_eq!(values.len(), 6_000 - 6);
    for detector in ["hot", "odd", "mean", "daily"] {
        let found = events.iter().filter(|event| event.contains(&format!(r#""detector":"{detector}""#))).count();
        assert!((1..=12).contains(&found), "{detector}: {found} findings");
    }
}

/// Not a test by itself: the process that the tests below kill.
#[test]
fn child() {
    let Ok(dir) = std::env::var("SKERRY_TEST_DIR") else { return };
    let broker: config::Broker =
        toml::from_str(&std::env::var("SKERRY_TEST_BROKER").expect("a broker")).expect("settings");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let _running = begin(Path::new(&dir), broker).await;
        std::future::pending::<()>().await;
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn spawn(dir: &Path, broker: &str) -> Killed {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["--exact", "pipeline::tests::child", "--nocapture"])
        .env("SKERRY_TEST_DIR", dir)
        .env("SKERRY_TEST_BROKER", broker);
    Killed(command.stdout(Stdio::null()).spawn().expect("a child"))
}

/// Plays a recording while the node is killed ten times, each time after a random number of acknowledgements.
async fn killed_ten_times(dir: &Path, rows: u64, seed: u64, node_broker: &str, broker: &Connection) {
    println!("seed {seed}");
    let (file, misfits) = recording(dir, rows, seed);
    let mut dice = Dice::new(seed);
    let mut kills: Vec<u64> = (0..10).map(|_| dice.roll() % rows).collect();
    kills.sort_unstable();
    let child = Mutex::new(spawn(dir, node_broker));
    let killed = AtomicUsize::new(0);
    let published = replay(&file, "plant/press-1/temperature", Speed::Max, broker, |acknowledged, _| {
        let count = killed.load(std::sync::atomic::Ordering::Relaxed);
        if kills.get(count).is_some_and(|kill| acknowledged >= *kill) {
            killed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut child = child.lock().expect("no panic");
            child.0.kill().expect("killed");
            child.0.wait().expect("ended");
            *child = spawn(dir, node_broker);
        }
    });
    assert_eq!(published.await.expect("played"), rows);
    settle(dir, rows);
    assert_eq!(killed.into_inner(), 10);
    accounted(dir, rows, misfits);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_with_its_own_broker_nothing_is_lost_or_found_twice() {
    let (dir, calm) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let seed = u64::from(std::process::id());
    let expected = undisturbed(calm.path(), 8_000, seed).await;
    let port = free_port();
    let node = format!("[embedded]\nlisten = '127.0.0.1:{port}'");
    let broker = Connection::of(&remote(port, "5")).expect("settings").expect("a broker");
    killed_ten_times(dir.path(), 8_000, seed, &node, &broker).await;
    assert_eq!(result(dir.path()), expected, "seed {seed}");
}

fn mosquitto(dir: &Path, port: u16, more: &str) -> Option<Killed> {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).exists())?;
    let file = dir.join("mosquitto.conf");
    let mut text = std::fs::File::create(&file).expect("a file");
    writeln!(text, "listener {port} 127.0.0.1\nmax_queued_messages 0\nmax_inflight_messages 1000\npersistence false\nuser root\n{more}").expect("written");
    if !more.contains("allow_anonymous") {
        writeln!(text, "allow_anonymous true").expect("written");
    }
    let child = Command::new(program).arg("-c").arg(&file).stderr(Stdio::null()).spawn().expect("mosquitto starts");
    let since = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(Killed(child))
}

async fn with_mosquitto(protocol: &str) {
    let (dir, calm) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let port = free_port();
    let Some(_mosquitto) = mosquitto(dir.path(), port, "") else {
        eprintln!("skipped: no mosquitto here; tests/run installs it");
        return;
    };
    let seed = u64::from(std::process::id());
    let expected = undisturbed(calm.path(), 8_000, seed).await;
    let broker = Connection::of(&remote(port, "5")).expect("settings").expect("a broker");
    let node = format!("url = 'mqtt://127.0.0.1:{port}'\nprotocol = '{protocol}'");
    // The session must be there before the first message, or the broker has no one to keep it for.
    begin(dir.path(), remote(port, protocol)).await.after_subscribing(dir.path(), port).await;
    forget(dir.path());
    killed_ten_times(dir.path(), 8_000, seed, &node, &broker).await;
    assert_eq!(result(dir.path()), expected, "seed {seed}");
}

/// Takes the probes out of the books. Their rows stay: one whose acknowledgement the broker has not seen comes again, and is known by them.
fn forget(dir: &Path) {
    let sqlite = Sqlite::open(dir.join("node.db")).expect("the store opens");
    sqlite.execute_batch("DELETE FROM feed_totals").expect("forgotten");
}

impl Running {
    /// Returns once the broker passes messages on, and goes away.
    async fn after_subscribing(self, node: &Path, port: u16) {
        let broker = Connection::of(&remote(port, "5")).expect("settings").expect("a broker");
        let dir = tempfile::tempdir().expect("a directory");
        let publish = async |words: &str| {
            let file = dir.path().join("one.csv");
            std::fs::write(&file, format!("timestamp,value\n{words},1\n")).expect("written");
            replay(&file, "plant/probe/temperature", Speed::Max, &broker, |_, _| {}).await.expect("played");
        };
        let mut stats = self.stats();
        let since = Instant::now();
        while stats.borrow_and_update().messages == 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "the subscription does not come");
            publish("not a time").await;
            drop(tokio::time::timeout(Duration::from_millis(1_500), stats.changed()).await);
        }
        // On a slow machine more than one is on its way: when the last is here, so are those before it.
        publish("the last").await;
        let last = "SELECT count(*) FROM quarantine WHERE instr(payload, 'the last')";
        while look(node, |sqlite| sqlite.query_row(last, [], |row| row.get::<_, u32>(0))) == 0 {
            assert!(
                since.elapsed() < Duration::from_secs(40),
                "what is published after the subscription does not come"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_with_mosquitto_nothing_is_lost_or_found_twice() {
    with_mosquitto("5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_with_mosquitto_and_the_older_protocol_too() {
    with_mosquitto("3.1.1").await;
}
