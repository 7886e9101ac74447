//! Whatever a workflow does and whenever the node is killed: what is folded from the records alone goes on as if nothing
//! had happened.

use proptest::prelude::*;

use super::*;

/// A task list of some depth, as JSON; `infer` is the effect that a script answers.
fn tasks(depth: u32) -> BoxedStrategy<Value> {
    let task = if depth == 0 { leaf().boxed() } else { prop_oneof![3 => leaf(), 2 => composite(depth)].boxed() };
    proptest::collection::vec(task, 1..4)
        .prop_map(|tasks| tasks.into_iter().enumerate().map(|(n, task)| json!({ format!("t{n}"): task })).collect())
        .boxed()
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (0..100_u32).prop_map(|n| json!({"set": {"n": format!("${{ (.n? // 0) + {n} }}")}})),
        4 => (0..100_u32).prop_map(|n| json!({"call": "infer", "with": {"prompt": format!("${{ \"{n}-\\(.n? // 0)\" }}")},
            "export": {"as": "${ $context + { last: . } }"}})),
        1 => (0..3_u32).prop_map(|n| json!({"wait": {"seconds": n}})),
        1 => Just(json!({"if": "(.n? // 0) % 3 == 1", "raise": {"error": {"type": "https://e/raised", "status": 418}}})),
        1 => Just(json!({"emit": {"event": {"with": {"type": "t", "data": "${ .n? }"}}}})),
        1 => Just(json!({"if": "(.n? // 0) % 2 == 0", "set": {"n": 1}, "then": "exit"})),
        1 => Just(json!({"call": "infer", "with": {"prompt": "slow"}, "timeout": {"after": {"seconds": 2}}})),
        1 => Just(json!({"listen": {"to": {"any": [], "until": "length == 2"}}})),
        1 => Just(json!({"listen": {"to": {"one": {"with": {"type": "t", "data": "${ . % 2 == 0 }"}}}}, "foreach": {
            "do": [{"f": {"call": "infer", "with": {"prompt": "${ $item }"}}}], "export": {"as": "${ $context + { heard: $item } }"}}})),
    ]
}

fn composite(depth: u32) -> impl Strategy<Value = Value> {
    let inner = tasks(depth - 1);
    prop_oneof![
        inner.clone().prop_map(|list| json!({ "do": list })),
        (inner.clone(), 0..4_usize).prop_map(|(list, n)| json!({"for": {"in": format!("${{ [range({n})] }}")}, "do": list})),
        (inner.clone(), tasks(depth - 1)).prop_map(|(list, handle)| json!({"try": list, "catch": {"do": handle}})),
        (inner.clone(), 0..3_u32).prop_map(|(list, n)| json!({"try": list, "catch": {"retry": {"delay": "PT1S",
            "backoff": {"exponential": {}}, "jitter": {"from": "PT0S", "to": "PT1S"}, "limit": {"attempt": {"count": n}}}}})),
        (inner, any::<bool>()).prop_map(|(list, compete)| json!({"fork": {"branches": list, "compete": compete}})),
    ]
}

/// What one answer to an effect is: well, badly, or not before the next time that something is due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Say {
    Well,
    Badly,
    Nothing,
}

fn script() -> impl Strategy<Value = Vec<Say>> {
    let say = prop_oneof![4 => Just(Say::Well), 2 => Just(Say::Badly), 1 => Just(Say::Nothing)];
    proptest::collection::vec(say, 1..12)
}

