//! Tidemill: a streaming dataflow engine with incremental model updates.
//!
//! The program, in reading order: what a person types ([`command`]); what a plan becomes ([`engine`]), for history
//! too ([`backfill`]); what its parts stand on ([`host`]);
//! where labels meet scores ([`mill`]); what of it outlives a crash ([`checkpoint`]);
//! what a run leaves behind
//! ([`journal`], [`models`]); what it tells while it runs and when it is over ([`observe`],
//! [`report`], [`board`]); and what others ask of it: what is held for them ([`online`]) and how they ask ([`serve`]).

pub mod backfill;

pub mod board;

pub mod command;

pub mod host;

pub mod engine;

pub mod mill;

pub mod checkpoint;

pub mod journal;

pub mod models;

pub mod online;

pub mod observe;

pub mod report;

pub mod serve;
