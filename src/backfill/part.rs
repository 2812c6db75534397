//! A part of a backfill, as a runner carries it out: in this process or in one that an executor started.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use tidemill_config::document::parse;
use tidemill_config::plan::Stream;
use tidemill_connectors::task::folder::TaskFolder;
use tidemill_types::Error;
use tidemill_types::error::Fault;
use tidemill_types::task::{
    Artifact, BackfillTask, Failure, FailureClass, Reads, TaskFile, TaskResult,
};

use super::rows::{RowsFile, Told, Written};
use super::{Place, compute, features_of};
use crate::engine::outputs::schema_of;
use crate::engine::split::{Portion, Split};
use crate::observe::ProgressBar;

/// The kind of the artifact.
pub const KIND: &str = "feature_rows";

/// Computes a part; the artifact names the blob with the rows.
///
/// # Errors
/// `CODE` where this program or its environment is another one than the task was made for; `DATA` where what is
/// read is; else what ended it.
pub fn carry(
    file: &TaskFile,
    task: &BackfillTask,
    folder: &TaskFolder,
    attempt: u32,
    place: &Place<'_>,
    bar: ProgressBar,
) -> Result<Artifact, Failure> {
    let refused = |class, code: &str, message: String| Failure::new(class, code, message);
    let version = env!("CARGO_PKG_VERSION");
    let asked = file.code.as_deref().into_iter().chain([file.lineage.tidemill.as_str()]);
    if let Some(other) = asked.into_iter().find(|asked| *asked != version) {
        let message = format!(
            "the part is for Tidemill {other}, this is {version}: install that version where it runs"
        );
        return Err(refused(FailureClass::Code, "STALE_CODE", message));
    }
    let given = &task.given;
    let env = |name: &str| std::env::var(name).ok();
    let compiled =
        parse(&given.name, &given.text, &given.folder, &given.set, &env).and_then(features_of);
    let compiled = compiled
        .map_err(|report| refused(FailureClass::Code, "WRONG_PIPELINE", report.to_string()))?;
    if compiled.fingerprint != task.fingerprint {
        let message = "the pipeline comes to something else here: its variables of the environment must be the same \
                       where parts run";
        return Err(refused(FailureClass::Code, "OTHER_PIPELINE", message.to_string()));
    }
    for (path, bytes, _) in task.reads.iter().flat_map(|reads| &reads.files) {
        let found = std::fs::metadata(path).map(|file| file.len());
        if found.as_ref().ok() != Some(bytes) {
            let path = path.display();
            let message = match found {
                Ok(found) => {
                    format!("{path} has {found} bytes here and {bytes} where the backfill began")
                }
                Err(e) => format!(
                    "cannot read {path} where the part runs: {e}; files must be at the same place there"
                ),
            };
            return Err(refused(FailureClass::Data, "OTHER_INPUT", message));
        }
    }
    let (part, parts) = task.part;
    let split = match parts {
        1 => None,
        _ => {
            Some(Split::of(&compiled).map_err(|why| refused(FailureClass::Code, "NO_SPLIT", why))?)
        }
    };
    let portion =
        Portion { share: split.map(|split| (split, part, parts)), ends: ends(&task.reads) };
    let schema = schema_of(Stream::Features, compiled.id_type(), &compiled.sent_features());
    let told = Told::default();
    let path = folder.attempt(attempt).join("rows");
    let failed = |error: Error| {
        let class = match error.fault {
            Fault::User => FailureClass::Data,
            Fault::External => FailureClass::Infra,
            Fault::Internal => FailureClass::Code,
        };
        refused(class, "BACKFILL_FAILED", error.to_string())
    };
    let sink = RowsFile::new(&path, schema, Arc::clone(&told)).map_err(failed)?;
    let counted =
        compute(compiled, task.range, portion, Box::new(sink), place, bar).map_err(failed)?;
    let written = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    folder.put_file(&path, &written.sha256).map_err(failed)?;
    let bytes = serde_json::to_vec(&written).map_err(|e| Failure::from(e.to_string()))?;
    let metrics = [
        ("events", counted.events),
        ("late", counted.late),
        ("dead_letters", counted.dead_letters),
    ];
    let metrics = metrics.map(|(name, n)| (name.to_string(), n as f64)).to_vec();
    Ok(Artifact { kind: KIND.to_string(), bytes, rows: written.rows, metrics })
}

/// The ends of partitions, as readers ask for them.
pub fn ends(reads: &[Reads]) -> BTreeMap<(String, u32), u64> {
    let of = |reads: &Reads| {
        let source = reads.source.clone();
        let offsets = reads.offsets.clone().into_iter();
        offsets.map(move |(partition, (_, end))| ((source.clone(), partition), end))
    };
    reads.iter().flat_map(of).collect()
}

/// Where the rows of a part that is done stand; nothing where it is not done, or its rows are gone.
///
/// # Errors
/// The folder cannot be read.
pub fn done(folder: &TaskFolder) -> Result<Option<(TaskResult, Written)>, Error> {
    let Some(result) = folder.result()? else { return Ok(None) };
    if !folder.blob(&result.sha256).exists() {
        return Ok(None);
    }
    let artifact = folder.artifact(&result)?;
    let written: Written = serde_json::from_slice(&artifact.bytes)
        .map_err(|e| Error::external(format!("the answer of a part cannot be read: {e}")))?;
    Ok(is_there(&folder.blob(&written.sha256), written.bytes).then_some((result, written)))
}

fn is_there(path: &Path, bytes: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == bytes)
}
