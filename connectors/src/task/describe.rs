//! From what is asked for, a training or a part of a backfill, to the `task.json` that a runner reads.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tidemill_types::Error;
use tidemill_types::schema::hex;
use tidemill_types::task::{
    BackfillTask, Input, Limits, PROTOCOL, Task, TaskFile, TaskLineage, TrainingTask,
};
use tidemill_types::time::to_rfc3339;

/// The task file of what is asked for. Of a training every input is read once: about a second for a gigabyte.
///
/// # Errors
/// An input that cannot be read.
pub fn describe(
    task: &Task,
    run: &Path,
    limits: Limits,
    code: Option<String>,
) -> Result<TaskFile, Error> {
    match task {
        Task::Train(task) => training(task, run, limits, code),
        Task::Backfill(task) => Ok(backfill(task, limits, code)),
    }
}

/// What decides the rows: the pipeline, the code, what is read, the range and the part.
fn backfill(task: &BackfillTask, limits: Limits, code: Option<String>) -> TaskFile {
    let version = env!("CARGO_PKG_VERSION");
    let BackfillTask { given, fingerprint, range, part, reads, .. } = task;
    let decides = json!([
        "backfill",
        PROTOCOL,
        version,
        code,
        given.text,
        given.set,
        fingerprint,
        range,
        part,
        reads,
    ]);
    TaskFile {
        protocol: PROTOCOL,
        task_id: id_of(&decides),
        kind: "backfill".to_string(),
        code,
        inputs: Vec::new(),
        limits,
        lineage: TaskLineage {
            request: task.id.clone(),
            trigger: (to_rfc3339(range.0), "backfill".to_string()),
            tidemill: version.to_string(),
        },
        task: task.clone().into(),
    }
}

fn id_of(decides: &Json) -> String {
    hex(&Sha256::digest(decides.to_string()))[..32].to_string()
}

fn training(
    task: &TrainingTask,
    run: &Path,
    limits: Limits,
    code: Option<String>,
) -> Result<TaskFile, Error> {
    let inputs = task.data.iter().map(|path| input(path, run)).collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<&str> = inputs.iter().map(|input| input.sha256.as_str()).collect();
    // Times that are only a reason to train, and names of files, decide nothing.
    let decides = json!([
        "train",
        PROTOCOL,
        task.trainer,
        canonical(&task.parameters),
        code,
        task.labels,
        task.max_rows,
        task.features,
        task.categories,
        task.schema,
        task.seed,
        hashes,
    ]);
    Ok(TaskFile {
        protocol: PROTOCOL,
        task_id: id_of(&decides),
        kind: "train".to_string(),
        code,
        inputs,
        limits,
        lineage: TaskLineage {
            request: task.id.clone(),
            trigger: (to_rfc3339(task.triggered.0), task.triggered.1.clone()),
            tidemill: env!("CARGO_PKG_VERSION").to_string(),
        },
        task: task.clone().into(),
    })
}

/// The same value with the keys of every object in order.
fn canonical(value: &Json) -> Json {
    match value {
        Json::Object(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            sorted.into_iter().map(|(k, v)| (k.clone(), canonical(v))).collect()
        }
        Json::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

fn input(path: &Path, run: &Path) -> Result<Input, Error> {
    let full = run.join(path);
    let failed = |e: &dyn std::fmt::Display| {
        Error::external(format!("cannot read {}: {e}", full.display()))
            .help("the parts of the training set belong to the run: do not remove them")
    };
    let mut file = File::open(&full).map_err(|e| failed(&e))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let n = file.read(&mut buffer).map_err(|e| failed(&e))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
    let reader = SerializedFileReader::new(file).map_err(|e| failed(&e))?;
    let metadata = reader.metadata().file_metadata();
    let said = |key: &str| -> String {
        let pairs = metadata.key_value_metadata().into_iter().flatten();
        pairs.filter(|pair| pair.key == key).find_map(|p| p.value.clone()).unwrap_or_default()
    };
    Ok(Input {
        path: path.to_path_buf(),
        sha256: hex(&hash.finalize()),
        bytes,
        rows: metadata.num_rows().unsigned_abs(),
        schema_fingerprint: said("tidemill.schema"),
        labels: (said("tidemill.labels_from"), said("tidemill.labels_to")),
        offsets: serde_json::from_str(&said("tidemill.offsets")).unwrap_or(Json::Null),
    })
}
