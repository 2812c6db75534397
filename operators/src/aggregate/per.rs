//! `NAME_per(x, c)`: any aggregate for each value of a second column, as a map. `sum_per(amount, country)`.
//!
//! A category is a text, a whole number or a truth value, and is written as a text in the map. Rows whose
//! category is NULL are not there; over no rows the result is NULL. Within a category the aggregate is what
//! it is alone, so that `count_per(x, c)` counts values of x and is 0 where all are NULL. A map shows
//! at most 1,000 categories: those with most rows, of equal ones those first in the order of bytes.
//! `top_n_key_NAME_per(x, c, n)` shows the n greatest categories instead, and `top_n_value_NAME_per(x, c,
//! n)` the n with the greatest results. `map_NAME(m)` (`map.rs`) is the same over the keys of maps.
//!
//! Each category costs the states of the aggregate; a row costs a search among the categories. A read
//! computes every category. Aggregates that read rows by position walk over the window once a category.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_types::{DataType, Item, Value};

use super::bytes::{Reader, Writer};
use super::state::State;
use super::within::{self, Within};
use super::{
    Aggregate, Built, Call, Columns, Entry, MOST, Primitive, Row, Rows, Running, View, category,
    one_of,
};

pub(super) const COUNT_PER: Entry = Entry {
    name: "count_per",
    aliases: &["count_cate"],
    summary: "count(x) for each value of a second column, as a map: count_per(x, c)",
    build: |call| build(call, "count", Show::Most),
};

pub(super) const SUM_PER: Entry = Entry {
    name: "sum_per",
    aliases: &["sum_cate"],
    summary: "sum(x) for each value of a second column, as a map: sum_per(x, c)",
    build: |call| build(call, "sum", Show::Most),
};

pub(super) const AVG_PER: Entry = Entry {
    name: "avg_per",
    aliases: &["avg_cate"],
    summary: "avg(x) for each value of a second column, as a map: avg_per(x, c)",
    build: |call| build(call, "avg", Show::Most),
};

pub(super) const MIN_PER: Entry = Entry {
    name: "min_per",
    aliases: &["min_cate"],
    summary: "min(x) for each value of a second column, as a map: min_per(x, c)",
    build: |call| build(call, "min", Show::Most),
};

pub(super) const MAX_PER: Entry = Entry {
    name: "max_per",
    aliases: &["max_cate"],
    summary: "max(x) for each value of a second column, as a map: max_per(x, c)",
    build: |call| build(call, "max", Show::Most),
};

/// Which categories a map shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Those with most rows, up to [`MOST`].
    Most,
    /// The greatest ones: the number is the last constant of the call.
    Keys,
    /// Those with the greatest results: the number is the last constant of the call.
    Values,
}

/// What the categories of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Its second argument is its one category.
    Second,
    /// Its first argument is a map: the keys are its categories, and of each the value is the argument.
    Keys,
}

impl By {
    /// The row within each of its categories.
    fn each<'a>(self, row: &Row<'a>, mut visit: impl FnMut(&Arc<str>, Row<'a>)) {
        match self {
            By::Second => {
                if let Some(key) = category(row.second) {
                    visit(&key, within(row));
                }
            }
            By::Keys => {
                for (key, value) in entries(row) {
                    visit(key, Row { value, ..*row });
                }
            }
        }
    }

    /// The row within a category, if that is one of its own.
    fn one<'a>(self, row: &Row<'a>, key: &str) -> Option<Row<'a>> {
        match self {
            By::Second => (category(row.second).as_deref() == Some(key)).then(|| within(row)),
            By::Keys => {
                let entries = entries(row);
                let at = entries.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok()?;
                Some(Row { value: &entries[at].1, ..*row })
            }
        }
    }
}

/// A row within its category: there is no second column.
fn within<'a>(row: &Row<'a>) -> Row<'a> {
    Row { second: &Value::Null, ..*row }
}

fn entries<'a>(row: &Row<'a>) -> &'a [(Arc<str>, Value)] {
    match row.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// The aggregate within a name such as `sum_per` or `top_n_key_sum_per`; `_cate` is OpenMLDB's for `_per`.
pub(super) fn parts(name: &str) -> Option<(Show, &str)> {
    let (show, rest) = match (name.strip_prefix("top_n_key_"), name.strip_prefix("top_n_value_")) {
        (Some(rest), _) => (Show::Keys, rest),
        (_, Some(rest)) => (Show::Values, rest),
        _ => (Show::Most, name),
    };
    Some((show, rest.strip_suffix("_per").or_else(|| rest.strip_suffix("_cate"))?))
}

/// The aggregate of that name for each category.
fn build(call: &Call<'_>, inner: &str, show: Show) -> Built {
    over(call, inner, show, super::build)
}

