//! `dask`: trainings on the workers of a Dask cluster, by the bridge of the Python package
//! (`python -m tidemill_trainer.bridge`), for Dask has no way in but Python.

use super::queue::Queue;
use super::supervisor::Supervisor;
use super::{Entry, jobs};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "dask",
    summary: "trainings on a Dask cluster that sees the run's folder, by our bridge to it",
    keys: jobs::KEYS,
    apart: true,
    check: |section| jobs::read(section).map(drop),
    open: |section, setup| {
        let (address, terms) = jobs::read(section).map_err(keys::error)?;
        let there = address.folder_there.clone();
        let peer = jobs::Jobs::new("the bridge to Dask", address);
        Ok(Box::new(Queue::start(Supervisor::new(peer, terms, setup, there))?))
    },
};
