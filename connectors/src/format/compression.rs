//! Files that are compressed as a whole, and the first look at a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tidemill_types::Error;
use xxhash_rust::xxh3::Xxh3;

use super::Output;
use crate::disk;

/// How a whole file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.zst`: Zstandard, any number of frames.
    Zstd,
    /// `.gz`: gzip, any number of members.
    Gzip,
}

/// A compressor is fed in pieces of exactly this size, so that what it writes depends on the bytes
/// and not on how they came.
const PIECE: usize = 256 << 10;

/// A frame holds so many bytes of text: a whole number of pieces.
const FRAME: usize = 16 * PIECE;

impl Compression {
    /// What a file name says, and the name without that.
    pub fn of_name(name: &str) -> (Compression, &str) {
        match name.rsplit_once('.') {
            Some((stem, "zst" | "zstd")) => (Compression::Zstd, stem),
            Some((stem, "gz")) => (Compression::Gzip, stem),
            _ => (Compression::None, name),
        }
    }

    /// What the first bytes of a file say.
    fn of_bytes(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// Its usual ending, with the dot.
    pub fn ending(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Zstd => ".zst",
            Compression::Gzip => ".gz",
        }
    }

    /// Compresses what is written to `file`. The end of the archive is written when `finish` is
    /// called on the result.
    pub(crate) fn writer(self, file: File) -> Result<Pieces, Error> {
        self.go_on(Below { file, bytes: 0, hash: Xxh3::new() }, &[])
    }

    /// Goes on with a file that ends where a frame ended; `tail` is what was written behind that.
    pub(crate) fn go_on(self, below: Below, tail: &[u8]) -> Result<Pieces, Error> {
        let early = Early { file: below.file.try_clone()?, running: None };
        let start = (below.bytes, below.hash.digest());
        let held = Vec::with_capacity(PIECE);
        let (archive, frame) = (Archive::Between(below), Vec::new());
        let mut pieces = Pieces {
            compression: self,
            archive,
            frame,
            start,
            held,
            early,
            unsynced: 0,
            muted: false,
        };
        pieces.write_all(tail)?;
        Ok(pieces)
    }
}

/// A file, how much of it there is and the hash of that.
pub(crate) struct Below {
    pub(crate) file: File,
    pub(crate) bytes: u64,
    pub(crate) hash: Xxh3,
}

impl Write for Below {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes after which the disk is asked to take what there is.
const SYNC_EVERY: usize = 32 << 20;

/// Has the disk take a file while it is still being written, so that whoever finishes it does not wait
/// for all of it.
struct Early {
    file: File,
    running: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl Early {
    fn ask(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            let (ask, asked) = sync_channel(1);
            let file = self.file.try_clone()?;
            // A failure is told once to whoever holds the file: it is kept for the end.
            let work = move || asked.iter().try_for_each(|()| file.sync_data());
            let thread = std::thread::Builder::new().name("sync".to_string()).spawn(work)?;
            self.running = Some((ask, thread));
        }
        if let Some((ask, _)) = &self.running {
            // While it is at it, the next time will do.
            let _ = ask.try_send(());
        }
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        let Some((ask, thread)) = self.running else { return Ok(()) };
        drop(ask);
        let panicked = |_| Err(io::Error::other("the thread that syncs a file panicked"));
        thread.join().unwrap_or_else(panicked)
    }
}

enum Archive {
    /// Between two frames; of a plain file, always.
    Between(Below),
    Zstd(zstd::Encoder<'static, Below>),
    Gzip(GzEncoder<Below>),
    /// An error came between.
    Broken,
}

/// Hands bytes to a compressor in pieces of one size, and ends a frame after every so many: what is in
/// whole frames can be gone on from.
pub(crate) struct Pieces {
    compression: Compression,
    archive: Archive,
    /// What the frame under way holds, and the size and hash of the file where it began.
    frame: Vec<u8>,
    start: (u64, u64),
    held: Vec<u8>,
    early: Early,
    unsynced: usize,
    /// What is written now is in the file already.
    pub(crate) muted: bool,
}

/// How far a file has come: its size and hash up to a place from which it can be gone on from, and what
/// was written behind that.
pub(crate) struct Reached {
    pub(crate) bytes: u64,
    pub(crate) hash: u64,
    pub(crate) tail: Vec<u8>,
    pub(crate) file: File,
}

impl Pieces {
    fn piece(&mut self) -> io::Result<()> {
        self.unsynced += self.held.len();
        if let (Compression::None, Archive::Between(below)) = (self.compression, &mut self.archive)
        {
            below.write_all(&self.held)?;
        } else {
            self.begin()?;
            match &mut self.archive {
                Archive::Zstd(encoder) => encoder.write_all(&self.held)?,
                Archive::Gzip(encoder) => encoder.write_all(&self.held)?,
                Archive::Between(_) | Archive::Broken => {}
            }
            self.frame.extend_from_slice(&self.held);
            if self.frame.len() >= FRAME {
                self.end()?;
            }
        }
        self.held.clear();
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.early.ask()?;
        }
        Ok(())
    }

    /// Begins a frame if none is under way.
    fn begin(&mut self) -> io::Result<()> {
        let below = match std::mem::replace(&mut self.archive, Archive::Broken) {
            Archive::Between(below) => below,
            other => {
                self.archive = other;
                return Ok(());
            }
        };
        self.archive = match self.compression {
            Compression::None => Archive::Between(below),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(below, 3)?;
                // Without it, damage inside a block can decode to other text.
                encoder.include_checksum(true)?;
                Archive::Zstd(encoder)
            }
            Compression::Gzip => {
                Archive::Gzip(GzEncoder::new(below, flate2::Compression::default()))
            }
        };
        Ok(())
    }

