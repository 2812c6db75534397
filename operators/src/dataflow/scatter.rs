//! Rows become requests: inserts and reads go to the workers that own their keys.

use std::sync::Arc;

use tidemill_types::{Id, Key, Micros, Value};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use super::message::{Decide, Kind, Labels, Requests, Round, Rows};
use super::program::{GroupProgram, Program, column, keys};
use crate::column::values;

/// Turns rows into requests to the windows, on worker `from` of `peers`.
pub fn scatter<'scope>(
    rows: StreamVec<'scope, Round, Arc<Rows>>,
    program: Arc<Program>,
    from: usize,
    peers: usize,
) -> StreamVec<'scope, Round, Requests> {
    rows.unary::<CapacityContainerBuilder<Vec<Requests>>, _, _, _>(Pipeline, "scatter", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for rows in batches.drain(..) {
                    for request in requests(&rows, &program, from, peers) {
                        session.give(request);
                    }
                }
            });
        }
    })
}

/// Evaluates the labels that a batch of rows carries.
pub fn labels<'scope>(
    rows: StreamVec<'scope, Round, Arc<Rows>>,
    program: Arc<Program>,
) -> StreamVec<'scope, Round, Decide> {
    rows.unary::<CapacityContainerBuilder<Vec<Decide>>, _, _, _>(Pipeline, "labels", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for rows in batches.drain(..) {
                    for (label, of) in program.labels.iter().enumerate() {
                        if of.source != rows.source || rows.times.is_empty() {
                            continue;
                        }
                        let found = values(&column(&of.value, &rows.batch));
                        session.give(Decide::Labels(Labels {
                            label,
                            times: rows.times.clone(),
                            ids: rows.ids.clone(),
                            values: found.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect(),
                        }));
                    }
                }
            });
        }
    })
}

fn requests(rows: &Rows, program: &Program, from: usize, peers: usize) -> Vec<Requests> {
    let mut out = Vec::new();
    if rows.times.is_empty() {
        return out;
    }
    for (index, group) in program.groups.iter().enumerate() {
        if group.source == rows.source && group.takes() {
            takes(rows, group, index, from, peers, &mut out);
            continue;
        }
        if group.source == rows.source {
            inserts(rows, group, index, from, peers, &mut out);
        }
        if rows.source == program.spine {
            reads(rows, group, index, from, peers, &mut out);
        }
    }
    out
}

fn inserts(
    rows: &Rows,
    group: &GroupProgram,
    index: usize,
    from: usize,
    peers: usize,
    out: &mut Vec<Requests>,
) {
    let keys = keys(&group.source_key, &rows.batch);
    let mut columns: Vec<Vec<Value>> =
        group.columns.iter().map(|c| values(&column(c, &rows.batch))).collect();
    let mut parts = Parts::new(index, from, peers, || Kind::Insert(Vec::new()));
    for (row, key) in keys.into_iter().enumerate() {
        // A NULL key is in nobody's window.
        let Some(key) = key else { continue };
        let part = parts.of(Some(key), rows.times[row], &rows.ids[row]);
        if let Kind::Insert(flat) = &mut part.kind {
            flat.extend(columns.iter_mut().map(|c| std::mem::take(&mut c[row])));
        }
    }
    parts.send(out);
}

fn takes(
    rows: &Rows,
    group: &GroupProgram,
    index: usize,
    from: usize,
    peers: usize,
    out: &mut Vec<Requests>,
) {
    let keys = keys(&group.source_key, &rows.batch);
    let mut columns: Vec<Vec<Value>> =
        group.columns.iter().map(|c| values(&column(c, &rows.batch))).collect();
    let mut parts = Parts::new(index, from, peers, || Kind::Take(Vec::new(), Vec::new()));
    for (row, key) in keys.into_iter().enumerate() {
        let part = parts.of(key, rows.times[row], &rows.ids[row]);
        if let Kind::Take(slots, flat) = &mut part.kind {
            slots.push(rows.first_slot + row as u64);
            flat.extend(columns.iter_mut().map(|c| std::mem::take(&mut c[row])));
        }
    }
    parts.send(out);
}

fn reads(
    rows: &Rows,
    group: &GroupProgram,
    index: usize,
    from: usize,
    peers: usize,
    out: &mut Vec<Requests>,
) {
    let keys = keys(&group.spine_key, &rows.batch);
    let mut parts = Parts::new(index, from, peers, || Kind::Read(Vec::new()));
    for (row, key) in keys.into_iter().enumerate() {
        let part = parts.of(key, rows.times[row], &rows.ids[row]);
        if let Kind::Read(slots) = &mut part.kind {
            slots.push(rows.first_slot + row as u64);
        }
    }
    parts.send(out);
}

/// One batch of requests for each worker.
struct Parts {
    parts: Vec<Requests>,
    peers: usize,
    from: usize,
}

impl Parts {
    fn new(group: usize, from: usize, peers: usize, kind: impl Fn() -> Kind) -> Parts {
        let part = |to| Requests {
            to,
            from,
            group,
            keys: Vec::new(),
            times: Vec::new(),
            ids: Vec::new(),
            kind: kind(),
        };
        Parts { parts: (0..peers).map(part).collect(), peers, from }
    }

    /// The batch for a key's owner, with the row's head added; a NULL key is answered at home.
    fn of(&mut self, key: Option<Key>, time: Micros, id: &Id) -> &mut Requests {
        let to = key.map_or(self.from, |k| k.worker(self.peers));
        let part = &mut self.parts[to];
        part.keys.push(key);
        part.times.push(time);
        part.ids.push(id.clone());
        part
    }

    fn send(self, out: &mut Vec<Requests>) {
        out.extend(self.parts.into_iter().filter(|p| !p.times.is_empty()));
    }
}
