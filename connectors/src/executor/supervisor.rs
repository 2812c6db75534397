//! One task elsewhere, from its file to an answer: attempts are started, watched, given up and repeated
//! here, by the contract of [`crate::task`]. What is special to a peer is behind [`Peer`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Params;
use tidemill_types::Error;
use tidemill_types::task::{
    Artifact, Failure, FailureClass, Limits, Setback, Task, TaskFile, TaskResult, exit,
};

use super::queue::{Carry, cancelled};
use super::{Keys, Setup};
use crate::task::folder::TaskFolder;
use crate::task::policy::{Breaker, Gate, Next, Retry};
use crate::task::{describe, sweep};

/// Whoever starts processes for us. Nothing that it says is the truth about a task: see
/// [`crate::task`].
pub(super) trait Peer: Send + 'static {
    /// Starts an attempt. Starting the same id again starts nothing.
    fn start(&mut self, job: &Job) -> Result<(), Failure>;
    /// What it says of an attempt.
    fn look(&mut self, id: &str) -> Result<Seen, Failure>;
    /// Ends an attempt, as well as it can.
    fn stop(&mut self, id: &str);
    /// Forgets an attempt that ended; where it failed, what it said goes to `log`.
    fn forget(&mut self, id: &str, log: Option<&Path>);
    /// Whether it is well.
    fn probe(&mut self) -> Result<(), Failure>;
}

/// An attempt to be started.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The task and the attempt: `ID-2`.
    pub id: String,
    /// The command line.
    pub command: Vec<String>,
    /// Where output goes, if the peer is on this machine.
    pub log: PathBuf,
    pub limits: Limits,
}

/// What a peer says of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    /// It waits for its turn or its cores.
    Pending,
    Running,
    /// It ended; its exit code, if the peer knows it, and what the peer says about it.
    Ended(Option<i32>, String),
    /// The peer has never heard of it, or no longer.
    Unknown,
}

/// Keys of every executor whose tasks run apart.
pub(super) const KEYS: Keys = &[
    (
        "command",
        "list of texts, none",
        "runs a Rust trainer or a part of a backfill: this program's `train` if not given",
    ),
    (
        "python",
        "list of texts, [\"python3\", \"-m\", \"tidemill_trainer\"]",
        "runs a Python trainer",
    ),
    (
        "code",
        "text, none",
        "identity of the trainer's code, as `tidemill_trainer describe` prints it; other code refuses",
    ),
    ("deadline", "duration, 1h", "an attempt that takes longer is given up"),
    ("heartbeat", "duration, 1s", "how often an attempt shows that it lives"),
    ("silence", "duration, 15s", "an attempt that is silent for so long is lost"),
    ("start_within", "duration, 5m", "an attempt that does not begin in this time is lost"),
    ("retries", "0 to 100, 3", "further attempts where the world is to blame"),
    ("backoff", "duration, 2s", "wait before the second attempt; it doubles"),
    ("poll", "duration, 200ms", "how often an attempt is looked at"),
    ("cpus", "1 to 1024, 1", "cores of an attempt, and threads of a trainer"),
    ("gpus", "0 to 1024, 0", "GPUs to ask a cluster for"),
    (
        "memory",
        "bytes, 2GiB",
        "what an attempt may take; an attempt that wants more is tried once with twice as much",
    ),
];

/// How tasks are run, whoever runs them.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub command: Vec<String>,
    pub python: Vec<String>,
    pub code: Option<String>,
    pub limits: Limits,
    pub silence: Duration,
    pub start_within: Duration,
    pub poll: Duration,
    pub retry: Retry,
}

