//! What is told of a run afterwards.

use shared::workflow::draw::Seen;

use super::*;

#[test]
fn the_path_of_a_run_names_what_it_entered_and_how_it_went_on() {
    let text = "do: [{ which: { switch: [{ far: { when: .n > 1, then: 'the/last' } }] } }, { near: { set: { x: 1 } } }, \
        { 'the/last': { for: { in: '${ [1, 2] }' }, do: [{ one: { if: '$item == 1', set: { y: 1 } } }, { two: { wait: PT1S } }] } }]";
    let mut run = Driven::start(text, json!({"n": 2}));
    let seen = |run: &Driven| {
        let path = history::path(&run.records);
        let told = path.tasks.iter().map(|(task, (seen, visits))| format!("{task} {} {visits}", seen.word()));
        (told.collect::<Vec<_>>(), path.passages.into_iter().collect::<Vec<_>>())
    };
    let (tasks, passages) = seen(&run);
    assert_eq!(
        tasks,
        [
            "/do/0/which completed 1",
            "/do/2/the~1last running 1",
            "/do/2/the~1last/do/0/one completed 1",
            "/do/2/the~1last/do/1/two waiting 1"
        ]
    );
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let inner = pair("/do/2/the~1last/do/0/one", "/do/2/the~1last/do/1/two");
    assert_eq!(passages, [pair("/do/0/which", "/do/2/the~1last"), inner]);
    run.after(1_000);
    run.after(1_000);
    let (tasks, _) = seen(&run);
    // Of two visits the one that says most: it was skipped the second time.
    assert_eq!(tasks[2..], ["/do/2/the~1last/do/0/one completed 2", "/do/2/the~1last/do/1/two completed 2"]);
    assert!(Seen::Completed > Seen::Skipped);
    assert_eq!(history::tasks(&run.records)[1].place, "/do/2/the~1last", "as the run's retry is told");
}
