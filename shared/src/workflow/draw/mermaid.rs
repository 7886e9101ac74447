//! Mermaid's flowchart: containers are subgraphs, what a run did is a class of each node.
//! Syntax: https://mermaid.js.org/syntax/flowchart.html

use std::fmt::Write as _;

use super::{
    Path, Seen,
    diagram::{Box, Diagram, Goal, Lane},
};

const CLASSES: [(Seen, &str); 6] = [
    (Seen::Completed, "fill:#e1f3ea,stroke:#17694a,color:#14212b"),
    (Seen::Faulted, "fill:#fce8e6,stroke:#a8281f,color:#14212b"),
    (Seen::Waiting, "fill:#fcf0d8,stroke:#855400,color:#14212b"),
    (Seen::Running, "fill:#e3f1f4,stroke:#0b6b83,color:#14212b"),
    (Seen::Skipped, "stroke-dasharray:4 3"),
    (Seen::Cancelled, "stroke-dasharray:2 2"),
];

pub(super) fn write(diagram: &Diagram, path: &Path) -> String {
    let mut writer =
        Writer { path, text: String::new(), edges: Vec::new(), taken: Vec::new(), nodes: 0, classes: Vec::new() };
    writer.line(0, "---");
    writer.line(0, &format!("title: {}", serde_json::Value::String(diagram.title.clone())));
    writer.line(0, "---");
    writer.line(0, "flowchart TD");
    writer.line(1, &format!("start([{}])", quoted(&diagram.start)));
    writer.line(1, "finish([\"end\"])");
    let ids = writer.lane(1, &diagram.lane);
    if let Some(first) = ids.first() {
        let taken = diagram.lane.boxes.first().is_some_and(|first| path.tasks.contains_key(&first.pointer));
        writer.edge("start", first, "", taken);
    } else {
        writer.edge("start", "finish", "", false);
    }
    writer.flow(&diagram.lane, &ids, Some("finish"));
    writer.finish()
}

struct Writer<'a> {
    path: &'a Path,
    text: String,
    /// Written last: Mermaid puts a node into the subgraph where it is first named.
    edges: Vec<String>,
    taken: Vec<usize>,
    nodes: usize,
    classes: Vec<(String, Seen)>,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{:width$}{text}", "", width = depth * 2);
    }

    fn edge(&mut self, from: &str, to: &str, label: &str, taken: bool) {
        if taken {
            self.taken.push(self.edges.len());
        }
        let label = if label.is_empty() { String::new() } else { format!("|{}|", quoted(label)) };
        self.edges.push(format!("  {from} -->{label} {to}"));
    }

    /// Names the boxes of a lane; the ids in their order.
    fn lane(&mut self, depth: usize, lane: &Lane) -> Vec<String> {
        lane.boxes.iter().map(|one| self.node(depth, one)).collect()
    }

    fn node(&mut self, depth: usize, one: &Box) -> String {
        self.nodes += 1;
        let id = format!("t{}", self.nodes);
        let visits = self.path.tasks.get(&one.pointer);
        if let Some((seen, _)) = visits {
            self.classes.push((id.clone(), *seen));
        }
        let times =
            visits.filter(|(_, visits)| *visits > 1).map(|(_, visits)| format!(" ×{visits}")).unwrap_or_default();
        let detail = if one.detail.is_empty() { String::new() } else { format!("<br>{}", escaped(&one.detail)) };
        let label = format!("\"<b>{}</b>{times}<br>{}{detail}\"", escaped(&one.name), one.kind);
        if one.lanes.is_empty() {
            let (open, close) = match one.kind {
                "switch" => ("{", "}"),
                "raise" => ("[/", "/]"),
                "listen" | "wait" => ("([", "])"),
                _ => ("[", "]"),
            };
            self.line(depth, &format!("{id}{open}{label}{close}"));
            return id;
        }
        self.line(depth, &format!("subgraph {id}[{label}]"));
        for (index, lane) in one.lanes.iter().enumerate() {
            let inner = match &lane.caption {
                Some(caption) => {
                    self.line(depth + 1, &format!("subgraph {id}_{index}[{}]", quoted(caption)));
                    let ids = self.lane(depth + 2, lane);
                    self.line(depth + 1, "end");
                    ids
                }
                None => self.lane(depth + 1, lane),
            };
            self.flow(lane, &inner, None);
        }
        self.line(depth, "end");
        id
    }

    /// The arrows of a lane. Out of an inner lane there is none: its box goes on.
    fn flow(&mut self, lane: &Lane, ids: &[String], out: Option<&str>) {
        for (one, id) in lane.boxes.iter().zip(ids) {
            for exit in &one.exits {
                match exit.to {
                    Goal::Box(next) => {
                        let passage = (one.pointer.clone(), lane.boxes[next].pointer.clone());
                        let taken = self.path.passages.contains(&passage);
                        self.edge(id, &ids[next], &exit.label, taken);
                    }
                    Goal::End => self.edge(id, "finish", &exit.label, false),
                    Goal::Out => {
                        if let Some(out) = out {
                            self.edge(id, out, &exit.label, false);
                        }
                    }
                }
            }
        }
    }

    fn finish(mut self) -> String {
        for edge in std::mem::take(&mut self.edges) {
            self.line(0, &edge);
        }
        for (seen, style) in CLASSES {
            let ids: Vec<&str> = self.classes.iter().filter(|(_, of)| *of == seen).map(|(id, _)| id.as_str()).collect();
            if !ids.is_empty() {
                let ids = ids.join(",");
                self.text.push_str(&format!("  classDef {0} {style}\n  class {ids} {0}\n", seen.word()));
            }
        }
        if !self.taken.is_empty() {
            let taken: Vec<String> = self.taken.iter().map(usize::to_string).collect();
            self.text.push_str(&format!("  linkStyle {} stroke:#17694a,stroke-width:3px\n", taken.join(",")));
        }
        self.text
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Mermaid reads entities without their ampersand: `#quot;`.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut text, c| {
        match c {
            '"' => text.push_str("#quot;"),
            '<' => text.push_str("#lt;"),
            '>' => text.push_str("#gt;"),
            '&' => text.push_str("#amp;"),
            '#' => text.push_str("#35;"),
            '`' => text.push_str("#96;"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
        text
    })
}
