//! The one loop that talks to the control plane: tell what is new, hear what is wished, ship the ledger, again. A request
//! that carries nothing new is held by the control plane until it has something to say; something new here cuts it short.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use shared::{
    digest::Digest,
    id::{ApprovalId, RunId},
    ledger::note::VerifierKey,
    time::Timestamp,
    wire::v1::{
        self, APPROVALS_MAX, AnswerOutcome, HOLD_MS_MAX, LedgerCursor, NodeStatus, RUNS_MAX, SYNC_PATH, SignedAnswer,
        SyncAnswer, SyncRequest,
    },
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    ApprovalAnswer, Error, Link, Options, Sources, client::Client, fit, ledger::Shipper, standing, state, with_sources,
};
use crate::{clock, store::Store};

/// Beyond the time that a request is held: a slow link's round trips.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Changes of a busy moment are told together.
const GATHER: Duration = Duration::from_millis(250);
/// Pauses while the link is down: doubled from the first to the last, each with a random part, so that a fleet does not
/// come back all at once.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(10);
/// Pause after a refusal that only a person can lift.
const RETRY_LASTING: Duration = Duration::from_secs(60);

pub(super) struct Exchange {
    pub client: Client,
    pub store: Store,
    pub shipper: Shipper,
    pub options: Options,
    pub sources: Sources,
    pub operator: VerifierKey,
    pub link: watch::Sender<Link>,
    pub wish: watch::Sender<Option<v1::Desired>>,
    pub answers: mpsc::Sender<ApprovalAnswer>,
    pub nudge: Arc<Notify>,
}

/// What the control plane has been told and has said.
#[derive(Default)]
struct Told {
    /// Digest of the status, questions and outcomes that it answered last.
    report: Option<Digest>,
    /// The last of the runs that it was told of. This and `archived` outlast the link: what was told is not told again.
    runs: (Timestamp, Option<RunId>),
    /// Entries of the ledger that it had at last. Fewer than that: it was restored from a backup, and hears all of it anew.
    archived: u64,
    /// Questions that it was told of.
    questions: BTreeSet<ApprovalId>,
    /// The tag of its last answer.
    seen: Option<Digest>,
    cursor: LedgerCursor,
    /// Answers that the agent is working on.
    in_flight: BTreeSet<ApprovalId>,
    /// Why the ledger is not shipped, as it was logged last.
    complaint: Option<String>,
}

/// A request, and what decides whether it may be held.
struct Gathered {
    request: SyncRequest,
    /// Of what it reports, without the runs.
    digest: Digest,
    /// Whether it tells of a question for the first time.
    fresh: bool,
}

