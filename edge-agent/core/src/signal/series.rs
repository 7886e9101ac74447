//! One series (a channel of a device): its windows and its detectors, advanced reading by reading.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

use super::{
    Summary, Verdict, Windows,
    config::{Detector, Quantity, Severity, Window},
    detect::Watch,
    learned::{Model, Sample},
};

/// A reading so far ahead of the one before may come from a clock that was wrong for a moment. Moving the series to its
/// time would make all that follows late; so its value is judged at once, and its time holds when a second one confirms it.
const LEAP_MICROS: i64 = 86_400_000_000;
/// A clock that was wrong for long leaves a newest time far ahead. After so many readings in a row that lie a leap
/// behind it, the series begins anew at their time.
const BEHIND_MAX: u32 = 32;

/// What is done with each series of a feed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signal {
    pub window: Option<Window>,
    pub detectors: Vec<Detector>,
}

/// Something that a detector found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub detector: String,
    pub severity: Severity,
    pub verdict: Verdict,
    /// The value or the window's figure that was judged.
    pub value: f64,
    /// The window that was judged, or that the value stands in.
    pub window: Summary,
    pub at: Timestamp,
}

/// What came of the readings taken since it was last emptied.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub closed: Vec<Summary>,
    pub findings: Vec<Finding>,
    /// What models may learn from later, by the detector's name. A sample that comes again holds in the place of the first.
    pub samples: Vec<(String, Sample)>,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Counted,
    /// Older than the lateness allows: its windows have closed.
    Late,
    /// Far ahead of all before: judged, and counted when a second reading confirms its time. If the next one does not,
    /// it counts as late.
    Ahead,
}

/// A reading far ahead of all before. Detectors of single values have judged it, for it may be the only one for days;
/// what they remembered before is kept until its time is confirmed. Windows do not know it until then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leap {
    at: i64,
    value: f64,
    /// By the detector's name.
    before: BTreeMap<String, Watch>,
}

/// Where a reading's time lies.
enum Place {
    InTime,
    Late,
    Ahead,
    /// Far ahead of all but the reading that leapt before it.
    Confirms,
    /// Behind for so long that the series begins anew at its time.
    Anew,
}

/// The state of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    newest: Option<i64>,
    /// The reading that leapt ahead and waits for a second one.
    #[serde(default)]
    leap: Option<Leap>,
    /// The longest step between readings so far: a slow series may leap further.
    stride: i64,
    behind: u32,
    counted: u64,
    late: u64,
    windows: Windows,
    /// By the detector's name.
    watches: BTreeMap<String, Watch>,
}

impl Series {
    /// A series that has seen nothing.
    #[must_use]
    pub fn new(signal: &Signal, channel: &str) -> Self {
        let watches = looking(signal, channel).map(|detector| (detector.name.clone(), Watch::new(detector))).collect();
        Self {
            newest: None,
            leap: None,
            stride: 0,
            behind: 0,
            counted: 0,
            late: 0,
            windows: Windows::default(),
            watches,
        }
    }

