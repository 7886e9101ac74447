//! Signed notes (C2SP `signed-note`): a text, and lines that say who signed it. One format for everything that is signed
//! here: ledger heads, bundles, rollbacks, answers of people. What a note means stands in its first line.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Signature type of plain Ed25519 over the note's text.
const ED25519: u8 = 0x01;
/// Signature type of a witness's timestamped cosignature (C2SP `tlog-cosignature`).
const COSIGNATURE: u8 = 0x04;
/// Notes are short; a longer one is refused before it is parsed.
pub const NOTE_BYTES_MAX: usize = 16 << 10;

/// What is wrong with a note or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a key name: expected text without white space or `+`")]
    Name(String),
    #[error("{0:?} is not a verifier key: expected `<name>+<8 hex digits>+<base64 of the key>`")]
    Key(String),
    #[error("not a signed note: {0}")]
    Form(&'static str),
    #[error("the note has no signature by {0}")]
    Unsigned(String),
    #[error("the signature by {0} does not fit the note's text")]
    Signature(String),
}

/// The name and public half of an Ed25519 key. Text form: `<name>+<hash>+<base64>`, as in C2SP `signed-note`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// # Errors
    /// When the name holds white space or `+`, or is empty.
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, Error> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control()) {
            return Err(Error::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name that its signatures carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn hash(&self, kind: u8) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', kind])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hash(ED25519)), BASE64.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Key(text.to_owned());
        let (name, rest) = text.split_once('+').ok_or_else(wrong)?;
        let (hash, key) = rest.split_once('+').ok_or_else(wrong)?;
        let bytes = BASE64.decode(key).map_err(|_| wrong())?;
        let [ED25519, key @ ..] = bytes.as_slice() else { return Err(wrong()) };
        let key: [u8; 32] = key.try_into().map_err(|_| wrong())?;
        let key = Self::new(name, VerifyingKey::from_bytes(&key).map_err(|_| wrong())?)?;
        if hex::encode(key.hash(ED25519)) == hash { Ok(key) } else { Err(wrong()) }
    }
}

impl Serialize for VerifierKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifierKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A key that signs, with the name that its signatures carry.
#[derive(Clone)]
pub struct Signer {
    public: VerifierKey,
    secret: SigningKey,
}

impl Signer {
    /// The key pair of this secret. The 32 bytes must come from the system's randomness.
    ///
    /// # Errors
    /// When the name is not a key name.
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, Error> {
        let secret = SigningKey::from_bytes(secret);
        Ok(Self { public: VerifierKey::new(name, secret.verifying_key())?, secret })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// The 32 secret bytes, for keeping in a file that nobody else can read.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        self.secret.to_bytes()
    }

    /// A note of this text with this key's signature alone.
    ///
    /// # Errors
    /// When the text is empty, does not end with a line feed, or holds other control characters.
    pub fn sign(&self, text: &str) -> Result<Note, Error> {
        check_text(text)?;
        let signature = self.secret.sign(text.as_bytes()).to_bytes().to_vec();
        let signature = Signature { name: self.public.name.clone(), hash: self.public.hash(ED25519), signature };
        Ok(Note { text: text.to_owned(), signatures: vec![signature] })
    }

    /// Adds this key's cosignature: it saw the note's checkpoint at this time and found that it continues all it saw
    /// before (C2SP `tlog-cosignature`, v1).
    pub fn cosign(&self, note: &mut Note, unix_seconds: u64) {
        let message = cosigned(unix_seconds, &note.text);
        let mut signature = unix_seconds.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.secret.sign(message.as_bytes()).to_bytes());
        let hash = self.public.hash(COSIGNATURE);
        note.signatures.retain(|kept| (kept.name.as_str(), kept.hash) != (self.public.name.as_str(), hash));
        note.signatures.push(Signature { name: self.public.name.clone(), hash, signature });
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public)
    }
}

/// A text and who signed it. What it says counts for nothing until `verified_by` was asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    hash: [u8; 4],
    signature: Vec<u8>,
}

impl Note {
    /// The text, if this key signed it.
    ///
    /// # Errors
    /// When the key's signature is missing or does not fit.
    pub fn verified_by(&self, key: &VerifierKey) -> Result<&str, Error> {
        let signature = self.signature(key, ED25519)?;
        let bytes = signature.try_into().map_err(|_| Error::Signature(key.name.clone()))?;
        key.key
            .verify(self.text.as_bytes(), &ed25519_dalek::Signature::from_bytes(bytes))
            .map_err(|_| Error::Signature(key.name.clone()))?;
        Ok(&self.text)
    }

    /// When this key cosigned the note, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When the key's cosignature is missing or does not fit.
    pub fn cosigned_by(&self, key: &VerifierKey) -> Result<u64, Error> {
        let wrong = || Error::Signature(key.name.clone());
        let (time, signature) = self.signature(key, COSIGNATURE)?.split_first_chunk::<8>().ok_or_else(wrong)?;
        let time = u64::from_be_bytes(*time);
        let signature = signature.try_into().map_err(|_| wrong())?;
        key.key
            .verify(cosigned(time, &self.text).as_bytes(), &ed25519_dalek::Signature::from_bytes(signature))
            .map_err(|_| wrong())?;
        Ok(time)
    }

