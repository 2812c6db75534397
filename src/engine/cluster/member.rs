//! A member: workers that read and keep windows, and nothing else.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use tidemill_types::Error;

use super::link::{self, Link};
use super::sockets::{self, Fate};
use super::{Order, Word, about, gone};
use crate::checkpoint::line::{SharedLines, ToHead};
use crate::engine::bell::Bell;
use crate::engine::check::Compiled;
use crate::engine::crew::{Crew, open_sources, shared};
use crate::engine::outputs::Outputs;
use crate::engine::recovery::Recovery;
use crate::engine::run::{LOOK, Options};
use crate::engine::watch::Turns;
use crate::engine::workers::{Common, work};

/// Runs the share of a process that is not the head, until the run is over. `asked` is set when somebody asks this
/// process to stop: the head is told, which stops them all.
///
/// # Errors
/// What ends a run; the head is told of it.
pub fn run(compiled: Compiled, options: &Options, asked: &Arc<AtomicBool>) -> Result<(), Error> {
    let compiled = Arc::new(compiled);
    let members = options.members.clone().ok_or_else(|| Error::internal("a member of nothing"))?;
    let own = options.own();
    let shares = open_sources(&compiled.plan.sources, own.clone(), options.total())?;
    let sockets = sockets::connect(&members, &about(&compiled, options.workers), asked)?;
    let stop = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(shared(&compiled, options, Arc::clone(&stop)));
    let lost = Arc::clone(&shared);
    let lost = Box::new(move |peer, why: String| lost.fail(gone(peer, &why)));
    let fate = Arc::new(Fate { over: AtomicBool::new(false), lost });

    let known: Arc<OnceLock<(Link<Word>, Option<SharedLines>)>> = Arc::default();
    let (begin, begins) = bounded(1);
    let (hears, of, over) = (Arc::clone(&known), Arc::clone(&shared), Arc::clone(&fate));
    let heard = move |order: Result<Order, String>| match order {
        Ok(Order::Begin(line)) => drop(begin.send(line)),
        Ok(Order::Line(round)) => {
            // A line may be chosen while this process is still reading the one that it begins with.
            let (link, lines) = loop {
                match hears.get() {
                    Some((link, Some(lines))) => break (link, lines),
                    Some((_, None)) => return,
                    None if of.has_failed() => return,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            match round {
                Some(round) => {
                    lines.begin(round);
                    link.send(Word::Heard);
                }
                None => lines.over(),
            }
        }
        Ok(Order::Stop) => of.stop.store(true, Ordering::SeqCst),
        Ok(Order::Failed(why)) => of.fail(Error::external(format!("the run has failed: {why}"))),
        Err(why) => {
            if !over.over.load(Ordering::SeqCst) {
                of.fail(gone(0, &why));
            }
        }
    };
    let stream = sockets.words.into_iter().next();
    let (_, stream) = stream.ok_or_else(|| Error::internal("no connection to the head"))?;
    let link = link::start(stream, 0, heard)?;
    let line = wait(&begins, &shared, asked)?;

    let to_head = link.clone();
    let way: Arc<ToHead> = Arc::new(Box::new(move |given| to_head.send(Word::Given(given))));
    let folder: &Path = &options.folder;
    let host = &options.host;
    let recovery = Recovery::of_member(&compiled, folder, options.workers, line, way, host)?;
    let _ = known.set((link.clone(), recovery.lines.clone()));
    let to_head = link.clone();
    let way = Arc::new(move |aside| to_head.send(Word::Aside(aside)));
    let outputs = Outputs::elsewhere(&compiled, &stop, way);
    let rows: Vec<Arc<AtomicU64>> = compiled.plan.sources.iter().map(|_| Arc::default()).collect();
    let turns = Arc::new(Turns::default());
    let crew = Crew { outputs: &outputs, shared: &shared, turns: &turns, rows: &rows, shelf: None };
    let (seats, readers) = crew.seats(&compiled, options, &recovery, shares, None)?;
    drop(outputs);

    let alive = Arc::new(AtomicUsize::new(options.workers));
    let network = Some((members.process, sockets.data, Arc::clone(&fate)));
    let common = Common::new(&compiled, &shared, &turns, host);
    let guards = work(seats, common, network, &alive)?;
    let mut told = vec![0; rows.len()];
    let mut look = || {
        let now: Vec<u64> = rows.iter().map(|rows| rows.load(Ordering::Relaxed)).collect();
        let new = now.iter().zip(&told).map(|(now, told)| now - told).collect();
        told = now;
        link.send(Word::Look(new, shared.watermarks.share(own.clone())));
    };
    let mut passed_on = false;
    while alive.load(Ordering::SeqCst) > 0 {
        std::thread::park_timeout(LOOK);
        look();
        if asked.load(Ordering::Relaxed) && !std::mem::replace(&mut passed_on, true) {
            link.send(Word::Stop);
        }
        if shared.stop.load(Ordering::Relaxed) {
            shared.bells.iter().for_each(Bell::ring);
        }
    }
    if let Some(error) = shared.failed.lock().ok().and_then(|mut failed| failed.take()) {
        link.send(Word::Failed(error.to_string()));
        link.flush();
        // Threads of the network wait for processes that may be gone: they end with this one.
        std::mem::forget(guards);
        return Err(error);
    }
    fate.over.store(true, Ordering::SeqCst);
    drop(guards.join());
    readers.into_iter().for_each(|reader| drop(reader.join()));
    look();
    recovery.close(false)?;
    link.send(Word::Bye);
    link.flush();
    Ok(())
}

/// Waits for the head's first word.
fn wait(
    begins: &crossbeam_channel::Receiver<Option<u64>>,
    shared: &crate::engine::ingest::Shared,
    asked: &AtomicBool,
) -> Result<Option<u64>, Error> {
    loop {
        match begins.recv_timeout(LOOK) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Timeout) if asked.load(Ordering::Relaxed) => {
                return Err(Error::external("stopped before the run began"));
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(error) = shared.failed.lock().ok().and_then(|mut f| f.take()) {
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(gone(0, "it said nothing")),
        }
    }
}
