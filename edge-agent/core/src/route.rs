//! Which target an inference goes to: a local model, a provider, not yet, or nowhere - with the reasons for and against
//! each candidate. It never measures anything: permits, health and speed come in as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

/// Where a target computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Local,
    Cloud,
}

/// Why a target is a candidate at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The task named it (or named nothing, and the node's configuration lists it).
    Preferred,
    /// A local chat model that the task did not name: taken by `offline: local` and `offline: degrade`.
    Spare,
    /// The built-in extractive target when the task did not name it: taken by `offline: degrade` alone.
    LastResort,
}

/// What policy said of this target for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Permitted,
    Refused { reason: String },
}

/// Whether a target answers, as its circuit breaker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Answers, or was not tried yet.
    Up,
    /// Failed lately; one call may try whether it is back.
    Probing,
    /// Not to be tried before `until`.
    Down { until: Timestamp, reason: String },
}

/// One target as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub place: Place,
    pub standing: Standing,
    pub ruling: Ruling,
    pub health: Health,
    /// How long an answer took lately; `None` when that is not known.
    pub expected: Option<Duration>,
    /// What the call may cost at most, in millionths of a US dollar.
    pub cost_micro_usd: u64,
}

/// What to do when no preferred target that policy allows is within reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offline {
    /// Any local chat model.
    Local,
    /// Any local target, the built-in extractive one included; the answer is marked as degraded.
    Degrade,
    /// Wait durably and ask again.
    Park,
    /// Fail.
    #[default]
    Refuse,
}

/// All that the choice depends on. Candidates stand in the order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub candidates: Vec<Candidate>,
    pub offline: Offline,
    pub now: Timestamp,
    pub deadline: Option<Timestamp>,
    /// Until when a parked inference may wait, counted from when it was first asked.
    pub park_until: Option<Timestamp>,
    /// What this call may cost at most, in millionths of a US dollar.
    pub cost_micro_usd_max: Option<u64>,
}

/// Why nothing was chosen; says which error the task gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No target fits what the task names.
    Unknown,
    /// Policy refused every candidate.
    Policy,
    /// Every permitted candidate costs more than allowed.
    Cost,
    /// What is within reach cannot answer before the deadline, or a parked call waited its time.
    Time,
    /// No permitted candidate answers.
    Unreachable,
}

/// Where the call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Local(String),
    Cloud(String),
    Park { until: Timestamp },
    Refuse(Refusal),
}

/// The choice and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub choice: Choice,
    /// Whether a lesser target answers than the task asked for.
    pub degraded: bool,
    /// One sentence a candidate, in the order of preference.
    pub reasons: Vec<String>,
}

