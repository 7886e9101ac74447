//! Who is let into the fleet.

use shared::{digest::Digest, id::NodeName, ledger::note::VerifierKey, time::Timestamp};

use super::{Refused, Why};
use crate::store::tokens::Token;

/// Whether this token admits this node now. A node whose first answer got lost may ask again with the same keys.
///
/// # Errors
/// Says which: unknown, used, expired, or a name that another node has.
pub fn judge<'a>(
    token: Option<&'a Token>,
    name: &NodeName,
    keys: (Digest, &VerifierKey),
    known: Option<&(Digest, VerifierKey)>,
    now: Timestamp,
) -> Result<&'a Token, Refused> {
    let forbid = |code, message| Err(Refused::new(Why::Forbidden, code, message));
    let Some(token) = token else {
        let message =
            "this control plane never made that join token; check that it was copied whole and for this control plane";
        return forbid("token-unknown", message.to_owned());
    };
    let same_node = known.is_some_and(|known| (known.0, &known.1) == keys);
    if let (Some(used), Some(by)) = (token.used, &token.node) {
        if by == name && same_node {
            return Ok(token);
        }
        let message = format!(
            "the join token was used already, by node {by} at {used}; make a new one: cloud-control token create"
        );
        return forbid("token-used", message);
    }
    if now >= token.expires {
        let message =
            format!("the join token expired at {}; make a new one: cloud-control token create", token.expires);
        return forbid("token-expired", message);
    }
    if known.is_some() && !same_node {
        let message = format!(
            "another node is enrolled as {name}; choose another name, because the archive of its ledger stays under this one"
        );
        return Err(Refused::new(Why::Conflict, "name-taken", message));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use shared::ledger::note::Signer;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn key(seed: u8) -> VerifierKey {
        Signer::new("n", &[seed; 32]).expect("a name").public().clone()
    }

    /// Asks as node `name` with key `seed`, at `now`, with a token that is good until 100.
    fn ask(used_by: Option<&str>, name: &str, seed: u8, known: Option<u8>, now: i64) -> Result<(), &'static str> {
        let token = Token {
            id: "t".to_owned(),
            group: "plant".to_owned(),
            created: at(0),
            by: "admin".to_owned(),
            expires: at(100),
            used: used_by.map(|_| at(1)),
            node: used_by.map(|name| name.parse().expect("a name")),
        };
        let known = known.map(|seed| (Digest::of(&[seed]), key(seed)));
        let name = name.parse().expect("a name");
        judge(Some(&token), &name, (Digest::of(&[seed]), &key(seed)), known.as_ref(), at(now))
            .map(drop)
            .map_err(|refused| refused.code)
    }

    #[test]
    fn a_token_admits_one_node_once_and_in_time() {
        assert_eq!(ask(None, "basel", 1, None, 99), Ok(()));
        assert_eq!(ask(None, "basel", 1, None, 100), Err("token-expired"));
        assert_eq!(ask(Some("basel"), "houston", 2, None, 50), Err("token-used"));
        assert_eq!(ask(Some("basel"), "basel", 2, Some(1), 50), Err("token-used"));
        assert_eq!(ask(None, "basel", 2, Some(1), 50), Err("name-taken"));
        let name = "basel".parse().expect("a name");
        let unknown = judge(None, &name, (Digest::of(b"k"), &key(1)), None, at(1)).expect_err("refused");
        assert_eq!(unknown.code, "token-unknown");
    }

    #[test]
    fn a_node_whose_answer_got_lost_may_ask_again() {
        assert_eq!(ask(Some("basel"), "basel", 1, Some(1), 500), Ok(()));
    }
}
