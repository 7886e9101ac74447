//! What people write down in the plant: batch records that name a person, and shift notes about machines.

use std::str::FromStr;

use serde_json::{Value, json};
use shared::time::Timestamp;

use super::{UnknownName, noise::Noise};

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A quality record of one batch of medicine. It names the person who worked on it.
    Batch,
    /// A note that one shift leaves to the next, about a machine and nobody.
    Shift,
}

impl Kind {
    /// The topic under which a site publishes records of this kind.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Batch => "records/batch",
            Self::Shift => "records/shift",
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "batch" => Ok(Self::Batch),
            "shift" => Ok(Self::Shift),
            _ => Err(UnknownName { text: text.to_owned(), expected: "batch, shift" }),
        }
    }
}

/// Names that nobody bears; badge numbers are made up too.
const PEOPLE: [&str; 5] = ["Reto Musterli", "Beat Beispieler", "Vreni Probst-Muster", "Urs Exempel", "Heidi Testmann"];

const BATCH: [&str; 4] = [
    "Tablets chipped at the edge in 3 of 200 samples, compression force drifted upwards during the last hour. {person} \
     (badge {badge}) cleaned the punches and went on.",
    "Cold chain alarm while loading: the vials stood on the ramp for 14 minutes at 11 degrees. {person} (badge {badge}) \
     signed the deviation and moved them to cold room 2.",
    "Wrong label roll on packing line 1, found at the first check. {person} (badge {badge}) stopped the line and sorted \
     out 40 boxes.",
    "Weight of the filled vials is at the lower limit. {person} (badge {badge}), back at work after medical leave, asks \
     for a second person at the scales.",
];

const SHIFT: [&str; 4] = [
    "Pump {number} was loud at the start of the shift and drew less current than usual. The strainer on the suction side \
     was last cleaned four weeks ago.",
    "Press {number} runs hotter than its neighbours. The cooling water valve was half closed; opened it, please watch \
     the oil temperature.",
    "Compressor {number} loads and unloads every two minutes. There may be a leak behind the dryer, one can hear it when \
     the hall is quiet.",
    "Changed the seal of pump {number}. No drops after one hour. The old seal had run dry, so look at the level switch of \
     the tank as well.",
];

/// A record as it goes out: JSON with `id`, `kind`, `machine`, `text`, `words` and `time`.
pub fn write(kind: Kind, id: &str, at: Timestamp, noise: &mut Noise) -> Value {
    let mut pick = |count: usize| ((noise.uniform() * count as f64) as usize).min(count - 1);
    let (machine, text) = match kind {
        Kind::Batch => {
            let person = PEOPLE[pick(PEOPLE.len())];
            let badge = 1_000 + pick(9_000);
            let text = BATCH[pick(BATCH.len())];
            ("packing-1".to_owned(), text.replace("{person}", person).replace("{badge}", &badge.to_string()))
        }
        Kind::Shift => {
            let number = 1 + pick(2);
            let at = pick(SHIFT.len());
            let machine = ["pump", "press", "compressor", "pump"][at];
            (format!("{machine}-{number}"), SHIFT[at].replace("{number}", &number.to_string()))
        }
    };
    let kind = match kind {
        Kind::Batch => "batch",
        Kind::Shift => "shift",
    };
    let words = text.split_whitespace().count();
    json!({"id": id, "kind": kind, "machine": machine, "text": text, "words": words, "time": at})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_record_names_a_person_and_a_shift_note_does_not() {
        let at = Timestamp::from_millis(0);
        for seed in 0..50 {
            let batch = write(Kind::Batch, "b-1", at, &mut Noise::new(seed));
            let text = batch["text"].as_str().expect("text");
            assert!(PEOPLE.iter().any(|person| text.contains(person)) && text.contains("badge"), "{text}");
            let note = write(Kind::Shift, "s-1", at, &mut Noise::new(seed));
            let text = note["text"].as_str().expect("text");
            assert!(!text.contains('{') && !text.contains("badge"), "{text}");
        }
    }
}
