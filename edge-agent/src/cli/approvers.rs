//! `edge-agent approvers`: who may answer questions on this node.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, output};
use crate::api::people;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  edge-agent approvers add \"Mia Keller\" --role line-lead     prints her secret, once
  edge-agent approvers list
  edge-agent approvers remove \"Mia Keller\"

A running agent knows of a change at once.")]
pub(super) enum Args {
    /// List the people who may answer, and for which roles.
    List,
    /// Add a person; prints the secret that is made for them, once. The node keeps a hash of it alone.
    Add {
        #[arg(value_name = "NAME")]
        name: String,
        /// A role for which they may answer, as in the `role` of `call: approve`; may be given several times.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// Take the secret from the first line of this file instead of making one; 12 bytes at least.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Remove a person.
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.config()?;
    let path = config.data_dir.join(people::FILE);
    match args {
        Args::List => {
            let known = people::load(&path).map_err(failure)?;
            if context.json {
                let values = known.iter().map(|person| json!({"name": person.name, "roles": person.roles}));
                output::json(&values.collect::<Vec<_>>())?;
            } else {
                let rows = known.into_iter().map(|person| vec![person.name, person.roles.join(", ")]).collect();
                let empty =
                    "Nobody may answer on this node: `edge-agent approvers add NAME --role ROLE` adds a person.";
                output::table(&["name", "may answer for"], rows, empty);
            }
        }
        Args::Add { name, roles, secret_file } => {
            let given = secret_file.as_deref().map(super::approve::first_line).transpose()?;
            let is_made = given.is_none();
            crate::agent::make_data_folder(&config.data_dir)?;
            let secret = people::add(&path, name, roles.clone(), given).map_err(failure)?;
            if context.json {
                let shown = is_made.then_some(&secret);
                output::json(&json!({"name": name.trim(), "roles": roles, "secret": shown}))?;
            } else {
                println!("{} may answer for {} on this node.", name.trim(), roles.join(", "));
                if is_made {
                    println!("Their secret, shown this once: {secret}");
                }
            }
        }
        Args::Remove { name } => {
            if !people::remove(&path, name).map_err(failure)? {
                return Err(Failure::NotFound(format!("nobody on this node is called {name:?}")));
            }
            if context.json {
                output::json(&json!({"name": name.trim(), "removed": true}))?;
            } else {
                println!("{} may no longer answer on this node.", name.trim());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: people::Error) -> Failure {
    match error {
        people::Error::Unfit(reason) => Failure::Input(reason),
        people::Error::Broken { .. } => Failure::Input(error.to_string()),
        people::Error::Read(_) | people::Error::Write { .. } => Failure::Failed(error.into()),
    }
}
