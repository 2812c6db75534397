//! What of `RUN/tasks` is given up, so that it does not grow with every training.
//!
//! A task's folder is no more than a memory: the journal has the outcome and the registry the artifact, and whoever asks
//! again for a task that is gone has it run again. The newest are kept for those who look for what a trainer said.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidemill_types::Error;

use super::file::failed;
use super::folder::TaskFolder;

/// So many tasks that have ended stay.
pub const KEPT: usize = 100;

/// An attempt that has shown no life for so long is nobody's: whoever began it was killed, and nobody asked again.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// Removes all but the newest [`KEPT`] tasks of a run that have ended and, while none is open, the artifacts that none
/// of those left names: one under way may have found its own there already. Costs a look at each task that is left.
///
/// # Errors
/// The folder cannot be read, or something in it not be removed.
pub fn sweep(run: &Path) -> Result<(), Error> {
    let tasks = run.join("tasks");
    let mut ended: Vec<(SystemTime, TaskFolder)> = Vec::new();
    let mut open = false;
    for path in entries(&tasks)?.filter(|path| path.join("task.json").exists()) {
        let folder = TaskFolder::at(path);
        let Some(when) = folder.last_touched() else { continue };
        let is_forgotten = || when.elapsed().is_ok_and(|silence| silence > FORGOTTEN);
        if folder.has_ended()? || is_forgotten() {
            ended.push((when, folder));
        } else {
            open = true;
        }
    }
    ended.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.path().cmp(b.1.path())));
    for (_, old) in ended.drain(KEPT.min(ended.len())..) {
        let path = old.path();
        fs::remove_dir_all(path).map_err(|e| failed("remove", path, &e))?;
    }
    if open {
        return Ok(());
    }
    let results = ended.iter().map(|(_, folder)| folder.result());
    let named = results.filter_map(|result| Some(result.transpose()?.map(|r| r.sha256)));
    let named: BTreeSet<String> = named.collect::<Result<_, _>>()?;
    for shelf in entries(&tasks.join("blobs"))? {
        for blob in entries(&shelf)? {
            let name = blob.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| !named.contains(name)) {
                fs::remove_file(&blob).map_err(|e| failed("remove", &blob, &e))?;
            }
        }
    }
    Ok(())
}

/// What stands in a folder; nothing, if there is none.
fn entries(path: &Path) -> Result<impl Iterator<Item = PathBuf>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed("read", path, &e)),
    };
    Ok(entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())))
}
