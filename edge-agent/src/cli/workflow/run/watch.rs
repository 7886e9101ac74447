//! Looking on while a run goes on: what each task takes and gives, what it waits for, and what it asks a person.

use std::{
    collections::HashSet,
    io::{BufRead as _, IsTerminal as _},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use edge_core::engine::history::{TaskStatus, TaskView};
use rusqlite::Connection;
use serde_json::Value;
use shared::{id::RunId, label::Label, ledger::entry::Verdict, wire::v1::PendingApproval};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use super::{Desk, Play};
use crate::{
    store::{
        Store,
        runs::{self, RunDetail},
    },
    workflow::{Act, Answer, ApprovalError, Authority, Perform, Person, Runner},
};

/// Data of a task on one line; the whole of it is in `--json`.
const LINE_CHARS_MAX: usize = 2_000;

/// Runs of a run that are looked on.
const RUNS_MAX: usize = 1_000;

/// Looking takes at most this part of the time, however many tasks there are.
const LOOKING: u32 = 4;

/// Who answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Yes,
    No,
    AtTheTerminal,
}

/// Why a run is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Itself,
    Interrupted,
    /// It asks a person this, and there is nobody.
    Unanswerable(String),
}

/// A question on the terminal, and what was typed.
type Asked = (PendingApproval, JoinHandle<std::io::Result<String>>);

/// How long an event is waited for to have an effect before the next one is told.
const UNHEARD: Duration = Duration::from_millis(500);

/// Runs a document to its end.
pub(super) async fn play(play: Play, desk: Desk) -> Result<(RunDetail, Ending), super::Failure> {
    let Play { workflow, others, input, events, answers, is_quiet } = play;
    let store = desk.store.clone();
    let runner = Runner::open(store.clone(), Arc::new(desk) as Arc<dyn Perform>).await.map_err(anyhow::Error::new)?;
    let entry = runner.start_alone(workflow, others, input, me()).await.map_err(anyhow::Error::new)?;
    let run = entry.run.context("a start names its run")?;
    let mut watch = Watch { store, runner, run, told: Told::new(is_quiet), answers, asked: None };
    let ended = watch.until_the_end(events.into_iter()).await;
    watch.runner.close().await;
    Ok(ended?)
}

/// Whoever sits here, as far as the machine knows.
fn me() -> Person {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "you".to_owned());
    Person { name, role: "operator".to_owned(), place: "command line".to_owned(), comment: None }
}

struct Watch {
    store: Store,
    runner: Runner,
    run: RunId,
    told: Told,
    answers: Answers,
    asked: Option<Asked>,
}

impl Watch {
    async fn until_the_end(
        &mut self,
        events: impl Iterator<Item = shared::event::Event>,
    ) -> anyhow::Result<(RunDetail, Ending)> {
        let mut events = events.peekable();
        let mut changes = self.runner.changes();
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        let mut ending = Ending::Itself;
        loop {
            changes.borrow_and_update();
            let began = Instant::now();
            let detail = self.look().await?;
            if detail.summary.ended.is_some() {
                return Ok((detail, ending));
            }
            if is_listening(&detail)
                && let Some(event) = events.next()
            {
                self.runner.deliver(vec![(event, Label::default())]).await?;
            }
            if ending == Ending::Itself
                && let Some(question) = self.questions().await?
            {
                ending = Ending::Unanswerable(question);
                self.cancel().await;
            }
            // A long run has many changes, and looking reads all of it.
            let pause = tokio::time::sleep(began.elapsed() * LOOKING);
            tokio::select! {
                changed = async { pause.await; changes.changed().await } => changed.context("the runner has stopped")?,
                // Nobody listened for the last one: nothing changes, and the next one may be meant.
                () = tokio::time::sleep(UNHEARD), if events.peek().is_some() => {}
                typed = typed(&mut self.asked) => self.answer(typed?).await?,
                Some(()) = interrupt.recv(), if ending == Ending::Itself => {
                    ending = Ending::Interrupted;
                    self.cancel().await;
                }
            }
        }
    }

    async fn cancel(&self) {
        if let Err(error) = self.runner.steer(self.run, Act::Cancel, me()).await {
            // It may have ended by itself in this moment; else the person reads why it goes on.
            self.told.line(&format!("? {error}"));
        }
    }

    /// Tells what is new of the run and the runs that it runs.
    async fn look(&mut self) -> anyhow::Result<RunDetail> {
        let run = self.run;
        let all = self.store.read("read the runs", details).await?;
        self.told.tell(&all, run);
        all.into_iter().find(|detail| detail.summary.run == run).context("the run is kept")
    }

    /// Answers what is asked, or asks at the terminal. `Some`: a question that nobody can answer.
    async fn questions(&mut self) -> anyhow::Result<Option<String>> {
        let open = self.store.read("read the questions", runs::approvals_pending).await?;
        for question in open {
            let words = format!("it asks {}: {}", question.role, question.title);
            match self.answers {
                Answers::AtTheTerminal if self.asked.is_some() => {}
                Answers::AtTheTerminal if !std::io::stdin().is_terminal() => return Ok(Some(words)),
                Answers::AtTheTerminal => {
                    let shown = serde_json::to_string_pretty(&question.proposal).unwrap_or_default();
                    eprintln!("? {words}\n{shown}\n? approve? [y/n, and a comment if you like] ");
                    self.asked = Some((question, tokio::task::spawn_blocking(read_line)));
                }
                answer => {
                    let (verdict, word) = match answer {
                        Answers::Yes => (Verdict::Approved, "approved"),
                        _ => (Verdict::Rejected, "rejected"),
                    };
                    self.told.line(&format!("? {words}: {word}"));
                    self.decide(&question, verdict, None).await?;
                }
            }
        }
        Ok(None)
    }

