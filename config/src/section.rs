//! `type = "…"` and the keys that only that component knows.
//!
//! `config` names no component: it keeps a component's keys as written, and the component reads
//! them through [`Params`], which refuses what nobody asked for.

use std::ops::Range;
use std::path::PathBuf;

use tidemill_types::Micros;

use crate::diagnostic::Diagnostic;
use crate::plan::At;

/// A component as declared: its `type` and its own keys.
#[derive(Clone, Debug)]
pub struct Section {
    /// The value of `type`.
    pub kind: At<String>,
    /// Where the section's header stands, for errors about a missing key.
    pub span: Range<usize>,
    /// The component's own keys in the order of the file, values after `${ENV}` substitution.
    pub keys: Vec<(At<String>, At<toml::Value>)>,
    /// The folder that relative input paths start from: that of the pipeline file, or the working
    /// folder where a value was given by `--set`.
    pub folder: PathBuf,
}

impl Section {
    /// A section of a kind without keys.
    pub fn bare(kind: &str) -> Section {
        Section {
            kind: At::nowhere(kind.to_string()),
            span: 0..0,
            keys: Vec::new(),
            folder: PathBuf::new(),
        }
    }

    /// Starts reading the keys.
    pub fn params(&self) -> Params<'_> {
        Params { section: self, asked: Vec::new(), errors: Vec::new() }
    }
}

/// Reads a section's keys. Each getter notes the key as known; [`Params::finish`] refuses the rest
/// with a suggestion and reports every error found, not the first.
pub struct Params<'a> {
    section: &'a Section,
    asked: Vec<&'static str>,
    errors: Vec<Diagnostic>,
}
