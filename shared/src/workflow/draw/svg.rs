//! The diagram as SVG 1.1 without script, font or picture from elsewhere. Boxes of a lane are as wide as the widest; ways
//! out that do not lead to the next box stand as rows in their box, with a line along the lane's right side.

use std::fmt::Write as _;

use super::{
    Path, Seen,
    diagram::{Box, Diagram, Exit, Goal, Lane},
};

/// Where the picture will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A file of its own, which brings its colours, light and dark.
    Standalone,
    /// In a page whose stylesheet has the colours (`look::STYLE`, class `flow`).
    Embedded,
}

const COLOURS: &str = include_str!("svg.css");

// All lengths in pixels of the picture.
const HEAD: i32 = 42;
const ROW: i32 = 17;
const CAPTION: i32 = 18;
const GAP: i32 = 26;
const PAD: i32 = 12;
const LANE_GAP: i32 = 20;
const COLUMN: i32 = 12;
const BOX_WIDTH_MIN: i32 = 170;
const MARGIN: i32 = 16;
const PILL: i32 = 28;
/// Width of a character, generously: the font is the reader's.
const BOLD: i32 = 8;
const PLAIN: i32 = 7;

pub(super) fn write(diagram: &Diagram, path: Option<&Path>, style: Style) -> String {
    let empty = Path::default();
    let mut pen = Pen { out: String::new(), path: path.unwrap_or(&empty) };
    let lane = measure(&diagram.lane);
    let start_width = (chars(&diagram.start) * PLAIN + 28).max(80);
    let width = lane.width.max(start_width).max(chars(&diagram.title) * BOLD) + 2 * MARGIN;
    let top = MARGIN + 22;
    let first = top + PILL + GAP;
    let bottom = first + lane.height + GAP;
    let height = bottom + PILL + MARGIN;
    let axis = MARGIN + lane.body / 2;

    pen.text(MARGIN, MARGIN + 8, "title", &diagram.title);
    pen.pill(axis.max(MARGIN + start_width / 2), top, start_width, &diagram.start);
    pen.lane(&diagram.lane, &lane, MARGIN, first);
    let begun = diagram.lane.boxes.first().is_some_and(|one| pen.path.tasks.contains_key(&one.pointer));
    pen.down(axis, top + PILL, first, begun);
    let last = diagram.lane.boxes.last();
    if last.is_none_or(|last| is_straight(last, diagram.lane.boxes.len() - 1)) {
        let ended = last.is_some_and(|last| pen.is_left(last));
        pen.down(axis, first + lane.height, bottom, ended);
    }
    pen.pill(axis, bottom, 80, "end");

    let colours = if style == Style::Standalone { format!("<style>{COLOURS}</style>") } else { String::new() };
    let class = if path.is_some() { "flow run" } else { "flow" };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" role=\"img\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\"><title>{}</title>{colours}{}</svg>\n",
        escaped(&diagram.title),
        pen.out
    )
}

/// A lane's measures, its boxes' with it.
struct Measured {
    /// Of the boxes; `width` has the lines beside them too.
    body: i32,
    width: i32,
    height: i32,
    boxes: Vec<(i32, Vec<Measured>)>,
}

fn measure(lane: &Lane) -> Measured {
    let mut body = BOX_WIDTH_MIN.max(lane.caption.as_ref().map_or(0, |caption| chars(caption) * PLAIN));
    let mut boxes = Vec::new();
    let mut height = 0;
    for (index, one) in lane.boxes.iter().enumerate() {
        let lanes: Vec<Measured> = one.lanes.iter().map(measure).collect();
        let inner = lanes.iter().map(|lane| lane.width).sum::<i32>() + (lanes.len() as i32 - 1).max(0) * LANE_GAP;
        let deepest = lanes.iter().map(|lane| lane.height).max();
        let rows = rows(one, index, lane);
        let widest_row = rows.iter().map(|row| chars(&row.0) * PLAIN).max().unwrap_or(0);
        let head = (chars(&one.name) + 5) * BOLD;
        let second = (chars(one.kind) + chars(&one.detail) + 2) * PLAIN;
        body = body.max(head + 2 * PAD).max(second + 2 * PAD).max(widest_row + 2 * PAD).max(inner + 2 * PAD);
        let within = deepest.map_or(0, |deepest| deepest + captions(one) + 2 * PAD);
        let own = HEAD + ROW * rows.len() as i32 + within;
        height += own + if index == 0 { 0 } else { GAP };
        boxes.push((own, lanes));
    }
    let columns = jumps(lane) as i32;
    let width = body + if columns == 0 { 0 } else { COLUMN * (columns + 1) };
    Measured { body, width, height, boxes }
}

fn captions(one: &Box) -> i32 {
    if one.lanes.iter().any(|lane| lane.caption.is_some()) { CAPTION } else { 0 }
}

fn jumps(lane: &Lane) -> usize {
    let rows = lane.boxes.iter().enumerate().flat_map(|(index, one)| rows(one, index, lane));
    rows.filter(|(_, goal)| matches!(goal, Goal::Box(_))).count()
}

/// Whether the one way out leads straight down: to the next box, or out at the lane's end.
fn is_straight(one: &Box, index: usize) -> bool {
    let straight = |exit: &Exit| exit.label.is_empty() && matches!(exit.to, Goal::Box(next) if next == index + 1);
    let out = |exit: &Exit| exit.label.is_empty() && exit.to == Goal::Out;
    matches!(one.exits.as_slice(), [exit] if straight(exit) || out(exit))
}

