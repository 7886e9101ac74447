//! Events that did not come to whom they were for.

use rusqlite::Connection;

use super::Check;
use crate::store::withheld;

/// What was withheld since the store was made, with what to do about each kind.
pub(super) fn withheld(connection: &Connection) -> Option<Check> {
    let all = withheld::all(connection).ok()?;
    if all.is_empty() {
        return None;
    }
    let told = |one: &withheld::Withheld| {
        let (events, workflow, last) = (one.events, &one.workflow, one.last);
        match one.reason.as_str() {
            "loop" => {
                format!("{workflow}: {events} lifecycle events not made, it would have kept itself going (last {last})")
            }
            "waiting" => format!("{workflow}: {events} events lost, too many waited for a run (last {last})"),
            "outlet" => {
                format!(
                    "{events} lifecycle events did not go out, more came about than {workflow} took (last {last}): set `tasks = false` under [lifecycle]"
                )
            }
            _ => format!("{workflow}: {events} events given up that waited for others to start it (last {last})"),
        }
    };
    let found = all.iter().map(told).collect::<Vec<_>>().join("\n");
    let advice = "narrow the filters of `listen` and `schedule.on` to what is meant, resume runs that rest; the ledger's entries `shed` say when and which";
    Some(Check::warning("events", found, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn each_kind_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db")).unwrap();
        let found = || store.read_blocking("look", |c| Ok(withheld(c))).unwrap();
        assert!(found().is_none());
        let counted = |tx: &mut crate::store::Transaction<'_>| {
            Ok(tx.connection().execute_batch(
                "INSERT INTO withheld VALUES ('a/b', 'loop', 3, 0), ('a/b', 'waiting', 4, 0), ('a/c', 'group', 5, 0), \
                 ('the broker', 'outlet', 6, 0)",
            )?)
        };
        store.write_blocking("count", counted).unwrap();
        let check = found().unwrap();
        for expected in [
            "a/b: 3 lifecycle events not made",
            "a/b: 4 events lost",
            "a/c: 5 events given up",
            "6 lifecycle events did not go out",
        ] {
            assert!(check.found.contains(expected), "{}", check.found);
        }
    }
}
