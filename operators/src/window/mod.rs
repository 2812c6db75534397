//! Windows: which rows of a key an aggregate sees, kept incrementally and exactly.
//!
//! A [`Store`] keeps the rows of every key of one *group*, the windows over one source by the same
//! key, once and in (event time, id) order; a window is a cursor into them plus its primitives.

use std::sync::Arc;

use tidemill_config::plan::Frame;
use tidemill_types::{Id, Key, Micros, Value};

use crate::aggregate::Aggregate;

/// One aggregate over one window of a group.
#[derive(Clone)]
pub struct Output {
    /// The frame of its window.
    pub frame: Frame,
    /// The column it reads: index into a row's values; none for `count(*)`.
    pub column: Option<usize>,
    /// `FILTER (WHERE ...)`: index of a column of truth values.
    pub filter: Option<usize>,
    /// The aggregate.
    pub aggregate: Arc<dyn Aggregate>,
}

/// What a group keeps and answers.
#[derive(Clone)]
pub struct Group {
    /// Whether reads come from the stream that is inserted: then a read at (t, id) sees the rows at
    /// or before (t, id), itself included; else every row with time <= t.
    pub own_stream: bool,
    /// What each read answers, in order.
    pub outputs: Vec<Output>,
}

/// The rows and windows of one group.
pub struct Store {
    _group: Group,
}

impl Store {
    /// An empty store.
    pub fn new(group: Group) -> Store {
        Store { _group: group }
    }

    /// Takes a row in, wherever it belongs in time; `values` are the columns that outputs name.
    pub fn insert(&mut self, _key: Key, _time: Micros, _id: &Id, _values: &[Value]) {}

    /// Takes back a row that was inserted with exactly these arguments; false if it is not there.
    pub fn retract(&mut self, _key: Key, _time: Micros, _id: &Id, _values: &[Value]) -> bool {
        false
    }

    /// Answers every output as of (time, id), appended to `out`. For each key, reads come in
    /// (time, id) order for full speed; a read before an earlier one is right too, but recomputes.
    pub fn read(&mut self, _key: Option<Key>, _time: Micros, _id: &Id, _out: &mut Vec<Value>) {}

    /// Lets go of what no read at `watermark` or later can see, in all keys.
    pub fn advance(&mut self, _watermark: Micros) {}

    /// Keys, rows and bytes held, estimated.
    pub fn size(&self) -> (usize, usize, usize) {
        (0, 0, 0)
    }
}
