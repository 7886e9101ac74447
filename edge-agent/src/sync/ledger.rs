//! Checking the ledger, and shipping what lies past the control plane's cursor.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rusqlite::{Connection, params};
use shared::{
    id::NodeName,
    ledger::{
        checkpoint::Checkpoint,
        note::{Signer, VerifierKey},
        tree::{Hash, Tail, prove_extension},
        verify::{self, Fault},
    },
    wire::v1::{LEDGER_BYTES_MAX, LEDGER_ENTRIES_MAX, LEDGER_PATH, LedgerAnswer, LedgerCursor, LedgerRequest},
};

use super::{Error, Membership, client::Client, state};
use crate::store::Store;

/// A full request on a slow link (100 kbit/s) with room to spare.
const ANSWER_MAX: Duration = Duration::from_secs(300);
/// Entries read at a time while the whole ledger is walked: bounded memory, whatever its length.
const PAGE_LEN: u64 = 2_000;

/// Recomputes the tree over every entry and compares it with the right edge that the writer kept.
///
/// # Errors
/// When SQLite fails.
pub fn verify(connection: &Connection) -> rusqlite::Result<Result<Tail, Fault>> {
    // One snapshot: a running agent may append meanwhile.
    let snapshot = connection.unchecked_transaction()?;
    let (size, roots) = edge(&snapshot)?;
    let Some(kept) = Tail::from_bytes(size, &roots) else {
        return Ok(Err(Fault::Tampered { from: 0, to: size.saturating_sub(1) }));
    };
    let (mut from, mut failed) = (Some(0), None);
    let pages = std::iter::from_fn(|| {
        let page = bodies(&snapshot, from?, PAGE_LEN).map_err(|error| failed = Some(error)).ok()?;
        from = page.last().map(|(seq, _)| seq + 1);
        Some(page)
    });
    let rows = pages.flatten().map(|(seq, body)| (seq, Cow::Owned(body)));
    let checked = verify::compare(rows, size, &kept.root());
    failed.map_or(Ok(checked), Err)
}

/// Ships entries past the cursor.
pub(super) struct Shipper {
    client: Client,
    store: Store,
    signer: Signer,
    node: NodeName,
    witness: VerifierKey,
    /// Whether the control plane has taken a head of this process. Until then as many entries as it has may be other
    /// entries: the store may have been put back from a copy.
    proven: AtomicBool,
}

/// One request's worth of the ledger.
struct Batch {
    request: LedgerRequest,
    /// The right edge behind its last entry.
    tail: Tail,
}

impl Shipper {
    pub(super) fn new(client: Client, store: Store, signer: Signer, member: &Membership) -> Self {
        Self {
            client,
            store,
            signer,
            node: member.node.clone(),
            witness: member.witness_key.clone(),
            proven: AtomicBool::new(false),
        }
    }

    /// Ships all that the control plane does not have. Answers the cursor in the end.
    pub(super) async fn ship(&self, mut cursor: LedgerCursor) -> Result<LedgerCursor, Error> {
        let settled = |cursor: &LedgerCursor| {
            let size = *self.store.ledger_size().borrow();
            cursor.next == size && (size == 0 || self.proven.load(Ordering::Relaxed))
        };
        while cursor.halted.is_none() && !settled(&cursor) {
            let Batch { request, tail } = self.batch(cursor.next).await?;
            let answer: LedgerAnswer = self.client.post("ship the ledger", LEDGER_PATH, &request, ANSWER_MAX).await?;
            if answer.cursor.halted.is_none() && answer.cursor.next == tail.size() {
                answer.head.cosigned_by(&self.witness)?;
                self.proven.store(true, Ordering::Relaxed);
                let head = answer.head;
                self.store
                    .write("note how far the ledger was shipped", move |tx| {
                        Ok(state::shipped(tx.connection(), &tail, &head)?)
                    })
                    .await?;
            } else if answer.cursor.next == cursor.next && answer.cursor.halted.is_none() {
                let detail = format!("the cursor stays at {}", cursor.next);
                return Err(Error::Answer { operation: "ship the ledger", detail });
            }
            cursor = answer.cursor;
        }
        Ok(cursor)
    }

