//! Questions to people: bound to what was shown, answered once, over in time.

use super::*;

const ASK: &str = "do: [{ t: { try: [{ ask: { call: approve, with: { role: lead, title: 'Stop it?', \
    proposal: { stop: pump-7 } }, timeout: { after: AFTER } } }], catch: { errors: { with: { status: 408 } }, \
    do: [{ late: { set: { approved: false, by: nobody } } }] } } }]";

pub(super) fn answer(question: &PendingApproval, verdict: Verdict) -> Answer {
    Answer {
        approval: question.approval,
        shown: question.shown,
        verdict,
        by: "ada".to_owned(),
        authority: Authority::Roles(vec!["lead".to_owned()]),
        comment: Some("go on".to_owned()),
        place: "test".to_owned(),
    }
}

async fn asking(after: &str) -> (Node, RunId, PendingApproval) {
    let node = Node::new(&[&ASK.replace("AFTER", after)]).await;
    let run = node.start(json!({})).await;
    let question = node.until_asked().await;
    (node, run, question)
}

#[tokio::test]
async fn a_named_persons_answer_is_what_the_task_gives() {
    let (node, run, question) = asking("PT8H").await;
    assert_eq!(question.proposal, Some(json!({"stop": "pump-7"})));
    assert_eq!(question.shown, Digest::of_json(&json!({"stop": "pump-7"})));
    let summary = node.until_status(run, "waiting").await;
    let note = summary.note.unwrap_or_default();
    assert!(note.starts_with("waits for lead, until ") && note.ends_with(" at the longest"), "{note}");
    node.runner.decide_approval(answer(&question, Verdict::Approved)).await.unwrap();
    let output = node.output(run).await;
    assert_eq!(
        (&output["approved"], &output["by"], &output["comment"]),
        (&json!(true), &json!("ada"), &json!("go on"))
    );
    assert_eq!((node.facts("approval-requested").await, node.facts("approval-decided").await), (1, 1));
}

#[tokio::test]
async fn a_second_answer_and_one_to_something_else_decide_nothing() {
    let (node, run, question) = asking("PT8H").await;
    let other = Answer { shown: Digest::of(b"something else"), ..answer(&question, Verdict::Approved) };
    assert!(matches!(node.runner.decide_approval(other).await, Err(ApprovalError::ShownDiffers(_))));
    let own = Answer { verdict: Verdict::Expired, ..answer(&question, Verdict::Approved) };
    assert!(matches!(node.runner.decide_approval(own).await, Err(ApprovalError::NoVerdict)));
    node.runner.decide_approval(answer(&question, Verdict::Rejected)).await.unwrap();
    let again = node.runner.decide_approval(answer(&question, Verdict::Approved)).await.unwrap_err();
    assert!(again.to_string().ends_with("was already rejected by ada"), "{again}");
    assert_eq!(node.output(run).await["approved"], json!(false));
    let id = shared::id::ApprovalId::derive(clock::now(), b"none");
    let unknown = Answer { approval: id, ..answer(&question, Verdict::Approved) };
    assert!(matches!(node.runner.decide_approval(unknown).await, Err(ApprovalError::Unknown(_))));
}

#[tokio::test]
async fn the_ledger_says_who_answered_where_in_which_role_and_with_what_comment() {
    let (node, _, question) = asking("PT8H").await;
    let entry = node.runner.decide_approval(answer(&question, Verdict::Approved)).await.unwrap();
    let read = |c: &rusqlite::Connection| {
        let sql = "SELECT body FROM ledger WHERE fact = 'approval-decided'";
        c.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0)).ok()
    };
    let kept: Value = serde_json::from_slice(&node.until(read).await).unwrap();
    assert_eq!(kept, serde_json::to_value(&entry).unwrap(), "what is answered is what was kept");
    assert_eq!(
        (&kept["by"], &kept["role"], &kept["place"], &kept["verdict"]),
        (&json!("ada"), &json!("lead"), &json!("test"), &json!("approved"))
    );
    let comment = Content::kept("go on");
    assert_eq!(kept["comment"], serde_json::to_value(comment).unwrap());
}

