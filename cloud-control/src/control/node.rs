//! What nodes ask for: to be enrolled, and to sync.

use std::time::Duration;

use shared::{
    digest::Digest,
    id::NodeName,
    label::is_jurisdiction,
    wire::v1::{
        APPROVALS_MAX, Desired, EnrollAnswer, EnrollRequest, HOLD_MS_MAX, LedgerCursor, PendingApproval,
        QUESTION_BYTES_MAX, RUNS_MAX, SyncAnswer, SyncRequest,
    },
};

use super::{Change, Control, Error, Wake, absent, invalid};
use crate::{
    clock,
    fleet::enrollment,
    store::{actions, approvals, bundles, ledger, nodes, runs, tokens},
};

/// Bytes of one node's status: pages of text, so that no node fills the store.
const STATUS_BYTES_MAX: usize = 64 << 10;

impl Control {
    /// Lets a node in and gives it its papers.
    ///
    /// # Errors
    /// When its token, name or certificate request is refused.
    pub async fn enroll(&self, request: EnrollRequest) -> Result<EnrollAnswer, Error> {
        let EnrollRequest { secret, name, jurisdiction, csr_pem, ledger_key, version } = request;
        if !is_jurisdiction(&jurisdiction) {
            let message = format!("{jurisdiction:?} is not a jurisdiction: expected two capital letters such as DE");
            return Err(invalid("jurisdiction", message));
        }
        let issued = self.keys.issue(&csr_pem, &name).map_err(|error| invalid("csr", error.to_string()))?;
        let secret = Digest::of(secret.as_bytes());
        let now = clock::now();
        let (node, certificate, public_key) = (name.clone(), issued.digest, issued.public_key);
        let group = self
            .store
            .write::<_, Error>("enroll a node", move |c| {
                let token = tokens::by_secret(c, secret)?;
                let known = nodes::keys(c, &node)?;
                let keys = (public_key, &ledger_key);
                let token = match enrollment::judge(token.as_ref(), &node, keys, known.as_ref(), now) {
                    Ok(token) => token,
                    Err(refused) => return Ok(Err(refused.into())),
                };
                bundles::add_group(c, &token.group)?;
                tokens::spend(c, &token.id, &node, now)?;
                let enrolled = nodes::Enrolled {
                    name: node.clone(),
                    group: token.group.clone(),
                    jurisdiction,
                    at: now,
                    token: token.id.clone(),
                    certificate,
                    public_key,
                    ledger_key,
                };
                nodes::enroll(c, &enrolled)?;
                let what = format!("node {node} (version {version}) enrolled in group {} with this token", token.group);
                actions::record(c, now, &format!("token {}", token.id), &what)?;
                Ok(Ok(token.group.clone()))
            })
            .await?;
        tracing::info!(node = %name, %group, "a node enrolled");
        self.changed(Change::Node(name.clone()));
        self.changed(Change::Access);
        Ok(EnrollAnswer {
            node: name,
            group,
            certificate_pem: issued.pem,
            ca_pem: self.keys.ca_pem().to_owned(),
            operator_key: self.keys.operator().public().clone(),
            witness_key: self.keys.witness().public().clone(),
        })
    }

    /// The node that holds this client certificate (SHA-256 of its DER).
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn node_by_certificate(&self, certificate: Digest) -> Result<Option<NodeName>, Error> {
        Ok(self.store.read("look the node up", move |c| nodes::by_certificate(c, certificate)).await?)
    }

    /// Takes a node's report and answers what it shall do, as soon as that is something that it has not seen.
    ///
    /// # Errors
    /// When the report is too large or SQLite fails.
    pub async fn sync(&self, node: &NodeName, request: SyncRequest) -> Result<SyncAnswer, Error> {
        let present = self.presence.enter(node);
        let hold = Duration::from_millis(request.hold_ms.min(HOLD_MS_MAX));
        let deadline = tokio::time::Instant::now() + hold;
        let seen = request.seen;
        // Listening begins before the first look, so that nothing falls between the two.
        let mut wakes = self.wakes.subscribe();
        self.report(node, request).await?;
        loop {
            let (group, answer) = self.answer(node).await?;
            if Some(answer.tag) != seen || hold.is_zero() {
                drop(present);
                return Ok(answer);
            }
            loop {
                match tokio::time::timeout_at(deadline, wakes.recv()).await {
                    Err(_) => return Ok(answer),
                    Ok(Ok(Wake::Group(woken))) if woken != group => {}
                    Ok(Ok(Wake::Node(woken))) if woken != *node => {}
                    // What was missed may have been meant for this node.
                    Ok(_) => break,
                }
            }
        }
    }

    async fn report(&self, node: &NodeName, request: SyncRequest) -> Result<(), Error> {
        let SyncRequest { status, runs, approvals, approvals_more, outcomes, .. } = request;
        let bytes = |value: serde_json::Result<Vec<u8>>| value.map_or(usize::MAX, |bytes| bytes.len());
        if bytes(serde_json::to_vec(&status)) > STATUS_BYTES_MAX {
            return Err(invalid("status", format!("a status has at most {STATUS_BYTES_MAX} bytes")));
        }
        if runs.len() > RUNS_MAX || approvals.len() > APPROVALS_MAX {
            return Err(invalid("report", format!("a sync has at most {RUNS_MAX} runs and {APPROVALS_MAX} questions")));
        }
        // The rest of the sync must not suffer from one question.
        let mut approvals: Vec<_> = approvals.into_iter().map(PendingApproval::within_bounds).collect();
        approvals.retain(|question| {
            let fits = bytes(serde_json::to_vec(question)) <= QUESTION_BYTES_MAX;
            if !fits {
                tracing::warn!(%node, approval = %question.approval, "a question is too large and was not taken");
            }
            fits
        });
        let (name, now) = (node.clone(), clock::now());
        let (was, news) = self
            .store
            .write::<_, Error>("keep a node's report", move |c| {
                let was = nodes::get(c, &name)?.and_then(|node| node.status) != Some(status.clone());
                nodes::report(c, &name, now, &status)?;
                let news = (
                    runs::report(c, &name, &runs)?,
                    // Outcomes first: an answered question is closed by its outcome, not by its absence.
                    approvals::outcomes(c, &name, &outcomes)?
                        | approvals::report(c, &name, &approvals, approvals_more)?,
                );
                Ok(Ok((was, news)))
            })
            .await?;
        if was {
            self.changed(Change::Node(node.clone()));
        }
        if news.0 {
            self.changed(Change::Runs(node.clone()));
        }
        if news.1 {
            self.changed(Change::Approvals(node.clone()));
        }
        Ok(())
    }

    async fn answer(&self, node: &NodeName) -> Result<(String, SyncAnswer), Error> {
        let name = node.clone();
        let known = self
            .store
            .read("look up what a node shall do", move |c| {
                let Some(node) = nodes::get(c, &name)? else { return Ok(None) };
                let head = ledger::head(c, &name)?;
                let cursor = LedgerCursor { next: head.tail.size(), halted: head.halted };
                let desired: Option<Desired> = bundles::desired(c, &node.group)?;
                Ok(Some((node.group, SyncAnswer::new(desired, approvals::undelivered(c, &name)?, cursor))))
            })
            .await?;
        known.ok_or_else(|| absent("node-unknown", format!("there is no node {node}")))
    }
}
