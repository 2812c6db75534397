//! A component's own keys, read and checked.

use std::fmt::Display;
use std::ops::RangeInclusive;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::At;
use tidemill_config::section::Section;

/// Reads the keys of a section; what nobody asked for is refused by [`Keys::finish`], with every
/// other error found.
pub(crate) struct Keys<'a> {
    section: &'a Section,
    asked: Vec<&'static str>,
    errors: Vec<Diagnostic>,
}

impl<'a> Keys<'a> {
    /// Starts reading.
    pub(crate) fn of(section: &'a Section) -> Keys<'a> {
        Keys { section, asked: Vec::new(), errors: Vec::new() }
    }

    /// A number within limits; whole numbers are taken for floats.
    pub(crate) fn float(
        &mut self,
        key: &'static str,
        default: f64,
        within: RangeInclusive<f64>,
    ) -> f64 {
        let Some(at) = self.find(key) else { return default };
        let value = &self.section.keys[at].1.value;
        let number = value.as_float().or_else(|| value.as_integer().map(|i| i as f64));
        self.limited(at, key, default, within, number)
    }

    /// A whole number within limits.
    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        default: i64,
        within: RangeInclusive<i64>,
    ) -> i64 {
        let Some(at) = self.find(key) else { return default };
        let number = self.section.keys[at].1.value.as_integer();
        self.limited(at, key, default, within, number)
    }

    /// One of several words.
    pub(crate) fn choice(
        &mut self,
        key: &'static str,
        default: &'static str,
        words: &[&'static str],
    ) -> &'static str {
        let Some(at) = self.find(key) else { return default };
        let At { value, span } = &self.section.keys[at].1;
        let word = value.as_str().and_then(|given| words.iter().find(|word| **word == given));
        if let Some(word) = word {
            return word;
        }
        self.errors.push(Diagnostic::new(
            span,
            format!("`{key}` has no such value"),
            format!("{value} is not known here"),
            format!("write one of \"{}\"", words.join("\", \"")),
        ));
        default
    }

    /// Every error found, or nothing.
    pub(crate) fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        for (key, _) in &self.section.keys {
            if self.asked.contains(&key.value.as_str()) {
                continue;
            }
            let near = self
                .asked
                .iter()
                .map(|known| (strsim::jaro_winkler(known, &key.value), known))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(likeness, _)| *likeness > 0.8);
            let help = match near {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("it knows {}", self.asked.join(", ")),
            };
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("unknown key `{}`", key.value),
                format!("`{}` has no such key", self.section.kind.value),
                help,
            ));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn find(&mut self, key: &'static str) -> Option<usize> {
        self.asked.push(key);
        self.section.keys.iter().position(|(name, _)| name.value == key)
    }

    fn limited<T: PartialOrd + Display>(
        &mut self,
        at: usize,
        key: &'static str,
        default: T,
        within: RangeInclusive<T>,
        number: Option<T>,
    ) -> T {
        match number {
            Some(number) if within.contains(&number) => number,
            _ => {
                let At { value, span } = &self.section.keys[at].1;
                self.errors.push(Diagnostic::new(
                    span,
                    format!("`{key}` is out of its limits"),
                    format!("{value} is not a number from {} to {}", within.start(), within.end()),
                    format!("leave it out for {default}"),
                ));
                default
            }
        }
    }
}
