//! The plant as a process: publishes what its sensors tell to each site's broker, obeys the commands that come back,
//! and takes `fault` and `record` lines on its standard input. It ends when that input ends.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish},
    },
};
use serde_json::{Value, json};
use shared::time::Timestamp;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};

use super::{Command, Fault, Plant, noise::Noise, records};

/// Messages that wait for one broker: about a minute of a site at the demo's speed. Beyond it a sensor's value is lost,
/// as on a real fieldbus, and counted.
const OUTBOX_LEN_MAX: usize = 10_000;
/// Keys of commands that were obeyed; far more than a plant gets while a node could still repeat one.
const KEYS_LEN_MAX: usize = 10_000;
/// How often a broken message goes out, on average, in simulated time: agents must cope with it.
const BROKEN_PER_HOUR: f64 = 1.0;
const RECORDS_PER_HOUR: f64 = 0.7;

/// Simulate the plant.
#[derive(Debug, Args)]
pub struct Options {
    /// Where a site's broker is, such as `hamburg=127.0.0.1:1883`; once for each site.
    #[arg(long = "site", value_name = "SITE=HOST:PORT", required = true)]
    sites: Vec<String>,
    /// How many times faster than the clock on the wall.
    #[arg(long, default_value_t = 60.0)]
    speed: f64,
    /// Simulated seconds between two samples of a sensor.
    #[arg(long, default_value_t = 30.0)]
    sample: f64,
    /// Simulated minutes that are published at once before the clock starts, so that detectors know what is normal.
    #[arg(long, default_value_t = 30)]
    history: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The simulated time at which the clock starts [default: one day ago].
    #[arg(long)]
    start: Option<String>,
}

struct Order {
    site: &'static str,
    machine: String,
    payload: Value,
    key: Option<String>,
}

struct Outbox {
    client: AsyncClient,
    lost: u64,
}

impl Outbox {
    fn send(&mut self, topic: &str, payload: Vec<u8>) {
        if self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_err() {
            self.lost += 1;
        }
    }
}

/// Keys of commands already obeyed, so that a repeat changes nothing.
#[derive(Default)]
struct Obeyed {
    keys: HashSet<String>,
    order: VecDeque<String>,
}

impl Obeyed {
    /// Whether this key is new; remembers it.
    fn take(&mut self, key: &str) -> bool {
        if !self.keys.insert(key.to_owned()) {
            return false;
        }
        self.order.push_back(key.to_owned());
        if self.order.len() > KEYS_LEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

struct Process {
    plant: Plant,
    outboxes: BTreeMap<&'static str, Outbox>,
    obeyed: Obeyed,
    noise: Noise,
    records: u64,
}

/// Runs until standard input ends.
///
/// # Errors
/// When an option is wrong. Brokers may come and go.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let start = match &options.start {
        Some(text) => text.parse()?,
        None => one_day_ago(),
    };
    let (orders, mut ordered) = mpsc::channel(1_000);
    let mut outboxes = BTreeMap::new();
    for spec in &options.sites {
        let (site, client, events) = connect(spec)?;
        tokio::spawn(listen(site, client.clone(), events, orders.clone()));
        outboxes.insert(site, Outbox { client, lost: 0 });
    }
    let noise = Noise::new(options.seed ^ 0x5eed);
    let plant = Plant::new(options.seed, start);
    let mut process = Process { plant, outboxes, obeyed: Obeyed::default(), noise, records: 0 };
    // Machines that were just put together need a while to reach their temperatures.
    process.plant.advance(3_600.0);
    for _ in 0..(f64::from(options.history) * 60.0 / options.sample) as u64 {
        process.sample(options.sample);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(options.sample / options.speed));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            _ = ticks.tick() => process.tick(options.sample),
            Some(order) = ordered.recv() => process.order(&order),
            line = lines.next_line() => match line? {
                Some(line) => process.line(&line),
                None => return Ok(()),
            },
        }
    }
}

impl Process {
    fn tick(&mut self, sample_s: f64) {
        self.sample(sample_s);
        let sites: Vec<_> = self.outboxes.keys().copied().collect();
        for site in sites {
            if self.noise.happens(BROKEN_PER_HOUR, sample_s) {
                self.send(site, "plant/pump-1/vibration", b"{\"machine\":\"pump-1\",\"value\":".to_vec());
                tell(&json!({"event": "broken", "site": site}));
            }
            if self.noise.happens(RECORDS_PER_HOUR, sample_s) {
                self.records += 1;
                let id = format!("{site}-{}", self.records);
                self.record(site, records::Kind::Shift, &id);
            }
        }
    }

    fn sample(&mut self, sample_s: f64) {
        self.plant.advance(sample_s);
        let time = self.plant.now();
        let mut outgoing = Vec::new();
        for unit in self.plant.units() {
            for sample in unit.samples() {
                let payload = json!({
                    "machine": unit.name, "channel": sample.channel, "value": sample.value, "unit": sample.unit, "time": time,
                });
                outgoing.push((unit.site, format!("plant/{}/{}", unit.name, sample.channel), payload.to_string()));
            }
        }
        for (site, topic, payload) in outgoing {
            self.send(site, &topic, payload.into_bytes());
        }
    }

