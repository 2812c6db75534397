//! The thread that makes a line of what it is given: it writes the parts while everything goes on, has
//! files and journal made durable, and only then the manifest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use tidemill_connectors::disk;
use tidemill_types::{Error, Micros};
use xxhash_rust::xxh3::xxh3_128;

use super::epochs::Epochs;
use super::line::{Cut, Gift, Lines, Round, SavedSources, SharedLines, Wait};
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
    /// Workers of the dataflow.
    pub workers: usize,
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
    windows: BTreeMap<usize, Vec<BTreeMap<u64, Vec<u8>>>>,
    mill: Option<(Vec<(String, Vec<u8>)>, Vec<Wait>)>,
    sinks: Option<(Vec<u8>, Vec<File>)>,
}

struct Keeper {
    store: Store,
    about: About,
    lines: SharedLines,
    /// What was written under each name last: a part that did not change is not packed again.
    known: HashMap<String, (u128, Part)>,
    written: u64,
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
    let lines = Arc::new(Lines::new(every, first, to, host.clone()));
    let shared = Arc::clone(&lines);
    let (known, written, under_way) = (HashMap::new(), 0, None);
    let mut keeper = Some(Keeper { store, about, lines: shared, known, written, under_way });
    let step = move |wait: bool| match receive(&from, wait) {
        Received::One(gift) => {
            if let Some(keeper) = &mut keeper {
                keeper.take(gift);
            }
            Turn::Moved
        }
        Received::Nothing => Turn::Idle,
        Received::Gone => keeper.take().map_or(Turn::Idle, |keeper| Turn::Over(keeper.store)),
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
            (Gift::Mill(parts, waits), Some(line)) => line.mill = Some((parts, waits)),
            (Gift::Sinks(state, files), Some(line)) => line.sinks = Some((state, files)),
            (_, None) => {}
        }
        let (about, lines) = (&self.about, &self.lines);
        if let Some(line) = self.under_way.take_if(|line| line.is_complete(about, lines)) {
            points::pass("line.complete");
            if let Err(error) = self.write(line) {
                // A run goes on without a line; the one before stands.
                tracing::error!(%error, "a checkpoint could not be written; trying again");
                self.lines.done(None);
            }
        }
    }

    fn write(&mut self, line: Gathering) -> Result<(), Error> {
        self.written = 0;
        let mut parts = Vec::new();
        let sources: Vec<SavedSources> = line.sources.into_values().collect();
        let before = match (self.about.cut)(line.round) {
            Cut::Time(before) => before,
            Cut::Round(_) => sources.iter().map(|saved| saved.mark).min().unwrap_or(Micros::MIN),
        };
        let sources = section::encode(&sources).map_err(Error::internal)?;
        parts.push(self.put("sources".to_string(), &sources)?);
        for (worker, rows) in line.held {
            parts.push(self.put(format!("held/{worker}"), &rows)?);
        }
        for (worker, groups) in line.windows {
            for (group, ranges) in groups.into_iter().enumerate() {
                for (first, ranges) in gathered(ranges) {
                    let bytes = section::encode(&ranges).map_err(Error::internal)?;
                    parts.push(self.put(format!("windows/{group}/{first}/{worker}"), &bytes)?);
                }
            }
        }
        let (mill, waits) = line.mill.unwrap_or_default();
        for (name, bytes) in mill {
            parts.push(self.put(format!("mill/{name}"), &bytes)?);
        }
        let (sinks, files) = line.sinks.unwrap_or_default();
        parts.push(self.put("sinks".to_string(), &sinks)?);
        for file in files {
            disk::sync_data(&file)?;
        }
        self.store.sync_parts()?;
        for wait in waits {
            wait()?;
        }
        self.about.settled.wait()?;
        points::pass("line.synced");
        let number = self.lines.number();
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let parts_named: HashSet<String> = parts.iter().map(|part| part.name.clone()).collect();
        self.store.commit(&Manifest {
            format: FORMAT,
            pipeline: self.about.pipeline.clone(),
            plan: self.about.plan.clone(),
            places: self.about.places.clone(),
            build: env!("CARGO_PKG_VERSION").to_string(),
            line: number,
            round: line.round,
            before,
            workers: self.about.workers,
            parts,
        })?;
        points::pass("line.committed");
        let took = line.began.elapsed();
        tracing::debug!(line = number, bytes, written = self.written, ?took, "checkpoint");
        (self.about.tell)(Told { took, bytes, written: self.written });
        let names = parts_named;
        self.known.retain(|name, _| names.contains(name));
        let cleared = self.store.clear(self.about.keep).unwrap_or_else(|error| {
            tracing::warn!(%error, "old checkpoints stay");
            self.lines.oldest()
        });
        if let Some((epochs, true)) = &self.about.epochs
            && let Ok(oldest) = self.store.line(cleared)
        {
            epochs.clear(oldest.round);
        }
        self.lines.done(Some(cleared));
        Ok(())
    }

    fn put(&mut self, name: String, content: &[u8]) -> Result<Part, Error> {
        let hash = xxh3_128(content);
        if let Some((known, part)) = self.known.get(&name)
            && *known == hash
        {
            return Ok(part.clone());
        }
        let part = self.store.put(&name, content)?;
        points::pass("line.part");
        self.written += part.bytes;
        self.known.insert(name, (hash, part.clone()));
        Ok(part)
    }
}

/// A part has about so many bytes, where there are as many: each one that is new costs a wait for the disk.
const PART: usize = 1 << 20;

/// Ranges of keys side by side, with the first one's number.
fn gathered(ranges: BTreeMap<u64, Vec<u8>>) -> Vec<(u64, Vec<Vec<u8>>)> {
    let mut parts: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    let mut bytes = PART;
    for (range, content) in ranges {
        if bytes >= PART {
            parts.push((range, Vec::new()));
            bytes = 0;
        }
        bytes += content.len();
        if let Some((_, part)) = parts.last_mut() {
            part.push(content);
        }
    }
    parts
}

impl Gathering {
    fn new(round: Round) -> Gathering {
        Gathering {
            round,
            began: Instant::now(),
            sources: <_>::default(),
            held: <_>::default(),
            windows: <_>::default(),
            mill: None,
            sinks: None,
        }
    }

    /// Whether everybody has given; workers that have read everything were asked before they went.
    fn is_complete(&mut self, about: &About, lines: &Lines) -> bool {
        let held = about.epochs.is_none() || self.held.len() == about.workers;
        let all = self.mill.is_some() && self.sinks.is_some() && held;
        if !all || self.windows.len() < about.workers {
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
