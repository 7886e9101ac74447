//! The functions that jaq has for its own values, for metered ones.

use jaq_core::{
    Error, Native, RunPtr,
    native::{Filter, Fun, bome, unary, v},
};
use jaq_json::{Val, read};
use jaq_std::ValT as _;

use super::{
    super::Kind,
    Metered, NUMBER_DIGITS_MAX,
    budget::{spend, spend_bytes, spend_compare, spend_whole},
    lift,
};

/// As deep as JSON text may be nested.
const JSON_DEPTH_MAX: usize = 100;

pub(in super::super) fn all() -> Vec<Fun<Kind>> {
    let all: Box<[Filter<RunPtr<Kind>>]> = Box::new([
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("tojson", v(0), |cv| {
            spend_whole(&cv.1.value);
            bome(Ok(Metered::flat(Val::utf8_str(cv.1.value.to_string().into_bytes()))))
        }),
        ("length", v(0), |cv| bome(length(&cv.1))),
        ("contains", v(1), |cv| unary(cv, |x, y| Ok(Metered::from(contains(&x.value, &y.value))))),
        ("has", v(1), |cv| unary(cv, |x, key| has(&x, &key))),
        ("indices", v(1), |cv| unary(cv, |x, y| indices(&x, &y))),
        ("bsearch", v(1), |cv| {
            unary(cv, |x, y| match &x.value {
                Val::Arr(items) => {
                    // As many comparisons as the length has bits.
                    (0..items.len().checked_ilog2().unwrap_or(0)).for_each(|_| spend_whole(&y.value));
                    let found = items.binary_search(&y.value);
                    Ok(Metered::from(found.map_or_else(|at| -1 - at.cast_signed(), usize::cast_signed)))
                }
                _ => Err(Error::typ(x, "array")),
            })
        }),
    ]);
    all.into_vec().into_iter().map(|(name, arguments, f)| (name, arguments, Native::<Kind>::new(f))).collect()
}

fn from_json(text: &Metered) -> Result<Metered, Error<Metered>> {
    let Val::TStr(bytes) = &text.value else { return Err(Error::typ(text.clone(), "string")) };
    spend(1 + bytes.len() / 4);
    readable(bytes).map_err(Error::str)?;
    let value = read::parse_single(bytes);
    value.map(Metered::input).map_err(|error| Error::str(format!("cannot parse {text} as JSON: {error}")))
}

/// Whether reading this JSON takes little time and stack: not where it is nested deep, or has a number without end.
fn readable(json: &[u8]) -> Result<(), String> {
    let (mut depth, mut digits) = (0_usize, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        match byte {
            // What stands in a text or a comment is neither.
            b'"' => {
                while let Some(inner) = bytes.next().filter(|inner| **inner != b'"') {
                    if *inner == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'#' => drop(bytes.find(|inner| **inner == b'\n')),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(format!("cannot parse JSON that is nested more than {JSON_DEPTH_MAX} deep"));
        }
        if digits > NUMBER_DIGITS_MAX {
            return Err(format!("cannot parse a number of more than {NUMBER_DIGITS_MAX} digits"));
        }
    }
    Ok(())
}

fn length(of: &Metered) -> Result<Metered, Error<Metered>> {
    spend_bytes(of.size());
    let len = match &of.value {
        Val::Null => 0,
        Val::TStr(bytes) => String::from_utf8_lossy(bytes).chars().count(),
        Val::BStr(bytes) => bytes.len(),
        Val::Arr(items) => items.len(),
        Val::Obj(map) => map.len(),
        Val::Num(_) if of.as_f64().is_some_and(|number| number < 0.0) => return -of.clone(),
        Val::Num(_) => return Ok(of.clone()),
        Val::Bool(_) => return Err(Error::str(format!("{of} has no length"))),
    };
    Ok(Metered::from(len))
}

fn contains(all: &Val, part: &Val) -> bool {
    spend(1);
    match (all, part) {
        (Val::TStr(all), Val::TStr(part)) | (Val::BStr(all), Val::BStr(part)) => {
            spend(all.len());
            let find = |all: &[u8], part: &[u8]| part.is_empty() || all.windows(part.len()).any(|at| at == part);
            find(all, part)
        }
        (Val::Arr(all), Val::Arr(part)) => part.iter().all(|part| all.iter().any(|all| contains(all, part))),
        (Val::Obj(all), Val::Obj(part)) => {
            part.iter().all(|(key, part)| all.get(key).is_some_and(|all| contains(all, part)))
        }
        _ => {
            spend_compare(all, part);
            all == part
        }
    }
}

fn has(all: &Metered, key: &Metered) -> Result<Metered, Error<Metered>> {
    spend_whole(&key.value);
    match (&all.value, &key.value) {
        (Val::Obj(map), key) => Ok(Metered::from(map.contains_key(key))),
        (Val::Arr(items), Val::Num(number)) => {
            let inside = number.as_isize().is_some_and(|at| usize::try_from(at).is_ok_and(|at| at < items.len()));
            Ok(Metered::from(inside))
        }
        (value, key) => {
            spend_whole(value);
            Err(lift(jaq_json::Error::index(value.clone(), key.clone())))
        }
    }
}

fn indices(all: &Metered, part: &Metered) -> Result<Metered, Error<Metered>> {
    spend_whole(&all.value);
    spend_whole(&part.value);
    let positions: Vec<usize> = match (&all.value, &part.value) {
        (Val::TStr(_), Val::TStr(part)) if part.is_empty() => Vec::new(),
        (Val::TStr(all), Val::TStr(part)) => {
            let all = String::from_utf8_lossy(all);
            let starts = all.char_indices().enumerate();
            starts.filter(|(_, (at, _))| all.as_bytes()[*at..].starts_with(part)).map(|(n, _)| n).collect()
        }
        (Val::Arr(_), Val::Arr(part)) if part.is_empty() => Vec::new(),
        (Val::Arr(all), Val::Arr(part)) => {
            spend(all.len().saturating_mul(part.len()));
            let windows = all.windows(part.len()).enumerate();
            windows.filter(|(_, at)| *at == part.as_slice()).map(|(n, _)| n).collect()
        }
        (Val::Arr(all), part) => all.iter().enumerate().filter(|(_, at)| *at == part).map(|(n, _)| n).collect(),
        (all, part) => return Err(lift(jaq_json::Error::index(all.clone(), part.clone()))),
    };
    Ok(positions.into_iter().map(Metered::from).collect())
}
