//! What is read from how often each value is there: `mode`, `most_frequent`, `top1_ratio`, `entropy`,
//! `histogram`, `set_agg`, `bounded_unique_count`.
//!
//! All from one exact multiset, so that a value that goes is taken out and nothing is estimated, where
//! others answer by sketches. Values are equal as in `count(distinct x)`: zeros of both signs are one, and
//! so are NaNs. NULL is no value; over no values the result is NULL, and `bounded_unique_count` 0. Where
//! two values are as frequent, the lesser one comes first. Lists and maps hold from 1 to 1,000 of them.
//!
//! The multiset costs a hash step a row; a read sorts the different values of the window.

use std::cmp::Reverse;

use tidemill_types::{DataType, Item, Value};

use super::distinct::Distinct;
use super::ordered::{rank, unrank};
use super::{Aggregate, Call, Entry, MOST, Primitive, View, category};

pub(super) const MODE: Entry = Entry {
    name: "mode",
    aliases: &[],
    summary: "the most frequent value; of several the least",
    build: |call| {
        call.without_constants()?;
        build(call, call.input(&DataType::ALL)?, Read::Mode)
    },
};

pub(super) const MOST_FREQUENT: Entry = Entry {
    name: "most_frequent",
    aliases: &["topn_frequency", "approx_top_k", "top_k_frequency"],
    summary: "the k most frequent values, most frequent first: most_frequent(x, k)",
    build: |call| {
        let (item, k) = (call.item(&DataType::ALL)?, call.bound(call.constants, None)?);
        build(call, DataType::List(item), Read::MostFrequent(k))
    },
};

pub(super) const TOP1_RATIO: Entry = Entry {
    name: "top1_ratio",
    aliases: &[],
    summary: "the share of the most frequent value among the values",
    build: |call| {
        call.without_constants()?;
        call.input(&DataType::ALL)?;
        build(call, DataType::Float64, Read::TopRatio)
    },
};

pub(super) const ENTROPY: Entry = Entry {
    name: "entropy",
    aliases: &[],
    summary: "Shannon's entropy of the values, in bits: 0 where all are equal",
    build: |call| {
        call.without_constants()?;
        call.input(&DataType::ALL)?;
        build(call, DataType::Float64, Read::Entropy)
    },
};

pub(super) const HISTOGRAM: Entry = Entry {
    name: "histogram",
    aliases: &["approx_histogram_k", "value_counts"],
    summary: "how often each value is there, the k most frequent: histogram(x, k = 1000)",
    build: |call| {
        call.input(&[DataType::String, DataType::Int64, DataType::Bool])?;
        let k = call.bound(call.constants, Some(MOST))?;
        build(call, DataType::Map(Item::Int64), Read::Histogram(k))
    },
};

pub(super) const SET_AGG: Entry = Entry {
    name: "set_agg",
    aliases: &["array_agg_distinct", "collect_set"],
    summary: "the different values in order, the k least: set_agg(x, k = 1000)",
    build: |call| {
        let (item, k) = (call.item(&DataType::ALL)?, call.bound(call.constants, Some(MOST))?);
        build(call, DataType::List(item), Read::Set(k))
    },
};

pub(super) const BOUNDED_UNIQUE_COUNT: Entry = Entry {
    name: "bounded_unique_count",
    aliases: &["bounded_count_distinct"],
    summary: "count(distinct x), and k where there are more: bounded_unique_count(x, k)",
    build: |call| {
        call.input(&DataType::ALL)?;
        let k = call.bound(call.constants, None)?;
        build(call, DataType::Int64, Read::Count(k))
    },
};

fn build(call: &Call<'_>, output: DataType, read: Read) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    Ok(Box::new(Frequency { output, read }))
}

enum Read {
    Mode,
    MostFrequent(usize),
    TopRatio,
    Entropy,
    Histogram(usize),
    Set(usize),
    Count(usize),
}

struct Frequency {
    output: DataType,
    read: Read,
}

impl Aggregate for Frequency {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Distinct]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(values) = view.distinct() else { return Value::Null };
        if let Read::Count(k) = self.read {
            return Value::Int(values.len().min(k) as i64);
        }
        if values.is_empty() {
            return Value::Null;
        }
        match self.read {
            Read::Mode => {
                let first = most_frequent(values).into_iter().next();
                first.map(|(value, _)| one(&value)).unwrap_or_default()
            }
            Read::MostFrequent(k) => {
                most_frequent(values).into_iter().take(k).map(|(value, _)| one(&value)).collect()
            }
            Read::TopRatio => Value::Float(top_ratio(values)),
            Read::Entropy => Value::Float(entropy(values)),
            Read::Histogram(k) => {
                let counts = most_frequent(values).into_iter().take(k);
                let entry =
                    |(value, n): (Value, u64)| Some((category(&value)?, Value::Int(n as i64)));
                Value::map(counts.filter_map(entry))
            }
            Read::Set(k) => {
                values.sorted().into_iter().take(k).map(|(value, _)| one(&value)).collect()
            }
            Read::Count(_) => Value::Null,
        }
    }
}

/// Values and counts, by falling count and then by value.
fn most_frequent(values: &Distinct) -> Vec<(Value, u64)> {
    let mut all = values.sorted();
    all.sort_by_key(|(_, n)| Reverse(*n));
    all
}

/// The counts, least first: an order that does not depend on the table's.
fn counts(values: &Distinct) -> (Vec<u64>, f64) {
    let mut counts: Vec<u64> = values.sorted().into_iter().map(|(_, n)| n).collect();
    counts.sort_unstable();
    let total = counts.iter().sum::<u64>() as f64;
    (counts, total)
}

fn top_ratio(values: &Distinct) -> f64 {
    let (counts, total) = counts(values);
    counts.last().map_or(0.0, |most| *most as f64 / total)
}

/// The sum of p log2(1 / p), no term of which is below 0.
fn entropy(values: &Distinct) -> f64 {
    let (counts, total) = counts(values);
    let term = |n: &u64| *n as f64 / total * libm::log2(total / *n as f64);
    counts.iter().map(term).sum()
}

/// A value of those that are equal: the positive zero, one NaN.
fn one(value: &Value) -> Value {
    match value {
        Value::Float(x) => unrank(rank(*x)),
        other => other.clone(),
    }
}
