//! A workflow as a picture: lists of tasks as lanes of boxes, what they contain inside them, the flow as arrows. Over it
//! may lie the path that a run took. `mermaid` and `svg` write the same diagram down.

mod diagram;
mod mermaid;
mod svg;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::definition::Definition;
pub use svg::Style;

/// What became of a task, of all its visits the one that says most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Skipped,
    Cancelled,
    Completed,
    Faulted,
    /// For a time, an outcome, an event or a person.
    Waiting,
    Running,
}

impl Seen {
    /// The word for it, which is the class of the box too.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Faulted => "faulted",
            Self::Waiting => "waiting",
            Self::Running => "running",
        }
    }
}

/// The path of a run through its workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// JSON pointer of a task -> what became of it, and how often it was entered.
    pub tasks: BTreeMap<String, (Seen, usize)>,
    /// From the pointer of one task to that of the next in the same list.
    pub passages: BTreeSet<(String, String)>,
}

impl Path {
    /// Notes one visit of a task.
    pub fn visit(&mut self, pointer: &str, seen: Seen) {
        let entry = self.tasks.entry(pointer.to_owned()).or_insert((seen, 0));
        entry.0 = entry.0.max(seen);
        entry.1 += 1;
    }
}

/// The workflow in Mermaid's flowchart language.
#[must_use]
pub fn mermaid(definition: &Definition, path: Option<&Path>) -> String {
    mermaid::write(&diagram::of(definition), path.unwrap_or(&Path::default()))
}

/// The workflow as SVG.
#[must_use]
pub fn svg(definition: &Definition, path: Option<&Path>, style: Style) -> String {
    svg::write(&diagram::of(definition), path, style)
}
