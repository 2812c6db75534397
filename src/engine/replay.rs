//! A stretch of a run once more: the same pipeline from the beginning of its logs, with the run's journal as the
//! truth about trainings and decisions, and sinks that get the rows of the stretch alone.
//!
//! It is a run over a folder of its own, which begins as a copy of journal and models. The journal holds it to the
//! run: a decision that comes out otherwise ends it. It ends by itself when everything of the stretch was sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use tidemill_config::plan::{Mode, Stream, Until};
use tidemill_config::table::{Item, Node};
use tidemill_connectors::sink::Sink;
use tidemill_connectors::source::SOURCES;
use tidemill_types::{Error, Micros};

use super::check::{Compiled, bounded};
use super::split::Portion;

/// A sink that no plan names.
pub type Extra = (Stream, Box<dyn Sink>);

/// Which rows the sinks get.
pub struct Stretch {
    /// The first event time.
    pub from: Micros,
    /// The first event time behind it.
    pub to: Micros,
    /// Whether the run that is repeated was a live one.
    pub live: bool,
    /// What of the sources is read, where it is not all.
    pub portion: Option<Portion>,
    extra: Mutex<Vec<Extra>>,
    /// Whether the sinks have all of it.
    whole: AtomicBool,
}

impl Stretch {
    /// The rows from one event time to before another, for the plan's sinks and these.
    pub fn new(from: Micros, to: Micros, live: bool, extra: Vec<Extra>) -> Stretch {
        let (extra, whole) = (Mutex::new(extra), AtomicBool::new(false));
        Stretch { from, to, live, portion: None, extra, whole }
    }

    /// The same of a portion of what the sources hold.
    pub fn of(self, portion: Portion) -> Stretch {
        Stretch { portion: Some(portion), ..self }
    }

    /// Its own sinks, once.
    pub fn take_extra(&self) -> Vec<Extra> {
        std::mem::take(&mut *self.extra.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sinks have all of it.
    pub fn end(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }

    /// Whether the sinks have all of it: else a run that was stopped was stopped by somebody.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::SeqCst)
    }

    /// What of these rows is in it; event times do not fall.
    pub fn cut(&self, rows: &RecordBatch, times: &[Micros]) -> Option<(RecordBatch, Vec<Micros>)> {
        let first = times.partition_point(|time| *time < self.from);
        let n = times.partition_point(|time| *time < self.to).saturating_sub(first);
        (n > 0).then(|| (rows.slice(first, n), times[first..first + n].to_vec()))
    }

    /// Whether nothing more of it can follow these rows.
    pub fn is_over(&self, times: &[Micros]) -> bool {
        times.last().is_some_and(|last| *last >= self.to)
    }
}

/// What is known of a run that is to be repeated.
pub struct Prepared {
    /// Whether it was a live one.
    pub live: bool,
    /// Its files of scores and features: name, which may roll, and folder.
    pub files: Vec<(String, PathBuf)>,
}

/// Makes a plan one that repeats: all sources end, no lines are made, and of the sinks those stay that write
/// scores or features into files, which now are in `work`. Then fills that with what the run in `folder` decided.
///
/// # Errors
/// A run that cannot be repeated: `at_once`, logs that have lost their beginning, no journal.
pub fn prepare(compiled: &mut Compiled, folder: &Path, work: &Path) -> Result<Prepared, Error> {
    let plan = &mut compiled.plan;
    if plan.pipeline.mode == Mode::AtOnce {
        return Err(Error::user(
            "a run in `at_once` is not replayed: when its events came is kept as far back as its checkpoints",
        )
        .help("only runs with mode = \"final\" are replayed"));
    }
    let journal = folder.join("journal");
    if !journal.is_dir() {
        return Err(Error::user(format!("there is no journal in {}", folder.display()))
            .help("name the folder that the run wrote to with --folder"));
    }
    let live = plan.sources.iter().any(|source| !bounded(source));
    for source in &mut plan.sources {
        let entry = SOURCES.iter().find(|entry| entry.name == source.section.kind.value);
        let entry =
            entry.ok_or_else(|| Error::internal("a source passed the check and is not there"))?;
        if !bounded(source) {
            source.until = Some(Until::End);
        }
        let open = (entry.open)(source, (0, 1))?;
        for partition in open.partitions() {
            let begins = open.begins_at(partition);
            if begins > 0 {
                let name = &source.name.value;
                return Err(Error::external(format!(
                    "the run cannot be repeated bit for bit: of source `{name}` partition {partition} begins at offset \
                     {begins}, and what was before it is gone"
                ))
                .help("keep the log as long as runs shall be replayed (`retention.ms`), or read a copy of it"));
            }
        }
    }
    plan.checkpoint = None;
    plan.sinks.retain(|sink| {
        sink.section.kind.value == "file"
            && matches!(sink.stream, Stream::Scores | Stream::Features)
    });
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    plan.sinks.retain_mut(|sink| {
        let path = sink.section.keys.iter_mut().find(|(key, _)| key.value == "path");
        let Some((_, Node { value: Item::Text(path), .. })) = path else { return false };
        let of_run = folder.join(&*path);
        let Some(name) = of_run.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return false;
        };
        // The run's own file is never written to, wherever it is.
        path.clone_from(&name);
        let taken = files.iter().any(|(known, _)| *known == name);
        files.push((name, of_run.parent().unwrap_or(folder).to_path_buf()));
        !taken
    });
    if work.exists() {
        fs::remove_dir_all(work).map_err(|e| cannot("clear", work, &e))?;
    }
    copied(&journal, &work.join("journal"), false)?;
    copied(&folder.join("models"), &work.join("models"), true)?;
    Ok(Prepared { live, files })
}

/// Copies a folder. Files that nobody changes are linked where that goes.
fn copied(from: &Path, to: &Path, linked: bool) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|e| cannot("make", to, &e))?;
    if !from.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(from).map_err(|e| cannot("read", from, &e))? {
        let path = entry.map_err(|e| cannot("read", from, &e))?.path();
        let Some(name) = path.file_name() else { continue };
        let there = to.join(name);
        if path.is_dir() {
            copied(&path, &there, linked)?;
        } else if name != "lock" {
            let done = if linked { fs::hard_link(&path, &there).is_ok() } else { false };
            if !done {
                fs::copy(&path, &there).map_err(|e| cannot("copy", &path, &e))?;
            }
        }
    }
    Ok(())
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::external(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_stretch_has_its_beginning_and_not_its_end() {
        let stretch = Stretch::new(10, 20, false, Vec::new());
        let times = [5, 9, 10, 10, 19, 20, 30];
        let column = Arc::new(Int64Array::from(times.to_vec()));
        let rows = RecordBatch::try_from_iter([("t", column as _)]).unwrap();
        let (rows, cut) = stretch.cut(&rows, &times).unwrap();
        assert_eq!((rows.num_rows(), cut), (3, vec![10, 10, 19]));
        assert!(stretch.is_over(&times) && !stretch.is_over(&[5, 19]));
        assert!(stretch.cut(&rows.slice(0, 1), &[5]).is_none());
    }
}
