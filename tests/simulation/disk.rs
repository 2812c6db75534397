//! A disk that forgets: files are real ones in a folder of their own, and a crash keeps of each only what was asked to be
//! durable, and by chance some of what was written behind that. A name that is new and whose folder was not asked for is
//! gone by chance, or the old one again.
//!
//! Not modelled: names that were removed and come back, and a file in whose place another was renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use tidemill_connectors::disk::Disk;

use super::chance::Chance;
use super::world::Broken;

/// A file whatever its name is. Inodes are used again, so that the time at which it was made belongs to it.
type Identity = (u64, Option<SystemTime>);

fn identity(of: &Metadata) -> Identity {
    (of.ino(), of.created().ok())
}

/// What was asked for of a folder's names.
type Names = BTreeMap<OsString, Identity>;

#[derive(Default)]
struct Durable {
    /// So many bytes of a file.
    bytes: BTreeMap<Identity, u64>,
    names: BTreeMap<PathBuf, Names>,
}

/// See the head of this file.
pub struct Forgetful {
    durable: Mutex<Durable>,
    broken: Option<Broken>,
}

impl Disk for Forgetful {
    fn content(&self, file: &File) -> io::Result<()> {
        if self.broken != Some(Broken::Contents) {
            let of = file.metadata()?;
            self.durable.lock().expect("whole").bytes.insert(identity(&of), of.len());
        }
        Ok(())
    }

    fn names(&self, folder: &Path) -> io::Result<()> {
        if self.broken == Some(Broken::Names) {
            return Ok(());
        }
        let names = names(folder)?;
        self.durable.lock().expect("whole").names.insert(folder.to_path_buf(), names);
        Ok(())
    }

    fn cut(&self, file: &File, bytes: u64) -> io::Result<()> {
        let mut durable = self.durable.lock().expect("whole");
        if let Some(known) = durable.bytes.get_mut(&identity(&file.metadata()?)) {
            *known = bytes.min(*known);
        }
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        names.insert(entry.file_name(), identity(&entry.metadata()?));
    }
    Ok(names)
}

impl Forgetful {
    /// An empty disk.
    pub fn new(broken: Option<Broken>) -> Forgetful {
        Forgetful { durable: Mutex::default(), broken }
    }

    /// Everything in a folder is durable: it has been there for long.
    pub fn settle(&self, folder: &Path) {
        let found = names(folder).expect("a folder");
        let mut below = Vec::new();
        for name in found.keys() {
            let path = folder.join(name);
            let of = fs::metadata(&path).expect("it is there");
            if of.is_dir() {
                below.push(path);
            } else {
                self.durable.lock().expect("whole").bytes.insert(identity(&of), of.len());
            }
        }
        self.durable.lock().expect("whole").names.insert(folder.to_path_buf(), found);
        below.iter().for_each(|folder| self.settle(folder));
    }

    /// Copies to `to` what a crash leaves of `from`.
    pub fn crash(&self, from: &Path, to: &Path, chance: &mut Chance) {
        // A power cut loses what nobody asked for; a process that is killed loses nothing.
        let cut = !chance.once_in(3);
        fs::create_dir_all(to).expect("a folder");
        self.leave(from, to, cut, chance);
    }

    fn leave(&self, from: &Path, to: &Path, cut: bool, chance: &mut Chance) {
        let found = names(from).expect("a folder");
        let (durable, bytes) = {
            let durable = self.durable.lock().expect("whole");
            (durable.names.get(from).cloned().unwrap_or_default(), durable.bytes.clone())
        };
        let mut taken: BTreeSet<OsString> = BTreeSet::new();
        for (name, of) in &found {
            let path = from.join(name);
            if fs::metadata(&path).expect("it is there").is_dir() {
                // A folder is not lost: what makes one writes a file into it and asks for that.
                fs::create_dir_all(to.join(name)).expect("a folder");
                self.leave(&path, &to.join(name), cut, chance);
                continue;
            }
            let mut now = name.clone();
            if cut
                && durable.get(name) != Some(of)
                && !durable.contains_key(name)
                && chance.once_in(2)
            {
                let before = durable.iter().find(|(_, was)| *was == of).map(|(name, _)| name);
                match before.filter(|before| !found.contains_key(*before)) {
                    Some(before) => now = before.clone(),
                    None => continue,
                }
            }
            if !taken.insert(now.clone()) {
                continue;
            }
            let mut content = fs::read(&path).expect("a file");
            let safe = bytes.get(of).copied().unwrap_or(0).min(content.len() as u64);
            if cut && safe < content.len() as u64 {
                let behind = content.len() as u64 - safe;
                let left = match chance.below(4) {
                    0 => 0,
                    1 => behind,
                    _ => chance.below(behind + 1),
                };
                content.truncate((safe + left) as usize);
            }
            fs::write(to.join(now), content).expect("a file");
        }
    }
}
