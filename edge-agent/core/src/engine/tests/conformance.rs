//! The scenarios of the conformance kit that need no service; the others are for the tests over a node's rooms.

use super::{
    kit::{Played, Scenario, scenarios},
    *,
};

fn play(scenario: &Scenario) -> Played {
    let run = Driven::start(scenario.definition(), scenario.input());
    let outcome = match run.state.phase() {
        Phase::Ended { output: Some(output), .. } => Ok(Value::clone(output)),
        Phase::Ended { error: Some(error), .. } => Err(error.to_value()),
        phase => Err(json!(format!("{phase:?}"))),
    };
    let tasks = history::tasks(&run.records).into_iter().map(|view| view.name).collect();
    Played { tasks, outcome }
}

#[test]
fn the_scenarios_that_need_no_service_hold() {
    let Some(scenarios) = scenarios() else { return };
    let needs_service = |scenario: &&Scenario| {
        let definition = scenario.definition();
        definition.contains("call: http") || definition.contains("call: openapi")
    };
    let own: Vec<_> = scenarios.iter().filter(|scenario| !needs_service(scenario)).collect();
    let broken: Vec<String> = own.iter().filter_map(|scenario| scenario.judge(&play(scenario)).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    assert!(own.len() >= 11, "only {} scenarios were found", own.len());
}
