//! How filters reach into values: the traits that jaq asks of them.

use std::ops::Range;

use jaq_core::{Error, Exn, ValR, ValX, box_iter::BoxIter, path::Opt};
use jaq_json::{Rc, Val};

use super::{
    Metered,
    budget::{spend, spend_bytes, spend_key, spend_whole},
    lift,
};

impl jaq_core::ValT for Metered {
    fn from_num(number: &str) -> ValR<Self> {
        spend_bytes(number.len());
        Val::from_num(number).map(Self::flat).map_err(lift)
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(entries: I) -> ValR<Self> {
        let mut depth = 0;
        let take = |(key, value): (Self, Self)| {
            spend(1);
            spend_key(&key.value);
            depth = depth.max(value.depth);
            (key.value, value.value)
        };
        let map = Val::from_map(entries.into_iter().map(take)).map_err(lift)?;
        Ok(Self::nested(map, depth + 1))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        self.spend_own();
        let depth = self.depth.saturating_sub(1);
        let take = move |(key, value)| {
            spend(1);
            (Self::flat(key), Self { value, depth })
        };
        Box::new(self.value.key_values().map(move |entry| entry.map(take).map_err(lift)))
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        self.spend_own();
        let depth = self.depth.saturating_sub(1);
        let take = move |value| {
            spend(1);
            Self { value, depth }
        };
        Box::new(self.value.values().map(move |value| value.map(take).map_err(lift)))
    }

    fn index(self, index: &Self) -> ValR<Self> {
        // As in jq, and unlike jaq: the keys of an object are text.
        if matches!(self.value, Val::Obj(_)) && !matches!(index.value, Val::TStr(_)) {
            spend_whole(&self.value);
            spend_whole(&index.value);
            return Err(Error::index(self, index.clone()));
        }
        let depth = match (&self.value, &index.value) {
            (Val::Obj(_), Val::TStr(_)) | (Val::Arr(_), Val::Num(_)) | (Val::Null, _) => {
                spend(1);
                self.depth.saturating_sub(1)
            }
            // A part of an array, the places of one in another, or an error that writes both out.
            _ => {
                spend_whole(&self.value);
                spend_whole(&index.value);
                self.depth
            }
        };
        self.value.index(&index.value).map(|value| Self { value, depth }).map_err(lift)
    }

    fn range(self, range: Range<Option<&Self>>) -> ValR<Self> {
        spend(1 + self.size());
        let depth = self.depth;
        let range = range.start.map(Self::value)..range.end.map(Self::value);
        self.value.range(range).map(|value| Self { value, depth }).map_err(lift)
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        self.spend_own();
        let depth = self.depth.saturating_sub(1);
        match self.value {
            Val::Arr(items) => {
                let items = Rc::unwrap_or_clone(items).into_iter();
                items.flat_map(|value| f(Self { value, depth })).collect()
            }
            Val::Obj(map) => {
                let mut entries = Vec::new();
                for (key, value) in Rc::unwrap_or_clone(map) {
                    if let Some(value) = f(Self { value, depth }).next() {
                        entries.push((Self::flat(key), value?));
                    }
                }
                Ok(Self::from_map(entries)?)
            }
            _ => opt.fail(self, |own| Exn::from(Error::typ(own, "iterable (array or object)"))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        mut self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        self.spend_own();
        spend_key(&index.value);
        let mut depth = self.depth;
        let mut change = |value: Val, depth_of_child: u32| -> Result<Option<Val>, Exn<'a, Self>> {
            let changed = f(Self { value, depth: depth_of_child }).next().transpose()?;
            depth = depth.max(changed.as_ref().map_or(0, |changed| changed.depth + 1));
            Ok(changed.map(|changed| changed.value))
        };
        let below = self.depth.saturating_sub(1);
        // As in jq, and unlike jaq: setting a key of nothing makes an object.
        if let (Val::Null, Val::TStr(_)) = (&self.value, &index.value) {
            self.value = Val::obj(jaq_json::Map::default());
        }
        match (&mut self.value, &index.value) {
            (Val::Arr(_), Val::Obj(range)) => {
                let bound = |key: &str| {
                    range.get(&Val::utf8_str(key.to_owned())).map(|bound| Self { value: bound.clone(), depth: 1 })
                };
                let (start, end) = (bound("start"), bound("end"));
                return self.map_range(start.as_ref()..end.as_ref(), opt, f);
            }
            (Val::Obj(map), key) => {
                let map = Rc::make_mut(map);
                let old = map.get_mut(key).map(std::mem::take);
                match change(old.unwrap_or_default(), below)? {
                    Some(new) => drop(map.insert(key.clone(), new)),
                    None => drop(map.shift_remove(key)),
                }
            }
            (Val::Arr(items), Val::Num(number)) => {
                let position = number.as_isize().and_then(|at| wrap(at, items.len())).filter(|at| *at < items.len());
                let Some(position) = position else {
                    let out = format!("index {index} out of bounds");
                    return opt.fail(self, |_| Exn::from(Error::str(out)));
                };
                let items = Rc::make_mut(items);
                match change(std::mem::take(&mut items[position]), below)? {
                    Some(new) => items[position] = new,
                    None => drop(items.remove(position)),
                }
            }
            _ => return opt.fail(self, |own| Exn::from(Error::typ(own, "iterable (array or object)"))),
        }
        Ok(Self::nested(self.value, depth))
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        mut self,
        range: Range<Option<&Self>>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        self.spend_own();
        let Val::Arr(items) = &mut self.value else {
            return opt.fail(self, |own| Exn::from(Error::typ(own, "array")));
        };
        let bound = |bound: Option<&Self>, default: usize| match bound.map(|bound| &bound.value) {
            None | Some(Val::Null) => Some(default),
            Some(Val::Num(number)) => Some(wrap(number.as_isize()?, items.len()).unwrap_or(0).min(items.len())),
            Some(_) => None,
        };
        let (Some(from), Some(to)) = (bound(range.start, 0), bound(range.end, items.len())) else {
            return opt.fail(self, |own| Exn::from(Error::typ(own, "array with whole numbers as bounds")));
        };
        let to = to.max(from);
        let part: Val = items[from..to].iter().cloned().collect();
        let mut depth = self.depth;
        let new = match f(Self { value: part, depth }).next().transpose()? {
            None => Vec::new(),
            Some(Self { value: Val::Arr(new), depth: deep }) => {
                depth = depth.max(deep);
                Rc::unwrap_or_clone(new)
            }
            Some(other) => return Err(Exn::from(Error::typ(other, "array"))),
        };
        spend(new.len());
        Rc::make_mut(items).splice(from..to, new);
        Ok(Self::nested(self.value, depth))
    }

    fn as_bool(&self) -> bool {
        self.value.as_bool()
    }

    fn into_string(self) -> Self {
        spend_whole(&self.value);
        Self::flat(self.value.into_string())
    }
}

/// A position counted from the end when negative.
fn wrap(at: isize, len: usize) -> Option<usize> {
    if at < 0 { len.checked_sub(at.unsigned_abs()) } else { usize::try_from(at).ok() }
}

impl jaq_std::ValT for Metered {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        self.spend_own();
        let depth = self.depth.saturating_sub(1);
        match self.value {
            Val::Arr(items) => Ok(Rc::unwrap_or_clone(items).into_iter().map(|value| Self { value, depth }).collect()),
            value => Err(Self { value, depth: self.depth }),
        }
    }

    fn is_int(&self) -> bool {
        self.value.is_int()
    }

    fn as_isize(&self) -> Option<isize> {
        self.value.as_isize()
    }

    fn as_f64(&self) -> Option<f64> {
        self.value.as_f64()
    }

    fn is_utf8_str(&self) -> bool {
        self.value.is_utf8_str()
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        // Whoever asks for the bytes goes over them.
        spend(1 + self.size());
        self.value.as_bytes()
    }

    fn as_sub_str(&self, part: &[u8]) -> Self {
        spend(1);
        self.child(self.value.as_sub_str(part))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        spend_bytes(bytes.as_ref().len());
        Self::flat(Val::from_utf8_bytes(bytes))
    }
}
