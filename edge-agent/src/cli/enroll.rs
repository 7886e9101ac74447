//! `edge-agent enroll`: join a fleet.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use shared::wire::token::JoinToken;

use super::{Context, Failure, output, small_runtime};
use crate::sync;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token comes from `cloud-control token create`. It names the control plane, pins its certificate authority, is good for one
node and for a limited time. The node makes its own key; the key never leaves this machine.")]
pub(super) struct Args {
    /// The join token.
    #[arg(value_name = "TOKEN", env = "SKERRY_JOIN_TOKEN", hide_env_values = true)]
    token: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.config()?;
    let token: JoinToken =
        args.token.parse().map_err(|error| Failure::Input(format!("the join token is broken: {error}")))?;
    crate::agent::make_data_folder(&config.data_dir)?;
    let mut identity =
        sync::Identity::open(&config.data_dir, &config.name).context("cannot open this node's identity")?;
    small_runtime()?
        .block_on(sync::enroll(&mut identity, &token, &config.jurisdiction, env!("CARGO_PKG_VERSION")))
        .context("cannot enroll")?;
    let Some(member) = identity.membership() else {
        return Err(Failure::Failed(anyhow::anyhow!("the control plane took the token but gave no membership")));
    };
    if context.json {
        output::json(&json!({ "node": member.node, "url": member.url, "group": member.group }))?;
    } else {
        println!("{} has joined {} in group {}.", member.node, member.url, member.group);
        println!("Start the agent now, or restart it if it runs.");
    }
    Ok(ExitCode::SUCCESS)
}
