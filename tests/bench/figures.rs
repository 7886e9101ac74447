//! Figures by name, each with all its measurements; what is told is the median, and how far they lie apart.

/// In the order in which they were first measured.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

struct Figure {
    name: String,
    unit: &'static str,
    measured: Vec<f64>,
}

impl Figures {
    pub fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.measured.push(value),
            None => self.0.push(Figure { name: name.to_owned(), unit, measured: vec![value] }),
        }
    }

    /// A line each: the median, then the least and the greatest.
    pub fn table(&self) -> String {
        let width = self.0.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        self.0.iter().fold(String::new(), |table, figure| {
            let (low, median, high) = figure.spread();
            format!(
                "{table}{:width$}  {:>10} {:<3}  ({} to {}, {} runs)\n",
                figure.name,
                short(median),
                figure.unit,
                short(low),
                short(high),
                figure.measured.len()
            )
        })
    }

    pub fn json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|figure| {
                let (_, median, _) = figure.spread();
                serde_json::json!({ "figure": figure.name, "unit": figure.unit, "median": median, "measured": figure.measured })
            })
            .collect()
    }
}

impl Figure {
    fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.measured.clone();
        sorted.sort_by(f64::total_cmp);
        (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1])
    }
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
