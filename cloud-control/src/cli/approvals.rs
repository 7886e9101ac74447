//! `cloud-control approvals`.

use std::io::{IsTerminal as _, Write as _};

use clap::{ArgGroup, Subcommand};
use shared::{digest::Digest, id::ApprovalId, ledger::entry::Verdict};

use super::{
    Connection, Failure, Form,
    client::Client,
    table::{maybe, show, table},
};
use crate::{
    api::Decide,
    store::approvals::{Approval, State},
};

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// List the questions that wait for a person; with --all also those that are done.
    List {
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Answer a question. The answer is bound to exactly what you were shown, and carries your name.
    ///
    /// At a terminal the proposal is shown and you are asked to confirm. A program gives --shown with the digest of the
    /// proposal that it looked at (`approvals list --json`).
    #[command(group(ArgGroup::new("verdict").required(true).args(["approve", "reject"])))]
    Decide {
        approval: ApprovalId,
        #[arg(long)]
        approve: bool,
        #[arg(long)]
        reject: bool,
        /// The digest of the proposal that you decide on.
        #[arg(long, value_name = "DIGEST")]
        shown: Option<Digest>,
        /// Why; it is recorded with the answer.
        #[arg(long)]
        comment: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Approvals {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::List { all, connection } => {
                let approvals = list(&Client::new(&connection)?, all).await?;
                show(form, &approvals, || rows(&approvals));
            }
            Self::Decide { approval, approve, reject: _, shown, comment, connection } => {
                let client = Client::new(&connection)?;
                let verdict = if approve { Verdict::Approved } else { Verdict::Rejected };
                let shown = match shown {
                    Some(shown) => shown,
                    None => confirm(&client, approval, verdict).await?,
                };
                let () = client.post(&format!("/approvals/{approval}"), &Decide { shown, verdict, comment }).await?;
                let kept = list(&client, true).await?.into_iter().find(|kept| kept.question.approval == approval);
                // Older than all that is listed: it was answered before, and this was the same answer again.
                let Some(kept) = kept else { return Ok(()) };
                match form {
                    Form::Json => show(form, &kept, || rows(std::slice::from_ref(&kept))),
                    Form::Table => println!("{}", recorded(&kept, verdict)),
                }
            }
        }
        Ok(())
    }
}

async fn list(client: &Client, all: bool) -> Result<Vec<Approval>, Failure> {
    client.get_with("/approvals", &[("all", all.to_string())]).await
}

/// Shows the question at the terminal and asks for a yes. Answers the digest of what was shown.
async fn confirm(client: &Client, id: ApprovalId, verdict: Verdict) -> Result<Digest, Failure> {
    if !std::io::stdin().is_terminal() {
        let message = "give --shown with the digest of the proposal that you decide on (see: approvals list --json)";
        return Err(Failure::Usage(message.to_owned()));
    }
    let approvals = list(client, true).await?;
    let Some(Approval { node, question, .. }) = approvals.into_iter().find(|approval| approval.question.approval == id)
    else {
        return Err(Failure::Failed(format!("there is no question {id}")));
    };
    let Some(proposal) = &question.proposal else {
        return Err(Failure::Failed(format!(
            "the proposal is on the node {node} alone, because policy keeps it there or it is too large; decide on it there"
        )));
    };
    let found = Digest::of_json(proposal);
    if found != question.shown {
        let message = format!("the proposal is {found}, but the node asks about {}; do not decide", question.shown);
        return Err(Failure::Wanting(message));
    }
    println!("{} (node {node}, for the role {})\n", question.title, question.role);
    println!("{}\n", serde_json::to_string_pretty(proposal).expect("a proposal is JSON"));
    print!("{} this? Type yes: ", if verdict == Verdict::Approved { "Approve" } else { "Reject" });
    drop(std::io::stdout().flush());
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::Failed(format!("cannot read the answer: {error}")))?;
    if line.trim() == "yes" { Ok(question.shown) } else { Err(Failure::Failed("not answered".to_owned())) }
}

/// What was kept of an answer, for the person who gave it.
fn recorded(kept: &Approval, verdict: Verdict) -> String {
    let word = if verdict == Verdict::Approved { "approved" } else { "rejected" };
    let by = kept.by.as_deref().unwrap_or("you");
    let at = maybe(kept.answered);
    let Approval { node, question, .. } = kept;
    let next = match kept.state() {
        State::Delivered => "The node has taken it.",
        State::Closed => "The node has not taken it: it was decided there, or its time was over.",
        State::Open | State::Answered => "The node gets it with its next sync.",
    };
    format!(
        "Recorded: {word} by {by} as {}, at {at}: {} (node {node}).\nShown was {}. {next}",
        question.role, question.title, question.shown
    )
}

/// Who decided, and where if not here.
fn decided_by(approval: &Approval) -> String {
    match (&approval.by, &approval.decided) {
        (Some(by), _) => by.clone(),
        (None, Some(decided)) if decided.verdict == Verdict::Expired => "nobody in time".to_owned(),
        (None, Some(decided)) => format!("{} ({})", decided.by, decided.place),
        (None, None) => "-".to_owned(),
    }
}

fn rows(approvals: &[Approval]) -> comfy_table::Table {
    let mut rows = table(&["APPROVAL", "NODE", "ROLE", "QUESTION", "STATE", "BY", "DEADLINE"]);
    for approval in approvals {
        let question = &approval.question;
        let state = match approval.state() {
            State::Open if question.proposal.is_none() => "open, on site only",
            State::Open => "open",
            State::Answered => "answered",
            State::Delivered => "delivered",
            State::Closed => "closed",
        };
        rows.add_row([
            &question.approval.to_string(),
            approval.node.as_str(),
            &question.role,
            &question.title,
            state,
            &decided_by(approval),
            &maybe(question.deadline),
        ]);
    }
    rows
}