/// A parked call asks again after this long even if nobody says that the link is back: a provider can come back
/// without the link ever having been down.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Why a candidate was passed over.
enum Against {
    Policy(String),
    Cost(u64, u64),
    Down(String),
    Slow(Duration, Duration),
    Mode(&'static str),
}

impl Candidate {
    /// Takes the candidate out of a choice made at `now`: it failed in this very call.
    pub fn rest_at_least(&mut self, now: Timestamp) {
        if !matches!(&self.health, Health::Down { until, .. } if *until > now) {
            self.health = Health::Down { until: now.plus(ASK_AGAIN), reason: "failed just now".to_owned() };
        }
    }
}

impl Choice {
    /// The name under which the ledger records it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Local(name) | Self::Cloud(name) => name,
            Self::Park { .. } => "park",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Takes the first candidate that is permitted, affordable, healthy and fast enough; without one, what `offline` says.
#[must_use]
pub fn choose(question: &Question) -> Route {
    let mut reasons = Vec::with_capacity(question.candidates.len() + 1);
    let mut passed_over = Vec::new();
    for candidate in &question.candidates {
        match objection(question, candidate) {
            None => {
                let degraded = candidate.standing != Standing::Preferred && question.offline == Offline::Degrade;
                reasons.push(format!("{}: chosen{}", candidate.name, remark(candidate, degraded)));
                let choice = match candidate.place {
                    Place::Local => Choice::Local(candidate.name.clone()),
                    Place::Cloud => Choice::Cloud(candidate.name.clone()),
                };
                return Route { choice, degraded, reasons };
            }
            Some(against) => {
                reasons.push(format!("{}: {}", candidate.name, against.sentence()));
                passed_over.push(against);
            }
        }
    }
    let refusal = verdict(&passed_over);
    let choice = match (question.offline, refusal) {
        (Offline::Park, Refusal::Unreachable | Refusal::Time) => park(question, &mut reasons),
        (_, refusal) => Choice::Refuse(refusal),
    };
    Route { choice, degraded: false, reasons }
}

fn objection(question: &Question, candidate: &Candidate) -> Option<Against> {
    match (candidate.standing, question.offline) {
        (Standing::Preferred, _)
        | (Standing::Spare, Offline::Local | Offline::Degrade)
        | (Standing::LastResort, Offline::Degrade) => {}
        (Standing::Spare, _) => {
            return Some(Against::Mode("the task does not name it, and offline is not local or degrade"));
        }
        (Standing::LastResort, _) => {
            return Some(Against::Mode("the task does not name it, and offline is not degrade"));
        }
    }
    if let Ruling::Refused { reason } = &candidate.ruling {
        return Some(Against::Policy(reason.clone()));
    }
    if let Some(max) = question.cost_micro_usd_max.filter(|max| candidate.cost_micro_usd > *max) {
        return Some(Against::Cost(candidate.cost_micro_usd, max));
    }
    if let Health::Down { until, reason } = &candidate.health
        && question.now < *until
    {
        return Some(Against::Down(reason.clone()));
    }
    let left = question.deadline.map(|deadline| deadline.since(question.now));
    match (candidate.expected, left) {
        (Some(expected), Some(left)) if expected > left => Some(Against::Slow(expected, left)),
        (None, Some(Duration::ZERO)) => Some(Against::Slow(Duration::ZERO, Duration::ZERO)),
        _ => None,
    }
}

fn remark(candidate: &Candidate, degraded: bool) -> String {
    let mut remark = String::new();
    if candidate.health == Health::Probing {
        remark.push_str(", to see whether it is back");
    }
    if let Some(expected) = candidate.expected {
        remark.push_str(&format!(", answers in about {} ms", expected.as_millis()));
    }
    if degraded {
        remark.push_str(", degraded");
    }
    remark
}

/// The error that fits best: a way that was nearly open beats one that policy closed.
fn verdict(passed_over: &[Against]) -> Refusal {
    let any = |test: fn(&Against) -> bool| passed_over.iter().any(test);
    if any(|against| matches!(against, Against::Down(_))) {
        Refusal::Unreachable
    } else if any(|against| matches!(against, Against::Slow(..))) {
        Refusal::Time
    } else if any(|against| matches!(against, Against::Cost(..))) {
        Refusal::Cost
    } else if any(|against| matches!(against, Against::Policy(_))) {
        Refusal::Policy
    } else {
        Refusal::Unknown
    }
}

fn park(question: &Question, reasons: &mut Vec<String>) -> Choice {
    let ends = match (question.park_until, question.deadline) {
        (Some(park), Some(deadline)) => Some(park.min(deadline)),
        (park, deadline) => park.or(deadline),
    };
    if ends.is_some_and(|ends| ends <= question.now) {
        reasons.push("park: it has waited as long as the task allows".to_owned());
        return Choice::Refuse(Refusal::Time);
    }
    let down = |candidate: &Candidate| match &candidate.health {
        Health::Down { until, .. } if candidate.ruling == Ruling::Permitted => Some(*until),
        _ => None,
    };
    let again = question.now.plus(ASK_AGAIN);
    let probe = question.candidates.iter().filter_map(down).min().map_or(again, |until| until.max(again));
    let until = ends.map_or(probe, |ends| probe.min(ends));
    reasons.push(format!("park: asks again at {until} at the latest"));
    Choice::Park { until }
}

impl Against {
    fn sentence(&self) -> String {
        match self {
            Self::Policy(reason) => format!("policy refuses: {reason}"),
            Self::Cost(cost, max) => format!("may cost {cost} micro-USD, allowed are {max}"),
            Self::Down(reason) => format!("not reachable: {reason}"),
            Self::Slow(_, Duration::ZERO) => "the deadline has passed".to_owned(),
            Self::Slow(expected, left) => {
                format!("answers in about {} ms, {} ms are left", expected.as_millis(), left.as_millis())
            }
            Self::Mode(why) => (*why).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// `cloud/large`, with words that change it: `no` refused by policy, `down`, `probe`, `slow` (10 s), `dear` (1 USD);
    /// `spare` and `last` for what the task does not name.
    fn candidate(text: &str) -> Candidate {
        let mut words = text.split(' ');
        let name = words.next().expect("a name").to_owned();
        let place = if name.starts_with("cloud/") { Place::Cloud } else { Place::Local };
        let mut candidate = Candidate {
            name,
            place,
            standing: Standing::Preferred,
            ruling: Ruling::Permitted,
            health: Health::Up,
            expected: None,
            cost_micro_usd: 100,
        };
        for word in words {
            match word {
                "no" => candidate.ruling = Ruling::Refused { reason: "stays-home".to_owned() },
                "down" => {
                    candidate.health =
                        Health::Down { until: NOW.plus(Duration::from_secs(5)), reason: "no route".to_owned() };
                }
                "probe" => candidate.health = Health::Probing,
                "slow" => candidate.expected = Some(Duration::from_secs(10)),
                "dear" => candidate.cost_micro_usd = 1_000_000,
                "spare" => candidate.standing = Standing::Spare,
                "last" => candidate.standing = Standing::LastResort,
                other => panic!("unknown word {other}"),
            }
        }
        candidate
    }

    fn ask(candidates: &str, offline: Offline) -> Question {
        Question {
            candidates: candidates.split(", ").map(candidate).collect(),
            offline,
            now: NOW,
            deadline: Some(NOW.plus(Duration::from_secs(4))),
            park_until: Some(NOW.plus(Duration::from_secs(600))),
            cost_micro_usd_max: Some(500_000),
        }
    }

    fn check(candidates: &str, offline: Offline, expected: &str) {
        let route = choose(&ask(candidates, offline));
        let refusal = match &route.choice {
            Choice::Refuse(refusal) => format!("refuse {refusal:?}"),
            choice => choice.name().to_owned(),
        };
        let said = format!("{refusal}{}", if route.degraded { " degraded" } else { "" });
        assert_eq!(said, expected, "{candidates} with {offline:?}: {:?}", route.reasons);
    }

    #[test]
    fn the_first_allowed_healthy_target_in_time_wins() {
        use Offline::Refuse;
        check("cloud/a, cloud/b", Refuse, "cloud/a");
        check("cloud/a no, cloud/b", Refuse, "cloud/b");
        check("cloud/a down, cloud/b slow, local/c", Refuse, "local/c");
        check("cloud/a dear, cloud/b", Refuse, "cloud/b");
        check("cloud/a probe, local/c", Refuse, "cloud/a");
    }

    #[test]
    fn a_refusal_says_what_was_nearest_to_working() {
        use Offline::Refuse;
        check("cloud/a no, cloud/b no", Refuse, "refuse Policy");
        check("cloud/a no, cloud/b down", Refuse, "refuse Unreachable");
        check("cloud/a slow", Refuse, "refuse Time");
        check("cloud/a dear", Refuse, "refuse Cost");
        check("local/c spare", Refuse, "refuse Unknown");
    }

    #[test]
    fn offline_says_how_far_to_fall() {
        let all = "cloud/a down, local/c spare, local/extract last";
        check(all, Offline::Refuse, "refuse Unreachable");
        check(all, Offline::Local, "local/c");
        check(all, Offline::Degrade, "local/c degraded");
        check("cloud/a down, local/extract last", Offline::Local, "refuse Unreachable");
        check("cloud/a down, local/extract last", Offline::Degrade, "local/extract degraded");
        check("cloud/a no, local/extract last", Offline::Degrade, "local/extract degraded");
        check("local/extract", Offline::Refuse, "local/extract");
    }

    #[test]
    fn what_policy_refuses_is_not_parked_for() {
        check("cloud/a no, local/c spare", Offline::Park, "refuse Policy");
        check("cloud/a down, local/c spare", Offline::Park, "park");
    }

    #[test]
    fn a_parked_call_waits_until_its_time_is_over() {
        let until = |park_s: u64, deadline: Option<u64>| {
            let mut question = ask("cloud/a down", Offline::Park);
            question.park_until = Some(NOW.plus(Duration::from_secs(park_s)));
            question.deadline = deadline.map(|s| NOW.plus(Duration::from_secs(s)));
            choose(&question).choice
        };
        let park = |s| Choice::Park { until: NOW.plus(Duration::from_secs(s)) };
        assert_eq!(until(600, None), park(60));
        assert_eq!(until(20, None), park(20));
        assert_eq!(until(600, Some(10)), park(10));
        assert_eq!(until(0, None), Choice::Refuse(Refusal::Time));
    }

    #[test]
    fn every_candidate_up_to_the_chosen_one_has_its_reason() {
        let route = choose(&ask("cloud/a no, cloud/b down, local/c, local/d", Offline::Refuse));
        assert_eq!(
            route.reasons,
            ["cloud/a: policy refuses: stays-home", "cloud/b: not reachable: no route", "local/c: chosen"]
        );
    }
}
