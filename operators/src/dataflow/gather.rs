//! Answers come home: each spine row gets the answers of all groups, and its features.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, interleave, interleave_record_batch, take};
use arrow::datatypes::{
    DataType as ArrowType, Field, Float64Type, Int64Type, Schema as ArrowSchema,
};
use tidemill_config::plan::Mode;
use tidemill_types::{DataType, Id, Micros};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use super::line::Asker;
use super::message::{Answers, Decide, Failed, Features, HeldRows, Round, Rows, Site, Wire};
use super::program::{CallProgram, Program};
use super::windows::passed;
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
            Mode::Final => {
                let found = self.features(Asked::all(&rows), &pending.answers, true);
                give_features(found, true, give);
            }
            Mode::AtOnce => {
                for rows in &rows {
                    for i in 0..rows.times.len() {
                        self.held.insert(rows.first_slot + i as u64, (Arc::clone(rows), i));
                    }
                }
                let new: Vec<Arc<Rows>> = rows.into_iter().filter(|rows| !rows.known).collect();
                let found = self.features(Asked::all(&new), &pending.answers, false);
                give_features(found, true, give);
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
                    let found = self.features(Asked::some(&done), &pending.answers, true);
                    // What failed was told with the first answer.
                    give_features(found, false, give);
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
        let Asked { times, ids, columns, .. } = Asked::some(&held);
        let options = RecordBatchOptions::new().with_row_count(Some(times.len()));
        let columns = RecordBatch::try_new_with_options(schema, columns, &options)
            .expect("the columns are those of the rows");
        Some(HeldRows { times, ids, columns: Wire(columns) })
    }

    /// The features of these rows, in (event time, id) order, and those that failed on some of them.
    fn features(
        &self,
        asked: Asked,
        answers: &[Answers],
        last: bool,
    ) -> Option<(Features, Vec<Failed>)> {
        if asked.times.is_empty() {
            return None;
        }
        let asked = asked.sorted();
        let Asked { times, ids, slots, columns: spine } = asked;
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
        Some((Features { last, times, ids, columns: Wire(columns), kept }, failed))
    }
}

fn give_features(found: Option<(Features, Vec<Failed>)>, tell: bool, give: &mut dyn FnMut(Decide)) {
    let Some((features, failed)) = found else { return };
    if tell && !failed.is_empty() {
        give(Decide::Failed(failed));
    }
    give(Decide::Features(features));
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
#[derive(Default)]
struct Asked {
    times: Vec<Micros>,
    ids: Vec<Id>,
    slots: Vec<u64>,
    columns: Vec<ArrayRef>,
}

impl Asked {
    /// All rows of these batches. A single batch is not copied.
    fn all(batches: &[Arc<Rows>]) -> Asked {
        let n = batches.iter().map(|rows| rows.times.len()).sum();
        let mut asked = Asked {
            times: Vec::with_capacity(n),
            ids: Vec::with_capacity(n),
            slots: Vec::with_capacity(n),
            columns: Vec::new(),
        };
        for rows in batches {
            asked.times.extend_from_slice(&rows.times);
            asked.ids.extend_from_slice(&rows.ids);
            asked.slots.extend((rows.first_slot..).take(rows.times.len()));
        }
        let width = batches.first().map_or(0, |rows| rows.batch.num_columns());
        asked.columns = (0..width)
            .map(|i| match batches {
                [only] => Arc::clone(only.batch.column(i)),
                _ => {
                    let parts: Vec<&dyn Array> =
                        batches.iter().map(|rows| rows.batch.column(i).as_ref()).collect();
                    concat(&parts).expect("rows of one source have one schema")
                }
            })
            .collect();
        asked
    }

    /// Some rows of some batches.
    fn some(rows: &[(Arc<Rows>, usize)]) -> Asked {
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut places: Vec<(*const Rows, usize)> = Vec::new();
        let mut picks = Vec::with_capacity(rows.len());
        for (rows, i) in rows {
            let known = places.iter().rev().find(|(known, _)| *known == Arc::as_ptr(rows));
            let place = known.map(|(_, place)| *place).unwrap_or_else(|| {
                places.push((Arc::as_ptr(rows), batches.len()));
                batches.push(&rows.batch);
                batches.len() - 1
            });
            picks.push((place, *i));
        }
        let columns = match batches.first() {
            None => Vec::new(),
            Some(_) => interleave_record_batch(&batches, &picks)
                .expect("rows of one source have one schema")
                .columns()
                .to_vec(),
        };
        Asked {
            times: rows.iter().map(|(rows, i)| rows.times[*i]).collect(),
            ids: rows.iter().map(|(rows, i)| rows.ids[*i].clone()).collect(),
            slots: rows.iter().map(|(rows, i)| rows.first_slot + *i as u64).collect(),
            columns,
        }
    }

    /// The same rows by (event time, id).
    fn sorted(self) -> Asked {
        let Some(picks) = order(&self.times, &self.ids) else { return self };
        let at = |i: &u32| *i as usize;
        let rows = UInt32Array::from(picks.clone());
        let pick = |column: &ArrayRef| take(column, &rows, None).expect("picks are rows");
        Asked {
            times: picks.iter().map(|i| self.times[at(i)]).collect(),
            ids: picks.iter().map(|i| self.ids[at(i)].clone()).collect(),
            slots: picks.iter().map(|i| self.slots[at(i)]).collect(),
            columns: self.columns.iter().map(pick).collect(),
        }
    }
}

/// One group's answers as columns, in the order of the rows that asked.
fn answer_columns(given: &[&Answers], slots: &[u64], types: &[DataType]) -> Vec<ArrayRef> {
    // One worker answers in the very order in which rows are sorted here.
    if let [only] = given
        && only.slots == slots
    {
        return only.columns.0.columns().to_vec();
    }
    let places = Places::of(given, slots);
    let column = |output: usize| {
        let parts: Vec<&ArrayRef> =
            given.iter().map(|answers| answers.columns.0.column(output)).collect();
        placed(&parts, &places, types[output])
    };
    (0..types.len()).map(column).collect()
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

/// One output of all rows, in their order.
fn placed(parts: &[&ArrayRef], places: &Places, data_type: DataType) -> ArrayRef {
    macro_rules! numbers {
        ($t:ty) => {{
            let parts: Vec<&[_]> =
                parts.iter().map(|part| part.as_primitive::<$t>().values().as_ref()).collect();
            let values: Vec<_> = places
                .found
                .iter()
                .map(|(part, row)| parts[*part as usize][*row as usize])
                .collect();
            Arc::new(PrimitiveArray::<$t>::new(values.into(), None))
        }};
    }
    if places.all && parts.iter().all(|part| part.null_count() == 0) {
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
        .found
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
