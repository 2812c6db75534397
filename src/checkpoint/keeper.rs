//! The thread that makes a line of what it is given: it writes the parts while everything goes on, has
//! files and journal made durable, and only then the manifest.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use tidemill_connectors::disk;
use tidemill_types::{Error, Micros};

use super::depot::Depot;
use super::epochs::Epochs;
use super::line::{
    Cut, Gift, Later, Lines, Parts, Round, SavedSources, SharedLines, Wait, Windows,
};
use super::manifest::{FORMAT, Manifest, Part};
use super::store::Store;
use super::{points, section};
use crate::host::{Handle, Host, Received, Turn, receive};
use crate::journal::Settled;

/// What a keeper knows of the run.
pub struct About {
    /// The pipeline's name.
    pub pipeline: String,
    /// See [`Manifest::plan`].
    pub plan: String,
    /// See [`Manifest::places`].
    pub places: String,
    /// Workers of the dataflow, those of other processes too.
    pub workers: usize,
    /// Other processes, which put the windows of their workers into the same store themselves.
    pub others: usize,
    /// Whole lines that are retained.
    pub keep: usize,
    /// What belongs to the line at a round.
    pub cut: Box<dyn Fn(Round) -> Cut + Send>,
    /// `at_once`: the log of epochs, and whether it may forget those that no retained line needs.
    pub epochs: Option<(Arc<Epochs>, bool)>,
    /// What tells whether the journal is durable.
    pub settled: Settled,
    /// What is told of each line.
    pub tell: Box<dyn Fn(Told) + Send>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// From its choice to its manifest.
    pub took: Duration,
    /// Bytes of all of its parts.
    pub bytes: u64,
    /// Those of them that were written for it.
    pub written: u64,
}

/// What came for the line under way.
struct Gathering {
    round: Round,
    began: Instant,
    sources: BTreeMap<usize, SavedSources>,
    held: BTreeMap<usize, Vec<u8>>,
    windows: BTreeMap<usize, Windows>,
    /// What other processes have put, and that one could not.
    parts: BTreeMap<usize, Vec<Part>>,
    failed: Option<Error>,
    mill: Option<(Parts, Option<Later>, Vec<Wait>)>,
    sinks: Option<(Vec<u8>, Vec<File>)>,
}

struct Keeper {
    depot: Depot,
    about: About,
    lines: SharedLines,
    under_way: Option<Gathering>,
}

/// Starts the thread; `first` is the number of the first line. It ends, with what went wrong, when
/// [`Lines::close`] is called, and gives the store back.
///
/// # Errors
/// No thread is to be had.
pub fn start(
    store: Store,
    about: About,
    every: Duration,
    first: u64,
    host: &Host,
) -> Result<(SharedLines, Handle<Store>), Error> {
    let (to, from) = unbounded();
    let lines = Arc::new(Lines::new(every, first, about.workers, to, host.clone()));
    let (depot, shared) = (Depot::new(store), Arc::clone(&lines));
    let mut keeper = Some(Keeper { depot, about, lines: shared, under_way: None });
    let step = move |wait: bool| match receive(&from, wait) {
        Received::One(gift) => {
            if let Some(keeper) = &mut keeper {
                keeper.take(gift);
            }
            Turn::Moved
        }
        Received::Nothing => Turn::Idle,
        Received::Gone => keeper.take().map_or(Turn::Idle, |keeper| Turn::Over(keeper.depot.store)),
    };
    let keeper = host.start("checkpoints", step)?;
    Ok((lines, keeper))
}

impl Keeper {
    /// Takes what somebody gives, and writes the line when that was the last.
    fn take(&mut self, gift: Gift) {
        match (gift, &mut self.under_way) {
            (Gift::Begin(round), _) => self.under_way = Some(Gathering::new(round)),
            (Gift::Sources(worker, saved), Some(line)) => {
                line.sources.insert(worker, saved);
            }
            (Gift::Held(worker, rows), Some(line)) => {
                line.held.insert(worker, rows);
            }
            (Gift::Windows(worker, saved), Some(line)) => {
                line.windows.insert(worker, saved);
            }
            (Gift::Mill { parts, later, waits }, Some(line)) => {
                line.mill = Some((parts, later, waits));
            }
            (Gift::Sinks(state, files), Some(line)) => line.sinks = Some((state, files)),
            (Gift::Parts(process, round, parts), Some(line)) if line.round == round => {
                // Given up when all have given: what still comes would be taken for the next one's.
                let parts = parts.unwrap_or_else(|why| {
                    line.failed = Some(Error::external(format!("process {process}: {why}")));
                    Vec::new()
                });
                line.parts.insert(process, parts);
            }
            _ => {}
        }
        let (about, lines) = (&self.about, &self.lines);
        if let Some(line) = self.under_way.take_if(|line| line.is_complete(about, lines)) {
            points::pass("line.complete");
            if let Err(error) = self.write(line) {
                self.give_up(&error);
            }
        }
    }

