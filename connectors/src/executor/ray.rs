//! `ray`: trainings as jobs of a Ray cluster, by its Jobs REST API.

use super::{Entry, jobs};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "ray",
    summary: "trainings as jobs of a Ray cluster that sees the run's folder",
    keys: jobs::KEYS,
    apart: true,
    check: |section| jobs::read(section).map(drop),
    open: |section, setup| jobs::open("Ray", section, setup),
};
