//! A ledger entry in words, for pages and terminals.

use crate::ledger::entry::{Content, Entry, Fact, Verdict};

/// What colour a line has; the words say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Wait,
    Bad,
}

impl Tone {
    /// The stylesheet's class.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "good",
            Self::Wait => "wait",
            Self::Bad => "bad",
        }
    }
}

/// An entry for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub tone: Tone,
    /// A few words, such as `Model called`.
    pub headline: String,
    /// One line, such as `cloud/large, 210 tokens in, 64 out, 0.8 s`.
    pub detail: String,
    /// Texts with their names, where the ledger keeps them.
    pub texts: Vec<(&'static str, String)>,
}

fn told(tone: Tone, headline: &str, detail: impl Into<String>) -> Told {
    Told { tone, headline: headline.to_owned(), detail: detail.into(), texts: Vec::new() }
}

/// Says what an entry says.
#[must_use]
pub fn tell(entry: &Entry) -> Told {
    let mut told = match &entry.fact {
        Fact::PolicyDecided { action, resource, allowed, rules, .. } => {
            let (tone, word) = if *allowed { (Tone::Plain, "allowed") } else { (Tone::Bad, "refused") };
            let by =
                if rules.is_empty() { "no rule permits it".to_owned() } else { format!("by {}", rules.join(", ")) };
            told(tone, &format!("Policy {word}"), format!("{action} on {resource}, {by}"))
        }
        Fact::RouteChosen { choice, reasons } => {
            let tone = if choice == "park" { Tone::Wait } else { Tone::Plain };
            told(tone, &format!("Route: {choice}"), reasons.join("; "))
        }
        Fact::ApprovalRequested { role, shown, .. } => {
            told(Tone::Wait, "A person is asked", format!("{role}, shown {}", shown.digest.short()))
        }
        Fact::ApprovalDecided { verdict, by, place, role, shown, .. } => {
            let (tone, word) = match verdict {
                Verdict::Approved => (Tone::Good, "Approved"),
                Verdict::Rejected => (Tone::Bad, "Rejected"),
                Verdict::Expired => (Tone::Bad, "Expired"),
            };
            let role = role.as_ref().map_or_else(String::new, |role| format!(" as {role}"));
            let who = if *verdict == Verdict::Expired { String::new() } else { format!("by {by}{role}, at {place}, ") };
            told(tone, word, format!("{who}shown {}", shown.short()))
        }
        Fact::ModelCalled { target, model, ended, tokens_in, tokens_out, cost_micro_usd, duration_ms, .. } => {
            let model = if model == target { String::new() } else { format!(" ({model})") };
            let cost = *cost_micro_usd as f64 / 1e6;
            let cost = if *cost_micro_usd == 0 { String::new() } else { format!(", {cost:.6} USD") };
            let detail = format!("{target}{model}, {tokens_in} tokens in, {tokens_out} out, {duration_ms} ms{cost}");
            if ended.is_answered() {
                told(Tone::Plain, "Model called", detail)
            } else {
                told(Tone::Bad, "Model called", format!("{detail}: {}", ended.words()))
            }
        }
        Fact::Retrieved { index, hits, duration_ms, .. } => {
            let places: Vec<String> = hits.iter().map(|hit| format!("{}, {}", hit.document, hit.place)).collect();
            told(
                Tone::Plain,
                "Looked up",
                format!("{} of {index} in {duration_ms} ms: {}", hits.len(), places.join("; ")),
            )
        }
        Fact::AgentActed { agent, owner, act, of, .. } => {
            let tone = if act == "failed" { Tone::Bad } else { Tone::Plain };
            let of = of.as_ref().map_or_else(String::new, |of| format!(" {of}"));
            let owner = owner.as_ref().map_or_else(String::new, |owner| format!(", of {owner}"));
            told(tone, &format!("Agent {}", act.replace('-', " ")), format!("{agent}{owner}:{of}"))
        }
        Fact::ToolCalled { function, duration_ms, .. } => {
            told(Tone::Plain, &format!("Called {function}"), format!("{duration_ms} ms"))
        }
        Fact::Guarded { checks, findings, act, .. } => {
            let tone = if findings.is_empty() { Tone::Plain } else { Tone::Bad };
            let found = if findings.is_empty() { "found nothing".to_owned() } else { findings.join(", ") };
            told(tone, &format!("Guard {act}"), format!("{}: {found}", checks.join(", ")))
        }
        Fact::MessagePublished { topic, key, .. } => told(Tone::Good, "Published", format!("{topic}, key {key}")),
        Fact::EffectFailed { function, error } => told(Tone::Bad, &format!("{function} failed"), error),
        other => tell_of_the_node(other),
    };
    told.texts = texts(&entry.fact);
    told
}

