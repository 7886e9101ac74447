//! What became of the messages: every one accounted for, misfits, feeds that nothing comes on, readings that wait.

use edge_core::feed::rhythm::Rhythm;
use rusqlite::Connection;
use serde::Serialize;
use shared::{look::words, time::Timestamp};

use super::{super::local::Local, Check};
use crate::{clock, config::Config, feed::journal, site::Site};

/// Readings that wait for the pipeline while it runs: more than it saves its place after means that it lags.
const WAITING_MAX: i64 = 200_000;
/// One misfit in so many messages is a sensor that hiccups; more is a feed that is described wrongly.
const MISFITS_IN: i64 = 100;

/// The messages of one feed: each that was received is in exactly one of journalled, quarantined and duplicates.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    pub name: String,
    pub received: i64,
    pub journalled: i64,
    pub quarantined: i64,
    /// Delivered again by the broker, and known.
    pub duplicates: i64,
    /// Messages of QoS 0 for which there was no room.
    pub shed: i64,
    pub readings: i64,
    /// Readings too old for their window, or too far ahead.
    pub late: i64,
}

pub(super) fn accounts(connection: &Connection) -> rusqlite::Result<Vec<Account>> {
    let account = |(name, totals): (String, journal::Totals)| Account {
        name,
        received: totals.received,
        journalled: totals.journalled,
        quarantined: totals.quarantined,
        duplicates: totals.duplicate,
        shed: totals.shed,
        readings: totals.readings,
        late: totals.late,
    };
    Ok(journal::totals(connection)?.into_iter().map(account).collect())
}

pub(super) fn accounting(feeds: &[Account]) -> Check {
    let sum = |of: fn(&Account) -> i64| feeds.iter().map(of).sum::<i64>();
    let (received, kept) =
        (sum(|feed| feed.received), sum(|feed| feed.journalled + feed.quarantined + feed.duplicates));
    let found = format!(
        "received {received} = journalled {} + quarantined {} + delivered again {}",
        sum(|feed| feed.journalled),
        sum(|feed| feed.quarantined),
        sum(|feed| feed.duplicates)
    );
    if received == kept {
        Check::ok("accounting", found)
    } else {
        Check::broken(
            "accounting",
            format!("{found} does not hold: {kept} accounted for"),
            "keep a copy of the data folder and report it",
        )
    }
}

/// Feeds of which much did not fit.
pub(super) fn misfits(feeds: &[Account]) -> Option<Check> {
    let bad: Vec<_> = feeds.iter().filter(|feed| feed.quarantined * MISFITS_IN > feed.received).collect();
    if bad.is_empty() {
        return None;
    }
    let told =
        |feed: &&Account| format!("{}: {} of {} messages did not fit", feed.name, feed.quarantined, feed.received);
    let found = bad.iter().map(told).collect::<Vec<_>>().join("\n");
    let advice = "`edge-agent quarantine list` says why; correct `decode` or `schema` in feeds.yaml, or the sensor";
    Some(Check::warning("quarantine", found, advice))
}

/// Readings that the pipeline has not taken yet.
pub(super) fn backlog(connection: &Connection, running: bool) -> Option<Check> {
    let waiting = "SELECT last - position FROM journal_state";
    let waiting: i64 = connection.query_row(waiting, [], |row| row.get(0)).ok()?;
    if !running || waiting <= WAITING_MAX {
        return None;
    }
    let advice = "the machine is slower than its feeds: take fewer readings or detectors, or a faster disk; nothing is lost meanwhile";
    Some(Check::warning("pipeline", format!("{waiting} readings wait for windows and detectors"), advice))
}

/// Feeds that no message has ever come on.
pub(super) fn quiet(config: &Config, running: bool, accounts: &[Account]) -> Option<Check> {
    let feeds = in_force(config, running)?;
    let heard = |name: &str| accounts.iter().any(|account| account.name == name && account.received + account.shed > 0);
    let quiet: Vec<_> = feeds.iter().filter(|(name, _)| !heard(name)).collect();
    if quiet.is_empty() {
        return None;
    }
    let told = |(name, topic): &&(String, String)| format!("{name}: nothing came on {topic} yet");
    let found = quiet.iter().map(told).collect::<Vec<_>>().join("\n");
    let advice = "publish to a topic that matches, or correct `topic` in feeds.yaml (levels and letters must be the same); `edge-agent replay` publishes a recording";
    Some(Check::warning("feeds", found, advice))
}

