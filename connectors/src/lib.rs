//! Everything in Tidemill that talks to a peer: where events come from ([`source`]), what their
//! bytes mean ([`format`](mod@format)), where retraining runs ([`executor`], by the
//! contract of [`task`]), where results go ([`sink`]).
//!
//! Connectors know no timely, no statistics and no pipeline: they read and write batches of typed
//! columns. Threads and ordering belong to the engine that drives them.

pub mod source;

pub mod format;

pub mod task;

pub mod executor;

pub mod sink;

pub mod client;

pub mod steps;

pub mod disk;

mod keys;
