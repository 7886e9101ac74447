//! The journal's promises at its door, and the embedded broker's at its port.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rumqttc::v5::{AsyncClient, Event, Incoming as Packet, mqttbytes::QoS};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    broker::Broker,
    config::{self, Feeds},
    connection::Connection,
    ingest::{Acknowledge, Control, Door, Incoming, Ingest, Passed},
    journal::{self, Totals},
    mqtt::Client,
};
use crate::{
    clock,
    store::{Store, quarantine},
};

const FEEDS: &str = "
feeds:
  - { name: named, topic: named/+, decode: { device: 'topic[1]', channel: { constant: c }, id: /id } }
  - { name: timed, topic: timed/+, decode: { device: 'topic[1]', channel: { constant: c }, time: /t } }
  - { name: plain, topic: plain/+, decode: { device: 'topic[1]', channel: { constant: c } } }
";

fn feeds() -> Arc<Feeds> {
    Arc::new(Feeds::parse("feeds.yaml", FEEDS).expect("feeds"))
}

/// A journal with nothing behind it.
struct Bench {
    store: Store,
    door: Door,
    _control: Control,
    task: JoinHandle<()>,
    drain: JoinHandle<()>,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let store = Store::open(&dir.join("node.db")).expect("the store opens");
        let (ingest, door, control, passed) = Ingest::open(store.clone(), feeds()).expect("the journal opens");
        Self { store, door, _control: control, task: tokio::spawn(ingest.run()), drain: tokio::spawn(drain(passed)) }
    }

    async fn totals(&self, feed: &str) -> Totals {
        let all = self.store.read("read totals", journal::totals).await.expect("totals");
        all.into_iter().find(|(name, _)| name == feed).map(|(_, totals)| totals).unwrap_or_default()
    }

    async fn close(self) -> Store {
        drop((self.door, self._control));
        self.task.await.expect("the journal ends");
        self.drain.await.expect("the drain ends");
        self.store
    }
}

async fn drain(mut passed: mpsc::Receiver<Passed>) {
    while let Some(passed) = passed.recv().await {
        if let Passed::Feeds(_, done) = passed {
            let _gone = done.send(());
        }
    }
}

#[derive(Default)]
struct Receipts(Mutex<Vec<u64>>);

impl Acknowledge for Receipts {
    fn taken(&self, tickets: &[u64]) {
        self.0.lock().expect("no panic").extend(tickets);
    }
}

