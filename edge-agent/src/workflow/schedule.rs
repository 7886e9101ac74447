//! Workflows that start by the clock. The next start is in the store before it is due, and starting moves it on in the
//! same transaction: no start is missed or made twice, however often the node was killed. Starts that fell into a time
//! when the node was down are caught up with by one.
//!
//! A cron expression means hours of the wall clock, which may be wrong. One that says a time before this program was made is
//! not believed: until it is set, nothing starts by it and no stored start is changed. One that was set back may find the next
//! start years ahead, and brings it nearer; a start that was made already is known by its run's id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edge_core::trigger;
use rusqlite::{OptionalExtension as _, params};
use serde_json::json;
use shared::{
    label::Label,
    time::Timestamp,
    workflow::{Workflow, schedule::Cron},
};

use super::{
    catalog::Current,
    journal::{self, NewRun},
    runner::Inner,
    timers::Due,
};
use crate::{clock::Steady, store};

/// The shortest interval between two starts: below it a typing error would keep the node busy with nothing else.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// When a workflow starts.
pub(super) enum Rule {
    Cron(Cron),
    Every(Duration),
    /// After the end of each run.
    After(Duration),
}

/// While the wall clock lies behind it may be set at any moment, and then a start is due sooner than it seemed.
const LOOK_AT_WALL: Duration = Duration::from_secs(60);

/// A start that waits for the end of a run, or for a wall clock that can be believed.
const NOT_YET: Timestamp = Timestamp::from_micros(i64::MAX);

/// When the workflow starts again if a run of it ends now.
pub(super) fn again_at(workflow: &Workflow, now: Timestamp) -> Option<Timestamp> {
    let span = workflow.definition().schedule.as_ref()?.after.as_ref()?.span()?;
    Some(now.plus(span.max(EVERY_MIN)))
}

/// Sets the next start of a workflow whose run has ended.
pub(super) fn ended(connection: &rusqlite::Connection, workflow: &str, at: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE schedule SET next_at = ?2 WHERE workflow = ?1 AND rule LIKE 'after %'")?
        .execute(params![workflow, at.as_micros()])?;
    Ok(())
}

/// Sets the next start of a workflow of which a run has ended that cannot be read: the rule says it too. Says when.
pub(super) fn ended_unread(
    connection: &rusqlite::Connection,
    workflow: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT rule FROM schedule WHERE workflow = ?1 AND rule LIKE 'after %'";
    let rule: Option<String> = connection.prepare_cached(sql)?.query_row([workflow], |row| row.get(0)).optional()?;
    let micros = rule.as_deref().and_then(|rule| rule.strip_prefix("after ")?.strip_suffix(" us")?.parse().ok());
    let Some(micros) = micros else { return Ok(None) };
    let at = now.plus(Duration::from_micros(micros).max(EVERY_MIN));
    ended(connection, workflow, at)?;
    Ok(Some(at))
}

impl Rule {
    /// The start to be made first, if this one is stored.
    fn first(&self, stored: Option<Timestamp>, clock: &Steady) -> Option<Timestamp> {
        match (self, stored) {
            (Self::After(_), Some(stored)) => Some(stored),
            (Self::After(span), None) => Some(clock.now().plus(*span)),
            (rule, stored) => match rule.now(clock) {
                Some(now) => stored.into_iter().chain(rule.next(now, now)).min(),
                None => Some(stored.unwrap_or(NOT_YET)),
            },
        }
    }

    /// Now, by the clock that the rule goes by: a cron expression means the wall clock's hours, an interval means time
    /// that passes. `None`: that clock cannot be believed.
    fn now(&self, clock: &Steady) -> Option<Timestamp> {
        match self {
            Self::Cron(_) => clock.believed_wall(),
            Self::Every(_) | Self::After(_) => Some(clock.now()),
        }
    }

    /// When this start is to be looked at, in the time of runs.
    fn due(&self, at: Timestamp, clock: &Steady) -> Timestamp {
        match self {
            Self::Cron(_) if clock.is_ahead_of_wall() => clock.of_wall(at).min(clock.now().plus(LOOK_AT_WALL)),
            Self::Cron(_) => clock.of_wall(at),
            Self::Every(_) | Self::After(_) => at,
        }
    }

    /// The first start after both `last` and `now`.
    fn next(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::After(_) => Some(NOT_YET),
            Self::Cron(cron) => cron.next_after(last.max(now)),
            Self::Every(interval) => {
                let interval = (*interval).max(EVERY_MIN);
                let passed = now.since(last).as_micros() / interval.as_micros();
                let ahead = i64::try_from((passed + 1) * interval.as_micros()).ok()?;
                Some(last.plus_micros(ahead))
            }
        }
    }
}

