//! The models on this node: what they do now, how fast they are, what they hold.

use maud::{Markup, html};
use shared::look::words;

use super::parts;
use crate::api::live::{Encoder, Live, Model, Serving};

/// Whether there is anything to show beside what every node has.
pub(super) fn are_used(live: &Live) -> bool {
    let of_chat = live
        .targets
        .iter()
        .any(|target| target.model.as_ref().is_some_and(|model| model.answers > 0 || target.kind == "gguf"));
    of_chat || are_asked(&live.encoders)
}

fn are_asked(encoders: &[Encoder]) -> bool {
    encoders.iter().any(|encoder| encoder.texts > 0 || encoder.waiting > 0)
}

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
                td.n { (words::count(model.answers as f64)) (turned_away(model.turned_away)) }
            } } }
        } }
        p.empty { (room(&live.serving)) }
        (encoders(&live.encoders))
    }
}

/// The small ones, where any was asked.
fn encoders(encoders: &[Encoder]) -> Markup {
    html! {
        @if are_asked(encoders) {
            div.scroll { table.rows {
                thead { tr { th { "Small model" } th { "Now" } th.n { "Reads" } th.n { "Texts" } } }
                tbody { @for encoder in encoders { tr {
                    td { (encoder.name) " " span.faint { (encoder.does) } }
                    td { @if encoder.loaded { (parts::pill("good", "ready")) } @else { (parts::pill("", "not loaded")) } (waiting(encoder.waiting)) }
                    td.n { (speed(encoder.tokens_per_second)) }
                    td.n { (words::count(encoder.texts as f64)) (turned_away(encoder.turned_away)) }
                } } }
            } }
        }
    }
}

fn waiting(count: usize) -> Markup {
    html! { @if count > 0 { " " (parts::pill("wait", &format!("{count} waiting"))) } }
}

fn turned_away(count: u64) -> Markup {
    html! { @if count > 0 { " " (parts::pill("wait", &format!("{count} turned away"))) } }
}

fn now(model: &Model) -> Markup {
    let state = match (model.writing, model.loaded) {
        (0, false) => ("", "not loaded".to_owned()),
        (0, true) => ("good", "ready".to_owned()),
        (1, _) => ("good", "writes an answer".to_owned()),
        (several, _) => ("good", format!("writes {several} answers")),
    };
    html! {
        (parts::pill(state.0, &state.1)) (waiting(model.waiting))
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
