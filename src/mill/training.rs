//! The training set: labelled rows as Parquet parts, written as labels land and read by the
//! training tasks.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Field, Float64Type, Schema as ArrowSchema, TimestampMicrosecondType};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use tidemill_connectors::disk;
use tidemill_operators::predictor::Inputs;
use tidemill_operators::trainer::{TRAINERS, TrainingSet};
use tidemill_types::key::category;
use tidemill_types::long::{MOST_BYTES, long_bytes};
use tidemill_types::task::{Artifact, Train, TrainingTask};
use tidemill_types::{DataType, Error, Micros, Schema};

use super::join::Scored;
use super::matrix;
use crate::checkpoint::line::SharedLines;
use crate::engine::offsets::Offsets;
use crate::host::{Host, Received, Turn, receive};

/// Rows to a part; one ends before where their texts, lists and maps come to [`MOST_BYTES`].
const PART: usize = 8_192;

/// When the label became known.
pub const LABEL_TIME: &str = "__label_time";
/// The label.
pub const LABEL: &str = "__label";

/// Collects the labelled rows of one label section.
pub struct TrainingParts {
    /// The run's folder, and ours in it.
    folder: (PathBuf, PathBuf),
    fingerprint: String,
    models: Vec<String>,
    offsets: Arc<Offsets>,
    rows: Vec<(Arc<Scored>, Micros, f64)>,
    /// Of their texts, lists and maps.
    bytes: u64,
    parts: VecDeque<Part>,
    written: u64,
    /// Rows taken since the beginning.
    taken: u64,
    writer: Sender<Job>,
    lines: Option<SharedLines>,
    /// Parts that no training will read, with the last line that may name them.
    condemned: VecDeque<(u64, PathBuf)>,
    host: Host,
}

/// What a line keeps of a training set.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct SavedParts {
    /// Place of the row, label time, label.
    rows: Vec<(u32, Micros, f64)>,
    /// Path, rows and last label time.
    parts: Vec<(PathBuf, u64, Micros)>,
    written: u64,
    taken: u64,
    condemned: Vec<(u64, PathBuf)>,
}

/// What the thread that writes parts is asked to do.
enum Job {
    Write(PathBuf, RecordBatch, Box<WriterProperties>),
    /// To say when everything before is written, or what failed.
    Tell(Sender<Result<(), Error>>),
}

/// Tells when files are whole.
pub struct Written(Receiver<Result<(), Error>>, Host);

impl Written {
    /// Files that are whole.
    pub fn already() -> Written {
        let (to, told) = bounded(1);
        let _ = to.send(Ok(()));
        Written(told, Host::default())
    }

    /// Whether they are; waits for it if asked to.
    ///
    /// # Errors
    /// A part that could not be written.
    pub fn look(&self, wait: bool) -> Result<bool, Error> {
        let gone = || Err(Error::internal("the thread of the training set is gone"));
        if wait {
            self.1.wait(|| !self.0.is_empty());
        }
        match if wait { self.0.recv().map_err(Into::into) } else { self.0.try_recv() } {
            Ok(written) => written.map(|()| true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => gone(),
        }
    }
}

/// Parts that wait for the disk at most.
const WAITING: usize = 4;

/// Writes what comes next, unless something failed before.
fn write_part(jobs: &Receiver<Job>, failed: &mut Result<(), Error>, wait: bool) -> Turn<()> {
    match receive(jobs, wait) {
        Received::One(Job::Write(path, batch, properties)) if failed.is_ok() => {
            *failed = write(&path, &batch, *properties)
                .map_err(|e| Error::external(format!("cannot write {}: {e}", path.display())));
        }
        Received::One(Job::Write(..)) => {}
        Received::One(Job::Tell(to)) => drop(to.send(failed.clone())),
        Received::Nothing => return Turn::Idle,
        Received::Gone => return Turn::Over(()),
    }
    Turn::Moved
}

struct Part {
    path: PathBuf,
    rows: u64,
    last: Micros,
}

impl TrainingParts {
    /// Parts go to `run`/`path`; `models` name the margins that rows carry.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new(
        run: &Path,
        path: PathBuf,
        features: &Schema,
        models: Vec<String>,
        offsets: Arc<Offsets>,
        (lines, host): (Option<SharedLines>, &Host),
    ) -> Result<Self, Error> {
        let full = run.join(&path);
        std::fs::create_dir_all(&full)
            .map_err(|e| Error::external(format!("cannot make {}: {e}", full.display())))?;
        let folder = (run.to_path_buf(), path);
        let fingerprint = features.fingerprint();
        let (rows, parts) = (Vec::with_capacity(PART), VecDeque::new());
        let (writer, jobs) = host.channel(WAITING);
        let mut failed = Ok(());
        host.start("training set", move |wait| write_part(&jobs, &mut failed, wait))?;
        let condemned = VecDeque::new();
        Ok(TrainingParts {
            folder,
            fingerprint,
            models,
            offsets,
            rows,
            bytes: 0,
            parts,
            written: 0,
            taken: 0,
            writer,
            lines,
            condemned,
            host: host.clone(),
        })
    }