    /// The names on its signature lines, none of them checked.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.name.as_str())
    }

    fn signature(&self, key: &VerifierKey, kind: u8) -> Result<&[u8], Error> {
        let hash = key.hash(kind);
        self.signatures
            .iter()
            .find(|signature| signature.name == key.name && signature.hash == hash)
            .map(|signature| signature.signature.as_slice())
            .ok_or_else(|| Error::Unsigned(key.name.clone()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let mut bytes = signature.hash.to_vec();
            bytes.extend_from_slice(&signature.signature);
            writeln!(f, "\u{2014} {} {}", signature.name, BASE64.encode(bytes))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Note {
    type Err = Error;

    fn from_str(note: &str) -> Result<Self, Error> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(Error::Form("it is longer than 16 KiB"));
        }
        // The last empty line parts text and signatures, so that a text may itself hold empty lines.
        let at = note.rfind("\n\n").ok_or(Error::Form("expected an empty line before the signatures"))?;
        let (text, lines) = (&note[..=at], &note[at + 2..]);
        check_text(text)?;
        let Some(lines) = lines.strip_suffix('\n') else {
            return Err(Error::Form("expected a signature line that ends with a line feed"));
        };
        let signatures = lines.split('\n').map(signature_line).collect::<Option<Vec<_>>>();
        let signatures =
            signatures.ok_or(Error::Form("expected signature lines `\u{2014} <name> <base64 of 4 bytes and more>`"))?;
        Ok(Self { text: text.to_owned(), signatures })
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Note {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn signature_line(line: &str) -> Option<Signature> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = BASE64.decode(signature).ok()?;
    let (hash, signature) = bytes.split_first_chunk::<4>()?;
    let named = !name.is_empty() && !signature.is_empty();
    named.then(|| Signature { name: name.to_owned(), hash: *hash, signature: signature.to_vec() })
}

fn check_text(text: &str) -> Result<(), Error> {
    if text.trim_end_matches('\n').is_empty() || !text.ends_with('\n') {
        return Err(Error::Form("expected a text whose last line ends with a line feed"));
    }
    if text.contains(|c: char| c.is_control() && c != '\n') {
        return Err(Error::Form("its text holds a control character"));
    }
    Ok(())
}

fn cosigned(unix_seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {unix_seconds}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(name, &[seed; 32]).expect("a good name")
    }

    #[test]
    fn the_example_of_the_go_implementation_verifies() {
        // golang.org/x/mod/sumdb/note, example_test.go.
        let key: VerifierKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().expect("a verifier key");
        let note: Note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
            .parse()
            .expect("a note");
        assert!(note.verified_by(&key).is_ok());
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn a_note_survives_its_text_form_and_no_change_goes_unseen() {
        let (node, control) = (signer("basel/ledger", 1), signer("control", 2));
        let mut note = node.sign("skerry/basel\n3\nAAAA\n").expect("a text");
        control.cosign(&mut note, 1_700_000_000);
        control.cosign(&mut note, 1_700_000_001);
        let text = note.to_string();
        let parsed: Note = text.parse().expect("a note");
        assert_eq!(parsed, note);
        assert_eq!(parsed.signers().collect::<Vec<_>>(), ["basel/ledger", "control"]);
        assert_eq!(parsed.verified_by(node.public()), Ok("skerry/basel\n3\nAAAA\n"));
        assert_eq!(parsed.cosigned_by(control.public()), Ok(1_700_000_001));
        let forged: Note = text.replace("\n3\n", "\n4\n").parse().expect("still a note");
        assert_eq!(forged.verified_by(node.public()), Err(Error::Signature("basel/ledger".to_owned())));
        assert_eq!(forged.cosigned_by(control.public()), Err(Error::Signature("control".to_owned())));
    }

    #[test]
    fn a_cosignature_is_no_signature_and_another_key_of_the_name_is_none() {
        let (node, control) = (signer("basel", 1), signer("control", 2));
        let mut note = node.sign("x\n").expect("a text");
        control.cosign(&mut note, 1);
        assert_eq!(note.verified_by(control.public()), Err(Error::Unsigned("control".to_owned())));
        assert_eq!(note.verified_by(signer("basel", 9).public()), Err(Error::Unsigned("basel".to_owned())));
    }

    #[test]
    fn a_broken_note_or_key_is_refused() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} name\n",
            "text\n\n- name AAAAAAA=\n",
            "text\n\n\u{2014} n AAAA\n",
        ] {
            assert!(bad.parse::<Note>().is_err(), "{bad:?}");
        }
        for bad in ["", "a+b", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad:?}");
        }
        assert!(Signer::new("a b", &[0; 32]).is_err());
        assert!(signer("a", 1).sign("no line feed").is_err());
    }
}
