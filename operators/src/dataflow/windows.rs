//! Hosts the window stores: each worker owns the keys of its key groups.
//!
//! `final`: a round is taken when the frontier has passed it, its inserts and reads in one order, so
//! every read moves each window's cursor forward. `at_once`: an epoch's inserts go in wherever they
//! belong, its reads are answered at once, and answered a last time when the watermark passes them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_config::plan::Mode;
use tidemill_types::{Id, Key, Micros, Value};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::message::{Answers, Kind, Requests, Round};
use super::program::Program;
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
    /// `at_once`: reads that wait for the watermark, by group.
    waiting: Vec<BTreeMap<(Micros, Id, usize, u64), Option<Key>>>,
}

/// One request among many: which batch, which row.
type At = (u32, u32);

impl Host {
    fn new(program: Arc<Program>, index: usize, peers: usize) -> Host {
        Host {
            stores: program.groups.iter().map(|g| Store::new(g.group.clone())).collect(),
            waiting: program.groups.iter().map(|_| BTreeMap::new()).collect(),
            marks: vec![Micros::MIN; peers],
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
                Mode::Final => self.answer(group, &batches, &order, true, give),
                Mode::AtOnce => {
                    let (inserts, reads): (Vec<At>, Vec<At>) = order
                        .iter()
                        .partition(|at| matches!(batches[at.0 as usize].kind, Kind::Insert(_)));
                    self.answer(group, &batches, &inserts, false, give);
                    self.answer(group, &batches, &reads, false, give);
                    self.wait(group, &batches, &reads);
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
                values: Vec::new(),
                watermark: Some(watermark),
            });
        }
    }

    /// Carries requests out in the order given and sends each asker its answers.
    fn answer(
        &mut self,
        group: usize,
        batches: &[Requests],
        order: &[At],
        last: bool,
        give: &mut dyn FnMut(Answers),
    ) {
        let width = self.program.groups[group].columns.len();
        let store = &mut self.stores[group];
        let mut answers: Vec<(Vec<u64>, Vec<Value>)> = vec![Default::default(); self.peers];
        for &(batch, row) in order {
            let (batch, row) = (&batches[batch as usize], row as usize);
            match &batch.kind {
                Kind::Insert(flat) => {
                    if let Some(key) = batch.keys[row] {
                        let values = &flat[row * width..(row + 1) * width];
                        store.insert(key, batch.times[row], &batch.ids[row], values);
                    }
                }
                Kind::Read(slots) => {
                    let (asked, values) = &mut answers[batch.from];
                    asked.push(slots[row]);
                    store.read(batch.keys[row], batch.times[row], &batch.ids[row], values);
                }
                Kind::Mark(_) => {}
            }
        }
        send(group, last, answers, give);
    }

    fn wait(&mut self, group: usize, batches: &[Requests], reads: &[At]) {
        for &(batch, row) in reads {
            let (batch, row) = (&batches[batch as usize], row as usize);
            if let Kind::Read(slots) = &batch.kind {
                self.waiting[group].insert(
                    (batch.times[row], batch.ids[row].clone(), batch.from, slots[row]),
                    batch.keys[row],
                );
            }
        }
    }

    /// Answers what the watermark has passed, a last time.
    fn answer_last(&mut self, group: usize, watermark: Micros, give: &mut dyn FnMut(Answers)) {
        let mut answers: Vec<(Vec<u64>, Vec<Value>)> = vec![Default::default(); self.peers];
        while let Some(entry) = self.waiting[group].first_entry() {
            if entry.key().0 >= watermark {
                break;
            }
            let ((time, id, from, slot), key) = entry.remove_entry();
            let (asked, values) = &mut answers[from];
            asked.push(slot);
            self.stores[group].read(key, time, &id, values);
        }
        send(group, true, answers, give);
    }
}

fn send(
    group: usize,
    last: bool,
    answers: Vec<(Vec<u64>, Vec<Value>)>,
    give: &mut dyn FnMut(Answers),
) {
    for (to, (slots, values)) in answers.into_iter().enumerate() {
        if !slots.is_empty() {
            give(Answers { to, group, last, slots, values, watermark: None });
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