    /// Takes a labelled row. Rows come by label time.
    ///
    /// # Errors
    /// Only a defect; a part that cannot be written fails in [`TrainingParts::files`].
    pub fn add(&mut self, row: Arc<Scored>, time: Micros, label: f64) -> Result<(), Error> {
        self.hold(row, time, label);
        self.taken += 1;
        let full = self.rows.len() == PART || self.bytes >= MOST_BYTES;
        if full { self.flush() } else { Ok(()) }
    }

    fn hold(&mut self, row: Arc<Scored>, time: Micros, label: f64) {
        let place = row.row as usize;
        self.bytes += long_bytes(row.columns.columns(), place..place + 1);
        self.rows.push((row, time, label));
    }

    /// The files that will hold every row taken so far, oldest first, by their paths in the run's
    /// folder; and what tells when they do, or what failed.
    ///
    /// # Errors
    /// Only a defect.
    pub fn files(&mut self) -> Result<(Vec<PathBuf>, Written), Error> {
        self.flush()?;
        let (to, told) = bounded(1);
        // A writer that is gone is found out by whoever waits for it.
        let _ = self.writer.send(Job::Tell(to));
        Ok((self.parts.iter().map(|p| p.path.clone()).collect(), Written(told, self.host.clone())))
    }

    /// Rows taken since the beginning.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Rows that are held.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|p| p.rows).sum::<u64>() + self.rows.len() as u64
    }

    /// Removes parts that no training will read: all their labels are before `oldest`, or there are
    /// `max_rows` newer ones.
    pub fn forget(&mut self, oldest: Micros, max_rows: u64) {
        let mut newer: u64 = self.parts.iter().map(|p| p.rows).sum();
        while let Some(first) = self.parts.front() {
            newer -= first.rows;
            if first.last >= oldest && newer < max_rows {
                break;
            }
            match &self.lines {
                // A line may name it, and a restart from there reads it.
                Some(lines) => self.condemned.push_back((lines.number(), first.path.clone())),
                None => self.remove(&first.path),
            }
            self.parts.pop_front();
        }
    }

    fn remove(&self, path: &Path) {
        match std::fs::remove_file(self.folder.0.join(path)) {
            // A run before this one may have come further.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "an old part stays");
            }
            _ => {}
        }
    }

    /// Removes the parts that no retained line names.
    pub fn sweep(&mut self) {
        let oldest = self.lines.as_ref().map_or(0, |lines| lines.oldest());
        while let Some((_, path)) = self.condemned.pop_front_if(|(line, _)| *line < oldest) {
            self.remove(&path);
        }
    }

    /// What tells when the parts that were cut so far are on the disk.
    pub fn written(&self) -> Written {
        let (to, told) = bounded(1);
        let _ = self.writer.send(Job::Tell(to));
        Written(told, self.host.clone())
    }

    /// What is held, for a line; `place` names a row.
    pub fn save(&self, mut place: impl FnMut(&Arc<Scored>) -> u32) -> SavedParts {
        SavedParts {
            rows: self.rows.iter().map(|(row, time, label)| (place(row), *time, *label)).collect(),
            parts: self.parts.iter().map(|p| (p.path.clone(), p.rows, p.last)).collect(),
            written: self.written,
            taken: self.taken,
            condemned: self.condemned.iter().cloned().collect(),
        }
    }

    /// Goes on from what was saved.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn resume(
        &mut self,
        saved: SavedParts,
        row: impl Fn(u32) -> Result<Arc<Scored>, String>,
    ) -> Result<(), String> {
        for (place, time, label) in saved.rows {
            self.hold(row(place)?, time, label);
        }
        let part = |(path, rows, last)| Part { path, rows, last };
        self.parts = saved.parts.into_iter().map(part).collect();
        (self.written, self.taken) = (saved.written, saved.taken);
        self.condemned = saved.condemned.into();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return Ok(());
        };
        let (from, to) = (first.1, last.1);
        let batch = self.batch()?;
        self.written += 1;
        let path = self.folder.1.join(format!("part-{:06}.parquet", self.written));
        let pair = |key: &str, value: String| KeyValue::new(key.to_string(), value);
        let offsets: BTreeMap<String, u64> = self.offsets.through(to).into_iter().collect();
        let metadata = vec![
            pair("tidemill.schema", self.fingerprint.clone()),
            pair("tidemill.labels_from", tidemill_types::time::to_rfc3339(from)),
            pair("tidemill.labels_to", tidemill_types::time::to_rfc3339(to)),
            pair("tidemill.offsets", json!(offsets).to_string()),
        ];
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .set_created_by("tidemill".to_string())
            .set_key_value_metadata(Some(metadata))
            .build();
        let rows = batch.num_rows() as u64;
        let job = Job::Write(self.folder.0.join(&path), batch, Box::new(properties));
        // A writer that is gone is found out when somebody asks for the files.
        let _ = self.writer.send(job);
        self.parts.push_back(Part { path, rows, last: to });
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    fn batch(&self) -> Result<RecordBatch, Error> {
        let mut batches: Vec<&Arc<RecordBatch>> = Vec::new();
        let mut places: BTreeMap<*const RecordBatch, usize> = BTreeMap::new();
        let mut picks = Vec::with_capacity(self.rows.len());
        for (row, _, _) in &self.rows {
            let place = *places.entry(Arc::as_ptr(&row.columns)).or_insert_with(|| {
                batches.push(&row.columns);
                batches.len() - 1
            });
            picks.push((place, row.row as usize));
        }
        let batches: Vec<&RecordBatch> = batches.into_iter().map(AsRef::as_ref).collect();
        let features = interleave_record_batch(&batches, &picks).map_err(internal)?;
        let time = |of: &dyn Fn(&(Arc<Scored>, Micros, f64)) -> Micros| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_iter_values(self.rows.iter().map(of));
            Arc::new(times.with_timezone("UTC"))
        };
        let number = |of: &dyn Fn(&(Arc<Scored>, Micros, f64)) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(self.rows.iter().map(of)))
        };
        let ids = self.rows.iter().map(|(row, _, _)| row.id.to_string());
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("__id".into(), Arc::new(StringArray::from_iter_values(ids))),
            ("__event_time".into(), time(&|r| r.0.time)),
            (LABEL_TIME.into(), time(&|r| r.1)),
            (LABEL.into(), number(&|r| r.2)),
            ("__served".into(), number(&|r| r.0.served)),
        ];
        for (m, model) in self.models.iter().enumerate() {
            columns.push((format!("{model}.margin"), number(&|r| r.0.margins[m])));
        }
        let schema = features.schema();
        for (field, column) in schema.fields().iter().zip(features.columns()) {
            columns.push((field.name().clone(), Arc::clone(column)));
        }
        let fields: Vec<Field> =
            columns.iter().map(|(n, c)| Field::new(n, c.data_type().clone(), true)).collect();
        let columns = columns.into_iter().map(|(_, c)| c).collect();
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).map_err(internal)
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("training rows do not fit together: {error}"))
}

