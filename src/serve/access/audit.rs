//! What callers did and were refused, in a journal of its own: a run's journal must repeat, and who
//! calls does not.
//!
//! The file is that of [`crate::journal`]: chained hashes, `tidemill journal show|verify` read it. A record is taken
//! when there is room among those that wait for the disk, and nothing is done of which none is taken. Those that
//! wait, 4,096 at most, are lost with the machine; when the disk refuses, nothing is recorded, and done, any more.
//!
//! After 200,000 records the journal is set aside to the folder `before` in its own, a whole one too, and begins
//! anew: so many are kept at least, and twice as many at most.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_types::Error;

use crate::journal::Journal;
use crate::journal::record::{Header, Record};

/// Characters of what somebody did: an agent may send megabytes.
const LONGEST: usize = 1_000;

/// Records that wait for the disk at most.
const WAITING: usize = 4_096;

/// Records after which it begins anew.
const MOST: u64 = 200_000;

/// The way to the journal.
pub struct Audit {
    to: Option<Sender<Record>>,
    writer: Option<JoinHandle<()>>,
}

impl Audit {
    /// Opens the journal in this folder, making it if there is none.
    ///
    /// # Errors
    /// A journal that is damaged, or in use.
    pub fn open(folder: &Path, pipeline: &str) -> Result<Audit, Error> {
        Audit::open_with(folder, pipeline, MOST)
    }

    fn open_with(folder: &Path, pipeline: &str, most: u64) -> Result<Audit, Error> {
        let (journal, _) = Journal::open(folder)?;
        let header = Record::Header(Header::new(pipeline, "access"));
        let mut book = Book { journal, header, before: folder.join("before"), most };
        book.journal.append(&book.header)?;
        book.journal.sync()?;
        let (to, from) = bounded(WAITING);
        let writer = std::thread::Builder::new()
            .name("access journal".to_string())
            .spawn(move || write(&from, &mut book))
            .map_err(|e| Error::external(format!("no thread for the access journal: {e}")))?;
        Ok(Audit { to: Some(to), writer: Some(writer) })
    }

    /// Keeps nothing, for servers without a folder.
    pub fn nowhere() -> Audit {
        Audit { to: None, writer: None }
    }

    /// Records what a caller did or was refused, the first thousand characters of it. Says whether the record is
    /// taken: what is not must not be done.
    pub fn record(&self, who: &str, what: String, why: &str, allowed: bool) -> bool {
        let Some(to) = &self.to else { return true };
        let (who, why) = (who.to_string(), why.to_string());
        let what = match what.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", &what[..end]),
            None => what,
        };
        to.try_send(Record::Access { who, what, why, allowed }).is_ok()
    }
}

/// The journal, and when it begins anew.
struct Book {
    journal: Journal,
    header: Record,
    before: PathBuf,
    most: u64,
}

impl Book {
    fn append(&mut self, record: &Record) -> Result<(), Error> {
        if self.journal.head().0 >= self.most {
            self.journal.set_aside(&self.before)?;
            self.journal.append(&self.header)?;
        }
        self.journal.append(record)
    }
}

/// Writes until nobody sends any more; what has come meanwhile shares one sync.
fn write(from: &Receiver<Record>, book: &mut Book) {
    while let Ok(first) = from.recv() {
        let mut all = std::iter::once(first).chain(from.try_iter());
        let written = all.try_for_each(|record| book.append(&record));
        if let Err(error) = written.and_then(|()| book.journal.sync()) {
            tracing::error!(%error, "the access journal takes no more: what must be recorded is refused");
            return;
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.to = None;
        if let Some(writer) = self.writer.take() {
            _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{records, verify};

    fn said(folder: &Path) -> Vec<String> {
        let all = records(folder).expect("a journal").map(|entry| entry.expect("whole").record);
        all.filter_map(|record| match record {
            Record::Access { what, .. } => Some(what),
            _ => None,
        })
        .collect()
    }

    /// It grows to its bound, across servers, and what it had before is a journal beside it.
    #[test]
    fn an_access_journal_does_not_grow_without_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = folder.path().join("before");
        let before = before.as_path();
        let mut done = Vec::new();
        for server in 0..3 {
            let audit = Audit::open_with(folder.path(), "shop", 10).expect("a journal");
            for n in 0..9 {
                done.push(format!("call {server}.{n}"));
                assert!(audit.record("ann", format!("call {server}.{n}"), "", true));
            }
            drop(audit);
            let folders = [before, folder.path()].into_iter().filter(|folder| folder.is_dir());
            let kept: Vec<String> = folders.clone().flat_map(said).collect();
            assert!(done.ends_with(&kept), "the newest are kept, in order: {kept:?}");
            assert!(kept.len() >= done.len().min(10), "{kept:?}");
            for folder in folders {
                assert!(verify(folder).expect("whole").records <= 11);
            }
        }
    }
}
