//! Hosts the window stores: each worker owns the keys of its key groups.
//!
//! `final`: a round is taken when the frontier has passed it, its inserts and reads in one order, so
//! every read moves each window's cursor forward. `at_once`: an epoch's inserts go in wherever they
//! belong, its reads are answered at once, and answered a last time when the watermark passes them.
//!
//! A run that is stopped does not wait for the end of a round, which may be a day of rows: between two of
//! them it is left. Nothing of it goes on, so that the next run takes it whole, from the newest line.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::mem::take;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema as ArrowSchema;
use tidemill_config::plan::Mode;
use tidemill_types::{Id, Key, Micros};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::line::{Asker, Begin, Keep, Saved};
use super::message::{Answers as Answered, Kind, Requests, Round, Wire};
use super::program::Program;
use super::shelf::Shelf;
use crate::column::Typed;
use crate::window::{Answers, Name, Rank, Store};

/// Answers requests on worker `index` of `peers`.
pub fn windows<'scope>(
    requests: StreamVec<'scope, Round, Requests>,
    program: Arc<Program>,
    index: usize,
    peers: usize,
    keep: Keep,
) -> StreamVec<'scope, Round, Answered> {
    let pact = Exchange::new(|r: &Requests| r.to as u64);
    let scope = requests.scope();
    requests.unary_frontier::<CapacityContainerBuilder<Vec<Answered>>, _, _, _>(
        pact,
        "windows",
        |_, info| {
            let activator = scope.activator_for(info.address);
            let mut stash: BTreeMap<Round, (Capability<Round>, Vec<Requests>)> = BTreeMap::new();
            let Keep { windows: mut lines, begin, shelf, stop, .. } = keep;
            let shelf = shelf.unwrap_or_else(|| Arc::new(Shelf::new(peers)));
            let mut host = Host::new(program, index, peers, shelf, begin, stop);
            // Whether a round was left.
            let mut left = false;
            move |(input, frontier), output| {
                input.for_each(|capability, batches| {
                    if let Some(kept) = capability.retain_least(0) {
                        let (_, queued) =
                            stash.entry(*kept.time()).or_insert_with(|| (kept, Vec::new()));
                        queued.append(batches);
                    }
                });
                if left {
                    // Who decides has heard of the stop before, and takes nothing any more.
                    return stash.clear();
                }
                // What is in at a line is every round before it, and none after.
                let line = |round: Option<Round>, lines: &Option<Asker<Saved>>, host: &mut Host| {
                    if let Some(lines) = lines
                        && let Some(line) = lines.pending()
                        && round.is_none_or(|round| round >= line)
                        && line.checked_sub(1).is_none_or(|last| passed(frontier, last))
                    {
                        host.begin_line(line);
                    }
                };
                let mut rows = 0;
                while let Some(entry) = stash.first_entry() {
                    if !passed(frontier, *entry.key()) {
                        break;
                    }
                    line(Some(*entry.key()), &lines, &mut host);
                    let (round, (capability, batches)) = entry.remove_entry();
                    rows += batches.iter().map(|batch| batch.times.len()).sum::<usize>();
                    let mut session = output.session(&capability);
                    let taken = host.take(round, batches, &mut |answers| session.give(answers));
                    drop(session);
                    if taken.is_break() {
                        // It is let go in the next turn. Where the run has failed there is none: nobody, in another
                        // process either, may then take the round for a whole one.
                        left = true;
                        stash.insert(round, (capability, Vec::new()));
                        return activator.activate();
                    }
                }
                line(stash.keys().next().copied(), &lines, &mut host);
                if let (Some(lines), Some(line)) = (&mut lines, host.cutting) {
                    let step = if frontier.is_empty() { usize::MAX } else { STEP + ROW * rows };
                    match host.go_on_with_line(step) {
                        Some(saved) => lines.take(line, saved),
                        None => activator.activate(),
                    }
                }
            }
        },
    )
}

/// Whether nothing more can come for a round.
pub(super) fn passed(frontier: &MutableAntichain<Round>, round: Round) -> bool {
    !frontier.less_equal(&round)
}

/// Of a line under way so many bytes are saved at a time, a tenth of a millisecond, and so many more for each row that
/// came meanwhile, half of what the row took.
const STEP: usize = 16 << 10;
const ROW: usize = 128;

/// The stores of one worker.
struct Host {
    program: Arc<Program>,
    shelf: Arc<Shelf>,
    index: usize,
    peers: usize,
    /// `at_once`: what each worker said of its watermark last.
    marks: Vec<Micros>,
    /// The newest event time that came.
    latest: Micros,
    /// The line that is being saved, and the groups that are.
    cutting: Option<Round>,
    saved: Saved,
    /// Set when the run is to end.
    stop: Arc<AtomicBool>,
    /// `at_once`: reads that wait for the watermark, by group.
    waiting: Vec<BTreeMap<(Micros, Id, usize, u64), Option<Key>>>,
}

