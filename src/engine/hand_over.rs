//! The mill on a thread of its own: while it walks a bundle, the worker makes the features of the
//! next one. Order is kept, so nothing of this shows in a result.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Sender, unbounded};
use tidemill_config::plan::Mode;
use tidemill_operators::dataflow::{Decide, Program, Round};
use tidemill_types::Error;

use super::bell::Bell;
use super::ingest::Shared;
use crate::checkpoint::line::SharedLines;
use crate::host::{Handle, Host, Received, Turn, receive};
use crate::mill::{Mill, SharedMill};

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
        host: &Host,
    ) -> Result<(HandOver, Handle<()>), Error> {
        let (to, from) = unbounded();
        let done = Arc::new(AtomicU64::new(0));
        let bell = Bell::default();
        let told = Told { done: Arc::clone(&done), bell: bell.clone() };
        if let Some(lines) = &lines {
            let bell = bell.clone();
            lines.wake(Box::new(move || bell.ring()));
        }
        let stop = Arc::clone(&shared.stop);
        // However it ends, the worker waits for it no longer.
        let over = Over(told, Arc::clone(&shared));
        let walk = Walk { mill, program, shared, lines: lines.clone(), over };
        let step = move |wait: bool| {
            let parcel = match receive(&from, wait) {
                Received::One(parcel) => parcel,
                Received::Nothing => return Turn::Idle,
                Received::Gone => return Turn::Over(()),
            };
            match walk.take(parcel) {
                Ok(true) => Turn::Moved,
                Ok(false) => Turn::Over(()),
                Err(error) => {
                    walk.shared.fail(error);
                    Turn::Over(())
                }
            }
        };
        let thread = host.start("mill", step)?;
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

/// The mill's side.
struct Walk {
    mill: SharedMill,
    program: Arc<Program>,
    shared: Arc<Shared>,
    lines: Option<SharedLines>,
    over: Over,
}

impl Walk {
    /// Has the mill do what was handed over; false when that was the last.
    fn take(&self, parcel: Parcel) -> Result<bool, Error> {
        let Ok(mut held) = self.mill.lock() else {
            return Err(Error::internal("the mill panicked"));
        };
        let Some(mill) = held.as_mut() else { return Ok(false) };
        let done = self.walk(mill, parcel);
        if done.is_err() {
            mill.give_up();
        }
        done
    }

    fn walk(&self, mill: &mut Mill, parcel: Parcel) -> Result<bool, Error> {
        if self.shared.stop.load(Ordering::Relaxed) {
            // What was read of the rounds under way is not all of them.
            return mill.interrupt().map(|()| false);
        }
        let (rounds, open) = match parcel {
            Parcel::Rounds(rounds, open) => (rounds, Some(open)),
            Parcel::End(rounds) => (rounds, None),
            Parcel::Line => {
                self.lines.iter().try_for_each(|lines| mill.give_to(lines))?;
                return Ok(true);
            }
        };
        for (round, messages) in rounds {
            match self.program.mode {
                Mode::Final => messages.into_iter().for_each(|message| mill.absorb(message)),
                Mode::AtOnce => mill.epoch(round, messages)?,
            }
        }
        let Some(open) = open else { return mill.finish().map(|()| false) };
        if self.program.mode == Mode::Final {
            mill.advance(self.program.start_of(open))?;
        }
        self.over.0.tell(open);
        Ok(true)
    }
}
