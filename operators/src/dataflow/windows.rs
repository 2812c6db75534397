//! Hosts the window stores: each worker owns the keys of its key groups.
//!
//! `final`: a round is taken when the frontier has passed it, its inserts and reads in one order, so
//! every read moves each window's cursor forward. `at_once`: an epoch's inserts go in wherever they
//! belong, its reads are answered at once, and answered a last time when the watermark passes them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema as ArrowSchema;
use tidemill_config::plan::Mode;
use tidemill_types::{DataType, Id, Key, Micros, Value};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::message::{Answers, Kind, Requests, Round, Wire};
use super::program::Program;
use crate::column::Builder;
use crate::window::Store;

/// Answers requests on worker `index` of `peers`.
pub fn windows<'scope>(
    requests: StreamVec<'scope, Round, Requests>,
    program: Arc<Program>,
    index: usize,
    peers: usize,
) -> StreamVec<'scope, Round, Answers> {
    let pact = Exchange::new(|r: &Requests| r.to as u64);
    requests.unary_frontier::<CapacityContainerBuilder<Vec<Answers>>, _, _, _>(
        pact,
        "windows",
        |_, _| {
            let mut stash: BTreeMap<Round, (Capability<Round>, Vec<Requests>)> = BTreeMap::new();
            let mut host = Host::new(program, index, peers);
            move |(input, frontier), output| {
                input.for_each(|capability, batches| {
                    if let Some(kept) = capability.retain_least(0) {
                        let (_, queued) =
                            stash.entry(*kept.time()).or_insert_with(|| (kept, Vec::new()));
                        queued.append(batches);
                    }
                });
                while let Some(entry) = stash.first_entry() {
                    if !passed(frontier, *entry.key()) {
                        break;
                    }
                    let (round, (capability, batches)) = entry.remove_entry();
                    let mut session = output.session(&capability);
                    host.take(round, batches, &mut |answers| session.give(answers));
                }
            }
        },
    )
}

/// Whether nothing more can come for a round.
pub(super) fn passed(frontier: &MutableAntichain<Round>, round: Round) -> bool {
    !frontier.less_equal(&round)
}

/// The stores of one worker.
struct Host {
    program: Arc<Program>,
    stores: Vec<Store>,
    index: usize,
    peers: usize,
    /// `at_once`: what each worker said of its watermark last.
    marks: Vec<Micros>,
    /// One row's answers, before they join their columns.
    values: Vec<Value>,
    /// `at_once`: reads that wait for the watermark, by group.
    waiting: Vec<BTreeMap<(Micros, Id, usize, u64), Option<Key>>>,
}

/// One request among many: which batch, which row.
type At = (u32, u32);

/// Answers to one asker: its slots, and the group's outputs as columns.
#[derive(Default)]
struct Given {
    slots: Vec<u64>,
    columns: Vec<Builder>,
}

impl Given {
    fn push(&mut self, slot: u64, values: &[Value], types: &[DataType]) {
        if self.slots.is_empty() {
            self.columns = types.iter().map(|t| Builder::new(*t, 0)).collect();
        }
        self.slots.push(slot);
        self.columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }

    fn finish(self) -> Wire {
        let name = |i: usize| i.to_string();
        let columns = self.columns.into_iter().map(Builder::finish).enumerate();
        let columns: Vec<_> = columns.map(|(i, column)| (name(i), column, true)).collect();
        Wire(RecordBatch::try_from_iter_with_nullable(columns).expect("columns are equally long"))
    }
}

/// Time and id of a request.
fn head(batches: &[Requests], (batch, row): At) -> (Micros, &Id) {
    let (batch, row) = (&batches[batch as usize], row as usize);
    (batch.times[row], &batch.ids[row])
}

impl Host {
    fn new(program: Arc<Program>, index: usize, peers: usize) -> Host {
        Host {
            stores: program.groups.iter().map(|g| Store::new(g.group.clone())).collect(),
            waiting: program.groups.iter().map(|_| BTreeMap::new()).collect(),
            marks: vec![Micros::MIN; peers],
            values: Vec::new(),
            program,
            index,
            peers,
        }
    }

