//! Everything in Tidemill that is computed, in the order in which the data meets it.
//!
//! Arithmetic is pure: no clock, no file, no thread of its own, no unseeded chance, no timely. Only
//! [`dataflow`] knows timely, and only [`expression`] knows DataFusion.

pub mod column;

pub mod order;

pub mod batches;

pub mod expression;

pub mod aggregate;

pub mod window;

pub mod drift;

pub mod learner;

pub mod trainer;

pub mod predictor;

pub mod evaluate;

pub mod dataflow;
