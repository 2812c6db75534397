//! The words every room of Tidemill speaks.
//!
//! A word enters here when two packages above need it and it has no behaviour beyond its own
//! invariants. No I/O, no clock, no thread.
//!
//! In reading order: [`time`], [`zone`], [`value`], [`schema`], [`key`], [`event`], [`model`], [`task`],
//! [`drift`], [`error`], [`trace`], [`long`].

pub mod time;

pub mod zone;

pub mod value;

pub mod schema;

pub mod key;

pub mod event;

pub mod model;

pub mod task;

pub mod drift;

pub mod error;

pub mod trace;

pub mod long;

pub use error::{Error, Fault};
pub use event::{DeadLetter, Id, Provenance};
pub use key::{KEY_GROUPS, Key};
pub use schema::{DataType, Field, Item, MOST_ITEMS, Schema};
pub use time::Micros;
pub use trace::TraceContext;
pub use value::Value;
pub use zone::Zone;
