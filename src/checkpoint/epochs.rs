//! `at_once`: the log of epochs. What a row is scored with depends there on what had come before it, and
//! the sources tell only in which order each of their partitions came. So an ingest writes down what made up each
//! epoch; nothing that follows from an epoch leaves before it is durable; and a restart hands the rows on
//! in the same epochs.
//!
//! ```text
//! epochs/<number>.log      frames: length u32 | CRC-32 u32 | content; the first one is the header
//! ```
//!
//! Numbers are little-endian. A live run removes files that are older than every retained line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_connectors::disk;
use tidemill_types::{Error, Micros};

use super::line::Round;
use super::{points, section};
use crate::host::{Handle, Host, Received, Turn, receive};
use crate::journal::Settled;

/// The form of the log; a reader refuses another one.
const FORMAT: u32 = 1;

/// What waits for the disk at most; then whoever reads waits too.
const WAITING: usize = 4_096;

/// A file that has reached this size is closed.
const ROLL_BYTES: u64 = 8 << 20;

/// What one worker handed on in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The worker.
    pub worker: u32,
    /// The epoch.
    pub round: Round,
    /// Rows before this time were late.
    pub late: Micros,
    /// The worker's watermark after it.
    pub mark: Micros,
    /// How far partitions were read, those of which something was.
    pub came: Vec<Came>,
}

/// How far a partition was read in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Index of the source in the plan.
    pub source: u32,
    /// The partition.
    pub partition: u32,
    /// The first offset that was not handed on.
    pub next: u64,
    /// Whether the partition was read to its end for ever.
    pub finished: bool,
}

/// The epochs of one run: from its start to its end, or to where it was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number among those that went on from each other.
    pub number: u64,
    /// The watermark of each of its workers before them.
    pub marks: Vec<Micros>,
    /// In the order in which each worker handed them on.
    pub epochs: Vec<Epoch>,
}

/// Which run a file is of: of another pipeline, or of other places, it says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    plan: String,
    places: String,
    run: u64,
    /// The watermark of each worker after all that files before this one hold of the run.
    marks: Vec<Micros>,
}

impl Header {
    /// Of this plan at these places, and so many workers.
    pub fn new(plan: &str, places: &str, workers: usize) -> Header {
        let (plan, places) = (plan.to_string(), places.to_string());
        Header { format: FORMAT, plan, places, run: 0, marks: vec![Micros::MIN; workers] }
    }

    fn goes_on(&self, other: &Header) -> bool {
        let of = |header: &Header| (header.format, header.plan.clone(), header.places.clone());
        of(self) == of(other)
    }
}

enum Work {
    /// The run goes on behind this watermark.
    Begin(Micros),
    Epoch(Epoch),
    /// Epochs before this round are needed no more.
    Clear(Round),
}

/// The log, and the thread that writes it.
pub struct Epochs {
    to: Mutex<Option<Sender<Work>>>,
    writer: Mutex<Option<Handle<()>>>,
    settled: Settled,
}

impl Epochs {
    /// Opens the log in `folder`, and gives what is in it. One of another run is removed.
    ///
    /// # Errors
    /// A folder that cannot be read or written; a log that is damaged, and not only cut off at its end.
    pub fn open(
        folder: &Path,
        mut header: Header,
        host: &Host,
    ) -> Result<(Epochs, Vec<Run>), Error> {
        let context = |e: std::io::Error| at(folder, "open", &e);
        std::fs::create_dir_all(folder).map_err(context)?;
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(context)? {
            let path = entry.map_err(context)?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log"));
            files.extend(number.and_then(|n| n.parse().ok()).map(|number| (number, path)));
        }
        files.sort();
        let mut runs: Vec<Run> = Vec::new();
        let mut kept = Vec::new();
        let last = files.last().map(|(number, _)| *number);
        for (number, path) in files {
            let bytes = std::fs::read(&path).map_err(|e| at(&path, "read", &e))?;
            let (mut frames, whole) = frames(&bytes);
            if whole < bytes.len() {
                if Some(number) != last {
                    return Err(Error::external(format!("{} is damaged", path.display())).help(
                        "restore it, or remove the folders of epochs and checkpoints: the run \
                         begins again",
                    ));
                }
                tracing::warn!("the end of {} was never finished; it is cut off", path.display());
                let cut = OpenOptions::new().write(true).open(&path);
                let cut =
                    cut.and_then(|f| disk::cut(&f, whole as u64).and_then(|()| disk::sync(&f)));
                cut.map_err(|e| at(&path, "cut", &e))?;
            }
            let found = frames.next().and_then(|frame| decode::<Header>(frame).ok());
            let read: Result<Vec<Epoch>, String> = frames.map(decode).collect();
            match (found, read) {
                (Some(found), Ok(read)) if found.goes_on(&header) => {
                    let highest = read.iter().map(|epoch| epoch.round).max();
                    kept.push((path, highest.unwrap_or(0)));
                    header.run = found.run + 1;
                    match runs.last_mut().filter(|run| run.number == found.run) {
                        Some(run) => run.epochs.extend(read),
                        None => {
                            let Header { run: number, marks, .. } = found;
                            runs.push(Run { number, marks, epochs: read });
                        }
                    }
                }
                _ => std::fs::remove_file(&path).map_err(|e| at(&path, "remove", &e))?,
            }
        }
        let settled = Settled::new(host);
        let (to, from) = host.channel(WAITING);
        let mut log = Log {
            folder: folder.to_path_buf(),
            header,
            next: last.map_or(0, |last| last + 1),
            files: kept,
            open: None,
        };
        let done = settled.clone();
        let writer = host.start("epochs", move |wait| log.step(&from, &done, wait))?;
        let (to, writer) = (Mutex::new(Some(to)), Mutex::new(Some(writer)));
        Ok((Epochs { to, writer, settled }, runs))
    }

