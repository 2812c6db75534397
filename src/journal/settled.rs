//! How much of what was written down is on the disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tidemill_types::Error;

/// Tells when what was written down is durable. Clones share it.
#[derive(Clone, Default)]
pub struct Settled(Vec<Arc<(Mutex<Progress>, Condvar)>>);

#[derive(Default)]
struct Progress {
    asked: u64,
    done: u64,
    failed: Option<Error>,
}

impl Settled {
    /// Of one log to which nothing was written yet. The default is of none.
    pub fn new() -> Settled {
        Settled(vec![Arc::default()])
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
        for log in &self.0 {
            let (progress, moved) = &**log;
            // Numbers that are right even if someone panicked while holding them.
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = progress.asked;
            while progress.done < asked && progress.failed.is_none() {
                progress = moved.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            progress.failed.clone().map_or(Ok(()), Err)?;
        }
        Ok(())
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
        for log in &self.0 {
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
        let (a, b) = (Settled::new(), Settled::new());
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
