//! The registry: model artifacts under their own hash, and a manifest per version.
//!
//! ```text
//! <folder>/<model>/artifacts/<sha256>        the artifact's bytes
//! <folder>/<model>/versions/<number>.json    its `ModelVersion`
//! <folder>/<model>/versions/<number>.report.jsonl  what the gate found of it
//! ```
//!
//! Files appear whole or not at all (written apart, synced, renamed), and every write may be repeated:
//! a replay that registers the same version again finds it there. A version once registered never
//! changes. Every read checks the artifact against its hash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tidemill_connectors::disk;
use tidemill_types::Error;
use tidemill_types::model::ModelVersion;
use tidemill_types::schema::hex;

/// Names that a run gives to versions.
pub const OWN_ALIASES: [&str; 3] = ["champion", "challenger", "previous"];

/// A folder of models. Cheap to clone; may be used from several threads.
#[derive(Clone, Debug)]
pub struct Registry {
    folder: PathBuf,
}

/// What helps where an artifact is lost. The journal says that its version was trained, so that the same run never
/// trains it again.
const NO_ARTIFACT: &str = "restore the file from a backup; without one, run the pipeline into a folder of its own \
                           (--folder), where every version is trained anew";

impl Registry {
    /// Opens the registry in `folder`, making it if there is none.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Registry, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(|e| at(&folder, "create", e))?;
        Ok(Registry { folder })
    }

    /// Stores an artifact and gives its SHA-256 in hex. Bytes that are there already are left alone; a
    /// damaged file of that name is replaced.
    pub fn put(&self, model: &str, bytes: &[u8]) -> Result<String, Error> {
        let hash = sha256(bytes);
        let path = self.model_folder(model)?.join("artifacts").join(&hash);
        let present = fs::read(&path).is_ok_and(|found| sha256(&found) == hash);
        if !present {
            write_whole(&path, bytes, Existing::Replace, false)?;
        }
        Ok(hash)
    }

    /// Registers a version whose artifact is stored. Doing it again changes nothing; another version of
    /// the same number is refused.
    pub fn register(&self, version: &ModelVersion) -> Result<(), Error> {
        self.artifact(&version.model, &version.artifact)?;
        let path = self.manifest_path(&version.model, version.version)?;
        let mut text =
            serde_json::to_vec_pretty(version).map_err(|e| Error::internal(e.to_string()))?;
        text.push(b'\n');
        if !path.exists() && write_whole(&path, &text, Existing::Keep, false)? {
            return Ok(());
        }
        let found = self.manifest(&version.model, version.version)?;
        if found == *version {
            return Ok(());
        }
        Err(Error::internal(format!(
            "version {} of model {} is already registered, with artifact {} instead of {}",
            version.version, version.model, found.artifact, version.artifact
        ))
        .help("a version never changes: give the run a folder of its own"))
    }

    /// A version's manifest and its artifact, checked.
    pub fn get(&self, model: &str, version: u64) -> Result<(ModelVersion, Vec<u8>), Error> {
        let manifest = self.manifest(model, version)?;
        let bytes = self.artifact(model, &manifest.artifact)?;
        Ok((manifest, bytes))
    }

    /// Keeps the gate's report of a version, in the place of an earlier one.
    pub fn keep_report(&self, model: &str, version: u64, bytes: &[u8]) -> Result<(), Error> {
        write_whole_file(&self.report_path(model, version)?, bytes)
    }

    /// The gate's report of a version, as it was kept.
    pub fn report(&self, model: &str, version: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.report_path(model, version)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path, "read", e)),
        }
    }

    fn report_path(&self, model: &str, version: u64) -> Result<PathBuf, Error> {
        Ok(self.model_folder(model)?.join("versions").join(format!("{version}.report.jsonl")))
    }

    /// The manifests of all versions of a model, oldest first; none of an unknown model.
    pub fn list(&self, model: &str) -> Result<Vec<ModelVersion>, Error> {
        self.numbers(model)?.into_iter().map(|number| self.manifest(model, number)).collect()
    }

    /// The numbers of all versions of a model, oldest first.
    pub fn numbers(&self, model: &str) -> Result<Vec<u64>, Error> {
        let mut numbers: Vec<u64> = names(&self.model_folder(model)?.join("versions"))?
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The user's own names of versions.
    pub fn aliases(&self, model: &str) -> Result<BTreeMap<String, u64>, Error> {
        let path = self.model_folder(model)?.join("aliases.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::external(format!("{} is broken: {e}", path.display()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(e) => Err(at(&path, "read", e)),
        }
    }

    /// Gives a version a name, or takes the name away.
    pub fn alias(&self, model: &str, alias: &str, version: Option<u64>) -> Result<(), Error> {
        check_name(alias)?;
        if OWN_ALIASES.contains(&alias) || alias.parse::<u64>().is_ok() {
            return Err(Error::user(format!("`{alias}` cannot be a name of yours"))
                .help(format!("{} are given by the run", OWN_ALIASES.join(", "))));
        }
        let mut all = self.aliases(model)?;
        match version {
            Some(version) => {
                self.manifest(model, version)?;
                all.insert(alias.to_string(), version);
            }
            None => drop(all.remove(alias)),
        }
        let bytes = serde_json::to_vec(&all).map_err(|e| Error::internal(e.to_string()))?;
        write_whole_file(&self.model_folder(model)?.join("aliases.json"), &bytes)
    }

    /// Removes the artifacts to which no version refers, or only says which: paths and bytes. A run in
    /// progress stores an artifact before its version: not to be called meanwhile.
    pub fn collect(&self, dry_run: bool) -> Result<Vec<(PathBuf, u64)>, Error> {
        let mut removed = Vec::new();
        for model in self.models()? {
            let used: Vec<String> = self.list(&model)?.into_iter().map(|v| v.artifact).collect();
            let folder = self.model_folder(&model)?.join("artifacts");
            for name in names(&folder)?.into_iter().filter(|name| !used.contains(name)) {
                let path = folder.join(name);
                let bytes = fs::metadata(&path).map_err(|e| at(&path, "look at", e))?.len();
                if !dry_run {
                    fs::remove_file(&path).map_err(|e| at(&path, "remove", e))?;
                }
                removed.push((path, bytes));
            }
        }
        Ok(removed)
    }

    /// The models that have a folder, by name.
    pub fn models(&self) -> Result<Vec<String>, Error> {
        let mut models = names(&self.folder)?;
        models.retain(|name| check_name(name).is_ok() && self.folder.join(name).is_dir());
        models.sort();
        Ok(models)
    }

    /// Removes what a process that was killed left half written. Only for who alone writes here.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn sweep(&self) -> Result<(), Error> {
        for model in self.models()? {
            for part in ["versions", "artifacts"] {
                let folder = self.model_folder(&model)?.join(part);
                for name in names(&folder)?.iter().filter(|name| name.starts_with(NEW)) {
                    let path = folder.join(name);
                    fs::remove_file(&path).map_err(|e| at(&path, "remove", e))?;
                }
            }
        }
        Ok(())
    }

    /// An artifact by its hash, checked.
    pub fn artifact(&self, model: &str, hash: &str) -> Result<Vec<u8>, Error> {
        if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::user(format!("`{hash}` is not a SHA-256 in lower-case hex")));
        }
        let path = self.model_folder(model)?.join("artifacts").join(hash);
        let bytes = fs::read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => at(&path, "read the artifact", e).help(NO_ARTIFACT),
            _ => at(&path, "read the artifact", e),
        })?;
        let found = sha256(&bytes);
        if found == hash {
            return Ok(bytes);
        }
        Err(Error::external(format!(
            "the artifact {} was changed since it was stored: its SHA-256 is now {found}",
            path.display()
        ))
        .help(NO_ARTIFACT))
    }

    /// A version's manifest, without its artifact.
    pub fn manifest(&self, model: &str, version: u64) -> Result<ModelVersion, Error> {
        let path = self.manifest_path(model, version)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::user(format!("model {model} has no version {version}"))
                    .help("`tidemill models` lists what is there"));
            }
            Err(e) => return Err(at(&path, "read", e)),
        };
        let broken = |why: String| {
            Error::external(format!("the manifest {} is broken: {why}", path.display()))
                .help("restore the file from a backup")
        };
        let manifest: ModelVersion =
            serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        if manifest.model != model || manifest.version != version {
            return Err(broken(format!("it is of {} {}", manifest.model, manifest.version)));
        }
        Ok(manifest)
    }

    fn manifest_path(&self, model: &str, version: u64) -> Result<PathBuf, Error> {
        Ok(self.model_folder(model)?.join("versions").join(format!("{version}.json")))
    }

    fn model_folder(&self, model: &str) -> Result<PathBuf, Error> {
        check_name(model)?;
        Ok(self.folder.join(model))
    }
}

