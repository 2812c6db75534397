//! `type = "…"` and the keys that only that component knows.
//!
//! `config` names no component: it keeps a component's keys as written, and the component reads
//! them through [`Params`], which refuses what nobody asked for.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use tidemill_types::Micros;

use crate::diagnostic::Diagnostic;
use crate::plan::At;
pub use crate::table::{Item, Node};
use crate::{cure, units};

/// A component as declared: its `type` and its own keys.
#[derive(Clone, Debug)]
pub struct Section {
    /// The value of `type`.
    pub kind: At<String>,
    /// What it is in the file, `source.orders` for example.
    pub path: String,
    /// Where the section's header stands, for errors about a missing key.
    pub span: Range<usize>,
    /// The component's own keys in the order of the file, values after `${ENV}` substitution.
    pub keys: Vec<(At<String>, Node)>,
    /// Keys that every component of this table has; they were read already.
    pub common: Vec<&'static str>,
    /// The folder that relative input paths start from: that of the pipeline file. A path given by
    /// `--set` starts at the working folder.
    pub folder: PathBuf,
}

impl Section {
    /// A section of a kind without keys.
    pub fn bare(kind: &str) -> Section {
        Section {
            kind: At::nowhere(kind.to_string()),
            path: kind.to_string(),
            span: 0..0,
            keys: Vec::new(),
            common: Vec::new(),
            folder: PathBuf::new(),
        }
    }

    /// A section of a kind with the keys of a TOML text, for tests and for programs that build one.
    ///
    /// # Errors
    /// What is no TOML.
    pub fn with_keys(kind: &str, toml: &str) -> Result<Section, Vec<Diagnostic>> {
        let keys = match crate::table::parse(toml)?.value {
            Item::Table(entries) => entries,
            _ => Vec::new(),
        };
        Ok(Section { keys, ..Section::bare(kind) })
    }

    /// Starts reading the keys.
    pub fn params(&self) -> Params<'_> {
        let mut params = Params::new(&self.path, &self.span, &self.keys, &self.folder);
        // Whoever misspells one of them shall be told so.
        params.asked.clone_from(&self.common);
        params
    }
}

/// Reads a table's keys. Each getter notes the key as known; [`Params::finish`] refuses the rest
/// with a suggestion and reports every error found, not the first. After an error a getter gives a
/// harmless value, so that reading goes on.
///
/// ```
/// # use tidemill_config::section::Section;
/// let section = Section::bare("generator");
/// let mut p = section.params();
/// let rows = p.integer("rows", 1_000, 1..=1_000_000);
/// p.finish().unwrap();
/// assert_eq!(rows, 1_000);
/// ```
pub struct Params<'a> {
    path: &'a str,
    span: &'a Range<usize>,
    keys: &'a [(At<String>, Node)],
    folder: &'a Path,
    asked: Vec<&'static str>,
    errors: Vec<Diagnostic>,
}

impl<'a> Params<'a> {
    /// A reader of a table that stands at `span` and is called `path`.
    pub fn new(
        path: &'a str,
        span: &'a Range<usize>,
        keys: &'a [(At<String>, Node)],
        folder: &'a Path,
    ) -> Params<'a> {
        Params { path, span, keys, folder, asked: Vec::new(), errors: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.keys.iter().find(|(k, _)| k.value == key).map(|(_, node)| node)
    }

