//! Joining a fleet: the node makes its key, the control plane its certificate.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use shared::{
    digest::Digest,
    wire::{
        token::JoinToken,
        v1::{ENROLL_PATH, EnrollAnswer, EnrollRequest},
    },
};

use super::{Error, Identity, Membership, client::Client};

/// A slow link's handshake and one round trip.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Enrols this node with a join token and keeps the papers that it gets. May be repeated when the answer got lost.
///
/// # Errors
/// When the node is a member already, the server is not the one that the token pins, or the token is refused.
pub async fn enroll(
    identity: &mut Identity,
    token: &JoinToken,
    jurisdiction: &str,
    version: &str,
) -> Result<(), Error> {
    if let Some(member) = identity.membership() {
        let (name, url) = (member.node.to_string(), member.url.clone());
        return Err(Error::Enrolled { name, url, path: identity.membership_path() });
    }
    let key = identity.enrollment_key()?;
    let csr_pem = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(Error::Key)?;
    let request = EnrollRequest {
        secret: token.secret.clone(),
        name: identity.node().clone(),
        jurisdiction: jurisdiction.to_owned(),
        csr_pem,
        ledger_key: identity.ledger_key().public().clone(),
        version: version.to_owned(),
    };
    let client = Client::pinned(&token.url, token.ca_sha256)?;
    let answer: EnrollAnswer = client.post("enroll", ENROLL_PATH, &request, ANSWER_MAX).await?;
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes());
    if !ca.is_ok_and(|ca| Digest::of(&ca) == token.ca_sha256) {
        return Err(Error::WrongAuthority { url: token.url.clone(), expected: token.ca_sha256 });
    }
    if answer.node != *identity.node() {
        let detail = format!("papers for the node {}", answer.node);
        return Err(Error::Answer { operation: "enroll", detail });
    }
    identity.join(Membership {
        node: answer.node,
        url: token.url.clone(),
        group: answer.group,
        operator_key: answer.operator_key,
        witness_key: answer.witness_key,
        ca_pem: answer.ca_pem,
        certificate_pem: answer.certificate_pem,
        key_pem: key.serialize_pem(),
    })
}
