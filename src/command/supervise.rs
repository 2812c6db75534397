//! `tidemill run --processes N`: starts the processes of a run on this machine and begins again when one dies.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidemill_types::Error;

use super::{Failure, Said};
use crate::checkpoint::points;
use crate::serve::signals;

/// The variable of the environment that says who belongs to a run.
pub(super) const TOKEN: &str = "TIDEMILL_TOKEN";
/// Set for processes that end with their supervisor.
const SUPERVISED: &str = "TIDEMILL_SUPERVISED";

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long the others may take to end by themselves when one has.
const SETTLE: Duration = Duration::from_secs(10);
/// So many deaths within [`WHILE`] are no accident.
const DEATHS: usize = 10;
const WHILE: Duration = Duration::from_secs(600);

/// A program that was started with a pipe ends when nobody holds the other end any more, however that came.
///
/// # Errors
/// No thread is to be had.
pub(super) fn end_with_supervisor() -> Result<(), Error> {
    if std::env::var_os(SUPERVISED).is_none() {
        return Ok(());
    }
    let watch = || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(69);
    };
    let thread = std::thread::Builder::new().name("supervisor".to_string()).spawn(watch);
    thread.map(drop).map_err(|e| Error::external(format!("no thread to watch the supervisor: {e}")))
}

/// Starts the processes, and again whenever one of them was killed. They say themselves what there is to say.
pub(super) fn run(processes: u16) -> Result<Said, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signal(&stop)?;
    let mut deaths: Vec<Instant> = Vec::new();
    let mut first = true;
    loop {
        let mut group = Group::start(processes, first)?;
        first = false;
        match group.watch(&stop)? {
            Ended::All => return Err(Failure::Said(0)),
            Ended::Failed(code) => return Err(Failure::Said(code)),
            Ended::Died(process, how) => {
                deaths.retain(|death| death.elapsed() < WHILE);
                deaths.push(Instant::now());
                if deaths.len() >= DEATHS {
                    let why =
                        format!("process {process} died: {how}; {DEATHS} deaths in ten minutes");
                    return Err(Error::external(why)
                        .help("look at what kills it: memory, for example")
                        .into());
                }
                if stop.load(Ordering::SeqCst) {
                    return Err(Error::external(format!("process {process} died: {how}")).into());
                }
                eprintln!(
                    "process {process} died ({how}); all begin again at the newest checkpoint"
                );
                std::thread::sleep(Duration::from_millis(50 << deaths.len().min(7)));
            }
        }
    }
}

/// How the processes ended.
enum Ended {
    All,
    /// By themselves, with an exit code.
    Failed(u8),
    /// One was killed.
    Died(usize, String),
}

/// The processes of one try; what is left of them is killed with this value.
struct Group(Vec<Child>);

impl Group {
    fn start(processes: u16, first: bool) -> Result<Group, Error> {
        let failed = |e: std::io::Error| Error::external(format!("cannot start a process: {e}"));
        let program = std::env::current_exe().map_err(failed)?;
        let hosts = free(processes).map_err(failed)?.join(",");
        // Nobody else on this machine is to join.
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        let token = token.map_or_else(crate::engine::cluster::token, Ok).map_err(failed)?;
        let mut group = Group(Vec::new());
        for process in 0..processes {
            let mut command = Command::new(&program);
            command.args(arguments()).arg("--hosts").arg(&hosts);
            command.arg("--process").arg(process.to_string());
            command.env(TOKEN, &token).env(SUPERVISED, "1").stdin(Stdio::piped());
            if process > 0 {
                command.stdout(Stdio::null());
            }
            if !first {
                // What is to happen once has happened.
                command.env_remove(points::VARIABLE);
            }
            let child = command.spawn().map_err(failed)?;
            tracing::debug!(process, id = child.id(), "started");
            group.0.push(child);
        }
        Ok(group)
    }

    fn watch(&mut self, stop: &AtomicBool) -> Result<Ended, Error> {
        let failed = |e: std::io::Error| Error::internal(format!("waiting for a process: {e}"));
        let (mut stopped, mut over) = (false, None);
        loop {
            if stop.load(Ordering::SeqCst) && !std::mem::replace(&mut stopped, true) {
                // The first has the others stop. From a terminal all of them have heard it too.
                if let Some(head) = self.0.first() {
                    let id = head.id().to_string();
                    let _ = Command::new("kill").args(["-TERM", &id]).status();
                }
            }
            let ended = self.0.iter_mut().map(Child::try_wait).collect::<Result<Vec<_>, _>>();
            let ended: Vec<Option<ExitStatus>> = ended.map_err(failed)?;
            let killed = |status: &ExitStatus| status.signal();
            let died = ended
                .iter()
                .enumerate()
                .find_map(|(process, status)| Some((process, status.as_ref().and_then(killed)?)));
            if let Some((process, signal)) = died {
                return Ok(Ended::Died(process, format!("signal {signal}")));
            }
            let codes: Vec<i32> = ended.iter().flatten().filter_map(ExitStatus::code).collect();
            let all = codes.len() == self.0.len();
            if all && codes.iter().all(|code| *code == 0) {
                return Ok(Ended::All);
            }
            // One that failed may have done so because another was killed, which shows a little later.
            if let Some(code) = codes.iter().find(|code| **code != 0) {
                let since = *over.get_or_insert_with(Instant::now);
                if all || since.elapsed() > SETTLE {
                    return Ok(Ended::Failed(u8::try_from(*code).unwrap_or(70)));
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What this program was given, without what makes it the supervisor.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut kept = Vec::new();
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--processes" {
            given.next();
        } else if !argument.to_string_lossy().starts_with("--processes=") {
            kept.push(argument);
        }
    }
    kept
}

/// Addresses of this machine that were free a moment ago.
fn free(many: u16) -> std::io::Result<Vec<String>> {
    let held = (0..many).map(|_| TcpListener::bind("127.0.0.1:0"));
    let held = held.collect::<std::io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}