    /// Takes what was typed for the question.
    async fn answer(&mut self, (question, line): (PendingApproval, String)) -> anyhow::Result<()> {
        let (word, comment) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let verdict = match word.to_lowercase().as_str() {
            "y" | "yes" => Verdict::Approved,
            "n" | "no" => Verdict::Rejected,
            // It is asked again.
            _ => return Ok(()),
        };
        let comment = Some(comment.trim().to_owned()).filter(|comment| !comment.is_empty());
        self.decide(&question, verdict, comment).await
    }

    async fn decide(
        &self,
        question: &PendingApproval,
        verdict: Verdict,
        comment: Option<String>,
    ) -> anyhow::Result<()> {
        let Person { name, place, .. } = me();
        let answer = Answer {
            approval: question.approval,
            shown: question.shown,
            verdict,
            by: name,
            authority: Authority::Roles(vec![question.role.clone()]),
            comment,
            place,
        };
        match self.runner.decide_approval(answer).await {
            Ok(_) => Ok(()),
            Err(ApprovalError::Store(error)) => Err(error.into()),
            Err(late) => {
                self.told.line(&format!("? {late}"));
                Ok(())
            }
        }
    }
}

/// The run and those that it runs, in the order in which they began.
pub(super) fn details(connection: &Connection) -> rusqlite::Result<Vec<RunDetail>> {
    let filter = runs::Filter { limit: RUNS_MAX, ..runs::Filter::default() };
    let mut ids: Vec<RunId> = runs::list(connection, &filter)?.into_iter().map(|summary| summary.run).collect();
    ids.sort();
    let all = ids.into_iter().map(|id| runs::detail(connection, id)).collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

fn is_listening(detail: &RunDetail) -> bool {
    detail.summary.note.as_deref().is_some_and(|note| note.contains("listens for events"))
}

fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the terminal was closed"));
    }
    Ok(line)
}

/// What was typed for the question that is asked; never, when none is.
async fn typed(asked: &mut Option<Asked>) -> anyhow::Result<(PendingApproval, String)> {
    let Some((_, line)) = asked else { return std::future::pending().await };
    let line = line.await.context("the terminal cannot be read")?.context("the terminal cannot be read")?;
    let (question, _) = asked.take().context("a question was asked")?;
    Ok((question, line))
}

/// What was told already.
pub(super) struct Told {
    is_quiet: bool,
    begun: HashSet<(RunId, String)>,
    ended: HashSet<(RunId, String)>,
    note: Option<String>,
}

impl Told {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, begun: HashSet::new(), ended: HashSet::new(), note: None }
    }

    fn line(&self, line: &str) {
        if !self.is_quiet {
            eprintln!("{line}");
        }
    }

    /// Tells what is new of all runs; `own` is the one that was asked for.
    fn tell(&mut self, all: &[RunDetail], own: RunId) {
        for line in self.lines(all, own) {
            self.line(&line);
        }
        let own = all.iter().find(|detail| detail.summary.run == own && detail.summary.ended.is_none());
        if let Some(detail) = own.filter(|detail| self.note != detail.summary.note) {
            self.note.clone_from(&detail.summary.note);
            if let Some(note) = &self.note {
                self.line(&format!("? {note}"));
            }
        }
    }

    /// What is new, a line each: of one run in the order of its records, of several as time went.
    pub(super) fn lines(&mut self, all: &[RunDetail], own: RunId) -> Vec<String> {
        let mut lines = Vec::new();
        for detail in all {
            let run = detail.summary.run;
            let of = if run == own { String::new() } else { format!("{}: ", detail.summary.workflow) };
            let mut of_run = Vec::new();
            for task in &detail.tasks {
                let key = (run, task.place.clone());
                if self.begun.insert(key.clone()) {
                    of_run.push((task.began_nth, task.began_nth, task.started_at, begun(&of, task)));
                }
                if let (Some(nth), Some(at)) = (task.ended_nth, task.ended_at)
                    && self.ended.insert(key)
                {
                    of_run.push((nth, task.began_nth, at, ended(&of, task)));
                }
            }
            // What one record ended, it ended from the inside.
            of_run.sort_by_key(|(nth, began, ..)| (*nth, std::cmp::Reverse(*began)));
            // A clock that was set back moves nothing to the front.
            let mut latest = None;
            lines.extend(of_run.into_iter().map(|(_, _, at, line)| {
                latest = latest.max(Some(at));
                (latest, line)
            }));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

pub(super) fn begun(of: &str, task: &TaskView) -> String {
    let function = task.function.as_ref().map(|function| format!(" ({function})")).unwrap_or_default();
    format!("> {of}{}{function}  {}", task.place, short(&task.input))
}

pub(super) fn ended(of: &str, task: &TaskView) -> String {
    let took = task.ended_at.unwrap_or(task.started_at).since(task.started_at).as_millis();
    let place = &task.place;
    match (task.status, &task.output, &task.error) {
        (_, _, Some(error)) => {
            let kind = error.kind.rsplit('/').next().unwrap_or_default();
            let said = error.detail.as_deref().or(error.title.as_deref()).unwrap_or_default();
            format!("! {of}{place}  {} {kind}: {said}  ({took} ms)", error.status)
        }
        (TaskStatus::Completed, Some(output), None) => format!("< {of}{place}  {}  ({took} ms)", short(output)),
        (status, ..) => format!("- {of}{place}  {}", status.name()),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let count = text.chars().count();
    if count <= LINE_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(LINE_CHARS_MAX).collect();
    format!("{begin}… ({count} characters)")
}