/// Names come from pipelines and from HTTP: none may leave the folder.
fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.len() <= 128 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::user(format!("`{name}` cannot be a model's name"))
        .help("a name has 1 to 128 letters, digits, `_` and `-`"))
}

/// SHA-256 in lower-case hex: an artifact's name.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// How the names of files begin that are being written.
const NEW: &str = ".new-";

/// What happens to a file of that name that is there already.
#[derive(Clone, Copy, PartialEq)]
enum Existing {
    Keep,
    Replace,
}

/// Writes a file so that a crash leaves it whole or absent. Says whether it was written.
fn write_whole(
    path: &Path,
    bytes: &[u8],
    existing: Existing,
    private: bool,
) -> Result<bool, Error> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| at(folder, "create", e))?;
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!("{NEW}{}-{unique}", std::process::id()));
    let written = write_synced(&temporary, bytes, private).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path).map(|()| true),
        Existing::Keep => create_from(&temporary, path),
    });
    if !matches!((&written, existing), (Ok(true), Existing::Replace)) {
        // What cannot be removed is never read: its name is no hash and no number.
        let _ = fs::remove_file(&temporary);
    }
    let written = written.map_err(|e| at(path, "write", e))?;
    disk::sync_folder(folder).map_err(|e| at(folder, "sync", e))?;
    Ok(written)
}

