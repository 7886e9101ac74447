//! Starts by the clock, over days and nights with power cuts and a wall clock that is set to and fro.

use std::cell::RefCell;

use shared::time::Timestamp;

use super::{
    simulated::{End, World},
    *,
};
use crate::store::tests::{chance::Chance, disk::Unsynced};

const NIGHTLY: &str = "
schedule: { cron: '0 2 * * *' }
do: [{ done: { set: { done: true } } }]
";

const HOURLY: &str = "
schedule: { every: PT1H }
do: [{ done: { set: { done: true } } }]
";

const HOUR: Duration = Duration::from_secs(3_600);
const YEAR_US: i64 = 365 * 24 * 3_600 * 1_000_000;

fn world(seed: u64) -> World {
    let mut world = World::new(&World::empty(), &[workflow(0, NIGHTLY), workflow(1, HOURLY)], 0, seed);
    world.look_every = Duration::from_secs(300);
    world
}

/// The starts so far by what the ledger says: those of the first workflow, or of the second.
fn starts(world: &World, nightly: bool) -> Vec<String> {
    let triggers = &world.left.as_ref().expect("all was done").triggers;
    assert!(triggers.values().all(|times| *times == 1), "each start was made once: {triggers:?}");
    let name = workflow(usize::from(!nightly), NIGHTLY).definition().qualified_name();
    let of_it = triggers.keys().filter(|(workflow, _)| *workflow == name);
    of_it.filter_map(|(_, trigger)| trigger.strip_prefix("schedule ")).map(str::to_owned).collect()
}

#[test]
fn a_start_missed_in_the_night_is_made_once_the_clock_is_set_right() {
    // The world begins at 08:00 on the 21st.
    let mut world = world(1);
    world.until = 10 * HOUR;
    assert_eq!(world.live(|_| ()), End::Done);
    assert!(starts(&world, true).is_empty());
    world.time.skip(12 * HOUR);
    world.time.set_wrong_by(-56 * YEAR_US);
    world.until = 23 * HOUR;
    assert_eq!(world.live(|_| ()), End::Done);
    assert!(starts(&world, true).is_empty(), "in 1970 nobody knows the hour");
    world.until = 24 * HOUR;
    assert_eq!(world.live(|world| world.time.set_wrong_by(0)), End::Done);
    assert_eq!(starts(&world, true), ["2026-11-22T02:00:00Z"]);
    world.until = 48 * HOUR;
    assert_eq!(world.live(|_| ()), End::Done);
    assert_eq!(starts(&world, true), ["2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z"]);
}

#[test]
fn a_workflow_that_came_while_the_clock_was_wrong_waits_for_its_hour() {
    let mut world = world(2);
    world.time.set_wrong_by(-56 * YEAR_US);
    world.until = HOUR;
    assert_eq!(world.live(|_| ()), End::Done);
    // Set right while the node is on.
    world.until = 17 * HOUR;
    assert_eq!(world.live(|world| world.time.set_wrong_by(0)), End::Done);
    assert!(starts(&world, true).is_empty(), "it is one o'clock");
    world.until = 19 * HOUR;
    assert_eq!(world.live(|_| ()), End::Done);
    assert_eq!(starts(&world, true), ["2026-11-22T02:00:00Z"]);
    assert!(starts(&world, false).len() >= 17, "hours pass, whatever the clock says");
}

#[test]
fn whatever_is_done_to_the_clock_no_start_is_made_twice_or_out_of_its_hour() {
    for seed in 0..12 {
        let mut chance = Chance::new(seed);
        let mut world = world(seed);
        let jumps = RefCell::new(Chance::new(chance.next()));
        let years = [-56, -10, 10];
        let meanwhile = |world: &World| {
            let mut jumps = jumps.borrow_mut();
            if jumps.one_in(30) {
                world.time.set_wrong_by(match jumps.below(6) {
                    year @ 0..3 => years[usize::try_from(year).unwrap()] * YEAR_US,
                    3 => -3_600_000_000,
                    4 => 3_600_000_000,
                    _ => 0,
                });
            }
        };
        for day in 1..5 {
            world.until = 24 * HOUR * day;
            world.disk.cut_after(1 + chance.below(4_000));
            if world.live(meanwhile) == End::Cut {
                world.restart(if chance.one_in(2) { Unsynced::Lost } else { Unsynced::Kept });
            }
        }
        world.restart(Unsynced::Kept);
        // Two nights with a clock that is right.
        world.time.set_wrong_by(0);
        world.until = world.time.passed().max(96 * HOUR) + 48 * HOUR;
        assert_eq!(world.live(|_| ()), End::Done, "seed {seed}");
        let nights = starts(&world, true);
        let now = world.time.passed().as_secs() / 3_600 + 8;
        let last_night = format!("2026-11-{}T02:00:00Z", 21 + (now - 2) / 24);
        assert!(nights.contains(&last_night), "seed {seed}: {last_night} is not among {nights:?}");
        let is_night = |night: &String| night.as_str() > "2026-11-21" && night.ends_with("T02:00:00Z");
        assert!(nights.iter().all(is_night), "seed {seed}: {nights:?}");
        let micros = |at: String| at.parse::<Timestamp>().unwrap().as_micros();
        let hours: Vec<i64> = starts(&world, false).into_iter().map(micros).collect();
        assert!(hours.len() >= 48, "seed {seed}");
        assert!(hours.windows(2).all(|two| two[1] - two[0] >= 3_600_000_000), "seed {seed}");
    }
}
