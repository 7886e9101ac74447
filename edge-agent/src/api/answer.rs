//! One way for a person's answer, wherever it is given: who they are is asked first, then the runner.

use std::time::Instant;

use shared::{
    digest::Digest,
    id::ApprovalId,
    ledger::entry::{Entry, Verdict},
};

use super::{Answer, Declined, Place, Server, people};

/// What a person says, before it is known who they are.
pub(super) struct Given {
    pub approval: ApprovalId,
    pub shown: Digest,
    pub verdict: Verdict,
    pub by: String,
    pub secret: String,
    pub comment: Option<String>,
    pub place: Place,
}

/// What to do when nobody may answer.
pub(super) const NOBODY: &str =
    "nobody may answer on this node: `edge-agent approvers add NAME --role ROLE` adds a person";

impl Server {
    /// Takes an answer from a person who shows that they are who they say.
    pub(super) async fn take(&self, given: Given) -> Result<Entry, Declined> {
        let person = self.person(&given.by, &given.secret, Instant::now()).await?;
        let Given { approval, shown, verdict, comment, place, .. } = given;
        let comment = comment.map(|comment| comment.trim().to_owned()).filter(|comment| !comment.is_empty());
        let answer = Answer { approval, shown, verdict, by: person.name, roles: person.roles, comment, place };
        (self.handles.decide)(answer).await
    }

    /// The person of this name, if the secret is theirs.
    pub(super) async fn person(&self, name: &str, secret: &str, now: Instant) -> Result<people::Person, Declined> {
        let person = self.handles.people.enter(name, secret, now).await;
        person.map_err(|denied| match denied {
            people::Denied::Nobody => Declined::Forbidden(NOBODY.to_owned()),
            people::Denied::Wrong => {
                Declined::Stranger("this name and secret are not of a person who may answer on this node".to_owned())
            }
            people::Denied::Wait(left) => Declined::Wait(format!(
                "too many wrong secrets under this name: it is asked again in {} s",
                left.as_secs() + 1
            )),
            people::Denied::Broken(reason) => Declined::Failed(reason),
        })
    }
}
