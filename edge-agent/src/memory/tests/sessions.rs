//! What was said in conversations: in order, once, bounded, with its labels.

use super::{kept::kept_as, *};

/// Says something under a key of its own.
async fn say(site: &Site, session: &str, at: usize, role: &str, text: &str, class: DataClass) {
    let input = json!({"session": session, "role": role, "text": text});
    kept_as(&format!("run:/do/{at}/say"), site, "remember", input, class).await.expect("kept");
}

async fn recalled(site: &Site, input: Value) -> Completion {
    kept_as("run:/do/0/recall", site, "retrieve", input, DataClass::Public).await.expect("found")
}

fn texts(done: &Completion) -> Vec<&str> {
    let passages = done.output["passages"].as_array().expect("a list");
    passages.iter().map(|passage| passage["text"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn the_newest_turns_come_in_their_order_each_once_over_a_restart_too() {
    let site = site(&[]).await;
    for (at, text) in ["Which pump?", "Pump P-7.", "What is wrong with it?"].into_iter().enumerate() {
        let role = if at == 1 { "assistant" } else { "user" };
        say(&site, "chat-1", at, role, text, DataClass::Public).await;
        // The node died before the outcome was recorded: the same effect is asked again.
        say(&site, "chat-1", at, role, text, DataClass::Public).await;
    }
    say(&site, "chat-2", 9, "user", "Something else.", DataClass::Public).await;
    let Site { dir, memory } = site;
    drop(memory);
    let site = open(dir).await;
    let done = recalled(&site, json!({"session": "chat-1"})).await;
    assert_eq!(texts(&done), ["Which pump?", "Pump P-7.", "What is wrong with it?"]);
    assert_eq!(done.output["passages"][1]["role"], "assistant");
    let done = recalled(&site, json!({"session": "chat-1", "last": 1})).await;
    assert_eq!(texts(&done), ["What is wrong with it?"]);
    assert_eq!(texts(&recalled(&site, json!({"session": "unheard of"})).await), [""; 0]);
}

#[tokio::test]
async fn a_conversation_keeps_its_newest_turns_and_bytes() {
    let site = site(&[]).await;
    for at in 0..210 {
        say(&site, "long", at, "user", &format!("turn {at}"), DataClass::Public).await;
    }
    let done = recalled(&site, json!({"session": "long", "last": 200})).await;
    assert_eq!((texts(&done).len(), texts(&done)[0]), (200, "turn 10"));
    let page = "x".repeat(60 << 10);
    for at in 0..6 {
        say(&site, "wide", 1_000 + at, "user", &page, DataClass::Public).await;
    }
    assert_eq!(texts(&recalled(&site, json!({"session": "wide", "last": 200})).await).len(), 4, "256 KiB at most");
}

#[tokio::test]
async fn what_was_said_carries_its_label_and_is_shown_to_whom_it_is_cleared() {
    let site = site(&[]).await;
    say(&site, "case", 0, "user", "The line stands.", DataClass::Public).await;
    say(&site, "case", 1, "user", "Ms A fell.", DataClass::Confidential).await;
    let done = recalled(&site, json!({"session": "case"})).await;
    assert_eq!((texts(&done).len(), done.label.class), (2, DataClass::Confidential), "the label joins the run's");
    let done = recalled(&site, json!({"session": "case", "clearance": {"class": "internal"}})).await;
    assert_eq!((texts(&done), done.label.class), (vec!["The line stands."], DataClass::Public));
}

#[tokio::test]
async fn what_one_is_cleared_for_is_shown_however_much_came_after_it_that_one_is_not() {
    let site = site(&[]).await;
    for at in 0..3 {
        say(&site, "case", at, "user", &format!("The line stands {at}."), DataClass::Public).await;
    }
    for at in 3..30 {
        say(&site, "case", at, "user", "Ms A fell.", DataClass::Confidential).await;
    }
    let done = recalled(&site, json!({"session": "case", "last": 2, "clearance": {"class": "internal"}})).await;
    assert_eq!(texts(&done), ["The line stands 1.", "The line stands 2."]);
    let done = recalled(&site, json!({"session": "case", "clearance": {"class": "confidential"}})).await;
    assert_eq!(texts(&done), ["Ms A fell."; 20]);
}

#[tokio::test]
async fn a_conversation_without_a_name_or_with_too_many_turns_is_told() {
    let site = site(&[]).await;
    for (function, input, wanted) in [
        ("remember", json!({"session": "", "text": "a"}), "session: expected 1 to 256 bytes"),
        ("remember", json!({"session": "a", "text": " "}), "text: empty"),
        ("retrieve", json!({"session": "a", "last": 201}), "last: 201; expected 1 to 200"),
    ] {
        let failed = kept_as("run:/do/0/a", &site, function, input, DataClass::Public).await.expect_err("refused");
        let detail = failed.error.detail.expect("told");
        assert!(detail.contains(wanted), "{detail}");
    }
}