/// Writes a file, or another in its place, so that a reader finds one or the other and a crash leaves
/// one whole.
///
/// # Errors
/// The folder cannot be made or written.
pub(super) fn write_whole_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_whole(path, bytes, Existing::Replace, false).map(drop)
}

/// The same for a file that nobody but its owner may read, at no moment.
///
/// # Errors
/// As [`write_whole_file`].
pub(super) fn write_private_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_whole(path, bytes, Existing::Replace, true).map(drop)
}

fn write_synced(path: &Path, bytes: &[u8], private: bool) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    disk::sync(&file)
}

/// A hard link is the one rename that fails where the name is taken.
fn create_from(temporary: &Path, path: &Path) -> std::io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(_) if path.exists() => Ok(false),
        // A file system without links has a single writer or none at all.
        Err(_) => fs::rename(temporary, path).map(|()| true),
    }
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(at(folder, "read", e)),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()
        .map_err(|e| at(folder, "read", e))
}

fn at(path: &Path, what: &str, error: std::io::Error) -> Error {
    disk::cannot(what, path, &error)
}

#[cfg(test)]
mod tests {
    use tidemill_types::model::Lineage;

    use super::*;

    fn version(number: u64, artifact: &str) -> ModelVersion {
        ModelVersion {
            model: "trees".into(),
            version: number,
            kind: "gradient_boosting".into(),
            artifact: artifact.into(),
            since: 42,
            lineage: Lineage { rows: 7, ..Lineage::default() },
            metrics: vec![("log_loss".into(), 0.1 + 0.2)],
        }
    }

