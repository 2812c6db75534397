//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_types::Error;

use crate::disk;

/// Writes a file that nobody has written yet; false if somebody has, whose bytes then stay.
///
/// # Errors
/// What the disk says.
pub fn write_once(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    let apart = write_apart(path, bytes)?;
    // Unlike a rename, a link refuses to replace: of several writers one wins.
    let linked = fs::hard_link(&apart, path);
    let _ = fs::remove_file(&apart);
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed("write", path, &e)),
    }
}

/// Writes a file over what was there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let apart = write_apart(path, bytes)?;
    fs::rename(&apart, path).map_err(|e| {
        let _ = fs::remove_file(&apart);
        failed("write", path, &e)
    })
}

fn write_apart(path: &Path, bytes: &[u8]) -> Result<PathBuf, Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let apart = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = File::create(&apart).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map(|()| apart.clone()).map_err(|e| {
        let _ = fs::remove_file(&apart);
        failed("write", path, &e)
    })
}

/// Reads a JSON file; nothing if it is not there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path, &e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::external(format!("{} is not what it should be: {e}", path.display()))
            .help("somebody else writes into this folder: give the run one of its own")
    })
}

/// The JSON that files hold.
pub(super) fn json(of: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(of).map_err(|e| Error::internal(e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

pub(super) fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let made = disk::cannot(what, path, error);
    if disk::is_full(error) {
        made.help("make room on the disk; the task is tried again")
    } else {
        made
    }
}