/// One request among many: which batch, which row.
type At = (u32, u32);

/// Answers to one asker: its slots, and what they are answered.
#[derive(Default)]
struct Given {
    slots: Vec<u64>,
    answers: Answers,
    /// Those before, where all together are too long for one batch.
    full: Vec<(Vec<u64>, Vec<ArrayRef>)>,
}

impl Given {
    /// Begins another batch where the answers are longer than this.
    #[inline]
    fn bound(&mut self, most: u64, store: &Store) {
        if self.answers.long_bytes() > most {
            let (slots, answers) = (take(&mut self.slots), take(&mut self.answers));
            self.full.push((slots, store.finish(answers)));
        }
    }
}

/// How many requests have their memory on its way at once.
const AHEAD: usize = 128;

/// The requests of a round to one group, their columns looked at once.
struct Asked<'a> {
    batches: &'a [Requests],
    columns: Vec<Vec<Typed<'a>>>,
    order: Vec<At>,
    /// See [`Program::batch_bytes`].
    most: u64,
}

impl<'a> Asked<'a> {
    fn new(batches: &'a [Requests], program: &Program, group: usize) -> Asked<'a> {
        let typed = |batch: &'a Requests| match &batch.kind {
            Kind::Insert(_, columns) | Kind::Take(_, columns) => {
                columns.0.columns().iter().map(Typed::of).collect()
            }
            Kind::Read(_) | Kind::Wait(_) | Kind::Mark(_) => Vec::new(),
        };
        let columns = batches.iter().map(typed).collect();
        let order = in_order(batches, group, program.groups[group].group.own_stream);
        Asked { batches, columns, order, most: program.batch_bytes }
    }

    /// No answers yet, by asker, with room for those to all of it.
    fn answers(&self, group: usize, peers: usize) -> Vec<Given> {
        let mut reads = vec![0; peers];
        for batch in self.batches.iter().filter(|batch| batch.group == group) {
            if let Kind::Read(slots) | Kind::Take(slots, _) = &batch.kind {
                reads[batch.from] += slots.len();
            }
        }
        let given =
            |n| Given { slots: Vec::with_capacity(n), answers: Answers::to(n), full: Vec::new() };
        reads.into_iter().map(given).collect()
    }

    /// Time and name of a request's row.
    fn head(&self, (batch, row): At) -> (Micros, Name<'_>) {
        let (batch, row) = (&self.batches[batch as usize], row as usize);
        (batch.times[row], Name { rank: batch.kind.rank(), id: &batch.ids[row] })
    }

    /// Takes a row in, if that is what is asked.
    #[inline]
    fn insert(&self, store: &mut Store, (batch, row): At, place: Option<u32>) {
        let (columns, batch, row) =
            (&self.columns[batch as usize], &self.batches[batch as usize], row as usize);
        if let Kind::Insert(..) | Kind::Take(..) = &batch.kind
            && let (Some(key), Some(place)) = (batch.keys[row], place)
        {
            let cell = |column: usize| columns[column].cell(row);
            let name = Name { rank: batch.kind.rank(), id: &batch.ids[row] };
            store.insert_at(place, key, batch.times[row], name, cell);
        }
    }

    /// Answers a row, if that is what is asked.
    #[inline]
    fn read(&self, store: &mut Store, (batch, row): At, place: Option<u32>, answers: &mut [Given]) {
        let (batch, row) = (&self.batches[batch as usize], row as usize);
        if let Kind::Read(slots) | Kind::Take(slots, _) = &batch.kind {
            // A key may have got its first row since its place was looked for.
            let place = place.or_else(|| batch.keys[row].and_then(|key| store.find(key)));
            let (time, id) = (batch.times[row], &batch.ids[row]);
            let given = &mut answers[batch.from];
            given.slots.push(slots[row]);
            store.read_at(place, time, id, &mut given.answers);
            given.bound(self.most, store);
        }
    }

    /// Where the rows of some requests are, with their memory on its way.
    fn places(&self, store: &mut Store, order: &[At], places: &mut Vec<Option<u32>>) {
        places.clear();
        for &(batch, row) in order {
            let batch = &self.batches[batch as usize];
            let key = batch.keys[row as usize];
            places.push(match batch.kind {
                Kind::Read(_) | Kind::Wait(_) | Kind::Mark(_) => {
                    key.and_then(|key| store.find(key))
                }
                Kind::Insert(..) | Kind::Take(..) => key.map(|key| store.place(key)),
            });
        }
        std::hint::black_box(store.touch(places.iter().flatten().copied()));
    }
}

