//! `dask`: trainings on the workers of a Dask cluster, by the bridge of the Python package
//! (`python -m tidemill_trainer.bridge`), for Dask has no way in but Python.

use super::{Entry, jobs};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "dask",
    summary: "trainings on a Dask cluster that sees the run's folder, by our bridge to it",
    keys: jobs::KEYS,
    apart: true,
    check: |section| jobs::read(section).map(drop),
    open: |section, setup| jobs::open("the bridge to Dask", section, setup),
};
