//! Where lines are kept: parts under the hash of their bytes, and a manifest a line, made only if
//! there is none of its number.
//!
//! ```text
//! parts/<sha256>           a packed part, see `section`
//! lines/<number>.json      a manifest
//! ```
//!
//! What is there is never changed. A part that a line shares with the one before is written once. What
//! goes is what no retained manifest names, whatever its age: [`Store::clear`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error as Refusal, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tidemill_types::Error;

use super::manifest::{Manifest, Part, sha256};
use super::{points, section};

/// A store of lines. One thread writes to it.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The folder, where it is one: what is written there is synced.
    folder: Option<PathBuf>,
    /// For people.
    name: String,
    runtime: tokio::runtime::Runtime,
}

/// Why something cannot be read.
#[derive(Debug)]
pub enum Unusable {
    /// It is gone or damaged, and will be so.
    Damaged(Error),
    /// The store did not say what it holds: it may be whole.
    Silent(Error),
}

impl From<Unusable> for Error {
    fn from(unusable: Unusable) -> Error {
        match unusable {
            Unusable::Damaged(error) | Unusable::Silent(error) => error,
        }
    }
}

/// Removes what a killed process left half-written: `object_store` writes beside the name, with a `#`, and renames.
fn sweep(folder: &Path) -> std::io::Result<()> {
    for kind in ["parts", "lines"] {
        let Ok(entries) = std::fs::read_dir(folder.join(kind)) else { continue };
        for entry in entries {
            let path = entry?.path();
            let half = path.file_name().is_some_and(|name| name.to_string_lossy().contains('#'));
            if half {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

impl Store {
    /// A store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn local(folder: &Path) -> Result<Store, Error> {
        let name = folder.display().to_string();
        let cannot = |e: &dyn std::fmt::Display| {
            Error::external(format!("cannot keep lines in {name}: {e}"))
                .help("make the folder writable, or set `store` of [checkpoint] to another one")
        };
        std::fs::create_dir_all(folder).map_err(|e| cannot(&e))?;
        sweep(folder).map_err(|e| cannot(&e))?;
        let objects = LocalFileSystem::new_with_prefix(folder).map_err(|e| cannot(&e))?;
        Store::over(Arc::new(objects), Some(folder.to_path_buf()), name)
    }

    /// A store over any objects.
    ///
    /// # Errors
    /// No thread for its requests.
    pub fn over(
        objects: Arc<dyn ObjectStore>,
        folder: Option<PathBuf>,
        name: String,
    ) -> Result<Store, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::external(format!("no runtime: {e}")))?;
        Ok(Store { objects, folder, name, runtime })
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packs and keeps a part, unless it is there.
    ///
    /// # Errors
    /// A store that does not take it.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<Part, Error> {
        let packed = section::pack(content).map_err(Error::internal)?;
        let (hash, bytes) = (sha256(&packed), packed.len() as u64);
        let key = part_key(&hash);
        // Looked at and not only found: one that the disk has damaged would be so in every line to come.
        if self.read(&key).is_ok_and(|found| sha256(&found) == hash) {
            return Ok(Part { name: name.to_string(), hash, bytes });
        }
        let put = self.runtime.block_on(self.objects.put(&key, packed.into()));
        put.map_err(|e| self.failed("write", &key, &e))?;
        if let Some(folder) = &self.folder {
            let path = folder.join(key.as_ref());
            sync(&path).map_err(|e| cannot_write(&path, &e))?;
        }
        Ok(Part { name: name.to_string(), hash, bytes })
    }

    /// Has the disk take the names of all parts that were put.
    ///
    /// # Errors
    /// A disk that does not.
    pub fn sync_parts(&self) -> Result<(), Error> {
        let parts = self.folder.as_ref().map(|folder| folder.join("parts"));
        let parts = parts.filter(|parts| parts.exists());
        parts.map_or(Ok(()), |parts| sync(&parts).map_err(|e| cannot_write(&parts, &e)))
    }

    /// A part's content, checked.
    ///
    /// # Errors
    /// A part that is gone, cut off or changed; a store that does not answer.
    pub fn get(&self, part: &Part) -> Result<Vec<u8>, Unusable> {
        let key = part_key(&part.hash);
        let bytes = self.read(&key)?;
        let broken = |why: &str| {
            Unusable::Damaged(Error::external(format!(
                "{}/{key}, the part `{}`, is damaged: {why}",
                self.name, part.name
            )))
        };
        if sha256(&bytes) != part.hash {
            return Err(broken("its hash is another one"));
        }
        section::unpack(&bytes).map_err(|why| broken(&why))
    }

    /// Makes a manifest stand, if there is none of its number.
    ///
    /// # Errors
    /// A store that does not take it; one that has a line of that number, which another run made.
    pub fn commit(&self, line: &Manifest) -> Result<(), Error> {
        let key = line_key(line.line);
        let text = line.encode().map_err(Error::internal)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.runtime.block_on(self.objects.put_opts(&key, text.into(), options)) {
            Ok(_) => self.sync(&key),
            Err(Refusal::AlreadyExists { .. }) => {
                Err(Error::external(format!("{}/{key} is there already", self.name))
                    .help("another run keeps its lines there: give each run a store of its own"))
            }
            Err(error) => Err(self.failed("write", &key, &error)),
        }
    }

    /// The numbers of all lines, the newest first, whole or not.
    ///
    /// # Errors
    /// A store that cannot be listed.
    pub fn lines(&self) -> Result<Vec<u64>, Error> {
        let mut numbers: Vec<u64> = self
            .list("lines")?
            .iter()
            .filter_map(|key| key.filename()?.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// A line's manifest.
    ///
    /// # Errors
    /// One that is not there, or not whole; a store that does not answer.
    pub fn line(&self, number: u64) -> Result<Manifest, Unusable> {
        let key = line_key(number);
        let bytes = self.read(&key)?;
        let broken = |why: String| {
            Unusable::Damaged(Error::external(format!("{}/{key} cannot be used: {why}", self.name)))
        };
        let line = Manifest::decode(&bytes).map_err(broken)?;
        match line.line == number {
            true => Ok(line),
            false => Err(broken(format!("it is the manifest of line {}", line.line))),
        }
    }

    /// Lets the newest `keep` whole lines stand, and removes older ones and every part that no
    /// retained one names. What is written next is not there yet: the thread that writes parts clears.
    ///
    /// # Errors
    /// A store that does not remove.
    pub fn clear(&self, keep: usize) -> Result<u64, Error> {
        let mut retained: BTreeMap<u64, Manifest> = BTreeMap::new();
        for number in self.lines()? {
            if retained.len() == keep.max(1) {
                break;
            }
            match self.line(number) {
                Ok(line) => drop(retained.insert(number, line)),
                Err(Unusable::Damaged(_)) => {}
                // Its parts must not be taken for those of nobody.
                Err(Unusable::Silent(error)) => return Err(error),
            }
        }
        // Without a single whole line nobody knows what may go.
        let Some(oldest) = retained.keys().next().copied() else { return Ok(0) };
        for number in self.lines()?.into_iter().filter(|number| *number < oldest) {
            self.remove(&line_key(number))?;
            points::pass("line.manifest_gone");
        }
        let named: BTreeSet<String> =
            retained.values().flat_map(|line| &line.parts).map(|part| part.hash.clone()).collect();
        for key in self.list("parts")? {
            if key.filename().is_some_and(|hash| !named.contains(hash)) {
                self.remove(&key)?;
                points::pass("line.part_gone");
            }
        }
        Ok(oldest)
    }

    /// Removes all lines and parts, manifests first.
    ///
    /// # Errors
    /// A store that does not remove.
    pub fn clear_all(&self) -> Result<(), Error> {
        for number in self.lines()? {
            self.remove(&line_key(number))?;
        }
        self.list("parts")?.iter().try_for_each(|key| self.remove(key))
    }

    fn list(&self, folder: &str) -> Result<Vec<Key>, Error> {
        let prefix = Key::from(folder);
        let found = self.objects.list(Some(&prefix)).map_ok(|found| found.location);
        let found = self.runtime.block_on(found.try_collect());
        found.map_err(|e| self.failed("list", &prefix, &e))
    }

    fn read(&self, key: &Key) -> Result<Vec<u8>, Unusable> {
        let read = async { self.objects.get(key).await?.bytes().await };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(error @ Refusal::NotFound { .. }) => {
                Err(Unusable::Damaged(self.failed("read", key, &error)))
            }
            Err(error) => Err(Unusable::Silent(self.failed("read", key, &error))),
        }
    }

    fn remove(&self, key: &Key) -> Result<(), Error> {
        match self.runtime.block_on(self.objects.delete(key)) {
            Ok(()) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", key, &error)),
        }
    }

    /// Has the disk take a file and its name.
    fn sync(&self, key: &Key) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(key.as_ref());
        let synced = sync(&path).and_then(|()| path.parent().map_or(Ok(()), sync));
        synced.map_err(|e| cannot_write(&path, &e))
    }

    fn failed(&self, what: &str, key: &Key, error: &Refusal) -> Error {
        Error::external(format!("cannot {what} {}/{key}: {error}", self.name))
    }
}

fn sync(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path).and_then(|file| file.sync_all())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::external(format!("cannot write {}: {error}", path.display()))
}

fn part_key(hash: &str) -> Key {
    Key::from_iter(["parts", hash])
}

fn line_key(number: u64) -> Key {
    Key::from_iter(["lines".to_string(), format!("{number:020}.json")])
}

#[cfg(test)]
mod tests;
