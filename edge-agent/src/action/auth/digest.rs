//! HTTP digest access authentication (RFC 7616): the answer to a server's challenge, with MD5 or SHA-256.

use std::collections::BTreeMap;

use md5::Md5;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// User name and password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

/// What the server wants to be answered.
struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    is_session: bool,
    hides_user: bool,
    protection: Protection,
}

/// In the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Sha256,
}

/// What the answer covers: the request line, or the body too. The first RFC (2069) knew no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    Legacy,
    Line,
    Body,
}

impl Login {
    /// The `Authorization` that answers the strongest of these challenges; `None` when none is a digest that we know.
    pub(in super::super) fn answer<'c>(
        &self,
        challenges: impl Iterator<Item = &'c str>,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> Option<HeaderValue> {
        let known = challenges.flat_map(split).filter_map(|(scheme, fields)| Challenge::read(&scheme, &fields));
        let challenge = known.max_by_key(|challenge| challenge.algorithm)?;
        let client_nonce = hex::encode(crate::clock::seed());
        let mut value = HeaderValue::from_str(&self.respond(&challenge, method, target, body, &client_nonce)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn respond(&self, challenge: &Challenge, method: &str, target: &str, body: &[u8], client_nonce: &str) -> String {
        let Challenge { realm, nonce, algorithm, .. } = challenge;
        let hash = |text: &str| algorithm.hash(text.as_bytes());
        let mut login = hash(&format!("{}:{realm}:{}", self.username, self.password));
        if challenge.is_session {
            login = hash(&format!("{login}:{nonce}:{client_nonce}"));
        }
        let (quality, request) = match challenge.protection {
            Protection::Legacy => ("", format!("{method}:{target}")),
            Protection::Line => ("auth", format!("{method}:{target}")),
            Protection::Body => ("auth-int", format!("{method}:{target}:{}", algorithm.hash(body))),
        };
        let request = hash(&request);
        let response = match challenge.protection {
            Protection::Legacy => hash(&format!("{login}:{nonce}:{request}")),
            _ => hash(&format!("{login}:{nonce}:00000001:{client_nonce}:{quality}:{request}")),
        };
        let user = match challenge.hides_user {
            true => hash(&format!("{}:{realm}", self.username)),
            false => self.username.clone(),
        };
        let session = if challenge.is_session { "-sess" } else { "" };
        let mut fields = vec![
            format!("username={}", quote(&user)),
            format!("realm={}", quote(realm)),
            format!("nonce={}", quote(nonce)),
            format!("uri={}", quote(target)),
            format!("response=\"{response}\""),
            format!("algorithm={}{session}", algorithm.name()),
        ];
        fields.extend(challenge.opaque.as_ref().map(|opaque| format!("opaque={}", quote(opaque))));
        if challenge.hides_user {
            fields.push("userhash=true".to_owned());
        }
        if challenge.protection != Protection::Legacy {
            fields.push(format!("qop={quality}, nc=00000001, cnonce=\"{client_nonce}\""));
        }
        format!("Digest {}", fields.join(", "))
    }
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, bytes: &[u8]) -> String {
        match self {
            Self::Md5 => hex::encode(Md5::digest(bytes)),
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
        }
    }
}

impl Challenge {
    fn read(scheme: &str, fields: &BTreeMap<String, String>) -> Option<Self> {
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let named = fields.get("algorithm").map_or("MD5", String::as_str).to_ascii_uppercase();
        let (name, is_session) = named.strip_suffix("-SESS").map_or((named.as_str(), false), |name| (name, true));
        let algorithm = match name {
            "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            _ => return None,
        };
        let offered: Option<Vec<&str>> = fields.get("qop").map(|offered| offered.split(',').map(str::trim).collect());
        let protection = match offered {
            None => Protection::Legacy,
            Some(offered) if offered.contains(&"auth") => Protection::Line,
            Some(offered) if offered.contains(&"auth-int") => Protection::Body,
            Some(_) => return None,
        };
        Some(Self {
            realm: fields.get("realm")?.clone(),
            nonce: fields.get("nonce")?.clone(),
            opaque: fields.get("opaque").cloned(),
            algorithm,
            is_session,
            hides_user: fields.get("userhash").is_some_and(|flag| flag.eq_ignore_ascii_case("true")),
            protection,
        })
    }
}

/// The challenges of one `WWW-Authenticate` header, which may hold several: scheme and parameters (RFC 9110, 11.6.1).
fn split(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for part in parts(header) {
        // A part is `name=value`, or begins a challenge: `Scheme`, `Scheme name=value`.
        let name_end = part.find('=').unwrap_or(part.len());
        let words: Vec<&str> = part[..name_end].split_whitespace().collect();
        let name = match words[..] {
            [scheme, name] => {
                found.push((scheme.to_owned(), BTreeMap::new()));
                name
            }
            [scheme] if name_end == part.len() => {
                found.push((scheme.to_owned(), BTreeMap::new()));
                continue;
            }
            [name] => name,
            _ => continue,
        };
        if let Some((_, fields)) = found.last_mut() {
            fields.insert(name.to_ascii_lowercase(), unquote(part[name_end..].trim_start_matches('=').trim()));
        }
    }
    found
}

/// The header cut at commas that are not inside quotes.
fn parts(header: &str) -> Vec<&str> {
    let (mut found, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, c) in header.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                found.push(header[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(header[start..].trim());
    found
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let (mut plain, mut is_escaped) = (String::new(), false);
    for c in inner.chars() {
        if c == '\\' && !is_escaped {
            is_escaped = true;
        } else {
            plain.push(c);
            is_escaped = false;
        }
    }
    plain
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616, section 3.9.1.
    const OFFERED: &str = concat!(
        r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, "#,
        r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", "#,
        r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, "#,
        r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
    );

    fn response(algorithm: Algorithm) -> String {
        let login = Login { username: "Mufasa".to_owned(), password: "Circle of Life".to_owned() };
        let challenges = split(OFFERED);
        assert_eq!(challenges.len(), 2);
        let challenges = challenges.iter().filter_map(|(scheme, fields)| Challenge::read(scheme, fields));
        let challenge = challenges.into_iter().find(|c| c.algorithm == algorithm).expect("offered");
        let nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let header = login.respond(&challenge, "GET", "/dir/index.html", b"", nonce);
        split(&header).remove(0).1["response"].clone()
    }

    #[test]
    fn the_examples_of_the_rfc_hold() {
        assert_eq!(response(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(response(Algorithm::Sha256), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    }

    #[test]
    fn the_strongest_known_challenge_is_answered_and_a_foreign_one_is_not() {
        let login = Login { username: "u".to_owned(), password: "p".to_owned() };
        let answer = |header: &str| login.answer([header].into_iter(), "GET", "/", b"");
        let text = answer(OFFERED).expect("answered");
        assert!(text.to_str().expect("text").contains("algorithm=SHA-256"));
        assert_eq!(answer(r#"Basic realm="x", Bearer"#), None);
        assert_eq!(answer(r#"Digest realm="a, b", nonce="n", algorithm=SHA-512-256, qop="auth""#), None);
    }

    #[test]
    fn commas_and_quotes_inside_quotes_stay() {
        let found = split(r#"Basic, Digest realm="a, \"b\"", nonce=n, stale=FALSE"#);
        assert_eq!(found[0].0, "Basic");
        assert_eq!((found[1].1["realm"].as_str(), found[1].1["nonce"].as_str()), (r#"a, "b""#, "n"));
    }
}
