//! Reads a source on a thread of its own: rows are parsed, completed, checked and put in order here,
//! so that the dataflow gets typed rows with a watermark, and back-pressure is a full channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Schema, TimestampMicrosecondType};
use crossbeam_channel::Sender;
use tidemill_config::plan::SourcePlan;
use tidemill_connectors::source::Chunk;
use tidemill_types::{DeadLetter, Error, Micros, Provenance, TraceContext};

use super::bell::Bell;
use super::check::Derive;
use super::lines::Resume;
use super::offsets::Offsets;
use super::outputs::Outputs;
use super::replay::Stretch;
use super::rows::{OrderedRows, ids};
use super::watch::Turns;
use crate::checkpoint::line::Read;
use crate::observe::traces;

mod reading;
mod waiting;

use self::waiting::Waiting;

/// Rows of one partition on their way into the dataflow.
pub struct Piece {
    /// The partition.
    pub partition: u32,
    /// Event times, ids and columns: several batches, one after the other, where they are long.
    pub rows: Vec<OrderedRows>,
    /// The partition's watermark after these rows.
    pub watermark: Micros,
    /// Where the partition stands.
    pub state: PartitionState,
    /// The largest event time that was not late so far.
    pub latest: Option<Micros>,
    /// What was read for it: its rows may be others, where some wait.
    pub read: Option<Read>,
}

impl Piece {
    /// The event time of its first row.
    pub fn first(&self) -> Option<Micros> {
        self.rows.iter().find_map(|rows| rows.times.first().copied())
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// There may be more at once.
    Reading,
    /// Live, read to its end for now.
    AtEnd,
    /// Bounded, read to its end for ever.
    Finished,
}

/// What a reader thread needs besides its source.
pub struct Reader {
    /// The source as planned.
    pub plan: SourcePlan,
    /// What is made of its columns.
    pub derive: Arc<Derive>,
    /// Whether its partitions finish.
    pub bounded: bool,
    /// Whether rows wait here until the watermark passes them, so that all that follows finds them in
    /// order: in `final` nothing is done with them before.
    pub waits: bool,
    /// A time beyond this is refused.
    pub latest_allowed: Box<dyn Fn() -> Micros + Send>,
    /// Where dead letters and late rows go.
    pub outputs: Outputs,
    /// Set when the run is asked to stop.
    pub stop: Arc<AtomicBool>,
    /// Rows read so far, refused ones too.
    pub read: Arc<AtomicU64>,
    /// Where is noted how far each partition was read.
    pub offsets: Arc<Offsets>,
    /// Where pieces go.
    pub to: Sender<Result<Piece, Error>>,
    /// Rung for each piece, and when there is no sender any more: it is dropped after it.
    pub bell: Bell,
    /// Where the turns of its loop are counted.
    pub turns: Arc<Turns>,
    /// Whether its rows are the ones that are scored.
    pub spine: bool,
    /// From where partitions are read on, after a restart.
    pub resume: BTreeMap<u32, Resume>,
    /// `at_once`, after a restart: offsets at which an earlier run ended its epochs, in order. No piece goes beyond
    /// one.
    pub cuts: BTreeMap<u32, Vec<u64>>,
    /// What of the source is wanted, where it is not all.
    pub stretch: Option<Arc<Stretch>>,
    /// The source's place in the plan.
    pub source: usize,
}

/// Pieces of one source that wait for a worker at most.
pub(super) const PIECES: usize = 8;

/// Rows that wait for the watermark at most, and bytes of their texts, lists and maps: where the lateness spans more,
/// they go on as they come.
const WAITING: usize = 8_192;
const WAITING_BYTES: u64 = 16 << 20;

/// What a reader remembers of a partition.
#[derive(Default)]
struct PartitionMemory {
    latest: Option<Micros>,
    waiting: Waiting,
    /// The first offset that was not read, and records before it.
    next: Option<u64>,
    rows: u64,
}

impl Reader {
    /// A chunk, in parts where it goes beyond the end of an epoch that is repeated.
    fn cut(&self, mut chunk: Chunk) -> Vec<Chunk> {
        let mut parts = Vec::new();
        for cut in self.cuts.get(&chunk.partition).into_iter().flatten() {
            let (rows, refused) = (
                chunk.offsets.partition_point(|offset| offset < cut),
                chunk.rejected.partition_point(|offset| offset < cut),
            );
            if rows + refused == 0 {
                continue;
            }
            if rows == chunk.offsets.len() && refused == chunk.rejected.len() {
                break;
            }
            let offsets = chunk.offsets.split_off(rows);
            let rejects = chunk.rejects.split_off(refused);
            let rejected = chunk.rejected.split_off(refused);
            let traced = chunk.contexts.partition_point(|(offset, _)| offset < cut);
            let contexts = chunk.contexts.split_off(traced);
            let (partition, batch) = (chunk.partition, chunk.rows.clone());
            let rest = batch.slice(rows, batch.num_rows() - rows);
            chunk.rows = batch.slice(0, rows);
            let rest = Chunk { partition, rows: rest, offsets, rejects, rejected, contexts };
            parts.push(std::mem::replace(&mut chunk, rest));
        }
        parts.push(chunk);
        parts
    }

