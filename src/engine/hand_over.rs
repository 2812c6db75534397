//! The mill on a thread of its own: while it walks a bundle, the worker makes the features of the
//! next one. Order is kept, so nothing of this shows in a result.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tidemill_config::plan::Mode;
use tidemill_operators::dataflow::{Decide, Program, Round};
use tidemill_types::Error;

use super::bell::Bell;
use super::ingest::Shared;
use crate::checkpoint::line::SharedLines;
use crate::mill::SharedMill;

/// What the worker hands over. How much may wait is bounded by how far sources may run ahead.
enum Parcel {
    /// Everything of these rounds, in their order; no round before the last one can come again.
    Rounds(Vec<(Round, Vec<Decide>)>, Round),
    /// A line: everything before it was handed over.
    Line,
    /// The last rounds: there is nothing more.
    End(Vec<(Round, Vec<Decide>)>),
}

/// The worker's end.
pub struct HandOver {
    to: Sender<Parcel>,
    done: Arc<AtomicU64>,
    /// Rung when the mill has done something.
    pub bell: Bell,
    lines: Option<SharedLines>,
    stop: Arc<AtomicBool>,
    /// The last line that was handed over.
    line: Cell<Round>,
}

impl HandOver {
    /// Starts the mill's thread.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(
        mill: SharedMill,
        program: Arc<Program>,
        shared: Arc<Shared>,
        lines: Option<SharedLines>,
    ) -> Result<(HandOver, JoinHandle<()>), Error> {
        let (to, from) = unbounded();
        let done = Arc::new(AtomicU64::new(0));
        let bell = Bell::default();
        let told = Told { done: Arc::clone(&done), bell: bell.clone() };
        let (asked, stop) = (lines.clone(), Arc::clone(&shared.stop));
        let thread = std::thread::Builder::new()
            .name("mill".to_string())
            .spawn(move || {
                // However it ends, the worker waits for it no longer.
                let _over = Over(told.clone(), Arc::clone(&shared));
                if let Err(error) = walk(&from, &mill, &program, &shared, &told, asked) {
                    shared.fail(error);
                }
            })
            .map_err(|e| Error::external(format!("no thread for the mill: {e}")))?;
        Ok((HandOver { to, done, bell, lines, stop, line: Cell::new(0) }, thread))
    }

    /// Hands over the rounds that are finished; `open` is the first that is not.
    pub fn rounds(&self, mut rounds: Vec<(Round, Vec<Decide>)>, open: Round) {
        let line = self.lines.as_ref().filter(|lines| lines.gate().is_none());
        let line = line.and_then(|lines| lines.pending());
        if let Some(line) = line.filter(|line| *line <= open && *line != self.line.get()) {
            self.line.set(line);
            let after = rounds.split_off(rounds.partition_point(|(round, _)| *round < line));
            let _ = self.to.send(Parcel::Rounds(rounds, line));
            let _ = self.to.send(Parcel::Line);
            rounds = after;
        }
        let _ = self.to.send(Parcel::Rounds(rounds, open));
    }

    /// The round that the line under way does not let go yet: see [`Lines::gate`](crate::checkpoint::line::Lines::gate).
    pub fn gate(&self) -> Option<Round> {
        // In a run that is stopped nobody says where it stands any more, and no line is made.
        let lines = self.lines.as_ref().filter(|_| !self.stop.load(Ordering::Relaxed));
        lines?.gate()?.checked_sub(1)
    }

    /// Hands over the last rounds.
    pub fn end(&self, rounds: Vec<(Round, Vec<Decide>)>) {
        let _ = self.to.send(Parcel::End(rounds));
    }

    /// The first round that the mill has not finished; the last possible one when it is over.
    pub fn done(&self) -> Round {
        self.done.load(Ordering::Acquire)
    }
}

/// How the worker hears what the mill has done.
#[derive(Clone)]
struct Told {
    done: Arc<AtomicU64>,
    bell: Bell,
}

impl Told {
    fn tell(&self, open: Round) {
        self.done.store(open, Ordering::Release);
        self.bell.ring();
    }
}

struct Over(Told, Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1.fail(Error::internal("the mill panicked"));
        }
        self.0.tell(Round::MAX);
    }
}

fn walk(
    from: &Receiver<Parcel>,
    mill: &SharedMill,
    program: &Program,
    shared: &Shared,
    told: &Told,
    lines: Option<SharedLines>,
) -> Result<(), Error> {
    for parcel in from {
        let Ok(mut held) = mill.lock() else {
            return Err(Error::internal("the mill panicked"));
        };
        let Some(mill) = held.as_mut() else { return Ok(()) };
        if shared.stop.load(Ordering::Relaxed) {
            // What was read of the rounds under way is not all of them.
            return mill.interrupt();
        }
        let (rounds, open) = match parcel {
            Parcel::Rounds(rounds, open) => (rounds, Some(open)),
            Parcel::End(rounds) => (rounds, None),
            Parcel::Line => {
                lines.iter().try_for_each(|lines| mill.give_to(lines))?;
                continue;
            }
        };
        for (round, messages) in rounds {
            match program.mode {
                Mode::Final => messages.into_iter().for_each(|message| mill.absorb(message)),
                Mode::AtOnce => mill.epoch(round, messages)?,
            }
        }
        let Some(open) = open else { return mill.finish() };
        if program.mode == Mode::Final {
            mill.advance(program.start_of(open))?;
        }
        told.tell(open);
    }
    Ok(())
}