impl Exchange {
    pub(super) async fn run(mut self) {
        let mut told = Told::default();
        let mut failures = 0_u32;
        let mut ledger = self.store.ledger_size();
        loop {
            match self.round(&mut told, &mut ledger).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    self.down(with_sources(&error));
                    told = Told {
                        in_flight: std::mem::take(&mut told.in_flight),
                        runs: told.runs,
                        archived: told.archived,
                        ..Told::default()
                    };
                    let pause = if error.is_lasting() { RETRY_LASTING } else { backoff(failures) };
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// One request and what follows from its answer.
    async fn round(&mut self, told: &mut Told, ledger: &mut watch::Receiver<u64>) -> Result<(), Error> {
        // What changes from here on is news of the next round.
        ledger.borrow_and_update();
        self.sources.report.borrow_and_update();
        let Gathered { mut request, digest, fresh } = self.gather(told).await?;
        let news = fresh || told.report != Some(digest) || !request.runs.is_empty();
        request.hold_ms = if news { 0 } else { HOLD_MS_MAX };
        let limit = Duration::from_millis(request.hold_ms) + ANSWER_MAX;
        let nudge = Arc::clone(&self.nudge);
        let answer: SyncAnswer = tokio::select! {
            answer = self.client.post("sync", SYNC_PATH, &request, limit) => answer?,
            () = changed(ledger, &mut self.sources.report, &nudge), if !news => {
                tokio::time::sleep(GATHER).await;
                return self.ship(told).await;
            }
        };
        self.up();
        told.report = Some(digest);
        if let Some(last) = request.runs.last() {
            told.runs = (last.updated, Some(last.run));
        }
        told.questions = request.approvals.iter().map(|question| question.approval).collect();
        if answer.ledger.next < told.archived {
            (told.runs, told.report) = Default::default();
            told.questions.clear();
        }
        told.archived = answer.ledger.next;
        self.heard(request.outcomes).await?;
        told.seen = Some(answer.tag);
        told.cursor = answer.ledger;
        self.wish.send_if_modified(|wish| {
            let changed = *wish != answer.desired;
            *wish = answer.desired;
            changed
        });
        for signed in answer.answers {
            self.deliver(told, signed).await?;
        }
        self.ship(told).await
    }

    async fn gather(&self, told: &Told) -> Result<Gathered, Error> {
        let (runs, approvals) = (Arc::clone(&self.sources.runs), Arc::clone(&self.sources.approvals));
        let from = told.runs;
        let (standing, outcomes, runs, open) = self
            .store
            .read("gather what the control plane shall know", move |c| {
                Ok((standing(c)?, state::outcomes(c)?, runs(c, from, RUNS_MAX)?, approvals(c, APPROVALS_MAX)?))
            })
            .await?;
        let report = self.sources.report.borrow().clone();
        let mut complaints = report.complaints.clone();
        // The node's own report says it too, once it has looked.
        complaints.extend(standing.complaint().filter(|complaint| !report.complaints.contains(complaint)));
        let mut status = NodeStatus {
            version: self.options.version.clone(),
            jurisdiction: self.options.jurisdiction.clone(),
            started: self.options.started,
            health: report.health,
            complaints,
            applied: standing.applied,
            rejected: standing.rejected,
            floor: standing.floor,
            figures: report.figures,
            ledger_size: *self.store.ledger_size().borrow(),
        };
        fit::status(&mut status);
        // A question never changes: which are open says all.
        let ids: Vec<_> = open.iter().map(|question| question.approval).collect();
        let value = serde_json::to_value((&status, &ids, &outcomes)).expect("a report is plain data");
        let fit::Questions { told: approvals, news: fresh, more: approvals_more } =
            fit::questions(open, &told.questions);
        let (runs, seen) = (fit::runs(runs), told.seen);
        let request = SyncRequest { status, runs, approvals, approvals_more, outcomes, seen, hold_ms: 0 };
        Ok(Gathered { request, digest: Digest::of_json(&value), fresh })
    }

    /// The control plane has heard of these outcomes.
    async fn heard(&self, outcomes: Vec<AnswerOutcome>) -> Result<(), Error> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let write = self
            .store
            .write("forget outcomes that were told", move |tx| Ok(state::drop_outcomes(tx.connection(), &outcomes)?));
        Ok(write.await?)
    }

    /// Hands a person's answer on. It comes again until its outcome was told, so a full queue loses nothing.
    async fn deliver(&self, told: &mut Told, signed: SignedAnswer) -> Result<(), Error> {
        let approval = signed.approval();
        let outcomes = self.store.read("read outcomes", state::outcomes).await?;
        told.in_flight.retain(|id| !outcomes.iter().any(|outcome| outcome.approval == *id));
        if outcomes.iter().any(|outcome| outcome.approval == approval) || told.in_flight.contains(&approval) {
            return Ok(());
        }
        let answer = match signed.verified_by(&self.operator) {
            Ok(answer) => answer.clone(),
            Err(error) => return self.note_outcome(approval, Err(error.to_string())).await,
        };
        let (done, outcome) = oneshot::channel();
        if self.answers.try_send(ApprovalAnswer { answer, done }).is_err() {
            return Ok(());
        }
        told.in_flight.insert(approval);
        let (store, nudge) = (self.store.clone(), Arc::clone(&self.nudge));
        tokio::spawn(async move {
            // Dropped unanswered: the agent is shutting down, and the answer comes again after its start.
            let Ok(outcome) = outcome.await else { return };
            if let Err(error) = keep_outcome(&store, approval, outcome).await {
                tracing::error!(%approval, error = %with_sources(&error), "cannot keep what became of an answer");
            }
            nudge.notify_one();
        });
        Ok(())
    }

    async fn note_outcome(&self, approval: ApprovalId, outcome: Result<(), String>) -> Result<(), Error> {
        keep_outcome(&self.store, approval, outcome).await?;
        self.nudge.notify_one();
        Ok(())
    }

    async fn ship(&self, told: &mut Told) -> Result<(), Error> {
        if told.seen.is_none() {
            // Without a word of the control plane there is no cursor.
            return Ok(());
        }
        match self.shipper.ship(told.cursor.clone()).await {
            Ok(cursor) => {
                told.complaint = None;
                told.archived = cursor.next;
                told.cursor = cursor;
                self.note_halt(told.cursor.halted.clone()).await
            }
            Err(error @ (Error::Ledger(_) | Error::Refused(_))) => {
                // The rest of the sync goes on: what is wrong with the ledger is told by it.
                let complaint = with_sources(&error);
                if told.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(error = %complaint, "cannot ship the ledger");
                }
                told.cursor.halted.get_or_insert_with(|| complaint.clone());
                told.complaint = Some(complaint.clone());
                // A refusal is the control plane's to keep: what it halts, it says with its next answer.
                if matches!(error, Error::Ledger(_)) { self.note_halt(Some(complaint)).await } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps whether the ledger is halted, so that the node shows it with the link down too.
    async fn note_halt(&self, why: Option<String>) -> Result<(), Error> {
        let known = self.store.read("read the standing", standing).await?.halted;
        if known == why {
            return Ok(());
        }
        match &why {
            Some(why) => tracing::error!(why, "the ledger is halted"),
            None => tracing::info!("the ledger is taken again"),
        }
        let write = move |tx: &mut crate::store::Transaction<'_>| Ok(state::halted(tx.connection(), why.as_deref())?);
        self.store.write("note whether the ledger is halted", write).await?;
        self.nudge.notify_one();
        Ok(())
    }

    fn up(&self) {
        self.link.send_if_modified(|link| {
            let came = !link.is_up();
            if came {
                tracing::info!("the link to the control plane is up");
                *link = Link::Up { since: clock::now() };
            }
            came
        });
    }

    fn down(&self, reason: String) {
        self.link.send_if_modified(|link| match link {
            Link::Down { reason: known, .. } if *known == reason => false,
            Link::Down { reason: known, .. } => {
                tracing::warn!(%reason, "the link to the control plane is still down");
                *known = reason;
                true
            }
            _ => {
                tracing::warn!(%reason, "the link to the control plane is down");
                *link = Link::Down { since: clock::now(), reason };
                true
            }
        });
    }
}

async fn keep_outcome(store: &Store, approval: ApprovalId, outcome: Result<(), String>) -> Result<(), Error> {
    let outcome = AnswerOutcome { approval, taken: outcome.is_ok(), reason: outcome.err() };
    let write =
        store.write("keep what became of an answer", move |tx| Ok(state::add_outcome(tx.connection(), &outcome)?));
    Ok(write.await?)
}

/// Ends when there is something new to tell.
async fn changed(ledger: &mut watch::Receiver<u64>, report: &mut watch::Receiver<super::Report>, nudge: &Notify) {
    // A sender that is gone never changes again; the others still may.
    let ledger = async {
        if ledger.changed().await.is_err() {
            std::future::pending().await
        }
    };
    let report = async {
        if report.changed().await.is_err() {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = ledger => {}
        () = report => {}
        () = nudge.notified() => {}
    }
}

fn backoff(failures: u32) -> Duration {
    let full = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_LAST);
    let part = f64::from(clock::seed()[0]) / 255.0;
    full.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_never_vanish() {
        for failures in 0..40 {
            let pause = backoff(failures);
            assert!(pause >= RETRY_FIRST / 2 && pause <= RETRY_LAST, "{failures}: {pause:?}");
        }
        assert!(backoff(20) >= RETRY_LAST / 2);
    }
}
