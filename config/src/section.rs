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

impl Params<'_> {
    fn take(&mut self, key: &'static str) -> Option<At<toml::Value>> {
        self.asked.push(key);
        self.section.keys.iter().find(|(name, _)| name.value == key).map(|(_, value)| value.clone())
    }

    fn wrong(&mut self, key: &str, found: &At<toml::Value>, wanted: &str) {
        self.errors.push(Diagnostic::new(
            &found.span,
            format!("`{key}` is not {wanted}"),
            format!("this is {}", found.value),
            format!("write {wanted}"),
        ));
    }

    fn missing(&mut self, key: &str) {
        self.errors.push(Diagnostic::new(
            &self.section.span,
            format!("`{key}` is missing"),
            format!("`{}` needs it", self.section.kind.value),
            format!("add `{key} = ...`"),
        ));
    }

    /// A text that may be left out.
    pub fn optional_string(&mut self, key: &'static str) -> Option<At<String>> {
        let found = self.take(key)?;
        match &found.value {
            toml::Value::String(text) => Some(At { value: text.clone(), span: found.span }),
            _ => {
                self.wrong(key, &found, "a text");
                None
            }
        }
    }

    /// A text; empty after an error.
    pub fn string(&mut self, key: &'static str) -> At<String> {
        let before = self.errors.len();
        self.optional_string(key).unwrap_or_else(|| {
            if self.errors.len() == before {
                self.missing(key);
            }
            At::nowhere(String::new())
        })
    }

    /// A text or a list of texts; empty where it is not given.
    pub fn strings(&mut self, key: &'static str) -> At<Vec<String>> {
        let Some(found) = self.take(key) else { return At::nowhere(Vec::new()) };
        let texts = match &found.value {
            toml::Value::String(text) => Some(vec![text.clone()]),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_string)).collect()
            }
            _ => None,
        };
        if texts.is_none() {
            self.wrong(key, &found, "a text or a list of texts");
        }
        At { value: texts.unwrap_or_default(), span: found.span }
    }

    /// A path, from the section's folder.
    pub fn path(&mut self, key: &'static str) -> At<PathBuf> {
        let text = self.string(key);
        At { value: self.section.folder.join(text.value), span: text.span }
    }

    /// A whole number within a range.
    pub fn integer(
        &mut self,
        key: &'static str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> i64 {
        let Some(found) = self.take(key) else { return default };
        match found.value.as_integer() {
            Some(n) if range.contains(&n) => n,
            _ => {
                let wanted = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, &found, &wanted);
                default
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(found) = self.take(key) else { return default };
        found.value.as_bool().unwrap_or_else(|| {
            self.wrong(key, &found, "true or false");
            default
        })
    }

    /// A duration such as `"365d"` that may be left out.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Micros> {
        use tidemill_types::time::{DAY, HOUR, MINUTE, SECOND};
        let found = self.take(key)?;
        let read = |text: &str| {
            let at = text.find(|c: char| !c.is_ascii_digit())?;
            let unit = match &text[at..] {
                "s" => SECOND,
                "m" => MINUTE,
                "h" => HOUR,
                "d" => DAY,
                _ => return None,
            };
            text[..at].parse::<i64>().ok()?.checked_mul(unit)
        };
        let duration = found.value.as_str().and_then(read);
        if duration.is_none() {
            self.wrong(key, &found, "a duration such as \"1d\"");
        }
        duration
    }

    /// A table of texts, numbers and truth values, as texts; empty where it is not given.
    pub fn table(&mut self, key: &'static str) -> At<Vec<(String, String)>> {
        let Some(found) = self.take(key) else { return At::nowhere(Vec::new()) };
        let Some(table) = found.value.as_table() else {
            self.wrong(key, &found, "a table");
            return At::nowhere(Vec::new());
        };
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        At { value: table.iter().map(|(k, v)| (k.clone(), text(v))).collect(), span: found.span }
    }

    /// Adds an error of the component's own.
    pub fn refuse(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    /// Every error found, and every key that nobody asked for.
    pub fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        for (name, _) in &self.section.keys {
            if !self.asked.contains(&name.value.as_str()) {
                self.errors.push(Diagnostic::new(
                    &name.span,
                    format!("unknown key `{}`", name.value),
                    format!("`{}` does not know it", self.section.kind.value),
                    format!("known: {}", self.asked.join(", ")),
                ));
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
