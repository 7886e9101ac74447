//! jq's values with a meter on them. jaq has no limit of its own, so the values keep one: whatever an expression does it
//! does to values, and each such act spends from a budget. When that is spent the evaluation is unwound, which `try` and
//! `?` cannot catch. The count depends on expression and input alone, so the same evaluation always ends the same way.

mod access;
mod budget;
pub(super) mod functions;

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Div, Mul, Neg, Range, Rem, Sub},
    panic::resume_unwind,
};

use jaq_core::{Error, ValR};
use jaq_json::{Num, Rc, Val};

pub(super) use budget::{STEPS_MAX, Spent, refill, spend_whole};
use budget::{spend, spend_bytes, spend_compare};

/// How deep values may be nested while evaluating: freeing them takes a call for each level.
const DEPTH_MAX: u32 = 10_000;

/// As deep as the JSON that comes in can be (serde_json reads no deeper).
const INPUT_DEPTH: u32 = 128;

/// Bits of a whole number: beyond it multiplication alone takes a noticeable time.
const NUMBER_BITS_MAX: u64 = 1 << 16;

/// Digits in a row of a number that is read from text: what `NUMBER_BITS_MAX` bits come to. Reading one takes the square
/// of its length.
const NUMBER_DIGITS_MAX: usize = 19_728;

/// A value, and how deep it is nested at most.
#[derive(Debug)]
pub(super) struct Metered {
    value: Val,
    depth: u32,
}

impl Metered {
    /// A value that comes from outside.
    pub fn input(value: Val) -> Self {
        Self { value, depth: INPUT_DEPTH }
    }

    pub fn value(&self) -> &Val {
        &self.value
    }

    /// A value without children, or one whose children have none.
    pub fn flat(value: Val) -> Self {
        Self { value, depth: 1 }
    }

    fn nested(value: Val, depth: u32) -> Self {
        if depth > DEPTH_MAX {
            resume_unwind(Box::new(Spent("values are nested more than 10000 deep")));
        }
        Self { value, depth }
    }

    fn child(&self, value: Val) -> Self {
        Self { value, depth: self.depth.saturating_sub(1) }
    }

    /// How many children; of texts the bytes in steps.
    fn size(&self) -> usize {
        match &self.value {
            Val::TStr(bytes) | Val::BStr(bytes) => bytes.len() / 16,
            Val::Arr(items) => items.len(),
            Val::Obj(map) => map.len(),
            _ => 0,
        }
    }

    /// Spends what it takes to own the children: nothing unless someone else has them too.
    fn spend_own(&self) {
        let shared = match &self.value {
            Val::Arr(items) => Rc::strong_count(items) > 1,
            Val::Obj(map) => Rc::strong_count(map) > 1,
            _ => true,
        };
        spend(if shared { self.size() } else { 1 });
    }

    fn combine(self, other: Self, how: impl FnOnce(Val, Val) -> jaq_json::ValR) -> ValR<Self> {
        let depth = self.depth.max(other.depth);
        how(self.value, other.value).map(|value| Self { value: sound(value), depth }).map_err(lift)
    }
}

/// Unwinds when a number has grown beyond use.
fn sound(value: Val) -> Val {
    if let Val::Num(Num::BigInt(number)) = &value
        && number.bits() > NUMBER_BITS_MAX
    {
        resume_unwind(Box::new(Spent("a number has more than 65536 bits")));
    }
    value
}

/// An error of a plain value as one of ours.
fn lift(error: jaq_json::Error) -> Error<Metered> {
    let value = Metered::flat(error.into_val());
    spend(value.size());
    Error::new(value)
}

impl Clone for Metered {
    fn clone(&self) -> Self {
        spend(1);
        Self { value: self.value.clone(), depth: self.depth }
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spend_whole(&self.value);
        self.value.fmt(f)
    }
}

macro_rules! from_plain {
    ($($plain:ty),*) => {$(
        impl From<$plain> for Metered {
            fn from(plain: $plain) -> Self {
                spend(1);
                Self::flat(Val::from(plain))
            }
        }
    )*};
}
from_plain!(bool, isize, usize, f64);

impl From<String> for Metered {
    fn from(text: String) -> Self {
        spend_bytes(text.len());
        Self::flat(Val::from(text))
    }
}

impl From<Range<Option<Self>>> for Metered {
    fn from(range: Range<Option<Self>>) -> Self {
        let bound = |bound: Option<Self>| bound.map(|bound| bound.value);
        Self::flat(Val::from(bound(range.start)..bound(range.end)))
    }
}

impl FromIterator<Self> for Metered {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        let mut depth = 0;
        let take = |item: Self| {
            spend(1);
            depth = depth.max(item.depth);
            item.value
        };
        let value = items.into_iter().map(take).collect();
        Self::nested(value, depth + 1)
    }
}

impl PartialEq for Metered {
    fn eq(&self, other: &Self) -> bool {
        spend_compare(&self.value, &other.value);
        self.value == other.value
    }
}

impl Eq for Metered {}

impl PartialOrd for Metered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Metered {
    fn cmp(&self, other: &Self) -> Ordering {
        spend_compare(&self.value, &other.value);
        self.value.cmp(&other.value)
    }
}

impl Add for Metered {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> ValR<Self> {
        let is_one_kind = std::mem::discriminant(&self.value) == std::mem::discriminant(&other.value);
        if is_one_kind && !matches!(self.value, Val::Num(_)) {
            self.spend_own();
            spend(1 + other.size());
        } else {
            // Numbers, or most likely an error, whose message writes both out.
            spend_whole(&self.value);
            spend_whole(&other.value);
        }
        self.combine(other, |left, right| left + right)
    }
}

impl Sub for Metered {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> ValR<Self> {
        spend_whole(&self.value);
        spend_whole(&other.value);
        self.combine(other, |left, right| left - right)
    }
}

impl Mul for Metered {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> ValR<Self> {
        let times = |text: &Self, number: &Self| match (&text.value, &number.value) {
            (Val::TStr(bytes) | Val::BStr(bytes), Val::Num(number)) => {
                let times = number.as_isize().map_or(usize::MAX, |times| usize::try_from(times).unwrap_or(0));
                Some(bytes.len().saturating_mul(times))
            }
            _ => None,
        };
        spend_bytes(times(&self, &other).or_else(|| times(&other, &self)).unwrap_or(0));
        spend_whole(&self.value);
        spend_whole(&other.value);
        self.combine(other, |left, right| left * right)
    }
}

impl Div for Metered {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> ValR<Self> {
        // A text divided by another is split, into as many parts as it has bytes.
        let parts = if let Val::TStr(bytes) | Val::BStr(bytes) = &self.value { bytes.len() } else { 0 };
        spend(parts);
        spend_whole(&self.value);
        spend_whole(&other.value);
        self.combine(other, |left, right| left / right)
    }
}

impl Rem for Metered {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> ValR<Self> {
        spend_whole(&self.value);
        spend_whole(&other.value);
        self.combine(other, |left, right| left % right)
    }
}

impl Neg for Metered {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        spend_whole(&self.value);
        (-self.value).map(Self::flat).map_err(lift)
    }
}