    fn send(&self, piece: Piece) {
        if self.waits {
            for rows in &piece.rows {
                self.offsets.note(&self.plan.name.value, piece.partition, rows);
            }
        }
        // A worker that is gone has ended the run already.
        let _ = self.to.send(Ok(piece));
        self.bell.ring();
    }

    fn watermark(&self, at: &PartitionMemory) -> Micros {
        match at.latest {
            Some(latest) => {
                let sort = self.plan.sort.unwrap_or(0);
                latest.saturating_sub(sort).saturating_sub(self.plan.lateness)
            }
            None => Micros::MIN,
        }
    }

    /// A chunk becomes a piece: columns computed, filter applied, times checked, rows ordered.
    fn piece(&self, chunk: Chunk, at: &mut PartitionMemory) -> Result<Piece, Error> {
        let portion = self.stretch.as_ref().and_then(|stretch| stretch.portion.as_ref());
        let chunk = match portion {
            Some(portion) => portion.within(&self.plan.name.value, chunk),
            None => chunk,
        };
        let (partition, began) = (chunk.partition, SystemTime::now());
        let records = (chunk.rows.num_rows() + chunk.rejects.len()) as u64;
        self.read.fetch_add(records, Ordering::Relaxed);
        let behind = chunk.offsets.last().max(chunk.rejected.last()).map_or(0, |last| last + 1);
        // The beginning has an offset too: whoever comes back to it must find it still there.
        let begins = chunk.offsets.first().into_iter().chain(chunk.rejected.first()).min().copied();
        let (first, before, rows_before) = (at.next.or(begins), at.latest, at.rows);
        (at.next, at.rows) = (Some(behind), at.rows + records);
        let mut refused: Vec<_> = chunk.rejected.iter().copied().zip(chunk.rejects).collect();
        let rows = self.derived(partition, &chunk.rows, &chunk.offsets, &mut refused);
        self.refuse_all(partition, refused, behind);
        let rows = self.not_taken(partition, self.on_time(partition, rows, at, behind));
        // What is late is decided over all rows: a part takes its own of those that are not.
        let rows = match portion {
            Some(portion) => portion.own(self.source, rows),
            None => rows,
        };
        self.trace(partition, &chunk.contexts, began, &rows);
        let read = Read {
            first,
            next: behind,
            latest: (before, at.latest),
            rows: (rows_before, at.rows),
            highest: rows.times.iter().copied().max().unwrap_or(Micros::MIN),
        };
        let rows = match self.plan.sort {
            None if !self.waits => vec![rows],
            None => {
                at.waiting.push(rows);
                let watermark = self.watermark(at);
                let (rows, bytes) = at.waiting.left(watermark);
                let few = rows <= WAITING && bytes <= WAITING_BYTES;
                at.waiting.release(if few { watermark } else { Micros::MAX })
            }
            Some(sort) => {
                at.waiting.push(rows);
                let release = at.latest.map_or(Micros::MIN, |l| l.saturating_sub(sort));
                at.waiting.release(release)
            }
        };
        let (watermark, latest) = (self.watermark(at), at.latest);
        let state = PartitionState::Reading;
        Ok(Piece { partition, rows, watermark, state, latest, read: Some(read) })
    }