    #[test]
    fn versions_are_kept_in_order_and_given_back() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        for number in [10, 9, 1] {
            let hash = registry.put("trees", &[number as u8; 100]).expect("puts");
            registry.register(&version(number, &hash)).expect("registers");
            registry.register(&version(number, &hash)).expect("twice is once");
        }
        let numbers: Vec<u64> =
            registry.list("trees").expect("lists").iter().map(|v| v.version).collect();
        assert_eq!(numbers, [1, 9, 10]);
        let (manifest, bytes) = registry.get("trees", 9).expect("gets");
        assert_eq!((manifest.metrics[0].1, bytes), (0.1 + 0.2, vec![9; 100]));
        assert_eq!(registry.models().expect("lists"), ["trees"]);
        assert!(registry.list("none").expect("lists").is_empty());
        assert!(registry.get("trees", 2).expect_err("none").message.contains("no version 2"));
        let left = names(&folder.path().join("trees/versions")).expect("names");
        assert_eq!(left.len(), 3, "nothing temporary is left: {left:?}");
    }

    #[test]
    fn a_version_never_changes() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        let (a, b) =
            (registry.put("trees", b"a").expect("a"), registry.put("trees", b"b").expect("b"));
        registry.register(&version(1, &a)).expect("registers");
        let error = registry.register(&version(1, &b)).expect_err("another").message;
        assert!(error.contains("already registered"), "{error}");
        assert_eq!(registry.get("trees", 1).expect("gets").1, b"a");
        let never_stored = version(2, &sha256(b"c"));
        assert!(registry.register(&never_stored).is_err());
    }

    #[test]
    fn a_changed_artifact_is_refused_and_healed_by_the_same_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        let hash = registry.put("trees", b"model").expect("puts");
        registry.register(&version(1, &hash)).expect("registers");
        fs::write(folder.path().join("trees/artifacts").join(&hash), b"Model").expect("writes");
        let error = registry.get("trees", 1).expect_err("changed").to_string();
        assert!(error.contains("was changed") && error.contains(&hash), "{error}");
        assert!(error.contains("--folder"), "{error}");
        fs::remove_file(folder.path().join("trees/artifacts").join(&hash)).expect("removes");
        let error = registry.get("trees", 1).expect_err("gone").to_string();
        assert!(error.contains(&hash) && error.contains("--folder"), "{error}");
        registry.put("trees", b"model").expect("puts again");
        assert_eq!(registry.get("trees", 1).expect("gets").1, b"model");
    }

    #[test]
    fn names_do_not_leave_the_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        for name in ["", "..", "a/b", "a\\b", ".hidden", "a\0"] {
            assert!(registry.put(name, b"x").is_err(), "{name:?}");
            assert!(registry.get(name, 1).is_err(), "{name:?}");
        }
        assert!(registry.artifact("trees", "../../secret").is_err());
        assert!(registry.models().expect("lists").is_empty());
    }

    #[test]
    fn half_written_files_are_swept() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        let hash = registry.put("trees", b"artifact").expect("stores");
        let left = folder.path().join("trees/artifacts").join(format!("{NEW}1-0"));
        fs::write(&left, b"half").expect("writes");
        registry.sweep().expect("sweeps");
        assert!(!left.exists() && registry.artifact("trees", &hash).is_ok());
    }

    #[test]
    fn many_writers_agree_on_one() {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::open(folder.path()).expect("opens");
        let winners: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8u8)
                .map(|i| {
                    let registry = registry.clone();
                    scope.spawn(move || {
                        let hash = registry.put("trees", &[i]).expect("puts");
                        registry.register(&version(1, &hash)).is_ok()
                    })
                })
                .collect();
            writers.into_iter().map(|w| usize::from(w.join().expect("ends"))).sum()
        });
        assert_eq!(winners, 1);
    }
}
