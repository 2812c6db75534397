//! Answers come home: each spine row gets the answers of all groups, and its features.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, UInt32Array, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, interleave, take_record_batch};
use arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema};
use tidemill_config::plan::Mode;
use tidemill_types::{DataType, Id, Micros};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use super::message::{Answers, Decide, Features, Round, Rows, Wire};
use super::program::{CallProgram, Program};
use super::windows::passed;

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
                while let Some(entry) = stash.first_entry() {
                    let round = *entry.key();
                    if !passed(rows_frontier, round) || !passed(answers_frontier, round) {
                        break;
                    }
                    let (capability, pending) = entry.remove();
                    let mut session = output.session(&capability);
                    host.take(pending, &mut |decide| session.give(decide));
                }
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
        let all: Vec<(Arc<Rows>, usize)> =
            rows.iter().flat_map(|r| (0..r.times.len()).map(|i| (Arc::clone(r), i))).collect();
        match self.program.mode {
            Mode::Final => {
                if let Some(features) = self.features(all, &pending.answers, true) {
                    give(Decide::Features(features));
                }
            }
            Mode::AtOnce => {
                for (rows, i) in &all {
                    self.held.insert(rows.first_slot + *i as u64, (Arc::clone(rows), *i));
                }
                if let Some(features) = self.features(all, &pending.answers, false) {
                    give(Decide::Features(features));
                }
                let watermark = pending.answers.iter().filter_map(|a| a.watermark).max();
                if let Some(watermark) = watermark {
                    let done: Vec<u64> = self
                        .held
                        .iter()
                        .filter(|(_, (rows, i))| rows.times[*i] < watermark)
                        .map(|(slot, _)| *slot)
                        .collect();
                    let done = done.iter().filter_map(|slot| self.held.remove(slot)).collect();
                    if let Some(features) = self.features(done, &pending.answers, true) {
                        give(Decide::Features(features));
                    }
                    give(Decide::Watermark(watermark));
                }
            }
        }
    }

    /// The features of these rows, in (event time, id) order.
    fn features(
        &self,
        mut rows: Vec<(Arc<Rows>, usize)>,
        answers: &[Answers],
        last: bool,
    ) -> Option<Features> {
        if rows.is_empty() {
            return None;
        }
        rows.sort_by(|a, b| {
            let key = |r: &(Arc<Rows>, usize)| r.0.times[r.1];
            key(a).cmp(&key(b)).then_with(|| a.0.ids[a.1].cmp(&b.0.ids[b.1]))
        });
        let spine = spine_columns(&rows, &self.program.spine_schema.to_arrow());
        let times: Vec<Micros> = rows.iter().map(|(r, i)| r.times[*i]).collect();
        let ids: Vec<Id> = rows.iter().map(|(r, i)| r.ids[*i].clone()).collect();
        let slots: Vec<u64> = rows.iter().map(|(r, i)| r.first_slot + *i as u64).collect();
        let calls: Vec<Vec<ArrayRef>> = self
            .program
            .groups
            .iter()
            .enumerate()
            .map(|(g, group)| {
                let given = answers
                    .iter()
                    .filter(|a| a.watermark.is_none() && a.last == last && a.group == g);
                answer_columns(&given.collect::<Vec<_>>(), &slots, &group.outputs)
            })
            .collect();
        let columns = self
            .program
            .features
            .iter()
            .map(|feature| {
                let batch = with_calls(&spine, &feature.calls, &calls);
                feature.scalar.evaluate_rows(&batch).0
            })
            .collect::<Vec<_>>();
        let schema = self.program.feature_schema.to_arrow();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(times.len()));
        let columns = RecordBatch::try_new_with_options(schema, columns, &options)
            .expect("features have the types that they were compiled with");
        Some(Features { last, times, ids, columns: Wire(columns) })
    }
}

/// The spine's columns of these rows, in their order.
fn spine_columns(rows: &[(Arc<Rows>, usize)], schema: &arrow::datatypes::SchemaRef) -> RecordBatch {
    let mut batches: Vec<&Arc<Rows>> = Vec::new();
    let mut starts: Vec<(*const Rows, u32)> = Vec::new();
    let mut total = 0;
    let mut picks = Vec::with_capacity(rows.len());
    for (batch, i) in rows {
        let known = starts.iter().find(|(known, _)| *known == Arc::as_ptr(batch));
        let start = known.map(|(_, start)| *start).unwrap_or_else(|| {
            let start = total;
            starts.push((Arc::as_ptr(batch), start));
            batches.push(batch);
            total += batch.times.len() as u32;
            start
        });
        picks.push(start + *i as u32);
    }
    let all = concat_batches(schema, batches.iter().map(|r| &r.batch))
        .expect("rows of one source have one schema");
    if picks.iter().enumerate().all(|(i, pick)| i as u32 == *pick) && picks.len() == all.num_rows()
    {
        return all;
    }
    take_record_batch(&all, &UInt32Array::from(picks)).expect("picks are rows of the batch")
}

/// One group's answers as columns, in the order of the rows that asked.
fn answer_columns(given: &[&Answers], slots: &[u64], types: &[DataType]) -> Vec<ArrayRef> {
    let batches: Vec<&RecordBatch> = given.iter().map(|answers| &answers.columns.0).collect();
    // One worker answers in the very order in which rows are sorted here.
    if let [only] = given
        && only.slots == slots
    {
        return only.columns.0.columns().to_vec();
    }
    let Some(first) = batches.first() else {
        return types.iter().map(|t| new_null_array(&t.to_arrow(), slots.len())).collect();
    };
    let all = concat_batches(&first.schema(), batches).expect("answers of a group have one schema");
    let mut found: Vec<(u64, u32)> =
        given.iter().flat_map(|answers| answers.slots.iter().copied()).zip(0..).collect();
    found.sort_unstable();
    let at = |slot: &u64| found.binary_search_by_key(slot, |(slot, _)| *slot).ok();
    let picks: UInt32Array = slots.iter().map(|slot| at(slot).map(|i| found[i].1)).collect();
    take_record_batch(&all, &picks).expect("picks are rows of the batch").columns().to_vec()
}

/// The spine's columns followed by the answers that one feature reads.
fn with_calls(
    spine: &RecordBatch,
    calls: &[CallProgram],
    answers: &[Vec<ArrayRef>],
) -> RecordBatch {
    if calls.is_empty() {
        return spine.clone();
    }
    let mut fields: Vec<Field> = spine.schema().fields().iter().map(|f| (**f).clone()).collect();
    let mut columns = spine.columns().to_vec();
    for (n, call) in calls.iter().enumerate() {
        let given = &answers[call.group][call.output..];
        let column = match call.steps {
            None => Arc::clone(&given[0]),
            Some(steps) => series(&given[..steps]),
        };
        fields.push(Field::new(format!("__call_{n}"), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
        .expect("answers are as long as the rows that asked")
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
