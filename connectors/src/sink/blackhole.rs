//! `blackhole`: takes rows, counts them and forgets them; for measuring everything else.
//!
//! The count is logged at the close.

use arrow::array::RecordBatch;
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Sink};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "blackhole",
    summary: "takes rows and forgets them",
    keys: &[],
    delivery: |_| Delivery::ExactlyOnce,
    check: |plan| plan.section.params().finish(),
    targets: |_| Vec::new(),
    open: |plan, _, _| Ok(Box::new(Blackhole { name: plan.name.value.clone(), rows: 0 })),
    reopen: None,
    readback: None,
};

struct Blackhole {
    name: String,
    rows: u64,
}

impl Sink for Blackhole {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        tracing::info!(sink = self.name, rows = self.rows, "the black hole is closed");
        Ok(())
    }
}