impl Terms {
    /// Reads [`KEYS`].
    pub fn read(p: &mut Params) -> Terms {
        let words = |found: Option<Vec<tidemill_config::plan::At<String>>>| -> Option<Vec<String>> {
            found.map(|texts| texts.into_iter().map(|text| text.value).collect())
        };
        let command = words(p.optional_texts("command"));
        let python = words(p.optional_texts("python"));
        for (key, empty) in [
            ("command", command.as_ref().is_some_and(Vec::is_empty)),
            ("python", python.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                p.refuse(Diagnostic::new(
                    &(0..0),
                    format!("`{key}` is empty"),
                    "it is a program and its arguments",
                    "leave it out for the default",
                ));
            }
        }
        let mut seconds = |key: &'static str, default: i64| {
            p.optional_period(key).unwrap_or(default) as f64 / 1e6
        };
        const SECOND: i64 = 1_000_000;
        let deadline_s = seconds("deadline", 3_600 * SECOND);
        let heartbeat_s = seconds("heartbeat", SECOND);
        let silence = seconds("silence", 15 * SECOND);
        let start_within = seconds("start_within", 300 * SECOND);
        let base = seconds("backoff", 2 * SECOND);
        let poll = seconds("poll", SECOND / 5);
        let most = p.integer("retries", 3, 0..=100) as u32;
        let cpus = p.integer("cpus", 1, 1..=1_024) as u32;
        let gpus = p.integer("gpus", 0, 0..=1_024) as u32;
        let memory_mb = (p.size("memory", 2 << 30) >> 20).max(1);
        let code = p.optional_text("code").map(|code| code.value);
        let this = || {
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidemill"));
            vec![program.display().to_string(), "train".to_string()]
        };
        let package = || ["python3", "-m", "tidemill_trainer"].map(String::from).to_vec();
        Terms {
            command: command.unwrap_or_else(this),
            python: python.unwrap_or_else(package),
            code,
            limits: Limits { deadline_s, heartbeat_s, cpus, gpus, memory_mb },
            silence: Duration::from_secs_f64(silence),
            start_within: Duration::from_secs_f64(start_within),
            poll: Duration::from_secs_f64(poll),
            retry: Retry { most, base, cap: base.max(120.0) },
        }
    }
}

/// Carries tasks out on a peer.
pub(super) struct Supervisor<P> {
    pub peer: P,
    pub terms: Terms,
    pub setup: Setup,
    /// Where the peer sees the run's folder, if it is not at the same place.
    pub folder_there: Option<PathBuf>,
    pub breaker: Breaker,
    pub began: Instant,
}

impl<P: Peer> Supervisor<P> {
    pub fn new(peer: P, terms: Terms, setup: &Setup, folder_there: Option<PathBuf>) -> Self {
        let mut setup = setup.clone();
        // Processes elsewhere have another working folder.
        setup.folder = std::path::absolute(&setup.folder).unwrap_or(setup.folder);
        let breaker = Breaker::new();
        Supervisor { peer, terms, setup, folder_there, breaker, began: Instant::now() }
    }
}

/// What a failure is called that stands for no attempt at all.
pub(super) const PASSED_OVER: &str = "BREAKER_OPEN";

fn infra(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Infra, code, message)
}

fn disk(error: Error) -> Failure {
    infra("STORE", error.to_string())
}

impl<P: Peer> Carry for Supervisor<P> {
    fn carry(
        &mut self,
        task: &Task,
        given_up: &dyn Fn() -> bool,
        setbacks: &mut Vec<Setback>,
    ) -> Result<Artifact, Failure> {
        let ended = self.carry_out(task, given_up, setbacks);
        // Parts of a backfill are wanted together.
        if let Task::Train(_) = task
            && let Err(error) = sweep(&self.setup.folder)
        {
            tracing::warn!("folders of old trainings stay: {error}");
        }
        ended
    }
}

