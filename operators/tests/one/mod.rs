//! A store of one aggregate, over columns 0 and 1 where its call takes them.

use std::sync::Arc;

use tidemill_config::plan::{Edge, Frame};
use tidemill_operators::aggregate::Aggregate;
use tidemill_operators::window::{Group, Output, Store};
use tidemill_types::{DataType, Id, Key, Value};

pub fn output(
    input: Option<DataType>,
    second: Option<DataType>,
    aggregate: Arc<dyn Aggregate>,
) -> Output {
    let (column, second) = (input.map(|_| 0), second.map(|_| 1));
    let (frame, edge) = (Frame::Lifetime, Edge::default());
    Output { frame, edge, column, second, filter: None, aggregate }
}

pub fn over(
    input: Option<DataType>,
    second: Option<DataType>,
    aggregate: Arc<dyn Aggregate>,
) -> Store {
    let outputs = vec![output(input, second, aggregate)];
    Store::new(Group { own_stream: false, outputs })
}

pub fn read(store: &mut Store, time: i64) -> Value {
    let mut out = Vec::new();
    store.read(Some(Key::GLOBAL), time, &Id::Int(0), &mut out);
    out.pop().expect("one output, one value")
}
