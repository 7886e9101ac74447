//! `cloud-control nodes`.

use clap::Subcommand;
use shared::wire::v1::NodeStatus;

use super::{
    Connection, Failure, Form,
    client::Client,
    table::{maybe, show, table},
};
use crate::{api::NodeView, control::Link, fleet::rollout::Stage, store::runs::Run};

#[derive(Debug, Subcommand)]
pub(super) enum Nodes {
    /// List the nodes: link, health, bundle, ledger.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// List the newest runs of workflows, of all nodes or one.
    Runs {
        #[arg(long)]
        node: Option<String>,
        /// Only runs with this status, such as waiting or faulted.
        #[arg(long)]
        status: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Nodes {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::List { connection } => {
                let nodes: Vec<NodeView> = Client::new(&connection)?.get("/nodes").await?;
                show(form, &nodes, || rows(&nodes));
            }
            Self::Runs { node, status, limit, connection } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(node.map(|node| ("node", node)));
                query.extend(status.map(|status| ("status", status)));
                let runs: Vec<Run> = Client::new(&connection)?.get_with("/runs", &query).await?;
                show(form, &runs, || {
                    let mut rows = table(&["RUN", "NODE", "WORKFLOW", "STATUS", "SUBJECT", "UPDATED"]);
                    for Run { node, summary } in &runs {
                        let (run, updated) = (summary.run.to_string(), super::table::instant(summary.updated));
                        let subject = summary.subject.as_deref().unwrap_or("-");
                        rows.add_row([&run, node.as_str(), &summary.workflow, &summary.status, subject, &updated]);
                    }
                    rows
                });
            }
        }
        Ok(())
    }
}

fn rows(nodes: &[NodeView]) -> comfy_table::Table {
    let mut rows = table(&["NODE", "GROUP", "AT", "LINK", "HEALTH", "BUNDLE", "LEDGER", "SEEN", "REMARKS"]);
    for NodeView { node, link, rollout } in nodes {
        let status = node.status.as_ref();
        let link = match link {
            Link::Up(_) => "up",
            Link::Down(_) | Link::Unknown => "down",
        };
        let health = status.map_or_else(|| "-".to_owned(), |status| format!("{:?}", status.health).to_lowercase());
        let applied = status.and_then(|status| status.applied);
        let applied = applied.map_or_else(|| "none".to_owned(), |applied| format!("v{}", applied.version));
        let bundle = match (rollout, node.desired_version) {
            (Stage::Pending, Some(wanted)) => format!("{applied} -> v{wanted}"),
            (Stage::Rejected(_), Some(wanted)) => format!("{applied}, refused v{wanted}"),
            _ => applied,
        };
        let halted = if node.halted.is_some() { " halted" } else { "" };
        let ledger = format!("{}/{}{halted}", node.archived, status.map_or(0, |status| status.ledger_size));
        let mut remarks: Vec<String> = status.map(|status: &NodeStatus| status.complaints.clone()).unwrap_or_default();
        // The node says what it was told; once is enough.
        remarks.retain(|remark| !node.halted.as_ref().is_some_and(|why| remark.contains(why)));
        if let Stage::Rejected(reason) = rollout {
            remarks.push(reason.clone());
        }
        remarks.extend(node.halted.as_ref().map(|why| format!("ledger halted: {why}")));
        rows.add_row([
            node.name.as_str(),
            &node.group,
            &node.jurisdiction,
            link,
            &health,
            &bundle,
            &ledger,
            &maybe(node.seen),
            &remarks.join("; "),
        ]);
    }
    rows
}
