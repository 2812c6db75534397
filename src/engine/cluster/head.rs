//! The head: it hears what members have to say, and tells them what the run does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemill_types::Error;

use super::link::{self, Link};
use super::sockets::{self, Fate, Members, Sockets};
use super::{Order, Word, about, gone};
use crate::checkpoint::line::{Gift, Given, SharedLines};
use crate::engine::check::Compiled;
use crate::engine::ingest::Shared;
use crate::engine::outputs::Outputs;

/// How long members may take to say that they have done everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members that have said their last word, and who waits for it.
type Farewells = (Mutex<BTreeSet<usize>>, Condvar);

/// The head of several processes.
pub struct Head {
    members: usize,
    sockets: Sockets,
}

/// What words of members are about.
pub struct Hearing {
    /// Where they say what was refused.
    pub outputs: Outputs,
    /// What the run shares.
    pub shared: Arc<Shared>,
    /// Rows read, by source.
    pub rows: Vec<Arc<AtomicU64>>,
    /// Who makes lines, if anybody does.
    pub lines: Option<SharedLines>,
}

/// The head while the run is on.
pub struct Leading {
    links: Vec<Link<Order>>,
    farewells: Arc<Farewells>,
    stopped: AtomicBool,
}

/// What the dataflow needs of the network.
pub type Network = (usize, Vec<Option<std::net::TcpStream>>, Arc<Fate>);

impl Head {
    /// Waits for all members.
    ///
    /// # Errors
    /// Members that do not come, an address that cannot be listened at.
    pub fn open(
        members: &Members,
        compiled: &Compiled,
        workers: usize,
        stop: &AtomicBool,
    ) -> Result<Head, Error> {
        let sockets = sockets::connect(members, &about(compiled, workers), stop)?;
        tracing::info!(processes = members.hosts.len(), "all processes are there");
        Ok(Head { members: members.hosts.len() - 1, sockets })
    }

    /// How many processes there are besides.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Has the members begin, at this line.
    ///
    /// # Errors
    /// No threads are to be had.
    pub fn begin(self, line: Option<u64>, hearing: Hearing) -> Result<(Leading, Network), Error> {
        let Hearing { outputs, shared, rows, lines } = hearing;
        let farewells: Arc<Farewells> = Arc::default();
        let mut links = Vec::new();
        for (process, stream) in self.sockets.words {
            let (outputs, lines) = (outputs.clone(), lines.clone());
            let (shared, farewells) = (Arc::clone(&shared), Arc::clone(&farewells));
            let rows = rows.clone();
            let heard = move |word: Result<Word, String>| match word {
                Ok(Word::Heard) => lines.iter().for_each(|lines| lines.heard()),
                Ok(Word::Aside(aside)) => outputs.aside(aside),
                Ok(Word::Given(given)) => {
                    lines.iter().for_each(|lines| give(lines, process, &given));
                }
                Ok(Word::Look(read, share)) => {
                    for (all, read) in rows.iter().zip(read) {
                        all.fetch_add(read, Ordering::Relaxed);
                    }
                    shared.watermarks.take(share);
                }
                Ok(Word::Stop) => shared.stop.store(true, Ordering::SeqCst),
                Ok(Word::Failed(why)) => {
                    shared.fail(Error::external(format!("process {process} has failed: {why}")));
                }
                Ok(Word::Bye) => {
                    lock(&farewells.0).insert(process);
                    farewells.1.notify_all();
                }
                Err(why) => {
                    if !lock(&farewells.0).contains(&process) {
                        shared.fail(gone(process, &why));
                    }
                }
            };
            let link = link::start(stream, process, heard)?;
            link.send(Order::Begin(line));
            links.push(link);
        }
        if let Some(lines) = &lines {
            let links = links.clone();
            let tell = move |round| links.iter().for_each(|link| link.send(Order::Line(round)));
            lines.tell_others(self.members, Box::new(tell));
        }
        let lost = Box::new(move |peer, why: String| shared.fail(gone(peer, &why)));
        let fate = Arc::new(Fate { over: AtomicBool::new(false), lost });
        let stopped = AtomicBool::new(false);
        let leading = Leading { links, farewells, stopped };
        Ok((leading, (0, self.sockets.data, fate)))
    }
}

fn give(lines: &SharedLines, process: usize, given: &Given) {
    match given {
        Given::Sources(worker, saved) => lines.give(Gift::Sources(*worker, saved.clone())),
        Given::Ended(worker, tracks) => lines.worker_ended(*worker, tracks.clone()),
        Given::Parts(round, parts) => lines.give(Gift::Parts(process, *round, parts.clone())),
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leading {
    /// Has all members stop; what they end is not taken for the end of their sources, for the head stopped first.
    pub fn stop(&self) {
        if !self.stopped.swap(true, Ordering::SeqCst) {
            self.links.iter().for_each(|link| link.send(Order::Stop));
        }
    }

    /// Tells the members that the run has failed.
    pub fn fail(&self, why: &str) {
        self.links.iter().for_each(|link| link.send(Order::Failed(why.to_string())));
        self.links.iter().for_each(Link::flush);
    }

    /// Waits until every member has done everything and said so.
    ///
    /// # Errors
    /// One that does not.
    pub fn end(&self) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        let mut said = lock(&self.farewells.0);
        while said.len() < self.links.len() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::external("a process has not said that it is done"));
            }
            let woken = self.farewells.1.wait_timeout(said, left);
            said = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}
