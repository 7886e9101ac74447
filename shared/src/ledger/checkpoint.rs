//! A ledger's head as a signed note (C2SP `tlog-checkpoint`): which log, how many entries, which root.

use crate::{
    id::NodeName,
    ledger::{
        note::{self, Note, Signer, VerifierKey},
        tree::{Hash, Tail},
    },
};

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is: `skerry.ledger/<node>`.
    pub origin: String,
    /// Entries from the first on.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// Why a note is not the checkpoint that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Note(#[from] note::Error),
    #[error("not a checkpoint: expected three lines, an origin, a decimal size and the root in base64")]
    Form,
    #[error("the checkpoint is of the log {found:?}, expected {expected:?}")]
    Origin { found: String, expected: String },
}

/// The origin of a node's ledger.
#[must_use]
pub fn origin(node: &NodeName) -> String {
    format!("skerry.ledger/{node}")
}

impl Checkpoint {
    /// The head of this tree of this node's.
    #[must_use]
    pub fn of(node: &NodeName, tail: &Tail) -> Self {
        Self { origin: origin(node), size: tail.size(), root: tail.root() }
    }

    /// The note's text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// The head as a note with this key's signature.
    ///
    /// # Errors
    /// When the origin holds a line feed or other control character.
    pub fn sign(&self, signer: &Signer) -> Result<Note, Error> {
        Ok(signer.sign(&self.text())?)
    }

    /// The checkpoint that this key signed for this node's ledger.
    ///
    /// # Errors
    /// When the signature is missing or wrong, the text is no checkpoint, or it is of another log.
    pub fn open(note: &Note, key: &VerifierKey, node: &NodeName) -> Result<Self, Error> {
        let checkpoint = Self::parse(note.verified_by(key)?)?;
        let expected = origin(node);
        if checkpoint.origin == expected {
            Ok(checkpoint)
        } else {
            Err(Error::Origin { found: checkpoint.origin, expected })
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Error::Form);
        };
        let number: u64 = size.parse().map_err(|_| Error::Form)?;
        let root = Hash::from_base64(root).ok_or(Error::Form)?;
        // Further lines are extensions, which the format allows; a size has one spelling.
        if origin.is_empty() || number.to_string() != size {
            return Err(Error::Form);
        }
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_opens_for_its_node_and_key_alone() {
        let node: NodeName = "basel".parse().expect("a name");
        let other: NodeName = "houston".parse().expect("a name");
        let signer = Signer::new("skerry.ledger/basel", &[7; 32]).expect("a name");
        let tail: Tail = [Hash::leaf(b"a"), Hash::leaf(b"b")].into_iter().collect();
        let checkpoint = Checkpoint::of(&node, &tail);
        let note = checkpoint.sign(&signer).expect("plain text");
        assert_eq!(Checkpoint::open(&note, signer.public(), &node), Ok(checkpoint));
        assert!(matches!(Checkpoint::open(&note, signer.public(), &other), Err(Error::Origin { .. })));
    }

    #[test]
    fn text_that_is_no_checkpoint_is_refused() {
        let root = Hash::empty();
        for bad in ["o\n1\n", "o\n01\nAAAA\n", &format!("o\n+1\n{root}\n"), &format!("\n1\n{root}\n"), "o\n1\nAAAA\n"] {
            assert_eq!(Checkpoint::parse(bad), Err(Error::Form), "{bad:?}");
        }
        assert!(Checkpoint::parse(&format!("o\n1\n{root}\nextension\n")).is_ok());
    }
}
