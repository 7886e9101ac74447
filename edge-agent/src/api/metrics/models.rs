//! The figures of the models on this node.

use super::{family, line};
use crate::api::live::{Encoder, Live, Model};

/// A figure of one model; `None` while nothing was measured.
type Gauge = fn(&Model) -> Option<f64>;

const GAUGES: [(&str, &str, Gauge); 6] = [
    ("waiting", "Requests in the queue before the model.", |model| Some(model.waiting as f64)),
    ("writing", "Answers that are being written.", |model| Some(model.writing as f64)),
    ("loaded", "Whether the model is in memory.", |model| Some(f64::from(u8::from(model.loaded)))),
    ("prompt_tokens_per_second", "Tokens of prompts read a second, a mean over the last answers.", |model| {
        model.prompt_tokens_per_second
    }),
    ("answer_tokens_per_second", "Tokens of an answer written a second, a mean over the last answers.", |model| {
        model.answer_tokens_per_second
    }),
    (
        "first_text_seconds",
        "From the beginning of an answer to its first text, a mean over the last answers.",
        |model| model.first_text_seconds,
    ),
];

/// A figure with one line for each of its parts.
type Parts = fn(&Model) -> Vec<(&'static str, u64)>;

const PARTS: [(&str, &str, &str, Parts); 2] = [
    ("memory_bytes", "gauge", "Memory that the model has.", |model| {
        vec![("model", model.model_bytes), ("keys_and_values", model.kept_bytes)]
    }),
    (
        "tokens_total",
        "counter",
        "Tokens of prompts, of them those that were known from before, and of answers.",
        |model| vec![("prompt", model.prompt_tokens), ("reused", model.reused_tokens), ("answer", model.answer_tokens)],
    ),
];

/// A figure of a small model; `None` while nothing was measured.
type OfEncoder = fn(&Encoder) -> Option<f64>;

const ENCODERS: [(&str, &str, &str, OfEncoder); 5] = [
    ("waiting", "gauge", "Requests for the model in the queue before all small ones.", |own| Some(own.waiting as f64)),
    ("loaded", "gauge", "Whether the model is in memory.", |own| Some(f64::from(u8::from(own.loaded)))),
    ("tokens_per_second", "gauge", "Tokens of texts read a second, about, a mean over the last ones.", |own| {
        own.tokens_per_second
    }),
    ("texts_total", "counter", "Texts that the model has read.", |own| Some(own.texts as f64)),
    (
        "turned_away_total",
        "counter",
        "Requests without a place in the queue, or told at once that it would be too late.",
        |own| Some(own.turned_away as f64),
    ),
];

pub(super) fn tell(out: &mut String, live: &Live) {
    let models = || live.targets.iter().filter_map(|target| Some((target.name.as_str(), target.model.as_ref()?)));
    for (name, help, of) in GAUGES {
        let name = format!("skerry_model_{name}");
        family(out, &name, "gauge", help);
        for (target, value) in models().filter_map(|(target, model)| Some((target, of(model)?))) {
            line(out, &name, &[("target", target)], value);
        }
    }
    for (name, kind, help, of) in PARTS {
        let name = format!("skerry_model_{name}");
        family(out, &name, kind, help);
        for (target, model) in models() {
            for (part, value) in of(model) {
                line(out, &name, &[("target", target), ("of", part)], value as f64);
            }
        }
    }
    for (name, help, of) in [
        ("answers", "Answers that the model has written.", (|model| model.answers) as fn(&Model) -> u64),
        ("turned_away", "Requests without a place in the queue, or told at once that it would be too late.", |model| {
            model.turned_away
        }),
    ] {
        let name = format!("skerry_model_{name}_total");
        family(out, &name, "counter", help);
        for (target, model) in models() {
            line(out, &name, &[("target", target)], of(model) as f64);
        }
    }
    for (name, kind, help, of) in ENCODERS {
        let name = format!("skerry_encoder_{name}");
        family(out, &name, kind, help);
        for (encoder, value) in live.encoders.iter().filter_map(|encoder| Some((encoder, of(encoder)?))) {
            line(out, &name, &[("model", &encoder.name), ("does", &encoder.does)], value);
        }
    }
    let (bytes, most) = (live.serving.cache_bytes as f64, live.serving.cache_bytes_max as f64);
    family(out, "skerry_keys_and_values_bytes", "gauge", "Keys and values of all models.");
    line(out, "skerry_keys_and_values_bytes", &[], bytes);
    family(out, "skerry_keys_and_values_bytes_max", "gauge", "The most that keys and values may have.");
    line(out, "skerry_keys_and_values_bytes_max", &[], most);
    if let Some(degrees) = live.serving.temperature {
        family(
            out,
            "skerry_temperature_celsius",
            "gauge",
            "The warmest place of the machine that the kernel tells of.",
        );
        line(out, "skerry_temperature_celsius", &[], degrees);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::live::Target;

    pub fn target() -> Target {
        let model = Model {
            waiting: 2,
            kept_bytes: 64,
            prompt_tokens: 300,
            answer_tokens_per_second: Some(12.5),
            ..Model::default()
        };
        let (name, kind) = ("local/a".to_owned(), "gguf".to_owned());
        Target { name, kind, jurisdiction: None, reachable: true, model: Some(model) }
    }

    #[test]
    fn what_was_never_measured_has_no_line() {
        let mut out = String::new();
        let serving = crate::api::live::Serving::default();
        let (name, does) = ("table".to_owned(), "embeds".to_owned());
        let encoders = vec![Encoder { name, does, waiting: 3, ..Encoder::default() }];
        let live = Live { targets: vec![target()], encoders, serving, ..super::super::tests::live() };
        tell(&mut out, &live);
        assert!(out.contains("skerry_encoder_waiting{model=\"table\",does=\"embeds\"} 3\n"), "{out}");
        assert!(!out.contains("skerry_encoder_tokens_per_second{"), "{out}");
        assert!(!out.contains("skerry_model_first_text_seconds{") && !out.contains("celsius"), "{out}");
        assert!(out.contains("skerry_model_loaded{target=\"local/a\"} 0\n"), "{out}");
    }
}
