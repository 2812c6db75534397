//! What is wrong with a pipeline file: where, why, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value as Json, json};

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

/// A pipeline file's name and text; clones share the text.
#[derive(Clone, Debug, Default)]
pub struct SourceText {
    /// The path as the user wrote it.
    pub name: String,
    /// The bytes that spans count.
    pub text: Arc<str>,
}

impl SourceText {
    /// Line and column, from 1, of a byte; a span beyond the text stands at its end.
    fn place(&self, at: usize) -> (usize, usize, &str) {
        let at = (0..=at.min(self.text.len())).rev().find(|i| self.text.is_char_boundary(*i));
        let before = &self.text[..at.unwrap_or(0)];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        let column = before[start..].chars().count() + 1;
        (before.matches('\n').count() + 1, column, self.text[start..end].trim_end_matches('\r'))
    }
}

/// Everything wrong with one pipeline file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Report {
    text: SourceText,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report over a file.
    pub fn new(text: SourceText, mut diagnostics: Vec<Diagnostic>) -> Report {
        diagnostics.sort_by_key(|d| d.span.start);
        diagnostics.dedup();
        Report { text, diagnostics }
    }

    /// What is wrong.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The same for programs.
    pub fn to_json(&self) -> Json {
        let errors = self.diagnostics.iter().map(|d| {
            let (line, column, _) = self.text.place(d.span.start);
            json!({
                "file": self.text.name,
                "line": line,
                "column": column,
                "message": d.message,
                "reason": d.reason,
                "cure": d.help,
            })
        });
        json!({ "errors": errors.collect::<Vec<_>>() })
    }

    /// The same with colours and frames, for a terminal.
    pub fn pretty(&self) -> String {
        let handler = miette::GraphicalReportHandler::new();
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            let one = Pretty { text: &self.text, diagnostic };
            if handler.render_report(&mut out, &one).is_err() {
                return self.to_string();
            }
        }
        out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.diagnostics {
            if d.span.is_empty() {
                writeln!(f, "{}: error: {}", self.text.name, d.message)?;
            } else {
                let (line, column, excerpt) = self.text.place(d.span.start);
                let wide = self
                    .text
                    .text
                    .get(d.span.clone())
                    .map_or(1, |s| s.lines().next().map_or(1, |first| first.chars().count()));
                let gap = " ".repeat(line.to_string().len());
                writeln!(f, "{}:{line}:{column}: error: {}", self.text.name, d.message)?;
                writeln!(f, " {line} | {excerpt}")?;
                writeln!(f, " {gap} | {}{}", " ".repeat(column - 1), "^".repeat(wide.max(1)))?;
            }
            writeln!(f, "   reason: {}", d.reason)?;
            writeln!(f, "   cure: {}", d.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// One diagnostic as miette wants it.
struct Pretty<'a> {
    text: &'a SourceText,
    diagnostic: &'a Diagnostic,
}

impl fmt::Debug for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Pretty<'_> {}

impl miette::Diagnostic for Pretty<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.diagnostic.span.clone();
        let label = Some(self.diagnostic.reason.clone());
        Some(Box::new(std::iter::once(miette::LabeledSpan::new(label, span.start, span.len()))))
    }
}

impl miette::SourceCode for Pretty<'_> {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let found = self.text.text.as_ref().read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.text.name.clone(),
            found.data(),
            *found.span(),
            found.line(),
            found.column(),
            found.line_count(),
        )))
    }
}
