//! `cloud-control audit`.

use std::{
    borrow::Cow,
    fs,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use shared::{
    id::NodeName,
    ledger::{note::VerifierKey, verify},
};

use super::{
    Connection, Failure, Form,
    client::Client,
    table::{instant, maybe, show, table},
};
use crate::{
    api::{Entries, ExportHead, NodeView},
    control::Verification,
    store::ledger::{Alarm, Archived},
};

/// What follows the node's name in an export: its entries, one a line, and its signed head with the keys.
const ENTRIES: &str = ".jsonl";
const HEAD: &str = ".head.json";

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List what was recorded, newest first, of all nodes or one.
    List {
        #[arg(long)]
        node: Option<NodeName>,
        /// Only entries of this run.
        #[arg(long)]
        run: Option<String>,
        /// Only entries of this kind, such as model-called or policy-decided.
        #[arg(long)]
        fact: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
    },
    /// Recompute the archived ledgers and compare them with their signed heads. Exit code 5 if one does not hold.
    Verify {
        /// Only this node's.
        node: Option<NodeName>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Write a node's whole ledger, its signed head and the public keys to a folder, for `audit check`.
    Export {
        node: NodeName,
        folder: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Check exported ledgers without any server, trusting nothing but the two public keys. Exit code 5 if one does not hold.
    ///
    /// The keys lie beside the entries. Who does not trust the one who handed them over gives keys got by another way: the
    /// node's (`edge-agent ledger key`) and the control plane's.
    Check(Box<Check>),
    /// List forks, gaps and tampering, as they were met.
    Alarms {
        #[command(flatten)]
        connection: Connection,
    },
    /// Take a node's ledger again after its alarm was looked into; the alarm stays on record.
    Resume {
        node: NodeName,
        #[command(flatten)]
        connection: Connection,
    },
}

/// What to check, and keys that the auditor has by another way than the export.
#[derive(Debug, Args)]
pub(super) struct Check {
    folder: PathBuf,
    /// The node's public key; the heads must be signed with it.
    #[arg(long, value_name = "KEY")]
    ledger_key: Option<VerifierKey>,
    /// The control plane's public key; the heads must be countersigned with it.
    #[arg(long, value_name = "KEY")]
    witness_key: Option<VerifierKey>,
}

/// What a check without a server says.
#[derive(Debug, Serialize)]
struct Checked {
    node: NodeName,
    entries: u64,
    ledger_key: String,
    witness_key: String,
    fault: Option<String>,
}

impl Audit {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::List { node, run, fact, limit, connection } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(node.map(|node| ("node", node.to_string())));
                query.extend(run.map(|run| ("run", run)));
                query.extend(fact.map(|fact| ("fact", fact)));
                let entries: Vec<Archived> = Client::new(&connection)?.get_with("/audit", &query).await?;
                show(form, &entries, || entry_rows(&entries));
                Ok(())
            }
            Self::Verify { node, connection } => verify(&Client::new(&connection)?, node, form).await,
            Self::Export { node, folder, connection } => export(&Client::new(&connection)?, &node, &folder, form).await,
            Self::Check(wanted) => check(&wanted, form),
            Self::Alarms { connection } => {
                let alarms: Vec<Alarm> = Client::new(&connection)?.get("/audit/alarms").await?;
                show(form, &alarms, || {
                    let mut rows = table(&["AT", "NODE", "KIND", "MESSAGE", "LOOKED INTO", "BY"]);
                    for alarm in &alarms {
                        let (at, cleared) = (instant(alarm.at), maybe(alarm.cleared));
                        let by = alarm.by.as_deref().unwrap_or("-");
                        rows.add_row([&at, alarm.node.as_str(), &alarm.kind, &alarm.message, &cleared, by]);
                    }
                    rows
                });
                Ok(())
            }
            Self::Resume { node, connection } => {
                Client::new(&connection)?.post(&format!("/audit/{node}/resume"), &()).await
            }
        }
    }
}

fn entry_rows(entries: &[Archived]) -> comfy_table::Table {
    let mut rows = table(&["AT", "NODE", "SEQ", "FACT", "RUN", "WHAT"]);
    for entry in entries {
        let run = entry.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
        let mut what = entry.entry.clone();
        if let Some(fields) = what.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "at" | "run" | "fact" | "task"));
        }
        let what: String = what.to_string().chars().take(100).collect();
        rows.add_row([&instant(entry.at), entry.node.as_str(), &entry.seq.to_string(), &entry.fact, &run, &what]);
    }
    rows
}

async fn verify(client: &Client, node: Option<NodeName>, form: Form) -> Result<(), Failure> {
    let nodes = match node {
        Some(node) => vec![node],
        None => client.get::<Vec<NodeView>>("/nodes").await?.into_iter().map(|view| view.node.name).collect(),
    };
    let mut verifications: Vec<Verification> = Vec::new();
    for node in nodes {
        verifications.push(client.get(&format!("/audit/{node}/verify")).await?);
    }
    show(form, &verifications, || {
        let mut rows = table(&["NODE", "ENTRIES", "COUNTERSIGNED", "VERDICT"]);
        for found in &verifications {
            let verdict = match (&found.fault, &found.halted) {
                (Some(fault), _) => fault.clone(),
                (None, Some(halted)) => format!("holds; nothing more is taken: {halted}"),
                (None, None) => "holds: no gap, no change, signed by node and control plane".to_owned(),
            };
            rows.add_row([found.node.as_str(), &found.entries.to_string(), &maybe(found.countersigned), &verdict]);
        }
        rows
    });
    let faulty = verifications.iter().find(|found| found.fault.is_some() || found.halted.is_some());
    faulty.map_or(Ok(()), |found| Err(Failure::Wanting(format!("the ledger of {} is not as it must be", found.node))))
}

