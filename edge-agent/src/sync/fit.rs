//! What goes up in one sync fits what the control plane takes: what is too large is shortened or left to the node, and what
//! finds no room goes with the next.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::{
    id::ApprovalId,
    wire::v1::{NodeStatus, PendingApproval, QUESTION_BYTES_MAX, REPORT_BYTES_MAX, RunSummary, cut},
};

/// Bytes of a text about a run or the node: a page of it. The node's own pages have the whole.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Complaints in a status; who reads so many looks at the node itself.
const COMPLAINTS_MAX: usize = 24;
/// Bytes of one complaint.
const COMPLAINT_BYTES_MAX: usize = 1 << 10;

/// Questions for one sync.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub told: Vec<PendingApproval>,
    /// Whether some of them are told for the first time.
    pub news: bool,
    /// Whether some found no room.
    pub more: bool,
}

/// The open questions as they go up. Those that the control plane knows go without their proposals: it keeps what it was
/// told first, and must hear only that they are open still.
pub(super) fn questions(open: Vec<PendingApproval>, known: &BTreeSet<ApprovalId>) -> Questions {
    let mut questions = Questions::default();
    let mut room = REPORT_BYTES_MAX;
    for mut question in open {
        let is_known = known.contains(&question.approval);
        if is_known {
            question.proposal = None;
        }
        let question = question.within_bounds();
        let bytes = bytes_of(&question);
        if bytes > room || bytes > QUESTION_BYTES_MAX {
            questions.more = true;
            continue;
        }
        room -= bytes;
        questions.news |= !is_known;
        questions.told.push(question);
    }
    questions
}

/// The runs that fit, from the first on; one at least.
pub(super) fn runs(mut changed: Vec<RunSummary>) -> Vec<RunSummary> {
    let mut room = REPORT_BYTES_MAX / 2;
    let mut fit = 0;
    for run in &mut changed {
        for text in [&mut run.note, &mut run.subject, &mut run.task].into_iter().flatten() {
            cut(text, TEXT_BYTES_MAX);
        }
        let Some(rest) = room.checked_sub(bytes_of(run)) else { break };
        (room, fit) = (rest, fit + 1);
    }
    changed.truncate(fit.max(1));
    changed
}

/// Shortens what a status says in words.
pub(super) fn status(status: &mut NodeStatus) {
    status.complaints.truncate(COMPLAINTS_MAX);
    for complaint in &mut status.complaints {
        cut(complaint, COMPLAINT_BYTES_MAX);
    }
    if let Some(rejected) = &mut status.rejected {
        cut(&mut rejected.reason, TEXT_BYTES_MAX);
    }
}

fn bytes_of(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{digest::Digest, id::RunId, label::Label, time::Timestamp};

    use super::*;

    fn question(number: u32, bytes: usize) -> PendingApproval {
        let at = Timestamp::from_millis(1);
        let proposal = json!("x".repeat(bytes));
        PendingApproval {
            approval: ApprovalId::derive(at, &number.to_be_bytes()),
            run: RunId::derive(at, b"r"),
            workflow: "plant/stop".to_owned(),
            role: "maintenance".to_owned(),
            title: "Stop the press?".to_owned(),
            shown: Digest::of_json(&proposal),
            proposal: Some(proposal),
            label: Label::default(),
            asked: at,
            deadline: None,
        }
    }

    #[test]
    fn a_question_too_large_goes_without_its_proposal_and_the_rest_goes_later() {
        let large = questions(vec![question(0, QUESTION_BYTES_MAX)], &BTreeSet::new());
        assert_eq!((large.told[0].proposal.as_ref(), large.more), (None, false));
        assert_eq!(large.told[0].title, "Stop the press? (too large for the control plane: answer it on the node)");
        assert_eq!(large.told[0].shown, question(0, QUESTION_BYTES_MAX).shown);

        let open: Vec<_> = (0..50).map(|number| question(number, 200_000)).collect();
        let mut known = BTreeSet::new();
        let mut whole = 0;
        for round in 0.. {
            let fitted = questions(open.clone(), &known);
            assert!(bytes_of(&fitted.told) <= REPORT_BYTES_MAX + 100);
            known.extend(fitted.told.iter().map(|question| question.approval));
            whole += fitted.told.iter().filter(|question| question.proposal.is_some()).count();
            if !fitted.more {
                assert_eq!((round, fitted.told.len(), whole), (1, 50, 50), "in two syncs, each once");
                break;
            }
        }
        assert!(!questions(open, &known).news, "all are told");
    }

    #[test]
    fn runs_and_status_are_shortened_to_what_is_taken() {
        let run = |number: u32| RunSummary {
            run: RunId::derive(Timestamp::from_millis(1), &number.to_be_bytes()),
            workflow: "plant/explain".to_owned(),
            version: "1.0.0".to_owned(),
            bundle: Digest::of(b"b"),
            status: "faulted".to_owned(),
            task: None,
            note: Some("é".repeat(4 << 10)),
            subject: None,
            label: Label::default(),
            started: Timestamp::default(),
            updated: Timestamp::default(),
            ended: None,
        };
        let told = runs((0..3_000).map(run).collect());
        assert!(told.len() > 500 && told.len() < 3_000 && bytes_of(&told) <= REPORT_BYTES_MAX, "{}", told.len());
        assert!(runs(Vec::new()).is_empty());
        let mut status: NodeStatus = serde_json::from_value(
            json!({"version": "1", "jurisdiction": "CH", "started": Timestamp::default(), "health": "degraded"}),
        )
        .expect("a status");
        status.complaints = vec!["no \u{1f4a5} ".repeat(1_000); 1_000];
        super::status(&mut status);
        assert!(bytes_of(&status) < 32 << 10, "{}", bytes_of(&status));
    }
}
