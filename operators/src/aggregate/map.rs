//! `map_NAME(m)`: any aggregate of single values for each key of maps, as a map: `map_sum`, `map_avg`, `map_min`,
//! `map_max`, `map_count`, and so `map_stddev_pop`, `map_last_value` and all others.
//!
//! Under a key the result has what the aggregate gives over the values that the maps of the window have under it;
//! a map without the key has nothing to say, and a NULL value is to the aggregate what a NULL of a row is
//! elsewhere. A map that is NULL or empty is not there; over no entries the result is NULL. What is shown of many
//! keys, and what they cost, is as of categories: `per.rs`.

use std::sync::Arc;

use tidemill_types::DataType;

use super::per::{self, By, Show};
use super::{Built, Call, Entry, MOST};

pub(super) const MAP_COUNT: Entry = Entry {
    name: "map_count",
    aliases: &[],
    summary: "the number of values under each key of maps, as a map",
    build: |call| build(call, "count"),
};

pub(super) const MAP_SUM: Entry = Entry {
    name: "map_sum",
    aliases: &[],
    summary: "the sum under each key of maps, as a map",
    build: |call| build(call, "sum"),
};

pub(super) const MAP_AVG: Entry = Entry {
    name: "map_avg",
    aliases: &["map_mean"],
    summary: "the mean under each key of maps, as a map",
    build: |call| build(call, "avg"),
};

pub(super) const MAP_MIN: Entry = Entry {
    name: "map_min",
    aliases: &[],
    summary: "the least value under each key of maps, as a map",
    build: |call| build(call, "min"),
};

pub(super) const MAP_MAX: Entry = Entry {
    name: "map_max",
    aliases: &[],
    summary: "the greatest value under each key of maps, as a map",
    build: |call| build(call, "max"),
};

/// The aggregate within a name such as `map_sum`.
pub(super) fn parts(name: &str) -> Option<&str> {
    name.strip_prefix("map_")
}

/// The aggregate of that name for each key.
fn build(call: &Call<'_>, inner: &str) -> Built {
    over(call, inner, super::build)
}

/// What `single` builds of that name, for each key.
pub(super) fn over(call: &Call<'_>, inner: &str, single: impl FnOnce(&Call<'_>) -> Built) -> Built {
    let value = match call.input {
        Some(DataType::Map(value)) => value,
        Some(other) => return Err(format!("{} takes a column of maps; found {other}", call.name)),
        None => return Err(format!("{} takes a column of maps; found no column", call.name)),
    };
    let inner = single(&Call { name: inner, input: Some(value.into()), ..call.clone() })?;
    per::of(Arc::from(inner), By::Keys, Show::Most, MOST)
}
