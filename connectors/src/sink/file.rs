//! `file`: rows into files.
//!
//! * **Bytes** a function of the rows: neither how they were batched, nor when they were committed,
//!   changes one. A file stands under its name only when it is whole; until then it is
//!   `.NAME.partial` beside it. Files of an earlier run are replaced.
//! * **Rolling** with `roll = "1d"`, one file for each stretch of event time that has rows, named by its
//!   start: `scores-2013-01-01.csv.zst`, or `scores-2013-01-01T060000Z.csv` for less than a day. A row of
//!   a stretch that is closed already goes into the file that is open.
//! * **Name** a path without any ending gets that of its `format` (`scores` becomes `scores.parquet`).
//! * **Commit** makes finished files visible; the one that is open follows when it rolls or closes.
//! * **Delivery** exactly once: a crash leaves no part of a file under its name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SinkPlan};
use tidemill_types::time::{DAY, SECOND, to_rfc3339};
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Sink};
use crate::format::compression::{Compression, Shared, shared};
use crate::format::{self, FileWriter, Packing};
use crate::keys;

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
    delivery: Delivery::ExactlyOnce,
    check: |plan| read(plan).map(drop),
    open: |plan, schema, folder| {
        let keys = read(plan).map_err(keys::error)?;
        let mut path = folder.join(&keys.path);
        if path.extension().is_none()
            && let Some(extension) = keys.format.extensions.first()
        {
            path.set_extension(extension);
        }
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
};

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
    Error::external(format!("cannot write {}: {error}", path.display()))
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

    fn write_to(&mut self, stretch: i64, rows: &RecordBatch) -> Result<(), Error> {
        let stands = match &self.open {
            Some((open, _)) => self.keys.roll.is_none() || *open >= stretch,
            None => false,
        };
        if !stands {
            if let Some((_, part)) = self.open.take() {
                part.finish()?;
            }
            let path = match self.keys.roll {
                Some(roll) => self.name(stretch.saturating_mul(roll), roll),
                None => self.path.clone(),
            };
            self.open = Some((stretch, Part::open(&self.keys, path, &self.schema)?));
        }
        match &mut self.open {
            Some((_, part)) => part.writer.write(rows),
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

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.open.take().map_or(Ok(()), |(_, part)| part.finish())
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
        let (output, below) = shared(keys.compression.writer(file)?);
        let writer = (keys.format.writer)(output, schema, keys.packing)?;
        Ok(Part { writer, below, partial, path })
    }

    /// Ends the file and gives it its name, in this order on the disk too.
    fn finish(self) -> Result<(), Error> {
        self.writer.finish()?;
        self.below.finish().map_err(|e| cannot_write(&self.partial, &e))?;
        fs::rename(&self.partial, &self.path).map_err(|e| cannot_write(&self.path, &e))?;
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => {
                let sync = File::open(folder).and_then(|folder| folder.sync_all());
                sync.map_err(|e| cannot_write(folder, &e))
            }
            None => Ok(()),
        }
    }

    fn give_up(self) -> Result<(), Error> {
        fs::remove_file(&self.partial).map_err(|e| cannot_write(&self.partial, &e))
    }
}