    /// Ends the frame under way.
    fn end(&mut self) -> io::Result<()> {
        let below = match std::mem::replace(&mut self.archive, Archive::Broken) {
            Archive::Between(below) => below,
            Archive::Zstd(encoder) => encoder.finish()?,
            Archive::Gzip(encoder) => encoder.finish()?,
            Archive::Broken => return Err(io::Error::other("the file was given up")),
        };
        self.start = (below.bytes, below.hash.digest());
        self.archive = Archive::Between(below);
        self.frame.clear();
        Ok(())
    }

    /// How far the file has come.
    fn reached(&mut self) -> io::Result<Reached> {
        if self.compression == Compression::None {
            self.piece()?;
            self.end()?;
        }
        let file = self.early.file.try_clone()?;
        let tail = [&self.frame[..], &self.held[..]].concat();
        Ok(Reached { bytes: self.start.0, hash: self.start.1, tail, file })
    }

    /// Writes what is held and the archive's end, and waits until the disk has it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            self.piece()?;
        }
        if self.start.0 == 0 {
            // An archive of nothing is one all the same.
            self.begin()?;
        }
        self.end()?;
        self.early.end()?;
        match self.archive {
            Archive::Between(below) => disk::sync(&below.file),
            _ => Ok(()),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.muted {
            return Ok(bytes.len());
        }
        let taken = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.piece()?;
        }
        Ok(taken)
    }

    /// Nothing: a flush would cut the compressor's blocks.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that is shared with whoever finishes it. The format writes through it, the sink ends it.
pub(crate) fn shared(pieces: Pieces) -> (Output, Shared) {
    let shared = Shared(std::sync::Arc::new(std::sync::Mutex::new(Some(pieces))));
    (Box::new(shared.clone()), shared)
}

/// See [`shared`].
#[derive(Clone)]
pub(crate) struct Shared(std::sync::Arc<std::sync::Mutex<Option<Pieces>>>);

impl Shared {
    /// Whether what is written now is in the file already, and is passed over.
    pub(crate) fn mute(&self, muted: bool) {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pieces) = held.as_mut() {
            pieces.muted = muted;
        }
    }

    /// How far the file below has come.
    pub(crate) fn reached(&self) -> io::Result<Reached> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let finished = || io::Error::other("the file is finished");
        held.as_mut().ok_or_else(finished)?.reached()
    }

    /// Finishes the file below.
    pub(crate) fn finish(self) -> io::Result<()> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.take().map_or(Ok(()), Pieces::finish)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match held.as_mut() {
            Some(pieces) => pieces.write(bytes),
            None => Err(io::Error::other("the file is finished")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file to be read.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Its name for people: as the pipeline file has it.
    pub name: String,
    /// How it is compressed.
    pub compression: Compression,
}

impl Input {
    /// A file whose compression its name tells.
    pub fn new(path: impl AsRef<Path>) -> Input {
        let path = path.as_ref().to_path_buf();
        let name = path.display().to_string();
        let compression = Compression::of_name(&name).0;
        Input { path, name, compression }
    }

    /// The bytes as they are.
    ///
    /// # Errors
    /// Where there is no such file, or it is not for us to read.
    pub fn file(&self) -> Result<File, Error> {
        let failed = |e: io::Error| {
            let error = Error::user(format!("cannot read {}: {e}", self.name));
            match e.kind() {
                io::ErrorKind::NotFound => error.help("paths start at the pipeline file's folder"),
                io::ErrorKind::PermissionDenied => error.help("make it readable for this user"),
                _ => error,
            }
        };
        let file = File::open(&self.path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(Error::user(format!("cannot read {}: it is a folder", self.name))
                .help("name a file, or list the files: path = [\"a.csv\", \"b.csv\"]"));
        }
        Ok(file)
    }

    /// The text, unpacked, without a byte order mark.
    ///
    /// # Errors
    /// As [`Input::file`]; and where the first bytes show that this is another kind of file.
    pub fn text(&self) -> Result<Box<dyn BufRead + Send>, Error> {
        let mut raw = BufReader::with_capacity(64 << 10, self.file()?);
        let found = Compression::of_bytes(raw.fill_buf().map_err(|e| self.broken(&e))?);
        if found != self.compression {
            return Err(self.disguised(found));
        }
        let mut bytes: Box<dyn Read + Send> = match self.compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(MultiGzDecoder::new(raw)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(raw)?),
        };
        let mut head = Vec::new();
        bytes.by_ref().take(6).read_to_end(&mut head).map_err(|e| self.broken(&e))?;
        self.refuse_binary(&head)?;
        let head = head.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(head);
        Ok(Box::new(BufReader::with_capacity(128 << 10, Cursor::new(head).chain(bytes))))
    }

    fn broken(&self, error: &io::Error) -> Error {
        Error::external(format!("{}: broken after line 0: {error}", self.name))
            .help("fetch the file again")
    }

    fn disguised(&self, found: Compression) -> Error {
        let name = &self.name;
        match found {
            Compression::None => Error::user(format!(
                "{name} does not begin as a {} file does",
                self.compression.ending()
            ))
            .help("take the ending off its name if it is not compressed"),
            found => Error::user(format!("{name} is compressed"))
                .help(format!("rename it to end in {}", found.ending())),
        }
    }

    fn refuse_binary(&self, head: &[u8]) -> Result<(), Error> {
        let (what, help) = match head {
            [b'P', b'A', b'R', b'1', ..] => ("Parquet", "format = \"parquet\""),
            b"ARROW1" => ("Arrow IPC", "format = \"arrow_ipc\""),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16 text", "convert it to UTF-8"),
            _ => return Ok(()),
        };
        Err(Error::user(format!("{} is {what}, not UTF-8 text", self.name)).help(help))
    }
}
