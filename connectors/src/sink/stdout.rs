//! `stdout`: text to the standard output, for people and pipes.
//!
//! * **Bytes** `format = "json"` (default) or `"csv"` with a header; whole lines only.
//! * **Commit** writes what was taken since the last one.
//! * **Delivery** at least once.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::SinkPlan;
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Sink};
use crate::format::{self, FileWriter, Packing};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "stdout",
    summary: "text to the standard output",
    keys: &[],
    delivery: |_| Delivery::AtLeastOnce,
    check: |plan| read(plan).map(drop),
    targets: |_| Vec::new(),
    open: |plan, schema, _| {
        let format = read(plan).map_err(keys::error)?;
        Ok(Box::new(Lines::new(format, &schema, io::stdout())?))
    },
    reopen: None,
    readback: None,
};

/// Lines are handed on when so many bytes are held, commit or not.
const HELD: usize = 1 << 20;

fn read(plan: &SinkPlan) -> Result<&'static format::Entry, Vec<Diagnostic>> {
    plan.section.params().finish()?;
    format::for_messages(plan.format.as_ref()).map(|(entry, _)| entry).map_err(|e| vec![e])
}

/// Writes lines to something that people or pipes read.
struct Lines<W> {
    writer: Box<dyn FileWriter>,
    held: Held,
    out: W,
}

/// Bytes between the format and the output.
#[derive(Clone, Default)]
struct Held(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Held {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send> Lines<W> {
    fn new(format: &format::Entry, schema: &SchemaRef, out: W) -> Result<Lines<W>, Error> {
        let held = Held::default();
        let writer = (format.writer)(Box::new(held.clone()), schema, Packing::default())?;
        Ok(Lines { writer, held, out })
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        let mut bytes = self.held.bytes();
        let written = self.out.write_all(&bytes).and_then(|()| self.out.flush());
        bytes.clear();
        written.map_err(|e| {
            let error = Error::from(e);
            let message = format!("cannot write to the standard output: {}", error.message);
            Error { message, ..error }
        })
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        self.writer.write(rows)?;
        let full = self.held.bytes().len() >= HELD;
        if full { self.hand_on() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.hand_on()
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.hand_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use tidemill_config::plan::At;
    use tidemill_types::{DataType, Schema};

    #[test]
    fn lines_appear_at_the_commit() {
        let schema = Schema::new([("a", DataType::Int64)]).to_arrow();
        let rows = RecordBatch::try_new(
            schema.clone(),
            vec![std::sync::Arc::new(Int64Array::from(vec![1, 2]))],
        )
        .unwrap();
        let csv = format::by_name(&At::nowhere("csv".to_string())).unwrap();
        let mut lines = Lines::new(csv, &schema, Vec::new()).unwrap();
        lines.write(&rows, &[0, 0]).unwrap();
        assert!(lines.out.is_empty());
        lines.commit().unwrap();
        lines.write(&rows.slice(1, 1), &[0]).unwrap();
        lines.commit().unwrap();
        assert_eq!(String::from_utf8(lines.out).unwrap(), "a\n1\n2\n2\n");
    }
}