    /// Tells of the rows that came with the context of a trace.
    fn trace(
        &self,
        partition: u32,
        contexts: &[(u64, TraceContext)],
        began: SystemTime,
        rows: &OrderedRows,
    ) {
        let Some(tracer) = traces::tracer().filter(|_| !contexts.is_empty()) else { return };
        // Refused and late rows are not there any more.
        let found = contexts.iter().filter_map(|(offset, context)| {
            let at = rows.offsets.binary_search(offset).ok()?;
            Some((rows.ids[at].clone(), *offset, *context))
        });
        let found: Vec<_> = found.collect();
        tracer.received(&self.plan.name.value, partition, self.spine, began, &found);
    }

    /// Drops the rows that are late for their partition, to the late stream.
    fn on_time(
        &self,
        partition: u32,
        rows: OrderedRows,
        at: &mut PartitionMemory,
        behind: u64,
    ) -> OrderedRows {
        let allowed = self.plan.lateness.saturating_add(self.plan.sort.unwrap_or(0));
        let mut late: Vec<u32> = Vec::new();
        let mut latest = at.latest;
        let mut watermark = latest.map_or(Micros::MIN, |l| l.saturating_sub(allowed));
        for (i, time) in rows.times.iter().enumerate() {
            if *time < watermark {
                late.push(i as u32);
            } else if latest.is_none_or(|l| *time > l) {
                latest = Some(*time);
                watermark = time.saturating_sub(allowed);
            }
        }
        at.latest = latest;
        if late.is_empty() {
            return rows;
        }
        let mut gone = late.iter().copied().peekable();
        let all = 0..rows.times.len() as u32;
        let keep: Vec<u32> = all.filter(|i| gone.next_if_eq(i).is_none()).collect();
        let told = self.resume.get(&partition).map_or(0, |resume| resume.told_late);
        late.retain(|i| rows.offsets[*i as usize] >= told);
        let until = (self.partition_name(partition), behind);
        self.outputs.late(&self.plan.name.value, &rows.take(&late), Some(until));
        rows.take(&keep)
    }

