//! Classification by the nearest labelled cases: no training, every answer shows the cases that it rests on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    embed::{Embedder, similarity},
};

/// A text with the label that a person gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub text: String,
    pub label: String,
}

/// A case near the text that was asked about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbour {
    pub text: String,
    pub label: String,
    /// Cosine, -1 to 1.
    pub similarity: f32,
}

/// The label of the nearest cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    pub label: String,
    /// The label's share of the neighbours' similarities, 0 to 1.
    pub score: f32,
    /// Nearest first.
    pub neighbours: Vec<Neighbour>,
}

/// Labelled cases with their vectors, so that many texts can be classified for one embedding of the cases.
pub struct Cases {
    cases: Vec<Case>,
    vectors: Vec<Vec<f32>>,
}

impl Cases {
    /// Embeds the cases.
    ///
    /// # Errors
    /// When there are none, or the embedder fails.
    pub fn new(embedder: &dyn Embedder, cases: Vec<Case>) -> Result<Self, Error> {
        if cases.is_empty() {
            return Err(Error::request("cannot classify without cases: expected at least one text with its label"));
        }
        let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
        let vectors = embedder.embed(&texts)?;
        Ok(Self { cases, vectors })
    }

    /// The label that weighs most among the `k` nearest cases, each weighing its similarity (none below zero).
    /// On a tie the label of the nearer case wins.
    ///
    /// # Errors
    /// When the embedder fails or `k` is 0.
    pub fn nearest(&self, embedder: &dyn Embedder, text: &str, k: usize) -> Result<Classification, Error> {
        if k == 0 {
            return Err(Error::request("cannot classify by 0 neighbours: expected k of at least 1"));
        }
        let vectors = embedder.embed(&[text])?;
        let vector = &vectors[0];
        let mut near: Vec<(usize, f32)> =
            self.vectors.iter().map(|case| similarity(case, vector)).enumerate().collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.truncate(k);

        let mut weights: BTreeMap<&str, f32> = BTreeMap::new();
        for (case, similarity) in &near {
            *weights.entry(&self.cases[*case].label).or_default() += similarity.max(0.0);
        }
        let total: f32 = weights.values().sum();
        let mut label = self.cases[near[0].0].label.as_str();
        for (case, _) in &near {
            let other = self.cases[*case].label.as_str();
            if weights[other] > weights[label] {
                label = other;
            }
        }
        let score = if total > 0.0 { weights[label] / total } else { 0.0 };
        let neighbours = near
            .iter()
            .map(|&(case, similarity)| {
                let Case { text, label } = self.cases[case].clone();
                Neighbour { text, label, similarity }
            })
            .collect();
        Ok(Classification { label: label.to_owned(), score, neighbours })
    }
}

/// Classifies one text; with many texts keep the [`Cases`].
///
/// # Errors
/// As [`Cases::new`] and [`Cases::nearest`].
pub fn nearest(embedder: &dyn Embedder, cases: &[Case], text: &str, k: usize) -> Result<Classification, Error> {
    Cases::new(embedder, cases.to_vec())?.nearest(embedder, text, k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::default_embedder;

    fn cases(cases: &[(&str, &str)]) -> Vec<Case> {
        cases.iter().map(|(text, label)| Case { text: (*text).to_owned(), label: (*label).to_owned() }).collect()
    }

    #[test]
    fn the_label_of_the_nearest_cases_wins_and_they_are_shown() {
        let cases = cases(&[
            ("The bearing of the fan vibrates", "bearing"),
            ("Pump bearing is hot and loud", "bearing"),
            ("Oil leaks from the gearbox seal", "leak"),
            ("There is a puddle of oil under the press", "leak"),
            ("The display of the panel stays dark", "electrical"),
        ]);
        let found = nearest(&*default_embedder(), &cases, "strong vibration at the motor bearing", 3).unwrap();
        assert_eq!(found.label, "bearing");
        assert!(found.score > 0.5 && found.score <= 1.0, "{}", found.score);
        assert_eq!(found.neighbours.len(), 3);
        assert!(found.neighbours.windows(2).all(|pair| pair[0].similarity >= pair[1].similarity));
    }

    #[test]
    fn a_text_that_is_like_no_case_gets_a_label_with_score_zero() {
        let found = nearest(&*default_embedder(), &cases(&[("hot oil", "a"), ("cold oil", "b")]), "", 2).unwrap();
        assert_eq!((found.label.as_str(), found.score), ("a", 0.0));
    }

    #[test]
    fn no_cases_and_no_neighbours_are_refused() {
        let embedder = default_embedder();
        assert!(nearest(&*embedder, &[], "x", 1).unwrap_err().to_string().contains("without cases"));
        assert!(
            nearest(&*embedder, &cases(&[("a", "b")]), "x", 0).unwrap_err().to_string().contains("k of at least 1")
        );
    }
}
