//! The folder of one task, as the engine and as a runner see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tidemill_types::Error;
use tidemill_types::schema::hex;
use tidemill_types::task::{Artifact, Failure, Heartbeat, TaskFile, TaskResult};

use super::file::{failed, json, read, replace, write_once};

/// `RUN/tasks/ID`.
#[derive(Clone, Debug)]
pub struct TaskFolder {
    path: PathBuf,
}

impl TaskFolder {
    /// The folder of a task in a run's folder; writes `task.json` if nobody has.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn make(run: &Path, task: &TaskFile) -> Result<TaskFolder, Error> {
        let path = run.join("tasks").join(&task.task_id);
        fs::create_dir_all(&path).map_err(|e| failed("make", &path, &e))?;
        write_once(&path.join("task.json"), &json(task)?)?;
        Ok(TaskFolder { path })
    }

    /// The folder in which this `task.json` stands, and what it asks for.
    ///
    /// # Errors
    /// No such file, or one of another form.
    pub fn of(task_json: &Path) -> Result<(TaskFolder, TaskFile), Error> {
        let file: Option<TaskFile> = read(task_json)?;
        let file = file.ok_or_else(|| {
            Error::user(format!("there is no task at {}", task_json.display()))
                .help("name the `task.json` of a task, below `tasks` of a run's folder")
        })?;
        if file.protocol != tidemill_types::task::PROTOCOL {
            return Err(Error::user(format!("the task is of protocol {}", file.protocol))
                .help("run it with the version of Tidemill that wrote it"));
        }
        let full = fs::canonicalize(task_json).map_err(|e| failed("find", task_json, &e))?;
        let path = full.parent().unwrap_or(Path::new("/")).to_path_buf();
        Ok((TaskFolder { path }, file))
    }

    /// One that is there.
    pub(super) fn at(path: PathBuf) -> TaskFolder {
        TaskFolder { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When a file last came to it or to its newest attempt, which shows that it lives.
    pub(super) fn last_touched(&self) -> Option<SystemTime> {
        let touched = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let attempt = self.lease().ok().map(|(attempt, _)| self.attempt(attempt));
        touched(&self.path).max(attempt.and_then(|path| touched(&path)))
    }

    /// Whether nobody is at work on it any more: it has its answer, or no attempt may give one.
    pub(super) fn has_ended(&self) -> bool {
        self.path.join("result.json").exists() || !self.lease().is_ok_and(|(_, open)| open)
    }

    /// `task.json`.
    pub fn task_json(&self) -> PathBuf {
        self.path.join("task.json")
    }

    /// The run's folder, where the paths of inputs start.
    pub fn run(&self) -> &Path {
        self.path.parent().and_then(Path::parent).unwrap_or(&self.path)
    }

    /// The folder of an attempt.
    pub fn attempt(&self, attempt: u32) -> PathBuf {
        self.path.join(format!("attempt-{attempt}"))
    }

    /// The newest attempt that was given a lease, and whether it still holds it; attempt 0 if there was
    /// none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn lease(&self) -> Result<(u32, bool), Error> {
        let path = self.path.join("lease");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((0, false)),
            Err(e) => return Err(failed("read", &path, &e)),
        };
        let mut words = text.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let number = number.ok_or_else(|| {
            Error::external(format!("{} holds no number", path.display()))
                .help("somebody else writes into this folder: give the run one of its own")
        })?;
        Ok((number, words.next().is_none()))
    }

    /// Gives an attempt the right to answer, and makes its folder. The one before has lost it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn grant(&self, attempt: u32) -> Result<(), Error> {
        let folder = self.attempt(attempt);
        fs::create_dir_all(&folder).map_err(|e| failed("make", &folder, &e))?;
        replace(&self.path.join("lease"), format!("{attempt}\n").as_bytes())
    }

    /// Takes the right to answer away from an attempt: from now on nobody reads what it writes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn close(&self, attempt: u32) -> Result<(), Error> {
        replace(&self.path.join("lease"), format!("{attempt} closed\n").as_bytes())
    }

    /// Tells all attempts that nobody wants an answer.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn cancel(&self) -> Result<(), Error> {
        write_once(&self.path.join("cancel"), b"cancelled\n").map(drop)
    }

    /// Whether the task was given up.
    pub fn is_cancelled(&self) -> bool {
        self.path.join("cancel").exists()
    }

    /// Takes a cancellation back: a task that was given up is asked for again.
    pub fn renew(&self) {
        let _ = fs::remove_file(self.path.join("cancel"));
    }

    /// The answer that was accepted, if any.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn result(&self) -> Result<Option<TaskResult>, Error> {
        read(&self.path.join("result.json"))
    }

    /// Accepts the answer of an attempt: the first one accepted is the task's for good.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn accept(&self, result: &TaskResult) -> Result<TaskResult, Error> {
        write_once(&self.path.join("result.json"), &json(result)?)?;
        self.result()?.ok_or_else(|| Error::external("a result that was written is gone"))
    }

    /// How an attempt ended, if it has.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn ended(&self, attempt: u32) -> Result<Option<Result<TaskResult, Failure>>, Error> {
        let folder = self.attempt(attempt);
        if let Some(result) = read::<TaskResult>(&folder.join("result.json"))? {
            return Ok(Some(Ok(result)));
        }
        Ok(read::<Failure>(&folder.join("failure.json"))?.map(Err))
    }

    /// Writes down how an attempt ended; false if it had ended already.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn end(&self, attempt: u32, how: &Result<TaskResult, Failure>) -> Result<bool, Error> {
        let folder = self.attempt(attempt);
        match how {
            Ok(result) => write_once(&folder.join("result.json"), &json(result)?),
            Err(failure) => write_once(&folder.join("failure.json"), &json(failure)?),
        }
    }

    /// The newest heartbeat of an attempt.
    pub fn heartbeat(&self, attempt: u32) -> Option<Heartbeat> {
        // One that cannot be read is one that is not there: the silence is what counts.
        read(&self.attempt(attempt).join("heartbeat.json")).ok().flatten()
    }

    /// Shows that an attempt lives.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn beat(&self, attempt: u32, beat: &Heartbeat) -> Result<(), Error> {
        replace(&self.attempt(attempt).join("heartbeat.json"), &json(beat)?)
    }

    /// Stores an artifact; its SHA-256.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let hash = hex(&Sha256::digest(bytes));
        let path = self.blob(&hash);
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(hash);
        }
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(|e| failed("make", folder, &e))?;
        replace(&path, bytes)?;
        Ok(hash)
    }

    /// Stores a file of this disk under its SHA-256, which the caller has taken while it wrote it.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn put_file(&self, file: &Path, sha256: &str) -> Result<(), Error> {
        let path = self.blob(sha256);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(|e| failed("make", folder, &e))?;
        fs::rename(file, &path).map_err(|e| failed("write", &path, &e))
    }

    /// Where what has this SHA-256 is stored.
    pub fn blob(&self, hash: &str) -> PathBuf {
        let tasks = self.path.parent().unwrap_or(&self.path);
        tasks.join("blobs").join(hash.get(..2).unwrap_or("_")).join(hash)
    }

    /// The artifact of a result, checked.
    ///
    /// # Errors
    /// It is gone or was changed.
    pub fn artifact(&self, result: &TaskResult) -> Result<Artifact, Error> {
        let hash = &result.sha256;
        let good = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let path = self.blob(if good { hash } else { "" });
        let bytes = fs::read(&path).map_err(|e| failed("read the artifact", &path, &e))?;
        if hex(&Sha256::digest(&bytes)) != *hash {
            let path = path.display();
            return Err(Error::external(format!("the artifact {path} is not what was written"))
                .help("remove the task's folder: it is then run again"));
        }
        let (kind, rows) = (result.kind.clone(), result.rows);
        Ok(Artifact { kind, bytes, rows, metrics: result.metrics.clone() })
    }
}
