//! Python with packages, for oracles and official clients. Environments are kept outside the clone,
//! in `$TIDEMILL_CACHE/python` or `$HOME/.cache/tidemill/python`, named by what is in them.
#![allow(dead_code)]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

/// The interpreter of an environment that has these packages, one requirement a line.
pub fn command(name: &str, requirements: &str) -> Command {
    let cache = match (std::env::var_os("TIDEMILL_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache/tidemill"),
        (None, None) => std::env::temp_dir().join("tidemill-cache"),
    }
    .join("python");
    let mut hash = DefaultHasher::new();
    requirements.hash(&mut hash);
    let folder = cache.join(format!("{name}-{:016x}", hash.finish()));
    let ready = folder.join("ready");
    if !ready.exists() {
        fs::create_dir_all(&cache).expect("a folder for environments");
        let lock = File::create(folder.with_extension("lock")).expect("a lock file");
        lock.lock().expect("the lock on the environment");
        if !ready.exists() {
            let _ = fs::remove_dir_all(&folder);
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            let packages = requirements.split_whitespace();
            let pip = folder.join("bin/pip");
            run(Command::new(pip).args(["install", "--quiet", "--no-input"]).args(packages));
            File::create(&ready).expect("a mark that the environment is whole");
        }
    }
    Command::new(folder.join("bin/python"))
}

fn run(command: &mut Command) {
    let done = command.output().expect("python3 with venv, of the package python3-venv");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}
