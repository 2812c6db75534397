//! What callers did and were refused, in a journal of its own: a run's journal must repeat, and who
//! calls does not.
//!
//! The file is that of [`crate::journal`]: chained hashes, `tidemill journal show|verify` read it. Whoever
//! must not act without a record waits for [`Audit::record`]; when the disk does not keep up, it says so
//! instead of keeping records in memory.

use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_types::Error;

use crate::journal::Journal;
use crate::journal::record::{Header, Record};

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

    /// Records what a caller did or was refused. Says whether it will be written: what is not written
    /// must not be done.
    pub fn record(&self, who: &str, what: String, why: &str, allowed: bool) -> bool {
        let Some(to) = &self.to else { return true };
        let (who, why) = (who.to_string(), why.to_string());
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
