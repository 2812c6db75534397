//! What an ingest remembers of a source: the readers' pieces, how far each partition is, and what of it is
//! in flight.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tidemill_operators::dataflow::Round;
use tidemill_types::{Error, Micros};

use super::reader::{PartitionState, Piece};
use super::rows::OrderedRows;
use crate::host::Host;

/// What the readers of one source bring to this worker.
pub struct Feed {
    /// Index of the source.
    pub source: usize,
    /// Its name.
    pub name: String,
    /// Pieces.
    pub from: Receiver<Result<Piece, Error>>,
    /// The partitions of this worker's share.
    pub partitions: Vec<u32>,
    /// A live partition at its end for so long is idle.
    pub idle_after: Duration,
    /// A live partition at its end for so long holds nobody.
    pub hold: Option<Duration>,
    /// Whose clock tells how long.
    pub host: Host,
}

/// What of a feed the ingest remembers.
pub struct FeedState {
    /// The feed.
    pub feed: Feed,
    /// A piece that was received and not taken.
    pub next: Option<Piece>,
    /// Pieces that were received while others of their source were waited for.
    pub kept: VecDeque<Piece>,
    partitions: BTreeMap<u32, PartitionPlace>,
    in_flight: VecDeque<(Round, usize)>,
    /// Rows that were taken and have not landed; long ones count for several ([`OrderedRows::load`]).
    pub rows_in_flight: usize,
    /// The readers are gone.
    pub gone: bool,
}

#[derive(Clone, Copy)]
struct PartitionPlace {
    watermark: Micros,
    state: PartitionState,
    since: Instant,
}

impl FeedState {
    /// Nothing has come yet.
    pub fn new(feed: Feed) -> FeedState {
        let place = PartitionPlace {
            watermark: Micros::MIN,
            state: PartitionState::Reading,
            since: feed.host.now(),
        };
        FeedState {
            partitions: feed.partitions.iter().map(|partition| (*partition, place)).collect(),
            feed,
            next: None,
            kept: VecDeque::new(),
            in_flight: VecDeque::new(),
            rows_in_flight: 0,
            gone: false,
        }
    }

    /// Notes where a piece leaves its partition.
    pub fn came(&mut self, piece: &Piece) {
        let place = self.partitions.entry(piece.partition).or_insert(PartitionPlace {
            watermark: Micros::MIN,
            state: PartitionState::Reading,
            since: self.feed.host.now(),
        });
        place.watermark = place.watermark.max(piece.watermark);
        if place.state != PartitionState::Finished {
            if place.state != piece.state {
                place.since = self.feed.host.now();
            }
            place.state = piece.state;
        }
    }

    /// Notes rows that were handed over at a round.
    pub fn handed_over(&mut self, round: Round, rows: &OrderedRows) {
        let load = rows.load();
        self.in_flight.push_back((round, load));
        self.rows_in_flight += load;
    }

    /// Forgets rows in flight that have landed; `frontier` is the first round that is not finished.
    pub fn landed(&mut self, frontier: Option<Round>) {
        while let Some((round, rows)) = self.in_flight.front().copied() {
            if frontier.is_some_and(|f| round >= f) {
                break;
            }
            self.rows_in_flight -= rows;
            self.in_flight.pop_front();
        }
    }

    /// The smallest watermark of its unfinished partitions.
    pub fn watermark(&self) -> Micros {
        self.partitions
            .values()
            .filter(|p| p.state != PartitionState::Finished)
            .map(|p| p.watermark)
            .min()
            .unwrap_or(Micros::MAX)
    }

    /// Whether everything of it was taken, for ever.
    pub fn finished(&self) -> bool {
        let taken = self.next.is_none() && self.kept.is_empty();
        taken && self.partitions.values().all(|p| p.state == PartitionState::Finished)
    }

    fn is_idle(&self, place: &PartitionPlace) -> bool {
        self.feed.host.since(place.since) >= self.patience()
    }

    fn patience(&self) -> Duration {
        self.feed.hold.map_or(self.feed.idle_after, |hold| hold.min(self.feed.idle_after))
    }

    /// When the next of its partitions will have stood at its end for so long that it is idle.
    pub fn idle_in(&self) -> Option<Duration> {
        let standing = self.partitions.values().filter(|p| p.state == PartitionState::AtEnd);
        let wait = |p: &PartitionPlace| self.patience().checked_sub(self.feed.host.since(p.since));
        standing.filter_map(wait).filter(|wait| !wait.is_zero()).min()
    }
}

/// The smallest watermark of the partitions that count.
pub fn watermark_of(feeds: &[FeedState]) -> Micros {
    let mut least = Micros::MAX;
    let mut idle = Micros::MIN;
    let mut any = false;
    for feed in feeds {
        for place in feed.partitions.values() {
            match place.state {
                PartitionState::Finished => {}
                PartitionState::AtEnd if feed.is_idle(place) => {
                    idle = idle.max(place.watermark);
                }
                _ => {
                    any = true;
                    least = least.min(place.watermark);
                }
            }
        }
    }
    if any { least } else { idle }
}
