//! `first_k`, `last_k`, `first_distinct`, `last_distinct`, `array_agg`, `string_agg`, `nth_value`: values
//! in the order of their rows, (event time, id).
//!
//! The rows themselves are read, so nothing is kept for these. A list is in the order of events, the
//! oldest first, whichever end it is taken from. NULL values are not there, except in `array_agg` and
//! `nth_value`, which take rows as they are, as SQL has it. Over no values the result is NULL, not an
//! empty list. A list holds from 1 to 1,000 values.
//!
//! Cost of a read: the rows from the asked end until k values are found; so at worst, where few differ
//! or most are NULL, all rows of the window.

use std::collections::BTreeSet;

use tidemill_types::{DataType, Item, Value};

use super::{Aggregate, Call, Entry, MOST, Primitive, View, written};

pub(super) const FIRST_K: Entry = Entry {
    name: "first_k",
    aliases: &["first_n"],
    summary: "the k oldest values, oldest first: first_k(x, k)",
    build: |call| list(call, Take::First, None),
};

pub(super) const LAST_K: Entry = Entry {
    name: "last_k",
    aliases: &["last_n"],
    summary: "the k newest values, oldest first: last_k(x, k)",
    build: |call| list(call, Take::Last, None),
};

pub(super) const FIRST_DISTINCT: Entry = Entry {
    name: "first_distinct",
    aliases: &[],
    summary: "the first k different values in the order in which they came: first_distinct(x, k)",
    build: |call| list(call, Take::FirstDistinct, None),
};

pub(super) const LAST_DISTINCT: Entry = Entry {
    name: "last_distinct",
    aliases: &[],
    summary: "the k different values that came last, by when each last came: last_distinct(x, k)",
    build: |call| list(call, Take::LastDistinct, None),
};

pub(super) const ARRAY_AGG: Entry = Entry {
    name: "array_agg",
    aliases: &["list", "collect_list"],
    summary: "the values of the newest n rows, NULL or not, oldest first: array_agg(x, n = 1000)",
    build: |call| list(call, Take::Rows, Some(MOST)),
};

pub(super) const STRING_AGG: Entry = Entry {
    name: "string_agg",
    aliases: &["group_concat", "listagg"],
    summary: "the newest n texts joined, oldest first: string_agg(x, separator, n = 1000)",
    build: |call| {
        call.without_distinct()?;
        call.without_second()?;
        call.input(&[DataType::String])?;
        let (separator, rest) = match call.constants {
            [Value::Text(separator), rest @ ..] => (separator.to_string(), rest),
            [other, ..] => {
                let found = written(other);
                return Err(format!("{} takes a text as separator; found {found}", call.name));
            }
            [] => return Err(format!("{} takes a separator: {}(x, ',')", call.name, call.name)),
        };
        Ok(Box::new(Joined { separator, k: call.bound(rest, Some(MOST))? }))
    },
};

pub(super) const NTH_VALUE: Entry = Entry {
    name: "nth_value",
    aliases: &[],
    summary: "the value in the n-th row, from 1, NULL or not: nth_value(x, n)",
    build: |call| {
        call.without_distinct()?;
        call.without_second()?;
        let output = call.any_input()?;
        match call.constants {
            [Value::Int(n @ 1..)] => Ok(Box::new(Nth { output, skip: *n as usize - 1 })),
            [other] => {
                let found = written(other);
                Err(format!("{} takes the number of a row, from 1; found {found}", call.name))
            }
            other => Err(format!("{} takes 2 arguments; found {}", call.name, other.len() + 1)),
        }
    },
};

fn list(
    call: &Call<'_>,
    take: Take,
    otherwise: Option<usize>,
) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    let item = call.item(&DataType::ALL)?;
    Ok(Box::new(Sequence { item, take, k: call.bound(call.constants, otherwise)? }))
}

#[derive(Clone, Copy, PartialEq)]
enum Take {
    First,
    Last,
    FirstDistinct,
    LastDistinct,
    Rows,
}

struct Sequence {
    item: Item,
    take: Take,
    k: usize,
}

impl Aggregate for Sequence {
    fn output(&self) -> DataType {
        DataType::List(self.item)
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let newest_first = !matches!(self.take, Take::First | Take::FirstDistinct);
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        view.walk(newest_first, |row| {
            let taken = match self.take {
                Take::Rows => true,
                Take::First | Take::Last => !row.value.is_null(),
                Take::FirstDistinct | Take::LastDistinct => {
                    !row.value.is_null() && seen.insert(row.value.clone())
                }
            };
            if taken {
                found.push(row.value.clone());
            }
            found.len() < self.k
        });
        if newest_first {
            found.reverse();
        }
        if found.is_empty() { Value::Null } else { Value::List(found.into()) }
    }
}

struct Joined {
    separator: String,
    k: usize,
}

impl Aggregate for Joined {
    fn output(&self) -> DataType {
        DataType::String
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let mut found = Vec::new();
        view.walk(true, |row| {
            found.extend(row.value.as_str().map(str::to_string));
            found.len() < self.k
        });
        found.reverse();
        if found.is_empty() { Value::Null } else { Value::Text(found.join(&self.separator).into()) }
    }
}

struct Nth {
    output: DataType,
    skip: usize,
}

impl Aggregate for Nth {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        view.oldest(self.skip).unwrap_or_default()
    }
}
