//! Training tasks with rows of their own, for whoever runs them.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Value as Json, json};
use tidemill_config::section::Section;
use tidemill_connectors::executor::{Choice, EXECUTORS, Executor, Setup};
use tidemill_operators::predictor::{Inputs, PREDICTORS, Row};
use tidemill_types::task::{Artifact, Failure, FailureClass, TaskOutcome, TrainingTask};

use crate::python;

/// Where the Python package is found without being installed.
pub fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("trainer/src")
}

/// The interpreter with every library, as words of a command line.
pub fn interpreter() -> String {
    let requirements = include_str!("../trainer/requirements.txt");
    python::command("trainer", requirements).get_program().to_string_lossy().into_owned()
}

/// How our package is started from anywhere: `env` sets its path, and that of the trainers of the tests.
pub fn runner() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainer");
    let path = format!("PYTHONPATH={}:{}", package().display(), tests.display());
    let python = interpreter();
    let words = ["env", &path, "PYTHONDONTWRITEBYTECODE=1", &python, "-m", "tidemill_trainer"];
    words.map(String::from).to_vec()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the rows hold, column by column.
pub struct Rows {
    x: Vec<Option<f64>>,
    y: Vec<Option<f64>>,
    city: Vec<Option<String>>,
    labels: Vec<f64>,
}

const CITIES: [&str; 5] = ["Oslo", "Rome", "K\u{f6}ln", "Ciudad Real", "\"quoted\", = here"];

