//! Clients shared by a source and a sink of one technology.

#[cfg(feature = "kafka")]
pub mod kafka;

pub mod mlflow;

pub mod otlp;

pub mod redis;

mod tls;
