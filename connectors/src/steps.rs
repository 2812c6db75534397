//! Named moments of a sink's protocol, for whoever tests what a crash at each of them does.
//!
//! Nobody listens unless asked to: a step then costs one look at a flag.

use std::sync::OnceLock;

static HEARS: OnceLock<fn(&str)> = OnceLock::new();

/// Has every step told to `by`; the first to ask is told.
pub fn tell(by: fn(&str)) {
    let _ = HEARS.set(by);
}

/// Comes to a step.
pub(crate) fn pass(step: &str) {
    if let Some(hears) = HEARS.get() {
        hears(step);
    }
}