    /// The state as bytes that `load` takes.
    ///
    /// # Panics
    /// Never: a state is plain data.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state is plain data")
    }

    /// A saved state under the configuration of now. A detector that is new or has another shape begins afresh, and so do
    /// the windows when `same_window` is not what they were saved under.
    ///
    /// # Errors
    /// When the bytes are not a state.
    pub fn load(signal: &Signal, channel: &str, windows: Kept, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut series: Self = serde_json::from_slice(bytes)?;
        let mut saved = std::mem::take(&mut series.watches);
        for detector in looking(signal, channel) {
            let watch = saved.remove(&detector.name).filter(|watch| watch.fits(detector));
            series.watches.insert(detector.name.clone(), watch.unwrap_or_else(|| Watch::new(detector)));
            if let Some(leap) = &mut series.leap
                && leap.before.get(&detector.name).is_some_and(|before| !before.fits(detector))
            {
                leap.before.remove(&detector.name);
            }
        }
        if windows == Kept::No {
            series.windows = Windows::default();
        }
        Ok(series)
    }

    /// Takes the next reading in the journal's order and adds to `outcome` what comes of it.
    pub fn take(&mut self, signal: &Signal, at: Timestamp, value: f64, outcome: &mut Outcome) -> Taken {
        let micros = at.as_micros();
        let lateness = signal.window.map_or(0, |window| window.lateness_micros);
        match self.place(micros, lateness) {
            Place::Late => {
                self.late += 1;
                return Taken::Late;
            }
            Place::Ahead => {
                self.refute();
                self.leap(signal, at, value, outcome);
                return Taken::Ahead;
            }
            Place::Confirms => {
                self.confirm(signal, micros, lateness, outcome);
                // Behind the one that it confirmed by more than the lateness: late, like any other.
                return self.take(signal, at, value, outcome);
            }
            Place::Anew => {
                self.refute();
                self.windows = Windows::default();
                (self.newest, self.behind) = (Some(micros), 0);
            }
            Place::InTime => {
                self.refute();
                let newest = self.newest.unwrap_or(micros);
                self.stride = self.stride.max(micros.saturating_sub(newest));
                (self.newest, self.behind) = (Some(newest.max(micros)), 0);
            }
        }
        self.count(signal, at, value, lateness, |_| true, outcome);
        Taken::Counted
    }

    /// Where the reading lies in time.
    fn place(&mut self, at: i64, lateness: i64) -> Place {
        let Some(newest) = self.newest else { return Place::InTime };
        let far = LEAP_MICROS.max(lateness).max(self.stride.saturating_mul(4));
        if at < newest.saturating_sub(lateness) {
            self.behind = if newest.saturating_sub(at) > far { self.behind + 1 } else { 0 };
            return if self.behind < BEHIND_MAX { Place::Late } else { Place::Anew };
        }
        if at.saturating_sub(newest) <= far {
            return Place::InTime;
        }
        match &self.leap {
            Some(leap) if at >= leap.at.saturating_sub(LEAP_MICROS) => Place::Confirms,
            _ => Place::Ahead,
        }
    }

    /// Judges a reading far ahead and keeps it until its time is confirmed.
    fn leap(&mut self, signal: &Signal, at: Timestamp, value: f64, outcome: &mut Outcome) {
        let judges = |detector: &&Detector| alone(detector.of);
        let before = signal.detectors.iter().filter(judges).filter_map(|detector| {
            self.watches.get(&detector.name).map(|watch| (detector.name.clone(), watch.clone()))
        });
        self.leap = Some(Leap { at: at.as_micros(), value, before: before.collect() });
        let closed = outcome.closed.len();
        self.judge(signal, at, value, closed, alone, |_| None, outcome);
    }

    /// The time of the reading that leapt was right: it is counted, and the windows before it close.
    fn confirm(&mut self, signal: &Signal, by: i64, lateness: i64, outcome: &mut Outcome) {
        let Some(leap) = self.leap.take() else { return };
        // The gap itself is no step of the series; what follows it is.
        self.stride = self.stride.max(by.saturating_sub(leap.at));
        (self.newest, self.behind) = (Some(leap.at), 0);
        self.count(signal, Timestamp::from_micros(leap.at), leap.value, lateness, |of| !alone(of), outcome);
    }

    /// The time of the reading that leapt was wrong: detectors remember what they did before it.
    fn refute(&mut self) {
        let Some(leap) = self.leap.take() else { return };
        self.late += 1;
        for (name, before) in leap.before {
            if let Some(watch) = self.watches.get_mut(&name) {
                *watch = before;
            }
        }
    }

    /// Adds a reading to the windows and judges it, and the windows that it closes.
    fn count(
        &mut self,
        signal: &Signal,
        at: Timestamp,
        value: f64,
        lateness: i64,
        looks: fn(Quantity) -> bool,
        outcome: &mut Outcome,
    ) {
        self.counted += 1;
        let newest = self.newest.unwrap_or(at.as_micros());
        let closed = outcome.closed.len();
        if let Some(window) = &signal.window {
            self.windows.add(window, at, value);
            self.windows.close(window, newest.saturating_sub(lateness), |summary| outcome.closed.push(summary));
        }
        let among = |windows: &Windows| signal.window.as_ref().and_then(|window| windows.newest(window));
        self.judge(signal, at, value, closed, looks, among, outcome);
    }

    /// Shows the reading and the windows that closed from the place `closed` on to the detectors that look at such.
    /// `among` is the window that a finding on the reading alone stands in, if any.
    fn judge(
        &mut self,
        signal: &Signal,
        at: Timestamp,
        value: f64,
        closed: usize,
        looks: fn(Quantity) -> bool,
        among: impl Fn(&Windows) -> Option<Summary>,
        outcome: &mut Outcome,
    ) {
        let mut samples = Vec::new();
        for detector in signal.detectors.iter().filter(|detector| looks(detector.of)) {
            let Some(watch) = self.watches.get_mut(&detector.name) else { continue };
            if alone(detector.of) {
                if let Some(verdict) = watch.judge(detector, at.as_micros(), value, &mut samples) {
                    let window = among(&self.windows).unwrap_or(Summary::of_one(at, value));
                    outcome.findings.push(finding(detector, verdict, value, window, at));
                }
            } else {
                for summary in &outcome.closed[closed..] {
                    let figure = summary.figure(detector.of);
                    if let Some(verdict) = watch.judge(detector, summary.to.as_micros(), figure, &mut samples) {
                        outcome.findings.push(finding(detector, verdict, figure, *summary, summary.to));
                    }
                }
            }
            outcome.samples.extend(samples.drain(..).map(|sample| (detector.name.clone(), sample)));
        }
    }

    /// The detectors of this series that go by a model, each with the digest of the one that judges, if any does.
    pub fn learners(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.watches.iter().filter_map(|(name, watch)| Some((name.as_str(), watch.learned()?.model())))
    }

    /// Gives a detector its model, with the model's digest, or takes it away. A saved state knows the digest alone: after
    /// `load` each learner is to be given the model that it had.
    pub fn equip(&mut self, detector: &str, model: Option<(String, Arc<Model>)>) {
        // What is remembered for the case that a leap turns out to be wrong goes on with the same model.
        let before = self.leap.as_mut().and_then(|leap| leap.before.get_mut(detector));
        for memory in self.watches.get_mut(detector).into_iter().chain(before).filter_map(Watch::learned_mut) {
            memory.equip(model.clone());
        }
    }

    /// How many readings were counted, how many were late, how many windows closed.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64, u64) {
        (self.counted, self.late, self.windows.closed())
    }
}

