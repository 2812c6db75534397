//! The thread of checkpoints in a process that is not the head of its run: it puts the windows of its workers into
//! the store, and tells the head which parts they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::unbounded;
use tidemill_types::Error;

use super::depot::Depot;
use super::line::{Gift, Given, Lines, Round, SharedLines, ToHead, Windows};
use super::manifest::Part;
use super::store::Store;
use crate::host::{Handle, Host, Received, Turn, receive};

/// Starts it for a process with so many workers; what it has for the head goes by `way`. It ends when [`Lines::close`]
/// is called.
///
/// # Errors
/// No thread is to be had.
pub fn start(
    store: Store,
    workers: usize,
    way: Arc<ToHead>,
    host: &Host,
) -> Result<(SharedLines, Handle<Store>), Error> {
    let (to, from) = unbounded();
    // Only the head chooses lines.
    let lines = Arc::new(Lines::new(Duration::MAX, 0, 0, to, host.clone()));
    let sources = Arc::clone(&way);
    lines.give_to_head(Box::new(move |given| sources(given)));
    let (depot, windows) = (Depot::new(store), BTreeMap::new());
    let mut member = Some(Member { depot, workers, round: None, windows, way });
    let step = move |wait: bool| match receive(&from, wait) {
        Received::One(gift) => {
            if let Some(member) = &mut member {
                member.take(gift);
            }
            Turn::Moved
        }
        Received::Nothing => Turn::Idle,
        Received::Gone => member.take().map_or(Turn::Idle, |member| Turn::Over(member.depot.store)),
    };
    Ok((lines, host.start("checkpoints", step)?))
}

struct Member {
    depot: Depot,
    workers: usize,
    round: Option<Round>,
    windows: BTreeMap<usize, Windows>,
    way: Arc<ToHead>,
}

impl Member {
    fn take(&mut self, gift: Gift) {
        match gift {
            Gift::Begin(begun) => {
                self.round = Some(begun);
                self.windows.clear();
            }
            Gift::Windows(worker, saved) => drop(self.windows.insert(worker, saved)),
            _ => {}
        }
        if self.windows.len() == self.workers
            && let Some(round) = self.round.take()
        {
            let parts = self.put();
            if let Err(error) = &parts {
                tracing::error!(%error, "a part of a checkpoint could not be written");
                self.depot.forget();
            }
            (self.way)(Given::Parts(round, parts.map_err(|error| error.to_string())));
        }
    }

    fn put(&mut self) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for (worker, groups) in std::mem::take(&mut self.windows) {
            parts.extend(self.depot.windows(worker, groups())?);
        }
        self.depot.store.settle()?;
        self.depot.stands(&parts);
        Ok(parts)
    }
}
