//! The sinks' thread: it writes what comes, makes it visible in time, and tells lines where the sinks stand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use tidemill_config::plan::Stream;
use tidemill_connectors::sink::Sink;
use tidemill_types::{Error, Micros};

use super::outputs::{Counts, Emission, SinksState, Until};
use super::replay::Stretch;
use super::watch::Turns;
use crate::checkpoint::line::{Gift, SharedLines};
use crate::checkpoint::{points, section};
use crate::host::{Host, Turn};
use crate::journal::Settled;
use crate::observe::traces;

/// A sink and what it takes.
pub(super) struct Opened {
    pub(super) stream: Stream,
    name: String,
    /// Places of the columns that it wants; all of them if it does not say.
    columns: Option<Vec<usize>>,
    sink: Box<dyn Sink>,
    /// How long rows may wait for a commit.
    every: Duration,
    committed: Instant,
    /// When what was written is to be committed; none where all of it is.
    due: Option<Instant>,
    /// A replay: everything of the stretch was given.
    over: bool,
    host: Host,
}

impl Opened {
    /// Nothing was written yet.
    pub(super) fn new(
        stream: Stream,
        name: String,
        columns: Option<Vec<usize>>,
        sink: Box<dyn Sink>,
        host: &Host,
    ) -> Opened {
        let (every, committed, host) = (sink.commit_every(), host.now(), host.clone());
        Opened { stream, name, columns, sink, every, committed, due: None, over: false, host }
    }

    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        // The first row after a quiet time need not wait.
        self.due.get_or_insert(self.committed + self.every);
        let tracer = traces::tracer();
        let sending = tracer.and_then(|tracer| tracer.sending(&self.name, self.stream, rows));
        if let Some(sending) = &sending {
            self.sink.trace(sending.contexts());
        }
        let written = match &self.columns {
            None => self.sink.write(rows, times),
            Some(picks) => {
                let fits = |e| Error::internal(format!("columns of a sink: {e}"));
                self.sink.write(&rows.project(picks).map_err(fits)?, times)
            }
        };
        if let (Some(tracer), Some(sending)) = (tracer, sending) {
            tracer.sent(sending);
        }
        written
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.sink.commit()?;
        (self.committed, self.due) = (self.host.now(), None);
        Ok(())
    }
}

/// What drives the sinks.
pub(super) struct Driver {
    pub(super) sinks: Vec<Opened>,
    pub(super) settled: Settled,
    pub(super) counts: Arc<Counts>,
    pub(super) lines: Option<SharedLines>,
    /// How far dead letters and late rows were sent, by stream and partition.
    pub(super) until: BTreeMap<(String, String), u64>,
    pub(super) turns: Arc<Turns>,
    /// A replay: which rows the sinks get, and what is set when they have them all.
    pub(super) replay: Option<(Arc<Stretch>, Arc<AtomicBool>)>,
    pub(super) host: Host,
}

impl Driver {
    /// Writes what comes next, and makes visible what has waited for long enough; over when nobody sends.
    pub(super) fn step(
        &mut self,
        from: &Receiver<Emission>,
        wait: bool,
    ) -> Result<Turn<()>, Error> {
        self.turns.sinks.fetch_add(1, Ordering::Relaxed);
        // Only what was written and is not visible yet is a reason to wake without new rows.
        let due = self.sinks.iter().filter_map(|opened| opened.due).min();
        let emission = match due {
            _ if !wait => from.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
            Some(due) => from.recv_deadline(due),
            None => from.recv().map_err(RecvTimeoutError::from),
        };
        let mut moved = emission.is_ok();
        match emission {
            Ok(Emission::Rows(stream, rows, times)) => self.write(stream, &rows, &times)?,
            Ok(Emission::Aside(stream, counts, rows, until)) => {
                self.count(stream, counts, until);
                if let Some((rows, times)) = rows {
                    self.write(stream, &rows, &times)?;
                }
            }
            Ok(Emission::Mark) => self.mark()?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Turn::Over(())),
        }
        let now = self.host.now();
        for opened in &mut self.sinks {
            if opened.due.is_some_and(|due| due <= now) {
                opened.commit()?;
                moved = true;
            }
        }
        Ok(if moved { Turn::Moved } else { Turn::Idle })
    }

    fn write(&mut self, stream: Stream, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        self.settled.wait()?;
        let mut sinks = self.sinks.iter_mut().filter(|opened| opened.stream == stream);
        let Some((stretch, stop)) = &self.replay else {
            return sinks.try_for_each(|opened| opened.write(rows, times));
        };
        let cut = stretch.cut(rows, times);
        for opened in sinks {
            cut.iter().try_for_each(|(rows, times)| opened.write(rows, times))?;
            opened.over |= stretch.is_over(times);
        }
        if self.sinks.iter().all(|opened| opened.over) {
            stretch.end();
            stop.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Counts here, so that a line tells of neither more nor less than its sinks have.
    fn count(
        &mut self,
        stream: Stream,
        counts: Vec<((String, String), u64)>,
        until: Option<Until>,
    ) {
        for ((source, reason), n) in counts {
            if stream == Stream::Late {
                let mut late = self.counts.late.lock().unwrap_or_else(PoisonError::into_inner);
                *late.entry(source).or_default() += n;
            } else {
                let dead = self.counts.dead_letters.lock();
                let mut dead = dead.unwrap_or_else(PoisonError::into_inner);
                *dead.entry((source, reason)).or_default() += n;
            }
        }
        if let Some((partition, offset)) = until {
            // A restart reads again what was told already: how far that was stands until it is passed.
            let told = self.until.entry((stream.name().to_string(), partition)).or_default();
            *told = offset.max(*told);
        }
    }

    fn mark(&mut self) -> Result<(), Error> {
        let Some(lines) = &self.lines else { return Ok(()) };
        let (mut sinks, mut files) = (BTreeMap::new(), Vec::new());
        for opened in &mut self.sinks {
            // The line takes these rows for sent: no restart would send again what is still under way.
            opened.commit()?;
            let Opened { name, sink, .. } = opened;
            let mark = sink.mark()?.map(|mark| {
                files.extend(mark.files);
                mark.state
            });
            sinks.insert(name.clone(), mark);
        }
        let state = SinksState {
            sinks,
            until: self.until.clone(),
            dead_letters: self
                .counts
                .dead_letters
                .lock()
                .map(|dead| dead.clone())
                .unwrap_or_default(),
            late: self.counts.late.lock().map(|late| late.clone()).unwrap_or_default(),
        };
        let state = section::encode(&state).map_err(Error::internal)?;
        points::pass("line.sinks");
        lines.give(Gift::Sinks(state, files));
        Ok(())
    }

    /// Closes the sinks: everything is visible. Of a run that has failed what was written is committed, and a file
    /// under way, which is not whole, stays without its name.
    pub(super) fn close(self, failed: bool) -> Result<(), Error> {
        self.sinks.into_iter().try_for_each(|mut opened| match (failed, opened.due) {
            (false, _) => opened.sink.close(),
            (true, Some(_)) => opened.commit(),
            (true, None) => Ok(()),
        })
    }
}