/// Runs to the end; with `killed` the state is thrown away before every command and folded from the serialised records.
fn run(workflow: &Arc<Workflow>, script: &[Say], killed: bool) -> (Vec<Record>, Vec<Effect>) {
    let mut now = Timestamp::from_micros(T0);
    let id = RunId::derive(now, b"restart");
    let mut state = State::new(id, Arc::clone(workflow));
    let (mut records, mut effects, mut said) = (Vec::new(), Vec::new(), 0);
    let mut heard = 0;
    let mut command = Command::Start { input: json!({"n": 0}).into(), label: Label::default() };
    for _ in 0..400 {
        if killed {
            let journal = serde_json::to_string(&records).expect("records are plain data");
            let read: Vec<Record> = serde_json::from_str(&journal).expect("they read as they were written");
            assert_eq!(read, records);
            state = State::new(id, Arc::clone(workflow));
            read.iter().for_each(|record| state.apply(record));
        }
        let step = decide(&state, command, now).expect("the command fits");
        step.records.iter().for_each(|record| state.apply(record));
        records.extend(step.records);
        effects.extend(step.effects);
        if matches!(state.phase(), Phase::Ended { .. }) {
            return (records, effects);
        }
        let asked = state.asked().next().map(|(ask, _)| ask);
        let say = if asked.is_some() { script[said % script.len()] } else { Say::Nothing };
        said += usize::from(asked.is_some());
        command = match (step.more, asked, say, state.wake_at()) {
            (true, ..) => Command::Continue,
            (_, Some(ask), Say::Badly, _) => Command::Fail {
                ask,
                error: effect::Error::new(kind::COMMUNICATION, "on purpose"),
                label: Label::default(),
            },
            (_, Some(ask), Say::Nothing, None) | (_, Some(ask), Say::Well, _) => {
                Command::Complete { ask, output: json!({"n": said}), label: Label::default() }
            }
            (_, None, ..) if state.is_listening() => {
                heard += 1;
                let event = shared::event::Event::new(heard.to_string(), "here", "t", json!(heard));
                Command::Hear { event: event.into(), label: Label::default() }
            }
            (_, _, _, Some(at)) => {
                now = now.max(at);
                Command::Wake
            }
            (_, None, ..) => panic!("the run waits for nothing and has not ended"),
        };
    }
    // A script that fails for ever against a policy that tries for ever; what happened so far is compared all the same.
    (records, effects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn killed_at_every_step_it_goes_the_same_way(list in tasks(3), script in script()) {
        let text = json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "any", "version": "1.0.0"}, "do": list,
            "use": {"extensions": [{"around": {"extend": "set", "when": "(.n? // 0) % 5 == 1",
                "before": [{"b": {"call": "infer", "with": {"prompt": "before"}}}], "after": [{"a": {"wait": {"seconds": 1}}}]}}]}});
        let workflow = Arc::new(Workflow::parse("any.yaml", &text.to_string()).unwrap_or_else(|p| panic!("{p}\n{text}")));
        let whole = run(&workflow, &script, false);
        prop_assert_eq!(&whole, &run(&workflow, &script, true));
        // No asking is made twice, and what was withdrawn or answered is answered once.
        let asks: Vec<_> = whole.0.iter().filter_map(|r| match r { Record::Asked { ask, .. } => Some(*ask), _ => None }).collect();
        let unique: std::collections::BTreeSet<_> = asks.iter().collect();
        prop_assert_eq!(asks.len(), unique.len());
    }

    #[test]
    fn the_history_of_an_ended_run_leaves_no_task_open(list in tasks(2), script in script()) {
        let text = json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "any", "version": "1.0.0"}, "do": list});
        let workflow = Arc::new(Workflow::parse("any.yaml", &text.to_string()).unwrap_or_else(|p| panic!("{p}\n{text}")));
        let (records, _) = run(&workflow, &script, false);
        prop_assume!(matches!(records.last(), Some(Record::Ended { .. })));
        let views = history::tasks(&records);
        let open: Vec<_> = views.iter().filter(|view| view.ended_at.is_none()).collect();
        prop_assert!(open.is_empty(), "{open:?}");
        let mut places: Vec<_> = views.iter().map(|view| (&view.place, view.started_at)).collect();
        places.sort();
        prop_assert_eq!(views.len(), records.iter().filter(|r| matches!(r, Record::TaskStarted { .. })).count());
    }
}