/// Whether a saved state's windows were made under the same window configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Yes,
    No,
}

/// Whether a detector of this quantity judges each reading alone, not windows.
fn alone(of: Quantity) -> bool {
    of == Quantity::Value
}

fn finding(detector: &Detector, verdict: Verdict, value: f64, window: Summary, at: Timestamp) -> Finding {
    Finding { detector: detector.name.clone(), severity: detector.severity, verdict, value, window, at }
}

fn looking<'a>(signal: &'a Signal, channel: &str) -> impl Iterator<Item = &'a Detector> {
    signal.detectors.iter().filter(move |detector| detector.channel.as_deref().is_none_or(|only| only == channel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn taken(seconds: impl IntoIterator<Item = i64>) -> Vec<Taken> {
        let signal = Signal::default();
        let mut series = Series::new(&signal, "c");
        let mut outcome = Outcome::default();
        let mut take =
            |second: i64| series.take(&signal, Timestamp::from_micros(second * 1_000_000), 1.0, &mut outcome);
        seconds.into_iter().map(&mut take).collect()
    }

    #[test]
    fn one_wrong_clock_reading_does_not_make_all_others_late() {
        use Taken::{Ahead, Counted, Late};
        assert_eq!(taken([0, 10, 900 * DAY, 20, 30]), [Counted, Counted, Ahead, Counted, Counted]);
        assert_eq!(
            taken([0, 10, 5 * DAY, 5 * DAY + 10]),
            [Counted, Counted, Ahead, Counted],
            "a real gap is confirmed"
        );
        assert_eq!(taken([10, 5]), [Counted, Late]);
        let weekly = taken((0..20).map(|week| week * 7 * DAY));
        assert!(weekly[3..].iter().all(|taken| *taken == Counted), "{weekly:?}");
    }

    fn limits_and_mean() -> Signal {
        let detectors = r#"[
            {"name":"hot","kind":"limits","high":60,"coolDown":"1m"},
            {"name":"mean","kind":"limits","of":"mean","high":60,"coolDown":"1m"}
        ]"#;
        let window: Window = serde_json::from_str(r#"{"kind":"tumbling","size":"1h"}"#).expect("a window");
        Signal { window: Some(window), detectors: serde_json::from_str(detectors).expect("detectors") }
    }

    /// What is found of readings (second, value), each finding as `detector@second`.
    fn found(readings: &[(i64, f64)]) -> (Vec<String>, Series) {
        let signal = limits_and_mean();
        let mut series = Series::new(&signal, "c");
        let mut outcome = Outcome::default();
        for (second, value) in readings {
            series.take(&signal, Timestamp::from_micros(second * 1_000_000), *value, &mut outcome);
        }
        let told = |finding: &Finding| format!("{}@{}", finding.detector, finding.at.as_micros() / 1_000_000);
        (outcome.findings.iter().map(told).collect(), series)
    }

    #[test]
    fn the_first_reading_after_a_long_gap_is_judged_when_it_comes() {
        let (told, series) = found(&[(0, 50.0), (10, 50.0), (9 * DAY, 99.0)]);
        assert_eq!(told, ["hot@777600"]);
        assert_eq!(series.counts(), (2, 0, 0), "its time is not confirmed, so no window knows it");
    }

    #[test]
    fn a_gap_that_is_confirmed_leaves_every_reading_in_its_window() {
        let (told, series) = found(&[(0, 80.0), (9 * DAY, 99.0), (9 * DAY + 10, 50.0), (9 * DAY + 3_600, 50.0)]);
        // The window before the gap, and the first after it with both its readings: mean 74.5.
        assert_eq!(told, ["hot@0", "hot@777600", "mean@3600", "mean@781200"]);
        assert_eq!(series.counts(), (4, 0, 2));
    }

    #[test]
    fn a_wrong_clock_leaves_no_trace_in_what_detectors_remember() {
        let wrong = [(0, 50.0), (10, 50.0), (900 * DAY, 99.0), (20, 50.0), (30, 99.0)];
        let (told, series) = found(&wrong);
        assert_eq!(told, [format!("hot@{}", 900 * DAY), "hot@30".to_owned()]);
        let (_, mut without) = found(&[(0, 50.0), (10, 50.0), (20, 50.0), (30, 99.0)]);
        assert_eq!((series.late, without.late), (1, 0));
        without.late = 1;
        assert_eq!(series, without);
    }

    #[test]
    fn a_clock_that_was_ahead_for_long_is_forgotten() {
        let ahead = (0..5).map(|n| 900 * DAY + n * 10);
        let right = (0..40).map(|n| n * 10);
        let taken = taken(ahead.chain(right));
        assert!(taken[..5].iter().all(|taken| *taken == Taken::Counted));
        assert_eq!(taken[5..36], [Taken::Late; 31]);
        assert!(taken[36..].iter().all(|taken| *taken == Taken::Counted));
    }

    fn all_detectors() -> Signal {
        let detectors = r#"[
            {"name":"limits","kind":"limits","high":60,"hysteresis":5,"hold":"20s","coolDown":"30s"},
            {"name":"robust","kind":"robust","length":24,"smooth":3,"threshold":3,"coolDown":"30s"},
            {"name":"mean","kind":"robust","of":"mean","length":16,"threshold":3,"coolDown":"1m","repeatAfter":"5m"},
            {"name":"seasonal","kind":"seasonal","season":"10m","slots":10,"threshold":2,"warmUp":"20m","coolDown":"30s"},
            {"name":"rate","kind":"rate","rise":50,"fall":60,"per":"30s","coolDown":"30s"},
            {"name":"flat","kind":"flatline","band":1.5,"hold":"20s","coolDown":"30s"}
        ]"#;
        let window: Window =
            serde_json::from_str(r#"{"kind":"sliding","size":"1m","step":"20s","lateness":"30s"}"#).expect("a window");
        Signal { window: Some(window), detectors: serde_json::from_str(detectors).expect("detectors") }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// proptest prints the failing input and keeps its seed.
        #[test]
        fn a_kill_anywhere_changes_no_window_and_no_finding(
            steps in proptest::collection::vec((-20_i64..25, -1000_i32..1000, 0..20_u8, 0..60_u8), 50..400),
            kills in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let signal = all_detectors();
            let mut at = 1_700_000_000_i64;
            let readings: Vec<(Timestamp, f64)> = steps.iter().map(|(step, value, wild, gap)| {
                at += (step + 5).max(-10) + if *gap == 0 { 3 * DAY } else { 0 };
                // A clock that is wrong for one reading.
                let shown = if *gap == 1 { at + 50 * DAY } else { at };
                let calm = f64::from(*value) / 100.0 + 40.0;
                (Timestamp::from_millis(shown * 1_000), if *wild == 0 { calm * 3.1 } else { calm })
            }).collect();
            let kills: Vec<usize> = kills.iter().map(|kill| kill.index(readings.len())).collect();
            let run = |kills: &[usize]| {
                let mut series = Series::new(&signal, "c");
                let mut outcome = Outcome::default();
                for (index, (at, value)) in readings.iter().enumerate() {
                    if kills.contains(&index) {
                        series = Series::load(&signal, "c", Kept::Yes, &series.save()).expect("loads what was saved");
                    }
                    series.take(&signal, *at, *value, &mut outcome);
                }
                (outcome, series.save())
            };
            let (undisturbed, end) = run(&[]);
            let (killed, end_killed) = run(&kills);
            prop_assert_eq!(undisturbed, killed);
            prop_assert_eq!(end, end_killed);
        }
    }

    #[test]
    fn a_changed_threshold_keeps_what_was_learned_and_a_changed_shape_does_not() {
        let signal = all_detectors();
        let mut series = Series::new(&signal, "c");
        let mut outcome = Outcome::default();
        for n in 0..500_i64 {
            series.take(
                &signal,
                Timestamp::from_millis(n * 5_000),
                f64::from(i32::try_from(n % 9).expect("small")),
                &mut outcome,
            );
        }
        let mut changed = signal.clone();
        for detector in &mut changed.detectors {
            match &mut detector.method {
                super::super::config::Method::Seasonal(seasonal) => seasonal.slots = 20,
                super::super::config::Method::Robust(robust) => robust.threshold = 99.0,
                _ => {}
            }
        }
        let loaded = Series::load(&changed, "c", Kept::Yes, &series.save()).expect("loads");
        assert_eq!(loaded.watches["robust"], series.watches["robust"]);
        assert_ne!(loaded.watches["seasonal"], series.watches["seasonal"]);
        assert_eq!(loaded.windows, series.windows);
    }
}