#[tokio::test]
async fn a_person_without_the_role_is_refused_and_the_question_stays_open() {
    let (node, run, question) = asking("PT8H").await;
    let nurse = Authority::Roles(vec!["nurse".to_owned(), "porter".to_owned()]);
    let other = Answer { authority: nurse, ..answer(&question, Verdict::Approved) };
    let refused = node.runner.decide_approval(other).await.unwrap_err();
    assert_eq!(refused.to_string(), "ada may answer for nurse, porter, not for lead");
    assert_eq!(node.until_asked().await, question);
    // The control plane has held its operator against the role already.
    let there = Answer { authority: Authority::ControlPlane, ..answer(&question, Verdict::Rejected) };
    node.runner.decide_approval(there).await.unwrap();
    assert_eq!(node.output(run).await["approved"], json!(false));
}

#[tokio::test]
async fn a_question_that_nobody_answers_expires_and_the_run_goes_on() {
    let (node, run, question) = asking("PT2S").await;
    assert_eq!(node.output(run).await, json!({"approved": false, "by": "nobody"}));
    let late = node.runner.decide_approval(answer(&question, Verdict::Approved)).await;
    assert!(matches!(late, Err(ApprovalError::Expired(_))));
    let view = node.until(move |c| runs::approval(c, question.approval).unwrap()).await;
    assert_eq!(view.status, "expired");
    assert_eq!(node.facts("approval-decided").await, 1);
}

#[tokio::test]
async fn a_question_survives_a_restart_and_is_not_asked_twice() {
    let (node, run, question) = asking("PT8H").await;
    let node = node.reopen().await;
    assert_eq!(node.until_asked().await, question);
    node.runner.decide_approval(answer(&question, Verdict::Approved)).await.unwrap();
    assert_eq!(node.output(run).await["by"], json!("ada"));
    assert_eq!(node.facts("approval-requested").await, 1);
}

#[tokio::test]
async fn an_answer_that_was_kept_just_before_a_kill_reaches_the_run() {
    let (node, run, question) = asking("PT8H").await;
    let decided = move |c: &rusqlite::Connection| {
        let id = question.approval.to_string();
        c.execute("UPDATE approval SET status = 'approved', by = 'ada', decided_at = 1 WHERE id = ?1", [id]).unwrap();
    };
    let node = node.reopen_with(decided).await;
    assert_eq!(node.output(run).await["by"], json!("ada"));
}

#[tokio::test]
async fn an_answer_that_was_kept_just_before_the_deadline_wins() {
    let (node, run, question) = asking("PT2S").await;
    let id = question.approval.to_string();
    let decided = move |tx: &mut crate::store::Transaction<'_>| {
        let sql = "UPDATE approval SET status = 'approved', by = 'ada', decided_at = 1 WHERE id = ?1";
        Ok(tx.connection().execute(sql, [&id])?)
    };
    node.store.write("decide behind the runner's back", decided).await.unwrap();
    assert_eq!(node.output(run).await["by"], json!("ada"));
}

#[tokio::test]
async fn a_cancelled_run_withdraws_its_question() {
    let (node, run, _) = asking("PT8H").await;
    node.runner.steer(run, Act::Cancel, person()).await.unwrap();
    node.until_status(run, "cancelled").await;
    let open = node.until(|c| Some(runs::approvals_pending(c).unwrap())).await;
    assert_eq!(open, []);
}

#[tokio::test]
async fn while_a_run_rests_its_question_may_be_answered_and_has_its_time_after_that() {
    let (node, run, question) = asking("PT8H").await;
    node.runner.steer(run, Act::Suspend, person()).await.unwrap();
    node.until_status(run, "suspended").await;
    // As if it had rested for longer than the question had.
    let id = question.approval.to_string();
    let past = move |c: &rusqlite::Connection| c.execute("UPDATE approval SET deadline = 1 WHERE id = ?1", [&id]);
    let node = node.reopen_with(|c| assert_eq!(past(c).unwrap(), 1)).await;
    node.runner.steer(run, Act::Resume, person()).await.unwrap();
    node.until_status(run, "waiting").await;
    let resumed = node.until_asked().await;
    assert!(resumed.deadline > question.deadline, "{resumed:?}");
    node.runner.steer(run, Act::Suspend, person()).await.unwrap();
    node.until_status(run, "suspended").await;
    let id = question.approval.to_string();
    let past = move |c: &rusqlite::Connection| c.execute("UPDATE approval SET deadline = 1 WHERE id = ?1", [&id]);
    let node = node.reopen_with(|c| assert_eq!(past(c).unwrap(), 1)).await;
    node.runner.decide_approval(answer(&resumed, Verdict::Approved)).await.unwrap();
    node.runner.steer(run, Act::Resume, person()).await.unwrap();
    assert_eq!(node.output(run).await["by"], json!("ada"));
}
