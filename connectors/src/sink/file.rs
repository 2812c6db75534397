//! `file`: rows into files.
//!
//! * **Bytes** a function of the rows: neither how they were batched, nor when they were committed,
//!   changes one. A file stands under its name only when it is whole; until then it is
//!   `.NAME.partial` beside it, also where the run fails. Files of an earlier run are replaced.
//! * **Rolling** with `roll = "1d"`, one file for each stretch of event time that has rows, named by its
//!   start: `scores-2013-01-01.csv.zst`, or `scores-2013-01-01T060000Z.csv` for less than a day. A row of
//!   a stretch that is closed already goes into the file that is open.
//! * **Name** a path without any ending gets that of its `format` (`scores` becomes `scores.parquet`).
//! * **Commit** makes finished files visible; the one that is open follows when it rolls or closes.
//! * **Delivery** exactly once: a crash leaves no part of a file under its name, and a restart goes on with
//!   the file under way from its last mark. Text is appended to; a columnar file is read back and written
//!   again, for its rows give the same bytes: one pass over the file that is open.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SinkPlan};
use tidemill_types::error::Fault;
use tidemill_types::time::{DAY, SECOND, to_rfc3339};
use tidemill_types::{Error, Micros};
use xxhash_rust::xxh3::Xxh3;

use super::{Delivery, Entry, Mark, Sink, Target, TargetKind};
use crate::disk;
use crate::format::compression::{Below, Compression, Reached, Shared, shared};
use crate::format::{self, FileWriter, Held, Packing, held_rows};
use crate::keys;
use crate::steps;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "file",
    summary: "files that appear whole, one or one a stretch of event time",
    keys: &[
        (
            "path",
            "text",
            "the file, its ending that of `format` if it has none; relative to the run's output folder",
        ),
        ("roll", "duration, none", "a new file for each such stretch of event time"),
        (
            "compression",
            "\"zstd\" or \"snappy\" or \"none\", zstd",
            "how Parquet packs its columns; `none` is the fastest and the largest",
        ),
    ],
    delivery: |_| Delivery::ExactlyOnce,
    check: |plan| read(plan).map(drop),
    targets: |plan| {
        let Ok(keys) = read(plan) else { return Vec::new() };
        let path = path_of(&keys, Path::new("")).to_string_lossy().into_owned();
        let name = At { value: path, span: plan.section.params().text("path").span };
        vec![Target { kind: TargetKind::File, name, servers: Vec::new() }]
    },
    open: |plan, schema, folder| {
        let keys = read(plan).map_err(keys::error)?;
        let path = path_of(&keys, folder);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
        }
        let mut sink = FileSink { keys, path, schema, open: None };
        // What cannot be written shall be known before the first row, not at the end of the run.
        let first = Part::open(&sink.keys, sink.path.clone(), &sink.schema)?;
        if sink.keys.roll.is_none() {
            sink.open = Some((0, first));
        } else {
            first.give_up()?;
        }
        Ok(Box::new(sink))
    },
    reopen: Some(|plan, schema, folder, state| {
        let keys = read(plan).map_err(keys::error)?;
        let path = path_of(&keys, folder);
        let standing: Option<Standing> = bincode::deserialize(state)
            .map_err(|e| Error::internal(format!("the mark of {}: {e}", path.display())))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
        }
        let mut sink = FileSink { keys, path, schema, open: None };
        if let Some(standing) = standing {
            let part =
                Part::go_on(&sink.keys, sink.path_at(standing.stretch), &sink.schema, &standing)?;
            sink.open = Some((standing.stretch, part));
        }
        Ok(Box::new(sink))
    }),
    readback: None,
};

/// Where the file under way stands.
#[derive(Serialize, Deserialize)]
struct Standing {
    /// The number of its stretch.
    stretch: i64,
    /// Size and hash (XXH3) of the file as far as it can be gone on from.
    bytes: u64,
    hash: u64,
    /// Text that was written behind that.
    tail: Vec<u8>,
    /// See [`Held`].
    rows: Vec<u8>,
    index: Vec<u8>,
}

/// The path, with the ending of its format if it has none.
fn path_of(keys: &Keys, folder: &Path) -> PathBuf {
    let mut path = folder.join(&keys.path);
    if path.extension().is_none()
        && let Some(extension) = keys.format.extensions.first()
    {
        path.set_extension(extension);
    }
    path
}

struct Keys {
    path: String,
    format: &'static format::Entry,
    compression: Compression,
    packing: Packing,
    roll: Option<Micros>,
}

