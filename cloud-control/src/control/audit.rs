//! The audit archive: taking in what nodes ship, and proving what is here.

use serde::{Deserialize, Serialize};
use shared::{
    id::NodeName,
    ledger::{
        note::Note,
        verify::{self, Fault},
    },
    time::Timestamp,
    wire::v1::{LEDGER_ENTRIES_MAX, LedgerAnswer, LedgerCursor, LedgerRequest},
};

use super::{Change, Control, Error, absent, invalid};
use crate::{
    clock,
    store::{ledger, nodes},
};

/// Entries read at a time while a whole ledger is recomputed: bounded memory, whatever the ledger's length.
const PAGE_LEN: usize = 2_000;

/// What the recomputation of a node's archived ledger says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verification {
    pub node: NodeName,
    /// Entries that were recomputed.
    pub entries: u64,
    /// The root over them, base64.
    pub root: String,
    /// The head with both signatures; `None` when nothing was archived yet.
    pub head: Option<Note>,
    /// When the control plane countersigned that head.
    pub countersigned: Option<Timestamp>,
    /// What does not hold; `None` when every entry is there, unchanged, and under a head that both signed.
    pub fault: Option<String>,
    /// Why the archive takes no more of this ledger.
    pub halted: Option<String>,
}

impl Control {
    /// Takes entries of a node's ledger in. Entries that are here already are passed over, so that a request may be repeated.
    /// A run that does not continue what is here is refused, noted as an alarm with the node's own signature as evidence, and
    /// nothing more is taken from that ledger until an operator has looked into it.
    ///
    /// # Errors
    /// When the run is refused; the message says in which way it does not hold.
    pub async fn ingest(&self, node: &NodeName, request: LedgerRequest) -> Result<LedgerAnswer, Error> {
        if request.entries.len() > LEDGER_ENTRIES_MAX {
            return Err(invalid("entries", format!("a request has at most {LEDGER_ENTRIES_MAX} entries")));
        }
        let (name, now, witness) = (node.clone(), clock::now(), self.keys.witness().clone());
        let outcome = self
            .store
            .write::<_, Error>("archive entries of a ledger", move |c| {
                let Some((_, key)) = nodes::keys(c, &name)? else {
                    return Ok(Err(absent("node-unknown", format!("there is no node {name}"))));
                };
                let head = ledger::head(c, &name)?;
                let next = head.tail.size();
                // A repeat of what is here, or of a node that did not hear of the halt yet.
                if head.halted.is_some() || request.from < next {
                    let note = head.note.unwrap_or(request.head);
                    return Ok(Ok(Ok(LedgerAnswer { head: note, cursor: LedgerCursor { next, halted: head.halted } })));
                }
                let bodies: Vec<&[u8]> = request.entries.iter().map(String::as_bytes).collect();
                let run = verify::Run {
                    from: request.from,
                    bodies: &bodies,
                    head: &request.head,
                    consistency: &request.consistency,
                };
                match verify::extend(&head.tail, &run, &name, &key) {
                    Ok((tail, entries)) => {
                        let mut note = request.head.clone();
                        witness.cosign(&mut note, u64::try_from(now.as_millis() / 1_000).unwrap_or(0));
                        let entries: Vec<_> = entries.into_iter().zip(request.entries).collect();
                        ledger::extend(c, &name, request.from, &entries, &tail, &note, now)?;
                        let cursor = LedgerCursor { next: tail.size(), halted: None };
                        Ok(Ok(Ok(LedgerAnswer { head: note, cursor })))
                    }
                    Err(fault) => {
                        // Only what the node signed convicts it: an unsigned head may be anyone's.
                        let signed = !matches!(fault, Fault::Head(_) | Fault::Gap { .. });
                        if signed {
                            let evidence = Some(&request.head);
                            ledger::halt(c, &name, now, fault.kind(), &fault.to_string(), evidence)?;
                        }
                        Ok(Ok(Err(fault)))
                    }
                }
            })
            .await?;
        self.changed(Change::Ledger(node.clone()));
        outcome.map_err(|fault| {
            tracing::error!(%node, kind = fault.kind(), %fault, "a node's ledger is refused");
            invalid(fault.kind(), fault.to_string())
        })
    }

    /// Recomputes the tree over a node's archived entries and compares it with the head that node and control plane signed.
    ///
    /// # Errors
    /// When there is no such node or SQLite fails. What does not hold is in the answer.
    pub async fn verify_ledger(&self, node: &NodeName) -> Result<Verification, Error> {
        let name = node.clone();
        let witness = self.keys.witness().public().clone();
        let verification = self
            .store
            .read("recompute a ledger", move |c| {
                let Some((_, key)) = nodes::keys(c, &name)? else { return Ok(None) };
                // One snapshot for head and entries, so that what arrives meanwhile confuses nothing.
                let snapshot = c.unchecked_transaction()?;
                let head = ledger::head(&snapshot, &name)?;
                let mut pages = Pages { connection: &snapshot, node: &name, next: Some(0), failed: None };
                let rows = std::iter::from_fn(|| pages.next())
                    .flatten()
                    .map(|(seq, body)| (seq, std::borrow::Cow::Owned(body.into_bytes())));
                let checked = match &head.note {
                    Some(note) => verify::recompute(rows, note, &name, &key),
                    None => Ok(head.tail.clone()),
                };
                if let Some(error) = pages.failed {
                    return Err(error);
                }
                let countersigned = head.note.as_ref().map(|note| note.cosigned_by(&witness)).transpose();
                let fault = match (&checked, &countersigned) {
                    (Err(fault), _) => Some(fault.to_string()),
                    (_, Err(error)) => Some(format!("the head is not countersigned: {error}")),
                    _ => None,
                };
                let tail = checked.unwrap_or(head.tail);
                let seconds = countersigned.ok().flatten().and_then(|seconds| i64::try_from(seconds).ok());
                Ok(Some(Verification {
                    node: name,
                    entries: tail.size(),
                    root: tail.root().to_string(),
                    head: head.note,
                    countersigned: seconds.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1_000))),
                    fault,
                    halted: head.halted,
                }))
            })
            .await?;
        verification.ok_or_else(|| absent("node-unknown", format!("there is no node {node}")))
    }
}

/// A node's entries, page by page.
struct Pages<'a> {
    connection: &'a rusqlite::Connection,
    node: &'a NodeName,
    next: Option<u64>,
    failed: Option<rusqlite::Error>,
}

impl Pages<'_> {
    fn next(&mut self) -> Option<Vec<(u64, String)>> {
        let page = ledger::bodies(self.connection, self.node, self.next?, PAGE_LEN);
        let page = page.map_err(|error| self.failed = Some(error)).ok()?;
        self.next = page.last().map(|(seq, _)| seq + 1);
        (!page.is_empty()).then_some(page)
    }
}