impl<P: Peer> Supervisor<P> {
    fn carry_out(
        &mut self,
        task: &Task,
        given_up: &dyn Fn() -> bool,
        setbacks: &mut Vec<Setback>,
    ) -> Result<Artifact, Failure> {
        let mut limits = self.terms.limits.clone();
        let code = self.terms.code.clone();
        let file = describe(task, &self.setup.folder, limits.clone(), code).map_err(disk)?;
        let folder = TaskFolder::make(&self.setup.folder, &file).map_err(disk)?;
        folder.renew();
        if let Some(result) = folder.result().map_err(disk)? {
            tracing::info!(task = file.task_id, "this task was done before");
            return folder.artifact(&result).map_err(disk);
        }
        let (mut failed, mut ooms) = (0, 0);
        let (last, open) = folder.lease().map_err(disk)?;
        let mut attempt = last;
        // An engine before this one may have left an attempt that still runs.
        let mut adopt = open;
        loop {
            let ended = if std::mem::take(&mut adopt) {
                self.watch(&file, &folder, attempt, given_up)
            } else {
                attempt += 1;
                self.attempt(&file, &folder, attempt, &limits, given_up)
            };
            let failure = match ended {
                Ok(result) => {
                    self.breaker.success();
                    let accepted = folder.accept(&result).map_err(disk)?;
                    return folder.artifact(&accepted).map_err(disk);
                }
                Err(failure) => failure,
            };
            if failure.code == PASSED_OVER {
                return Err(failure);
            }
            folder.close(attempt).map_err(disk)?;
            failed += 1;
            ooms += u32::from(failure.class == FailureClass::Oom);
            let executor = self.setup.name.clone();
            tracing::warn!(executor, attempt, task = file.task_id, "{failure}");
            let opened = match failure.class {
                FailureClass::Infra => self.breaker.failure(self.began.elapsed().as_secs_f64()),
                // The peer did as it was told.
                FailureClass::Data | FailureClass::Code => {
                    self.breaker.success();
                    false
                }
                _ => false,
            };
            let next = self.terms.retry.next(&file.task_id, failed, failure.class, ooms);
            let Next::Again { after, memory } = next else { return Err(failure) };
            if opened {
                return Err(failure);
            }
            setbacks.push(Setback { executor, attempt, failure });
            limits.memory_mb *= memory;
            let until = Instant::now() + Duration::from_secs_f64(after);
            while Instant::now() < until {
                if given_up() {
                    return Err(cancelled());
                }
                std::thread::sleep(self.terms.poll.min(until - Instant::now()));
            }
        }
    }

    fn attempt(
        &mut self,
        file: &TaskFile,
        folder: &TaskFolder,
        attempt: u32,
        limits: &Limits,
        given_up: &dyn Fn() -> bool,
    ) -> Result<TaskResult, Failure> {
        match self.breaker.gate(self.began.elapsed().as_secs_f64()) {
            Gate::Closed => {}
            Gate::HalfOpen => self.peer.probe()?,
            Gate::Open => {
                let name = &self.setup.name;
                return Err(infra(PASSED_OVER, format!("{name} failed too often of late")));
            }
        }
        // The lease is on the disk before anybody can act on it, and the id before the call: an answer
        // that is lost leaves nothing unknown.
        folder.grant(attempt).map_err(disk)?;
        let there = |path: PathBuf| match &self.folder_there {
            None => path,
            Some(there) => match path.strip_prefix(folder.run()) {
                Ok(inside) => there.join(inside),
                Err(_) => path,
            },
        };
        let python = matches!(&file.task, Task::Train(task) if
            self.setup.python.contains(&task.trainer.as_str()));
        let mut command =
            if python { self.terms.python.clone() } else { self.terms.command.clone() };
        command.push(there(folder.task_json()).display().to_string());
        for (key, value) in [("--attempt", u64::from(attempt)), ("--memory-mb", limits.memory_mb)] {
            command.extend([key.to_string(), value.to_string()]);
        }
        let job = Job {
            id: id(file, attempt),
            command,
            log: folder.attempt(attempt).join("log"),
            limits: limits.clone(),
        };
        self.peer.start(&job)?;
        self.watch(file, folder, attempt, given_up)
    }

    /// Waits for the end of an attempt. It is over when this returns, or closed to all it may still do.
    fn watch(
        &mut self,
        file: &TaskFile,
        folder: &TaskFolder,
        attempt: u32,
        given_up: &dyn Fn() -> bool,
    ) -> Result<TaskResult, Failure> {
        let id = id(file, attempt);
        let ended = self.wait(file, folder, attempt, &id, given_up);
        match &ended {
            Ok(_) => self.peer.forget(&id, None),
            Err(_) => {
                // Closed before it is stopped: a stop may do nothing at all.
                let _ = folder.close(attempt);
                self.peer.stop(&id);
                self.peer.forget(&id, Some(&folder.attempt(attempt).join("log")));
            }
        }
        ended
    }

