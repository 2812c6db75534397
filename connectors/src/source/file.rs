//! `file`: the rows of a file, or of several files one after the other.
//!
//! * **Partitions** one, number 0.
//! * **Offsets** line numbers of text (the header of a CSV file is line 1), row numbers of columnar
//!   files, from 1; over several files they run on.
//! * **End** always bounded: what the files hold while they are read.
//! * **Bad records** become dead letters with the file and its own line. A file that cannot be opened
//!   or lacks a declared column is an error at open; one that breaks in the middle (a truncated
//!   archive) gives every row before the break, then the error.
//! * **Threads** with several workers, JSON lines are parsed by as many threads; rows, offsets and dead
//!   letters are those of one.
//! * **Seek** backwards opens the files anew and reads to the place.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SourcePlan, Until};
use tidemill_config::section::Params;
use tidemill_types::{DeadLetter, Error, Provenance};

use super::{Chunk, Entry, Polled, Source};
use crate::format::compression::Input;
use crate::format::{self, FileReader, Layout, MAX_RECORD, Part};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "file",
    summary: "the rows of a file, or of several one after the other",
    keys: &[
        ("path", "text or list of texts", "the files; relative to the pipeline file"),
        ("max_record", "bytes, 1048576", "a larger record goes to the dead letters"),
    ],
    until: Until::End,
    check: |plan| read(plan).map(drop),
    open: |plan, share| {
        let mut keys = read(plan).map_err(keys::error)?;
        // There is one partition, and as many threads as there are workers may help to parse it.
        keys.layout.threads = share.1.max(1);
        Ok(Box::new(FileSource {
            files: Files::open(plan.name.value.clone(), keys)?,
            mine: 0 % share.1.max(1) == share.0,
            paused: false,
            ended: false,
        }))
    },
};

/// Rows asked of a reader at a time.
const ROWS: usize = 4_096;

/// What a pipeline file says about files.
pub(super) struct Keys {
    files: Vec<(Input, &'static format::Entry)>,
    layout: Layout,
}

fn read(plan: &SourcePlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let keys = read_files(plan, &mut params, "path");
    let mut errors = params.finish().err().unwrap_or_default();
    match keys::take(keys, &mut errors) {
        Some(keys) if errors.is_empty() => Ok(keys),
        _ => Err(errors),
    }
}

/// Reads the keys that name files; `key` holds their paths.
pub(super) fn read_files(
    plan: &SourcePlan,
    params: &mut Params<'_>,
    key: &'static str,
) -> Result<Keys, Vec<Diagnostic>> {
    let paths = params.strings(key);
    let max_record = params.integer("max_record", MAX_RECORD as i64, 1..=1 << 30);
    let mut errors = Vec::new();
    let mut files = Vec::new();
    if paths.value.is_empty() {
        errors.push(Diagnostic::new(
            &plan.section.span,
            format!("`{key}` names no file"),
            format!("a source of type `{}` reads files", plan.section.kind.value),
            format!("add `{key} = \"data/events.csv\"`"),
        ));
    }
    for path in &paths.value {
        let at = At { value: path.clone(), span: paths.span.clone() };
        match format::for_file(&at, plan.format.as_ref()) {
            Ok((entry, compression)) => {
                let name = path.clone();
                files.push((
                    Input { path: plan.section.folder.join(path), name, compression },
                    entry,
                ));
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(keys::timezone(&plan.timezone).err());
    if plan.until == Some(Until::Stopped) {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "a file cannot be read until the run is stopped",
            "files are read to their end; what is appended later is not seen",
            "leave `until` out, or send the rows to a topic",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let layout = Layout {
        schema: plan.schema.clone(),
        null: plan.null.clone(),
        max_record: max_record as usize,
        threads: 1,
    };
    Ok(Keys { files, layout })
}

/// Files read one after the other, as one log.
pub(super) struct Files {
    source: String,
    keys: Keys,
    next: usize,
    reader: Option<Box<dyn FileReader>>,
    /// Lines or rows of the files before the one that is open.
    before: u64,
    /// Offsets below it are passed over.
    skip: u64,
}

impl Files {
    /// Opens each file once, so that what is wrong with the last one is known before the first
    /// is read.
    pub(super) fn open(source: String, keys: Keys) -> Result<Files, Error> {
        for (input, entry) in &keys.files {
            (entry.reader)(input, &keys.layout)?;
        }
        Ok(Files { source, keys, next: 0, reader: None, before: 0, skip: 0 })
    }

    /// Starts again, with the first offset at or above `offset`.
    pub(super) fn rewind(&mut self, offset: u64) {
        self.next = 0;
        self.reader = None;
        self.before = 0;
        self.skip = offset;
    }

    /// Where they are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.keys.files.iter().map(|(input, _)| input.path.clone()).collect()
    }

    /// Lines or rows of all files that were read.
    pub(super) fn position(&self) -> u64 {
        self.before + self.reader.as_ref().map_or(0, |reader| reader.position())
    }

    /// The next rows; `None` behind the last file.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some((input, entry)) = self.keys.files.get(self.next) else { return Ok(None) };
                self.reader = Some((entry.reader)(input, &self.keys.layout)?);
                self.next += 1;
                continue;
            };
            match reader.read(ROWS)? {
                Some(part) => {
                    if let Some(chunk) = self.chunk(part) {
                        return Ok(Some(chunk));
                    }
                }
                None => {
                    self.before += reader.position();
                    self.reader = None;
                }
            }
        }
    }

    /// The part as a chunk, without what lies before the place sought.
    fn chunk(&self, part: Part) -> Option<Chunk> {
        let mut offsets: Vec<_> = part.lines.iter().map(|line| self.before + line).collect();
        let passed = offsets.partition_point(|offset| *offset < self.skip);
        offsets.drain(..passed);
        let rows = part.rows.slice(passed, offsets.len());
        let kept = part.rejects.into_iter().filter(|r| self.before + r.line >= self.skip);
        let kept: Vec<_> = kept.collect();
        let rejected = kept.iter().map(|reject| self.before + reject.line).collect();
        let rejects: Vec<_> = kept
            .into_iter()
            .map(|reject| DeadLetter {
                source: self.source.clone(),
                provenance: Provenance {
                    origin: self.keys.files[self.next - 1].0.name.clone(),
                    partition: 0,
                    offset: reject.line,
                },
                reason: reject.refusal.reason.to_string(),
                detail: reject.refusal.detail,
                raw: reject.raw,
            })
            .collect();
        if offsets.is_empty() && rejects.is_empty() {
            return None;
        }
        let contexts = Vec::new();
        Some(Chunk { partition: 0, rows, offsets, rejects, rejected, contexts })
    }
}

struct FileSource {
    files: Files,
    mine: bool,
    paused: bool,
    ended: bool,
}

impl Source for FileSource {
    fn partitions(&self) -> Vec<u32> {
        if self.mine { vec![0] } else { Vec::new() }
    }

    fn poll(&mut self, _: Duration) -> Result<Polled, Error> {
        if !self.mine || self.paused || self.ended {
            return Ok(Polled::Nothing);
        }
        if let Some(chunk) = self.files.next()? {
            return Ok(Polled::Chunk(chunk));
        }
        self.ended = true;
        Ok(Polled::AtEnd(0))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.paths()
    }

    fn pause(&mut self, _: u32, paused: bool) {
        self.paused = paused;
    }

    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        super::own(&self.partitions(), partition)?;
        self.files.rewind(offset);
        self.ended = false;
        Ok(())
    }
}
