//! The budget of an evaluation, kept for the thread that it runs on.

use std::{cell::Cell, panic::resume_unwind};

use jaq_json::{Num, Val};

/// Steps of one evaluation: a value taken, made or compared, or sixteen bytes copied. An array of a million bytes can be
/// gone over several times; it is over in less than a second, and what it builds stays below some 100 MB.
pub(in super::super) const STEPS_MAX: u64 = 2_000_000;

/// Why an evaluation was unwound.
pub(in super::super) struct Spent(pub &'static str);

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(STEPS_MAX) };
}

/// Gives the next evaluation of this thread its budget.
pub(in super::super) fn refill(steps: u64) {
    STEPS_LEFT.set(steps);
}

pub(super) fn spend(steps: usize) {
    let left = STEPS_LEFT.get();
    let Some(left) = left.checked_sub(steps as u64) else {
        STEPS_LEFT.set(0);
        resume_unwind(Box::new(Spent("it takes too many steps")));
    };
    STEPS_LEFT.set(left);
}

/// Spends what it takes to go over a whole value. Values are shared: one that was put into itself forty times over has
/// few parts in memory, but 2^40 for whoever writes it out.
pub(in super::super) fn spend_whole(value: &Val) {
    match value {
        Val::TStr(bytes) | Val::BStr(bytes) => spend(1 + bytes.len() / 16),
        Val::Arr(items) => {
            spend(1);
            items.iter().for_each(spend_whole);
        }
        Val::Obj(map) => {
            spend(1);
            map.iter().for_each(|(key, value)| {
                spend_whole(key);
                spend_whole(value);
            });
        }
        Val::Num(number) => spend_number(number),
        _ => spend(1),
    }
}

/// Spends what one operation on a number takes: multiplying two long ones, or writing one out, goes over all of it for
/// each of its parts of 64 bits; one that was read with decimals is read again each time.
pub(super) fn spend_number(number: &Num) {
    spend(match number {
        Num::Int(_) | Num::Float(_) => 1,
        Num::Dec(text) => 1 + text.len() / 16,
        Num::BigInt(number) => {
            let parts = usize::try_from(number.bits() / 64).unwrap_or(usize::MAX);
            1 + parts.saturating_mul(parts) / 64
        }
    });
}

/// Spends what comparing takes: nothing much unless both are of one kind with parts.
pub(super) fn spend_compare(left: &Val, right: &Val) {
    match (left, right) {
        (Val::Arr(a), Val::Arr(b)) => spend_whole(if a.len() <= b.len() { left } else { right }),
        (Val::Obj(a), Val::Obj(b)) => spend_whole(if a.len() <= b.len() { left } else { right }),
        (Val::TStr(a) | Val::BStr(a), Val::TStr(b) | Val::BStr(b)) => spend(1 + a.len().min(b.len()) / 16),
        (Val::Num(a), Val::Num(b)) => {
            spend_number(a);
            spend_number(b);
        }
        _ => spend(1),
    }
}

/// A key is hashed, which goes over all of it.
pub(super) fn spend_key(key: &Val) {
    if matches!(key, Val::Arr(_) | Val::Obj(_)) {
        spend_whole(key);
    }
}

pub(super) fn spend_bytes(bytes: usize) {
    spend(bytes / 16);
}
