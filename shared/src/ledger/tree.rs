//! The Merkle tree of RFC 6962, section 2: hashes, the right edge that grows, and both kinds of proof.
//!
//! Verification follows RFC 9162, 2.1.3.2 and 2.1.4.2. Nothing here keeps a whole tree: a proof is first a list of leaf
//! ranges, and whoever holds the leaves says each range's hash, which `Tail` makes of a stream of leaves.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A leaf's, a node's or a tree's SHA-256. On the wire: base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of a tree without leaves: SHA-256 of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of a leaf: SHA-256 of 0x00 and its bytes.
    #[must_use]
    pub fn leaf(body: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(body).finalize().into())
    }

    /// The hash of an inner node: SHA-256 of 0x01 and its children's hashes.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// From standard base64 of exactly 32 bytes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).ok_or_else(|| serde::de::Error::custom("expected base64 of a hash of 32 bytes"))
    }
}

/// A tree's right edge: the hashes of its complete subtrees, largest first, one per set bit of `size`. Enough to append
/// and to know the root; known elsewhere as a compact range.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tail {
    size: u64,
    roots: Vec<Hash>,
}

impl Tail {
    /// The edge that was kept as its size and the concatenated roots; `None` when these do not fit each other.
    #[must_use]
    pub fn from_bytes(size: u64, roots: &[u8]) -> Option<Self> {
        let roots: Vec<Hash> = roots.chunks(32).map(|root| root.try_into().map(Hash)).collect::<Result<_, _>>().ok()?;
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// The roots one after the other, 32 bytes each, for keeping.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.iter().flat_map(|root| root.0).collect()
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return Hash::empty() };
        roots.fold(*first, |right, left| Hash::node(left, &right))
    }

    /// Appends a leaf by its hash.
    ///
    /// # Panics
    /// Never: there is one root per set bit of the size.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.roots.pop().expect("one root per set bit of the size");
            hash = Hash::node(&left, &hash);
            size >>= 1;
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The hash of one of the complete subtrees at the edge, by the leaves that it covers.
    #[must_use]
    pub fn subtree(&self, leaves: &Range<u64>) -> Option<Hash> {
        let mut start = 0;
        let mut remaining = self.size;
        for root in &self.roots {
            let len = 1_u64 << remaining.ilog2();
            if leaves.start == start && leaves.end == start + len {
                return Some(*root);
            }
            start += len;
            remaining -= len;
        }
        None
    }
}

impl FromIterator<Hash> for Tail {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tail = Self::default();
        leaves.into_iter().for_each(|leaf| tail.push(leaf));
        tail
    }
}

/// The leaf ranges whose hashes prove that leaf `index` is in the tree of `size` leaves, in the proof's order
/// (RFC 6962, 2.1.1). Empty when it is not.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if index >= size {
        return ranges;
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The leaf ranges whose hashes prove that the tree of `new` leaves continues the tree of `old` leaves, in the proof's
/// order (RFC 6962, 2.1.2). A range lies wholly before `old`, and is then a subtree at that tree's edge, or wholly behind.
/// Empty when `old` is 0, equal to `new`, or beyond it.
#[must_use]
pub fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if old == 0 || old >= new {
        return ranges;
    }
    let (mut start, mut end) = (0, new);
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // The old tree itself needs no proof when it is a whole subtree from the first leaf on: its root is known.
    if start > 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    ranges
}

/// The consistency proof from `old` to `old` with `added` behind it. Needs no leaf of the old tree.
///
/// # Panics
/// Never: ranges behind the old tree lie in `added`, the others at its edge.
#[must_use]
pub fn prove_extension(old: &Tail, added: &[Hash]) -> Vec<Hash> {
    let place = |leaf: u64| usize::try_from(leaf - old.size()).expect("a range of leaves in memory");
    consistency_ranges(old.size(), old.size() + added.len() as u64)
        .into_iter()
        .map(|range| {
            if range.start >= old.size() {
                added[place(range.start)..place(range.end)].iter().copied().collect::<Tail>().root()
            } else {
                old.subtree(&range).expect("a range before the old size is a subtree at its edge")
            }
        })
        .collect()
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("leaf {index} is not in a tree of {size} leaves")]
    Index { index: u64, size: u64 },
    #[error("a tree of {new} leaves cannot continue one of {old}")]
    Shrunk { old: u64, new: u64 },
    #[error("the proof has {found} hashes where another number was expected")]
    Length { found: usize },
    #[error("the proof leads to another root")]
    Root,
}

/// Whether the leaf with this hash is leaf `index` of the tree with `size` leaves and this root.
///
/// # Errors
/// Says what does not fit.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let length = ProofError::Length { found: proof.len() };
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            hash = Hash::node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(length),
    }
}

/// Whether the tree of `new` leaves with root `new_root` continues the tree of `old` leaves with root `old_root`.
///
/// # Errors
/// Says what does not fit.
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> Result<(), ProofError> {
    let length = ProofError::Length { found: proof.len() };
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == new || old == 0 {
        let same = if old == 0 { *old_root == Hash::empty() } else { old_root == new_root };
        return match (proof.is_empty(), same && (new > 0 || *new_root == Hash::empty())) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(length),
        };
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let mut rest = proof.iter();
    // An old tree that is one complete subtree is its own first hash and is left out of the proof.
    let first = if old.is_power_of_two() { old_root } else { rest.next().ok_or(length)? };
    let (mut from_old, mut from_new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            from_old = Hash::node(hash, &from_old);
            from_new = Hash::node(hash, &from_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = Hash::node(&from_new, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    match (last, from_old == *old_root && from_new == *new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(length),
    }
}

/// The largest power of two below `len`, for `len` of two or more: where RFC 6962 splits a list of leaves.
const fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