/// Writes rows to a run's folder; a tenth of the values is NULL. `seed` makes them others.
pub fn rows(run: &Path, count: usize, seed: u64) -> (TrainingTask, Rows) {
    let mut random = Random(seed);
    let mut rows = Rows { x: vec![], y: vec![], city: vec![], labels: vec![] };
    for _ in 0..count {
        let some = |random: &mut Random| random.uniform() >= 0.1;
        let x = some(&mut random).then(|| 4.0 * random.uniform() - 2.0);
        // Whole numbers, 0 among them: where a threshold lies between them it matters which side.
        let y = some(&mut random).then(|| (10.0 * random.uniform()).floor());
        let city = some(&mut random).then(|| CITIES[(5.0 * random.uniform()) as usize].to_string());
        let margin = 1.5 * x.unwrap_or(0.5) * if y.unwrap_or(0.0) > 4.0 { 1.0 } else { -1.0 }
            + city.as_deref().map_or(1.0, |c| if c.len() > 5 { 0.7 } else { -0.7 });
        rows.labels.push(f64::from(u8::from(random.uniform() < 1.0 / (1.0 + (-margin).exp()))));
        rows.x.push(x);
        rows.y.push(y);
        rows.city.push(city);
    }
    let times = (0..count as i64).map(|i| i * 1_000_000);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("__label_time", Arc::new(times)),
        ("__label", Arc::new(Float64Array::from(rows.labels.clone()))),
        ("x", Arc::new(Float64Array::from(rows.x.clone()))),
        ("odd name", Arc::new(Float64Array::from(rows.y.clone()))),
        ("city", Arc::new(StringArray::from(rows.city.clone()))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let pair = |k: &str, v: &str| KeyValue::new(k.to_string(), v.to_string());
    let stamps =
        vec![pair("tidemill.schema", "fingerprint"), pair("tidemill.offsets", "{\"o/0\":7}")];
    let properties = WriterProperties::builder().set_key_value_metadata(Some(stamps)).build();
    let path = PathBuf::from("training/part-000001.parquet");
    std::fs::create_dir_all(run.join("training")).expect("a folder");
    let file = std::fs::File::create(run.join(&path)).expect("a file");
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a footer");
    let task = TrainingTask {
        id: format!("request-{seed}"),
        model: "risk".to_string(),
        trainer: "gradient_boosting".to_string(),
        parameters: json!({ "trees": 20, "min_rows_per_leaf": 20 }),
        data: vec![path],
        labels: (0, i64::MAX),
        max_rows: 1_000_000,
        features: ["x", "odd name", "city"].map(String::from).to_vec(),
        categories: 1,
        schema: "fingerprint".to_string(),
        seed: 7,
        triggered: (0, "by hand".to_string()),
    };
    (task, rows)
}

impl Rows {
    /// The margins that an artifact gives to every row.
    pub fn margins(&self, artifact: &Artifact) -> Vec<f64> {
        self.try_margins(artifact, self.labels.len()).expect("a sound artifact")
    }

    /// The same for the first rows, of an artifact that may not be sound.
    pub fn try_margins(&self, artifact: &Artifact, count: usize) -> Result<Vec<f64>, String> {
        let inputs = Inputs {
            numbers: vec!["x".to_string(), "odd name".to_string()],
            categories: vec!["city".to_string()],
        };
        let entry = PREDICTORS.iter().find(|entry| entry.name == artifact.kind).expect("a reader");
        let predictor = (entry.load)(&artifact.bytes, &inputs)?;
        let margin = |i: usize| {
            let numbers = [&self.x[i], &self.y[i]].map(|x| x.unwrap_or(f64::NAN));
            let city = self.city[i].as_deref().map_or(0, tidemill_types::key::category);
            predictor.margin(Row { numbers: &numbers, categories: &[city] })
        };
        Ok((0..count).map(margin).collect())
    }
}

/// The same task for a trainer of the tests that misbehaves.
pub fn misbehaving(mut task: TrainingTask, params: Json) -> TrainingTask {
    task.trainer = "python".to_string();
    task.parameters = json!({ "module": "sleepy", "params": params });
    task
}

/// Keys that suit a test: quick looks, our interpreter and program.
pub fn quick(more: &str) -> String {
    let words = |words: &[String]| {
        let quoted = words.iter().map(|word| format!("{:?}", word));
        format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
    };
    let program = [env!("CARGO_BIN_EXE_tidemill").to_string(), "train".to_string()];
    format!(
        "heartbeat = \"100ms\"\npoll = \"50ms\"\nbackoff = \"100ms\"\ncpus = 1\ncommand = {}\npython = {}\n{more}\n",
        words(&program),
        words(&runner())
    )
}

/// An executor of a type, in this run's folder.
pub fn open(kind: &str, run: &Path, keys: &str) -> Box<dyn Executor> {
    let entry = EXECUTORS.iter().find(|entry| entry.name == kind).expect("it is on the list");
    let section = Section::with_keys(kind, keys).expect("keys");
    (entry.check)(&section).expect("sound keys");
    let folder = run.to_path_buf();
    let setup = Setup {
        name: kind.to_string(),
        train: tidemill::mill::training::train(folder.clone()),
        threads: 1,
        folder,
        python: tidemill::mill::executors::python_trainers(),
    };
    (entry.open)(&section, &setup).expect("an executor")
}

/// A choice of a router.
pub fn choice(kind: &str, run: &Path, keys: &str, fallback: Option<usize>) -> Choice {
    Choice { name: kind.to_string(), above: 0, executor: open(kind, run, keys), fallback }
}

/// Runs a task to its end.
pub fn carry(executor: &mut dyn Executor, task: TrainingTask) -> TaskOutcome {
    executor.submit(task).expect("it is taken");
    outcome(executor)
}

/// The next outcome.
pub fn outcome(executor: &mut dyn Executor) -> TaskOutcome {
    let until = Instant::now() + Duration::from_secs(240);
    while Instant::now() < until {
        if let Some(outcome) = executor.wait(Duration::from_millis(200)).pop() {
            return outcome;
        }
    }
    panic!("no outcome in four minutes");
}

/// Why a task failed.
pub fn why(outcome: TaskOutcome) -> (FailureClass, String) {
    let Failure { class, code, message } = outcome.result.expect_err("it fails");
    eprintln!("{code}: {message}");
    (class, code)
}

/// The folder of the only task of a run.
pub fn task_folder(run: &Path) -> PathBuf {
    let folders = std::fs::read_dir(run.join("tasks")).expect("tasks").flatten();
    let mut folders = folders.map(|e| e.path()).filter(|p| p.join("task.json").exists());
    folders.next().expect("a task")
}

/// Waits until a task that misbehaves has told so many process ids, and gives them: a file that is
/// there may still be empty.
pub fn begun(marks: &Path, many: usize) -> Vec<String> {
    until("a training to begin", || pids(marks).len() >= many);
    pids(marks)
}

/// The processes that told theirs so far.
pub fn pids(marks: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(marks).unwrap_or_default();
    text.split_inclusive('\n')
        .filter_map(|line| Some(line.strip_suffix('\n')?.to_string()))
        .collect()
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !so() {
        assert!(Instant::now() < end, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(50));
    }
}
