//! What a value's origin demands of everyone who handles it. Labels join: what is made from several values
//! carries the strictest of each demand.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How far a value may be known, from least to most strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    #[default]
    Public,
    Internal,
    Confidential,
    Restricted,
}

/// The demands on a value: its class, the jurisdictions that it was born in, and whether it tells of a person.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    pub class: DataClass,
    /// ISO 3166-1 alpha-2 codes or `EU`, upper case. Empty: born nowhere in particular, such as a constant.
    #[serde(default)]
    pub origins: BTreeSet<String>,
    #[serde(default)]
    pub personal: bool,
}

/// Whether a code can be a jurisdiction's: two capital letters, as ISO 3166-1 alpha-2 has them, or `EU`.
#[must_use]
pub fn is_jurisdiction(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

impl Label {
    /// The label of what is made from both: the stricter class, all origins, personal if either is.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            class: self.class.max(other.class),
            origins: self.origins.union(&other.origins).cloned().collect(),
            personal: self.personal || other.personal,
        }
    }

    /// Whether someone cleared for `self` may see a value labelled `other`: nothing of `other` is stricter.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.join(other) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_label() -> impl Strategy<Value = Label> {
        let class = prop_oneof![
            Just(DataClass::Public),
            Just(DataClass::Internal),
            Just(DataClass::Confidential),
            Just(DataClass::Restricted)
        ];
        (class, proptest::collection::btree_set("[A-C]", 0..3), any::<bool>())
            .prop_map(|(class, origins, personal)| Label { class, origins, personal })
    }

    proptest! {
        #[test]
        fn join_is_a_semilattice_and_never_loosens(a in any_label(), b in any_label(), c in any_label()) {
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&a), a.clone());
            prop_assert!(a.join(&b).covers(&a));
            prop_assert_eq!(Label::default().join(&a), a);
        }
    }
}
