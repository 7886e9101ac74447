//! What may be taken on: whether a model has room in the machine's memory, which answer is written next, and whether it can be there in
//! time. It never measures anything: sizes, speeds and times come in as data.

mod line;
mod memory;
mod queue;
mod speed;

pub use line::{Joined, Line, Refused};
pub use memory::{
    Ask, Bound, CacheUse, Limit, Loaded, Needs, Plan, Refusal, Usage, cache_limit, free_of_machine, plan,
};
pub use queue::{Entered, Place, Priority, Queue, Turn};
pub use speed::{Seen, Speed};