    fn send(&mut self, site: &str, topic: &str, payload: Vec<u8>) {
        if let Some(outbox) = self.outboxes.get_mut(site) {
            outbox.send(topic, payload);
            if outbox.lost.is_power_of_two() {
                tell(&json!({"event": "lost", "site": site, "count": outbox.lost}));
            }
        }
    }

    fn record(&mut self, site: &str, kind: records::Kind, id: &str) {
        let record = records::write(kind, id, self.plant.now(), &mut self.noise);
        self.send(site, kind.topic(), record.to_string().into_bytes());
        tell(&json!({"event": "record", "site": site, "id": id}));
    }

    fn order(&mut self, order: &Order) {
        let Order { site, machine, payload, key } = order;
        let outcome = match payload["command"].as_str().unwrap_or_default().parse::<Command>() {
            Err(problem) => problem.to_string(),
            Ok(_) if key.as_deref().is_some_and(|key| !self.obeyed.take(key)) => "repeat".to_owned(),
            Ok(command) => match self.plant.unit(site, machine) {
                None => "no such machine".to_owned(),
                Some(unit) => {
                    unit.obey(command);
                    "obeyed".to_owned()
                }
            },
        };
        tell(&json!({
            "event": "command", "site": site, "machine": machine, "command": payload["command"], "key": key, "outcome": outcome,
        }));
    }

    fn line(&mut self, line: &str) {
        if let Err(problem) = self.try_line(line) {
            tell(&json!({"event": "refused", "line": line, "reason": format!("{problem:#}")}));
        }
    }

    fn try_line(&mut self, line: &str) -> anyhow::Result<()> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["fault", site, machine, fault] => {
                let fault: Fault = fault.parse()?;
                let unit = self.plant.unit(site, machine).context("no such machine")?;
                anyhow::ensure!(unit.afflict(fault), "this machine cannot have this fault");
                tell(&json!({"event": "fault", "site": site, "machine": machine, "fault": line}));
            }
            ["record", site, kind, id] => {
                let kind = kind.parse()?;
                self.record(site, kind, id);
            }
            _ => bail!("expected `fault SITE MACHINE FAULT` or `record SITE batch|shift ID`"),
        }
        Ok(())
    }
}

fn connect(spec: &str) -> anyhow::Result<(&'static str, AsyncClient, EventLoop)> {
    let wrong =
        || format!("cannot read --site {spec:?}: expected SITE=HOST:PORT with SITE one of hamburg, basel, houston");
    let (site, address) = spec.split_once('=').with_context(wrong)?;
    let (site, _) = super::SITES.iter().find(|(name, _)| *name == site).with_context(wrong)?;
    let (host, port) = address.rsplit_once(':').with_context(wrong)?;
    let mut options = MqttOptions::new(format!("plant-{site}"), host, port.parse().with_context(wrong)?);
    options.set_keep_alive(Duration::from_secs(15)).set_clean_start(false).set_session_expiry_interval(Some(3_600));
    let (client, events) = AsyncClient::new(options, OUTBOX_LEN_MAX);
    Ok((site, client, events))
}

/// Polls one connection for ever and hands the commands on.
async fn listen(site: &'static str, client: AsyncClient, mut events: EventLoop, orders: mpsc::Sender<Order>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                tell(&json!({"event": "connected", "site": site}));
                if !ack.session_present && client.try_subscribe("plant/+/command", QoS::AtLeastOnce).is_err() {
                    tell(&json!({"event": "deaf", "site": site, "reason": "the outbox is full"}));
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Some(order) = read_order(site, &publish)
                    && orders.send(order).await.is_err()
                {
                    return;
                }
            }
            Ok(_) => {}
            Err(problem) => {
                tracing::debug!(site, %problem, "no connection to the broker");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn read_order(site: &'static str, publish: &Publish) -> Option<Order> {
    let topic = std::str::from_utf8(&publish.topic).ok()?;
    let machine = topic.strip_prefix("plant/")?.strip_suffix("/command")?.to_owned();
    let payload: Value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
    let property = publish.properties.as_ref().and_then(|properties| {
        properties.user_properties.iter().find(|(name, _)| name == "idempotencyKey").map(|(_, value)| value.clone())
    });
    let key = property.or_else(|| payload["idempotencyKey"].as_str().map(str::to_owned));
    Some(Order { site, machine, payload, key })
}

/// One line of JSON for whoever started the plant.
fn tell(line: &Value) {
    use std::io::Write as _;
    // A reader that is gone is no reason to stop the plant.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Old enough that simulated time never overtakes the clock on the wall.
fn one_day_ago() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(0) - 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_command_is_obeyed_once() {
        let mut obeyed = Obeyed::default();
        assert!(obeyed.take("run:/do/4"));
        assert!(!obeyed.take("run:/do/4"));
        assert!(obeyed.take("run:/do/5"));
    }

    #[test]
    fn a_command_names_its_machine_in_the_topic_and_its_key_in_a_property_or_the_payload() {
        let mut publish =
            Publish::new("plant/pump-7/command", QoS::AtLeastOnce, r#"{"command":"stop","idempotencyKey":"k"}"#, None);
        let order = read_order("basel", &publish).expect("an order");
        assert_eq!((order.machine.as_str(), order.key.as_deref()), ("pump-7", Some("k")));
        publish.topic = "plant/pump-7/vibration".into();
        assert!(read_order("basel", &publish).is_none());
    }
}
