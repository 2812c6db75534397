//! `top_k(x, k)` and `bottom_k(x, k)`: the greatest and the least values, each as often as it is there.
//!
//! Of any type; NaN is the greatest number, texts order by their bytes, NULL values are not there. The
//! most extreme value stands first. Fewer than k values give a shorter list, none NULL. k is from 1 to
//! 1,000. The values are kept in order, so that each that comes or goes costs two binary searches; a
//! read costs a step a value.

use tidemill_types::{DataType, Item, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const TOP_K: Entry = Entry {
    name: "top_k",
    aliases: &["top"],
    summary: "the k greatest values, greatest first: top_k(x, k)",
    build: |call| build(call, true),
};

pub(super) const BOTTOM_K: Entry = Entry {
    name: "bottom_k",
    aliases: &[],
    summary: "the k least values, least first: bottom_k(x, k)",
    build: |call| build(call, false),
};

fn build(call: &Call<'_>, greatest: bool) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    let item = call.item(&DataType::ALL)?;
    Ok(Box::new(Ranked { item, k: call.bound(call.constants, None)?, greatest }))
}

struct Ranked {
    item: Item,
    k: usize,
    greatest: bool,
}

impl Aggregate for Ranked {
    fn output(&self) -> DataType {
        DataType::List(self.item)
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Ordered]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(ordered) = view.ordered().filter(|ordered| !ordered.is_empty()) else {
            return Value::Null;
        };
        let last = ordered.len() - 1;
        let rank = |n: usize| if self.greatest { last - n } else { n };
        let ranks = (0..ordered.len().min(self.k)).map(rank);
        Value::List(ranks.filter_map(|rank| ordered.kth(rank)).collect())
    }
}