    fn take(&mut self, round: Round, batches: Vec<Requests>, give: &mut dyn FnMut(Answers)) {
        for batch in &batches {
            if let Kind::Mark(watermark) = batch.kind {
                self.marks[batch.from] = self.marks[batch.from].max(watermark);
            }
        }
        let watermark = match self.program.mode {
            Mode::Final => self.program.start_of(round + 1),
            Mode::AtOnce => self.marks.iter().copied().min().unwrap_or(Micros::MIN),
        };
        for group in 0..self.stores.len() {
            let own = self.program.groups[group].group.own_stream;
            let order = in_order(&batches, group, own);
            match self.program.mode {
                Mode::Final => {
                    // Rows of one time and id see each other.
                    let same = |a: &At, b: &At| own && head(&batches, *a) == head(&batches, *b);
                    let mut answers = self.nothing();
                    for run in order.chunk_by(same) {
                        self.insert(group, &batches, run);
                        self.read(group, &batches, run, &mut answers);
                    }
                    send(group, true, answers, give);
                }
                Mode::AtOnce => {
                    let mut answers = self.nothing();
                    self.insert(group, &batches, &order);
                    self.read(group, &batches, &order, &mut answers);
                    send(group, false, answers, give);
                    self.wait(group, &batches, &order);
                    self.answer_last(group, watermark, give);
                }
            }
            self.stores[group].advance(watermark);
        }
        if self.program.mode == Mode::AtOnce {
            give(Answers {
                to: self.index,
                group: usize::MAX,
                last: true,
                slots: Vec::new(),
                columns: Wire(RecordBatch::new_empty(Arc::new(ArrowSchema::empty()))),
                watermark: Some(watermark),
            });
        }
    }

    /// No answers yet, by asker.
    fn nothing(&self) -> Vec<Given> {
        (0..self.peers).map(|_| Given::default()).collect()
    }

    /// Takes rows in, in the order given.
    fn insert(&mut self, group: usize, batches: &[Requests], order: &[At]) {
        let width = self.program.groups[group].columns.len();
        for &(batch, row) in order {
            let (batch, row) = (&batches[batch as usize], row as usize);
            if let Kind::Insert(flat) | Kind::Take(_, flat) = &batch.kind
                && let Some(key) = batch.keys[row]
            {
                let values = &flat[row * width..(row + 1) * width];
                self.stores[group].insert(key, batch.times[row], &batch.ids[row], values);
            }
        }
    }

    /// Answers reads in the order given.
    fn read(&mut self, group: usize, batches: &[Requests], order: &[At], answers: &mut [Given]) {
        for &(batch, row) in order {
            let (batch, row) = (&batches[batch as usize], row as usize);
            if let Kind::Read(slots) | Kind::Take(slots, _) = &batch.kind {
                let (time, id) = (batch.times[row], &batch.ids[row]);
                self.values.clear();
                self.stores[group].read(batch.keys[row], time, id, &mut self.values);
                let types = &self.program.groups[group].outputs;
                answers[batch.from].push(slots[row], &self.values, types);
            }
        }
    }

    fn wait(&mut self, group: usize, batches: &[Requests], order: &[At]) {
        for &(batch, row) in order {
            let (batch, row) = (&batches[batch as usize], row as usize);
            if let Kind::Read(slots) | Kind::Take(slots, _) = &batch.kind {
                self.waiting[group].insert(
                    (batch.times[row], batch.ids[row].clone(), batch.from, slots[row]),
                    batch.keys[row],
                );
            }
        }
    }

    /// Answers what the watermark has passed, a last time.
    fn answer_last(&mut self, group: usize, watermark: Micros, give: &mut dyn FnMut(Answers)) {
        let mut answers = self.nothing();
        while let Some(entry) = self.waiting[group].first_entry() {
            if entry.key().0 >= watermark {
                break;
            }
            let ((time, id, from, slot), key) = entry.remove_entry();
            self.values.clear();
            self.stores[group].read(key, time, &id, &mut self.values);
            answers[from].push(slot, &self.values, &self.program.groups[group].outputs);
        }
        send(group, true, answers, give);
    }
}

fn send(group: usize, last: bool, answers: Vec<Given>, give: &mut dyn FnMut(Answers)) {
    for (to, mut given) in answers.into_iter().enumerate() {
        if !given.slots.is_empty() {
            let slots = std::mem::take(&mut given.slots);
            give(Answers { to, group, last, slots, columns: given.finish(), watermark: None });
        }
    }
}

/// The requests of one group in the order in which they take effect: by event time; among rows of
/// one time, in the spine's own stream by id, a row before its own read; in other streams every
/// insert before every read.
fn in_order(batches: &[Requests], group: usize, own_stream: bool) -> Vec<At> {
    let mut order: Vec<(Micros, At)> = Vec::new();
    for (b, batch) in batches.iter().enumerate().filter(|(_, batch)| batch.group == group) {
        order.extend(
            batch.times.iter().enumerate().map(|(row, &time)| (time, (b as u32, row as u32))),
        );
    }
    let read = |at: At| matches!(batches[at.0 as usize].kind, Kind::Read(_));
    let id = |at: At| &batches[at.0 as usize].ids[at.1 as usize];
    order.sort_unstable_by(|a, b| {
        let tie = || -> Ordering {
            let ids = || id(a.1).cmp(id(b.1));
            let kinds = || read(a.1).cmp(&read(b.1));
            // The place in the round is the last resort: rows without any difference.
            let places = || a.1.cmp(&b.1);
            if own_stream {
                ids().then_with(kinds).then_with(places)
            } else {
                kinds().then_with(ids).then_with(places)
            }
        };
        a.0.cmp(&b.0).then_with(tie)
    });
    order.into_iter().map(|(_, at)| at).collect()
}
