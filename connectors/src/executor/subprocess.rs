//! `subprocess`: trainings in processes of this machine, one at a time, each in a group of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::task::{Failure, FailureClass};

use super::Entry;
use super::queue::Queue;
use super::supervisor::{self, Job, Peer, Seen, Supervisor, Terms};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "subprocess",
    summary: "trainings in processes of this machine, in Rust or Python",
    keys: supervisor::KEYS,
    apart: true,
    check: |section| terms(section).map(drop),
    open: |section, setup| {
        let terms = terms(section).map_err(keys::error)?;
        Ok(Box::new(Queue::start(Supervisor::new(Processes::default(), terms, setup, None))?))
    },
};

fn terms(section: &Section) -> Result<Terms, Vec<Diagnostic>> {
    let mut params = section.params();
    let terms = Terms::read(&mut params);
    params.finish()?;
    Ok(terms)
}

#[derive(Default)]
struct Processes(BTreeMap<String, Child>);

impl Peer for Processes {
    fn start(&mut self, job: &Job) -> Result<(), Failure> {
        if self.0.contains_key(&job.id) {
            return Ok(());
        }
        let Some((program, arguments)) = job.command.split_first() else {
            return Err("the command is empty".to_string().into());
        };
        let disk = |e: std::io::Error| {
            let message = format!("cannot write {}: {e}", job.log.display());
            Failure::new(FailureClass::Infra, "STORE", message)
        };
        let log = File::create(&job.log).map_err(disk)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(disk)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|e| {
                let message = format!(
                    "cannot start `{program}`: {e} (install it, or name another with `command` or `python`)"
                );
                Failure::new(FailureClass::Code, "NO_RUNNER", message)
            })?;
        self.0.insert(job.id.clone(), child);
        Ok(())
    }

    fn look(&mut self, id: &str) -> Result<Seen, Failure> {
        let Some(child) = self.0.get_mut(id) else { return Ok(Seen::Unknown) };
        match child.try_wait() {
            Ok(None) => Ok(Seen::Running),
            Ok(Some(status)) => {
                let code = status.code().or(status.signal().map(|signal| -signal));
                Ok(Seen::Ended(code, String::new()))
            }
            Err(e) => Err(e.to_string().into()),
        }
    }

    fn stop(&mut self, id: &str) {
        if let Some(child) = self.0.get_mut(id) {
            kill_group(child);
        }
    }

    fn forget(&mut self, id: &str, _: Option<&Path>) {
        if let Some(mut child) = self.0.remove(id) {
            // A runner that wrote its result is about to end by itself.
            let _ = child.wait();
        }
    }

    fn probe(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.0.values_mut() {
            kill_group(child);
            let _ = child.wait();
        }
    }
}

/// Ends a process and its children. The shell's own `kill` does it: the standard library knows no groups,
/// and a crate for one system call is not worth its weight. Spelt so, every shell takes it.
fn kill_group(child: &mut Child) {
    let group = format!("kill -s KILL -- -{}", child.id());
    let _ = Command::new("sh").args(["-c", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
}
