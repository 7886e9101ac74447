//! The node's papers: the key that signs its ledger, made at the first start, and what it got when it enrolled. Files that
//! nobody else can read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use private::Origin;
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeName,
    ledger::{
        checkpoint,
        note::{Signer, VerifierKey},
    },
};

use super::Error;
use crate::clock;

const LEDGER_KEY: &str = "ledger.key";
const MEMBERSHIP: &str = "membership.json";
const ENROLLMENT_KEY: &str = "enrollment.key";

/// The files with the node's papers, there or not.
#[must_use]
pub fn files(data: &Path) -> [PathBuf; 3] {
    [LEDGER_KEY, MEMBERSHIP, ENROLLMENT_KEY].map(|name| data.join("identity").join(name))
}

/// What a node got when it enrolled, and its own TLS key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Membership {
    pub node: NodeName,
    /// `https://host:port` of the control plane.
    pub url: String,
    pub group: String,
    pub operator_key: VerifierKey,
    pub witness_key: VerifierKey,
    pub ca_pem: String,
    pub certificate_pem: String,
    /// PKCS #8 in PEM. Never leaves this file.
    pub(super) key_pem: String,
}

impl std::fmt::Debug for Membership {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, url, group, .. } = self;
        f.debug_struct("Membership").field("node", node).field("url", url).field("group", group).finish_non_exhaustive()
    }
}

/// Who this node is.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    node: NodeName,
    ledger_key: Signer,
    membership: Option<Membership>,
}

impl Identity {
    /// Opens the papers in `<data>/identity`, making the ledger key if there is none.
    ///
    /// # Errors
    /// When a file cannot be read or written, is damaged, or belongs to a node of another name.
    pub fn open(data: &Path, node: &NodeName) -> Result<Self, Error> {
        let folder = data.join("identity");
        fs::create_dir_all(&folder).map_err(|source| Error::File {
            operation: "make the folder",
            path: folder.clone(),
            source,
        })?;
        let ledger_key = ledger_key(&folder.join(LEDGER_KEY), node)?;
        let path = folder.join(MEMBERSHIP);
        let membership = match private::read(&path, Origin::Own) {
            Ok(text) => {
                let damaged = |detail: String| Error::Content { path: path.clone(), detail };
                let membership: Membership = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
                if membership.node != *node {
                    let detail = format!("it is for the node {}, this node is called {node}", membership.node);
                    return Err(damaged(detail));
                }
                Some(membership)
            }
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { folder, node: node.clone(), ledger_key, membership })
    }

    /// The key that signs this node's ledger heads.
    #[must_use]
    pub const fn ledger_key(&self) -> &Signer {
        &self.ledger_key
    }

    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// The node's membership in a fleet, if it has enrolled.
    #[must_use]
    pub const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Where the membership is kept.
    #[must_use]
    pub fn membership_path(&self) -> PathBuf {
        self.folder.join(MEMBERSHIP)
    }

    pub(super) fn join(&mut self, membership: Membership) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(&membership).expect("a membership is plain data");
        write_secret(&self.membership_path(), &json)?;
        drop(fs::remove_file(self.folder.join(ENROLLMENT_KEY)));
        self.membership = Some(membership);
        Ok(())
    }

    /// The key of an enrolment that has not been answered yet. It is kept, so that an enrolment whose answer got lost is
    /// asked for again with the same key.
    pub(super) fn enrollment_key(&self) -> Result<rcgen::KeyPair, Error> {
        let path = self.folder.join(ENROLLMENT_KEY);
        if !path.exists() {
            let key = rcgen::KeyPair::generate().map_err(Error::Key)?;
            write_secret(&path, key.serialize_pem().as_bytes())?;
        }
        rcgen::KeyPair::from_pem(&private::read(&path, Origin::Own)?)
            .map_err(|error| Error::Content { path, detail: error.to_string() })
    }
}

fn ledger_key(path: &Path, node: &NodeName) -> Result<Signer, Error> {
    if !path.exists() {
        let (a, b) = (clock::seed(), clock::seed());
        write_secret(path, BASE64.encode([a, b].concat()).as_bytes())?;
    }
    let damaged = |detail: &str| Error::Content { path: path.to_owned(), detail: detail.to_owned() };
    let bytes = BASE64.decode(private::read(path, Origin::Own)?.trim()).map_err(|_| damaged("expected base64"))?;
    let secret: [u8; 32] = bytes.try_into().map_err(|_| damaged("expected 32 bytes in base64"))?;
    // The note formats want the key to be called like the log.
    Ok(Signer::new(&checkpoint::origin(node), &secret)?)
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    private::write(path, bytes).map_err(|source| Error::File { operation: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_key_is_made_once_and_private() {
        let data = tempfile::tempdir().expect("a folder");
        let node: NodeName = "basel".parse().expect("a name");
        let first = Identity::open(data.path(), &node).expect("made");
        let again = Identity::open(data.path(), &node).expect("opened");
        assert_eq!(first.ledger_key().public(), again.ledger_key().public());
        assert_eq!(first.ledger_key().public().name(), "skerry.ledger/basel");
        private::look(&data.path().join("identity/ledger.key"), Origin::Own).expect("private");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let data = tempfile::tempdir().expect("a folder");
        let node: NodeName = "basel".parse().expect("a name");
        fs::create_dir_all(data.path().join("identity")).expect("made");
        private::write(&data.path().join("identity/membership.json"), b"{").expect("written");
        let error = Identity::open(data.path(), &node).expect_err("refused").to_string();
        assert!(error.contains("membership.json is damaged"), "{error}");
    }

    #[test]
    fn papers_that_others_may_read_are_refused_with_what_to_do() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().expect("a folder");
        let node: NodeName = "basel".parse().expect("a name");
        Identity::open(data.path(), &node).expect("made");
        private::write(&data.path().join("identity/membership.json"), b"{").expect("written");
        for name in ["membership.json", "ledger.key"] {
            let path = data.path().join("identity").join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
            let error = Identity::open(data.path(), &node).expect_err("refused").to_string();
            assert!(error.contains(&format!("(mode 0640): `chmod 600 {}`", path.display())), "{error}");
        }
    }
}
