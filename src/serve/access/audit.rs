//! What callers did and were refused, in a journal of its own: a run's journal must repeat, and who
//! calls does not.
//!
//! The file is that of [`crate::journal`]: chained hashes, `tidemill journal show|verify` read it. A record is taken
//! when there is room among those that wait for the disk, and nothing is done of which none is taken. Those that
//! wait, 4,096 at most, are lost with the machine; when the disk refuses, nothing is recorded, and done, any more.

use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_types::Error;

use crate::journal::Journal;
use crate::journal::record::{Header, Record};

/// Characters of what somebody did: an agent may send megabytes.
const LONGEST: usize = 1_000;

/// Records that wait for the disk at most.
const WAITING: usize = 4_096;

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
        let (mut journal, _) = Journal::open(folder)?;
        journal.append(&Record::Header(Header::new(pipeline, "access")))?;
        journal.sync()?;
        let (to, from) = bounded(WAITING);
        let writer = std::thread::Builder::new()
            .name("access journal".to_string())
            .spawn(move || write(&from, &mut journal))
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

/// Writes until nobody sends any more; what has come meanwhile shares one sync.
fn write(from: &Receiver<Record>, journal: &mut Journal) {
    while let Ok(first) = from.recv() {
        let mut all = std::iter::once(first).chain(from.try_iter());
        let written = all.try_for_each(|record| journal.append(&record));
        if let Err(error) = written.and_then(|()| journal.sync()) {
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
