//! The kill sweep: the power goes at every single write and sync of a node at work, and what was not synced is lost, kept
//! or torn. Whatever happened, the runs end as they end undisturbed, nothing is recorded twice, and who honours keys
//! sees each effect once.
//!
//! `SKERRY_CUTS` says how many cuts are made (2,000 if it is not set; 10,000 and more for the patient), `SKERRY_CUT` makes
//! one alone again, by the number that a failure tells.

use super::{
    simulated::{End, Left, World},
    *,
};
use crate::store::tests::disk::{Disk, Unsynced};

/// One of each task, with outcomes that do not depend on what comes first.
const EACH_KIND: &str = r"
schedule: { 'on': { one: { with: { type: go } } } }
use:
  functions:
    tell: { call: http, with: { method: post, endpoint: 'http://honours-keys/', body: '${ .n }' } }
do:
- begin: { set: { n: 1, go: true } }
- choose: { switch: [{ yes: { when: .go, then: each } }, { no: { then: exit } }] }
- each:
    for: { each: i, in: '${ [1, 2] }' }
    do: [{ post: { call: http, with: { method: post, endpoint: 'http://honours-keys/', body: '${ $i }' } } }]
- keep: { set: { n: 2 } }
- both:
    fork:
      branches:
      - left: { call: publish, with: { topic: left, payload: 1 } }
      - right: { do: [{ rest: { wait: PT2S } }, { tell: { call: tell, with: { n: 3 } } }] }
- race:
    fork:
      compete: true
      branches:
      - slow: { wait: PT1H }
      - quick: { set: { won: true } }
- stubborn:
    try: [{ embed: { call: embed, with: { text: t } } }]
    catch: { retry: { delay: PT1S, limit: { attempt: { count: 5 } } } }
- hopeless:
    try: [{ never: { call: embed, with: { text: never } } }]
    catch: { as: error, do: [{ note: { set: { status: '${ $error.status }' } } }] }
- late:
    try: [{ hang: { call: grpc, with: { proto: { endpoint: 'http://h/p.proto' }, service: { name: s, host: h }, method: m }, timeout: { after: PT3S } } }]
    catch: { errors: { with: { status: 408 } }, do: [{ so: { set: { late: true } } }] }
- thrown:
    try: [{ throw: { raise: { error: { type: 'https://example.com/odd', status: 418 } } } }]
    catch: { do: [{ caught: { set: { caught: true } } }] }
- park: { call: infer, with: { prompt: p } }
- shell: { run: { shell: { command: 'date' } } }
- script: { run: { script: { language: python, code: 'print(1)' } } }
- inbox:
    call: asyncapi
    with:
      document: { endpoint: 'http://h/a.json' }
      operation: o
      subscription: { consume: { amount: 2 }, foreach: { do: [{ post: { call: http, with: { method: post, endpoint: 'http://honours-keys/', body: '${ $item }' } } }] } }
- scout: { call: agent, with: { name: scout, goal: g, tools: [{ function: publish, with: { topic: t } }] } }
- ask: { call: approve, with: { role: lead, title: 'Stop it?', proposal: { stop: 1 } } }
- say: { emit: { event: { with: { type: said, data: { x: 1 } } } } }
- child: { run: { workflow: { namespace: test, name: w2, version: '0.1.0', input: { n: 1 } } } }
- done: { set: { done: true } }
";

/// What the event of the first one starts.
const LISTENER: &str = "
schedule: { 'on': { one: { with: { type: said } } } }
do: [{ heard: { call: publish, with: { topic: heard, payload: 1 } } }]
";

/// What the first one runs and waits for; it emits what it listens for itself.
const CHILD: &str = "
do:
- both:
    fork:
      branches:
      - ear: { listen: { to: { one: { with: { type: called } } } } }
      - mouth: { do: [{ rest: { wait: PT1S } }, { say: { emit: { event: { with: { type: called, data: { x: 1 } } } } } }] }
- done: { set: { done: true } }
";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok())
}

fn undisturbed(disk: &Disk, workflows: &[Arc<Workflow>]) -> (u64, Left) {
    let mut world = World::new(disk, workflows, 1, 0);
    assert_eq!(world.live(|_| ()), End::Done);
    let left = world.left.take().expect("all was done");
    assert!(left.runs.values().all(|(status, _)| status == "completed"), "{left:?}");
    assert_eq!(left.runs.len(), 3);
    assert!(world.outside.made.lock().unwrap().values().all(|times| *times == 1));
    (world.disk.operations(), left)
}

fn cut(disk: &Disk, workflows: &[Arc<Workflow>], (operations, whole): (u64, &Left), number: u64) {
    let mut world = World::new(disk, workflows, 1, 0);
    world.disk.cut_after(1 + number % operations);
    let unsynced = match (number / operations + number % operations) % 3 {
        0 => Unsynced::Lost,
        1 => Unsynced::Kept,
        _ => Unsynced::Torn(number),
    };
    assert_eq!(world.live(|_| ()), End::Cut);
    world.restart(unsynced);
    assert_eq!(world.live(|_| ()), End::Done);
    world.left.as_ref().expect("all was done").assert_like(whole);
    let made = world.outside.made.lock().unwrap();
    assert!(made.values().all(|times| *times <= 2), "one that honours no key sees at most one repeat: {made:?}");
}

#[test]
fn whenever_the_power_goes_every_run_ends_as_it_would_have() {
    let workflows = [workflow(0, EACH_KIND), workflow(1, LISTENER), workflow(2, CHILD)];
    let disk = World::empty();
    let (operations, whole) = undisturbed(&disk, &workflows);
    if let Some(only) = number("SKERRY_CUT") {
        return cut(&disk, &workflows, (operations, &whole), only);
    }
    let cuts = number("SKERRY_CUTS").unwrap_or(2_000).max(operations);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (disk, workflows, whole) = (&disk, &workflows, &whole);
            scope.spawn(move || {
                for number in (thread..cuts).step_by(usize::try_from(threads).unwrap()) {
                    let one = || cut(disk, workflows, (operations, whole), number);
                    if let Err(cause) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)) {
                        eprintln!("cut {number} of {cuts} went wrong; once more: SKERRY_CUT={number}");
                        std::panic::resume_unwind(cause);
                    }
                }
            });
        }
    });
    println!("{cuts} cuts over {operations} writes and syncs");
}

#[test]
fn a_step_of_a_run_is_one_sync() {
    let syncs = |turns: usize| {
        let calls = format!(
            "schedule: {{ 'on': {{ one: {{ with: {{ type: go }} }} }} }}
do:
- each:
    for: {{ each: i, in: '${{ [range({turns})] }}' }}
    do: [{{ post: {{ call: http, with: {{ method: post, endpoint: 'http://honours-keys/', body: 1 }} }} }}]"
        );
        let mut world = World::new(&World::empty(), &[workflow(0, &calls)], 1, 0);
        world.checkpoint_pages = 100_000;
        assert_eq!(world.live(|_| ()), End::Done);
        assert_eq!(world.outside.made.lock().unwrap().len(), turns);
        world.disk.syncs()
    };
    assert_eq!(syncs(150) - syncs(50), 100, "the outcome of a call and the asking of the next are one");
}