fn tell_of_the_node(fact: &Fact) -> Told {
    match fact {
        Fact::AgentStarted { version } => told(Tone::Plain, "Agent started", format!("version {version}")),
        Fact::BundleApplied { bundle, version } => {
            told(Tone::Good, "Bundle applied", format!("version {version}, {}", bundle.short()))
        }
        Fact::BundleRolledBack { bundle, reason, .. } => {
            told(Tone::Bad, "Bundle rolled back", format!("{}: {reason}", bundle.short()))
        }
        Fact::Shed { feed, count, reason } => told(Tone::Bad, "Input shed", format!("{count} of {feed}: {reason}")),
        Fact::Finding { subject, detector, .. } => {
            told(Tone::Wait, "Finding", format!("{subject}, detector {detector}"))
        }
        Fact::RunStarted { workflow, version, trigger, .. } => {
            let by = trigger.strip_prefix("by ").unwrap_or(trigger);
            told(Tone::Plain, "Run started", format!("{workflow} {version}, by {by}"))
        }
        Fact::TaskEnded { status, output } => {
            let tone = if status == "faulted" { Tone::Bad } else { Tone::Plain };
            told(tone, &format!("Task {status}"), format!("output {}", output.digest.short()))
        }
        Fact::RunEnded { status, output } => {
            let tone = if status == "completed" { Tone::Good } else { Tone::Bad };
            told(tone, &format!("Run {status}"), format!("output {}", output.digest.short()))
        }
        Fact::RunSteered { act, by, place, role, .. } => {
            told(Tone::Wait, &format!("A person's wish: {act}"), format!("by {by} as {role}, {place}"))
        }
        Fact::EventEmitted { kind, event, .. } => told(Tone::Plain, "Event emitted", format!("{kind}, id {event}")),
        Fact::DetectorTrained { detector, series, version, took_over, reason, .. } => {
            let (tone, act) =
                if *took_over { (Tone::Good, "Model took over") } else { (Tone::Plain, "Model stayed behind") };
            told(tone, act, format!("{detector} of {series}, version {version}: {reason}"))
        }
        // The rest has its words in `tell`.
        _ => told(Tone::Plain, "Entry", String::new()),
    }
}

fn texts(fact: &Fact) -> Vec<(&'static str, String)> {
    let contents: Vec<(&'static str, &Content)> = match fact {
        Fact::ModelCalled { prompt, answer, .. } => vec![("prompt", prompt), ("answer", answer)],
        Fact::AgentActed { content, .. } => vec![("said", content)],
        Fact::Guarded { content, .. } => vec![("content", content)],
        Fact::Retrieved { query, .. } => vec![("query", query)],
        Fact::ToolCalled { input, output, .. } => vec![("input", input), ("output", output)],
        Fact::ApprovalRequested { shown, .. } => vec![("shown", shown)],
        Fact::ApprovalDecided { comment: Some(comment), .. } | Fact::RunSteered { comment: Some(comment), .. } => {
            vec![("comment", comment)]
        }
        Fact::MessagePublished { payload, .. } => vec![("payload", payload)],
        Fact::TaskEnded { output, .. } | Fact::RunEnded { output, .. } => vec![("output", output)],
        Fact::Finding { content, .. } | Fact::EventEmitted { content, .. } => vec![("content", content)],
        _ => Vec::new(),
    };
    let kept = contents.into_iter().filter_map(|(name, content)| Some((name, content.text.clone()?)));
    kept.filter(|(_, text)| !text.is_empty() && text != "null" && text != "{}").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{label::Label, ledger::entry::CallEnd, time::Timestamp};

    fn say(fact: Fact) -> String {
        let told = tell(&Entry { at: Timestamp::from_millis(0), run: None, task: None, fact });
        format!("{}: {}", told.headline, told.detail)
    }

    #[test]
    fn a_refusal_names_the_rule_and_a_default_refusal_says_so() {
        let decided = |allowed, rules: &[&str]| Fact::PolicyDecided {
            action: "infer".to_owned(),
            resource: "cloud/large".to_owned(),
            allowed,
            rules: rules.iter().map(|&rule| rule.to_owned()).collect(),
            label: Label::default(),
        };
        assert_eq!(say(decided(false, &["stay"])), "Policy refused: infer on cloud/large, by stay");
        assert_eq!(say(decided(false, &[])), "Policy refused: infer on cloud/large, no rule permits it");
        assert_eq!(say(decided(true, &["go"])), "Policy allowed: infer on cloud/large, by go");
    }

    #[test]
    fn text_is_shown_only_where_the_ledger_kept_it() {
        let called = |prompt| Fact::ModelCalled {
            target: "local/extract".to_owned(),
            model: "local/extract".to_owned(),
            prompt,
            answer: Content::digested("b"),
            ended: CallEnd::Answered,
            tokens_in: 1,
            tokens_out: 2,
            cost_micro_usd: 0,
            duration_ms: 3,
        };
        let at = Timestamp::from_millis(0);
        let texts = |fact| tell(&Entry { at, run: None, task: None, fact }).texts;
        assert_eq!(texts(called(Content::kept("a"))), [("prompt", "a".to_owned())]);
        assert_eq!(texts(called(Content::digested("a"))), []);
        assert_eq!(say(called(Content::kept("a"))), "Model called: local/extract, 1 tokens in, 2 out, 3 ms");
    }
}
