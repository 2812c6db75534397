//! What a run wrote into its folder, as it is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidemill_types::Error;

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What a run wrote for others. Of the files `aside` the lines are sorted. The report tells wall times; the
/// parts of the training set are removed when no checkpoint names them any more.
pub(super) fn files(folder: &Path, aside: &[String]) -> Result<Files, Error> {
    let mut found = Files::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).map_err(Error::from)? {
            let path = entry.map_err(Error::from)?.path();
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            if path.is_dir() {
                if !["checkpoints", "epochs", "training"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if name != "report.html" && !name.ends_with("lock") {
                let mut bytes = fs::read(&path).map_err(Error::from)?;
                if aside.iter().any(|path| name.starts_with(path.as_str())) {
                    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                    lines.sort_unstable();
                    bytes = lines.join(&b'\n');
                }
                found.insert(name, bytes);
            }
        }
    }
    Ok(found)
}

/// An empty folder of that name.
pub(super) fn empty(folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::from)?;
    }
    fs::create_dir_all(folder).map_err(Error::from)
}
