//! Publishes a recording: each row of a CSV file as one JSON message at QoS 1, at the pace of the recording or faster,
//! every row acknowledged in the end however often the broker goes away.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    path::Path,
    str::FromStr,
    time::Duration,
};

use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, mqttbytes::QoS};
use serde_json::{Map, Value};
use shared::time::Timestamp;
use tokio::time::Instant;

use super::connection::Connection;
use crate::clock;

/// Messages under way unacknowledged; what may have to be sent again after an interruption.
const IN_FLIGHT_MAX: u16 = 500;
const BACKOFF: Duration = Duration::from_millis(200);
/// How long the broker may be away before the replay gives up.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// The largest recording: its rows are kept until they are acknowledged.
const BYTES_MAX: u64 = 1 << 30;

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the broker takes it.
    Max,
    /// So many times as fast as it was recorded.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    /// `max`, `realtime`, or a factor such as `60x`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            "realtime" => Ok(Self::Times(1.0)),
            _ => match text.strip_suffix('x').map(str::parse::<f64>) {
                Some(Ok(times)) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
                _ => Err(format!("{text:?} is not a speed: expected max, realtime, or a factor such as 60x")),
            },
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Times(times) => write!(f, "{times}x"),
        }
    }
}

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the recording {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}:{line}: {reason}")]
    Row { path: String, line: usize, reason: String },
    #[error("the broker at {place} was away for {} s; {acknowledged} of {rows} rows are acknowledged", AWAY_MAX.as_secs())]
    Away { place: String, acknowledged: u64, rows: u64 },
    #[error("the broker refused a message: {reason}")]
    Refused { reason: String },
}

struct Row {
    payload: String,
    at: Option<Timestamp>,
}

