//! What is drawn: lanes, boxes, and where the flow goes from each box.

use serde_json::Value;

use crate::workflow::definition::{
    Collection, Definition, Duration, EventFilter, FOREACH, Item, Kind, Process, Reference, Schedule, Strategy, Task,
    Then, Until,
};

/// Characters of a detail; what is longer is cut, the document has the rest.
const DETAIL_CHARS_MAX: usize = 44;

/// A list of tasks, one below the other.
pub(super) struct Lane {
    /// What the lane is within its box: `try`, `catch`, a branch.
    pub caption: Option<String>,
    pub boxes: Vec<Box>,
}

/// A task.
pub(super) struct Box {
    pub pointer: String,
    pub name: String,
    pub kind: &'static str,
    pub detail: String,
    pub lanes: Vec<Lane>,
    pub exits: Vec<Exit>,
}

/// A way out of a task.
pub(super) struct Exit {
    /// Under what condition; empty when it is the only way.
    pub label: String,
    pub to: Goal,
}

/// Where the flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The box with this place in the same lane.
    Box(usize),
    /// Out of the lane, at its bottom.
    Out,
    /// To the end of the workflow.
    End,
}

/// The whole workflow.
pub(super) struct Diagram {
    pub title: String,
    /// What starts it.
    pub start: String,
    pub lane: Lane,
}

pub(super) fn of(definition: &Definition) -> Diagram {
    Diagram {
        title: format!("{} {}", definition.qualified_name(), definition.document.version),
        start: definition.schedule.as_ref().map_or_else(|| "start".to_owned(), start),
        lane: lane(None, "/do", &definition.tasks),
    }
}