    fn wait(
        &mut self,
        file: &TaskFile,
        folder: &TaskFolder,
        attempt: u32,
        id: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<TaskResult, Failure> {
        let began = Instant::now();
        let (mut beats, mut heard) = (0, None::<Instant>);
        // What the peer says is asked for less and less often; files are looked at each time.
        let (mut ask, mut pause) = (Instant::now(), self.terms.poll);
        let mut over: Option<(Instant, Option<i32>, String)> = None;
        loop {
            if given_up() {
                let _ = folder.cancel();
                return Err(cancelled());
            }
            match folder.ended(attempt).map_err(disk)? {
                Some(Ok(result)) if result.task_id == file.task_id => return Ok(result),
                Some(Ok(_)) => {
                    return Err(infra(
                        "WRONG_RESULT",
                        "the attempt wrote the result of another task",
                    ));
                }
                Some(Err(failure)) => return Err(failure),
                None => {}
            }
            if let Some(beat) = folder.heartbeat(attempt).filter(|beat| beat.beat != beats) {
                (beats, heard) = (beat.beat, Some(Instant::now()));
            }
            if let Some((at, code, said)) = &over {
                // Files may come a moment after the process is gone, on a shared disk.
                if at.elapsed() > self.terms.poll.min(Duration::from_secs(2)) {
                    return Err(self.of_exit(folder, attempt, *code, said));
                }
            }
            let silent = heard.map_or(began.elapsed(), |at| at.elapsed());
            let allowed =
                if heard.is_some() { self.terms.silence } else { self.terms.start_within };
            if silent > allowed {
                let what = if heard.is_some() { "SILENT" } else { "NOT_STARTED" };
                let s = silent.as_secs_f64();
                return Err(infra(what, format!("the attempt was silent for {s:.1} s")));
            }
            // The runner ends itself at the deadline; one that cannot is ended here.
            if heard.is_some() && began.elapsed().as_secs_f64() > file.limits.deadline_s + 5.0 {
                let s = file.limits.deadline_s;
                let message = format!("the attempt took longer than {s} s");
                return Err(Failure::new(FailureClass::Timeout, "DEADLINE", message));
            }
            if over.is_none() && Instant::now() >= ask {
                // Without an exit code nobody saw it end: a supervisor died, or the peer was started anew. It
                // may live on, which its heartbeat would show.
                let quiet = heard.unwrap_or(began).elapsed() > 3 * self.beat() + QUIET;
                match self.peer.look(id) {
                    Ok(Seen::Ended(Some(code), said)) => {
                        over = Some((Instant::now(), Some(code), said));
                    }
                    Ok(Seen::Ended(None, said)) if quiet => {
                        over = Some((Instant::now(), None, said))
                    }
                    Ok(Seen::Unknown) if quiet => {
                        let message = "nobody knows of the attempt: was the peer started anew?";
                        over = Some((Instant::now(), None, message.to_string()));
                    }
                    // A peer that cannot be asked is none that failed.
                    Ok(_) | Err(_) => {}
                }
                ask = Instant::now() + pause;
                pause = (pause * 3 / 2).min(Duration::from_secs(5).max(self.terms.poll));
            }
            std::thread::sleep(self.terms.poll);
        }
    }

    fn beat(&self) -> Duration {
        Duration::from_secs_f64(self.terms.limits.heartbeat_s)
    }

    /// What the end of a process without a word means.
    fn of_exit(&self, folder: &TaskFolder, attempt: u32, code: Option<i32>, said: &str) -> Failure {
        let log = std::fs::read_to_string(folder.attempt(attempt).join("log")).unwrap_or_default();
        let tail = [log.as_str(), said].map(last_line).into_iter().find(|line| !line.is_empty());
        let tail = tail.map(|line| format!(": {line}")).unwrap_or_default();
        let full = |beat: tidemill_types::task::Heartbeat| {
            beat.peak_mb > 0.9 * self.terms.limits.memory_mb as f64
        };
        match code {
            Some(exit::FENCED) => infra("FENCED", "another attempt had the lease"),
            // Killed, by a signal or through a shell: by the system where memory was short.
            Some(-9 | 137) if folder.heartbeat(attempt).is_some_and(full) => {
                let message = "the attempt was killed when its memory was full";
                Failure::new(FailureClass::Oom, "KILLED", message)
            }
            // Of sysexits: what the runner needed was not there.
            Some(69) => infra("UNAVAILABLE", format!("the runner found no service{tail}")),
            Some(code) if (1..=127).contains(&code) => {
                let message = format!("the runner ended with exit code {code}{tail}");
                Failure::new(FailureClass::Code, "RUNNER_FAILED", message)
            }
            Some(code) => infra("KILLED", format!("the attempt was killed ({code}){tail}")),
            None => infra("LOST", format!("the attempt is lost{tail}")),
        }
    }
}

/// What a heartbeat may be late by.
const QUIET: Duration = Duration::from_secs(1);

fn last_line(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

fn id(file: &TaskFile, attempt: u32) -> String {
    format!("{}-{attempt}", file.task_id)
}
