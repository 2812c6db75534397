//! The loop of a reader: what one look at the source brings is handed on.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_connectors::source::{Polled, Source};
use tidemill_types::{Error, Micros};

use super::{PIECES, PartitionMemory, PartitionState, Piece, Reader};
use crate::host::{Handle, Host, Turn};
use crate::observe::traces;

/// How long a reader waits for its source before it looks whether the run is to stop. What comes in
/// between ends the wait.
const LOOK: Duration = Duration::from_millis(100);

/// A source that is being read.
struct Reading {
    source: Box<dyn Source>,
    /// Partitions that have not ended.
    open: Vec<u32>,
    memory: BTreeMap<u32, PartitionMemory>,
}

impl Reader {
    /// Has the host read until the source is finished or the run stops; an error ends the run.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(self, source: Box<dyn Source>, host: &Host) -> Result<Handle<()>, Error> {
        let mut source = Some(source);
        let mut reading = None;
        let name = format!("read {}", self.plan.name.value);
        host.start(&name, move |wait| {
            let step = match source.take() {
                Some(source) => self.begin(source).map(|begun| {
                    reading = Some(begun);
                    Turn::Moved
                }),
                None => reading.as_mut().map_or(Ok(Turn::Over(())), |at| self.step(at, wait)),
            };
            step.unwrap_or_else(|error| {
                let _ = self.to.send(Err(error));
                self.bell.ring();
                Turn::Over(())
            })
        })
    }

    /// Places the source where the run begins.
    fn begin(&self, mut source: Box<dyn Source>) -> Result<Reading, Error> {
        let open = source.partitions();
        if traces::tracer().is_some() {
            source.trace();
        }
        let mut memory: BTreeMap<u32, PartitionMemory> = BTreeMap::new();
        for (partition, resume) in &self.resume {
            let at = memory.entry(*partition).or_default();
            let position = &resume.position;
            (at.latest, at.next, at.rows) = (position.latest, position.offset, position.rows);
            self.read.fetch_add(position.rows, Ordering::Relaxed);
            if let Some(offset) = position.offset {
                source.seek(*partition, offset)?;
            }
        }
        Ok(Reading { source, open, memory })
    }

    /// Hands on what one look at the source brings.
    fn step(&self, reading: &mut Reading, wait: bool) -> Result<Turn<()>, Error> {
        let Reading { source, open, memory } = reading;
        if open.is_empty() || self.stop.load(Ordering::Relaxed) {
            return Ok(Turn::Over(()));
        }
        if !wait && self.to.len() >= PIECES {
            return Ok(Turn::Idle);
        }
        self.turns.readers.fetch_add(1, Ordering::Relaxed);
        match source.poll(if wait { LOOK } else { Duration::ZERO })? {
            Polled::Chunk(chunk) => {
                let at = memory.entry(chunk.partition).or_default();
                for chunk in self.cut(chunk) {
                    let piece = self.piece(chunk, at)?;
                    self.send(piece);
                }
            }
            Polled::AtEnd(partition) => {
                let at = memory.entry(partition).or_default();
                let state = if self.bounded {
                    open.retain(|p| *p != partition);
                    PartitionState::Finished
                } else {
                    PartitionState::AtEnd
                };
                // A live partition may be idle from here on: what it has brought is not held back.
                let rows = match (state, self.plan.sort) {
                    (PartitionState::Finished, _) | (_, None) => at.waiting.release(Micros::MAX),
                    _ => Vec::new(),
                };
                let (watermark, latest) = (self.watermark(at), at.latest);
                self.send(Piece { partition, rows, watermark, state, latest, read: None });
            }
            Polled::Nothing if wait => {}
            Polled::Nothing => return Ok(Turn::Idle),
        }
        Ok(Turn::Moved)
    }
}