fn read(plan: &SinkPlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let path = params.string("path");
    let roll = params.optional_duration("roll");
    let packing = params.optional_string("compression");
    params.finish()?;
    if roll.is_some_and(|roll| roll < SECOND) {
        return Err(vec![Diagnostic::new(
            &plan.section.span,
            "`roll` is shorter than a second",
            "files are named by the second in which they start",
            "write `roll = \"1d\"`",
        )]);
    }
    let (format, compression) =
        format::for_file(&path, plan.format.as_ref()).map_err(|error| vec![error])?;
    let packing = packing.map_or(Ok(Packing::default()), |word| packing_of(&word, format));
    let packing = packing.map_err(|error| vec![error])?;
    Ok(Keys { path: path.value, format, compression, packing, roll })
}

/// What `compression` says, for a format that has the choice.
fn packing_of(word: &At<String>, format: &format::Entry) -> Result<Packing, Diagnostic> {
    if !format.packs {
        return Err(Diagnostic::new(
            &word.span,
            format!("`compression` is no key of {} files", format.name),
            "only Parquet compresses its columns; text is compressed as the file's name says",
            "name the file `.zst` or `.gz`, or leave `compression` out",
        ));
    }
    match word.value.as_str() {
        "zstd" => Ok(Packing::Zstd),
        "snappy" => Ok(Packing::Snappy),
        "none" => Ok(Packing::Plain),
        other => Err(Diagnostic::new(
            &word.span,
            format!("unknown compression `{other}`"),
            "the compressions of Parquet are zstd, snappy, none",
            match crate::keys::nearest(other, ["zstd", "snappy", "none"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write `compression = \"zstd\"`, or leave it out".to_string(),
            },
        )),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    disk::cannot("write", path, error)
}

/// What a format says of the file below it, with the file's name.
fn named(path: &Path, error: Error) -> Error {
    match (error.fault, error.help.as_deref()) {
        (Fault::External, None | Some(disk::ROOM)) => {
            let message = format!("cannot write {}: {}", path.display(), error.message);
            Error { message, ..error }
        }
        _ => error,
    }
}

struct FileSink {
    keys: Keys,
    path: PathBuf,
    schema: SchemaRef,
    /// The file under way and the number of its stretch.
    open: Option<(i64, Part)>,
}

impl FileSink {
    /// The file of a stretch of event time.
    fn name(&self, start: Micros, roll: Micros) -> PathBuf {
        let text = to_rfc3339(start);
        let start = if roll % DAY == 0 {
            text[..text.len() - 10].to_string()
        } else {
            text.replace(':', "")
        };
        let name = self.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let (stem, endings) = name.split_at(name.find('.').unwrap_or(name.len()));
        self.path.with_file_name(format!("{stem}-{start}{endings}"))
    }

    fn path_at(&self, stretch: i64) -> PathBuf {
        match self.keys.roll {
            Some(roll) => self.name(stretch.saturating_mul(roll), roll),
            None => self.path.clone(),
        }
    }

    fn write_to(&mut self, stretch: i64, rows: &RecordBatch) -> Result<(), Error> {
        let stands = match &self.open {
            Some((open, _)) => self.keys.roll.is_none() || *open >= stretch,
            None => false,
        };
        if !stands {
            if let Some((_, part)) = self.open.take() {
                part.finish()?;
            }
            let path = self.path_at(stretch);
            self.open = Some((stretch, Part::open(&self.keys, path, &self.schema)?));
        }
        match &mut self.open {
            Some((_, part)) => part.writer.write(rows).map_err(|error| named(&part.partial, error)),
            None => Ok(()),
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        let Some(roll) = self.keys.roll else { return self.write_to(0, rows) };
        let mut from = 0;
        while from < times.len() {
            let stretch = times[from].div_euclid(roll);
            let same = times[from..].iter().take_while(|t| t.div_euclid(roll) == stretch).count();
            self.write_to(stretch, &rows.slice(from, same))?;
            from += same;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Option<Mark>, Error> {
        let mut files = Vec::new();
        let standing = match &mut self.open {
            None => None,
            Some((stretch, part)) => {
                let Held { rows, index } = part.writer.mark()?;
                let reached = part.below.reached().map_err(|e| cannot_write(&part.partial, &e))?;
                let Reached { bytes, hash, tail, file } = reached;
                files.push(file);
                Some(Standing { stretch: *stretch, bytes, hash, tail, rows, index })
            }
        };
        let state = bincode::serialize(&standing).map_err(|e| Error::internal(e.to_string()))?;
        Ok(Some(Mark { state, files }))
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.open.take().map_or(Ok(()), |(_, part)| part.finish())
    }
}

/// Whether a file begins with what was written until a mark.
fn begins_so(path: &Path, at: &Standing) -> bool {
    let hash = File::open(path).and_then(|mut file| hash_of(&mut file, at.bytes));
    hash.is_ok_and(|(bytes, hash)| (bytes, hash.digest()) == (at.bytes, at.hash))
}

/// The hash of the first bytes of a file, and how many of them there are.
fn hash_of(file: &mut File, bytes: u64) -> io::Result<(u64, Xxh3)> {
    let (mut hash, mut found, mut piece) = (Xxh3::new(), 0, vec![0; 256 << 10]);
    let mut beginning = file.take(bytes);
    loop {
        let n = beginning.read(&mut piece)?;
        if n == 0 {
            return Ok((found, hash));
        }
        hash.update(&piece[..n]);
        found += n as u64;
    }
}

/// Has the disk take the names in a file's folder.
fn sync_names(path: &Path) -> Result<(), Error> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => disk::sync_folder(folder).map_err(|e| cannot_write(folder, &e)),
        None => Ok(()),
    }
}

/// A file that is not whole yet.
struct Part {
    writer: Box<dyn FileWriter>,
    below: Shared,
    partial: PathBuf,
    path: PathBuf,
}

impl Part {
    fn open(keys: &Keys, path: PathBuf, schema: &SchemaRef) -> Result<Part, Error> {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.partial"));
        let file = File::create(&partial).map_err(|e| cannot_write(&partial, &e))?;
        // A mark may be made of it at any time, and after a power cut it has to be found under this name.
        sync_names(&partial)?;
        let (output, below) = shared(keys.compression.writer(file)?);
        let writer = (keys.format.writer)(output, schema, keys.packing)?;
        Ok(Part { writer, below, partial, path })
    }

    /// The file as of a mark. Its beginning is what was written until then: in the file under way, or in
    /// the one with its name, if it was ended since.
    fn go_on(keys: &Keys, path: PathBuf, schema: &SchemaRef, at: &Standing) -> Result<Part, Error> {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.partial"));
        let fresh = path.with_file_name(format!(".{name}.partial.new"));
        let begins = [&partial, &path].into_iter().find(|path| begins_so(path, at));
        let Some(from) = begins else {
            return Err(Error::external(format!(
                "cannot go on with {}: what a former run wrote of it is gone or changed",
                path.display()
            ))
            .help("restore it, or begin again: remove the run's folder of checkpoints"));
        };
        let failed = |e: std::io::Error| cannot_write(&partial, &e);
        let part = match keys.format.reread {
            None => {
                if from != &partial {
                    let beginning = File::open(from).map_err(failed)?.take(at.bytes);
                    let mut copy = File::create(&fresh).map_err(failed)?;
                    io::copy(&mut { beginning }, &mut copy).map_err(failed)?;
                    disk::sync(&copy).map_err(failed)?;
                    fs::rename(&fresh, &partial).map_err(failed)?;
                    sync_names(&partial)?;
                }
                let mut file =
                    File::options().read(true).write(true).open(&partial).map_err(failed)?;
                let (_, hash) = hash_of(&mut file, at.bytes).map_err(failed)?;
                disk::cut(&file, at.bytes).map_err(failed)?;
                file.seek(SeekFrom::End(0)).map_err(failed)?;
                let below = Below { file, bytes: at.bytes, hash };
                let (output, below) = shared(keys.compression.go_on(below, &at.tail)?);
                below.mute(at.bytes > 0 || !at.tail.is_empty());
                let writer = (keys.format.writer)(output, schema, keys.packing)?;
                below.mute(false);
                return Ok(Part { writer, below, partial, path });
            }
            Some(reread) => {
                let file = File::create(&fresh).map_err(failed)?;
                let (output, below) = shared(keys.compression.writer(file)?);
                let mut writer = (keys.format.writer)(output, schema, keys.packing)?;
                let held = Held { rows: at.rows.clone(), index: at.index.clone() };
                let before = File::open(from).map_err(failed)?;
                reread(before, at.bytes, &held, &mut |rows| writer.write(rows))?;
                writer.mark()?;
                let reached = below.reached().map_err(failed)?;
                if (reached.bytes, reached.hash) != (at.bytes, at.hash) {
                    return Err(Error::internal(format!(
                        "the rows of {} give other bytes when they are written again",
                        path.display()
                    )));
                }
                held_rows(&at.rows, &mut |rows| writer.write(rows))?;
                Part { writer, below, partial: partial.clone(), path }
            }
        };
        part.below.reached().and_then(|reached| disk::sync_data(&reached.file)).map_err(failed)?;
        fs::rename(&fresh, &part.partial).map_err(|e| cannot_write(&part.partial, &e))?;
        sync_names(&part.partial)?;
        Ok(part)
    }

    /// Ends the file and gives it its name, in this order on the disk too.
    fn finish(self) -> Result<(), Error> {
        let partial = self.partial.clone();
        self.writer.finish().map_err(|error| named(&partial, error))?;
        self.below.finish().map_err(|e| cannot_write(&self.partial, &e))?;
        steps::pass("file.finished");
        fs::rename(&self.partial, &self.path).map_err(|e| cannot_write(&self.path, &e))?;
        steps::pass("file.named");
        sync_names(&self.path)
    }

    fn give_up(self) -> Result<(), Error> {
        fs::remove_file(&self.partial).map_err(|e| cannot_write(&self.partial, &e))
    }
}
