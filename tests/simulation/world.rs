//! What outlives a run that is killed: its disk, the store of its lines, and the topics that it writes to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use object_store::memory::InMemory;
use tempfile::TempDir;
use tidemill::checkpoint::store::Store;
use tidemill_types::Error;

use super::broker::Written;
use super::chance::Chance;
use super::disk::Forgetful;
use super::store::Unreliable;

/// What of the world does not keep its word, in tests of the simulation: it has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The disk forgets contents that it was asked to keep.
    Contents,
    /// The disk forgets names that it was asked to keep.
    Names,
    /// A broker commits what a former owner of the id had sent after it was taken over.
    Fences,
}

/// See the head of this file.
pub struct World {
    folder: TempDir,
    objects: Arc<InMemory>,
    topics: Mutex<BTreeMap<String, Arc<Mutex<Written>>>>,
    disk: Mutex<Arc<Forgetful>>,
    lives: AtomicU64,
    /// What text files have held so far, in whole lines: it has to be made again.
    sent: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What a restart would lose of what had left already.
    wrong: Mutex<Option<String>>,
    broken: Option<Broken>,
    /// Whether each step is told.
    pub verbose: bool,
}

impl World {
    /// Before the first run.
    pub fn new(broken: Option<Broken>, verbose: bool) -> Arc<World> {
        // Thousands of small files want no real disk.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let folder = folder.expect("a folder");
        fs::create_dir(folder.path().join("run")).expect("a folder");
        Arc::new(World {
            folder,
            objects: Arc::default(),
            topics: Mutex::default(),
            disk: Mutex::new(Arc::new(Forgetful::new(broken))),
            lives: AtomicU64::new(0),
            sent: Mutex::default(),
            wrong: Mutex::default(),
            broken,
            verbose,
        })
    }

    /// The run's folder.
    pub fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The number of the life.
    pub fn life(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }

    /// Its disk.
    pub fn disk(&self) -> Arc<Forgetful> {
        Arc::clone(&self.disk.lock().expect("whole"))
    }

    /// Where lines are kept, as a run has it.
    ///
    /// # Errors
    /// No runtime.
    pub fn store(&self, chance: Chance) -> Result<Store, Error> {
        let objects = Unreliable::new(Arc::clone(&self.objects), chance);
        Store::over(Arc::new(objects), None, "memory".to_string())
    }

    /// A topic that is written to.
    pub fn topic(&self, name: &str) -> Arc<Mutex<Written>> {
        Arc::clone(self.topics.lock().expect("whole").entry(name.to_string()).or_default())
    }

    /// What does not keep its word.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// All topics that are written to.
    pub fn topics(&self) -> BTreeMap<String, Vec<String>> {
        let topics = self.topics.lock().expect("whole");
        topics.iter().map(|(n, t)| (n.clone(), t.lock().expect("whole").rows.clone())).collect()
    }

    /// The run is killed now: what of the disk is left is taken down.
    pub fn crash(&self, chance: &mut Chance, at: &str) {
        if self.verbose {
            eprintln!("    killed at {at}");
        }
        self.look();
        self.disk().crash(&self.run(), &self.folder.path().join("left"), chance);
    }

    /// The run that was killed has gone: the next one finds what was left.
    pub fn go_on(&self) {
        let left = self.folder.path().join("left");
        if left.exists() {
            fs::remove_dir_all(self.run()).expect("it goes");
            fs::rename(&left, self.run()).expect("a name");
        }
        let disk = Forgetful::new(self.broken);
        disk.settle(&self.run());
        *self.disk.lock().expect("whole") = Arc::new(disk);
        self.lives.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what text files hold; what they held before must be its beginning, or they are on their way there again.
    pub fn look(&self) {
        let mut sent = self.sent.lock().expect("whole");
        for entry in fs::read_dir(self.run()).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let under_way = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
            let name = under_way.unwrap_or(&name);
            let text = name.ends_with(".jsonl") || name.ends_with(".csv");
            if !text || name.starts_with("late") || name.starts_with("dead") {
                continue;
            }
            let mut bytes = fs::read(&path).expect("a file");
            bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
            let before = sent.entry(name.to_string()).or_default();
            let both = before.len().min(bytes.len());
            let shorter = under_way.is_none() && bytes.len() < before.len();
            if before[..both] != bytes[..both] || shorter {
                let wrong = format!("what {name} had held was not made again");
                self.wrong.lock().expect("whole").get_or_insert(wrong);
            }
            if bytes.len() > before.len() {
                *before = bytes;
            }
        }
    }

    /// What was found to be wrong.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.lock().expect("whole").clone()
    }

    /// How many lines there are.
    ///
    /// # Errors
    /// No runtime.
    pub fn lines(&self) -> Result<usize, Error> {
        let store = Store::over(Arc::clone(&self.objects) as _, None, "memory".to_string())?;
        Ok(store.lines()?.len())
    }
}
