//! Measures the way from a publisher to a detector, durable, at QoS 1: 200-byte JSON, 50 devices, every reading through a
//! window and two detectors, findings counted where they are delivered.
//!
//!     cargo run --release -p edge-agent --example mqtt_bench -- throughput 100000 [mqtt://127.0.0.1:1883]
//!     cargo run --release -p edge-agent --example mqtt_bench -- rate 5000 20 [mqtt://127.0.0.1:1883]
//!
//! Without a broker's address the embedded broker serves. Every hundredth reading is a finding; latency is counted from
//! the time at which its message was due, so that a publisher that falls behind does not hide it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edge_agent::{
    feed::config::{Broker, Feeds},
    feed::connection::Connection,
    pipeline::{self, Deliver, Settings},
    store::Store,
};
use futures::future::BoxFuture;
use rumqttc::v5::{AsyncClient, Event as Packet, Incoming, mqttbytes::QoS};
use shared::{event::Event, label::Label};

const EPOCH_MS: i64 = 1_800_000_000_000;
const FEEDS: &str = r"
feeds:
  - name: bench
    topic: bench/+
    decode: { device: /device, channel: { constant: value }, value: /value, time: { from: /ts, format: epoch-ms }, id: /seq }
    schema: { type: object, required: [device, ts, value] }
    window: { kind: tumbling, size: 10s }
    detectors:
      - { name: high, kind: limits, high: 500, coolDown: 1ms }
      - { name: odd, kind: robust, length: 100, threshold: 1000000 }
";

struct Watch {
    start: Instant,
    /// When the last finding came, in nanoseconds since the start, and how many came.
    last: AtomicU64,
    count: AtomicU64,
    seen: Mutex<Vec<(usize, u64)>>,
}

impl Deliver for Watch {
    fn deliver(
        &self,
        events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        let now = nanos(self.start);
        let mut seen = self.seen.lock().expect("no panic");
        for (event, _) in &events {
            let millis = event.time.map_or(0, |at| at.as_millis() - EPOCH_MS);
            seen.push((usize::try_from(millis).unwrap_or(0), now));
        }
        self.last.store(now, Ordering::Relaxed);
        self.count.fetch_add(events.len() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn payload(seq: usize) -> String {
    let (device, value) = (seq % 50, if seq % 100 == 99 { 1000 } else { 20 + seq * 7919 % 13 });
    let ts = EPOCH_MS + i64::try_from(seq).expect("small");
    let mut text = format!(
        r#"{{"device":"dev-{device:03}","seq":{seq},"ts":{ts},"value":{value}.25,"unit":"celsius","site":"plant-01/line-3","quality":"good","pad":""#
    );
    while text.len() < 198 {
        text.push('x');
    }
    text + "\"}"
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default: usize| arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (count, rate) = match arguments.first().map(String::as_str) {
        Some("throughput") => (number(1, 100_000), None),
        Some("rate") => (number(1, 5_000) * number(2, 20), Some(number(1, 5_000))),
        _ => return Err("say throughput N or rate PER_SECOND SECONDS".into()),
    };
    let url = arguments.iter().find(|argument| argument.starts_with("mqtt://")).cloned();
    let mut broker = Broker { url, ..Broker::default() };
    broker.embedded.listen.set_port(0);
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| ".".to_owned()))?;
    let watch = Arc::new(Watch { start: Instant::now(), last: 0.into(), count: 0.into(), seen: Mutex::default() });
    let runtime = tokio::runtime::Runtime::new()?;
    let store = Store::open(&dir.path().join("node.db"))?;
    let settings = Settings { node: "bench".parse()?, data_dir: dir.path().to_owned(), broker };
    let feeds = Arc::new(Feeds::parse("feeds.yaml", FEEDS)?);
    let running = runtime.block_on(pipeline::start(store, settings, feeds, Arc::clone(&watch) as Arc<dyn Deliver>))?;
    // Time for the subscription at a broker of its own.
    std::thread::sleep(Duration::from_millis(1_000));
    println!("idle: {} MB", memory_mb());
    let connection = running.connection().clone();
    let due = publish(&connection, count, rate, &watch);
    let expected = (count / 100) as u64;
    let patience = Instant::now();
    while watch.count.load(Ordering::Relaxed) < expected && patience.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
    report(&watch, &due, count, rate);
    println!("busy: {} MB", memory_mb());
    runtime.block_on(running.shutdown());
    Ok(())
}

/// Publishes from a thread of its own; when each message was due, in nanoseconds since the start.
fn publish(connection: &Connection, count: usize, rate: Option<usize>, watch: &Arc<Watch>) -> Vec<u64> {
    let mut options = connection.options_v5("bench-publisher");
    options.set_outgoing_inflight_upper_limit(2_000);
    let (client, mut events) = AsyncClient::new(options, 2_000);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&acknowledged);
    let poller = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            while seen.load(Ordering::Relaxed) < count as u64 {
                match events.poll().await {
                    Ok(Packet::Incoming(Incoming::PubAck(_))) => drop(seen.fetch_add(1, Ordering::Relaxed)),
                    Ok(_) => {}
                    Err(error) => panic!("the publisher lost its broker: {error}"),
                }
            }
        });
    });
    let payloads: Vec<String> = (0..count).map(payload).collect();
    let begin = nanos(watch.start) + 50_000_000;
    let due: Vec<u64> =
        (0..count).map(|seq| begin + rate.map_or(0, |rate| seq as u64 * 1_000_000_000 / rate as u64)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for (seq, payload) in payloads.into_iter().enumerate() {
            let now = nanos(watch.start);
            if due[seq] > now {
                std::thread::sleep(Duration::from_nanos(due[seq] - now));
            }
            client
                .publish(format!("bench/dev-{:03}", seq % 50), QoS::AtLeastOnce, false, payload)
                .await
                .expect("published");
        }
    });
    poller.join().expect("all acknowledged");
    println!("acknowledged: {}", acknowledged.load(Ordering::Relaxed));
    due
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
fn report(watch: &Watch, due: &[u64], count: usize, rate: Option<usize>) {
    let seconds = watch.last.load(Ordering::Relaxed).saturating_sub(due[0]) as f64 / 1e9;
    println!("findings: {} of {}", watch.count.load(Ordering::Relaxed), count / 100);
    if rate.is_none() {
        println!("throughput: {:.0} messages a second", count as f64 / seconds);
        return;
    }
    // The first tenth is not counted: it warms up.
    let mut latencies: Vec<u64> = watch
        .seen
        .lock()
        .expect("no panic")
        .iter()
        .filter(|(seq, _)| *seq >= count / 10)
        .map(|(seq, at)| at.saturating_sub(due[*seq]))
        .collect();
    latencies.sort_unstable();
    let at = |share: f64| {
        latencies.get((latencies.len().saturating_sub(1) as f64 * share) as usize).map_or(f64::NAN, |n| *n as f64 / 1e6)
    };
    println!(
        "latency ms: p50 {:.2} p90 {:.2} p99 {:.2} max {:.2} of {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        latencies.len()
    );
}

fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}