/// The rules of the workflows that have one, each with its text.
pub(super) fn rules(current: &Current) -> BTreeMap<String, (String, Rule)> {
    let rule = |(name, workflow): (&String, &Arc<Workflow>)| {
        let schedule = workflow.definition().schedule.as_ref()?;
        let cron =
            schedule.cron.as_ref().and_then(|text| Some((format!("cron {text}"), Rule::Cron(Cron::parse(text).ok()?))));
        let every = schedule.every.as_ref().and_then(|every| {
            let span = every.span()?;
            Some((format!("every {} us", span.as_micros()), Rule::Every(span)))
        });
        let after = schedule.after.as_ref().and_then(|after| {
            let span = after.span()?;
            Some((format!("after {} us", span.as_micros()), Rule::After(span)))
        });
        Some((name.clone(), cron.or(every).or(after)?))
    };
    current.workflows.iter().filter_map(rule).collect()
}

impl Inner {
    /// Makes the stored next starts fit the rules: those whose rule did not change stay.
    pub(super) async fn set_schedules(
        self: &Arc<Self>,
        rules: BTreeMap<String, (String, Rule)>,
    ) -> Result<(), store::Error> {
        let inner = Arc::clone(self);
        let write = move |tx: &mut store::Transaction<'_>| {
            let connection = tx.connection();
            let mut stored = BTreeMap::new();
            let mut statement = connection.prepare("SELECT workflow, rule, next_at FROM schedule")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                stored.insert(row.get::<_, String>(0)?, (row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
            }
            connection.execute("DELETE FROM schedule", [])?;
            let mut next = Vec::new();
            for (workflow, (text, rule)) in &rules {
                let kept =
                    stored.get(workflow).filter(|(old, _)| old == text).map(|(_, at)| Timestamp::from_micros(*at));
                let Some(at) = rule.first(kept, &inner.clock) else { continue };
                connection
                    .execute("INSERT INTO schedule VALUES (?1, ?2, ?3)", params![workflow, text, at.as_micros()])?;
                next.push((workflow.clone(), rule.due(at, &inner.clock)));
            }
            Ok(next)
        };
        let next = self.store.write("keep the schedules", write).await?;
        self.timers.forget_schedules();
        for (workflow, at) in next {
            self.timers.set(Due::Schedule(workflow), Some(at));
        }
        Ok(())
    }

    /// Starts a workflow whose time has come, and sets the time after that.
    pub(super) async fn start_scheduled(self: &Arc<Self>, name: String) {
        let current = self.catalog.current();
        let Some((_, rule)) = rules(&current).remove(&name) else { return };
        let Some(workflow) = current.workflows.get(&name).cloned() else { return };
        let (now, at, bundle) = (rule.now(&self.clock), self.clock.now(), current.bundle);
        let rule = Arc::new(rule);
        let next = self
            .insist("start a scheduled run", || {
                let (name, rule, workflow) = (name.clone(), Arc::clone(&rule), Arc::clone(&workflow));
                move |tx: &mut store::Transaction<'_>| {
                    let connection = tx.connection();
                    let due: Option<i64> = connection
                        .query_row("SELECT next_at FROM schedule WHERE workflow = ?1", [&name], |row| row.get(0))
                        .optional()?;
                    let Some(due) = due.map(Timestamp::from_micros) else { return Ok(None) };
                    let Some(now) = now else { return Ok(Some(due)) };
                    if let Some(next) = rule.next(now, now).filter(|_| due > now) {
                        connection.execute(
                            "UPDATE schedule SET next_at = ?2 WHERE workflow = ?1 AND next_at > ?2",
                            params![name, next.as_micros()],
                        )?;
                        return Ok(Some(due.min(next)));
                    }
                    let run = NewRun {
                        id: trigger::run_of_schedule(&name, due),
                        workflow: Arc::clone(&workflow),
                        bundle,
                        trigger: format!("schedule {due}"),
                        subject: None,
                        input: json!({}).into(),
                        label: Label::default(),
                        generation: 0,
                        at,
                    };
                    journal::insert(connection, &run)?;
                    let Some(next) = rule.next(due, now) else {
                        connection.execute("DELETE FROM schedule WHERE workflow = ?1", [&name])?;
                        return Ok(None);
                    };
                    connection.execute(
                        "UPDATE schedule SET next_at = ?2 WHERE workflow = ?1",
                        params![name, next.as_micros()],
                    )?;
                    Ok(Some(next))
                }
            })
            .await;
        let next = next.flatten().map(|next| rule.due(next, &self.clock));
        self.timers.set(Due::Schedule(name), next);
        self.bell.starts();
    }
}