    /// The run goes on behind this watermark. It must be called before the first epoch.
    pub fn begin(&self, mark: Micros) {
        self.send(Work::Begin(mark));
    }

    /// What tells how much of it is durable.
    pub fn settled(&self) -> Settled {
        self.settled.clone()
    }

    /// Writes an epoch down. It must be called before anything can follow from the epoch.
    pub fn note(&self, epoch: Epoch) {
        self.settled.ask();
        self.send(Work::Epoch(epoch));
    }

    /// Epochs before this round are needed no more.
    pub fn clear(&self, before: Round) {
        self.send(Work::Clear(before));
    }

    /// Nothing more is noted; ends when all of it is durable.
    pub fn close(&self) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map(Handle::join);
    }

    fn send(&self, work: Work) {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // A writer that is gone has said why, and the sinks end the run with it.
        if let Some(to) = to.as_ref() {
            let _ = to.send(work);
        }
    }
}

fn at(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let said = disk::cannot(what, path, error);
    match disk::is_full(error) {
        true => said,
        false => said.help("the log of epochs is in the run's folder: make it writable"),
    }
}

/// The frames that are whole, and where they end.
fn frames(bytes: &[u8]) -> (impl Iterator<Item = &[u8]>, usize) {
    let mut found = Vec::new();
    let mut end = 0;
    while let Some((head, rest)) = bytes[end..].split_first_chunk::<8>() {
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let Some(content) = rest.get(..word(0) as usize) else { break };
        if crc32fast::hash(content) != word(4) {
            break;
        }
        found.push(content);
        end += 8 + content.len();
    }
    (found.into_iter(), end)
}

fn frame<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let content = section::encode(value).map_err(Error::internal)?;
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(&content).to_le_bytes());
    out.extend(content);
    Ok(())
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, String> {
    section::decode(frame)
}

/// The files.
struct Log {
    folder: PathBuf,
    header: Header,
    /// The number of the next file.
    next: u64,
    /// Files that are closed, with the highest round in each.
    files: Vec<(PathBuf, Round)>,
    open: Option<Open>,
}

struct Open {
    path: PathBuf,
    file: File,
    highest: Round,
    bytes: u64,
}

impl Log {
    /// Writes what waits.
    fn step(&mut self, from: &Receiver<Work>, settled: &Settled, wait: bool) -> Turn<()> {
        let first = match receive(from, wait) {
            Received::One(first) => first,
            Received::Nothing => return Turn::Idle,
            Received::Gone => return Turn::Over(()),
        };
        let (mut epochs, mut written, mut result) = (Vec::new(), 0, Ok(()));
        for work in std::iter::once(first).chain(from.try_iter()) {
            match work {
                Work::Begin(mark) => self.header.marks.fill(mark),
                Work::Epoch(epoch) => {
                    written += 1;
                    epochs.push(epoch);
                }
                Work::Clear(before) => {
                    result = result.and_then(|()| self.append(&std::mem::take(&mut epochs)));
                    if result.is_ok() {
                        self.clear(before);
                    }
                }
            }
        }
        let failed = result.and_then(|()| self.append(&epochs)).err();
        let over = failed.is_some();
        settled.done(written, failed);
        if over { Turn::Over(()) } else { Turn::Moved }
    }

