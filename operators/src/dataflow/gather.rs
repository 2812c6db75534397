//! Answers come home: each spine row gets the answers of all groups, and its features.

use std::collections::BTreeMap;
use std::mem::replace;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, interleave, interleave_record_batch};
use arrow::datatypes::{
    DataType as ArrowType, Field, Float64Type, Int64Type, Schema as ArrowSchema,
};
use tidemill_config::plan::Mode;
use tidemill_types::long::long_bytes;
use tidemill_types::{DataType, Id, Micros};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use super::line::Asker;
use super::message::{Answers, Decide, Failed, Features, HeldRows, Round, Rows, Site, Wire, Wires};
use super::program::{CallProgram, Program};
use super::windows::passed;
use crate::batches::parts;
use crate::order::order;

/// What has come for one round.
#[derive(Default)]
struct Pending {
    rows: Vec<Arc<Rows>>,
    answers: Vec<Answers>,
}

/// Assembles features on the worker that read the spine rows.
pub fn gather<'scope>(
    rows: StreamVec<'scope, Round, Arc<Rows>>,
    answers: StreamVec<'scope, Round, Answers>,
    program: Arc<Program>,
    mut lines: Option<Asker<Option<HeldRows>>>,
) -> StreamVec<'scope, Round, Decide> {
    let home = Exchange::new(|a: &Answers| a.to as u64);
    rows.binary_frontier::<_, CapacityContainerBuilder<Vec<Decide>>, _, _, _, _>(
        answers,
        Pipeline,
        home,
        "gather",
        |_, _| {
            let mut stash: BTreeMap<Round, (Capability<Round>, Pending)> = BTreeMap::new();
            let mut host = Host::new(program);
            move |(rows, rows_frontier), (answers, answers_frontier), output| {
                rows.for_each(|capability, batches| {
                    if let Some(kept) = capability.retain_least(0) {
                        let entry = stash.entry(*kept.time());
                        entry.or_insert_with(|| (kept, Pending::default())).1.rows.append(batches);
                    }
                });
                answers.for_each(|capability, batches| {
                    if let Some(kept) = capability.retain_least(0) {
                        let entry = stash.entry(*kept.time());
                        let pending = &mut entry.or_insert_with(|| (kept, Pending::default())).1;
                        pending.answers.append(batches);
                    }
                });
                let done = |round| passed(rows_frontier, round) && passed(answers_frontier, round);
                // What is held at a line is of every round before it, and of none after.
                let mut line = |next: Option<Round>, host: &Host| {
                    if let Some(lines) = &mut lines
                        && let Some(line) = lines.pending()
                        && next.is_none_or(|next| next >= line)
                        && line.checked_sub(1).is_none_or(done)
                    {
                        lines.take(line, host.held_rows());
                    }
                };
                while let Some(entry) = stash.first_entry() {
                    let round = *entry.key();
                    if !done(round) {
                        break;
                    }
                    line(Some(round), &host);
                    let (capability, pending) = entry.remove();
                    let mut session = output.session(&capability);
                    host.take(pending, &mut |decide| session.give(decide));
                }
                line(stash.keys().next().copied(), &host);
            }
        },
    )
}

struct Host {
    program: Arc<Program>,
    /// `at_once`: rows that the watermark has not passed, by slot.
    held: BTreeMap<u64, (Arc<Rows>, usize)>,
}

impl Host {
    fn new(program: Arc<Program>) -> Host {
        Host { program, held: BTreeMap::new() }
    }

    fn take(&mut self, pending: Pending, give: &mut dyn FnMut(Decide)) {
        let spine = self.program.spine;
        let rows: Vec<Arc<Rows>> =
            pending.rows.into_iter().filter(|r| r.source == spine && !r.times.is_empty()).collect();
        match self.program.mode {
            Mode::Final => self.features(Asked::all(&rows), &pending.answers, true, true, give),
            Mode::AtOnce => {
                for rows in &rows {
                    for i in 0..rows.times.len() {
                        self.held.insert(rows.first_slot + i as u64, (Arc::clone(rows), i));
                    }
                }
                let new: Vec<Arc<Rows>> = rows.into_iter().filter(|rows| !rows.known).collect();
                self.features(Asked::all(&new), &pending.answers, false, true, give);
                let watermark = pending.answers.iter().filter_map(|a| a.watermark).max();
                if let Some(watermark) = watermark {
                    let done: Vec<u64> = self
                        .held
                        .iter()
                        .filter(|(_, (rows, i))| rows.times[*i] < watermark)
                        .map(|(slot, _)| *slot)
                        .collect();
                    let done: Vec<(Arc<Rows>, usize)> =
                        done.iter().filter_map(|slot| self.held.remove(slot)).collect();
                    // What failed was told with the first answer.
                    self.features(Asked::some(&done), &pending.answers, true, false, give);
                    give(Decide::Watermark(watermark));
                }
            }
        }
    }

