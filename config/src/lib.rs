//! What a user may declare: a pipeline file becomes a [`plan::Plan`], or a list of
//! [`diagnostic::Diagnostic`]s that show file, line, reason and cure.

pub mod document;

mod executors;

mod parts;

mod models;

mod drifts;

mod online;
mod traces;

pub mod gate;

pub mod rollout;

mod windows;

pub mod table;

pub mod plan;

pub mod schema;

pub mod section;

pub mod units;

mod checkpoint;
pub mod diagnostic;

mod suggest;

pub use suggest::{cure, suggest};