    fn append(&mut self, epochs: &[Epoch]) -> Result<(), Error> {
        let Some(highest) = epochs.iter().map(|epoch| epoch.round).max() else { return Ok(()) };
        let mut out = Vec::new();
        if self.open.is_none() {
            let path = self.folder.join(format!("{:08}.log", self.next));
            let file = OpenOptions::new().append(true).create_new(true).open(&path);
            let file = file.map_err(|e| at(&path, "make", &e))?;
            let synced = disk::sync_folder(&self.folder);
            synced.map_err(|e| at(&self.folder, "sync", &e))?;
            self.next += 1;
            frame(&self.header, &mut out)?;
            self.open = Some(Open { path, file, highest: 0, bytes: 0 });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        for epoch in epochs {
            frame(epoch, &mut out)?;
            if let Some(mark) = self.header.marks.get_mut(epoch.worker as usize) {
                *mark = epoch.mark.max(*mark);
            }
        }
        let written = open.file.write_all(&out).and_then(|()| disk::sync_data(&open.file));
        written.map_err(|e| at(&open.path, "write", &e))?;
        points::pass("epoch.durable");
        (open.highest, open.bytes) = (open.highest.max(highest), open.bytes + out.len() as u64);
        if open.bytes >= ROLL_BYTES {
            self.roll();
        }
        Ok(())
    }

    fn roll(&mut self) {
        self.files.extend(self.open.take().map(|open| (open.path, open.highest)));
    }

    fn clear(&mut self, before: Round) {
        self.roll();
        self.files.retain(|(path, highest)| {
            let old = *highest < before;
            if old && let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, "old epochs stay: {}", path.display());
            }
            !old
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(round: Round) -> Epoch {
        let came = Came { source: 1, partition: 2, next: 10 * round, finished: round == 9 };
        Epoch { worker: 0, round, late: Micros::MIN, mark: 5, came: vec![came] }
    }

    fn open(folder: &Path, plan: &str) -> (Epochs, Vec<Round>) {
        let (log, runs) =
            Epochs::open(folder, Header::new(plan, "here", 1), &Host::default()).expect("a log");
        let numbers: Vec<u64> = runs.iter().map(|run| run.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let epochs: Vec<Epoch> = runs.into_iter().flat_map(|run| run.epochs).collect();
        assert!(epochs.iter().all(|found| *found == epoch(found.round)));
        (log, epochs.iter().map(|epoch| epoch.round).collect())
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_noted_is_read_back_and_what_is_old_is_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let (log, found) = open(folder, "a");
        assert!(found.is_empty());
        (1..=4).for_each(|round| log.note(epoch(round)));
        log.settled().wait().expect("durable");
        log.clear(3);
        log.close();
        let (log, found) = open(folder, "a");
        assert_eq!(found, [1, 2, 3, 4], "a file goes when all of it is old");
        (5..=6).for_each(|round| log.note(epoch(round)));
        log.close();
        let (log, found) = open(folder, "a");
        assert_eq!(found, [1, 2, 3, 4, 5, 6]);
        log.note(epoch(7));
        log.clear(6);
        log.close();
        let (log, found) = open(folder, "a");
        assert_eq!(found, [5, 6, 7]);
        // What a file that is gone had told of the workers' watermarks stands in the head of the next one.
        log.begin(3);
        log.note(epoch(8));
        log.settled().wait().expect("durable");
        log.clear(9);
        log.note(epoch(9));
        log.close();
        let (_, runs) =
            Epochs::open(folder, Header::new("a", "here", 1), &Host::default()).expect("a log");
        let last = runs.last().expect("a run");
        assert_eq!((last.marks.clone(), last.epochs.len()), (vec![5], 1));
        let (_, found) = open(folder, "b");
        assert_eq!((found, files(folder).len()), (vec![], 0), "of another pipeline");
    }

    #[test]
    fn an_end_that_is_torn_is_cut_off_anywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let (log, _) = open(folder, "a");
        (1..=3).for_each(|round| log.note(epoch(round)));
        log.close();
        let path = files(folder).pop().expect("a file");
        let whole = std::fs::read(&path).expect("bytes");
        let mut least = 3;
        for length in (0..whole.len()).rev() {
            std::fs::write(&path, &whole[..length]).expect("written");
            let (_, found) = open(folder, "a");
            assert!(found.len() <= least && found == (1..=found.len() as u64).collect::<Vec<_>>());
            least = found.len();
        }
        assert_eq!(least, 0);
    }

    #[test]
    fn a_damaged_file_before_the_last_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        for round in 1..=2 {
            let (log, _) = open(folder, "a");
            log.note(epoch(round));
            log.close();
        }
        let first = files(folder).remove(0);
        let mut bytes = std::fs::read(&first).expect("bytes");
        *bytes.last_mut().expect("a byte") ^= 1;
        std::fs::write(&first, bytes).expect("written");
        let Err(error) = Epochs::open(folder, Header::new("a", "here", 1), &Host::default()) else {
            panic!("it was taken")
        };
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
