//! Whether a run of entries is what a signed head says it is, and if not, in which way.

use std::borrow::Cow;

use crate::{
    id::NodeName,
    ledger::{
        checkpoint::{self, Checkpoint},
        entry::Entry,
        note::{Note, VerifierKey},
        tree::{Hash, Tail, verify_consistency},
    },
};

/// What does not hold. The sentence is for the auditor; `kind` is for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the head is not a checkpoint signed by the node: {0}")]
    Head(#[from] checkpoint::Error),
    #[error("gap: entry {expected} was expected next, the run begins at {found}")]
    Gap { expected: u64, found: u64 },
    #[error("shrunk: the node signed a head of {now} entries after one of {former}")]
    Shrunk { former: u64, now: u64 },
    #[error(
        "fork: the signed head of {now} entries does not continue the head of {former} entries that was countersigned"
    )]
    Fork { former: u64, now: u64 },
    #[error("the head speaks of {size} entries, the run ends at {end}")]
    Length { end: u64, size: u64 },
    #[error("tampered: the entries {from} to {to} are not those that the head is over")]
    Tampered { from: u64, to: u64 },
    #[error("entry {seq} cannot be read as an entry: {detail}")]
    NotAnEntry { seq: u64, detail: String },
}

impl Fault {
    /// One word for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Head(_) => "head",
            Self::Gap { .. } => "gap",
            Self::Shrunk { .. } => "shrunk",
            Self::Fork { .. } => "fork",
            Self::Length { .. } => "length",
            Self::Tampered { .. } => "tampered",
            Self::NotAnEntry { .. } => "not-an-entry",
        }
    }
}

/// Entries that go on from a verified head, as they were sent.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The index of the first body.
    pub from: u64,
    /// The entries' exact bytes.
    pub bodies: &'a [&'a [u8]],
    /// The node's head right behind the last of them.
    pub head: &'a Note,
    /// The proof that the head continues the former one.
    pub consistency: &'a [Hash],
}

/// Checks that `run` continues the ledger that ends at `former`, under the node's key. Answers the new right edge and the
/// entries.
///
/// # Errors
/// The first thing that does not hold.
pub fn extend(former: &Tail, run: &Run<'_>, node: &NodeName, key: &VerifierKey) -> Result<(Tail, Vec<Entry>), Fault> {
    let head = Checkpoint::open(run.head, key, node)?;
    if head.size < former.size() {
        return Err(Fault::Shrunk { former: former.size(), now: head.size });
    }
    if run.from != former.size() {
        return Err(Fault::Gap { expected: former.size(), found: run.from });
    }
    let end = run.from + run.bodies.len() as u64;
    if head.size != end {
        return Err(Fault::Length { end, size: head.size });
    }
    verify_consistency((former.size(), &former.root()), (head.size, &head.root), run.consistency)
        .map_err(|_| Fault::Fork { former: former.size(), now: head.size })?;
    let mut tail = former.clone();
    run.bodies.iter().for_each(|body| tail.push(Hash::leaf(body)));
    if tail.root() != head.root {
        return Err(Fault::Tampered { from: run.from, to: end.saturating_sub(1) });
    }
    let entries = run.bodies.iter().zip(run.from..).map(|(body, seq)| read(seq, body)).collect::<Result<_, _>>()?;
    Ok((tail, entries))
}

/// Checks that stored entries, from the first on, make the tree that the head is over. `bodies` are asked for once, in
/// order; where they stop early or go on too long is said too.
///
/// # Errors
/// The first thing that does not hold; `NotAnEntry` when a body cannot be read.
pub fn recompute<'a>(
    bodies: impl IntoIterator<Item = (u64, Cow<'a, [u8]>)>,
    head: &Note,
    node: &NodeName,
    key: &VerifierKey,
) -> Result<Tail, Fault> {
    let head = Checkpoint::open(head, key, node)?;
    compare(bodies, head.size, &head.root)
}

/// As `recompute`, with a size and root that are known without a signature: the node's own, beside its entries.
///
/// # Errors
/// As `recompute`.
pub fn compare<'a>(
    bodies: impl IntoIterator<Item = (u64, Cow<'a, [u8]>)>,
    size: u64,
    root: &Hash,
) -> Result<Tail, Fault> {
    let mut tail = Tail::default();
    for (seq, body) in bodies {
        if seq != tail.size() {
            return Err(Fault::Gap { expected: tail.size(), found: seq });
        }
        read(seq, &body)?;
        tail.push(Hash::leaf(&body));
    }
    if tail.size() != size {
        return Err(Fault::Length { end: tail.size(), size });
    }
    if tail.root() != *root {
        return Err(Fault::Tampered { from: 0, to: size.saturating_sub(1) });
    }
    Ok(tail)
}

