//! Rows become requests: inserts and reads go to the workers that own their keys. Their labels, and what could not be
//! computed of them, go on to where models learn.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use tidemill_types::Key;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::message::{Decide, Failed, Kind, Labels, Requests, Round, Rows, Site, Wire};
use super::program::{GroupProgram, Program, StreamProgram, column};
use crate::column::values;

/// Turns rows into requests to the windows, on worker `from` of `peers`, and evaluates the labels that they carry.
pub fn scatter<'scope>(
    rows: StreamVec<'scope, Round, Arc<Rows>>,
    program: Arc<Program>,
    from: usize,
    peers: usize,
) -> (StreamVec<'scope, Round, Requests>, StreamVec<'scope, Round, Decide>) {
    let mut operator = OperatorBuilder::new("scatter".to_string(), rows.scope());
    let mut input = operator.new_input(rows, Pipeline);
    operator.set_notify_for(0, FrontierInterest::Never);
    let (requested, requested_stream) = operator.new_output();
    let (decided, decided_stream) = operator.new_output();
    let mut requested =
        OutputBuilder::<Round, CapacityContainerBuilder<Vec<Requests>>>::from(requested);
    let mut decided = OutputBuilder::<Round, CapacityContainerBuilder<Vec<Decide>>>::from(decided);
    operator.build(move |_| {
        move |_| {
            let (mut requested, mut decided) = (requested.activate(), decided.activate());
            input.for_each(|capability, batches| {
                let mut requested = requested.session(&capability);
                let mut decided = decided.session(&capability);
                for rows in batches.drain(..) {
                    let mut failed = Vec::new();
                    for request in requests(&rows, &program, from, peers, &mut failed) {
                        requested.give(request);
                    }
                    for labels in labels(&rows, &program, &mut failed) {
                        decided.give(Decide::Labels(labels));
                    }
                    if !failed.is_empty() {
                        decided.give(Decide::Failed(failed));
                    }
                }
            });
        }
    });
    (requested_stream, decided_stream)
}

/// The labels that rows carry.
fn labels(rows: &Rows, program: &Program, failed: &mut Vec<Failed>) -> Vec<Labels> {
    if rows.times.is_empty() || rows.known {
        return Vec::new();
    }
    let all = program.labels.iter().enumerate().filter(|(_, of)| of.source == rows.source);
    all.map(|(label, of)| {
        let found = values(&column(&of.value, &rows.batch, Site::Label(label), rows, failed));
        Labels {
            label,
            times: rows.times.clone(),
            ids: rows.ids.clone(),
            values: found.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect(),
        }
    })
    .collect()
}

fn requests(
    rows: &Rows,
    program: &Program,
    from: usize,
    peers: usize,
    failed: &mut Vec<Failed>,
) -> Vec<Requests> {
    let mut out = Vec::new();
    if rows.times.is_empty() {
        return out;
    }
    // A window that no feature reads answers nothing, and keeps nothing.
    let read = |(_, group): &(usize, &GroupProgram)| !group.outputs.is_empty();
    for (index, group) in program.groups.iter().enumerate().filter(read) {
        let to = Address { index, from, peers };
        let slots = |row: usize| rows.first_slot + row as u64;
        if rows.known {
            // What failed was told when they were new.
            to.send(rows, group.spine_keys(&rows.batch), true, &mut out, |picks| {
                Kind::Wait(picks.of(rows.times.len()).map(slots).collect())
            });
            continue;
        }
        let reads = rows.source == program.spine;
        if let Some(stream) = group.stream(rows.source) {
            let keys = stream.keys(&rows.batch);
            let columns = columns((index, group), stream, rows, failed);
            if reads && group.takes() {
                // A NULL key is in nobody's window, and is answered all the same.
                to.send(rows, keys, true, &mut out, |picks| {
                    let slots = picks.of(rows.times.len()).map(slots).collect();
                    Kind::Take(slots, Wire(picks.rows(&columns)))
                });
                continue;
            }
            to.send(rows, keys, false, &mut out, |picks| {
                Kind::Insert(stream.rank, Wire(picks.rows(&columns)))
            });
        }
        if reads {
            let keys = group.spine_keys_of(index, rows, failed);
            to.send(rows, keys, true, &mut out, |picks| {
                Kind::Read(picks.of(rows.times.len()).map(slots).collect())
            });
        }
    }
    out
}

/// The columns that a group's windows keep.
fn columns(
    (index, group): (usize, &GroupProgram),
    stream: &StreamProgram,
    rows: &Rows,
    failed: &mut Vec<Failed>,
) -> RecordBatch {
    let shared = stream.shared(&rows.batch);
    let all = group.columns.iter().enumerate();
    let columns: Vec<ArrayRef> = all
        .map(|(c, scalar)| column(scalar, &shared, Site::Column(index, c), rows, failed))
        .collect();
    let field = |(i, c): (usize, &ArrayRef)| Field::new(i.to_string(), c.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows.times.len()));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
        .expect("a scalar gives as many values as there are rows")
}

/// Which rows go to one worker.
enum Picks {
    All,
    Some(UInt32Array),
}

impl Picks {
    fn of(&self, rows: usize) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Picks::All => Box::new(0..rows),
            Picks::Some(picks) => Box::new(picks.values().iter().map(|row| *row as usize)),
        }
    }

    fn rows(&self, of: &RecordBatch) -> RecordBatch {
        match self {
            Picks::All => of.clone(),
            Picks::Some(picks) => {
                let taken = of.columns().iter().map(|column| take(column, picks, None));
                let taken = taken.collect::<Result<_, _>>().expect("picks are rows of the batch");
                // A group that only counts rows has no columns.
                let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
                RecordBatch::try_new_with_options(of.schema(), taken, &options)
                    .expect("columns are as long as the picks")
            }
        }
    }
}

/// Whom requests to one group go to and come from.
struct Address {
    index: usize,
    from: usize,
    peers: usize,
}

impl Address {
    /// Sends each row to the worker that owns its key; rows with a NULL key stay at home if they are
    /// `answered`, and go nowhere otherwise.
    fn send(
        &self,
        rows: &Rows,
        keys: Vec<Option<Key>>,
        answered: bool,
        out: &mut Vec<Requests>,
        kind: impl Fn(&Picks) -> Kind,
    ) {
        let request = |to, keys, times, ids, picks: &Picks| Requests {
            to,
            from: self.from,
            group: self.index,
            keys,
            times,
            ids,
            kind: kind(picks),
        };
        if self.peers == 1 && (answered || keys.iter().all(Option::is_some)) {
            out.push(request(0, keys, rows.times.clone(), rows.ids.clone(), &Picks::All));
            return;
        }
        let mut parts: Vec<Vec<u32>> = (0..self.peers).map(|_| Vec::new()).collect();
        for (row, key) in keys.iter().enumerate() {
            match key {
                Some(key) => parts[key.worker(self.peers)].push(row as u32),
                None if answered => parts[self.from].push(row as u32),
                None => {}
            }
        }
        for (to, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let each = || part.iter().map(|row| *row as usize);
            let (keys, times) = (each().map(|i| keys[i]), each().map(|i| rows.times[i]));
            let (keys, times) = (keys.collect(), times.collect());
            let ids = each().map(|i| rows.ids[i].clone()).collect();
            out.push(request(to, keys, times, ids, &Picks::Some(part.clone().into())));
        }
    }
}
