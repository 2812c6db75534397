//! `NAME(unnest(x))`: any aggregate over the items of lists: `count(distinct unnest(tags))`,
//! `top_k(unnest(prices), 3)`. `NAME(x, unnest(y))` is over pairs of x and each item of y: `sum_per(amount,
//! unnest(tags))`. And `set_union(x)`, which is `set_agg(unnest(x))`.
//!
//! Every item is to the aggregate what a row is to it elsewhere: a NULL among the items counts where a
//! NULL of a row does. A list that is NULL or empty has no items. The items of a list are in its order
//! where the order of rows matters, and all have the time of their row.
//!
//! The cost of a row is that of the aggregate for each of its items. Least and greatest values keep all
//! items in order. Aggregates that read rows by position walk over the items of the window.

use std::any::Any;
use std::sync::Arc;

use tidemill_types::{DataType, Value};

use super::bytes::{Reader, Writer};
use super::state::State;
use super::within::{self, Within};
use super::{Aggregate, Built, Call, Columns, Entry, Primitive, Row, Rows, Running, View};

pub(super) const SET_UNION: Entry = Entry {
    name: "set_union",
    aliases: &[],
    summary: "the different items of lists in order, the k least: set_union(x, k = 1000); set_agg(unnest(x))",
    build: |call| match call.input {
        Some(DataType::List(_)) => {
            super::build(&Call { name: "set_agg", unnest: Unnest::First, ..call.clone() })
        }
        // Of single values it has always been another name.
        _ => super::build(&Call { name: "set_agg", ..call.clone() }),
    },
};

/// Which argument of a call is taken apart into its items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unnest {
    /// None: lists are values as any.
    #[default]
    No,
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// What `single` builds for a call over single values, over items.
pub(super) fn over(
    call: &Call<'_>,
    unnest: Unnest,
    single: impl FnOnce(&Call<'_>) -> Built,
) -> Built {
    let items = |of: Option<DataType>| match of {
        Some(DataType::List(item)) => Ok(Some(item.into())),
        Some(other) => Err(format!("unnest takes a column of lists; found {other}")),
        None => Err("unnest takes a column of lists; found none".to_string()),
    };
    let mut over = Call { unnest: Unnest::No, ..call.clone() };
    match unnest {
        Unnest::No => {}
        Unnest::First => over.input = items(call.input)?,
        Unnest::Second => over.second = items(call.second)?,
    }
    let inner = Arc::from(single(&over)?);
    Ok(Box::new(OverItems { inner, unnest }))
}

struct OverItems {
    inner: Arc<dyn Aggregate>,
    unnest: Unnest,
}

impl Aggregate for OverItems {
    fn output(&self) -> DataType {
        self.inner.output()
    }

    fn primitives(&self) -> &'static [Primitive] {
        within::primitives(&*self.inner)
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        let within = Within::new(&*self.inner);
        Some(Box::new(Items { unnest: self.unnest, states: within.states().collect(), within }))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(own) = view.own::<Items>() else { return Value::Null };
        let rows = ItemRows { rows: view.rows, unnest: self.unnest };
        own.within.finish(&*self.inner, &own.states, &rows, view)
    }
}

/// The states of an aggregate over the items of a window.
struct Items {
    within: Within,
    unnest: Unnest,
    states: Vec<State>,
}

/// The items of a row, as rows.
fn items<'a>(row: &Row<'a>, unnest: Unnest) -> impl DoubleEndedIterator<Item = Row<'a>> {
    let Row { time, value, second } = *row;
    let of = if unnest == Unnest::Second { second } else { value };
    let items: &[Value] = match of {
        Value::List(items) => items,
        _ => &[],
    };
    items.iter().map(move |item| match unnest {
        Unnest::Second => Row { time, value, second: item },
        _ => Row { time, value: item, second },
    })
}

impl Running for Items {
    fn name(&self) -> String {
        format!("of items, {:?}:{}", self.unnest, self.within.name)
    }

    fn fresh(&self) -> Box<dyn Running> {
        let (within, states) = (self.within.again(), self.within.states().collect());
        Box::new(Items { within, unnest: self.unnest, states })
    }

    fn insert(&mut self, row: &Row<'_>) {
        for item in items(row, self.unnest) {
            self.states.iter_mut().for_each(|state| state.insert(&item));
        }
    }

    fn remove(&mut self, row: &Row<'_>) {
        for item in items(row, self.unnest) {
            self.states.iter_mut().for_each(|state| state.remove(&item));
        }
    }

    fn clear(&mut self) {
        self.states.iter_mut().for_each(State::clear);
    }

    fn merge(&mut self, other: &dyn Running) {
        let Some(other) = other.as_any().downcast_ref::<Items>() else { return };
        for (state, other) in self.states.iter_mut().zip(&other.states) {
            state.merge(other);
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        within::save(&self.states, &mut out);
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let states = self.within.restore(&mut bytes)?;
        let (within, unnest) = (self.within.again(), self.unnest);
        bytes.end(Box::new(Items { within, unnest, states }) as Box<dyn Running>)
    }

    fn bytes(&self) -> usize {
        size_of::<Items>() + within::bytes(&self.states)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The items of the rows of a window.
struct ItemRows<'a> {
    rows: &'a dyn Rows,
    unnest: Unnest,
}

impl Rows for ItemRows<'_> {
    fn walk(
        &self,
        columns: Columns,
        newest_first: bool,
        skip: usize,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) {
        let mut show = within::behind(skip, visit);
        self.rows.walk(columns, newest_first, 0, &mut |row| {
            let mut items = items(&row, self.unnest);
            if newest_first { items.rev().all(&mut show) } else { items.all(&mut show) }
        });
    }
}