    /// A run goes on without a line; the one before stands.
    fn give_up(&mut self, error: &Error) {
        tracing::error!(%error, "a checkpoint could not be written; trying again");
        self.depot.forget();
        self.lines.done(None);
    }

    fn write(&mut self, mut line: Gathering) -> Result<(), Error> {
        if let Some(error) = line.failed.take() {
            return Err(error);
        }
        self.depot.begin();
        let (round, began) = (line.round, line.began);
        let mut parts = Vec::new();
        let sources: Vec<SavedSources> = line.sources.into_values().collect();
        let before = match (self.about.cut)(line.round) {
            Cut::Time(before) => before,
            Cut::Round(_) => sources.iter().map(|saved| saved.mark).min().unwrap_or(Micros::MIN),
        };
        let sources = section::encode(&sources).map_err(Error::internal)?;
        parts.push(self.depot.put("sources".to_string(), &sources)?);
        for (worker, rows) in line.held {
            parts.push(self.depot.put(format!("held/{worker}"), &rows)?);
        }
        for (worker, groups) in line.windows {
            parts.extend(self.depot.windows(worker, groups())?);
        }
        let elsewhere: Vec<Part> = line.parts.into_values().flatten().collect();
        // A store that is not the same for all processes would show only when the line is needed.
        self.depot.store.has(&elsewhere)?;
        parts.extend(elsewhere);
        let (mut mill, later, waits) = line.mill.unwrap_or_default();
        if let Some(later) = later {
            mill.extend(later().map_err(Error::internal)?);
        }
        for (name, bytes) in mill {
            parts.push(self.depot.put(format!("mill/{name}"), &bytes)?);
        }
        let (sinks, files) = line.sinks.unwrap_or_default();
        parts.push(self.depot.put("sinks".to_string(), &sinks)?);
        for file in files {
            disk::sync_data(&file)?;
        }
        self.depot.store.settle()?;
        for wait in waits {
            wait()?;
        }
        self.about.settled.wait()?;
        points::pass("line.synced");
        let number = self.lines.number();
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let line = Manifest {
            format: FORMAT,
            pipeline: self.about.pipeline.clone(),
            plan: self.about.plan.clone(),
            places: self.about.places.clone(),
            build: env!("CARGO_PKG_VERSION").to_string(),
            line: number,
            round,
            before,
            workers: self.about.workers,
            parts,
        };
        self.depot.store.commit(&line)?;
        points::pass("line.committed");
        let (took, written) = (began.elapsed(), self.depot.written);
        tracing::debug!(line = number, bytes, written, ?took, "checkpoint");
        (self.about.tell)(Told { took, bytes, written });
        self.depot.stands(&line.parts);
        let cleared = self.depot.store.clear(self.about.keep).unwrap_or_else(|error| {
            tracing::warn!(%error, "old checkpoints stay");
            self.lines.oldest()
        });
        if let Some((epochs, true)) = &self.about.epochs
            && let Ok(oldest) = self.depot.store.line(cleared)
        {
            epochs.clear(oldest.round);
        }
        self.lines.done(Some(cleared));
        Ok(())
    }
}

impl Gathering {
    fn new(round: Round) -> Gathering {
        Gathering {
            round,
            began: Instant::now(),
            sources: <_>::default(),
            held: <_>::default(),
            windows: <_>::default(),
            parts: <_>::default(),
            failed: None,
            mill: None,
            sinks: None,
        }
    }

    /// Whether everybody has given; workers that have read everything were asked before they went.
    fn is_complete(&mut self, about: &About, lines: &Lines) -> bool {
        let held = about.epochs.is_none() || self.held.len() == about.workers;
        let all = self.mill.is_some() && self.sinks.is_some() && held;
        let own = about.workers / (about.others + 1);
        if !all || self.windows.len() < own || self.parts.len() < about.others {
            return false;
        }
        let cut = (about.cut)(self.round);
        (0..about.workers).all(|worker| {
            if !self.sources.contains_key(&worker)
                && let Some(saved) = lines.sources_of_ended(worker, cut)
            {
                self.sources.insert(worker, saved);
            }
            self.sources.contains_key(&worker)
        })
    }
}
