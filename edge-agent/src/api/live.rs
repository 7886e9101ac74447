//! What the pages are told of the node as it is now, beside what the store holds.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::{
    time::Timestamp,
    wire::v1::{Applied, Health},
};

/// The node now.
#[derive(Debug, Clone, Serialize)]
pub struct Live {
    pub started: Timestamp,
    pub health: Health,
    /// One sentence per thing that is not as it should be.
    pub complaints: Vec<String>,
    pub link: Link,
    pub bundle: Option<Applied>,
    /// Where sensors connect, such as `mqtt://127.0.0.1:1883`.
    pub broker: String,
    pub feeds: Vec<Feed>,
    /// The newest first; the last hundred or so.
    pub findings: Vec<Finding>,
    /// All since the agent started.
    pub findings_count: u64,
    /// Where an inference can run.
    pub targets: Vec<Target>,
    /// The small models on this node: what embeds, ranks and classifies.
    pub encoders: Vec<Encoder>,
    pub serving: Serving,
}

/// What the models on this node have of the machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Serving {
    /// Degrees Celsius, where the kernel tells.
    pub temperature: Option<f64>,
    /// Keys and values of all models, in bytes, and the most that they may have.
    pub cache_bytes: u64,
    pub cache_bytes_max: u64,
}

/// The way to the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Link {
    /// The node was never enrolled.
    None,
    Up {
        control: String,
        since: Timestamp,
    },
    Down {
        control: String,
        /// `None`: not once since the agent started.
        since: Option<Timestamp>,
        reason: String,
    },
}

/// One feed and its counters since the store was made.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Feed {
    pub name: String,
    pub topic: String,
    pub messages: u64,
    /// Readings in the journal.
    pub readings: u64,
    pub quarantined: u64,
    pub duplicates: u64,
    pub shed: u64,
    pub per_second: f64,
    pub series: Vec<Series>,
    /// From a reading's own time to the detector: upper bounds in seconds with the count of readings up to each, the last
    /// one infinite.
    pub latency: Vec<(f64, u64)>,
    pub latency_sum_s: f64,
}

/// The last values of one channel of one device.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    pub device: String,
    pub channel: String,
    pub unit: String,
    pub value: f64,
    pub at: Timestamp,
    /// The last values, oldest first, for a small drawing; may be empty.
    pub trend: Vec<f64>,
    /// Whether a detector holds it for anomalous now.
    pub anomalous: bool,
}

/// What a detector reported.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub at: Timestamp,
    pub feed: String,
    pub device: String,
    pub channel: String,
    pub detector: String,
    pub severity: String,
    pub value: f64,
    pub unit: String,
}

/// A place where an inference can run.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub name: String,
    pub kind: String,
    pub jurisdiction: Option<String>,
    pub reachable: bool,
    /// Of a model on this node.
    pub model: Option<Model>,
}

/// How a model on this node stands. Speeds are means over the last answers; counts are since the agent started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Model {
    pub waiting: usize,
    pub writing: usize,
    pub loaded: bool,
    /// Bytes of what is loaded, and of the keys and values that are kept for prompts like those before.
    pub model_bytes: u64,
    pub kept_bytes: u64,
    pub prompt_tokens_per_second: Option<f64>,
    pub answer_tokens_per_second: Option<f64>,
    pub first_text_seconds: Option<f64>,
    pub answers: u64,
    pub prompt_tokens: u64,
    /// Those of them that were known from answers before.
    pub reused_tokens: u64,
    pub answer_tokens: u64,
    /// Requests that had no place in the queue, or were told at once that it would be too late.
    pub turned_away: u64,
}

/// How a small model on this node stands. They have one queue; counts are since the agent started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Encoder {
    pub name: String,
    /// Such as `embeds`.
    pub does: String,
    pub waiting: usize,
    pub loaded: bool,
    /// Tokens of texts read a second, about, a mean over the last ones.
    pub tokens_per_second: Option<f64>,
    pub texts: u64,
    /// Requests that had no place in the queue, or were told at once that it would be too late.
    pub turned_away: u64,
}

impl Live {
    /// Whether a load balancer or supervisor should take the node for broken.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.health == Health::Failing
    }

    /// Figures for the control plane's pages; names end with their unit.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let sum = |of: fn(&Feed) -> f64| self.feeds.iter().map(of).sum::<f64>();
        BTreeMap::from([
            ("readings_per_second".to_owned(), sum(|feed| feed.per_second)),
            ("readings_count".to_owned(), sum(|feed| feed.readings as f64)),
            ("quarantined_count".to_owned(), sum(|feed| feed.quarantined as f64)),
            ("findings_count".to_owned(), self.findings_count as f64),
            ("devices_count".to_owned(), self.devices() as f64),
        ])
    }

    /// How many devices the node has heard of.
    #[must_use]
    pub fn devices(&self) -> usize {
        let all = self.feeds.iter().flat_map(|feed| &feed.series).map(|series| series.device.as_str());
        all.collect::<std::collections::BTreeSet<_>>().len()
    }
}