/// Whole or not at all.
fn write(
    path: &Path,
    batch: &RecordBatch,
    properties: WriterProperties,
) -> Result<(), Box<dyn std::error::Error>> {
    let part = path.with_extension("part");
    let mut writer = ArrowWriter::try_new(File::create(&part)?, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    disk::sync(&writer.into_inner()?)?;
    std::fs::rename(part, path)?;
    // A line names it, and the training that reads it may come after a power cut.
    path.parent().map_or(Ok(()), disk::sync_folder)?;
    Ok(())
}

/// The inputs of the model that a task trains.
pub fn inputs(task: &TrainingTask) -> Inputs {
    let numbers = task.features.len().saturating_sub(task.categories);
    let (numbers, categories) = task.features.split_at(numbers);
    Inputs { numbers: numbers.to_vec(), categories: categories.to_vec() }
}

/// How tasks of a run in this folder are carried out in this process.
pub fn train(run_folder: PathBuf) -> Train {
    Arc::new(move |task: &TrainingTask, threads: usize| {
        run(task, &inputs(task), &run_folder, threads)
    })
}

/// Carries a task out.
///
/// # Errors
/// Rows that cannot be read or learnt.
pub fn run(
    task: &TrainingTask,
    inputs: &Inputs,
    run: &Path,
    threads: usize,
) -> Result<Artifact, Error> {
    let entry = TRAINERS.iter().find(|t| t.name == task.trainer);
    let entry = entry.ok_or_else(|| Error::internal(format!("no trainer {}", task.trainer)))?;
    let train = entry.train.ok_or_else(|| {
        Error::user(format!("trainer `{}` is of the Python package", task.trainer))
            .help("run the task with `python3 -m tidemill_trainer`")
    })?;
    let set = load(task, inputs, run)?;
    let rows = set.labels.len() as u64;
    let trained = train(&set, &task.parameters, task.seed, threads);
    let trained = trained.map_err(Error::external)?;
    let (bytes, metrics) = (trained.bytes, trained.metrics);
    Ok(Artifact { kind: task.trainer.clone(), bytes, rows, metrics })
}

/// Reads a task's rows: label times in its range, the newest `max_rows` of them.
///
/// # Errors
/// A part that cannot be read or has other columns.
pub fn load(task: &TrainingTask, inputs: &Inputs, run: &Path) -> Result<TrainingSet, Error> {
    let mut set = TrainingSet {
        inputs: inputs.clone(),
        numbers: vec![Vec::new(); inputs.numbers.len()],
        categories: vec![Vec::new(); inputs.categories.len()],
        labels: Vec::new(),
    };
    for path in task.data.iter().map(|path| run.join(path)) {
        let failed = |e: &dyn std::fmt::Display| {
            Error::external(format!("cannot read {}: {e}", path.display()))
                .help("the parts of the training set belong to the run: do not remove them")
        };
        let file = File::open(&path).map_err(|e| failed(&e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(&e))?;
        let wanted = [LABEL_TIME, LABEL].into_iter();
        let wanted = wanted.chain(inputs.numbers.iter().map(String::as_str));
        let wanted = wanted.chain(inputs.categories.iter().map(String::as_str));
        let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).with_batch_size(PART).build();
        for batch in reader.map_err(|e| failed(&e))? {
            append(&mut set, &batch.map_err(|e| failed(&e))?, task, inputs)?;
        }
    }
    let surplus = set.labels.len().saturating_sub(task.max_rows as usize);
    set.labels.drain(..surplus);
    set.numbers.iter_mut().for_each(|c| drop(c.drain(..surplus)));
    set.categories.iter_mut().for_each(|c| drop(c.drain(..surplus)));
    Ok(set)
}

fn append(
    set: &mut TrainingSet,
    batch: &RecordBatch,
    task: &TrainingTask,
    inputs: &Inputs,
) -> Result<(), Error> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| {
            Error::external(format!("the training set has no column `{name}`"))
                .help("give the run a folder of its own with --folder")
        })
    };
    let times = column(LABEL_TIME)?.as_primitive::<TimestampMicrosecondType>().values();
    let rows: Vec<usize> = (0..batch.num_rows())
        .filter(|row| (task.labels.0..task.labels.1).contains(&times[*row]))
        .collect();
    let labels = column(LABEL)?.as_primitive::<Float64Type>().values();
    set.labels.extend(rows.iter().map(|row| labels[*row]));
    for (name, into) in inputs.numbers.iter().zip(&mut set.numbers) {
        let column = column(name)?;
        let mut all = vec![f64::NAN; batch.num_rows()];
        matrix::fill(column, DataType::from_arrow(column.data_type()), &mut all, 0, 1);
        into.extend(rows.iter().map(|row| all[*row]));
    }
    for (name, into) in inputs.categories.iter().zip(&mut set.categories) {
        let column = column(name)?.as_string::<i32>();
        let hash = |row: &usize| {
            if column.is_valid(*row) { category(column.value(*row)) } else { 0 }
        };
        into.extend(rows.iter().map(hash));
    }
    Ok(())
}
