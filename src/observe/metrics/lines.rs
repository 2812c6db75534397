//! What is told of checkpoints.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter};
use tidemill_types::Error;

use super::{Families, Metrics};
use crate::checkpoint::keeper::Told;

const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Checkpoints as Prometheus sees them. The age of the newest is `time()` less its time.
pub(super) struct LineMetrics {
    seconds: Histogram,
    bytes: Gauge,
    written: IntCounter,
    last: Gauge,
}

impl LineMetrics {
    pub(super) fn new(of: &Families) -> Result<LineMetrics, Error> {
        let name = "tidemill_checkpoint_duration_seconds";
        let help = "From the choice of a checkpoint to the moment when it counts.";
        let seconds = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        Ok(LineMetrics {
            seconds: of.register(Histogram::with_opts(seconds))?,
            bytes: of.gauge("checkpoint_size_bytes", "Size of the newest checkpoint, packed.")?,
            written: of
                .counter("checkpoint_written_bytes_total", "Bytes written for checkpoints.")?,
            last: of.gauge(
                "checkpoint_last_timestamp_seconds",
                "When the newest checkpoint came to count, since 1970; 0 before the first.",
            )?,
        })
    }
}

impl Metrics {
    /// A checkpoint counts.
    pub fn checkpoint(&self, told: Told) {
        self.lines.seconds.observe(told.took.as_secs_f64());
        self.lines.bytes.set(told.bytes as f64);
        self.lines.written.inc_by(told.written);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.lines.last.set(now.as_secs_f64());
    }
}