    /// The rows that are owed their last answer, in the order in which they came.
    fn held_rows(&self) -> Option<HeldRows> {
        let (rows, _) = self.held.first_key_value()?.1;
        let schema = rows.batch.schema();
        let held: Vec<(Arc<Rows>, usize)> = self.held.values().cloned().collect();
        let mut asked = Asked::some(&held);
        let parts = asked.parts(self.program.batch_bytes, &[]).into_iter().map(|rows| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), asked.columns(rows), &options)
                .expect("the columns are those of the rows")
        });
        let columns = Wires(parts.collect());
        Some(HeldRows { times: asked.times, ids: asked.ids, columns })
    }

    /// Gives the features of these rows, in (event time, id) order, in several batches where they are long; and tells those
    /// that failed on some of them.
    fn features(
        &self,
        asked: Asked,
        answers: &[Answers],
        last: bool,
        tell: bool,
        give: &mut dyn FnMut(Decide),
    ) {
        if asked.times.is_empty() {
            return;
        }
        let mut asked = asked.sorted();
        let found = |group: usize| {
            let of = |a: &&Answers| a.watermark.is_none() && a.last == last && a.group == group;
            Found::of(answers.iter().filter(of).collect(), &asked.slots)
        };
        let found: Vec<Found<'_>> = (0..self.program.groups.len()).map(found).collect();
        for rows in asked.parts(self.program.batch_bytes, &found) {
            let (features, failed) = self.part(&mut asked, &found, rows, last);
            if tell && !failed.is_empty() {
                give(Decide::Failed(failed));
            }
            give(Decide::Features(features));
        }
    }

    /// The features of the next of these rows, and those that failed on some of them.
    fn part(
        &self,
        asked: &mut Asked,
        found: &[Found<'_>],
        rows: Range<usize>,
        last: bool,
    ) -> (Features, Vec<Failed>) {
        let spine = asked.columns(rows.clone());
        let (times, ids) = asked.next(rows.len());
        let groups = self.program.groups.iter().zip(found);
        let calls: Vec<Vec<ArrayRef>> =
            groups.map(|(group, found)| found.columns(rows.clone(), &group.outputs)).collect();
        let mut failed = Vec::new();
        let columns = self
            .program
            .features
            .iter()
            .enumerate()
            .map(|(n, feature)| {
                let called = feature.calls.iter().map(|call| answer(call, &calls));
                let columns: Vec<ArrayRef> = spine.iter().map(Arc::clone).chain(called).collect();
                let (column, rows) = feature.scalar.evaluate_columns(&columns, times.len());
                failed.extend(Failed::of(Site::Feature(n), rows, &times, &ids));
                column
            })
            .collect::<Vec<_>>();
        let schema = self.program.feature_schema.to_arrow();
        let options = RecordBatchOptions::new().with_row_count(Some(times.len()));
        let columns = RecordBatch::try_new_with_options(schema, columns, &options)
            .expect("features have the types that they were compiled with");
        let kept = self.program.kept.as_ref().map(|kept| {
            let own = kept.entity.iter().chain(&kept.columns).map(|c| Arc::clone(&spine[*c]));
            let columns = own.chain(kept.calls.iter().map(|call| answer(call, &calls)));
            Wire(unnamed(columns.collect()))
        });
        (Features { last, times, ids, columns: Wire(columns), kept }, failed)
    }
}