fn message(topic: &str, payload: &str, dup: bool, packet_id: u16, receipts: &Arc<Receipts>) -> Incoming {
    let receipt = Some((Arc::clone(receipts) as Arc<dyn Acknowledge>, u64::from(packet_id)));
    let (topic, payload, sender) = (topic.to_owned(), payload.to_owned().into(), "s".into());
    Incoming { topic, payload, received: clock::now(), dup, sender, packet_id, receipt, cut_from: None }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_message_that_comes_again_is_counted_once_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let receipts = Arc::new(Receipts::default());
    let named = |dup, id: u32| message("named/a", &format!(r#"{{"id":{id},"value":1}}"#), dup, 1, &receipts);
    let timed = |second: u32| {
        message("timed/a", &format!(r#"{{"t":"2026-01-01T00:00:0{second}Z","value":1}}"#), false, 2, &receipts)
    };
    let plain = |dup, packet_id| message("plain/a", r#"{"value":1}"#, dup, packet_id, &receipts);
    let misfit = |dup, packet_id| message("plain/a", "nonsense", dup, packet_id, &receipts);
    let bench = Bench::open(dir.path());
    for message in [named(false, 1), named(true, 1), named(false, 2), timed(1), timed(1), timed(2)] {
        bench.door.bring(message).await.expect("open");
    }
    // A value that is the same as before is a new reading, unless its sender says that it is not.
    for message in
        [plain(false, 3), plain(false, 3), plain(true, 3), plain(true, 4), misfit(false, 5), misfit(false, 6)]
    {
        bench.door.bring(message).await.expect("open");
    }
    bench.close().await;
    let bench = Bench::open(dir.path());
    for message in [named(false, 2), timed(2), plain(true, 4), plain(true, 9), misfit(true, 6)] {
        bench.door.bring(message).await.expect("open");
    }
    until("all are acknowledged", async || receipts.0.lock().expect("no panic").len() == 17).await;
    let counted = |totals: Totals| (totals.received, totals.journalled, totals.quarantined, totals.duplicate);
    assert_eq!(counted(bench.totals("named").await), (4, 2, 0, 2));
    assert_eq!(counted(bench.totals("timed").await), (4, 2, 0, 2));
    assert_eq!(counted(bench.totals("plain").await), (9, 4, 2, 3));
    bench.close().await;
}

#[tokio::test]
async fn the_quarantine_is_bounded_and_what_goes_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let receipts = Arc::new(Receipts::default());
    let bench = Bench::open(dir.path());
    for n in 0..10_100_u16 {
        bench.door.bring(message("plain/a", "{", false, n, &receipts)).await.expect("open");
    }
    for n in 0..20_u16 {
        let large = "x".repeat(300 << 10);
        bench.door.bring(message("plain/b", &large, false, n, &receipts)).await.expect("open");
    }
    // A long topic, and a reason that quotes what is wrong.
    for n in 0..500_u16 {
        let topic = format!("plain/{}", "t".repeat(60 << 10));
        let payload = format!(r#"{{"value":{{"a":"{}"}}}}"#, "é".repeat(1 << 10));
        bench.door.bring(message(&topic, &payload, false, n, &receipts)).await.expect("open");
    }
    until("all are acknowledged", async || receipts.0.lock().expect("no panic").len() == 10_620).await;
    let totals = bench.totals("plain").await;
    let (rows, bytes): (i64, i64) = bench
        .store
        .read("count", |c| {
            let all =
                "SELECT count(*), sum(length(payload) + octet_length(topic) + octet_length(reason)) FROM quarantine";
            c.query_row(all, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
        .expect("counted");
    assert_eq!(totals.quarantined, 10_620);
    let counted = "SELECT quarantine_bytes FROM journal_state";
    let counted = bench.store.read("count", |c| c.query_row(counted, [], |row| row.get::<_, i64>(0))).await;
    assert_eq!(counted.expect("counted"), bytes);
    assert_eq!(rows, totals.quarantined - totals.dropped);
    assert!(rows <= 10_000 && bytes <= 8 << 20, "{rows} rows, {bytes} bytes");
    let misfits = bench.store.read("read misfits", |c| quarantine::newest(c, None, 501)).await.expect("misfits");
    assert!(misfits[0].topic.len() <= 512 && misfits[0].topic.ends_with("..."), "{}", misfits[0].topic);
    let newest = &misfits[500..];
    assert_eq!((newest[0].topic.as_str(), newest[0].bytes), ("plain/b", 300 << 10));
    assert!(newest[0].reason.starts_with("oversized"), "{}", newest[0].reason);
    bench.close().await;
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_and_it_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let receipts = Arc::new(Receipts::default());
    let bench = Bench::open(dir.path());
    let limit = |pages: i64| {
        bench.store.write("limit the file", move |tx| {
            let now: i64 = tx.connection().query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.connection().pragma_update(None, "max_page_count", now + pages)?;
            Ok(())
        })
    };
    limit(2).await.expect("limited");
    for n in 0..2_000_u16 {
        bench.door.bring(message("plain/a", r#"{"value":1}"#, false, n, &receipts)).await.expect("open");
    }
    let full = async || {
        let stuffed = bench.store.write("stuff", |tx| {
            Ok(tx
                .connection()
                .execute("INSERT INTO quarantine VALUES (-1, 'f', 't', 'r', 0, 0, 0, zeroblob(100000))", [])?)
        });
        stuffed.await.is_err_and(|error| error.is_full())
    };
    assert!(full().await, "the disk is full");
    let before = receipts.0.lock().expect("no panic").len();
    let journalled = usize::try_from(bench.totals("plain").await.journalled).expect("a count");
    assert!(before <= journalled && journalled < 2_000, "{before} acknowledged, {journalled} kept");
    limit(10_000).await.expect("room again");
    until("all are acknowledged", async || receipts.0.lock().expect("no panic").len() == 2_000).await;
    assert_eq!(bench.totals("plain").await.journalled, 2_000);
    bench.close().await;
}

#[tokio::test]
async fn what_no_one_waits_for_is_dropped_when_there_is_no_room_and_the_ledger_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("node.db")).expect("the store opens");
    let (ingest, door, control, passed) = Ingest::open(store.clone(), feeds()).expect("the journal opens");
    for n in 0..9_000 {
        let payload = format!(r#"{{"value":{n}}}"#).into();
        let (topic, sender) = ("plain/a".to_owned(), "s".into());
        door.offer(Incoming {
            topic,
            payload,
            received: clock::now(),
            dup: false,
            sender,
            packet_id: 0,
            receipt: None,
            cut_from: None,
        });
    }
    drop((door, control));
    tokio::join!(ingest.run(), drain(passed));
    let totals = store.read("read totals", journal::totals).await.expect("totals");
    assert_eq!((totals[0].1.journalled, totals[0].1.shed), (8_192, 808));
    let entry: String = store
        .read("read the ledger", |c| {
            c.query_row("SELECT CAST(body AS TEXT) FROM ledger WHERE fact = 'shed'", [], |row| row.get(0))
        })
        .await
        .expect("an entry");
    assert!(entry.contains(r#""count":808"#), "{entry}");
}

async fn broker(bench: &Bench, dir: &Path, more: &str) -> Broker {
    let embedded: config::Embedded = toml::from_str(&format!("listen = '127.0.0.1:0'\n{more}")).expect("settings");
    Broker::start(&embedded, dir, bench.door.clone()).await.expect("the broker starts")
}

/// The first message that comes to a subscriber, or why none can.
async fn first_message(connection: &Connection, client_id: &str, filter: &str) -> Result<(String, Vec<u8>), String> {
    let (client, mut events) = AsyncClient::new(connection.options_v5(client_id), 10);
    client.subscribe(filter, QoS::AtLeastOnce).await.expect("a request");
    let wait = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    return Ok((String::from_utf8_lossy(&message.topic).into_owned(), message.payload.to_vec()));
                }
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.map_err(|_| "nothing came".to_owned())?
}

/// Publishes and waits for the acknowledgement.
async fn publish(connection: &Connection, topic: &str, payload: &str, retain: bool) -> Result<(), String> {
    let (client, mut events) = AsyncClient::new(connection.options_v5("publisher"), 10);
    client.publish(topic, QoS::AtLeastOnce, retain, payload.to_owned()).await.expect("a request");
    loop {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.map_err(|error| error.to_string())? {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn the_embedded_broker_serves_those_it_knows_and_keeps_what_is_retained() {
    let dir = tempfile::tempdir().expect("a directory");
    private::write(&dir.path().join("secret"), b"s3cret\n").expect("written");
    let users = format!("users = [{{ name = 'plant', password_file = '{}' }}]", dir.path().join("secret").display());
    let bench = Bench::open(dir.path());
    let running = broker(&bench, dir.path(), &users).await;
    let mut stranger = running.own().clone();
    stranger.credentials = Some(("plant".to_owned(), "guess".to_owned()));
    let refused = publish(&stranger, "plain/a", "{}", false).await.expect_err("refused");
    assert!(refused.contains("BadUserNamePassword"), "{refused}");
    stranger.credentials = None;
    assert!(publish(&stranger, "plain/a", "{}", false).await.is_err());
    let mut known = running.own().clone();
    known.credentials = Some(("plant".to_owned(), "s3cret".to_owned()));
    publish(&known, "plain/a", r#"{"value":4}"#, true).await.expect("acknowledged");
    assert_eq!(bench.totals("plain").await.journalled, 1, "acknowledged means journalled");
    publish(&known, "other/topic", "anything", true).await.expect("acknowledged");
    let own = first_message(running.own(), "reader", "plain/#").await.expect("a message");
    assert_eq!(own, ("plain/a".to_owned(), br#"{"value":4}"#.to_vec()));
    running.stop().await;
    let again = broker(&bench, dir.path(), &users).await;
    assert_eq!(first_message(again.own(), "reader", "other/#").await.expect("kept").1, b"anything");
    again.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_message_too_large_for_the_broker_is_quarantined_once_and_its_client_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::open(dir.path());
    let running = broker(&bench, dir.path(), "").await;
    let large = format!("[\u{1b}[2J{}]", "1,".repeat(600_000));
    for protocol in [config::Protocol::V5, config::Protocol::V4] {
        let mut connection = running.own().clone();
        connection.protocol = protocol;
        let before = bench.totals("plain").await.received;
        // Again and again, as a client does that was cut off before its message was acknowledged.
        until("the message is counted", async || {
            let mut options = connection.options_v4("greedy");
            options.set_max_packet_size(4 << 20, 4 << 20);
            let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
            let topic = format!("plain/{protocol:?}");
            client.publish(topic, rumqttc::QoS::AtLeastOnce, false, large.clone()).await.expect("a request");
            let ended = async { while events.poll().await.is_ok() {} };
            tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the broker cuts the client off");
            bench.totals("plain").await.received >= before + 2
        })
        .await;
    }
    let totals = bench.totals("plain").await;
    assert_eq!((totals.quarantined, totals.journalled), (2, 0), "{totals:?}");
    assert_eq!(totals.received, totals.quarantined + totals.duplicate);
    let kept = bench.store.read("read misfits", |c| quarantine::newest(c, Some("plain"), 9)).await.expect("misfits");
    assert_eq!(kept[0].topic, "plain/V4");
    assert!(kept[0].bytes > 1_200_000 && kept[0].beginning.len() <= 2 << 10, "{}", kept[0].bytes);
    assert!(kept[0].reason.contains("at most 1048576 are taken; its client \"greedy\""), "{}", kept[0].reason);
    assert!(kept[0].beginning.starts_with("[\u{1b}[2J1,1,"), "{}", kept[0].beginning);
    publish(running.own(), "plain/a", r#"{"value":1}"#, false).await.expect("the broker goes on");
    running.stop().await;
    bench.close().await;
}

#[test]
fn an_open_broker_listens_to_loopback_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let bench = Bench::open(dir.path());
        let embedded: config::Embedded = toml::from_str("listen = '0.0.0.0:0'").expect("settings");
        let error = Broker::start(&embedded, dir.path(), bench.door.clone()).await.err().expect("refused");
        assert!(error.to_string().contains("name `users` who may connect"), "{error}");
    });
}

#[tokio::test]
async fn over_tls_only_the_named_ca_is_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| dir.path().join(name);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(place("cert.pem"), certified.cert.pem()).expect("written");
    private::write(Path::new(&place("key.pem")), certified.signing_key.serialize_pem().as_bytes()).expect("written");
    std::fs::write(place("other.pem"), other.cert.pem()).expect("written");
    let served = tempfile::tempdir().expect("a directory");
    let serving = Bench::open(served.path());
    let tls = format!("tls = {{ cert = '{}', key = '{}' }}", place("cert.pem").display(), place("key.pem").display());
    let running = broker(&serving, served.path(), &tls).await;
    let reach = |ca: &str| {
        let text = format!("url = 'mqtts://localhost:{}'\nca = '{}'", running.address().port(), place(ca).display());
        let settings: config::Broker = toml::from_str(&text).expect("settings");
        Connection::of(&settings).expect("settings").expect("a broker")
    };
    assert!(publish(&reach("other.pem"), "plain/a", "{}", false).await.is_err(), "another CA");
    let bench = Bench::open(dir.path());
    let client = Client::start(&reach("cert.pem"), "skerry-test", 60, bench.door.clone());
    until("a message comes through", async || {
        publish(&reach("cert.pem"), "plain/a", r#"{"value":1}"#, false).await.expect("acknowledged");
        bench.totals("plain").await.journalled > 0
    })
    .await;
    client.stop().await;
    running.stop().await;
    bench.close().await;
    serving.close().await;
}
