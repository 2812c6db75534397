//! How much of what was written down is on the disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tidemill_types::Error;

use crate::host::Host;

/// Tells when what was written down is durable. Clones share it.
#[derive(Clone, Default)]
pub struct Settled(Vec<Log>);

/// A log, and who waits for it.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Progress>, Condvar)>, Host);

#[derive(Default)]
struct Progress {
    asked: u64,
    done: u64,
    failed: Option<Error>,
}

impl Progress {
    fn is_done(&self, asked: u64) -> bool {
        self.done >= asked || self.failed.is_some()
    }
}

impl Settled {
    /// Of one log to which nothing was written yet. The default is of none.
    pub fn new(host: &Host) -> Settled {
        Settled(vec![Log(Arc::default(), host.clone())])
    }

    /// Of these logs and others: what was written to all of them is durable.
    pub fn and(&self, others: &Settled) -> Settled {
        Settled(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// Waits until everything is durable that was written down before this call.
    ///
    /// # Errors
    /// What the disk said.
    pub fn wait(&self) -> Result<(), Error> {
        for Log(log, host) in &self.0 {
            let (progress, moved) = &**log;
            // Numbers that are right even if someone panicked while holding them.
            let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = lock().asked;
            if host.simulation().is_some() && !host.wait(|| lock().is_done(asked)) {
                return Err(Error::internal("the run is dead"));
            }
            let mut progress = lock();
            while !progress.is_done(asked) {
                progress = moved.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            progress.failed.clone().map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Whether a wait would end at once.
    pub fn is_settled(&self) -> bool {
        let done = |Log(log, _): &Log| {
            let progress = log.0.lock().unwrap_or_else(PoisonError::into_inner);
            progress.is_done(progress.asked)
        };
        self.0.iter().all(done)
    }

    /// One more is to be written down.
    pub fn ask(&self) {
        self.tell(|progress| progress.asked += 1);
    }

    /// So many were, or nothing more will be.
    pub fn done(&self, written: u64, failed: Option<Error>) {
        self.tell(|progress| {
            progress.done += written;
            progress.failed.clone_from(&failed);
        });
    }

    fn tell(&self, change: impl Fn(&mut Progress)) {
        for Log(log, _) in &self.0 {
            let (progress, moved) = &**log;
            change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
            moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_two_logs_waits_for_both() {
        let host = Host::default();
        let (a, b) = (Settled::new(&host), Settled::new(&host));
        let both = a.and(&b);
        both.wait().expect("nothing was asked for");
        a.ask();
        b.ask();
        let waiting = std::thread::spawn(move || both.wait());
        a.done(1, None);
        a.wait().expect("a is durable");
        assert!(!waiting.is_finished());
        b.done(0, Some(Error::external("disk full")));
        let error = waiting.join().expect("no panic").expect_err("b failed");
        assert!(error.to_string().contains("disk full"));
        Settled::default().wait().expect("no log at all");
    }
}