/// Columns that are known by their place.
fn unnamed(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| Field::new(i.to_string(), column.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
        .expect("columns of the same rows, one of them an entity's")
}

/// The spine rows of one answer.
struct Asked {
    /// Of the rows that are still to be given, as the ids.
    times: Vec<Micros>,
    ids: Vec<Id>,
    slots: Vec<u64>,
    batches: Vec<RecordBatch>,
    /// The batch of each row and its place there, where they are not the rows of all batches, one after the other.
    picks: Option<Vec<(usize, usize)>>,
}

impl Asked {
    /// All rows of these batches.
    fn all(batches: &[Arc<Rows>]) -> Asked {
        let n = batches.iter().map(|rows| rows.times.len()).sum();
        let mut asked = Asked {
            times: Vec::with_capacity(n),
            ids: Vec::with_capacity(n),
            slots: Vec::with_capacity(n),
            batches: batches.iter().map(|rows| rows.batch.clone()).collect(),
            picks: None,
        };
        for rows in batches {
            asked.times.extend_from_slice(&rows.times);
            asked.ids.extend_from_slice(&rows.ids);
            asked.slots.extend((rows.first_slot..).take(rows.times.len()));
        }
        asked
    }

    /// Some rows of some batches, those of a batch side by side.
    fn some(rows: &[(Arc<Rows>, usize)]) -> Asked {
        let mut batches: Vec<&Arc<Rows>> = Vec::new();
        let mut picks = Vec::with_capacity(rows.len());
        for (rows, i) in rows {
            if batches.last().is_none_or(|last| !Arc::ptr_eq(last, rows)) {
                batches.push(rows);
            }
            picks.push((batches.len() - 1, *i));
        }
        Asked {
            times: rows.iter().map(|(rows, i)| rows.times[*i]).collect(),
            ids: rows.iter().map(|(rows, i)| rows.ids[*i].clone()).collect(),
            slots: rows.iter().map(|(rows, i)| rows.first_slot + *i as u64).collect(),
            batches: batches.into_iter().map(|rows| rows.batch.clone()).collect(),
            picks: Some(picks),
        }
    }

    /// The same rows by (event time, id).
    fn sorted(self) -> Asked {
        let Some(order) = order(&self.times, &self.ids) else { return self };
        let order = || order.iter().map(|row| *row as usize);
        let picks = self.places();
        Asked {
            times: order().map(|row| self.times[row]).collect(),
            ids: order().map(|row| self.ids[row].clone()).collect(),
            slots: order().map(|row| self.slots[row]).collect(),
            picks: Some(order().map(|row| picks[row]).collect()),
            batches: self.batches,
        }
    }

    /// The batch of each row and its place there.
    fn places(&self) -> Vec<(usize, usize)> {
        self.picks.clone().unwrap_or_else(|| {
            let of =
                |(i, batch): (usize, &RecordBatch)| (0..batch.num_rows()).map(move |row| (i, row));
            self.batches.iter().enumerate().flat_map(of).collect()
        })
    }

    /// Parts of the rows that are no longer than `most` bytes with what they are answered.
    fn parts(&mut self, most: u64, found: &[Found<'_>]) -> Vec<Range<usize>> {
        let of = |batch: &RecordBatch| long_bytes(batch.columns(), 0..batch.num_rows());
        let own: u64 = self.batches.iter().map(of).sum();
        let total = own + found.iter().map(Found::long_bytes).sum::<u64>();
        if total <= most {
            return parts(self.slots.len(), total, most, |_| 0);
        }
        let picks = self.places();
        let length = |row: usize| {
            let (batch, at) = picks[row];
            let own = long_bytes(self.batches[batch].columns(), at..at + 1);
            own + found.iter().map(|found| found.length(row)).sum::<u64>()
        };
        let parts = parts(picks.len(), total, most, length);
        self.picks = Some(picks);
        parts
    }

    /// The columns of a part; without picks, of all rows. A single batch is not copied.
    fn columns(&self, rows: Range<usize>) -> Vec<ArrayRef> {
        match (&self.picks, &self.batches[..]) {
            (Some(picks), batches) => {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                let picked = interleave_record_batch(&batches, &picks[rows]);
                picked.expect("rows of one source have one schema").columns().to_vec()
            }
            (None, [only]) => only.columns().to_vec(),
            (None, batches) => (0..batches.first().map_or(0, RecordBatch::num_columns))
                .map(|i| {
                    let parts: Vec<&dyn Array> =
                        batches.iter().map(|batch| batch.column(i).as_ref()).collect();
                    concat(&parts).expect("rows of one source have one schema")
                })
                .collect(),
        }
    }

    /// Times and ids of the next rows.
    fn next(&mut self, rows: usize) -> (Vec<Micros>, Vec<Id>) {
        let (times, ids) = (self.times.split_off(rows), self.ids.split_off(rows));
        (replace(&mut self.times, times), replace(&mut self.ids, ids))
    }
}

/// One group's answers.
struct Found<'a> {
    given: Vec<&'a Answers>,
    /// Where those to the rows are; none where the only ones stand in the very order of the rows.
    places: Option<Places>,
}

impl<'a> Found<'a> {
    fn of(given: Vec<&'a Answers>, slots: &[u64]) -> Found<'a> {
        // One worker answers in the very order in which rows are sorted here.
        let places = match given[..] {
            [only] if only.slots == slots => None,
            _ => Some(Places::of(&given, slots)),
        };
        Found { given, places }
    }

    /// Bytes of the texts, lists and maps in all answers.
    fn long_bytes(&self) -> u64 {
        let of = |a: &&Answers| long_bytes(a.columns.0.columns(), 0..a.slots.len());
        self.given.iter().map(of).sum()
    }

    /// The same of the answer to a row.
    fn length(&self, row: usize) -> u64 {
        let (part, at) = match &self.places {
            None => (0, row),
            Some(places) => match places.found[row] {
                NOWHERE => return 0,
                (part, at) => (part as usize, at as usize),
            },
        };
        long_bytes(self.given[part].columns.0.columns(), at..at + 1)
    }

    /// The answers to some rows as columns of these types.
    fn columns(&self, rows: Range<usize>, types: &[DataType]) -> Vec<ArrayRef> {
        let Some(places) = &self.places else {
            return self.given[0].columns.0.slice(rows.start, rows.len()).columns().to_vec();
        };
        let column = |output: usize| {
            let parts: Vec<&ArrayRef> =
                self.given.iter().map(|answers| answers.columns.0.column(output)).collect();
            placed(&parts, &places.found[rows.clone()], places.all, types[output])
        };
        (0..types.len()).map(column).collect()
    }
}

/// Where the answer to each row is: the batch and its row.
struct Places {
    found: Vec<(u32, u32)>,
    all: bool,
}

/// No answer.
const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);

impl Places {
    fn of(given: &[&Answers], slots: &[u64]) -> Places {
        let low = slots.iter().copied().min().unwrap_or(0);
        let span = slots.iter().copied().max().map_or(0, |high| high - low + 1) as usize;
        let answers = given.iter().zip(0_u32..).flat_map(|(answers, batch)| {
            answers.slots.iter().copied().zip((0_u32..).map(move |row| (batch, row)))
        });
        // Slots count the rows of one worker, so those of a round are close together.
        let found: Vec<(u32, u32)> = if span <= slots.len().saturating_mul(4) {
            let mut by_slot = vec![NOWHERE; span];
            for (slot, place) in answers {
                if let Some(at) = slot.checked_sub(low).and_then(|at| by_slot.get_mut(at as usize))
                {
                    *at = place;
                }
            }
            slots.iter().map(|slot| by_slot[(slot - low) as usize]).collect()
        } else {
            let mut by_slot: Vec<(u64, (u32, u32))> = answers.collect();
            by_slot.sort_unstable();
            let at = |slot: &u64| by_slot.binary_search_by_key(slot, |(slot, _)| *slot).ok();
            slots.iter().map(|slot| at(slot).map_or(NOWHERE, |i| by_slot[i].1)).collect()
        };
        let all = found.iter().all(|place| *place != NOWHERE);
        Places { found, all }
    }
}

/// One output of some rows, in their order; whether `all` are answered.
fn placed(parts: &[&ArrayRef], places: &[(u32, u32)], all: bool, data_type: DataType) -> ArrayRef {
    macro_rules! numbers {
        ($t:ty) => {{
            let parts: Vec<&[_]> =
                parts.iter().map(|part| part.as_primitive::<$t>().values().as_ref()).collect();
            let value = |&(part, row): &(u32, u32)| parts[part as usize][row as usize];
            let values: Vec<_> = places.iter().map(value).collect();
            Arc::new(PrimitiveArray::<$t>::new(values.into(), None))
        }};
    }
    if all && parts.iter().all(|part| part.null_count() == 0) {
        match data_type {
            DataType::Float64 => return numbers!(Float64Type),
            DataType::Int64 => return numbers!(Int64Type),
            _ => {}
        }
    }
    let none = new_null_array(&data_type.to_arrow(), 1);
    let mut from: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
    from.push(none.as_ref());
    let nowhere = parts.len();
    let picks: Vec<(usize, usize)> = places
        .iter()
        .map(|place| match *place {
            NOWHERE => (nowhere, 0),
            (part, row) => (part as usize, row as usize),
        })
        .collect();
    interleave(&from, &picks).expect("answers of a group have one schema")
}

/// What a call reads of the answers: those of each group by output, a column each.
pub fn answer(call: &CallProgram, answers: &[Vec<ArrayRef>]) -> ArrayRef {
    let given = &answers[call.group][call.output..];
    match call.steps {
        None => Arc::clone(&given[0]),
        Some(steps) => series(&given[..steps]),
    }
}

/// Columns of one type and length as one column of lists: of each row, its value in every column.
fn series(columns: &[ArrayRef]) -> ArrayRef {
    let rows = columns[0].len();
    let parts: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let picks: Vec<(usize, usize)> =
        (0..rows).flat_map(|row| (0..columns.len()).map(move |column| (column, row))).collect();
    let items = interleave(&parts, &picks).expect("the steps of a series have one type");
    let item = DataType::from_arrow(items.data_type()).and_then(DataType::as_item);
    let Some(ArrowType::List(field)) = item.map(|item| DataType::List(item).to_arrow()) else {
        return items;
    };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(columns.len(), rows));
    Arc::new(ListArray::new(field, offsets, items, None))
}
