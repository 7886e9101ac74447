//! Reading facts out of what the APIs answer. A fact that is not there yet is `None`.

use serde_json::Value;
use shared::digest::Digest;

/// The run about this subject, as an agent lists it.
pub fn run_about<'a>(runs: &'a Value, workflow: &str, subject: &str) -> Option<&'a Value> {
    runs.as_array()?.iter().find(|run| run["workflow"] == workflow && run["subject"] == subject)
}

/// A run's ledger entries of one kind.
pub fn entries<'a>(run: &'a Value, fact: &'a str) -> impl Iterator<Item = &'a Value> {
    run["ledger"].as_array().into_iter().flatten().filter(move |entry| entry["fact"] == fact)
}

/// What policy said of one target in a run: whether it was allowed, and by which rules.
pub fn verdict(run: &Value, action: &str, target: &str) -> Option<(bool, String)> {
    let asked = |entry: &&Value| entry["action"] == action && entry["resource"] == target;
    let entry = entries(run, "policy-decided").find(asked)?;
    let rules: Vec<&str> = entry["rules"].as_array()?.iter().filter_map(Value::as_str).collect();
    Some((entry["allowed"].as_bool()?, rules.join(", ")))
}

/// The targets that a run's model calls went to.
pub fn targets(run: &Value) -> Vec<&str> {
    entries(run, "model-called").filter_map(|entry| entry["target"].as_str()).collect()
}

/// The last value of a channel of a device.
pub fn value(feeds: &Value, device: &str, channel: &str) -> Option<f64> {
    let series = feeds["feeds"].as_array()?.iter().flat_map(|feed| feed["series"].as_array().into_iter().flatten());
    series
        .filter(|series| series["device"] == device && series["channel"] == channel)
        .find_map(|one| one["value"].as_f64())
}

/// Whether the digest that a person is to answer with is the digest of what they are shown.
pub fn digest_fits(question: &Value) -> bool {
    question["shown"].as_str() == Some(&Digest::of_json(&question["proposal"]).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_policy_said_is_found_among_the_entries_of_a_run() {
        let run = json!({"ledger": [
            {"fact": "policy-decided", "action": "keepText", "resource": "ledger", "allowed": true, "rules": ["a"]},
            {"fact": "policy-decided", "action": "infer", "resource": "cloud/large", "allowed": false, "rules": ["stay", "home"]},
            {"fact": "model-called", "target": "local/extract"},
        ]});
        assert_eq!(verdict(&run, "infer", "cloud/large"), Some((false, "stay, home".to_owned())));
        assert_eq!(verdict(&run, "infer", "cloud/small"), None);
        assert_eq!(targets(&run), ["local/extract"]);
    }

    #[test]
    fn a_proposal_that_was_changed_does_not_fit_its_digest() {
        let proposal = json!({"command": "stop"});
        let shown = Digest::of_json(&proposal).to_string();
        assert!(digest_fits(&json!({"proposal": proposal, "shown": shown})));
        assert!(!digest_fits(&json!({"proposal": {"command": "start"}, "shown": shown})));
    }
}