impl Host {
    fn new(
        program: Arc<Program>,
        index: usize,
        peers: usize,
        shelf: Arc<Shelf>,
        begin: Option<Begin>,
        stop: Arc<AtomicBool>,
    ) -> Host {
        let fresh = || program.groups.iter().map(|g| Store::new(g.group.clone())).collect();
        let (stores, watermark) = match begin {
            Some(Begin { stores, watermark }) => (stores, watermark),
            None => (fresh(), Micros::MIN),
        };
        *shelf.of(index) = stores;
        Host {
            shelf,
            waiting: program.groups.iter().map(|_| BTreeMap::new()).collect(),
            marks: vec![watermark; peers],
            latest: watermark,
            cutting: None,
            saved: Saved::new(),
            stop,
            program,
            index,
            peers,
        }
    }

    /// Begins to save all stores for a line, unless that is what is being done.
    fn begin_line(&mut self, line: Round) {
        if self.cutting != Some(line) {
            self.cutting = Some(line);
            self.saved.clear();
            self.shelf.of(self.index).iter_mut().for_each(Store::begin_cut);
        }
    }

    /// Goes on with the line for about so many bytes; what it is when it is done.
    fn go_on_with_line(&mut self, bytes: usize) -> Option<Saved> {
        let mut stores = self.shelf.of(self.index);
        while let Some(store) = stores.get_mut(self.saved.len()) {
            self.saved.push(store.go_on_with_cut(bytes)?);
        }
        self.cutting = None;
        Some(take(&mut self.saved))
    }

    /// Takes a round whole; breaks off where the run is stopped.
    fn take(
        &mut self,
        round: Round,
        batches: Vec<Requests>,
        give: &mut dyn FnMut(Answered),
    ) -> ControlFlow<()> {
        for batch in &batches {
            if let Kind::Mark(watermark) = batch.kind {
                self.marks[batch.from] = self.marks[batch.from].max(watermark);
            }
        }
        let watermark = match self.program.mode {
            Mode::Final => self.program.start_of(round + 1),
            Mode::AtOnce => self.marks.iter().copied().min().unwrap_or(Micros::MIN),
        };
        // A round ends after its newest row, and the input with all time; a request may ask about any time since that
        // row.
        self.latest =
            batches.iter().flat_map(|batch| &batch.times).fold(self.latest, |a, b| a.max(*b));
        let settled = watermark.min(self.latest);
        let (shelf, stop) = (Arc::clone(&self.shelf), Arc::clone(&self.stop));
        for (group, store) in shelf.of(self.index).iter_mut().enumerate() {
            let own = self.program.groups[group].group.own_stream;
            let asked = Asked::new(&batches, &self.program, group);
            let mut answers = asked.answers(group, self.peers);
            match self.program.mode {
                Mode::Final => {
                    in_turn(store, &asked, own, &mut answers, &stop)?;
                    send(store, group, true, answers, give);
                }
                Mode::AtOnce => {
                    all_in(store, &asked, &mut answers, &stop)?;
                    send(store, group, false, answers, give);
                    self.wait(group, &batches, &asked.order);
                    self.answer_last(store, group, watermark, give)?;
                }
            }
            store.advance(settled);
        }
        if self.program.mode == Mode::AtOnce {
            give(Answered {
                to: self.index,
                group: usize::MAX,
                last: true,
                slots: Vec::new(),
                columns: Wire(RecordBatch::new_empty(Arc::new(ArrowSchema::empty()))),
                watermark: Some(watermark),
            });
        }
        ControlFlow::Continue(())
    }

    fn wait(&mut self, group: usize, batches: &[Requests], order: &[At]) {
        for &(batch, row) in order {
            let (batch, row) = (&batches[batch as usize], row as usize);
            if let Kind::Read(slots) | Kind::Take(slots, _) | Kind::Wait(slots) = &batch.kind {
                self.waiting[group].insert(
                    (batch.times[row], batch.ids[row].clone(), batch.from, slots[row]),
                    batch.keys[row],
                );
            }
        }
    }

    /// Answers what the watermark has passed, a last time.
    fn answer_last(
        &mut self,
        store: &mut Store,
        group: usize,
        watermark: Micros,
        give: &mut dyn FnMut(Answered),
    ) -> ControlFlow<()> {
        let mut answers: Vec<Given> = (0..self.peers).map(|_| Given::default()).collect();
        while let Some(entry) = self.waiting[group].first_entry() {
            if entry.key().0 >= watermark {
                break;
            }
            goes_on(&self.stop)?;
            let ((time, id, from, slot), key) = entry.remove_entry();
            let place = key.and_then(|key| store.find(key));
            answers[from].slots.push(slot);
            store.read_at(place, time, &id, &mut answers[from].answers);
            answers[from].bound(self.program.batch_bytes, store);
        }
        send(store, group, true, answers, give);
        ControlFlow::Continue(())
    }
}