/// Reads `file` (CSV with a header that has `timestamp` and `value`, further columns are sent too) and publishes its rows
/// in order to `topic` as `{"timestamp": .., "value": .., "seq": 0..}`. `progress` is told how many of how many rows are
/// acknowledged. Returns how many were: all of them.
///
/// A row may arrive twice when the connection broke before its acknowledgement; its `seq` tells.
///
/// # Errors
/// When the file is not such a recording, or the broker stays away or refuses a message.
pub async fn replay(
    file: &Path,
    topic: &str,
    speed: Speed,
    broker: &Connection,
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, Error> {
    let rows = read(file)?;
    let total = rows.len() as u64;
    let client_id = format!("skerry-replay-{}", &hex::encode(clock::seed())[..12]);
    let mut player =
        Player { rows: &rows, topic, speed, next: 0, again: VecDeque::new(), acknowledged: 0, started: Instant::now() };
    let mut away_since: Option<Instant> = None;
    progress(0, total);
    while player.acknowledged < total {
        let before = player.acknowledged;
        let mut options = broker.options_v5(&client_id);
        options.set_clean_start(true);
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
        let (client, events) = AsyncClient::new(options, usize::from(IN_FLIGHT_MAX));
        match player.play(client, events, &mut progress).await {
            Ok(()) => {}
            Err(Interrupted::Refused(reason)) => return Err(Error::Refused { reason }),
            Err(Interrupted::Lost(reason)) => {
                if player.acknowledged > before {
                    away_since = None;
                }
                let since = *away_since.get_or_insert_with(Instant::now);
                tracing::debug!(reason, "the replay lost its broker; connecting again");
                if since.elapsed() > AWAY_MAX {
                    let place = format!("{}:{}", broker.host, broker.port);
                    return Err(Error::Away { place, acknowledged: player.acknowledged, rows: total });
                }
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
    Ok(player.acknowledged)
}

enum Interrupted {
    Lost(String),
    Refused(String),
}

struct Player<'a> {
    rows: &'a [Row],
    topic: &'a str,
    speed: Speed,
    /// The first row that was never sent.
    next: usize,
    /// Rows that were sent and not acknowledged when a connection broke, in order.
    again: VecDeque<usize>,
    acknowledged: u64,
    started: Instant,
}

impl Player<'_> {
    /// Plays over one connection until all is acknowledged or it breaks.
    async fn play(
        &mut self,
        client: AsyncClient,
        mut events: EventLoop,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<(), Interrupted> {
        // Rows handed to the client, by the packet id once it has one.
        let mut unnumbered: VecDeque<usize> = VecDeque::new();
        let mut numbered: HashMap<u16, usize> = HashMap::new();
        let mut connected = false;
        let outcome = loop {
            if self.acknowledged == self.rows.len() as u64 {
                break Ok(());
            }
            // Connecting must not be cut short by a row whose time has come.
            let wait = if connected { self.hand_over(&client, &mut unnumbered, numbered.len()) } else { None };
            // The event loop may be left at any await: what it has begun it keeps.
            let event = match wait {
                None => events.poll().await,
                Some(wait) => match tokio::time::timeout(wait, events.poll()).await {
                    Ok(event) => event,
                    Err(_) => continue,
                },
            };
            match event {
                Ok(Event::Outgoing(rumqttc::Outgoing::Publish(packet_id))) => {
                    if let Some(row) = unnumbered.pop_front() {
                        numbered.insert(packet_id, row);
                    }
                }
                Ok(Event::Incoming(Incoming::ConnAck(_))) => connected = true,
                Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                    use rumqttc::v5::mqttbytes::v5::PubAckReason::{NoMatchingSubscribers, Success};
                    if !matches!(ack.reason, Success | NoMatchingSubscribers) {
                        break Err(Interrupted::Refused(format!("{:?}", ack.reason)));
                    }
                    if numbered.remove(&ack.pkid).is_some() {
                        self.acknowledged += 1;
                        progress(self.acknowledged, self.rows.len() as u64);
                    }
                }
                Ok(_) => {}
                Err(error) => break Err(Interrupted::Lost(error.to_string())),
            }
        };
        let mut left: Vec<usize> =
            unnumbered.into_iter().chain(numbered.into_values()).chain(self.again.drain(..)).collect();
        left.sort_unstable();
        self.again = left.into();
        drop(client);
        outcome
    }

    /// Hands rows to the client while there is room and it is their time; how long until the next one's.
    fn hand_over(
        &mut self,
        client: &AsyncClient,
        unnumbered: &mut VecDeque<usize>,
        numbered: usize,
    ) -> Option<Duration> {
        while unnumbered.len() + numbered < usize::from(IN_FLIGHT_MAX) {
            let row = self.again.front().copied().unwrap_or(self.next);
            let wait = self.rows.get(row).map(|row| self.wait(row))?;
            if !wait.is_zero() {
                return Some(wait);
            }
            let payload = self.rows[row].payload.clone();
            if client.try_publish(self.topic, QoS::AtLeastOnce, false, payload).is_err() {
                return None;
            }
            unnumbered.push_back(row);
            if self.again.pop_front().is_none() {
                self.next += 1;
            }
        }
        None
    }

    fn wait(&self, row: &Row) -> Duration {
        let Speed::Times(times) = self.speed else { return Duration::ZERO };
        let (Some(first), Some(at)) = (self.rows[0].at, row.at) else { return Duration::ZERO };
        let due = Duration::try_from_secs_f64(at.since(first).as_secs_f64() / times).unwrap_or(Duration::MAX);
        due.saturating_sub(self.started.elapsed())
    }
}

fn read(file: &Path) -> Result<Vec<Row>, Error> {
    let path = file.display().to_string();
    let failed = |source| Error::Read { path: path.clone(), source };
    let wrong = |line, reason: String| Error::Row { path: path.clone(), line, reason };
    if std::fs::metadata(file).map_err(failed)?.len() > BYTES_MAX {
        return Err(wrong(1, "larger than 1 GiB; cut it into parts".to_owned()));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
    for column in ["timestamp", "value"] {
        if !header.contains(&column) {
            return Err(wrong(1, format!("no column `{column}` in the header: expected timestamp,value")));
        }
    }
    let mut rows = Vec::new();
    for (index, line) in lines {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != header.len() {
            return Err(wrong(index + 1, format!("{} fields, but the header has {}", fields.len(), header.len())));
        }
        let mut message = Map::new();
        let mut at = None;
        for (column, field) in header.iter().zip(&fields) {
            if *column == "timestamp" {
                at = field.parse().or_else(|_| format!("{}Z", field.replacen(' ', "T", 1)).parse()).ok();
            }
            // A number stays one, with the digits of the file; all else is text.
            let value =
                serde_json::from_str(field).ok().filter(Value::is_number).unwrap_or_else(|| Value::from(*field));
            message.insert((*column).to_owned(), value);
        }
        message.insert("seq".to_owned(), rows.len().into());
        rows.push(Row { payload: Value::Object(message).to_string(), at });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_read_as_written() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("60x".parse(), Ok(Speed::Times(60.0)));
        for bad in ["", "x", "-1x", "0x", "fast"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_row_becomes_a_message_with_its_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("r.csv");
        std::fs::write(&file, "timestamp,value\n2013-12-02 21:15:00,73.96732207\n2013-12-02 21:20:00,74.9\n")
            .expect("written");
        let rows = read(&file).expect("read");
        assert_eq!(rows[0].payload, r#"{"timestamp":"2013-12-02 21:15:00","value":73.96732207,"seq":0}"#);
        assert_eq!(rows[1].at.expect("timed").since(rows[0].at.expect("timed")), Duration::from_secs(300));
        std::fs::write(&file, "timestamp,value\n2013-12-02 21:15:00\n").expect("written");
        let error = read(&file).err().expect("refused").to_string();
        assert!(error.ends_with("r.csv:2: 1 fields, but the header has 2"), "{error}");
    }
}
