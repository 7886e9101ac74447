//! Whether an operator's word decides a question.

use shared::{digest::Digest, ledger::entry::Verdict, time::Timestamp};

use super::{Refused, Why};
use crate::store::{
    approvals::{Approval, State},
    operators::Operator,
};

/// What follows from an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It decides the question.
    Take,
    /// The same person said the same before: nothing is to be done.
    Repeat,
}

/// # Errors
/// Says what forbids it: no such question, another proposal, not their role, too late, decided already.
pub fn judge(
    approval: Option<&Approval>,
    operator: &Operator,
    shown: Digest,
    verdict: Verdict,
    now: Timestamp,
) -> Result<Decision, Refused> {
    let Some(approval) = approval else {
        return Err(Refused::new(Why::Absent, "approval-unknown", "there is no such question"));
    };
    let question = &approval.question;
    if !operator.has_role(&question.role) {
        let message = format!("{} may not answer for the role {}", operator.name, question.role);
        return Err(Refused::new(Why::Forbidden, "role", message));
    }
    if verdict == Verdict::Expired {
        return Err(Refused::new(Why::Invalid, "verdict", "a person approves or rejects"));
    }
    if question.shown != shown {
        let message = "what you were shown is not what is asked; look at the question again and decide on that";
        return Err(Refused::new(Why::Conflict, "shown-differs", message));
    }
    let conflict = |code, message: String| Err(Refused::new(Why::Conflict, code, message));
    if let Some(answer) = &approval.answer {
        let by = approval.by.as_deref().unwrap_or("someone");
        return if by == operator.name && answer.verdict() == verdict {
            Ok(Decision::Repeat)
        } else {
            conflict("already-decided", format!("{by} decided this already"))
        };
    }
    if approval.state() == State::Closed {
        return conflict("already-decided", "it was decided on site or has expired".to_owned());
    }
    if question.deadline.is_some_and(|deadline| now >= deadline) {
        return conflict("expired", "its time is over".to_owned());
    }
    if question.proposal.is_none() {
        let message = "the proposal is on the node alone, because policy keeps it there or it is too large, so it can only be decided there";
        return Err(Refused::new(Why::Forbidden, "on-site-only", message));
    }
    Ok(Decision::Take)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{
        id::{ApprovalId, RunId},
        label::Label,
        ledger::note::Signer,
        wire::v1::{Answer, PendingApproval},
    };

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn approval() -> Approval {
        let proposal = json!({"stop": "press-1"});
        let question = PendingApproval {
            approval: ApprovalId::derive(at(1), b"q"),
            run: RunId::derive(at(1), b"r"),
            workflow: "plant/stop".to_owned(),
            role: "maintenance".to_owned(),
            title: "Stop the press?".to_owned(),
            shown: Digest::of_json(&proposal),
            proposal: Some(proposal),
            label: Label::default(),
            asked: at(1),
            deadline: Some(at(100)),
        };
        let node = "basel".parse().expect("a name");
        Approval { node, question, open: true, answer: None, by: None, answered: None, outcome: None, decided: None }
    }

    fn operator(name: &str, role: &str) -> Operator {
        Operator { name: name.to_owned(), roles: vec![role.to_owned()], created: at(0) }
    }

    fn answered(by: &str) -> Approval {
        let approval = approval();
        let answer = Answer {
            approval: approval.question.approval,
            shown: approval.question.shown,
            verdict: Verdict::Approved,
            by: by.to_owned(),
            at: at(2),
            comment: None,
        };
        let signer = Signer::new("o", &[1; 32]).expect("a name");
        Approval { answer: Some(answer.sign(&signer).expect("signs")), by: Some(by.to_owned()), ..approval }
    }

    fn check(approval: &Approval, who: &Operator, verdict: Verdict, now: i64) -> Result<Decision, &'static str> {
        judge(Some(approval), who, approval.question.shown, verdict, at(now)).map_err(|refused| refused.code)
    }

    #[test]
    fn the_first_word_of_someone_in_the_role_counts() {
        let ada = operator("ada", "maintenance");
        assert_eq!(check(&approval(), &ada, Verdict::Approved, 50), Ok(Decision::Take));
        assert_eq!(check(&approval(), &operator("root", "*"), Verdict::Rejected, 50), Ok(Decision::Take));
        assert_eq!(check(&approval(), &operator("bob", "quality"), Verdict::Approved, 50), Err("role"));
        assert_eq!(check(&approval(), &ada, Verdict::Approved, 100), Err("expired"));
        assert_eq!(check(&approval(), &ada, Verdict::Expired, 50), Err("verdict"));
        assert_eq!(check(&answered("ada"), &ada, Verdict::Approved, 50), Ok(Decision::Repeat));
        assert_eq!(check(&answered("ada"), &ada, Verdict::Rejected, 50), Err("already-decided"));
        assert_eq!(check(&answered("bob"), &ada, Verdict::Approved, 50), Err("already-decided"));
        let gone = Approval { open: false, ..approval() };
        assert_eq!(check(&gone, &ada, Verdict::Approved, 50), Err("already-decided"));
    }

    #[test]
    fn a_word_on_another_proposal_or_an_unseen_one_counts_for_nothing() {
        let ada = operator("ada", "maintenance");
        let other = judge(Some(&approval()), &ada, Digest::of(b"other"), Verdict::Approved, at(50));
        assert_eq!(other.map_err(|refused| refused.code), Err("shown-differs"));
        let mut withheld = approval();
        withheld.question.proposal = None;
        assert_eq!(check(&withheld, &ada, Verdict::Approved, 50), Err("on-site-only"));
    }
}