/// Breaks where the run is to end. Asked before each row: a read of all rows of a long window may take
/// milliseconds.
fn goes_on(stop: &AtomicBool) -> ControlFlow<()> {
    match stop.load(Memory::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Takes rows in and answers in event-time order. Rows of one time and id of the spine's own
/// stream see each other.
fn in_turn(
    store: &mut Store,
    asked: &Asked<'_>,
    own: bool,
    answers: &mut [Given],
    stop: &AtomicBool,
) -> ControlFlow<()> {
    let same = |a: &At, b: &At| own && asked.head(*a) == asked.head(*b);
    let (mut places, mut rest) = (Vec::with_capacity(AHEAD), &asked.order[..]);
    while !rest.is_empty() {
        let mut n = AHEAD.min(rest.len());
        while n < rest.len() && same(&rest[n - 1], &rest[n]) {
            n += 1;
        }
        let (block, after) = rest.split_at(n);
        rest = after;
        asked.places(store, block, &mut places);
        let mut from = 0;
        for run in block.chunk_by(same) {
            goes_on(stop)?;
            let places = &places[from..from + run.len()];
            from += run.len();
            for (at, place) in run.iter().zip(places) {
                asked.insert(store, *at, *place);
            }
            for (at, place) in run.iter().zip(places) {
                asked.read(store, *at, *place, answers);
            }
        }
    }
    ControlFlow::Continue(())
}

/// Takes all rows in, then answers.
fn all_in(
    store: &mut Store,
    asked: &Asked<'_>,
    answers: &mut [Given],
    stop: &AtomicBool,
) -> ControlFlow<()> {
    let mut places = Vec::with_capacity(AHEAD);
    for block in asked.order.chunks(AHEAD) {
        goes_on(stop)?;
        asked.places(store, block, &mut places);
        block.iter().zip(&places).for_each(|(at, place)| asked.insert(store, *at, *place));
    }
    for block in asked.order.chunks(AHEAD) {
        asked.places(store, block, &mut places);
        for (at, place) in block.iter().zip(&places) {
            goes_on(stop)?;
            asked.read(store, *at, *place, answers);
        }
    }
    ControlFlow::Continue(())
}

fn send(
    store: &mut Store,
    group: usize,
    last: bool,
    answers: Vec<Given>,
    give: &mut dyn FnMut(Answered),
) {
    for (to, Given { slots, answers, mut full }) in answers.into_iter().enumerate() {
        if !slots.is_empty() {
            full.push((slots, store.finish(answers)));
        }
        for (slots, columns) in full {
            let columns = columns.into_iter().enumerate();
            let columns: Vec<_> = columns.map(|(i, c)| (i.to_string(), c, true)).collect();
            let columns = RecordBatch::try_from_iter_with_nullable(columns);
            let columns = Wire(columns.expect("columns are equally long"));
            give(Answered { to, group, last, slots, columns, watermark: None });
        }
    }
}

/// The requests of one group in the order in which they take effect: by event time; among rows of
/// one time, where the spine's own stream is taken in those of other streams first, then by id, a row before its own
/// read; else every insert before every read.
fn in_order(batches: &[Requests], group: usize, own_stream: bool) -> Vec<At> {
    let read = |at: At| matches!(batches[at.0 as usize].kind, Kind::Read(_));
    let rank = |at: At| -> Rank { batches[at.0 as usize].kind.rank() };
    let id = |at: At| &batches[at.0 as usize].ids[at.1 as usize];
    let order = |a: &(Micros, At), b: &(Micros, At)| -> Ordering {
        let tie = || {
            let ids = || rank(a.1).cmp(&rank(b.1)).then_with(|| id(a.1).cmp(id(b.1)));
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
    };
    // Most come in order: only the others are sorted, and merged with these.
    let rows = batches.iter().filter(|batch| batch.group == group).map(|b| b.times.len()).sum();
    let mut ascending: Vec<(Micros, At)> = Vec::with_capacity(rows);
    let mut others: Vec<(Micros, At)> = Vec::new();
    for (b, batch) in batches.iter().enumerate().filter(|(_, batch)| batch.group == group) {
        for (row, &time) in batch.times.iter().enumerate() {
            let next = (time, (b as u32, row as u32));
            match ascending.last() {
                Some(last) if order(last, &next).is_gt() => others.push(next),
                _ => ascending.push(next),
            }
        }
    }
    if others.is_empty() {
        return ascending.into_iter().map(|(_, at)| at).collect();
    }
    others.sort_unstable_by(order);
    let mut merged = Vec::with_capacity(rows);
    let mut others = others.into_iter().peekable();
    for next in ascending {
        while let Some(other) = others.next_if(|other| order(other, &next).is_lt()) {
            merged.push(other.1);
        }
        merged.push(next.1);
    }
    merged.extend(others.map(|(_, at)| at));
    merged
}