    async fn batch(&self, from: u64) -> Result<Batch, Error> {
        let (node, signer) = (self.node.clone(), self.signer.clone());
        let batch = self
            .store
            .read("read the ledger to ship", move |c| {
                let snapshot = c.unchecked_transaction()?;
                let (size, roots) = edge(&snapshot)?;
                if from > size {
                    // The control plane has more than this disk: say so under the node's own signature.
                    return Ok(tail_at(&snapshot, size)?
                        .map(|tail| batch(from, Vec::new(), &tail, tail.clone(), &node, &signer)));
                }
                let former = match tail_at(&snapshot, from)? {
                    Ok(former) => former,
                    Err(fault) => return Ok(Err(fault)),
                };
                let mut entries = Vec::new();
                let mut bytes = 0;
                for (seq, body) in bodies(&snapshot, from, LEDGER_ENTRIES_MAX as u64)? {
                    bytes += body.len();
                    if bytes > LEDGER_BYTES_MAX && !entries.is_empty() {
                        break;
                    }
                    match String::from_utf8(body) {
                        Ok(body) => entries.push(body),
                        Err(error) => return Ok(Err(Fault::NotAnEntry { seq, detail: error.to_string() })),
                    }
                }
                let mut tail = former.clone();
                entries.iter().for_each(|body| tail.push(Hash::leaf(body.as_bytes())));
                if tail.size() == size && Tail::from_bytes(size, &roots).as_ref() != Some(&tail) {
                    return Ok(Err(Fault::Tampered { from: 0, to: size.saturating_sub(1) }));
                }
                Ok(Ok(batch(from, entries, &former, tail, &node, &signer)))
            })
            .await??;
        Ok(batch)
    }
}

fn batch(from: u64, entries: Vec<String>, former: &Tail, tail: Tail, node: &NodeName, signer: &Signer) -> Batch {
    let added: Vec<Hash> = entries.iter().map(|body| Hash::leaf(body.as_bytes())).collect();
    let consistency = prove_extension(former, &added);
    let head = Checkpoint::of(node, &tail).sign(signer).expect("a node's name holds no control character");
    Batch { request: LedgerRequest { from, entries, head, consistency }, tail }
}

/// The right edge of the tree at this size: as it was kept when so much had been shipped, or recomputed.
fn tail_at(connection: &Connection, size: u64) -> rusqlite::Result<Result<Tail, Fault>> {
    if let Some(tail) = state::shipped_tail(connection)?.filter(|tail| tail.size() == size) {
        return Ok(Ok(tail));
    }
    let mut tail = Tail::default();
    while tail.size() < size {
        let before = tail.size();
        for (seq, body) in bodies(connection, before, PAGE_LEN.min(size - before))? {
            if seq != tail.size() {
                return Ok(Err(Fault::Gap { expected: tail.size(), found: seq }));
            }
            tail.push(Hash::leaf(&body));
        }
        if tail.size() == before {
            return Ok(Err(Fault::Length { end: before, size }));
        }
    }
    Ok(Ok(tail))
}

/// The size and roots that the writer kept.
fn edge(connection: &Connection) -> rusqlite::Result<(u64, Vec<u8>)> {
    connection
        .prepare_cached("SELECT size, roots FROM ledger_tail")?
        .query_row([], |row| Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), row.get(1)?)))
}

fn bodies(connection: &Connection, from: u64, limit: u64) -> rusqlite::Result<Vec<(u64, Vec<u8>)>> {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    connection
        .prepare_cached("SELECT seq, body FROM ledger WHERE seq >= ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![int(from), int(limit)], |row| {
            Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), row.get(1)?))
        })?
        .collect()
}
