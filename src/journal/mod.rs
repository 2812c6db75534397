//! The journal: an append-only, hash-chained log of everything that may change a result and is not
//! in the event log, one per process. It is the audit log, the lineage and the way back.
//!
//! A journal is a folder of `journal-<number of its first line>.jsonl`, each rolled at 64 MiB. The byte
//! form of a line stands in [`line`], what may be said in [`record`], reading and checking in [`read`].
//! Nothing is durable before [`Journal::sync`]: the engine decides how many records share one `fsync`.

pub mod line;
pub mod read;
pub mod record;
mod settled;
pub mod tail;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tidemill_connectors::disk;
use tidemill_types::Error;

pub use read::{Entry, Records, Verified, exists, records, verify};
pub use record::Record;
pub use settled::Settled;

/// A file that has reached this size is closed at its next line.
pub const ROLL_BYTES: u64 = 64 << 20;
/// A process that was killed lets go of the lock when the system has cleared it away, some time after whoever
/// starts the next one.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Lines gather in memory up to this size before they are handed to the operating system.
const BUFFER_BYTES: usize = 1 << 16;

/// A journal open for appending; no other process can open it meanwhile.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    path: PathBuf,
    /// Bytes of `file`, `pending` included.
    bytes: u64,
    pending: Vec<u8>,
    n: u64,
    hash: String,
    roll_bytes: u64,
    /// After a failed write nobody knows what is on the disk: nothing more is appended.
    failed: bool,
    /// Held for its lock.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `folder`, making it if there is none, and gives every record in it. An
    /// unfinished last line, left by a crash, is cut off with a warning.
    ///
    /// Fails if another process has it open and does not end within 5 s, or if a line is broken: the error names file, line, reason
    /// and cure. Cost: reads, parses and hashes everything, about 7 s for 1 GB or 3.4 million epochs of one partition.
    pub fn open(folder: &Path) -> Result<(Journal, Vec<Record>), Error> {
        Journal::open_rolling_at(folder, ROLL_BYTES)
    }

    fn open_rolling_at(folder: &Path, roll_bytes: u64) -> Result<(Journal, Vec<Record>), Error> {
        let context = |e| at(folder, "open the journal folder", e);
        std::fs::create_dir_all(folder).map_err(context)?;
        let lock = lock(folder)?;
        let mut reader = records(folder)?;
        let history =
            reader.by_ref().map(|e| e.map(|e| e.record)).collect::<Result<Vec<_>, _>>()?;
        let path = match reader.files.last() {
            Some(path) => path.clone(),
            None => folder.join(read::file_name(0)),
        };
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|e| at(&path, "open", e))?;
        if reader.torn_bytes > 0 {
            tracing::warn!(
                file = %path.display(),
                line = reader.at.line + 1,
                bytes = reader.torn_bytes,
                "the last line of the journal was never finished; it is cut off"
            );
            disk::cut(&file, reader.at.byte).map_err(|e| at(&path, "cut", e))?;
        }
        disk::sync(&file).and_then(|()| disk::sync_folder(folder)).map_err(context)?;
        let journal = Journal {
            folder: folder.into(),
            file,
            path,
            bytes: reader.at.byte,
            pending: Vec::new(),
            n: reader.n,
            hash: reader.hash,
            roll_bytes,
            failed: false,
            _lock: lock,
        };
        Ok((journal, history))
    }

    /// Appends a record; durable only after [`sync`](Journal::sync). The first must be a header.
    ///
    /// A record that would not be read back as it is, one with a NaN for example, is refused and changes
    /// nothing. After any other error the journal takes nothing more.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        self.usable()?;
        if self.n == 0 && !matches!(record, Record::Header(_)) {
            return Err(Error::internal("the first record of a journal must be a header"));
        }
        let bytes = encode(record)?;
        if self.bytes >= self.roll_bytes {
            self.guarded(Journal::roll)?;
        }
        let (line, hash) = line::build(self.n, &self.hash, &bytes);
        self.pending.extend_from_slice(&line);
        self.pending.push(b'\n');
        self.bytes += line.len() as u64 + 1;
        self.n += 1;
        self.hash = hash;
        if self.pending.len() >= BUFFER_BYTES { self.guarded(Journal::write) } else { Ok(()) }
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.usable()?;
        self.guarded(|journal| {
            journal.write()?;
            disk::sync_data(&journal.file).map_err(|e| at(&journal.path, "sync", e))
        })
    }

    /// How many records there are, and the hash of the last: what a root record keeps of this journal.
    pub fn head(&self) -> (u64, &str) {
        (self.n, &self.hash)
    }

    /// Begins anew, with nothing in it; its files become the journal in another folder, and what was there is
    /// removed. A crash on the way leaves a beginning of what was written here.
    ///
    /// # Errors
    /// What the disk said; the journal takes nothing more then.
    pub fn set_aside(&mut self, to: &Path) -> Result<(), Error> {
        self.sync()?;
        self.guarded(|journal| {
            let context = |e| at(to, "set the journal aside to", e);
            if to.is_dir() {
                std::fs::remove_dir_all(to).map_err(context)?;
            }
            std::fs::create_dir_all(to).map_err(context)?;
            // The newest first: what stays behind is whole at any moment.
            for file in records(&journal.folder)?.files.iter().rev() {
                let name = file.file_name().unwrap_or_default();
                std::fs::rename(file, to.join(name)).map_err(context)?;
                disk::sync_folder(&journal.folder).map_err(context)?;
            }
            disk::sync_folder(to).map_err(context)?;
            (journal.n, journal.hash) = (0, line::GENESIS.into());
            journal.create()
        })
    }

    fn write(&mut self) -> Result<(), Error> {
        self.file.write_all(&self.pending).map_err(|e| at(&self.path, "write", e))?;
        self.pending.clear();
        Ok(())
    }

    /// The old file is durable before the new one has a name, so that only the last can be torn.
    fn roll(&mut self) -> Result<(), Error> {
        self.write()?;
        disk::sync(&self.file).map_err(|e| at(&self.path, "sync", e))?;
        self.create()
    }

    /// Goes on in a new file.
    fn create(&mut self) -> Result<(), Error> {
        self.path = self.folder.join(read::file_name(self.n));
        let file = OpenOptions::new().append(true).create_new(true).open(&self.path);
        self.file = file.map_err(|e| at(&self.path, "create", e))?;
        self.bytes = 0;
        disk::sync_folder(&self.folder).map_err(|e| at(&self.folder, "sync", e))
    }

    fn usable(&self) -> Result<(), Error> {
        if !self.failed {
            return Ok(());
        }
        Err(Error::external(format!("the journal {} failed before", self.path.display()))
            .help("restart the run: it goes on from what is on the disk"))
    }

    fn guarded(
        &mut self,
        work: impl FnOnce(&mut Journal) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let done = work(self);
        self.failed = done.is_err();
        done
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.failed || self.pending.is_empty() {
            return;
        }
        if let Err(error) = self.sync() {
            tracing::error!(%error, "the last records of the journal may be lost");
        }
    }
}

/// Compact JSON that is known to read back as the same record.
fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    let refuse = |why: String| Error::internal(format!("a record cannot be journaled: {why}"));
    let bytes = serde_json::to_vec(record).map_err(|e| refuse(e.to_string()))?;
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(back) if back == *record => Ok(bytes),
        Ok(_) => Err(refuse("it would be read back as another".into())),
        Err(e) => Err(refuse(format!("it could not be read back: {e}"))),
    }
}

/// Whether a run is writing the journal in this folder now.
pub fn in_use(folder: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(folder.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| at(&path, "open", e))?;
    let began = Instant::now();
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(
                        folder = %folder.display(),
                        "another process has the journal; waiting {} s for it to end",
                        LOCK_WAIT.as_secs()
                    );
                }
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                let folder = folder.display();
                return Err(Error::user(format!(
                    "another process is writing the journal {folder}"
                ))
                .help("stop the other run, or give this one its own output folder"));
            }
            Err(TryLockError::Error(e)) => return Err(at(&path, "lock", e)),
        }
    }
}

fn at(path: &Path, what: &str, error: std::io::Error) -> Error {
    disk::cannot(what, path, &error)
}
