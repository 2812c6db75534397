//! The runner's side of the contract, for trainers in Rust: what `tidemill train` does.
//!
//! A thread beats beside the training: it shows that the attempt lives and looks whether it still may.
//! Where it may not, it ends the process, whatever the training does: an orphan of a scheduler that
//! died, or of a network that was cut, takes no core for longer than a beat.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tidemill_types::Error;
use tidemill_types::task::{
    Artifact, Failure, FailureClass, Heartbeat, PROTOCOL, TaskFile, TaskResult, Usage, exit,
};

use super::folder::TaskFolder;

/// What a runner is told on its command line.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// The memory that it may take instead of the task's own, in MiB.
    pub memory_mb: Option<u64>,
}

/// Runs one attempt at a task and writes down how it ended; the exit code.
///
/// `train` is given the task and a number of threads. It does not return where the attempt lost its lease,
/// was cancelled, or took too long or too much memory: then the process ends.
///
/// # Errors
/// The task's folder cannot be read or written.
pub fn run(
    folder: &TaskFolder,
    file: &TaskFile,
    attempt: Attempt,
    environment: serde_json::Value,
    train: impl FnOnce(&TaskFile, usize) -> Result<Artifact, Failure>,
) -> Result<i32, Error> {
    let began = Instant::now();
    if folder.lease()? != (attempt.number, true) {
        return Ok(exit::FENCED);
    }
    let beats = start_beating(folder, file, attempt, began)?;
    let trained = train(file, file.limits.cpus.max(1) as usize);
    let _ = beats.send("writing");
    let ended = trained.and_then(|artifact| {
        let sha256 = folder.put(&artifact.bytes).map_err(infra)?;
        let (wall_s, (cpu_s, peak_mb)) = (began.elapsed().as_secs_f64(), usage());
        Ok(TaskResult {
            protocol: PROTOCOL,
            task_id: file.task_id.clone(),
            attempt: attempt.number,
            kind: artifact.kind,
            sha256,
            bytes: artifact.bytes.len() as u64,
            rows: artifact.rows,
            metrics: artifact.metrics,
            usage: Usage { wall_s, cpu_s, peak_mb },
            environment,
        })
    });
    if folder.lease()? != (attempt.number, true) {
        return Ok(exit::FENCED);
    }
    folder.end(attempt.number, &ended)?;
    Ok(if ended.is_ok() { exit::DONE } else { exit::FAILED })
}

fn infra(error: Error) -> Failure {
    Failure::new(FailureClass::Infra, "DISK", error.to_string())
}

fn start_beating(
    folder: &TaskFolder,
    file: &TaskFile,
    attempt: Attempt,
    began: Instant,
) -> Result<Sender<&'static str>, Error> {
    let limits = &file.limits;
    let every = Duration::from_secs_f64(limits.heartbeat_s.clamp(0.01, 60.0));
    // Memory can be gone well within a beat.
    let look = every.min(Duration::from_millis(50));
    let deadline = limits.deadline_s;
    let memory = attempt.memory_mb.unwrap_or(limits.memory_mb);
    let (phases, heard) = channel();
    let (folder, number) = (folder.clone(), attempt.number);
    let beat = move || {
        let mut heartbeat =
            Heartbeat { beat: 0, seconds: 0.0, peak_mb: 0.0, phase: "training".to_string() };
        let mut next = Instant::now();
        loop {
            let seconds = began.elapsed().as_secs_f64();
            let peak_mb = usage().1;
            let give_up = |class, code: &str, message: String, exit: i32| {
                let _ = folder.end(number, &Err(Failure::new(class, code, message)));
                std::process::exit(exit);
            };
            if seconds > deadline {
                let message = format!("the attempt took longer than {deadline} s");
                give_up(FailureClass::Timeout, "DEADLINE", message, exit::TIMEOUT);
            }
            if peak_mb > memory as f64 {
                let message = format!("the attempt took {peak_mb:.0} MiB of the {memory} it may");
                give_up(FailureClass::Oom, "OUT_OF_MEMORY", message, exit::FAILED);
            }
            if Instant::now() >= next {
                next = Instant::now() + every;
                if folder.is_cancelled() {
                    let message = "cancelled".to_string();
                    give_up(FailureClass::Cancelled, "CANCELLED", message, exit::CANCELLED);
                }
                // A folder that cannot be read for a moment is no loss of the lease.
                if folder.lease().is_ok_and(|lease| lease != (number, true)) {
                    std::process::exit(exit::FENCED);
                }
                heartbeat.beat += 1;
                (heartbeat.seconds, heartbeat.peak_mb) = (seconds, peak_mb);
                let _ = folder.beat(number, &heartbeat);
            }
            match heard.recv_timeout(look) {
                Ok(phase) => heartbeat.phase = String::from(phase),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    let started = std::thread::Builder::new().name("heartbeat".to_string()).spawn(beat);
    started.map_err(|e| Error::external(format!("no thread for the heartbeat: {e}")))?;
    Ok(phases)
}

/// Processor seconds and the largest resident memory in MiB so far, where the system tells.
fn usage() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold spaces, the user and system times are the 12th and 13th words,
    // in hundredths of a second.
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|w| w.parse::<f64>().ok()).unwrap_or(0.0);
    ((ticks(11) + ticks(12)) / 100.0, peak.unwrap_or(0.0) / 1024.0)
}
