//! The models on this node: what they do now, how fast they are, what they hold.

use maud::{Markup, html};
use shared::look::words;

use super::parts;
use crate::api::live::{Live, Model, Serving};

pub(super) fn table(live: &Live) -> Markup {
    let models = || live.targets.iter().filter_map(|target| Some((target, target.model.as_ref()?)));
    html! {
        div.scroll { table.rows {
            thead { tr {
                th { "Model" } th { "Now" } th.n { "Prompt" } th.n { "Answer" } th.n { "First text" } th.n { "Memory" } th.n { "Answers" }
            } }
            tbody { @for (target, model) in models() { tr {
                td { (target.name) }
                td { (now(model)) }
                td.n { (speed(model.prompt_tokens_per_second)) }
                td.n { (speed(model.answer_tokens_per_second)) }
                td.n { @match model.first_text_seconds { Some(seconds) => { (words::number(seconds)) " " span.faint { "s" } }, None => "–" } }
                td.n { @if model.loaded && model.model_bytes > 0 { (megabytes(model.model_bytes + model.kept_bytes)) } @else { "–" } }
                td.n { (words::count(model.answers as f64))
                    @if model.turned_away > 0 { " " (parts::pill("wait", &format!("{} turned away", model.turned_away))) } }
            } } }
        } }
        p.empty { (room(&live.serving)) }
    }
}

fn now(model: &Model) -> Markup {
    let state = match (model.writing, model.loaded) {
        (0, false) => ("", "not loaded".to_owned()),
        (0, true) => ("good", "ready".to_owned()),
        (1, _) => ("good", "writes an answer".to_owned()),
        (several, _) => ("good", format!("writes {several} answers")),
    };
    html! {
        (parts::pill(state.0, &state.1))
        @if model.waiting > 0 { " " (parts::pill("wait", &format!("{} waiting", model.waiting))) }
    }
}

fn speed(tokens: Option<f64>) -> Markup {
    html! { @match tokens { Some(tokens) => { (words::number(tokens)) " " span.faint { "tokens/s" } }, None => "–" } }
}

fn megabytes(bytes: u64) -> Markup {
    html! { (words::count(bytes.div_ceil(1 << 20) as f64)) " " span.faint { "MB" } }
}

fn room(serving: &Serving) -> Markup {
    html! {
        "Keys and values have " (megabytes(serving.cache_bytes)) " of " (megabytes(serving.cache_bytes_max)) "."
        @if let Some(degrees) = serving.temperature { " The machine has " (words::number(degrees)) " °C." }
    }
}
