//! `vector_NAME(x)`: any aggregate of single values at each place of lists, as a list: `vector_sum`,
//! `vector_avg`, `vector_min`, `vector_max`, and so `vector_stddev_pop`, `vector_median` and all others.
//!
//! The n-th item of the result is what the aggregate gives over the n-th items. It is as long as the
//! longest list in the window; a shorter one has no values at the places behind its end, and a NULL among
//! the items is to the aggregate what a NULL of a row is elsewhere. A list that is NULL is not there; over
//! no lists, or none with an item, the result is NULL.
//!
//! Sums are exact, and so a function of the lists in the window alone, whatever their order. Each place
//! costs the states of the aggregate: about a quarter of a kilobyte for a sum; `vector_min` and
//! `vector_max` keep all items of a place in order. A row costs a step of the aggregate for each of its
//! items, a read one for each place. Aggregates that read rows by position walk over the window once a
//! place.

use std::any::Any;
use std::sync::Arc;

use tidemill_types::{DataType, Item, Value};

use super::bytes::{Reader, Writer};
use super::state::State;
use super::within::{self, Within};
use super::{Aggregate, Built, Call, Columns, Entry, Primitive, Row, Rows, Running, View};

pub(super) const VECTOR_SUM: Entry = Entry {
    name: "vector_sum",
    aliases: &[],
    summary: "the sum at each place of lists, as a list",
    build: |call| build(call, "sum"),
};

pub(super) const VECTOR_AVG: Entry = Entry {
    name: "vector_avg",
    aliases: &["vector_mean", "avg_pooling"],
    summary: "the mean at each place of lists, as a list",
    build: |call| build(call, "avg"),
};

pub(super) const VECTOR_MIN: Entry = Entry {
    name: "vector_min",
    aliases: &["min_pooling"],
    summary: "the least value at each place of lists, as a list",
    build: |call| build(call, "min"),
};

pub(super) const VECTOR_MAX: Entry = Entry {
    name: "vector_max",
    aliases: &["max_pooling"],
    summary: "the greatest value at each place of lists, as a list",
    build: |call| build(call, "max"),
};

/// The aggregate within a name such as `vector_sum`.
pub(super) fn parts(name: &str) -> Option<&str> {
    name.strip_prefix("vector_")
}

/// The aggregate of that name at each place.
fn build(call: &Call<'_>, inner: &str) -> Built {
    over(call, inner, super::build)
}

/// What `single` builds of that name, at each place.
pub(super) fn over(call: &Call<'_>, inner: &str, single: impl FnOnce(&Call<'_>) -> Built) -> Built {
    let item = match call.input {
        Some(DataType::List(item)) => item,
        Some(other) => {
            return Err(format!("{} takes a column of lists; found {other}", call.name));
        }
        None => return Err(format!("{} takes a column of lists; found no column", call.name)),
    };
    let inner = single(&Call { name: inner, input: Some(item.into()), ..call.clone() })?;
    let output = inner.output();
    let item = output
        .as_item()
        .ok_or_else(|| format!("a list holds single values; the aggregate gives {output}"))?;
    Ok(Box::new(AtPlaces { inner: Arc::from(inner), item }))
}

struct AtPlaces {
    inner: Arc<dyn Aggregate>,
    item: Item,
}

impl Aggregate for AtPlaces {
    fn output(&self) -> DataType {
        DataType::List(self.item)
    }

    fn primitives(&self) -> &'static [Primitive] {
        within::primitives(&*self.inner)
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::new(Places::new(Within::new(&*self.inner))))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(own) = view.own::<Places>().filter(|own| own.used > 0) else {
            return Value::Null;
        };
        let at = |place: usize| {
            let rows = AtPlace { rows: view.rows, place };
            own.within.finish(&*self.inner, own.at(place), &rows, view)
        };
        (0..own.used).map(at).collect()
    }
}

