//! `generator`: a file's rows over and over, each time later: "the year ten times".
//!
//! * **Rows** those of the files, `times` times. In pass k (from 0) every declared timestamp column is
//!   later by k times `shift`, and the source's `id`, where that is a declared int64 column, larger by
//!   k times its stride: its largest value less its smallest, plus one, over the first pass. So ids
//!   stay unique, and two generators over the same file agree on them.
//! * **Partitions**, **bad records**, **end** as for `file`; bad records come again in each pass.
//! * **Offsets** run on: pass k starts behind the last line of pass k - 1.
//! * **Seek** reads from the start to the place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{SourcePlan, Until};
use tidemill_types::{DataType, Error, Micros};

use super::file::{Files, Keys, read_files};
use super::{Chunk, Entry, Polled, Source};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "generator",
    summary: "the rows of files over and over, each time later",
    keys: &[
        ("of", "text or list of texts", "the files; relative to the pipeline file"),
        ("times", "1 to 1000000, 1", "how often"),
        ("shift", "duration, 365d", "how much later each time"),
        ("max_record", "bytes, 1048576", "a larger record goes to the dead letters"),
    ],
    until: Until::End,
    check: |plan| read(plan).map(drop),
    open: |plan, share| {
        let repeat = read(plan).map_err(keys::error)?;
        Ok(Box::new(Generator {
            files: Files::open(plan.name.value.clone(), repeat.files)?,
            times: repeat.times,
            shift: repeat.shift,
            id: id_column(plan),
            mine: 0 % share.1.max(1) == share.0,
            paused: false,
            pass: 0,
            before: 0,
            ids: None,
            skip: 0,
        }))
    },
};

struct Repeat {
    files: Keys,
    times: u64,
    shift: Micros,
}

fn read(plan: &SourcePlan) -> Result<Repeat, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let files = read_files(plan, &mut params, "of");
    let times = params.integer("times", 1, 1..=1_000_000) as u64;
    let shift = params.optional_duration("shift").unwrap_or(365 * tidemill_types::time::DAY);
    let mut errors = params.finish().err().unwrap_or_default();
    match keys::take(files, &mut errors) {
        Some(files) if errors.is_empty() => Ok(Repeat { files, times, shift }),
        _ => Err(errors),
    }
}

/// The id's column, where it is one that can be shifted.
fn id_column(plan: &SourcePlan) -> Option<usize> {
    let column = plan.schema.index_of(&plan.id.as_ref()?.value)?;
    (plan.schema.fields[column].data_type == DataType::Int64).then_some(column)
}

struct Generator {
    files: Files,
    times: u64,
    shift: Micros,
    id: Option<usize>,
    mine: bool,
    paused: bool,
    /// The pass under way; `times` at the end, one more when that was said.
    pass: u64,
    /// Offsets of the passes before.
    before: u64,
    /// Smallest and largest id, as far as the first pass has come.
    ids: Option<(i64, i64)>,
    skip: u64,
}

impl Generator {
    fn next(&mut self) -> Result<Option<Chunk>, Error> {
        while self.pass < self.times {
            match self.files.next()? {
                Some(chunk) => {
                    if let Some(chunk) = self.shifted(chunk)? {
                        return Ok(Some(chunk));
                    }
                }
                None => {
                    self.before += self.files.position();
                    self.pass += 1;
                    self.files.rewind(0);
                }
            }
        }
        Ok(None)
    }

    /// The chunk as of this pass, without what lies before the place sought.
    fn shifted(&mut self, mut chunk: Chunk) -> Result<Option<Chunk>, Error> {
        if self.pass == 0 {
            self.note_ids(&chunk.rows);
        }
        for offset in &mut chunk.offsets {
            *offset += self.before;
        }
        let passed = chunk.offsets.partition_point(|offset| *offset < self.skip);
        chunk.offsets.drain(..passed);
        let rows = chunk.rows.slice(passed, chunk.offsets.len());
        chunk.rows = self.later(&rows)?;
        for (reject, offset) in chunk.rejects.iter_mut().zip(&mut chunk.rejected) {
            reject.provenance.offset += self.before;
            *offset += self.before;
        }
        let passed = chunk.rejected.partition_point(|offset| *offset < self.skip);
        chunk.rejects.drain(..passed);
        chunk.rejected.drain(..passed);
        Ok(Some(chunk).filter(|c| !c.offsets.is_empty() || !c.rejects.is_empty()))
    }

    fn note_ids(&mut self, rows: &RecordBatch) {
        let Some(column) = self.id else { return };
        let ids = rows.column(column).as_primitive::<Int64Type>();
        let (Some(least), Some(most)) = (min(ids), max(ids)) else { return };
        let (a, b) = self.ids.unwrap_or((least, most));
        self.ids = Some((a.min(least), b.max(most)));
    }

    fn later(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let pass = self.pass as i64;
        let stride = self.ids.map_or(0, |(a, b)| b.saturating_sub(a).saturating_add(1));
        let (ids, times) = (pass.saturating_mul(stride), pass.saturating_mul(self.shift));
        let column = |(i, column): (usize, &ArrayRef)| -> ArrayRef {
            if self.id == Some(i) {
                let column = column.as_primitive::<Int64Type>();
                return Arc::new(column.unary::<_, Int64Type>(|id| id.saturating_add(ids)));
            }
            let Some(column) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
                return column.clone();
            };
            let later = column.unary::<_, TimestampMicrosecondType>(|t| t.saturating_add(times));
            Arc::new(later.with_data_type(column.data_type().clone()))
        };
        let columns = rows.columns().iter().enumerate().map(column).collect();
        RecordBatch::try_new(rows.schema(), columns).map_err(|e| Error::internal(e.to_string()))
    }
}

impl Source for Generator {
    fn partitions(&self) -> Vec<u32> {
        if self.mine { vec![0] } else { Vec::new() }
    }

    fn poll(&mut self, _: Duration) -> Result<Polled, Error> {
        if !self.mine || self.paused || self.pass > self.times {
            return Ok(Polled::Nothing);
        }
        if let Some(chunk) = self.next()? {
            return Ok(Polled::Chunk(chunk));
        }
        self.pass = self.times + 1;
        Ok(Polled::AtEnd(0))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.paths()
    }

    fn pause(&mut self, _: u32, paused: bool) {
        self.paused = paused;
    }

    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        super::own(&self.partitions(), partition)?;
        self.files.rewind(0);
        self.pass = 0;
        self.before = 0;
        self.ids = None;
        self.skip = offset;
        Ok(())
    }
}