fn read(seq: u64, body: &[u8]) -> Result<Entry, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::NotAnEntry { seq, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{entry::Fact, note::Signer, tree::prove_extension},
        time::Timestamp,
    };

    fn body(n: i64) -> Vec<u8> {
        let fact = Fact::AgentStarted { version: n.to_string() };
        let entry = Entry { at: Timestamp::from_micros(n), run: None, task: None, fact };
        serde_json::to_vec(&entry).expect("plain data")
    }

    fn tail_of(bodies: &[Vec<u8>]) -> Tail {
        bodies.iter().map(|body| Hash::leaf(body)).collect()
    }

    fn node() -> NodeName {
        "basel".parse().expect("a name")
    }

    fn signer() -> Signer {
        Signer::new("basel", &[1; 32]).expect("a name")
    }

    /// What a node that has `now` answers to a control plane that has verified `former`.
    fn check(former: &[Vec<u8>], now: &[Vec<u8>], sent: &[Vec<u8>]) -> Result<u64, &'static str> {
        let cut = former.len().min(now.len());
        let head = Checkpoint::of(&node(), &tail_of(now)).sign(&signer()).expect("plain");
        let added: Vec<Hash> = now[cut..].iter().map(|body| Hash::leaf(body)).collect();
        let consistency = prove_extension(&tail_of(&now[..cut]), &added);
        let bodies: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        let run = Run { from: former.len() as u64, bodies: &bodies, head: &head, consistency: &consistency };
        extend(&tail_of(former), &run, &node(), signer().public())
            .map(|(tail, _)| tail.size())
            .map_err(|fault| fault.kind())
    }

    fn bodies(range: std::ops::Range<i64>) -> Vec<Vec<u8>> {
        range.map(body).collect()
    }

    #[test]
    fn an_honest_run_is_taken_and_every_other_is_named() {
        let all = bodies(0..9);
        assert_eq!(check(&all[..5], &all, &all[5..]), Ok(9));
        assert_eq!(check(&all[..0], &all, &all), Ok(9));
        assert_eq!(check(&all, &all, &[]), Ok(9));
        let tampered: Vec<_> = [bodies(5..7), bodies(70..71), bodies(8..9)].concat();
        assert_eq!(check(&all[..5], &all, &tampered), Err("tampered"));
        let forked: Vec<_> = [bodies(0..4), bodies(40..41), bodies(5..9)].concat();
        assert_eq!(check(&all[..5], &forked, &forked[5..]), Err("fork"));
        assert_eq!(check(&all[..5], &all[..3], &[]), Err("shrunk"));
        assert_eq!(check(&all[..5], &all, &all[6..]), Err("length"));
        let unreadable = [all.clone(), vec![b"{}".to_vec()]].concat();
        assert_eq!(check(&all, &unreadable, &unreadable[9..]), Err("not-an-entry"));
    }

    #[test]
    fn a_head_by_another_key_or_a_run_from_elsewhere_is_refused() {
        let all = bodies(0..3);
        let head = Checkpoint::of(&node(), &tail_of(&all)).sign(&signer()).expect("plain");
        let refs: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let run = Run { from: 0, bodies: &refs, head: &head, consistency: &[] };
        let stranger = Signer::new("basel", &[2; 32]).expect("a name");
        let fault = extend(&Tail::default(), &run, &node(), stranger.public()).expect_err("refused");
        assert_eq!(fault.kind(), "head");
        let late = Run { from: 1, bodies: &refs[1..], ..run };
        assert_eq!(extend(&Tail::default(), &late, &node(), signer().public()).map_err(|f| f.kind()), Err("gap"));
    }

    #[test]
    fn stored_entries_recompute_to_the_head_or_the_damage_is_named() {
        let all = bodies(0..7);
        let head = Checkpoint::of(&node(), &tail_of(&all)).sign(&signer()).expect("plain");
        let recomputed = |rows: Vec<(u64, Vec<u8>)>| {
            let rows = rows.into_iter().map(|(seq, body)| (seq, body.into()));
            recompute(rows, &head, &node(), signer().public()).map(|tail| tail.size()).map_err(|fault| fault.kind())
        };
        let rows: Vec<_> = (0..).zip(all).collect();
        assert_eq!(recomputed(rows.clone()), Ok(7));
        let mut gap = rows.clone();
        gap.remove(3);
        assert_eq!(recomputed(gap), Err("gap"));
        assert_eq!(recomputed(rows[..6].to_vec()), Err("length"));
        let mut changed = rows;
        changed[2].1 = body(99);
        assert_eq!(recomputed(changed), Err("tampered"));
    }
}