/// Feeds that were heard and then fell silent, while the agent listened.
pub(super) fn silent(config: &Config, running: bool, connection: &Connection) -> Option<Check> {
    if !running {
        return None;
    }
    let status = Local::find(config).and_then(|local| local.get("/api/v1/status")).ok()?;
    let started = status["started"].as_str()?.parse().ok()?;
    let rhythms = journal::rhythms(connection).ok()?;
    let heard = in_force(config, running)?.into_iter();
    let heard: Vec<_> = heard.filter_map(|(name, topic)| Some((rhythms.get(&name).copied()?, name, topic))).collect();
    fell_silent(&heard, started, clock::now())
}

fn fell_silent(heard: &[(Rhythm, String, String)], started: Timestamp, now: Timestamp) -> Option<Check> {
    let silent = heard.iter().filter(|(rhythm, ..)| rhythm.is_silent(started, now));
    let told = |(rhythm, name, topic): &(Rhythm, String, String)| {
        let (silence, pause) = (now.since(rhythm.heard_at), rhythm.pause());
        let since = words::second(rhythm.heard_at);
        let (silence, pause) = (words::span(silence), words::span(pause));
        format!("{name}: silent since {since} UTC, for {silence}; usually it pauses for {pause} at most ({topic})")
    };
    let found: Vec<_> = silent.map(told).collect();
    if found.is_empty() {
        return None;
    }
    let advice = "see whether the sensor still publishes, and whether its gateway still reaches the broker; what comes later is taken as ever";
    Some(Check::warning("feeds", found.join("\n"), advice))
}

/// Name and topic of the feeds in force: those of the running agent, or of the site's folder.
fn in_force(config: &Config, running: bool) -> Option<Vec<(String, String)>> {
    if running {
        let answer = Local::find(config).and_then(|local| local.get("/api/v1/feeds")).ok()?;
        let text = |feed: &serde_json::Value, key: &str| feed[key].as_str().unwrap_or_default().to_owned();
        return Some(
            answer["feeds"].as_array()?.iter().map(|feed| (text(feed, "name"), text(feed, "topic"))).collect(),
        );
    }
    let site = Site::load(config.site.as_deref()?).ok()?;
    Some(site.feeds.list().iter().map(|feed| (feed.name.clone(), feed.topic.as_str().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_fell_silent_is_told_of_with_since_when_and_its_usual_pause() {
        let at = |second: i64| Timestamp::from_micros((1_796_000_000 + second) * 1_000_000);
        let every = |seconds: i64| (1..50).map(|n| at(n * seconds)).fold(Rhythm::first(at(0)), Rhythm::heard);
        let heard = |rhythm, name: &str| (rhythm, name.to_owned(), format!("plant/{name}"));
        let feeds = [heard(every(15), "press"), heard(every(900), "meter")];
        let now = at(4 * 3_600);
        let check = fell_silent(&feeds, at(0), now).expect("a warning");
        let expected =
            "press: silent since 2026-11-30 01:05:35 UTC, for 3 h; usually it pauses for 15 s at most (plant/press)";
        assert_eq!(check.found, expected);
        assert!(fell_silent(&feeds, at(4 * 3_600 - 60), now).is_none(), "the agent began to listen a minute ago");
    }

    #[test]
    fn a_feed_is_told_of_when_much_does_not_fit() {
        let feed = |name: &str, received, quarantined| Account {
            name: name.to_owned(),
            received,
            quarantined,
            journalled: received - quarantined,
            ..Account::default()
        };
        assert!(misfits(&[feed("a", 1_000, 9), feed("b", 0, 0)]).is_none());
        let check = misfits(&[feed("a", 1_000, 9), feed("b", 10, 10)]).expect("a warning");
        assert_eq!(check.found, "b: 10 of 10 messages did not fit");
    }
}
