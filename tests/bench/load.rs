//! The loads: one message after a start, a steady rate, and as fast as it goes.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use tests::{
    agent::{Agent, Setup},
    broker::Mosquitto,
    mqtt::Client,
    wait,
};

/// Machines that the readings come from.
const DEVICES: usize = 40;
/// Publishers of a flood: enough that none of them is what is measured.
const PUBLISHERS: usize = 4;
/// The agent takes its start for over after ten seconds.
const START_OVER: Duration = Duration::from_secs(12);
/// How often the first message after a start is asked for.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// Readings that the detectors have seen since the process started.
const READINGS: &str = "skerry_feed_latency_seconds_count";
const LATENCY: &str = "skerry_feed_latency_seconds_bucket";

/// What a steady rate did.
pub struct Held {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub memory_mb: f64,
}

/// From starting the process to the first message being journalled and seen by the detectors. The message waits in the
/// site's broker, in the session that the agent left there.
pub async fn start_to_first_message(folder: &Path, site: &Path) -> Duration {
    let broker = Mosquitto::start(folder).await;
    let mut agent = Agent::new(folder, &Setup { broker: Some(broker.port), ..Setup::new("starter", site) });
    agent.start().await;
    let publisher = Client::connect("publisher", broker.port).await;
    publisher.publish("bench/machine-0/load", reading(0)).await;
    handled(&agent, 1.0).await;
    agent.stop().await;
    publisher.publish("bench/machine-0/load", reading(1)).await;
    publisher.acknowledged(2, Duration::from_secs(10)).await;
    let start = Instant::now();
    agent.spawn();
    while agent.metric(READINGS, "").await < 1.0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the agent handles its first message");
        tokio::time::sleep(FIRST_PAUSE).await;
    }
    start.elapsed()
}

/// Resident memory in MB of an agent whose start is over (it gives back what only the start needed), once it no longer
/// changes by more than a tenth of a MB.
pub async fn memory_when_settled(agent: &mut Agent) -> f64 {
    tokio::time::sleep(START_OVER).await;
    let pid = agent.running().pid();
    let tenths = async || resident_kb(pid) / 100;
    wait::settled("memory", Duration::from_secs(3), Duration::from_secs(60), tenths).await as f64 / 10.0
}

/// Publishes at a steady rate, from one publisher.
pub async fn hold(agent: &mut Agent, rate: u32, duration: Duration) -> Held {
    let publisher = Client::connect("steady", agent.mqtt).await;
    let before = buckets(agent).await;
    let from = agent.metric(READINGS, "").await;
    let count = u64::from(rate) * duration.as_secs();
    // Ten times each millisecond-sized tick would cost more than the messages; a hundredth of a second is fine enough.
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let each = u64::from(rate).div_ceil(100);
    let mut sent = 0;
    while sent < count {
        tick.tick().await;
        for _ in 0..each.min(count - sent) {
            publish(&publisher, sent).await;
            sent += 1;
        }
    }
    let memory_mb = resident_kb(agent.running().pid()) as f64 / 1e3;
    handled(agent, from + count as f64).await;
    let after = buckets(agent).await;
    let gained: Vec<_> = after.iter().map(|(bound, n)| (*bound, n - count_at(&before, *bound))).collect();
    Held { p50_ms: quantile(&gained, 0.5) * 1e3, p99_ms: quantile(&gained, 0.99) * 1e3, memory_mb }
}

/// Publishes as fast as the broker takes it; messages a second until the last one was seen by the detectors.
pub async fn flood(agent: &mut Agent, messages: usize) -> f64 {
    let from = agent.metric(READINGS, "").await;
    let start = Instant::now();
    let publishers = (0..PUBLISHERS).map(|number| {
        let port = agent.mqtt;
        async move {
            let client = Client::connect(&format!("flood-{number}"), port).await;
            let mine = messages / PUBLISHERS;
            for index in 0..mine {
                publish(&client, (index * PUBLISHERS + number) as u64).await;
            }
            client.acknowledged(mine, Duration::from_secs(300)).await;
        }
    });
    futures::future::join_all(publishers).await;
    let sent = messages / PUBLISHERS * PUBLISHERS;
    handled(agent, from + sent as f64).await;
    sent as f64 / start.elapsed().as_secs_f64()
}

async fn publish(client: &Client, index: u64) {
    client.publish(&format!("bench/machine-{}/load", index as usize % DEVICES), reading(index)).await;
}

/// A reading with the publisher's clock, in milliseconds with decimals, so that latency can be told.
fn reading(index: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1e3;
    // A slow swing with a little roughness; no detector minds it.
    let value = 50.0 + (index as f64 / 500.0).sin() * 10.0 + (index * 7_919 % 100) as f64 / 100.0;
    format!(r#"{{"at":{now:.3},"value":{value:.3}}}"#)
}

async fn handled(agent: &Agent, readings: f64) {
    wait::until(&format!("{readings} readings to be handled"), Duration::from_secs(300), async || {
        (agent.metric(READINGS, "").await >= readings).then_some(())
    })
    .await;
}

/// Upper bounds in seconds and how many lie at or below, over all feeds.
async fn buckets(agent: &Agent) -> Vec<(f64, f64)> {
    let answer = tests::net::http().get(agent.url("/metrics")).send().await.expect("the agent tells its metrics");
    let text = answer.text().await.expect("metrics are text");
    let lines = text.lines().filter(|line| line.starts_with(LATENCY));
    lines
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            Some((bound.parse().unwrap_or(f64::INFINITY), line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect()
}

fn count_at(buckets: &[(f64, f64)], bound: f64) -> f64 {
    buckets.iter().find(|(at, _)| *at == bound).map_or(0.0, |(_, count)| *count)
}

/// The upper bound of the bucket in which the quantile lies: never flatters.
fn quantile(buckets: &[(f64, f64)], q: f64) -> f64 {
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    buckets.iter().find(|(_, count)| *count >= total * q).map_or(f64::NAN, |(bound, _)| *bound)
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
