//! `classify`: the label of the nearest labelled cases, or that of a classifier which the node has.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use edge_core::{
    admit::Priority,
    engine::effect::{Call, Completion, Failure, Keep},
};
use models::{
    classify::{Case, Cases},
    embed::Embedder,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{label::Label, policy::Permit};

use super::{
    EMBEDDER, Inner, Judges, Memory, TOP_K_MAX, broken,
    desk::{self, Asker, Model, Work, tokens},
    embed::desk_failure,
    hold,
    locks::read,
    text, wrong,
};

/// Labelled cases, embedded when first asked for.
pub(super) struct CaseSet {
    cases: Vec<Case>,
    label: Label,
    ready: OnceLock<Cases>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Classify {
    text: String,
    cases: Option<GivenCases>,
    k: Option<usize>,
    #[serde(default)]
    priority: Priority,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "the name of a set in cases/, or a list of {text, label}")]
enum GivenCases {
    Named(String),
    Inline(Vec<Case>),
}

impl Memory {
    /// Names the label of the nearest labelled cases, and shows them; without cases the label that the node's classifier gives, and how
    /// sure it is of each. What the cases demand joins the run's label.
    ///
    /// # Errors
    /// `validation` for wrong arguments, a set that the bundle does not have, or no cases where the node has no classifier; `runtime`
    /// when the model fails.
    pub async fn classify(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, &permit, EMBEDDER)?;
        let Classify { text: given, cases, k, priority } = call.arguments()?;
        let text = text(call, "text", given)?;
        let Some(cases) = cases else { return self.by_classifier(call, text, k, priority, keep).await };
        let k = k.unwrap_or(5);
        if !(1..=TOP_K_MAX).contains(&k) {
            return Err(wrong(call, "k", &format!("{k}; expected 1 to {TOP_K_MAX}")));
        }
        let set = self.cases(call, cases)?;
        let label = call.label.join(&set.label);
        let (began, asked) = (Instant::now(), text.clone());
        let classify = move |inner: &Inner, asker: &Asker<'_>| {
            let embedder = inner.embedder.as_ref();
            let work = Work { model: Model::Embedder, tokens: set.tokens(embedder, &asked), is_loaded: true };
            asker.begin(&work)?.with(embedder, |embedder| set.embedded(embedder)?.nearest(embedder, &asked, k))
        };
        let outcome = self.compute(call, priority, classify).await?;
        let outcome = outcome.map_err(|error| match error {
            desk::Error::Model(models::Error::Request { message }) => wrong(call, "cases", &message),
            error => desk_failure(call, &error),
        })?;
        // Policy was asked about the run's label; the answer is of the cases too, which may demand more.
        let keep = if label == call.label { keep } else { Keep::Digest };
        let fact = self.called(self.inner.embedder.name(), keep, &text, keep.content(&outcome.label), began.elapsed());
        let output = serde_json::to_value(outcome).expect("a classification is plain data");
        Ok(Completion { output, label, facts: vec![fact] })
    }

    fn cases(&self, call: &Call, given: GivenCases) -> Result<Arc<CaseSet>, Failure> {
        match given {
            // They came with the run, and so did their label.
            GivenCases::Inline(cases) => Ok(Arc::new(CaseSet::new(cases, call.label.clone()))),
            GivenCases::Named(name) => {
                let sets = read(&self.inner.cases);
                let known = || sets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let missing =
                    || wrong(call, "cases", &format!("{name:?} is not a set of this bundle; it has {}", known()));
                Ok(Arc::clone(sets.get(&name).ok_or_else(missing)?))
            }
        }
    }

    async fn by_classifier(
        &self,
        call: &Call,
        text: String,
        k: Option<usize>,
        priority: Priority,
        keep: Keep,
    ) -> Result<Completion, Failure> {
        let Some(classifier) = self.judges.classifier.clone() else {
            let expected = "missing; a node without [models.classifier] needs labelled cases to compare with";
            return Err(wrong(call, "cases", expected));
        };
        if k.is_some() {
            return Err(wrong(call, "k", "given without cases; expected both or neither"));
        }
        let (began, name) = (Instant::now(), classifier.name().to_owned());
        let asked = text.clone();
        let classify = move |_: &Inner, asker: &Asker<'_>| Judges::classify(asker, &classifier, &asked);
        let labels = self.compute(call, priority, classify).await?.map_err(|error| desk_failure(call, &error))?;
        let Some(best) = labels.first() else { return Err(broken(call, "the classifier has no label")) };
        let fact = self.called(&name, keep, &text, keep.content(&best.label), began.elapsed());
        let none: [Value; 0] = [];
        let output = json!({ "label": best.label, "score": best.score, "labels": labels, "neighbours": none });
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

impl CaseSet {
    pub(super) const fn new(cases: Vec<Case>, label: Label) -> Self {
        Self { cases, label, ready: OnceLock::new() }
    }

    /// What is to be read of a text, and of the cases where nobody asked for them yet.
    fn tokens(&self, embedder: &dyn Embedder, text: &str) -> u64 {
        let cases = if self.ready.get().is_some() { [].as_slice() } else { &self.cases };
        let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).chain([text]).collect();
        tokens(embedder, &texts)
    }

    fn embedded(&self, embedder: &dyn Embedder) -> Result<&Cases, models::Error> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        // Two calls at once may both embed; the first to end is kept.
        let cases = Cases::new(embedder, self.cases.clone())?;
        Ok(self.ready.get_or_init(|| cases))
    }
}
