//! The transport over standard streams: a server is a process of the node, confined like any other; a message is a line.

use std::collections::BTreeMap;

use edge_core::engine::effect::Failure;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use shared::digest::Digest;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::{
    super::{
        errand::{Errand, scalar},
        process::{self, Confined, Folder, Group, Launch},
    },
    Error, MESSAGE_BYTES_MAX, Program,
    message::{self, Heard},
};

/// A server that runs, and has said hello. Dropped, it ends.
pub(super) struct Session {
    _group: Group,
    child: Child,
    _folder: Folder,
    to: FramedWrite<ChildStdin, LinesCodec>,
    from: FramedRead<ChildStdout, LinesCodec>,
    next: u64,
}

/// The program as the task names it.
pub(super) fn launch(errand: &Errand<'_>, program: &Program) -> Result<Launch, Failure> {
    let text = |field: &str, value: &Value| {
        let text = scalar(value).filter(|text| !text.contains('\0'));
        text.ok_or_else(|| errand.wrong(&format!("transport.stdio.{field}"), &format!("{value}; expected texts")))
    };
    let arguments = program.arguments.iter().map(|value| text("arguments", value)).collect::<Result<_, _>>()?;
    let mut environment = BTreeMap::new();
    for (name, value) in &program.environment {
        environment.insert(name.clone(), text("environment", value)?);
    }
    Ok(Launch { program: program.command.clone(), arguments, environment, stdin: None })
}

/// What tells this server from others.
pub(super) fn digest(launch: &Launch, hello: &Value) -> Digest {
    let Launch { program, arguments, environment, .. } = launch;
    Digest::of(format!("{program:?} {arguments:?} {environment:?} {hello}").as_bytes())
}

impl Session {
    /// Starts the server and says hello.
    pub(super) async fn open(errand: &Errand<'_>, launch: &Launch, hello: &Value) -> Result<Self, Error> {
        let unset = |failure: Failure| Error::Unreachable(failure.error.detail.unwrap_or_default());
        let run = process::enabled(errand).map_err(unset)?;
        let confined = Confined::new(errand, run).map_err(unset)?;
        let folder = confined.folder(errand).map_err(unset)?;
        let mut command = confined.command(launch, &folder);
        // What servers write there is for people, and nobody reads it.
        command.stderr(std::process::Stdio::null()).kill_on_drop(true);
        let cannot = |error| Error::Unreachable(format!("cannot start {}: {error}", launch.program));
        let mut child = command.spawn().map_err(cannot)?;
        let group = Group::of(&child);
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Unreachable("the server has no standard streams".to_owned()));
        };
        let lines = || LinesCodec::new_with_max_length(MESSAGE_BYTES_MAX);
        let (to, from) = (FramedWrite::new(to, lines()), FramedRead::new(from, lines()));
        let mut session = Self { _group: group, child, _folder: folder, to, from, next: 0 };
        message::version(&session.ask("initialize", hello).await?)?;
        session.say(&message::initialized()).await?;
        Ok(session)
    }

    /// Whether the process is still there.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value, Error> {
        let id = self.next;
        self.next += 1;
        self.say(&message::request(id, method, parameters)).await?;
        while let Some(line) = self.from.next().await {
            let line = line.map_err(|error| Error::Nonsense(error.to_string()))?;
            let message = serde_json::from_str::<Value>(&line)
                .map_err(|error| Error::Nonsense(format!("a line that is no JSON: {error}")))?;
            match message::hear(&message, id) {
                Heard::Answer(answer) => return answer,
                Heard::Question(reply) => self.say(&reply).await?,
                Heard::Other => {}
            }
        }
        Err(Error::Unreachable("the server ended before its answer".to_owned()))
    }

    async fn say(&mut self, message: &Value) -> Result<(), Error> {
        let said = self.to.send(message.to_string()).await;
        said.map_err(|error| Error::Unreachable(format!("the server does not listen: {error}")))
    }
}
