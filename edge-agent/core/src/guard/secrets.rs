//! What opens something: private keys, tokens of known makers, bearer tokens, passwords beside their name, addresses with
//! a password in them.

use std::sync::LazyLock;

use regex::Regex;

use super::{Spot, Taken};

/// What it is, how it looks; the part that must not be seen is the group `it`, or all of it.
static FORMS: LazyLock<Vec<(&str, &str, Regex)>> = LazyLock::new(|| {
    let form = |kind, what, pattern: &str| (kind, what, Regex::new(pattern).expect("a valid pattern"));
    vec![
        form(
            "private-key",
            "a private key",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        ),
        form("token", "a signed token (JWT)", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        form("token", "an access key of AWS", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        form("token", "a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
        form("token", "a token of GitLab", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        form("token", "a token of Slack", r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"),
        form("token", "a key of a model's provider", r"\bsk-[A-Za-z0-9_-]{20,}"),
        form("token", "a key of Google", r"\bAIza[A-Za-z0-9_-]{35}"),
        form("token", "a bearer token", r"(?i)\bbearer\s+(?P<it>[A-Za-z0-9._~+/=-]{20,})"),
        form(
            "password",
            "a password in an address",
            r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]*:(?P<it>[^\s/@]{1,256})@",
        ),
        form(
            "password",
            "what stands beside its name",
            r#"(?i)\b(?:password|passwd|passphrase|pwd|passwort|mot de passe|contraseña|api[_ -]?key|secret|access[_ -]?token)["']?\s*(?:[:=]|\bis\b|\bist\b)\s*["']?(?P<it>[^\s"',;]{6,256})"#,
        ),
    ]
});

/// Everything in the text that opens something.
pub(super) fn find(text: &str) -> Vec<Spot> {
    let (mut spots, mut taken) = (Vec::new(), Taken::default());
    for (kind, what, form) in &*FORMS {
        for found in form.captures_iter(text) {
            let place = found.name("it").or_else(|| found.get(0)).map_or(0..0, |it| it.range());
            if !place.is_empty() && taken.take(&place) {
                spots.push(Spot::masked(kind, place, what));
            }
        }
    }
    spots.sort_by_key(|spot: &Spot| spot.place.start);
    spots
}
