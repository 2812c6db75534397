//! What is wrong with a pipeline file: where, why, and what to write instead.

use std::ops::Range;

/// One thing wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Bytes of the pipeline file; empty where it was not written there (an override, a default).
    pub span: Range<usize>,
    /// Why it is wrong: stands under the excerpt.
    pub reason: String,
    /// What to do about it.
    pub help: String,
}

impl Diagnostic {
    /// A diagnostic at a place.
    pub fn new(
        span: &Range<usize>,
        message: impl Into<String>,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            message: message.into(),
            span: span.clone(),
            reason: reason.into(),
            help: help.into(),
        }
    }
}