async fn export(client: &Client, node: &NodeName, folder: &Path, form: Form) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot write to {}: {error}", folder.display()));
    let head: ExportHead = client.get(&format!("/audit/{node}/head")).await?;
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = BufWriter::new(fs::File::create(folder.join(format!("{node}{ENTRIES}"))).map_err(failed)?);
    let mut next = 0;
    // What arrives meanwhile is behind the head that was asked for, and left for the next export.
    while next < head.size {
        let page: Entries = client.get(&format!("/audit/{node}/entries?from={next}")).await?;
        let wanted = usize::try_from(head.size - next).unwrap_or(usize::MAX);
        for body in page.bodies.iter().take(wanted) {
            writeln!(file, "{body}").map_err(failed)?;
        }
        if page.bodies.is_empty() {
            return Err(Failure::Wanting(format!(
                "the archive has no entry {next} of {node}; run: audit verify {node}"
            )));
        }
        next += page.bodies.len() as u64;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    let json = serde_json::to_string_pretty(&head).expect("plain data");
    fs::write(folder.join(format!("{node}{HEAD}")), json).map_err(failed)?;
    match form {
        Form::Json => println!("{}", json!({"node": node, "entries": head.size, "folder": folder})),
        Form::Table => {
            let entries = head.size;
            println!(
                "{entries} entries of {node}; check them anywhere: cloud-control audit check {}",
                folder.display()
            );
        }
    }
    Ok(())
}

fn check(wanted: &Check, form: Form) -> Result<(), Failure> {
    let folder = wanted.folder.as_path();
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot read {}: {error}", path.display()))
    };
    let (mut all, mut ledgers) = (Vec::new(), Vec::new());
    for item in fs::read_dir(folder).map_err(|error| failed(folder, &error))?.flatten() {
        let (path, name) = (item.path(), item.file_name().to_string_lossy().into_owned());
        if name.ends_with(HEAD) {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            let head: ExportHead = serde_json::from_str(&text).map_err(|error| failed(&path, &error))?;
            all.push(check_one(wanted, &head).map_err(|error| failed(&path, &error))?);
        } else if let Some(node) = name.strip_suffix(ENTRIES) {
            ledgers.push(node.to_owned());
        }
    }
    if let Some(alone) = ledgers.iter().find(|node| !all.iter().any(|checked| checked.node.as_str() == *node)) {
        return Err(Failure::Wanting(format!("the entries of {alone} are there without their head ({alone}{HEAD})")));
    }
    if all.is_empty() {
        return Err(Failure::Failed(format!("there is no exported ledger in {}", folder.display())));
    }
    show(form, &all, || {
        let mut rows = table(&["NODE", "ENTRIES", "VERDICT", "NODE'S KEY", "CONTROL PLANE'S KEY"]);
        for checked in &all {
            let verdict = checked.fault.as_deref().unwrap_or("holds");
            let (node, entries) = (checked.node.as_str(), checked.entries.to_string());
            rows.add_row([node, &entries, verdict, &checked.ledger_key, &checked.witness_key]);
        }
        rows
    });
    let faulty = all.iter().find(|checked| checked.fault.is_some());
    faulty.map_or(Ok(()), |found| Err(Failure::Wanting(format!("the ledger of {} is not as it must be", found.node))))
}

fn check_one(wanted: &Check, head: &ExportHead) -> std::io::Result<Checked> {
    let file = BufReader::new(fs::File::open(wanted.folder.join(format!("{}{ENTRIES}", head.node)))?);
    let ledger_key = wanted.ledger_key.as_ref().unwrap_or(&head.ledger_key);
    let witness_key = wanted.witness_key.as_ref().unwrap_or(&head.witness_key);
    let (mut entries, mut failed) = (0, None);
    let lines = file.split(b'\n').map_while(|line| line.map_err(|error| failed = Some(error)).ok());
    let rows = (0..).zip(lines).map(|(seq, body)| {
        entries = seq + 1;
        (seq, Cow::Owned(body))
    });
    let fault = match &head.head {
        None => Some("there is no signed head: nothing can be proven".to_owned()),
        Some(note) => {
            let held = verify::recompute(rows, note, &head.node, ledger_key).map_err(|fault| fault.to_string());
            let signed =
                || note.cosigned_by(witness_key).map_err(|error| format!("the head is not countersigned: {error}"));
            held.and_then(|_| signed()).err()
        }
    };
    if let Some(error) = failed {
        return Err(error);
    }
    let (ledger_key, witness_key) = (ledger_key.to_string(), witness_key.to_string());
    Ok(Checked { node: head.node.clone(), entries, ledger_key, witness_key, fault })
}