/// The states of each place of the lists of a window.
struct Places {
    within: Within,
    /// Of each place how many lists reach it: ever fewer. Behind those used some are kept over no rows.
    lists: Vec<u64>,
    /// Those of a place lie together.
    states: Vec<State>,
    used: usize,
}

fn items<'a>(row: &Row<'a>) -> &'a [Value] {
    match row.value {
        Value::List(items) => items,
        _ => &[],
    }
}

impl Places {
    fn new(within: Within) -> Places {
        Places { within, lists: Vec::new(), states: Vec::new(), used: 0 }
    }

    fn at(&self, place: usize) -> &[State] {
        let width = self.within.len();
        &self.states[place * width..(place + 1) * width]
    }

    fn at_mut(&mut self, place: usize) -> &mut [State] {
        let width = self.within.len();
        &mut self.states[place * width..(place + 1) * width]
    }

    /// Counts so many lists more at a place, all before which have as many.
    fn reach(&mut self, place: usize, lists: u64) {
        if place == self.lists.len() {
            self.lists.push(0);
            self.states.extend(self.within.states());
        }
        self.lists[place] = self.lists[place].saturating_add(lists);
        self.used = self.used.max(place + 1);
    }
}

impl Running for Places {
    fn name(&self) -> String {
        format!("at places:{}", self.within.name)
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::new(Places::new(self.within.again()))
    }

    fn insert(&mut self, row: &Row<'_>) {
        for (place, item) in items(row).iter().enumerate() {
            self.reach(place, 1);
            let row = Row { value: item, ..*row };
            self.at_mut(place).iter_mut().for_each(|state| state.insert(&row));
        }
    }

    fn remove(&mut self, row: &Row<'_>) {
        let known = self.used;
        for (place, item) in items(row).iter().enumerate().take(known) {
            self.lists[place] = self.lists[place].saturating_sub(1);
            let row = Row { value: item, ..*row };
            self.at_mut(place).iter_mut().for_each(|state| state.remove(&row));
        }
        while self.used > 0 && self.lists[self.used - 1] == 0 {
            self.used -= 1;
            self.at_mut(self.used).iter_mut().for_each(State::clear);
        }
    }

    fn clear(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.lists[..used].fill(0);
        let states = used * self.within.len();
        self.states[..states].iter_mut().for_each(State::clear);
    }

    fn merge(&mut self, other: &dyn Running) {
        let Some(other) = other.as_any().downcast_ref::<Places>() else { return };
        for place in 0..other.used {
            self.reach(place, other.lists[place]);
            for (state, other) in self.at_mut(place).iter_mut().zip(other.at(place)) {
                state.merge(other);
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.count(self.used as u64);
        for place in 0..self.used {
            out.count(self.lists[place]);
            within::save(self.at(place), &mut out);
        }
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let mut restored = Places::new(self.within.again());
        for _ in 0..bytes.count()? {
            let lists = bytes.count().filter(|lists| *lists > 0)?;
            if restored.lists.last().is_some_and(|before| *before < lists) {
                return None;
            }
            restored.lists.push(lists);
            restored.states.extend(self.within.restore(&mut bytes)?);
        }
        restored.used = restored.lists.len();
        bytes.end(Box::new(restored) as Box<dyn Running>)
    }

    fn bytes(&self) -> usize {
        size_of::<Places>() + size_of_val(&*self.lists) + within::bytes(&self.states)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The rows whose list reaches a place, with what stands there.
struct AtPlace<'a> {
    rows: &'a dyn Rows,
    place: usize,
}

impl Rows for AtPlace<'_> {
    fn walk(
        &self,
        columns: Columns,
        newest_first: bool,
        skip: usize,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) {
        let mut visit = within::behind(skip, visit);
        self.rows.walk(columns, newest_first, 0, &mut |row| {
            let item = items(&row).get(self.place);
            item.is_none_or(|item| visit(Row { value: item, ..row }))
        });
    }
}