/// The ways out that are written into the box.
fn rows(one: &Box, index: usize, lane: &Lane) -> Vec<(String, Goal)> {
    let is_last = index + 1 == lane.boxes.len();
    let straight = is_straight(one, index) && (is_last || one.exits.iter().all(|exit| exit.to != Goal::Out));
    if straight {
        return Vec::new();
    }
    let goal = |goal: Goal| match goal {
        Goal::Box(index) => lane.boxes[index].name.as_str(),
        Goal::Out => "out",
        Goal::End => "end",
    };
    let label = |exit: &Exit| if exit.label.is_empty() { "then".to_owned() } else { exit.label.clone() };
    one.exits.iter().map(|exit| (format!("{} → {}", label(exit), goal(exit.to)), exit.to)).collect()
}

struct Pen<'a> {
    out: String,
    path: &'a Path,
}

impl Pen<'_> {
    fn lane(&mut self, lane: &Lane, measured: &Measured, x: i32, y: i32) {
        let mut tops = Vec::new();
        let mut top = y;
        for (height, _) in &measured.boxes {
            tops.push(top);
            top += height + GAP;
        }
        let mut column = 0;
        let mut arrived = vec![0; lane.boxes.len()];
        for (index, one) in lane.boxes.iter().enumerate() {
            let (height, lanes) = &measured.boxes[index];
            let rows = rows(one, index, lane);
            self.one(one, &rows, (x, tops[index], measured.body, *height));
            let inner_y = tops[index] + HEAD + ROW * rows.len() as i32 + PAD + captions(one);
            let mut inner_x = x + PAD;
            for (inner, measured) in one.lanes.iter().zip(lanes) {
                if let Some(caption) = &inner.caption {
                    self.text(inner_x, inner_y - 6, "caption", caption);
                }
                self.lane(inner, measured, inner_x, inner_y);
                inner_x += measured.width + LANE_GAP;
            }
            if rows.is_empty() && index + 1 < lane.boxes.len() && !one.exits.is_empty() {
                let taken = self.is_taken(one, &lane.boxes[index + 1]);
                self.down(x + measured.body / 2, tops[index] + height, tops[index + 1], taken);
            }
            for (row, (_, goal)) in rows.iter().enumerate() {
                if let Goal::Box(next) = goal {
                    column += 1;
                    let from = tops[index] + HEAD + ROW * row as i32 + ROW / 2 - 3;
                    // Lines that end at the same box end side by side, as far as its head has room.
                    let to = tops[*next] + 9 + (arrived[*next] * 9) % 27;
                    arrived[*next] += 1;
                    let taken = self.is_taken(one, &lane.boxes[*next]);
                    self.around(x + measured.body, (from, to), COLUMN * column, taken);
                }
            }
        }
    }

    fn one(&mut self, one: &Box, rows: &[(String, Goal)], (x, y, width, height): (i32, i32, i32, i32)) {
        let visits = self.path.tasks.get(&one.pointer).copied();
        let seen = visits.map(|(seen, _)| seen.word());
        let class = format!("box {}{}", one.kind, seen.map(|seen| format!(" {seen}")).unwrap_or_default());
        let told = seen.map(|seen| format!(": {seen}")).unwrap_or_default();
        let _ = write!(
            self.out,
            "<g class=\"{class}\"><title>{}{told}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"7\"/>",
            escaped(&one.pointer)
        );
        self.text(x + PAD, y + 18, "name", &one.name);
        if let Some((_, visits)) = visits.filter(|(_, visits)| *visits > 1) {
            self.text(
                x + width - PAD - chars(&visits.to_string()) * PLAIN - 6,
                y + 18,
                "visits",
                &format!("×{visits}"),
            );
        }
        self.text(x + PAD, y + 34, "detail", format!("{} {}", one.kind, one.detail).trim_end());
        for (index, (row, _)) in rows.iter().enumerate() {
            self.text(x + PAD, y + HEAD + ROW * index as i32 + 9, "row", row);
        }
        self.out.push_str("</g>");
    }

    fn pill(&mut self, centre: i32, y: i32, width: i32, text: &str) {
        let x = centre - width / 2;
        let _ = write!(
            self.out,
            "<rect class=\"pill\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{PILL}\" rx=\"14\"/><text class=\"pill\" \
             x=\"{centre}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 18,
            escaped(text)
        );
    }

    fn text(&mut self, x: i32, y: i32, class: &str, text: &str) {
        let _ = write!(self.out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(text));
    }

    fn down(&mut self, x: i32, from: i32, to: i32, taken: bool) {
        let class = edge_class(taken);
        let _ = write!(
            self.out,
            "<path class=\"{class}\" d=\"M{x} {from}V{}\"/><path class=\"head {class}\" d=\"M{x} {to}l-4 -7h8z\"/>",
            to - 6
        );
    }

    /// From one row to another box, along the column this far to the right of the lane.
    fn around(&mut self, right: i32, (from, to): (i32, i32), offset: i32, taken: bool) {
        let (class, column) = (edge_class(taken), right + offset);
        let _ = write!(
            self.out,
            "<path class=\"{class}\" d=\"M{right} {from}H{column}V{to}H{}\"/><path class=\"head {class}\" d=\"M{right} {to}l7 -4v8z\"/>",
            right + 6
        );
    }

    fn is_taken(&self, from: &Box, to: &Box) -> bool {
        self.path.passages.contains(&(from.pointer.clone(), to.pointer.clone()))
    }

    /// Whether the flow came through the box and went nowhere else from it.
    fn is_left(&self, one: &Box) -> bool {
        matches!(self.path.tasks.get(&one.pointer), Some((Seen::Completed | Seen::Skipped, _)))
            && !self.path.passages.iter().any(|(from, _)| *from == one.pointer)
    }
}

const fn edge_class(taken: bool) -> &'static str {
    if taken { "way taken" } else { "way" }
}

fn chars(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / 64)
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut text, c| {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
        text
    })
}
