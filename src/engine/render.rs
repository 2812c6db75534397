//! One worker's dataflow: from its readers through the windows to where models learn and score.
//!
//! ```text
//! readers -> ingest -> scatter -+-> windows -> gather -+-> mill (worker 0) -> sinks
//!                               +------- labels -------+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidemill_operators::dataflow::{
    Decide, Keep, Kind, Program, Reached, Requests, Round, Rows, gather, scatter, windows,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::{Operator, source};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capability, Concat, Probe};
use timely::dataflow::{Scope, StreamVec};
use timely::worker::Worker;

use super::bell::Bell;
use super::hand_over::HandOver;
use super::ingest::{Again, Ingest, Step};
use crate::host::Host;

/// What enters.
#[derive(Clone)]
enum Entering {
    Rows(Arc<Rows>),
    Reached(Reached),
    Mark(i64),
    End(i64),
}

/// Builds the dataflow of one worker, whose ingest is woken by `bell`. `mill` is there on the first
/// worker only.
pub fn render(
    worker: &mut Worker,
    ingest: Ingest,
    bell: &Bell,
    program: &Arc<Program>,
    mill: Option<HandOver>,
    mut keep: Keep,
    host: &Host,
) {
    let (index, peers) = (worker.index(), worker.peers());
    worker.dataflow::<Round, _, _>(|scope| {
        let probe = Handle::new();
        let entering = enter(scope, ingest, bell, probe.clone(), host);
        let rows = entering.clone().flat_map(|e| match e {
            Entering::Rows(rows) => Some(rows),
            _ => None,
        });
        let marks = entering.clone().flat_map(move |e| {
            let to = if let Entering::Mark(mark) = e { Some(mark) } else { None };
            to.into_iter().flat_map(move |mark| (0..peers).map(move |to| told(index, to, mark)))
        });
        let ends = entering.flat_map(|e| match e {
            Entering::End(latest) => Some(Decide::End(latest)),
            Entering::Reached(reached) => Some(Decide::Reached(reached)),
            _ => None,
        });
        let (requests, found) = scatter(rows.clone(), Arc::clone(program), index, peers);
        let held = keep.held.take();
        let answers = windows(requests.concat(marks), Arc::clone(program), index, peers, keep);
        let features = gather(rows, answers, Arc::clone(program), held);
        let decide = features.concat(found).concat(ends);
        decided(scope, decide, mill).probe_with(&probe);
    });
}

/// The watermark of a worker, told to another.
fn told(from: usize, to: usize, mark: i64) -> Requests {
    Requests {
        to,
        from,
        group: usize::MAX,
        keys: Vec::new(),
        times: Vec::new(),
        ids: Vec::new(),
        kind: Kind::Mark(mark),
    }
}

/// Hands over what the ingest gives, at the rounds that it names.
fn enter<'scope>(
    scope: Scope<'scope, Round>,
    mut ingest: Ingest,
    bell: &Bell,
    probe: Handle<Round>,
    host: &Host,
) -> StreamVec<'scope, Round, Entering> {
    // A simulation has a clock of its own, and rings when that has moved.
    let has_alarms = host.simulation().is_none();
    source::<_, CapacityContainerBuilder<Vec<Entering>>, _, _>(scope, "ingest", |first, info| {
        bell.hang(scope.worker().sync_activator_for(info.address.to_vec()));
        let activator = scope.activator_for(info.address);
        let mut held: Option<Capability<Round>> = Some(first);
        // The next time at which this operator is called anyway: each such call would make one more.
        let mut alarm: Option<Instant> = None;
        move |output| {
            let Some(capability) = held.as_mut() else { return };
            let frontier = probe.with_frontier(|f| f.first().copied());
            let again = ingest.step(frontier, &mut |step| {
                let (round, entering) = match step {
                    Step::Rows(round, rows) => (round, Entering::Rows(Arc::new(rows))),
                    Step::Mark(round, mark) => (round, Entering::Mark(mark)),
                    Step::Reached(round, reached) => (round, Entering::Reached(reached)),
                    Step::End(round, latest) => (round, Entering::End(latest)),
                };
                output.session(&capability.delayed(&round)).give(entering);
            });
            match ingest.round() {
                None => held = None,
                Some(round) => {
                    if round > *capability.time() {
                        capability.downgrade(&round);
                    }
                }
            }
            match again {
                Again::AtOnce => activator.activate(),
                Again::After(wait) if has_alarms => {
                    let now = Instant::now();
                    if alarm.is_none_or(|at| at <= now || now + wait < at) {
                        alarm = Some(now + wait);
                        activator.activate_after(wait);
                    }
                }
                Again::After(_) | Again::WhenRung => {}
            }
        }
    })
}

/// Hands finished rounds to the mill and holds their capabilities until it is done with them, so
/// that sources see how far it is.
fn decided<'scope>(
    scope: Scope<'scope, Round>,
    decide: StreamVec<'scope, Round, Decide>,
    mill: Option<HandOver>,
) -> StreamVec<'scope, Round, ()> {
    let first = Exchange::new(|_: &Decide| 0);
    let mut waiting: BTreeMap<Round, (Capability<Round>, Vec<Decide>)> = BTreeMap::new();
    let mut held: BTreeMap<Round, Capability<Round>> = BTreeMap::new();
    let mut at: Round = 0;
    let mut ended = false;
    decide.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(first, "mill", |_, info| {
        if let Some(mill) = &mill {
            mill.bell.hang(scope.worker().sync_activator_for(info.address.to_vec()));
        }
        move |(input, frontier), _output| {
            input.for_each(|capability, batches| {
                if let Some(kept) = capability.retain_least(0) {
                    let entry = waiting.entry(*kept.time());
                    entry.or_insert_with(|| (kept, Vec::new())).1.append(batches);
                }
            });
            let Some(mill) = &mill else { return waiting.clear() };
            let mut open = frontier.frontier().first().copied();
            if let Some(gate) = mill.gate() {
                open = Some(open.map_or(gate, |open| open.min(gate)));
            }
            let later = open.map_or_else(BTreeMap::new, |open| waiting.split_off(&open));
            let ready = std::mem::replace(&mut waiting, later);
            let next = open.unwrap_or(Round::MAX);
            if next > at && !ended {
                at = next;
                let mut rounds = Vec::with_capacity(ready.len());
                for (round, (capability, messages)) in ready {
                    rounds.push((round, messages));
                    held.insert(round, capability);
                }
                match open {
                    Some(open) => mill.rounds(rounds, open),
                    None => {
                        ended = true;
                        mill.end(rounds);
                    }
                }
            }
            held = held.split_off(&mill.done());
        }
    })
}
