//! `ray`: trainings as jobs of a Ray cluster, by its Jobs REST API.

use super::queue::Queue;
use super::supervisor::Supervisor;
use super::{Entry, jobs};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "ray",
    summary: "trainings as jobs of a Ray cluster that sees the run's folder",
    keys: jobs::KEYS,
    apart: true,
    check: |section| jobs::read(section).map(drop),
    open: |section, setup| {
        let (address, terms) = jobs::read(section).map_err(keys::error)?;
        let there = address.folder_there.clone();
        let peer = jobs::Jobs::new("Ray", address);
        Ok(Box::new(Queue::start(Supervisor::new(peer, terms, setup, there))?))
    },
};
