//! Brings orders from the run's folder to the mill, and answers back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tidemill_types::Error;

use crate::journal::Settled;
use crate::mill::{Inbox, SharedMill};
use crate::models::orders::Control;
use crate::models::people::People;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The thread that looks after orders; it ends when this is dropped.
pub struct Controller {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    /// Begins to look into the folder of a run.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(
        run: &Path,
        inbox: Arc<Inbox>,
        mill: SharedMill,
        settled: Settled,
    ) -> Result<Controller, Error> {
        let over = Arc::new(AtomicBool::new(false));
        let (told, run) = (Arc::clone(&over), run.to_path_buf());
        let control = Control::of_run(&run);
        // Before anything runs: a run may be over before it is looked at again.
        collect(&run, &control, &inbox);
        let look = move || {
            loop {
                // Seen before the answers are given, so that those of the last moment are too.
                let last = told.load(Ordering::Acquire);
                collect(&run, &control, &inbox);
                // A mill at work obeys by itself, at its next tick.
                if inbox.waits()
                    && let Ok(mut held) = mill.try_lock()
                    && let Some(Err(error)) = held.as_mut().map(|mill| mill.obey_now())
                {
                    tracing::error!(%error, "an order could not be carried out");
                }
                for (id, answer) in inbox.answers() {
                    match settled.wait().and_then(|()| control.reply(&id, &answer)) {
                        Ok(()) => inbox.forget(&id),
                        Err(error) => tracing::error!(%error, "an order could not be answered"),
                    }
                }
                if last {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("control".to_string()).spawn(look);
        let thread = thread.map_err(|e| Error::external(format!("no thread for orders: {e}")))?;
        Ok(Controller { over, thread: Some(thread) })
    }
}

/// Puts new orders into the inbox.
fn collect(run: &Path, control: &Control, inbox: &Inbox) {
    for letter in control.orders() {
        if inbox.has_seen(&letter.id) {
            continue;
        }
        let judged = letter.what.parse().and_then(|order| {
            People::of_run(run).map_err(|e| e.to_string())?.judge(&letter, &order)
        });
        inbox.put(letter, judged);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
