//! Several processes of one run. Each has workers and reads a share of the sources; rows and answers go between all
//! of them, as timely has it. One of them, the *head* (process 0), also has the sinks, the models, the journal and the
//! checkpoints; the others, its *members*, tell it what only the head can do.
//!
//! | what | how |
//! |---|---|
//! | rows, answers, labels, how far a partition was read | in the dataflow, so they are there before their round is over |
//! | dead letters and late rows, where sources stand | words on one connection, in their order: what was refused is with the sinks before anybody passes the line that counts it as read |
//! | a line | the ingest of worker 0 chooses it and holds its round until every member has heard of it |
//! | windows | each process puts its own into the store and tells the names of the parts |
//!
//! If one process dies the others end: the run goes on from its newest line when all are started again.

mod head;
mod link;
mod member;
mod sockets;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_types::Error;
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Config as Workers, Hooks, WorkerGuards};
use timely::worker::Worker;

pub(super) use self::head::{Head, Hearing, Leading, Network};
pub use self::member::run as run_member;
use self::sockets::DataSocket;
pub use self::sockets::{Members, token};
use super::check::Compiled;
use super::outputs::Aside;
use super::watermarks::Share;
use crate::checkpoint::line::{Given, Round};

/// A word of the head.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Begin, at this line.
    Begin(Option<u64>),
    /// A line was chosen; without a round: it is done, or given up.
    Line(Option<Round>),
    /// The run is to stop.
    Stop,
    /// The run has failed.
    Failed(String),
}

/// A word of a member.
#[derive(Serialize, Deserialize)]
enum Word {
    /// It knows of the line.
    Heard,
    /// What its sources gave that is no use.
    Aside(Aside),
    /// What belongs to a line.
    Given(Given),
    /// Rows that were read since the last look, by source, and how far its workers are.
    Look(Vec<u64>, Share),
    /// Somebody asked it to stop.
    Stop,
    /// It has failed.
    Failed(String),
    /// It has done everything.
    Bye,
}

/// What all processes must agree on besides the token and the hosts.
fn about(compiled: &Compiled, workers: usize) -> String {
    format!("{} {} {workers}", env!("CARGO_PKG_VERSION"), compiled.fingerprint)
}

/// Threads of timely, in one process or as a part of several.
///
/// # Errors
/// Threads that cannot be started.
pub(super) fn execute(
    workers: usize,
    network: Option<Network>,
    work: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<WorkerGuards<()>, Error> {
    let failed = |e: String| Error::internal(format!("the dataflow did not start: {e}"));
    let (builders, others): (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>) = match network {
        None => {
            let config = if workers == 1 { Workers::Thread } else { Workers::Process(workers) };
            config.try_build().map_err(failed)?
        }
        Some((process, data, fate)) => {
            let hooks = Hooks::default();
            let (refill, spill) = (hooks.refill.clone(), hooks.spill.clone());
            let within = ProcessBuilder::new_typed_vector(workers, refill, spill);
            let data = data.into_iter().enumerate().map(|(peer, stream)| {
                stream.map(|stream| DataSocket::new(stream, peer, Arc::clone(&fate)))
            });
            let data = data.collect();
            let network = initialize_networking_from_sockets(within, data, process, workers, hooks);
            let (builders, guard) = network.map_err(|e| failed(e.to_string()))?;
            (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard))
        }
    };
    timely::execute::execute_from(builders, others, WorkerConfig::default(), work).map_err(failed)
}

/// A process that is gone before its time.
fn gone(process: usize, why: &str) -> Error {
    Error::external(format!("process {process} is gone: {why}"))
        .help("start all processes again: the run goes on from its newest checkpoint, or begins anew where there is none yet")
}