    /// Computes columns, filters, and finds time and id of each row.
    fn derived(
        &self,
        partition: u32,
        declared: &RecordBatch,
        offsets: &[u64],
        letters: &mut Vec<(u64, DeadLetter)>,
    ) -> OrderedRows {
        let mut refused: BTreeMap<usize, (&'static str, String)> = BTreeMap::new();
        let schema = self.derive.schema.to_arrow();
        let mut columns: Vec<ArrayRef> = declared.columns().to_vec();
        let mut batch = declared.clone();
        for (n, scalar) in self.derive.computed.iter().enumerate() {
            let (column, failed) = scalar.evaluate_rows(&batch);
            for (row, detail) in failed {
                refused.entry(row).or_insert(("expression", detail));
            }
            columns.push(column);
            let fields = schema.fields()[..self.derive.declared + n + 1].to_vec();
            let partial = Arc::new(Schema::new(fields));
            batch = RecordBatch::try_new(partial, columns.clone())
                .expect("computed columns have the types that they were compiled with");
        }
        let mut keep = vec![true; batch.num_rows()];
        if let Some(filter) = &self.derive.filter {
            let (column, failed) = filter.evaluate_rows(&batch);
            for (row, detail) in failed {
                refused.entry(row).or_insert(("expression", detail));
            }
            let found = column.as_boolean();
            for (row, keep) in keep.iter_mut().enumerate() {
                *keep = found.is_valid(row) && found.value(row);
            }
        }
        let times = batch.column(self.derive.time).as_primitive::<TimestampMicrosecondType>();
        let latest = (self.latest_allowed)();
        let doubtful = times.null_count() > 0 || times.values().iter().any(|time| *time > latest);
        for row in (0..batch.num_rows()).filter(|_| doubtful) {
            if !keep[row] {
                continue;
            }
            let name = &self.plan.event_time.value;
            if times.is_null(row) {
                refused.entry(row).or_insert_with(|| ("no_time", format!("`{name}` is null")));
            } else if times.value(row) > latest {
                let found = tidemill_types::time::to_rfc3339(times.value(row));
                refused.entry(row).or_insert_with(|| {
                    (
                        "future",
                        format!("`{name}` is {found}, further ahead than `max_ahead` allows"),
                    )
                });
            }
        }
        let ids = ids(&batch, self.derive.id);
        if let Some(id) = self.derive.id.filter(|id| batch.column(*id).null_count() > 0) {
            for (row, kept) in keep.iter().enumerate() {
                if *kept && batch.column(id).is_null(row) {
                    let name = self.derive.schema.fields[id].name.clone();
                    refused.entry(row).or_insert_with(|| ("no_id", format!("`{name}` is null")));
                }
            }
        }
        for (row, (reason, detail)) in &refused {
            if keep[*row] || *reason == "expression" {
                letters.push(self.refuse(partition, &batch, *row, offsets, reason, detail.clone()));
            }
            keep[*row] = false;
        }
        let times = times.values().to_vec();
        let rows = OrderedRows { times, ids, offsets: offsets.to_vec(), batch: batch.clone() };
        if keep.iter().all(|k| *k) {
            return rows;
        }
        let picks: Vec<u32> = (0..keep.len() as u32).filter(|i| keep[*i as usize]).collect();
        rows.take(&picks)
    }

    /// A parsed row that cannot be used. Its bytes are gone, so its typed columns stand for them.
    fn refuse(
        &self,
        partition: u32,
        batch: &RecordBatch,
        row: usize,
        offsets: &[u64],
        reason: &str,
        detail: String,
    ) -> (u64, DeadLetter) {
        let offset = offsets.get(row).copied().unwrap_or(0);
        let origin = self.plan.name.value.clone();
        let letter = DeadLetter {
            source: self.plan.name.value.clone(),
            provenance: Provenance { origin, partition, offset },
            reason: reason.to_string(),
            detail,
            raw: super::outputs::row_as_json(batch, row).into_bytes(),
        };
        (offset, letter)
    }

    /// Sends what of a chunk was refused, in the order of the log, without what an earlier run sent.
    fn refuse_all(&self, partition: u32, mut letters: Vec<(u64, DeadLetter)>, behind: u64) {
        let told = self.resume.get(&partition).map_or(0, |resume| resume.told_refused);
        letters.retain(|(offset, _)| *offset >= told);
        letters.sort_by_key(|(offset, _)| *offset);
        let letters: Vec<DeadLetter> = letters.into_iter().map(|(_, letter)| letter).collect();
        if !letters.is_empty() {
            self.outputs.dead_letters(letters, Some((self.partition_name(partition), behind)));
        }
    }

    fn partition_name(&self, partition: u32) -> String {
        format!("{}/{partition}", self.plan.name.value)
    }

    /// Passes over the rows that the line has from which this run goes on.
    fn not_taken(&self, partition: u32, rows: OrderedRows) -> OrderedRows {
        let Some(Resume { position, before, .. }) = self.resume.get(&partition) else {
            return rows;
        };
        let old = |i: usize| rows.offsets[i] < position.taken && rows.times[i] < *before;
        if !(0..rows.times.len()).any(old) {
            return rows;
        }
        let keep: Vec<u32> = (0..rows.times.len() as u32).filter(|i| !old(*i as usize)).collect();
        rows.take(&keep)
    }
}
