//! What of `RUN/tasks` is given up, so that it does not grow with every training.
//!
//! A task's folder is no more than a memory: the journal has the outcome and the registry the artifact, and whoever asks
//! again for a task that is gone has it run again. The newest are kept for those who look for what a trainer said.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidemill_types::Error;

use super::file::failed;
use super::folder::TaskFolder;

/// So many tasks that have ended stay.
pub const KEPT: usize = 100;

/// An attempt that has shown no life for so long is nobody's: whoever began it was killed, and nobody asked again.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// Removes all but the newest [`KEPT`] tasks of a run that have ended, and the artifacts from before them that none of
/// them names; these only while no task is open, which may have found its own among them. Costs a look at each task that is left.
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
        if folder.has_ended() || is_forgotten() {
            ended.push((when, folder));
        } else {
            open = true;
        }
    }
    ended.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.path().cmp(b.1.path())));
    for (_, old) in ended.drain(KEPT.min(ended.len())..) {
        gone(old.path(), fs::remove_dir_all(old.path()))?;
    }
    let Some(oldest) = ended.get(KEPT - 1).map(|(when, _)| *when).filter(|_| !open) else {
        return Ok(());
    };
    // One that cannot be read names nothing that could be used.
    let result = |folder: &TaskFolder| folder.result().ok().flatten();
    let named: BTreeSet<String> =
        ended.iter().filter_map(|(_, folder)| Some(result(folder)?.sha256)).collect();
    for shelf in entries(&tasks.join("blobs"))? {
        for blob in entries(&shelf)? {
            let name = blob.file_name().and_then(|name| name.to_str());
            let made = fs::metadata(&blob).and_then(|found| found.modified());
            let is_old = made.is_ok_and(|made| made < oldest);
            if is_old && name.is_none_or(|name| !named.contains(name)) {
                gone(&blob, fs::remove_file(&blob))?;
            }
        }
    }
    Ok(())
}

/// What is removed may have been removed by another.
fn gone(path: &Path, removed: io::Result<()>) -> Result<(), Error> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &e)),
        _ => Ok(()),
    }
}

/// What stands in a folder; nothing, if there is none.
fn entries(path: &Path) -> Result<impl Iterator<Item = PathBuf>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed("read", path, &e)),
    };
    Ok(entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())))
}
