//! What a question asks for and what a sentence offers: a cause, something to do, a risk. A small lexicon of English technical
//! manuals, kept as data.

use unicode_segmentation::UnicodeSegmentation;

use crate::text::stem;

/// A kind of statement in a manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Symptom,
    Cause,
    Action,
    Risk,
    Interval,
}

/// Words in a question, a property's name or a label that ask for or announce a kind of statement.
const NAMES: &[(Intent, &str)] = &[
    (Intent::Symptom, "symptom sign fault problem indication observation alarm"),
    (Intent::Cause, "cause reason why origin because diagnosis culprit"),
    (
        Intent::Action,
        "action remedy fix measure step repair solution recommend recommendation countermeasure corrective correction \
         resolve response procedure instruction",
    ),
    (Intent::Risk, "risk danger consequence damage impact hazard safety warning effect caution"),
    (Intent::Interval, "interval often schedule frequency"),
];

/// Phrases in a sentence that offer a kind of statement without a label.
const CUES: &[(Intent, &[&str])] = &[
    (
        Intent::Cause,
        &[
            "caused by",
            "cause is",
            "cause of",
            "causes are",
            "because",
            "due to",
            "results from",
            "result of",
            "usually means",
            "indicates",
            "points to",
            "is a sign of",
            "stems from",
            "leads back to",
            "the reason",
            "comes from",
            "suggests",
        ],
    ),
    (
        Intent::Action,
        &["must be", "should be", "needs to be", "has to be", "it is necessary to", "make sure", "ensure"],
    ),
    (
        Intent::Risk,
        &[
            "danger",
            "risk",
            "injur",
            "can lead to",
            "will lead to",
            "may lead to",
            "will damage",
            "can damage",
            "otherwise",
        ],
    ),
    (Intent::Interval, &["every ", "hours", "weekly", "daily", "monthly", "annually", "once a"]),
];

/// Verbs that open an instruction.
const IMPERATIVES: &[&str] = &[
    "adjust",
    "align",
    "allow",
    "apply",
    "avoid",
    "bleed",
    "call",
    "change",
    "check",
    "clean",
    "clear",
    "close",
    "compare",
    "confirm",
    "contact",
    "continue",
    "cool",
    "depressurise",
    "disconnect",
    "do",
    "drain",
    "empty",
    "ensure",
    "fill",
    "fit",
    "flush",
    "grease",
    "increase",
    "inspect",
    "install",
    "isolate",
    "keep",
    "let",
    "limit",
    "lock",
    "log",
    "loosen",
    "lower",
    "lubricate",
    "measure",
    "monitor",
    "move",
    "never",
    "notify",
    "open",
    "plan",
    "purge",
    "raise",
    "realign",
    "reduce",
    "refill",
    "regrease",
    "remove",
    "repair",
    "replace",
    "reset",
    "restart",
    "retighten",
    "return",
    "rinse",
    "run",
    "schedule",
    "set",
    "shut",
    "slow",
    "stop",
    "switch",
    "take",
    "test",
    "throttle",
    "tighten",
    "top",
    "turn",
    "verify",
    "wait",
];

/// What a question, name or label asks for, in the order of its words.
pub(super) fn asked(text: &str) -> Vec<Intent> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for word in lower.unicode_words() {
        let word = stem(word);
        let named = NAMES.iter().find(|(_, names)| names.split_whitespace().any(|name| stem(name) == word));
        if let Some(&(intent, _)) = named
            && !found.contains(&intent)
        {
            found.push(intent);
        }
    }
    let asks_what_to_do =
        ["to do", "be done", "should we", "should i", "do about", "how do i", "how to", "should the operator"];
    if !found.contains(&Intent::Action) && asks_what_to_do.iter().any(|phrase| lower.contains(phrase)) {
        found.push(Intent::Action);
    }
    found
}

/// What a label announces: a short one that names a kind of statement.
pub(super) fn labelled(label: &str) -> Option<Intent> {
    asked(label).into_iter().next()
}

/// What a sentence offers by its wording.
pub(super) fn offered(sentence: &str) -> Vec<Intent> {
    let lower = sentence.to_lowercase();
    let mut found: Vec<Intent> =
        CUES.iter().filter(|(_, cues)| cues.iter().any(|cue| lower.contains(cue))).map(|(intent, _)| *intent).collect();
    let first = lower.unicode_words().next().unwrap_or_default();
    let begins_as_instruction = IMPERATIVES.binary_search(&first).is_ok()
        || (lower.starts_with("if ") && lower.split(", ").skip(1).any(opens_instruction));
    if begins_as_instruction && !found.contains(&Intent::Action) {
        found.push(Intent::Action);
    }
    found
}

fn opens_instruction(clause: &str) -> bool {
    clause.unicode_words().next().is_some_and(|word| IMPERATIVES.binary_search(&word).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verbs_are_sorted_so_that_they_can_be_searched() {
        assert!(IMPERATIVES.is_sorted());
    }

    #[test]
    fn questions_ask_for_and_sentences_offer_kinds_of_statements() {
        assert_eq!(asked("What is the likely cause, and what should be done?"), [Intent::Cause, Intent::Action]);
        assert_eq!(asked("recommended actions"), [Intent::Action]);
        assert_eq!(asked("Why does the pump vibrate?"), [Intent::Cause]);
        assert_eq!(labelled("Possible causes"), Some(Intent::Cause));
        assert_eq!(labelled("Note"), None);
        assert_eq!(offered("Replace the seal."), [Intent::Action]);
        assert_eq!(offered("If the oil is low, refill it."), [Intent::Action]);
        assert_eq!(offered("Overheating is usually caused by a dry bearing."), [Intent::Cause]);
        assert_eq!(offered("The pump has two bearings."), []);
    }
}
