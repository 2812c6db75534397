//! Signals from the operating system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_types::Error;

/// The first SIGINT or SIGTERM sets `stop`, the second one ends the program.
///
/// # Errors
/// No signals or threads are to be had.
pub fn stop_on_signal(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let stop = Arc::clone(stop);
    let failed = |e: std::io::Error| Error::internal(format!("no signals: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let watch = move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            loop {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
                tracing::warn!("stopping; once more ends the program at once");
            }
        });
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(watch).map_err(failed)?;
    Ok(())
}
