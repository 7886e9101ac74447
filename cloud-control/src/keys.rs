//! The control plane's own keys: a small certificate authority, and the two Ed25519 keys that sign for the operator and as
//! the ledgers' witness. Made at the first start, kept in files that nobody else can read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use private::Origin;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use shared::{digest::Digest, id::NodeName, ledger::note::Signer};

use crate::clock;

/// What can be wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Secret(#[from] private::Error),
    #[error(
        "cannot read {path}: {detail}; it was made by the first start and is needed to be trusted by the nodes again"
    )]
    Content { path: PathBuf, detail: String },
    #[error("cannot make a certificate for {what}")]
    Certificate { what: String, source: rcgen::Error },
}

/// A node's public key was not what it said, or its request was broken.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate request (PKCS #10, PEM) that its own key signed: {0}")]
pub struct BadRequest(rcgen::Error);

/// The keys.
pub struct Keys {
    authority: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    operator: Signer,
    witness: Signer,
}

/// A node's new certificate.
pub struct Issued {
    pub pem: String,
    /// SHA-256 of the certificate in DER.
    pub digest: Digest,
    /// SHA-256 of the public key in it.
    pub public_key: Digest,
}

impl Keys {
    /// Opens the keys in this folder, making what is missing.
    ///
    /// # Errors
    /// When a file cannot be read, written, or understood.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { operation: "make the folder", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let key_path = folder.join("ca.key");
        let ca_path = folder.join("ca.pem");
        if !ca_path.exists() {
            let (pem, key) = new_authority().map_err(|source| certificate("the authority", source))?;
            write_secret(&key_path, key.serialize_pem().as_bytes())?;
            write_secret(&ca_path, pem.as_bytes())?;
        }
        let ca_pem = private::read(&ca_path, Origin::Own)?;
        let content = |path: &Path, detail: String| Error::Content { path: path.to_owned(), detail };
        let key = KeyPair::from_pem(&private::read(&key_path, Origin::Own)?)
            .map_err(|error| content(&key_path, error.to_string()))?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| content(&ca_path, error.to_string()))?
            .into_owned();
        let authority = Issuer::from_ca_cert_pem(&ca_pem, key).map_err(|error| content(&ca_path, error.to_string()))?;
        // The names tell two control planes apart: each carries its authority's first digits.
        let id = Digest::of(&ca_der).short();
        let operator = signer(&folder.join("operator.key"), &format!("skerry.operator/{id}"))?;
        let witness = signer(&folder.join("witness.key"), &format!("skerry.witness/{id}"))?;
        Ok(Self { authority, ca_pem, ca_der, operator, witness })
    }

    /// Signs bundles, rollbacks and people's answers.
    #[must_use]
    pub const fn operator(&self) -> &Signer {
        &self.operator
    }

    /// Cosigns ledger heads.
    #[must_use]
    pub const fn witness(&self) -> &Signer {
        &self.witness
    }

    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    #[must_use]
    pub const fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// What join tokens pin.
    #[must_use]
    pub fn ca_digest(&self) -> Digest {
        Digest::of(&self.ca_der)
    }

    /// A fresh server certificate for these host names and addresses, with its chain and key. It lives in memory alone: nodes
    /// pin the authority.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server(&self, names: &[String]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let failed = |source| certificate(&names.join(", "), source);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "Skerry control plane");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(serial());
        let leaf = params.signed_by(&key, &self.authority).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((vec![leaf.der().clone(), self.ca_der.clone()], key))
    }

    /// A client certificate for the key in this request. Nothing but the key is taken from the request. It does not end by
    /// date, because a gateway's clock may be wrong after a power cut; the store says which certificate counts.
    ///
    /// # Errors
    /// When the request is broken or not signed by its own key.
    pub fn issue(&self, csr_pem: &str, node: &NodeName) -> Result<Issued, BadRequest> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(BadRequest)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.subject_alt_names = vec![SanType::DnsName(node.as_str().try_into().map_err(BadRequest)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial());
        request.params = params;
        let public_key = Digest::of(request.public_key.der_bytes());
        let issued = request.signed_by(&self.authority).map_err(BadRequest)?;
        Ok(Issued { pem: issued.pem(), digest: Digest::of(issued.der()), public_key })
    }
}

fn new_authority() -> Result<(String, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let name = format!("Skerry authority {}", hex::encode(clock::random::<4>()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    Ok((params.self_signed(&key)?.pem(), key))
}

/// A random serial number, positive as X.509 wants it.
fn serial() -> SerialNumber {
    let mut bytes = clock::random::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn signer(path: &Path, name: &str) -> Result<Signer, Error> {
    if !path.exists() {
        write_secret(path, BASE64.encode(clock::random::<32>()).as_bytes())?;
    }
    let content = |detail: &str| Error::Content { path: path.to_owned(), detail: detail.to_owned() };
    let bytes = BASE64.decode(private::read(path, Origin::Own)?.trim()).map_err(|_| content("expected base64"))?;
    let secret: [u8; 32] = bytes.try_into().map_err(|_| content("expected 32 bytes in base64"))?;
    Signer::new(name, &secret).map_err(|error| content(&error.to_string()))
}

/// Writes a file that only this user can read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    private::write(path, bytes).map_err(|source| Error::File { operation: "write", path: path.to_owned(), source })
}

fn certificate(what: &str, source: rcgen::Error) -> Error {
    Error::Certificate { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_the_same_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Keys::open(folder.path()).expect("made");
        let again = Keys::open(folder.path()).expect("opened");
        assert_eq!(first.ca_digest(), again.ca_digest());
        assert_eq!(first.operator().public(), again.operator().public());
        assert_ne!(first.operator().public().to_string(), first.witness().public().to_string());
    }

    #[cfg(unix)]
    #[test]
    fn each_key_is_private_and_one_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        Keys::open(folder.path()).expect("made");
        let items: Vec<_> =
            fs::read_dir(folder.path()).expect("readable").map(|item| item.expect("readable")).collect();
        assert_eq!(items.len(), 4, "{items:?}");
        for item in items {
            let mode = |mode| fs::set_permissions(item.path(), fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(item.metadata().expect("known").permissions().mode() & 0o077, 0, "{:?}", item.path());
            mode(0o640);
            let error = Keys::open(folder.path()).err().expect("refused").to_string();
            assert!(error.contains("mode 0640") && error.contains("`chmod 600 /"), "{error}");
            mode(0o600);
        }
    }

    #[test]
    fn nothing_but_the_key_is_taken_from_a_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(folder.path()).expect("made");
        let key = KeyPair::generate().expect("a key");
        let mut wish = CertificateParams::new(vec!["control.example".to_owned()]).expect("a name");
        wish.distinguished_name.push(DnType::CommonName, "admin");
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = wish.serialize_request(&key).expect("a request").pem().expect("pem");
        let issued = keys.issue(&csr, &"basel".parse().expect("a name")).expect("issued");
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).expect("pem");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        assert_eq!(parsed.subject().to_string(), "CN=basel");
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().expect("readable").expect("there").value;
        assert_eq!(names.general_names, [x509_parser::extensions::GeneralName::DNSName("basel")]);
        assert!(keys.issue("no request", &"basel".parse().expect("a name")).is_err());
    }
}
