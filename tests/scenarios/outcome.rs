//! What a node has in the end, in a form in which two nodes can be compared: without the times at which things were
//! done, and in an order of its own, because what ran side by side may be recorded in either order.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tests::{agent::Agent, wait};

/// How many messages came and what became of them.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Accounts {
    pub journalled: u64,
    pub quarantined: u64,
}

/// Everything that an undisturbed node and a disturbed one must agree on. Each text comes with how often it is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub accounts: Accounts,
    pub runs: BTreeMap<String, usize>,
    pub ledger: BTreeMap<String, usize>,
}

impl Outcome {
    /// Waits until every message is accounted for and every run has ended, and reads what there is.
    pub async fn of(agent: &Agent, published: u64, bound: Duration) -> Self {
        let accounts = wait::until("every message to be accounted for", bound, async || {
            let accounts = accounts(agent).await;
            (accounts.journalled + accounts.quarantined >= published).then_some(accounts)
        })
        .await;
        wait::until("every run to end", bound, async || {
            let runs = agent.json(&["runs", "--limit", "1000"]).await;
            let open = list(&runs).iter().filter(|run| !ended(run)).count();
            (open == 0).then_some(())
        })
        .await;
        let entries = wait::settled("the ledger", Duration::from_secs(2), bound, async || ledger(agent).await).await;
        let runs = agent.json(&["runs", "--limit", "1000"]).await;
        Self {
            accounts,
            runs: counted(
                list(&runs).iter().map(|run| format!("{} {} {}", run["run"], run["workflow"], run["status"])),
            ),
            ledger: counted(entries.iter().filter_map(comparable)),
        }
    }

    /// Fails with the first differences, not with two ledgers.
    pub fn must_equal(&self, undisturbed: &Self) {
        assert_eq!(self.accounts, undisturbed.accounts, "what became of the messages");
        same("runs", &self.runs, &undisturbed.runs);
        same("ledger entries", &self.ledger, &undisturbed.ledger);
    }
}

/// The windows and detectors of every series as a stopped agent left them, to the last bit.
pub fn windows(agent: &Agent) -> BTreeMap<String, String> {
    let store = rusqlite::Connection::open(agent.folder.join("data/node.db")).expect("the store opens");
    let mut all = store
        .prepare("SELECT feed || '/' || device || '/' || channel, CAST(state AS TEXT) FROM series")
        .expect("the store has series");
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("series are read");
    rows.collect::<Result<_, _>>().expect("a name and a state")
}

/// What `edge-agent doctor` says of the feeds.
pub async fn accounts(agent: &Agent) -> Accounts {
    // On a full disk the doctor finds something broken, and says so by its exit code as well.
    let said = agent.cli(&["doctor", "--json"]).await.printed();
    let of = |key: &str| -> u64 {
        said["feeds"].as_array().map_or(0, |feeds| feeds.iter().filter_map(|feed| feed[key].as_u64()).sum())
    };
    Accounts { journalled: of("journalled"), quarantined: of("quarantined") }
}

/// All entries of the node's ledger, in their order.
pub async fn ledger(agent: &Agent) -> Vec<Value> {
    list(&agent.json(&["ledger", "list", "--limit", "0"]).await).to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn ended(run: &Value) -> bool {
    matches!(run["status"].as_str(), Some("completed" | "faulted" | "cancelled"))
}

/// The entry without what may differ: when it was recorded, how long things took, how often the agent started.
fn comparable(entry: &Value) -> Option<String> {
    if entry["fact"] == "agent-started" {
        return None;
    }
    let mut entry = entry.clone();
    let fields = entry.as_object_mut().expect("an entry is an object");
    for differing in ["at", "duration_ms", "seq", "position"] {
        fields.remove(differing);
    }
    // A route tells how fast each target was of late, once that is known.
    let measured = regex::Regex::new(r", answers in about \d+ ms").expect("a valid pattern");
    Some(measured.replace_all(&entry.to_string(), "").into_owned())
}

fn counted(items: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    items.fold(BTreeMap::new(), |mut counts, item| {
        *counts.entry(item).or_default() += 1;
        counts
    })
}

fn same(what: &str, now: &BTreeMap<String, usize>, undisturbed: &BTreeMap<String, usize>) {
    let missing = undisturbed.iter().filter(|(item, count)| now.get(*item) != Some(*count));
    let surplus = now.iter().filter(|(item, count)| undisturbed.get(*item) != Some(*count));
    let shown =
        |mark: &str, (item, count): (&String, &usize)| format!("{mark} {count} x {}", &item[..item.len().min(600)]);
    let differences: Vec<_> =
        missing.map(|pair| shown("undisturbed", pair)).chain(surplus.map(|pair| shown("now        ", pair))).collect();
    let shown = &differences[..differences.len().min(12)];
    assert!(differences.is_empty(), "{} differences in {what}; the first:\n{}", differences.len(), shown.join("\n"));
}
