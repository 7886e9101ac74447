//! What a person asks of the node's functions on the command line: of the running agent, or, where none runs, of the same rooms opened for
//! this one command.

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use edge_core::engine::effect;
use serde_json::{Value, json};
use shared::label::{DataClass, Label, is_jurisdiction};
use tokio::runtime::Runtime;

use super::{Context, Failure, local::Local};
use crate::{agent::Alone, config::Config, workflow::Wanted};

/// A long answer of a local model, loaded first.
const ANSWER_WITHIN: Duration = Duration::from_secs(900);

/// Who does what is asked.
pub(super) enum Person {
    Agent(Local),
    Alone { runtime: Runtime, rooms: Box<Alone>, label: Label },
}

impl Person {
    pub(super) fn of(context: &Context) -> Result<Self, Failure> {
        let config = context.config()?;
        let running = Local::find(&config).and_then(|local| local.get("/api/v1/status").map(|_| local));
        match running {
            Ok(local) => Ok(Self::Agent(local)),
            Err(Failure::NotRunning { .. }) => Self::alone(&config),
            Err(other) => Err(other),
        }
    }

    fn alone(config: &Config) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let rooms = Box::new(runtime.block_on(Alone::open(config))?);
        // What nobody labelled is not taken for public.
        let unlabelled = || Label { class: DataClass::Internal, ..Label::default() };
        let label = config.api.label.clone().unwrap_or_else(unlabelled);
        Ok(Self::Alone { runtime, rooms, label })
    }

    /// Without a label, the node's own holds.
    pub(super) fn ask(&self, function: &str, input: Value, label: Option<Label>) -> Result<Value, Failure> {
        match self {
            Self::Agent(local) => {
                let body = json!({ "input": input, "label": label });
                local.post_within(&format!("/api/v1/functions/{function}"), &body, ANSWER_WITHIN)
            }
            Self::Alone { runtime, rooms, label: own } => {
                let label = label.unwrap_or_else(|| own.clone());
                let wanted = Wanted { function: function.to_owned(), input, label };
                runtime.block_on(rooms.perform(wanted)).map_err(|failure| told(failure.error))
            }
        }
    }
}

fn told(error: effect::Error) -> Failure {
    let detail = error.detail.unwrap_or(error.kind);
    match error.status {
        400 | 413 => Failure::Input(detail),
        _ => Failure::Failed(anyhow::anyhow!(detail)),
    }
}

/// What a text demands, as options say it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Demands {
    /// Who may see it; without one, what `[api] label` says, and internal where that says nothing. A label is given whole: with it, --origin and
    /// --personal say the rest, and what stood there before is replaced.
    #[arg(long = "label", value_name = "CLASS")]
    class: Option<Class>,
    /// Where it was born: a country of two letters, or EU; may be given several times.
    #[arg(long = "origin", value_name = "CODE", requires = "class", value_parser = origin)]
    origins: Vec<String>,
    /// It tells of a person.
    #[arg(long, requires = "class")]
    personal: bool,
}

fn origin(code: &str) -> Result<String, &'static str> {
    if is_jurisdiction(code) { Ok(code.to_owned()) } else { Err("expected two capital letters such as CH, or EU") }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Class {
    Public,
    Internal,
    Confidential,
    Restricted,
}

impl Demands {
    pub(super) fn label(&self) -> Option<Label> {
        let class = match self.class? {
            Class::Public => DataClass::Public,
            Class::Internal => DataClass::Internal,
            Class::Confidential => DataClass::Confidential,
            Class::Restricted => DataClass::Restricted,
        };
        Some(Label { class, origins: self.origins.iter().cloned().collect(), personal: self.personal })
    }
}