fn start(schedule: &Schedule) -> String {
    let ways = [
        schedule.every.as_ref().map(|every| format!("every {}", duration(every))),
        schedule.cron.as_ref().map(|cron| format!("cron {cron}")),
        schedule.after.as_ref().map(|after| format!("{} after the last run", duration(after))),
        schedule.on.as_ref().map(|on| format!("on {}", strategy(on))),
    ];
    cut(&ways.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn lane(caption: Option<String>, pointer: &str, tasks: &[Item<Task>]) -> Lane {
    let boxes = tasks.iter().enumerate().map(|(index, item)| one(pointer, index, item, tasks)).collect();
    Lane { caption, boxes }
}

/// The branches of a fork: each is a lane of one task.
fn branches(pointer: &str, tasks: &[Item<Task>]) -> Vec<Lane> {
    let branch = |(index, item): (usize, &Item<Task>)| {
        let mut only = one(pointer, index, item, &[]);
        only.exits = vec![Exit { label: String::new(), to: Goal::Out }];
        Lane { caption: None, boxes: vec![only] }
    };
    tasks.iter().enumerate().map(branch).collect()
}

fn one(list: &str, index: usize, item: &Item<Task>, siblings: &[Item<Task>]) -> Box {
    let Item { name, value: task } = item;
    let pointer = format!("{list}/{index}/{}", name.replace('~', "~0").replace('/', "~1"));
    let mut detail = detail(task);
    if let Some(condition) = &task.common.condition {
        detail = format!("if {}{}{detail}", bare(condition), if detail.is_empty() { "" } else { ": " });
    }
    Box {
        lanes: lanes(&pointer, task),
        exits: exits(index, task, siblings),
        name: name.clone(),
        kind: task.kind.key(),
        detail: cut(&detail),
        pointer,
    }
}

fn lanes(pointer: &str, task: &Task) -> Vec<Lane> {
    match &task.kind {
        Kind::Do(tasks) => vec![lane(None, &format!("{pointer}/do"), tasks)],
        Kind::For(each) => vec![lane(None, &format!("{pointer}/do"), &each.tasks)],
        Kind::Fork(fork) => branches(&format!("{pointer}/fork/branches"), &fork.branches),
        Kind::Try(attempt) => {
            let mut lanes = vec![lane(Some("try".to_owned()), &format!("{pointer}/try"), &attempt.tasks)];
            if let Some(tasks) = attempt.catch.tasks.as_deref().filter(|tasks| !tasks.is_empty()) {
                lanes.push(lane(Some(caught(attempt)), &format!("{pointer}/catch/do"), tasks));
            }
            lanes
        }
        Kind::Call(call) if !call.tasks().is_empty() => {
            vec![lane(Some("for each message".to_owned()), &format!("{pointer}/{FOREACH}/do"), call.tasks())]
        }
        Kind::Listen(listen) => {
            let tasks = listen.foreach.as_ref().and_then(|each| each.tasks.as_deref());
            tasks
                .map(|tasks| lane(Some("for each event".to_owned()), &format!("{pointer}/foreach/do"), tasks))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

fn caught(attempt: &crate::workflow::definition::Try) -> String {
    let filter = attempt.catch.errors.as_ref().and_then(|errors| errors.with.as_ref());
    let kind = filter.and_then(|filter| filter.kind.as_deref()).and_then(|kind| kind.rsplit('/').next());
    let status = filter.and_then(|filter| filter.status);
    match (kind, status) {
        (Some(kind), _) => format!("catch {kind}"),
        (None, Some(status)) => format!("catch {status}"),
        (None, None) => "catch".to_owned(),
    }
}

fn exits(index: usize, task: &Task, siblings: &[Item<Task>]) -> Vec<Exit> {
    let next = if index + 1 < siblings.len() { Goal::Box(index + 1) } else { Goal::Out };
    let goal = |then: &Then| match then {
        Then::Continue => next,
        Then::Exit => Goal::Out,
        Then::End => Goal::End,
        Then::Task(name) => siblings.iter().position(|item| item.name == *name).map_or(next, Goal::Box),
    };
    let usual = task.common.then.as_ref().map_or(next, goal);
    match &task.kind {
        Kind::Switch(cases) => {
            let case = |item: &Item<crate::workflow::definition::Case>| {
                let name = &item.name;
                let label = match &item.value.when {
                    Some(when) => format!("{name}: {}", bare(when)),
                    None if matches!(name.as_str(), "default" | "otherwise") => name.clone(),
                    None => format!("{name}: otherwise"),
                };
                Exit { label: cut(&label), to: goal(&item.value.then) }
            };
            let mut exits: Vec<Exit> = cases.iter().map(case).collect();
            if cases.iter().all(|item| item.value.when.is_some()) {
                exits.push(Exit { label: "no case".to_owned(), to: usual });
            }
            exits
        }
        Kind::Raise(_) => Vec::new(),
        Kind::Try(attempt) => {
            let mut exits = vec![Exit { label: String::new(), to: usual }];
            if let Some(then) = &attempt.catch.then {
                exits.push(Exit { label: "when caught".to_owned(), to: goal(then) });
            }
            exits
        }
        _ => vec![Exit { label: String::new(), to: usual }],
    }
}

fn detail(task: &Task) -> String {
    match &task.kind {
        Kind::Call(call) => call.function.clone(),
        Kind::Do(_) | Kind::Try(_) | Kind::Switch(_) => String::new(),
        Kind::Emit(emit) => emit.event.with.get("type").map(plain).unwrap_or_default(),
        Kind::For(each) => match &each.each.collection {
            Collection::Expression(text) => {
                format!("each {} in {}", each.each.item.as_deref().unwrap_or("item"), bare(text))
            }
            Collection::Inline(items) => format!("each of {}", items.len()),
        },
        Kind::Fork(fork) if fork.compete == Some(true) => "the first to end wins".to_owned(),
        Kind::Fork(_) => "all at once".to_owned(),
        Kind::Listen(listen) => strategy(&listen.to),
        Kind::Raise(raise) => match &raise.error {
            Reference::Named(name) => name.clone(),
            Reference::Inline(error) => error.kind.rsplit('/').next().unwrap_or_default().to_owned(),
        },
        Kind::Run(run) => match &run.process {
            Process::Container(container) => format!("container {}", container.image),
            Process::Script(script) => format!("script in {}", script.language),
            Process::Shell(shell) => shell.command.clone(),
            Process::Workflow(flow) => format!("workflow {}/{}", flow.namespace, flow.name),
        },
        Kind::Set(Value::Object(values)) => values.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        Kind::Set(value) => plain(value),
        Kind::Wait(span) => duration(span),
    }
}

fn strategy(strategy: &Strategy) -> String {
    let kinds = |filters: &[EventFilter], between: &str| {
        let kind = |filter: &EventFilter| filter.with.get("type").map_or_else(|| "an event".to_owned(), plain);
        filters.iter().map(kind).collect::<Vec<_>>().join(between)
    };
    match strategy {
        Strategy::One(filter) => kinds(std::slice::from_ref(filter), ""),
        Strategy::All(filters) => kinds(filters, " and "),
        Strategy::Any { filters, until } => {
            let any = if filters.is_empty() { "any event".to_owned() } else { kinds(filters, " or ") };
            match until {
                None => any,
                Some(Until::Condition(condition)) => format!("{any} until {}", bare(condition)),
                Some(Until::Consumed(until)) => format!("{any} until {}", self::strategy(until)),
            }
        }
    }
}

fn duration(span: &Duration) -> String {
    match span {
        Duration::Iso8601(text) => text.clone(),
        Duration::Expression(text) => bare(text).to_owned(),
        Duration::Parts(parts) => {
            let counted = [
                (parts.days.map(u64::from), "d"),
                (parts.hours.map(u64::from), "h"),
                (parts.minutes.map(u64::from), "min"),
                (parts.seconds.map(u64::from), "s"),
                (parts.milliseconds, "ms"),
            ];
            let word = |(count, unit): (Option<u64>, &str)| count.map(|count| format!("{count} {unit}"));
            counted.into_iter().filter_map(word).collect::<Vec<_>>().join(" ")
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| bare(text).to_owned())
}

/// An expression without its `${ }`.
fn bare(text: &str) -> &str {
    let inner = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.unwrap_or(text).trim()
}

fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= DETAIL_CHARS_MAX {
        return line;
    }
    line.chars().take(DETAIL_CHARS_MAX - 1).chain(['…']).collect()
}
