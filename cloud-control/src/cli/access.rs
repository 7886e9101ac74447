//! `cloud-control token` and `cloud-control operators`.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use serde_json::json;
use shared::wire::token::JoinToken;

use super::{
    Connection, Failure, Form,
    client::Client,
    duration,
    table::{instant, maybe, show, table},
    with_sources,
};
use crate::{
    api::{NewOperator, NewToken, OperatorSecret},
    store::{operators, tokens},
};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a join token and print it. Give it to the gateway: edge-agent enroll <token>
    ///
    /// The token holds this control plane's address, the digest of its authority, which the node will insist on, and a secret
    /// that lets one node in, once.
    Create {
        /// The group that the node joins; made if there is none of the name.
        #[arg(long)]
        group: String,
        /// How long the token is good for, such as 30m, 24h or 7d.
        #[arg(long, default_value = "24h", value_parser = duration)]
        valid: Duration,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the tokens: who made them, who used them, which are still good.
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

impl Token {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::Create { group, valid, connection } => {
                let wish = NewToken { group, valid_s: valid.as_secs() };
                let token: String = Client::new(&connection)?.post("/tokens", &wish).await?;
                if form == Form::Json {
                    let expires = token.parse::<JoinToken>().map(|token| token.exp).ok();
                    println!("{}", json!({"token": token, "expires": expires}));
                } else {
                    println!("{token}");
                }
            }
            Self::List { connection } => {
                let tokens: Vec<tokens::Token> = Client::new(&connection)?.get("/tokens").await?;
                show(form, &tokens, || {
                    let mut rows = table(&["TOKEN", "GROUP", "MADE BY", "EXPIRES", "USED", "BY NODE"]);
                    for token in &tokens {
                        let node = token.node.as_ref().map_or("-", |node| node.as_str());
                        let (expires, used) = (instant(token.expires), maybe(token.used));
                        rows.add_row([&token.id, &token.group, &token.by, &expires, &used, node]);
                    }
                    rows
                });
            }
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Operators {
    /// Make an operator and print the secret, which is shown this once.
    Create {
        name: String,
        /// A role whose questions they may answer; may be repeated. `*` is every role and the right to change the fleet.
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the operators and their roles.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Give an operator a new secret and print it: for an administrator who lost theirs. The old one counts no longer.
    ///
    /// Works on the data folder itself, while the control plane does not run: it asks for no secret.
    Reset {
        name: String,
        /// The control plane's data folder.
        #[arg(long, env = "SKERRY_CONTROL_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Take an operator's access away.
    Remove {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Operators {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::Create { name, roles, connection } => {
                let wish = NewOperator { name, roles };
                let made: OperatorSecret = Client::new(&connection)?.post("/operators", &wish).await?;
                print_secret(form, &wish.name, &made.secret);
            }
            Self::Reset { name, data_dir } => {
                let reset = crate::serve::reset_operator(&data_dir, &name).await;
                print_secret(form, &name, &reset.map_err(|error| Failure::Failed(with_sources(&error)))?);
            }
            Self::List { connection } => {
                let operators: Vec<operators::Operator> = Client::new(&connection)?.get("/operators").await?;
                show(form, &operators, || {
                    let mut rows = table(&["OPERATOR", "ROLES", "SINCE"]);
                    for operator in &operators {
                        rows.add_row([&operator.name, &operator.roles.join(", "), &instant(operator.created)]);
                    }
                    rows
                });
            }
            Self::Remove { name, connection } => {
                let () = Client::new(&connection)?.delete(&format!("/operators/{name}")).await?;
            }
        }
        Ok(())
    }
}

fn print_secret(form: Form, name: &str, secret: &str) {
    match form {
        Form::Json => println!("{}", json!({"name": name, "secret": secret})),
        Form::Table => println!("{secret}"),
    }
}
