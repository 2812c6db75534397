//! The threads that answer requests. Each has a runtime of its own, and a connection stays on one of them.
//!
//! So do all calls of one connection of HTTP/2: a client that wants more than a core opens more than one.
//!
//! A request takes some tens of microseconds, which is about what it costs to wake another thread for it; a runtime that
//! shares its tasks among threads does that for most of them. What may take longer goes to threads beside these
//! ([`super::routes`]).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

/// How long work that has begun may hold up the end of a lane: a scorer that hangs must not hold up the program's.
const END: Duration = Duration::from_millis(100);

/// One thread, as whoever accepts connections sees it.
#[derive(Clone)]
pub(super) struct Lane {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

/// A connection on a lane, until it is dropped.
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// The one with the fewest connections, and a seat there.
    pub(super) fn choose(lanes: &[Lane]) -> Option<(&Handle, Seat)> {
        let lane = lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed))?;
        lane.open.fetch_add(1, Ordering::Relaxed);
        Some((&lane.runtime, Seat(Arc::clone(&lane.open))))
    }
}

/// All of them. The first is run by whoever calls [`Lanes::run`].
pub(super) struct Lanes {
    first: Runtime,
    lanes: Vec<Lane>,
    over: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// So many; each may have so many threads for what takes long.
    ///
    /// # Errors
    /// The system gives no thread, or no more files.
    pub(super) fn start(many: usize, blocking: usize) -> io::Result<Lanes> {
        let runtime = || {
            let mut builder = Builder::new_current_thread();
            builder.max_blocking_threads(blocking).thread_name("tidemill-http");
            builder.enable_all().build()
        };
        let (over, _) = watch::channel(false);
        let first = runtime()?;
        let lane = |of: &Runtime| Lane { runtime: of.handle().clone(), open: Arc::default() };
        let mut lanes = Lanes { lanes: vec![lane(&first)], first, over, threads: Vec::new() };
        for _ in 1..many {
            let runtime = runtime()?;
            lanes.lanes.push(lane(&runtime));
            let mut over = lanes.over.subscribe();
            let thread = std::thread::Builder::new().name("tidemill-http".into());
            lanes.threads.push(thread.spawn(move || {
                // An error means that the others are gone, which is the end too.
                let _ = runtime.block_on(over.wait_for(|over| *over));
                runtime.shutdown_timeout(END);
            })?);
        }
        Ok(lanes)
    }

    pub(super) fn all(&self) -> Vec<Lane> {
        self.lanes.clone()
    }

    /// Runs what accepts connections until it ends, and then ends all lanes.
    pub(super) fn run<T>(self, accepting: impl Future<Output = T>) -> T {
        let done = self.first.block_on(accepting);
        self.over.send_replace(true);
        self.first.shutdown_timeout(END);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an HTTP thread panicked");
            }
        }
        done
    }
}
