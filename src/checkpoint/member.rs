//! The thread of checkpoints in a process that is not the head of its run: it puts the windows of its workers into
//! the store, and tells the head which parts they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use tidemill_types::Error;

use super::line::{Gift, Given, Lines, Round, SharedLines, ToHead};
use super::manifest::Part;
use super::shelf::Shelf;
use super::store::Store;

/// Starts it for a process with so many workers; what it has for the head goes by `way`. It ends when [`Lines::close`]
/// is called.
///
/// # Errors
/// No thread is to be had.
pub fn start(
    store: Store,
    workers: usize,
    way: Arc<ToHead>,
) -> Result<(SharedLines, JoinHandle<Result<Store, Error>>), Error> {
    let (to, from) = unbounded();
    // Only the head chooses lines.
    let lines = Arc::new(Lines::new(Duration::MAX, 0, 0, to));
    let sources = Arc::clone(&way);
    lines.give_to_head(Box::new(move |given| sources(given)));
    let thread = std::thread::Builder::new()
        .name("checkpoints".to_string())
        .spawn(move || put_all(store, workers, &from, &way))
        .map_err(|e| Error::external(format!("no thread for checkpoints: {e}")))?;
    Ok((lines, thread))
}

fn put_all(
    store: Store,
    workers: usize,
    from: &Receiver<Gift>,
    way: &ToHead,
) -> Result<Store, Error> {
    let mut shelf = Shelf::new(store);
    let mut round: Option<Round> = None;
    let mut windows = BTreeMap::new();
    for gift in from {
        match gift {
            Gift::Begin(begun) => {
                round = Some(begun);
                windows.clear();
            }
            Gift::Windows(worker, saved) => drop(windows.insert(worker, saved)),
            _ => {}
        }
        if windows.len() == workers
            && let Some(round) = round.take()
        {
            let parts = put(&mut shelf, std::mem::take(&mut windows));
            if let Err(error) = &parts {
                tracing::error!(%error, "a part of a checkpoint could not be written");
                shelf.forget();
            }
            way(Given::Parts(round, parts.map_err(|error| error.to_string())));
        }
    }
    Ok(shelf.store)
}

fn put(
    shelf: &mut Shelf,
    windows: BTreeMap<usize, Vec<BTreeMap<u64, Vec<u8>>>>,
) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    for (worker, groups) in windows {
        parts.extend(shelf.windows(worker, groups)?);
    }
    shelf.store.settle()?;
    shelf.stands(&parts);
    Ok(parts)
}
