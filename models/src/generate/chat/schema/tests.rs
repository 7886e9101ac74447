//! Every supported keyword of JSON Schema against random weights: `reference/schemas.json` has the schemas, a validator of its own says
//! what fits.

use std::ops::ControlFlow;

use serde_json::Value;

use crate::generate::{
    Answer, Finish, Generator, Request,
    chat::{
        Chat,
        template::Template,
        tests::{path, warm},
    },
};

#[derive(serde::Deserialize)]
struct Schemas {
    held: Vec<Value>,
    /// With what the error says.
    refused: Vec<(Value, String)>,
}

fn schemas() -> Schemas {
    serde_json::from_str(include_str!("../../../../reference/schemas.json")).unwrap()
}

fn chat(name: &str) -> Chat {
    let mut chat = Chat::load(&path(name)).unwrap();
    // The schema alone would fill most of the tiny models' 256 tokens.
    chat.template = Template::new(Some("{{ messages[0].content[:60] }}"), "", "").unwrap();
    chat.decoder.set_context(1024);
    chat
}

/// What is wrong with an answer.
fn fault(validator: &jsonschema::Validator, answer: &Answer) -> Option<String> {
    match serde_json::from_str::<Value>(&answer.text) {
        Ok(value) => validator.iter_errors(&value).next().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn an_answer_fits_its_schema_whatever_the_weights_say() {
    let schemas = schemas().held;
    let (mut answers, mut cut, mut faults) = (0, 0, Vec::new());
    for name in ["tiny-llama2", "tiny-qwen3"] {
        let chat = chat(name);
        for (at, schema) in schemas.iter().enumerate() {
            let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
            for (seed, max_tokens) in [(1, 0), (2, 9), (3, 90), (4, 250)] {
                let request = Request { sampling: warm(), seed, max_tokens, ..Request::ask("Why?") };
                let request = Request { schema: Some(schema.clone()), ..request };
                let mut streamed = String::new();
                let answer = chat.generate(&request, &mut |text| {
                    streamed.push_str(text);
                    ControlFlow::Continue(())
                });
                let fault =
                    answer.as_ref().map_or_else(|error| Some(error.to_string()), |answer| fault(&validator, answer));
                if let Some(fault) = fault {
                    let text = answer.map(|answer| answer.text).unwrap_or_default();
                    faults.push(format!("{name}, schema {at}, seed {seed}: {schema}: {fault}: {text}"));
                    continue;
                }
                let answer = answer.unwrap();
                assert_eq!(answer.text, streamed);
                answers += 1;
                cut += usize::from(answer.finish == Finish::Length);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{answers} answers to {} schemas, {cut} of them brought to an end early: all fit", schemas.len());
}

#[test]
fn a_schema_that_cannot_be_held_is_refused_by_keyword_and_place() {
    let chat = chat("tiny-qwen3");
    let mut others = Vec::new();
    for (schema, expected) in schemas().refused {
        let request = Request { schema: Some(schema.clone()), ..Request::ask("Why?") };
        let error = chat.generate(&request, &mut |_| panic!("nothing is written")).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        if !error.contains(&expected) {
            others.push(format!("{schema}\n gave {error:?}\n expected {expected:?}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn the_shortest_date_is_of_a_year_that_everybody_reads() {
    let chat = chat("tiny-llama2");
    for format in ["date", "date-time"] {
        let schema = serde_json::json!({"type": "string", "format": format});
        let request = Request { schema: Some(schema), max_tokens: 0, ..Request::ask("When?") };
        let text = chat.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap().text;
        assert!(!text.starts_with("\"0000"), "{text}");
    }
}
