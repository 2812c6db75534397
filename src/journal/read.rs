//! Reading a journal: one line at a time, each checked against the chain.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use tidemill_types::Error;

use super::line::{self, GENESIS};
use super::record::{FORMAT, Header, Record};

/// One checked line.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number in the chain, from 0.
    pub n: u64,
    /// Its hash.
    pub hash: String,
    /// What it says.
    pub record: Record,
}

/// What a whole, unbroken journal amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Lines.
    pub records: u64,
    /// Files.
    pub files: usize,
    /// Bytes of whole lines.
    pub bytes: u64,
    /// The hash of the last line. Whoever keeps it elsewhere can tell that no line was cut off since.
    pub head: String,
    /// The first header; nothing in an empty journal.
    pub header: Option<Header>,
    /// Bytes of an unfinished last line: a write that a crash cut short.
    pub torn_bytes: u64,
}

/// Reads the whole journal in `folder` and checks every byte. Memory: one line.
///
/// What it cannot see is a journal whose last lines were cut off at a line feed: compare
/// [`Verified::head`] with one that was kept elsewhere.
pub fn verify(folder: &Path) -> Result<Verified, Error> {
    let mut records = records(folder)?;
    let mut header = None;
    for entry in records.by_ref() {
        if let (Record::Header(first), None) = (entry?.record, &header) {
            header = Some(first);
        }
    }
    Ok(Verified {
        records: records.n,
        files: records.files.len(),
        bytes: records.whole_bytes,
        head: records.hash,
        header,
        torn_bytes: records.torn_bytes,
    })
}

/// Whether there is a journal in `folder`.
pub fn exists(folder: &Path) -> Result<bool, Error> {
    Ok(folder.is_dir() && !files(folder)?.is_empty())
}

/// The records of the journal in `folder`, in order. The first error ends it; an unfinished last line
/// is no error and not given.
pub fn records(folder: &Path) -> Result<Records, Error> {
    Ok(Records {
        files: files(folder)?,
        next_file: 0,
        current: None,
        n: 0,
        hash: GENESIS.into(),
        at: Place::default(),
        whole_bytes: 0,
        torn_bytes: 0,
        failed: false,
    })
}

/// See [`records`].
pub struct Records {
    pub(super) files: Vec<PathBuf>,
    next_file: usize,
    current: Option<BufReader<File>>,
    /// Lines read so far.
    pub(super) n: u64,
    /// The hash of the last one.
    pub(super) hash: String,
    /// Where the next line starts.
    pub(super) at: Place,
    whole_bytes: u64,
    pub(super) torn_bytes: u64,
    failed: bool,
}

/// A place in the file that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Lines of this file before it.
    pub line: u64,
    /// Bytes of this file before it.
    pub byte: u64,
}

impl Iterator for Records {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = matches!(step, Err(_) | Ok(None));
        step.transpose()
    }
}

impl Records {
    fn step(&mut self) -> Result<Option<Entry>, Error> {
        let mut bytes = Vec::new();
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(reader) = &mut self.current else { return Ok(None) };
            let read = reader.read_until(b'\n', &mut bytes);
            read.map_err(|e| self.error(&e.to_string()))?;
            if !bytes.is_empty() {
                break;
            }
            self.current = None;
        }
        let Some(whole) = bytes.strip_suffix(b"\n") else {
            return self.unfinished(&bytes).map(|()| None);
        };
        let (record, hash) =
            line::check(self.n, &self.hash, whole).map_err(|why| self.error(&why))?;
        let record: Record = serde_json::from_slice(record)
            .map_err(|e| self.error(&format!("this build cannot read its record: {e}")))?;
        self.check_header(&record)?;
        let entry = Entry { n: self.n, hash: hash.clone(), record };
        self.n += 1;
        self.hash = hash;
        self.at.line += 1;
        self.at.byte += bytes.len() as u64;
        self.whole_bytes += bytes.len() as u64;
        Ok(Some(entry))
    }

    fn open_next(&mut self) -> Result<bool, Error> {
        let Some(path) = self.files.get(self.next_file) else { return Ok(false) };
        self.next_file += 1;
        self.at = Place::default();
        let file = File::open(path).map_err(|e| self.error(&e.to_string()))?;
        self.current = Some(BufReader::with_capacity(1 << 16, file));
        if *path != path.with_file_name(file_name(self.n)) {
            let wanted = file_name(self.n);
            return Err(self.error(&format!("the chain goes on in {wanted}, which is not there")));
        }
        Ok(true)
    }

    /// The end of the last file without a line feed is what a crash leaves of a write (some file systems
    /// fill its pages with zeros); anywhere else it is damage.
    fn unfinished(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.next_file < self.files.len() {
            return Err(self.error("the file ends within it"));
        }
        self.torn_bytes = bytes.len() as u64;
        Ok(())
    }

    fn check_header(&self, record: &Record) -> Result<(), Error> {
        match record {
            Record::Header(header) if header.format > FORMAT => Err(Error::user(format!(
                "the journal {} is of format {}, and this build reads up to {FORMAT}",
                self.path().display(),
                header.format
            ))
            .help(format!("use Tidemill {} or later", header.build))),
            Record::Header(_) => Ok(()),
            _ if self.n == 0 => Err(self.error("the first record is not a header")),
            _ => Ok(()),
        }
    }

    /// The file that is being read.
    pub(super) fn path(&self) -> &Path {
        self.files.get(self.next_file.saturating_sub(1)).map_or(Path::new(""), PathBuf::as_path)
    }

    fn error(&self, why: &str) -> Error {
        let path = self.path().display();
        let (line, byte) = (self.at.line + 1, self.at.byte);
        Error::external(format!("the journal {path} is broken at line {line}: {why}")).help(
            format!(
                "restore the file from a backup; or give up this line and all after it with \
             `truncate -s {byte} {path}`, removing later files of that folder"
            ),
        )
    }
}

/// The name of the file that starts with line `n` of the chain.
pub(super) fn file_name(n: u64) -> String {
    format!("journal-{n:020}.jsonl")
}

/// The journal's files in the order of the chain.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| {
        Error::external(format!("cannot read the journal folder {}: {e}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("journal-") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
