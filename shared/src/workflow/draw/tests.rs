//! Pictures say what the document says, and stay well-formed whatever the document holds.

use super::*;
use crate::workflow::Workflow;

const EXAMPLE: &str = r#"
document: { dsl: '1.0.3', namespace: plant, name: draw, version: '1.2.0' }
schedule: { on: { one: { with: { type: io.skerry.finding.v1 } } } }
do:
  - look: { call: retrieve, with: { index: manuals, query: "<&\">" } }
  - which:
      switch:
        - hot: { when: '${ .value > 90 }', then: cool }
        - cold: { when: '${ .value < 10 }', then: exit }
        - cool: { when: '${ .value < 20 }', then: warm }
        - fine: { then: end }
  - warm: { set: { heat: true }, then: done }
  - cool:
      try:
        - ask: { call: approve, with: { role: operator, title: t, proposal: {} } }
      catch:
        errors: { with: { type: 'https://serverlessworkflow.io/spec/1.0.0/errors/timeout' } }
        do:
          - tell: { emit: { event: { with: { type: late, source: 's' } } } }
  - both:
      fork:
        compete: true
        branches:
          - left: { wait: { seconds: 5 } }
          - right: { do: [ { in: { set: { a: 1 } } } ] }
  - done: { for: { each: x, in: '${ .list }' }, do: [ { once: { raise: { error: broken } } } ] }
use: { errors: { broken: { type: 'https://example.com/broken', status: 500 } } }
"#;

fn example() -> Workflow {
    Workflow::parse("draw.yaml", EXAMPLE).expect("a good document")
}

#[test]
fn a_flowchart_names_every_task_and_every_way() {
    let text = mermaid(example().definition(), None);
    for name in ["look", "which", "warm", "cool", "ask", "tell", "both", "left", "right", "in", "done", "once"] {
        assert!(text.contains(&format!("<b>{name}</b>")), "{name} is missing in\n{text}");
    }
    // look -> which -> cool by its case, and to the end by two others.
    assert!(text.contains("start --> t1\n"), "{text}");
    assert!(text.contains("t2 -->|\"hot: .value #gt; 90\"| t4\n"), "{text}");
    assert!(text.contains("t2 -->|\"cold: .value #lt; 10\"| finish\n"), "{text}");
    assert!(text.contains("t2 -->|\"fine: otherwise\"| finish\n"), "{text}");
    assert!(text.contains("[\"catch timeout\"]"), "{text}");
    assert_eq!(text.matches("subgraph").count(), text.lines().filter(|line| line.trim() == "end").count(), "{text}");
}

#[test]
fn the_way_of_a_run_lies_over_the_drawing() {
    let mut path = Path::default();
    path.visit("/do/0/look", Seen::Completed);
    path.visit("/do/1/which", Seen::Completed);
    path.visit("/do/3/cool", Seen::Waiting);
    path.passages.insert(("/do/0/look".to_owned(), "/do/1/which".to_owned()));
    path.passages.insert(("/do/1/which".to_owned(), "/do/3/cool".to_owned()));
    let workflow = example();
    let chart = mermaid(workflow.definition(), Some(&path));
    assert!(chart.contains("class t1,t2 completed") && chart.contains("class t4 waiting"), "{chart}");
    let picture = svg(workflow.definition(), Some(&path), Style::Embedded);
    assert!(picture.contains("class=\"box try waiting\""), "{picture}");
    // start -> look -> which -> cool.
    assert_eq!(picture.matches("<path class=\"way taken\"").count(), 3, "{picture}");
    assert!(!picture.contains("<style>"));
}

#[test]
fn a_picture_is_well_formed_and_its_boxes_do_not_overlap() {
    let picture = svg(example().definition(), None, Style::Standalone);
    let rects: Vec<[i32; 4]> = picture
        .split("<rect x=\"")
        .skip(1)
        .map(|rest| {
            let mut numbers = rest.split('"').step_by(2).map(|text| text.parse().expect("a number"));
            std::array::from_fn(|_| numbers.next().expect("four numbers"))
        })
        .collect();
    assert_eq!(rects.len(), 12, "a rectangle a task");
    let contains = |[x, y, w, h]: [i32; 4], [a, b, c, d]: [i32; 4]| x < a && y < b && x + w > a + c && y + h > b + d;
    let apart = |[x, y, w, h]: [i32; 4], [a, b, c, d]: [i32; 4]| x + w <= a || a + c <= x || y + h <= b || b + d <= y;
    for (index, one) in rects.iter().enumerate() {
        for other in &rects[index + 1..] {
            assert!(contains(*one, *other) || contains(*other, *one) || apart(*one, *other), "{one:?} and {other:?}");
        }
    }
    for tag in ["g", "text", "title", "svg", "style"] {
        let opened = picture.matches(&format!("<{tag}>")).count() + picture.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, picture.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
}
