//! A running pipeline as people see it: what the dashboard, `tidemill top` and the JSON API show.
//!
//! Everything is read from counters and states that are there anyway, or kept beside them within bounds:
//! counts of the last minutes ([`pulse`]), samples of what went aside ([`recent`]), drift over the whole run
//! ([`heat`]). Nothing here is read back by the dataflow, so the wall clock may be looked at.

mod answers;
pub mod graph;
pub mod heat;
mod models;
mod orders;
mod pipeline;
pub mod pulse;
pub mod recent;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value as Json;
use tidemill_types::{Error, Micros};

use self::pulse::{Counts, Pulse};
use self::recent::wall_clock;
use crate::engine::check::Compiled;
use crate::engine::outputs::Outputs;
use crate::engine::watermarks::Watermarks;
use crate::mill::Status;
use crate::online::Online;
use crate::serve::dashboard::{View, Watched};
use crate::serve::orders::Wish;

/// What is looked at.
pub struct Setup {
    /// The pipeline.
    pub compiled: Arc<Compiled>,
    /// How far the mill is.
    pub status: Arc<Status>,
    /// Counts of what left, without a way to the sinks.
    pub outputs: Outputs,
    /// Rows read, by source.
    pub rows: Vec<Arc<AtomicU64>>,
    /// How far each source is.
    pub watermarks: Arc<Watermarks>,
    /// What is held for requests.
    pub online: Arc<Online>,
    /// The run's folder.
    pub folder: PathBuf,
    /// Whether a source is live.
    pub live: bool,
}

/// The pipeline as people see it.
pub struct Board {
    setup: Setup,
    pulse: Mutex<Pulse>,
    /// The newest checkpoint: when, by the wall clock, and its size in bytes.
    line: Mutex<Option<(Micros, u64)>>,
    began: Instant,
    ended: AtomicBool,
    /// What the journal says of versions, as far as it was read.
    histories: Mutex<models::Read>,
}

impl Board {
    /// A board before anything has happened.
    pub fn new(setup: Setup) -> Board {
        Board {
            setup,
            pulse: Mutex::default(),
            line: Mutex::default(),
            began: Instant::now(),
            ended: AtomicBool::new(false),
            histories: Mutex::default(),
        }
    }

    /// Takes a sample, if a second has gone by since the last.
    pub fn look(&self, now: Instant) {
        let mut pulse = self.pulse();
        if pulse.is_due(now) {
            pulse.add(now, self.counts());
        }
    }

    /// The run is over: what is served from now on stays as it is.
    pub fn end(&self) {
        self.pulse().add(Instant::now(), self.counts());
        self.ended.store(true, Ordering::SeqCst);
    }

    /// A checkpoint counts, of so many bytes.
    pub fn checkpoint(&self, bytes: u64) {
        // What is held is whole even if someone panicked while holding it.
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some((wall_clock(), bytes));
    }

    fn pulse(&self) -> std::sync::MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> Counts {
        let sources = &self.setup.compiled.plan.sources;
        let counts = self.setup.outputs.counts();
        let late = counts.late.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = counts.dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = |name: &str| {
            let own = dead.iter().filter(|((source, _), _)| source == name);
            own.map(|(_, rows)| rows).sum()
        };
        let names = || sources.iter().map(|source| source.name.value.as_str());
        Counts {
            rows: self.setup.rows.iter().map(|rows| rows.load(Ordering::Relaxed)).collect(),
            late: names().map(|name| late.get(name).copied().unwrap_or(0)).collect(),
            dead: names().map(of_source).collect(),
            streams: counts.streams.iter().map(|rows| rows.load(Ordering::Relaxed)).collect(),
            scores: self.setup.status.now().scores,
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Watched for Board {
    fn order(&self, wish: &Wish) -> Result<Json, Error> {
        self.obey(wish)
    }

    fn read(&self, view: &View) -> Result<Json, Error> {
        match view {
            View::Pipeline => Ok(pipeline::describe(&self.setup)),
            View::Status => Ok(self.status()),
            View::Rates => Ok(self.rates()),
            View::Rejects => Ok(self.rejects()),
            View::Features => Ok(self.features()),
            View::Drift { section, detector } => {
                self.drift(section.as_deref(), detector.as_deref())
            }
            View::Models => self.models(),
            View::Alerts => Ok(self.alerts()),
            View::Journal { before, limit } => self.journal(*before, *limit),
        }
    }
}