    /// Notes an error that a component found itself.
    pub fn refuse(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    /// Notes an error.
    pub(crate) fn error(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    fn wrong(&mut self, key: &str, node: &Node, wanted: &str) {
        self.errors.push(Diagnostic::new(
            &node.span,
            format!("`{key}` of {} cannot be {}", self.path, node.kind()),
            format!("it is {wanted}"),
            format!("write {wanted} here"),
        ));
    }

    fn missing(&mut self, key: &str, wanted: &str) {
        self.errors.push(Diagnostic::new(
            self.span,
            format!("{} has no `{key}`", self.path),
            format!("`{key}` is required: it is {wanted}"),
            format!("add `{key} = ...` to {}", self.path),
        ));
    }

    /// A string with its place, if it is there.
    pub fn optional_text(&mut self, key: &'static str) -> Option<At<String>> {
        let node = self.node(key)?;
        match &node.value {
            Item::Text(text) => Some(At { value: text.clone(), span: node.span.clone() }),
            _ => {
                self.wrong(key, node, "a string");
                None
            }
        }
    }

    /// A required string with its place; never empty.
    pub fn text(&mut self, key: &'static str) -> At<String> {
        let there = self.keys.iter().any(|(k, _)| k.value == key);
        match self.optional_text(key) {
            Some(text) if text.value.is_empty() => {
                self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{key}` of {} is empty", self.path),
                    "it needs at least one character",
                    "write a name",
                ));
                text
            }
            Some(text) => text,
            None => {
                if !there {
                    self.missing(key, "a string");
                }
                At::nowhere(String::new())
            }
        }
    }

    /// The same.
    pub fn string(&mut self, key: &'static str) -> At<String> {
        self.text(key)
    }

    /// A string with its place, if it is there.
    pub fn optional_string(&mut self, key: &'static str) -> Option<At<String>> {
        self.optional_text(key)
    }

    /// A list of strings; empty if it is not there.
    pub fn strings(&mut self, key: &'static str) -> At<Vec<String>> {
        let span = self.span_of(key);
        let texts = self.optional_texts(key).unwrap_or_default();
        At { value: texts.into_iter().map(|t| t.value).collect(), span }
    }

    /// A table of strings, numbers and truth values, as strings; empty if it is not there.
    pub fn table(&mut self, key: &'static str) -> At<Vec<(String, String)>> {
        let Some(node) = self.node(key) else { return At::nowhere(Vec::new()) };
        let Item::Table(entries) = &node.value else {
            self.wrong(key, node, "a table");
            return At::nowhere(Vec::new());
        };
        let mut value = Vec::new();
        for (name, node) in entries {
            let text = match &node.value {
                Item::Text(text) => text.clone(),
                Item::Int(i) => i.to_string(),
                Item::Float(f) => f.to_string(),
                Item::Bool(b) => b.to_string(),
                _ => {
                    self.wrong(&name.value, node, "a string, a number or a truth value");
                    continue;
                }
            };
            value.push((name.value.clone(), text));
        }
        At { value, span: node.span.clone() }
    }

    fn span_of(&self, key: &str) -> Range<usize> {
        let node = self.keys.iter().find(|(k, _)| k.value == key);
        node.map_or(0..0, |(_, node)| node.span.clone())
    }

    /// One of several words.
    pub fn choice(
        &mut self,
        key: &'static str,
        default: &'static str,
        of: &[&'static str],
    ) -> &'static str {
        let Some(text) = self.optional_text(key) else { return default };
        if let Some(found) = of.iter().find(|word| **word == text.value) {
            return found;
        }
        self.errors.push(Diagnostic::new(
            &text.span,
            format!("`{key}` of {} cannot be `{}`", self.path, text.value),
            format!("it is one of: {}", of.join(", ")),
            cure(&text.value, of.iter().copied()),
        ));
        default
    }

    /// A truth value.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.node(key) else { return default };
        match node.value {
            Item::Bool(b) => b,
            _ => {
                self.wrong(key, node, "true or false");
                default
            }
        }
    }

    /// A whole number in a range.
    pub fn integer(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let Some(node) = self.node(key) else { return default };
        match node.value {
            Item::Int(i) if range.contains(&i) => i,
            Item::Int(i) => {
                self.outside(key, node, &i.to_string(), range.start(), range.end());
                default
            }
            _ => {
                self.wrong(key, node, "a whole number");
                default
            }
        }
    }

    /// A number in a range; whole numbers are numbers too.
    pub fn float(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(node) = self.node(key) else { return default };
        let found = match node.value {
            Item::Int(i) => i as f64,
            Item::Float(f) => f,
            _ => {
                self.wrong(key, node, "a number");
                return default;
            }
        };
        if range.contains(&found) {
            return found;
        }
        self.outside(key, node, &found.to_string(), range.start(), range.end());
        default
    }

    fn outside(
        &mut self,
        key: &str,
        node: &Node,
        found: &str,
        least: &dyn std::fmt::Display,
        most: &dyn std::fmt::Display,
    ) {
        self.errors.push(Diagnostic::new(
            &node.span,
            format!("`{key}` of {} cannot be {found}", self.path),
            format!("it lies between {least} and {most}"),
            "choose a number in that range",
        ));
    }

    /// A duration, if it is there.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Micros> {
        let text = self.optional_text(key)?;
        match units::duration(&text.value) {
            Ok(micros) => Some(micros),
            Err(reason) => {
                self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{key}` of {} is no duration", self.path),
                    reason,
                    "write whole numbers with units us, ms, s, m, h, d: \"250ms\", \"1h30m\", \"7d\"",
                ));
                None
            }
        }
    }

