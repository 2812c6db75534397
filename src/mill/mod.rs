//! Where labels meet scores. Today: the label join; learning, drift, retraining and promotion are
//! driven from here once the engine runs.

pub mod join;
