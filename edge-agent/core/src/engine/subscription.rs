//! How far a task is that takes messages one by one: the fold of its records. What it does next is decided in
//! `task/subscribe`.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;
use shared::time::Timestamp;

use super::{
    limit,
    record::Record,
    state::{Progress, State},
};

/// Messages that a broker may send again, because it sends no more before the first of them is acknowledged.
const RECENT_MAX: usize = 16;

/// A subscription at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subscription {
    /// The arguments of the call.
    pub with: Arc<Value>,
    pub until: Option<Timestamp>,
    /// The messages, in the order in which they came.
    pub messages: Arc<Vec<Arc<Value>>>,
    /// What it made of those that it is done with.
    pub outputs: Arc<Vec<Arc<Value>>>,
    /// What the last messages are known by to whoever has them: as many as may come again.
    pub recent: VecDeque<String>,
    /// Whether no more will come.
    pub over: bool,
    /// Roughly the bytes of all of these.
    pub bytes: usize,
}

impl State {
    /// The records of a task that takes messages one by one.
    pub(super) fn subscription_goes_on(&mut self, record: &Record) {
        let (Record::SubscribeBegan { frame, .. }
        | Record::MessagesTaken { frame, .. }
        | Record::MessageDone { frame, .. }) = record
        else {
            unreachable!("{record:?} is applied elsewhere")
        };
        if let Record::SubscribeBegan { with, until, .. } = record {
            let subscription = Subscription {
                with: Arc::clone(with),
                until: *until,
                messages: Arc::default(),
                outputs: Arc::default(),
                recent: VecDeque::new(),
                over: false,
                bytes: 0,
            };
            self.task_mut(*frame).subscription = Some(Box::new(subscription));
            return;
        }
        if let Record::MessageDone { context, .. } = record {
            self.remove_children(*frame);
            if let Some(context) = context {
                self.context = Arc::clone(context);
            }
        }
        if let Record::MessagesTaken { .. } = record {
            // It was held while the run rested, if it was.
            self.task_mut(*frame).progress = Progress::Plain;
        }
        let subscription = self.task_mut(*frame).subscription.as_mut().expect("a record follows its beginning");
        match record {
            Record::MessagesTaken { messages, last, over, .. } => {
                subscription.bytes += messages.iter().map(|message| limit::size(message)).sum::<usize>();
                Arc::make_mut(&mut subscription.messages).extend(messages.iter().cloned());
                subscription.recent.extend(last.clone());
                if subscription.recent.len() > RECENT_MAX {
                    subscription.recent.pop_front();
                }
                subscription.over |= over;
            }
            Record::MessageDone { output, .. } => {
                subscription.bytes += limit::size(output);
                Arc::make_mut(&mut subscription.outputs).push(Arc::clone(output));
            }
            _ => {}
        }
    }
}