    /// A duration.
    pub fn duration(&mut self, key: &'static str, default: Micros) -> Micros {
        self.optional_duration(key).unwrap_or(default)
    }

    /// A duration above zero, if it is there.
    pub fn optional_period(&mut self, key: &'static str) -> Option<Micros> {
        let found = self.optional_duration(key)?;
        if found > 0 {
            return Some(found);
        }
        let span = self.keys.iter().find(|(k, _)| k.value == key).map(|(_, n)| n.span.clone());
        self.errors.push(Diagnostic::new(
            &span.unwrap_or(0..0),
            format!("`{key}` of {} cannot be zero", self.path),
            "nothing happens every 0 seconds",
            "write a duration above zero, for example \"1h\"",
        ));
        None
    }

    /// A size in bytes.
    pub fn size(&mut self, key: &'static str, default: u64) -> u64 {
        let Some(text) = self.optional_text(key) else { return default };
        units::size(&text.value).unwrap_or_else(|reason| {
            self.errors.push(Diagnostic::new(
                &text.span,
                format!("`{key}` of {} is no size", self.path),
                reason,
                "write \"512\", \"64KiB\", \"10MiB\" or \"1GiB\"",
            ));
            default
        })
    }

    /// A required path to something that is read: relative to the pipeline file, or, given by
    /// `--set`, to the working folder.
    pub fn path(&mut self, key: &'static str) -> At<PathBuf> {
        let At { value, span } = self.text(key);
        let value = match span.is_empty() {
            true => PathBuf::from(value),
            false => self.folder.join(value),
        };
        At { value, span }
    }

    /// A list of strings, if it is there; one string counts as a list of one.
    pub fn optional_texts(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let node = self.node(key)?;
        let nodes = match &node.value {
            Item::Array(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut out = Vec::new();
        for node in nodes {
            match &node.value {
                Item::Text(text) => out.push(At { value: text.clone(), span: node.span.clone() }),
                _ => self.wrong(key, node, "a string or an array of strings"),
            }
        }
        Some(out)
    }

    /// A table of strings, in the order of the file.
    pub fn named_texts(&mut self, key: &'static str) -> Vec<(At<String>, At<String>)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Item::Table(entries) = &node.value else {
            self.wrong(key, node, "a table of strings");
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, node) in entries {
            match &node.value {
                Item::Text(text) => {
                    out.push((name.clone(), At { value: text.clone(), span: node.span.clone() }));
                }
                _ => self.wrong(&name.value, node, "a string"),
            }
        }
        out
    }

    /// The keys that nobody has asked for, as a component's own.
    pub fn rest(&mut self) -> Vec<(At<String>, Node)> {
        let asked = &self.asked;
        let rest = self.keys.iter().filter(|(k, _)| !asked.contains(&k.value.as_str()));
        rest.cloned().collect()
    }

    /// The keys asked for so far.
    pub fn asked(&self) -> Vec<&'static str> {
        self.asked.clone()
    }

    /// Ends the reading where unknown keys belong to somebody else.
    pub fn errors(self) -> Vec<Diagnostic> {
        self.errors
    }

    /// Ends the reading: unknown keys are refused.
    ///
    /// # Errors
    /// Everything found wrong.
    pub fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        for (key, _) in self.rest() {
            let mut known = self.asked.clone();
            known.sort_unstable();
            known.dedup();
            let reason = match known.is_empty() {
                true => "it has no keys of its own".to_string(),
                false => format!("the keys are {}", known.join(", ")),
            };
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("{} has no key `{}`", self.path, key.value),
                reason,
                match crate::suggest(&key.value, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "remove it".to_string(),
                },
            ));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
