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

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error as Refusal, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tidemill_config::plan::StorePlan;
use tidemill_connectors::disk;
use tidemill_types::Error;
use tokio::task::JoinSet;

use super::bucket;
use super::manifest::{Manifest, Part, sha256};
use super::{points, section};

/// A store of lines. One thread writes to it.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The folder, where it is one: what is written there is synced.
    folder: Option<PathBuf>,
    /// For people, and what to do where it fails.
    name: String,
    help: &'static str,
    runtime: tokio::runtime::Runtime,
    /// Parts on their way to a store that is far away.
    under_way: RefCell<JoinSet<Result<(), Error>>>,
}

/// Parts that are read or sent at once: what a bucket takes is mostly the way to it.
const AT_ONCE: usize = 8;
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

/// What to do where the disk is full: a run goes on without a line.
const ROOM: &str = "make room on the disk: the run goes on, and the checkpoint before stands";

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
    /// The store of a run in this folder.
    ///
    /// # Errors
    /// See [`Store::local`] and [`bucket::open`].
    pub fn open(plan: &StorePlan, run: &Path) -> Result<Store, Error> {
        match plan {
            StorePlan::Folder(folder) => Store::local(&run.join(folder)),
            StorePlan::Bucket(plan) => {
                let objects = bucket::open(plan)?;
                // Parts go there while the next ones are made.
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(1).thread_name("checkpoint store");
                let store = Store::on(runtime, objects, None, bucket::name(plan))?;
                Ok(Store { help: bucket::HELP, ..store })
            }
        }
    }

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

    /// A store over any objects, whose requests are made by whoever waits for them.
    ///
    /// # Errors
    /// A system without an event queue to spare.
    pub fn over(
        objects: Arc<dyn ObjectStore>,
        folder: Option<PathBuf>,
        name: String,
    ) -> Result<Store, Error> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Store::on(&mut runtime, objects, folder, name)
    }

    fn on(
        runtime: &mut tokio::runtime::Builder,
        objects: Arc<dyn ObjectStore>,
        folder: Option<PathBuf>,
        name: String,
    ) -> Result<Store, Error> {
        let runtime = runtime.enable_all().build();
        let runtime = runtime.map_err(|e| Error::external(format!("no runtime: {e}")))?;
        let help = "look at the disk, or set `store` of [checkpoint] to another folder";
        Ok(Store { objects, folder, name, help, runtime, under_way: RefCell::default() })
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packs and keeps a part, unless it is there. Into a folder it is written when this returns; to a bucket it
    /// is on its way, up to [`AT_ONCE`] of them: [`Store::settle`] waits for all.
    ///
    /// # Errors
    /// A store that does not take it, or has not taken one before.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<Part, Error> {
        let packed = section::pack(content).map_err(Error::internal)?;
        let (hash, bytes) = (sha256(&packed), packed.len() as u64);
        let key = part_key(&hash);
        let part = Part { name: name.to_string(), hash, bytes };
        let Some(folder) = &self.folder else {
            self.send(key, packed)?;
            return Ok(part);
        };
        // Looked at and not only found: one that the disk has damaged would be so in every line to come.
        if self.read(&key).is_ok_and(|found| sha256(&found) == part.hash) {
            return Ok(part);
        }
        let put = self.runtime.block_on(self.objects.put(&key, packed.into()));
        put.map_err(|e| self.failed("write", &key, &e))?;
        let path = folder.join(key.as_ref());
        sync(&path).map_err(|e| cannot_write(&path, &e))?;
        Ok(part)
    }

    /// Has a part go to a store that is far away, as soon as there is room.
    fn send(&self, key: Key, packed: Vec<u8>) -> Result<(), Error> {
        let mut under_way = self.under_way.borrow_mut();
        while under_way.len() >= AT_ONCE {
            self.runtime.block_on(arrived(&mut under_way))?;
        }
        let (objects, whole) = (Arc::clone(&self.objects), packed.len() as u64);
        let failed = self.failing("write", &key);
        let send = async move {
            // What is there under this name and as long is this.
            if objects.head(&key).await.is_ok_and(|found| found.size == whole) {
                return Ok(());
            }
            objects.put(&key, packed.into()).await.map(drop).map_err(|e| failed(&e))
        };
        under_way.spawn_on(send, self.runtime.handle());
        Ok(())
    }

    /// Waits until all parts that were put are there for good.
    ///
    /// # Errors
    /// A store that has not taken one, a disk that does not take their names: what was put since is to be put
    /// again.
    pub fn settle(&self) -> Result<(), Error> {
        let mut under_way = self.under_way.borrow_mut();
        let mut settled = Ok(());
        while !under_way.is_empty() {
            settled = settled.and(self.runtime.block_on(arrived(&mut under_way)));
        }
        settled?;
        let parts = self.folder.as_ref().map(|folder| folder.join("parts"));
        let parts = parts.filter(|parts| parts.exists());
        parts.map_or(Ok(()), |parts| sync(&parts).map_err(|e| cannot_write(&parts, &e)))
    }

    /// Contents of parts in their order, checked; some are read at once.
    ///
    /// # Errors
    /// A part that is gone, cut off or changed; a store that does not answer.
    pub fn get<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> Result<Vec<Vec<u8>>, Unusable> {
        let read = |part: &Part| {
            let (key, part) = (part_key(&part.hash), part.clone());
            let (objects, failed) = (Arc::clone(&self.objects), self.failing("read", &key));
            let whole = format!("{}/{key}", self.name);
            async move {
                let bytes = async { objects.get(&key).await?.bytes().await };
                let bytes = bytes.await.map_err(|error| unusable(&error, failed(&error)))?;
                let check = move || checked(&bytes, &part, &whole).map_err(Unusable::Damaged);
                let checked = tokio::task::spawn_blocking(check).await;
                checked.map_err(|e| {
                    Unusable::Silent(Error::internal(format!("reading a part: {e}")))
                })?
            }
        };
        let reads: Vec<_> = parts.into_iter().map(read).collect();
        self.runtime.block_on(stream::iter(reads).buffered(AT_ONCE).try_collect())
    }

    /// Looks whether parts that another process has put are there.
    ///
    /// # Errors
    /// One that is not.
    pub fn has(&self, parts: &[Part]) -> Result<(), Error> {
        let look = |part: &Part| {
            let (objects, key) = (Arc::clone(&self.objects), part_key(&part.hash));
            let failed = self.failing("find", &key);
            async move { objects.head(&key).await.map(drop).map_err(|e| failed(&e)) }
        };
        let looks: Vec<_> = parts.iter().map(look).collect();
        let all = stream::iter(looks).buffered(AT_ONCE).try_collect::<Vec<()>>();
        self.runtime.block_on(all).map(drop).map_err(|error| {
            error.help("all processes of a run keep checkpoints in one place: a folder that all see, or a bucket")
        })
    }

    /// Makes a manifest stand, if there is none of its number.
    ///
    /// # Errors
    /// A store that does not take it; one that has a line of that number, which another run made.
    pub fn commit(&self, line: &Manifest) -> Result<(), Error> {
        let key = line_key(line.line);
        let text = line.encode().map_err(Error::internal)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.runtime.block_on(self.objects.put_opts(&key, text.clone().into(), options)) {
            Ok(_) => self.sync(&key),
            // A request whose answer was lost is sent again, and finds what it had made.
            Err(Refusal::AlreadyExists { .. })
                if self.folder.is_none() && self.read(&key).is_ok_and(|it| it == text) =>
            {
                Ok(())
            }
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
            Err(error) => Err(unusable(&error, self.failed("read", key, &error))),
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

    fn failed(&self, what: &'static str, key: &Key, error: &Refusal) -> Error {
        self.failing(what, key)(error)
    }

    /// What a request that fails is told as.
    fn failing(&self, what: &'static str, key: &Key) -> impl Fn(&Refusal) -> Error + use<> {
        let (place, help) = (format!("{}/{key}", self.name), self.help);
        move |error| {
            let help = if is_full(error) { ROOM } else { help };
            Error::external(format!("cannot {what} {place}: {error}")).help(help)
        }
    }
}

/// What is gone is gone; anything else may pass.
fn unusable(why: &Refusal, error: Error) -> Unusable {
    match why {
        Refusal::NotFound { .. } => Unusable::Damaged(error),
        _ => Unusable::Silent(error),
    }
}

/// The next part has arrived, or has not.
async fn arrived(under_way: &mut JoinSet<Result<(), Error>>) -> Result<(), Error> {
    match under_way.join_next().await {
        None => Ok(()),
        Some(sent) => sent.map_err(|e| Error::internal(format!("sending a part: {e}")))?,
    }
}

/// A part's content, if these are its bytes.
fn checked(bytes: &[u8], part: &Part, place: &str) -> Result<Vec<u8>, Error> {
    let broken = |why: &str| {
        Error::external(format!("{place}, the part `{}`, is damaged: {why}", part.name))
    };
    if sha256(bytes) != part.hash {
        return Err(broken("its hash is another one"));
    }
    section::unpack(bytes).map_err(|why| broken(&why))
}

fn sync(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path).and_then(|file| file.sync_all())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    let said = disk::cannot("write", path, error);
    if disk::is_full(error) { said.help(ROOM) } else { said }
}

/// Whether a folder refuses for want of room.
fn is_full(error: &Refusal) -> bool {
    let mut below: Option<&dyn std::error::Error> = Some(error);
    while let Some(why) = below {
        if why.downcast_ref().is_some_and(disk::is_full) {
            return true;
        }
        below = why.source();
    }
    false
}

fn part_key(hash: &str) -> Key {
    Key::from_iter(["parts", hash])
}

fn line_key(number: u64) -> Key {
    Key::from_iter(["lines".to_string(), format!("{number:020}.json")])
}

#[cfg(test)]
mod tests;
