//! The version floor: what a node ran once, it does not fall behind again by itself.

use serde::{Deserialize, Serialize};

use crate::{
    bundle::manifest::Manifest,
    digest::Digest,
    ledger::note::{self, Note, Signer, VerifierKey},
};

/// The newest bundle that came up healthy on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub version: u64,
    pub digest: Digest,
}

/// Why a bundle may not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "version {version} is below the floor {floor}; only a rollback that the operator signed for it may go back"
    )]
    Below { version: u64, floor: u64 },
    #[error("another bundle with version {version} ran here before: {known}")]
    SameVersion { version: u64, known: Digest },
    #[error("the rollback is not signed by the operator: {0}")]
    Signature(#[from] note::Error),
    #[error("the signed rollback is to another bundle or from a lower floor")]
    OtherRollback,
}

/// Whether the bundle may be applied on a node with this floor, and the floor once it is healthy. A rollback leaves the
/// floor where it is: what was rolled back over stays refused.
///
/// # Errors
/// Says what forbids it.
pub fn admit(
    floor: Option<Floor>,
    bundle: &Manifest,
    rollback: Option<&Note>,
    operator: &VerifierKey,
) -> Result<Floor, Refused> {
    let (version, digest) = (bundle.version(), bundle.digest());
    let raised = Floor { version, digest };
    let Some(floor) = floor else { return Ok(raised) };
    if version > floor.version {
        return Ok(raised);
    }
    if version == floor.version {
        let known = floor.digest;
        return if digest == known { Ok(floor) } else { Err(Refused::SameVersion { version, known }) };
    }
    let rollback = rollback.ok_or(Refused::Below { version, floor: floor.version })?;
    let text = rollback.verified_by(operator)?;
    let covered = text.rsplit_once("\nfloor ").and_then(|(_, number)| number.trim_end().parse().ok());
    match covered {
        // The text is compared whole: what was parsed out of it decides nothing but which text it must be.
        Some(covered) if covered >= floor.version && text == rollback_text(digest, covered) => Ok(floor),
        _ => Err(Refused::OtherRollback),
    }
}

/// The operator's word that nodes with this floor or a lower one may go back to the bundle `to`. A node that came further
/// meanwhile refuses it, so that an old note is worth nothing later.
///
/// # Errors
/// Never: the text is made of digits and letters.
pub fn sign_rollback(to: Digest, floor: u64, operator: &Signer) -> Result<Note, note::Error> {
    operator.sign(&rollback_text(to, floor))
}

fn rollback_text(to: Digest, floor: u64) -> String {
    format!("skerry.rollback/1\n{to}\nfloor {floor}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::manifest::File;

    fn bundle(version: u64, content: &str) -> Manifest {
        let path = "a".parse().expect("a path");
        let file = File { path, digest: Digest::of(content.as_bytes()), bytes: content.len() as u64 };
        Manifest::new("plant", version, vec![file]).expect("a bundle")
    }

    fn floor_of(bundle: &Manifest) -> Floor {
        Floor { version: bundle.version(), digest: bundle.digest() }
    }

    #[test]
    fn the_floor_rises_with_versions_and_falls_for_nothing() {
        let operator = Signer::new("operator", &[1; 32]).expect("a name");
        let (old, new) = (bundle(3, "old"), bundle(5, "new"));
        let floor = floor_of(&new);
        let admit =
            |floor, bundle: &Manifest, rollback: Option<&Note>| admit(floor, bundle, rollback, operator.public());
        assert_eq!(admit(None, &old, None), Ok(floor_of(&old)));
        assert_eq!(admit(Some(floor_of(&old)), &new, None), Ok(floor));
        assert_eq!(admit(Some(floor), &new, None), Ok(floor));
        assert_eq!(admit(Some(floor), &old, None), Err(Refused::Below { version: 3, floor: 5 }));
        assert!(matches!(admit(Some(floor), &bundle(5, "forged"), None), Err(Refused::SameVersion { .. })));
        let rollback = sign_rollback(old.digest(), 5, &operator).expect("signs");
        assert_eq!(admit(Some(floor), &old, Some(&rollback)), Ok(floor));
        assert_eq!(admit(Some(floor), &bundle(3, "x"), Some(&rollback)), Err(Refused::OtherRollback));
        let earlier = sign_rollback(old.digest(), 4, &operator).expect("signs");
        assert_eq!(admit(Some(floor), &old, Some(&earlier)), Err(Refused::OtherRollback));
        let wider = sign_rollback(old.digest(), 9, &operator).expect("signs");
        assert_eq!(
            admit(Some(floor), &old, Some(&wider)),
            Ok(floor),
            "a node that lags behind the group goes back too"
        );
        let stranger = Signer::new("operator", &[2; 32]).expect("a name");
        let forged = sign_rollback(old.digest(), 5, &stranger).expect("signs");
        assert!(matches!(admit(Some(floor), &old, Some(&forged)), Err(Refused::Signature(_))));
    }
}