/// What `single` builds of that name, for each category.
pub(super) fn over(
    call: &Call<'_>,
    inner: &str,
    show: Show,
    single: impl FnOnce(&Call<'_>) -> Built,
) -> Built {
    let accepted = [DataType::String, DataType::Int64, DataType::Bool];
    let Some(second) = call.second else {
        return Err(format!("{} takes a value and a category: two columns", call.name));
    };
    if !accepted.contains(&second) {
        let names = accepted.map(|t| t.name());
        return Err(format!(
            "{} takes a category of type {}; found {second}",
            call.name,
            one_of(&names)
        ));
    }
    let (n, constants) = match (show, call.constants) {
        (Show::Most, constants) => (MOST, constants),
        (_, [constants @ .., n]) => (call.bound(std::slice::from_ref(n), None)?, constants),
        (_, []) => return Err(format!("{} takes how many to show as its last", call.name)),
    };
    let inner = Call { name: inner, second: None, constants, ..call.clone() };
    of(Arc::from(single(&inner)?), By::Second, show, n)
}

/// An aggregate for each category: what [`super::per`] says.
pub(super) fn of(inner: Arc<dyn Aggregate>, by: By, show: Show, n: usize) -> Built {
    let output = inner.output();
    let item = output
        .as_item()
        .ok_or_else(|| format!("a map holds single values; the aggregate gives {output}"))?;
    Ok(Box::new(Per { inner, item, by, show, n }))
}

struct Per {
    inner: Arc<dyn Aggregate>,
    item: Item,
    by: By,
    show: Show,
    n: usize,
}

impl Aggregate for Per {
    fn output(&self) -> DataType {
        DataType::Map(self.item)
    }

    fn primitives(&self) -> &'static [Primitive] {
        within::primitives(&*self.inner)
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::new(Categories::new(self.by, Within::new(&*self.inner))))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(own) = view.own::<Categories>().filter(|own| !own.of.is_empty()) else {
            return Value::Null;
        };
        let mut all: Vec<(Arc<str>, u64, Value)> = Vec::with_capacity(own.of.len());
        for (key, of) in &own.of {
            let rows = OfCategory { rows: view.rows, by: self.by, key };
            let value = own.within.finish(&*self.inner, &of.states, &rows, view);
            all.push((Arc::clone(key), of.rows, value));
        }
        // They are in the order of keys; the sorts are stable.
        match self.show {
            Show::Most if all.len() > self.n => all.sort_by_key(|(_, rows, _)| Reverse(*rows)),
            Show::Most => {}
            Show::Keys => all.reverse(),
            Show::Values => all.sort_by(|a, b| b.2.cmp(&a.2)),
        }
        Value::map(all.into_iter().take(self.n).map(|(key, _, value)| (key, value)))
    }
}

/// The states of each category of a window.
struct Categories {
    by: By,
    within: Within,
    of: BTreeMap<Arc<str>, OfOne>,
}

struct OfOne {
    rows: u64,
    states: Vec<State>,
}

impl Categories {
    fn new(by: By, within: Within) -> Categories {
        Categories { by, within, of: BTreeMap::new() }
    }

    fn one(&self) -> OfOne {
        OfOne { rows: 0, states: self.within.states().collect() }
    }
}

impl Running for Categories {
    fn name(&self) -> String {
        let by = match self.by {
            By::Second => "per category",
            By::Keys => "per key",
        };
        format!("{by}:{}", self.within.name)
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::new(Categories::new(self.by, self.within.again()))
    }

    fn insert(&mut self, row: &Row<'_>) {
        self.by.each(row, |key, row| {
            if !self.of.contains_key(key) {
                let one = self.one();
                self.of.insert(Arc::clone(key), one);
            }
            if let Some(of) = self.of.get_mut(key) {
                of.rows += 1;
                of.states.iter_mut().for_each(|state| state.insert(&row));
            }
        });
    }

    fn remove(&mut self, row: &Row<'_>) {
        self.by.each(row, |key, row| {
            let Some(of) = self.of.get_mut(key) else { return };
            of.rows -= 1;
            if of.rows == 0 {
                self.of.remove(key);
            } else {
                of.states.iter_mut().for_each(|state| state.remove(&row));
            }
        });
    }

    fn clear(&mut self) {
        self.of.clear();
    }

    fn merge(&mut self, other: &dyn Running) {
        let Some(other) = other.as_any().downcast_ref::<Categories>() else { return };
        for (key, theirs) in &other.of {
            let fresh = self.one();
            let ours = self.of.entry(Arc::clone(key)).or_insert(fresh);
            ours.rows = ours.rows.saturating_add(theirs.rows);
            for (state, other) in ours.states.iter_mut().zip(&theirs.states) {
                state.merge(other);
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.count(self.of.len() as u64);
        for (key, of) in &self.of {
            out.text(key).count(of.rows);
            within::save(&of.states, &mut out);
        }
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let mut restored = Categories::new(self.by, self.within.again());
        for _ in 0..bytes.count()? {
            let key: Arc<str> = bytes.text()?.into();
            let rows = bytes.count().filter(|rows| *rows > 0)?;
            if restored.of.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            let states = self.within.restore(&mut bytes)?;
            restored.of.insert(key, OfOne { rows, states });
        }
        bytes.end(Box::new(restored) as Box<dyn Running>)
    }

    fn bytes(&self) -> usize {
        let one = |(key, of): (&Arc<str>, &OfOne)| {
            key.len() + size_of::<(Arc<str>, OfOne)>() + within::bytes(&of.states)
        };
        size_of::<Categories>() + self.of.iter().map(one).sum::<usize>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The rows of one category.
struct OfCategory<'a> {
    rows: &'a dyn Rows,
    by: By,
    key: &'a str,
}

impl Rows for OfCategory<'_> {
    fn walk(
        &self,
        columns: Columns,
        newest_first: bool,
        skip: usize,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) {
        let mut visit = within::behind(skip, visit);
        self.rows.walk(columns, newest_first, 0, &mut |row| {
            self.by.one(&row, self.key).is_none_or(&mut visit)
        });
    }
}
