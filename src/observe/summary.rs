//! What a run amounts to: its counts, its models and how good their scores were. As a table for people
//! and, through serde, as the object that `--output json` prints.

use serde::{Deserialize, Serialize};
use tidemill_types::Micros;
use tidemill_types::time::to_rfc3339;

use super::{duration, size, thousands};

/// What a run amounts to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The pipeline's name.
    pub pipeline: String,
    /// The first and last event time of the spine.
    pub event_times: Option<(Micros, Micros)>,
    /// Rows read from all sources.
    pub events: u64,
    /// The same over the wall time without the waits for training.
    pub events_per_second: f64,
    /// Rows scored.
    pub scores: u64,
    /// Scored rows whose label came.
    pub labelled: u64,
    /// Scored rows whose label did not come in time.
    pub timed_out: u64,
    /// Scored rows whose label was still awaited at the end.
    pub pending: u64,
    /// Rows later than the lateness allows.
    pub late: u64,
    /// Records that could not be used, by source and reason.
    pub dead_letters: Vec<DeadLetters>,
    /// Features that could not be computed on some rows, where they are NULL.
    #[serde(default)]
    pub failed_features: Vec<FailedFeature>,
    /// Expressions of labels and windows that could not be computed on some rows, where they are NULL.
    #[serde(default)]
    pub failed_expressions: Vec<FailedExpression>,
    /// Drift alerts.
    pub alerts: u64,
    /// Trainings in the order of their triggers.
    pub retrainings: Vec<Retraining>,
    /// Versions that scored a row, in the order in which they did.
    #[serde(default)]
    pub first_scores: Vec<FirstScore>,
    /// Versions that took over.
    pub promotions: u64,
    /// Versions that the gate turned away.
    pub refusals: u64,
    /// Versions that were taken back after they had taken over.
    pub rollbacks: u64,
    /// The most memory held in RAM, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Wall time of the run.
    pub seconds: f64,
    /// Wall time in which the run waited for a training.
    pub seconds_waiting_for_training: f64,
    /// Those whose scores are compared, on the same rows.
    pub contenders: Vec<Contender>,
    /// The names of the months and spans that every contender is judged by, in order.
    pub spans: Vec<Span>,
}

/// Records that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The source.
    pub source: String,
    /// The word for the reason.
    pub reason: String,
    /// How many.
    pub rows: u64,
}

/// A feature that could not be computed on some rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedFeature {
    /// Its name.
    pub feature: String,
    /// On how many.
    pub rows: u64,
    /// The first of them, and why it failed there.
    pub why: String,
}

/// An expression of a label or a window that could not be computed on some rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedExpression {
    /// `label` or `window`.
    pub kind: String,
    /// Its name; of windows that share a key, the names of all.
    pub name: String,
    /// What is written there.
    pub expression: String,
    /// On how many.
    pub rows: u64,
    /// The first of them, and why it failed there.
    pub why: String,
}

/// One training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retraining {
    /// The model.
    pub model: String,
    /// The version that came of it; nothing if it failed.
    pub version: Option<u64>,
    /// When it was triggered, in event time.
    pub triggered_at: Micros,
    /// By what.
    pub trigger: String,
    /// Rows learnt.
    pub rows: u64,
    /// Wall time.
    pub seconds: f64,
    /// Measures taken by the trainer, by name.
    pub metrics: Vec<(String, f64)>,
    /// What became of it.
    pub fate: Fate,
}

/// How long a version took from the trigger of its training to its first score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstScore {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// Wall time; the training, its gate and its rollout are part of it.
    pub seconds: f64,
}

/// What became of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It took over.
    Promoted,
    /// It was turned away: by the gate, on trial, or for a newer one that came before its turn.
    Refused,
    /// It took over and was taken back.
    RolledBack,
    /// The gate was still waiting for rows.
    Waiting,
    /// It ended in an error.
    Failed,
}

impl Fate {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Promoted => "promoted",
            Fate::Refused => "refused",
            Fate::RolledBack => "rolled back",
            Fate::Waiting => "waiting",
            Fate::Failed => "failed",
        }
    }
}

/// A named range of event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// For people: `2013-02`, or `5 Feb to 30 Jun`.
    pub name: String,
    /// From (inclusive).
    pub from: Micros,
    /// To (exclusive).
    pub to: Micros,
}

/// Somebody who scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// `served`, `online`, `trees (retrained)`, `trees v1 (frozen)`, `base rate`.
    pub name: String,
    /// Over all rows.
    pub whole: Quality,
    /// Over [`Summary::spans`], in their order.
    pub spans: Vec<Quality>,
}

/// How good scores were over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Labelled rows.
    pub rows: u64,
    /// Mean log loss in nats; nothing without rows.
    pub log_loss: Option<f64>,
    /// Area under the ROC curve; nothing unless both classes occur and scores differ.
    pub auc: Option<f64>,
}

impl Summary {
    /// Records that could not be used, in all.
    pub fn dead_letter_rows(&self) -> u64 {
        self.dead_letters.iter().map(|d| d.rows).sum()
    }

    /// The table for people, at most 100 columns wide, ending in a line feed.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n", self.pipeline);
        if let Some((from, to)) = self.event_times {
            out += &format!("{} to {}\n", day(from), day(to));
        }
        out += "\n";
        out += &counts(&self.counts());
        if !self.dead_letters.is_empty() {
            out += "\nDEAD LETTERS\n";
            let rows = self.dead_letters.iter();
            out += &Table::new(&[("source", Left), ("reason", Left), ("rows", Right)])
                .rows(rows.map(|d| vec![d.source.clone(), d.reason.clone(), thousands(d.rows)]));
        }
        if !self.failed_features.is_empty() {
            out += "\nFEATURES THAT FAILED (they are NULL there)\n";
            let rows = self.failed_features.iter();
            out += &Table::new(&[("feature", Left), ("rows", Right), ("first", Left)]).rows(
                rows.map(|f| vec![clip(&f.feature, 30), thousands(f.rows), clip(&f.why, 52)]),
            );
        }
        if !self.failed_expressions.is_empty() {
            out += "\nEXPRESSIONS THAT FAILED (they are NULL there)\n";
            let rows = self.failed_expressions.iter().map(|f| {
                let of = clip(&format!("{} {}", f.kind, f.name), 24);
                vec![of, clip(&f.expression, 24), thousands(f.rows), clip(&f.why, 34)]
            });
            let columns = [("of", Left), ("expression", Left), ("rows", Right), ("first", Left)];
            out += &Table::new(&columns).rows(rows);
        }
        if !self.retrainings.is_empty() {
            out += "\nRETRAININGS\n";
            out += &self.retraining_table();
        }
        if !self.contenders.is_empty() {
            out += "\nLOG LOSS (lower is better)\n";
            out += &self.quality_table(
                |q| q.log_loss.map(|l| format!("{l:.4}")),
                f64::lt,
                |q| q.log_loss,
            );
            out += "\nAUC (higher is better)\n";
            out += &self.quality_table(|q| q.auc.map(|a| format!("{a:.4}")), f64::gt, |q| q.auc);
            out += "* the best of its row\n";
        }
        out
    }

    /// The counts by name, in the order in which rows meet them.
    pub fn counts(&self) -> Vec<(&'static str, String)> {
        let mut counts = vec![
            ("events", thousands(self.events)),
            ("events per second", thousands(self.events_per_second.max(0.0).round() as u64)),
            ("scores", thousands(self.scores)),
            ("labelled", thousands(self.labelled)),
            ("label timed out", thousands(self.timed_out)),
            ("label pending", thousands(self.pending)),
            ("late rows", thousands(self.late)),
            ("dead letters", thousands(self.dead_letter_rows())),
            ("drift alerts", thousands(self.alerts)),
            ("retrainings", thousands(self.retrainings.len() as u64)),
            ("promotions", thousands(self.promotions)),
            ("refusals", thousands(self.refusals)),
            ("rollbacks", thousands(self.rollbacks)),
            ("time", duration(self.seconds)),
            ("waiting for training", duration(self.seconds_waiting_for_training)),
        ];
        let longest = self.first_scores.iter().map(|first| first.seconds).reduce(f64::max);
        if let Some(longest) = longest {
            counts.push(("trigger to score", duration(longest)));
        }
        if let Some(bytes) = self.peak_memory_bytes {
            counts.push(("peak memory", size(bytes)));
        }
        counts
    }

    fn retraining_table(&self) -> String {
        let columns = [
            ("triggered", Left),
            ("by", Left),
            ("model", Left),
            ("rows", Right),
            ("time", Right),
            ("measure", Left),
            ("fate", Left),
        ];
        Table::new(&columns).rows(self.retrainings.iter().map(|r| {
            let version = r.version.map_or(String::new(), |v| format!(" v{v}"));
            vec![
                minute(r.triggered_at),
                clip(&r.trigger, 18),
                clip(&format!("{}{version}", r.model), 12),
                thousands(r.rows),
                duration(r.seconds),
                clip(&measures(&r.metrics[..r.metrics.len().min(1)]), 16),
                r.fate.name().into(),
            ]
        }))
    }

    /// Spans downwards, contenders across, five to a table: that is what fits.
    fn quality_table(
        &self,
        show: impl Fn(&Quality) -> Option<String>,
        better: fn(&f64, &f64) -> bool,
        value: impl Fn(&Quality) -> Option<f64>,
    ) -> String {
        let mut out = String::new();
        for contenders in self.contenders.chunks(5) {
            let names: Vec<String> = contenders.iter().map(|c| two_lines(&c.name)).collect();
            let mut columns = vec![("", Left), ("rows", Right)];
            columns.extend(names.iter().map(|name| (name.as_str(), Right)));
            let best = |span: Option<usize>| {
                let values = self.contenders.iter().filter_map(|c| value(c.over(span)?));
                values.reduce(|a, b| if better(&b, &a) { b } else { a })
            };
            let row = |name: &str, span: Option<usize>| {
                let rows = contenders.iter().find_map(|c| Some(c.over(span)?.rows)).unwrap_or(0);
                let mut cells = vec![clip(name, 18), thousands(rows)];
                cells.extend(contenders.iter().map(|contender| {
                    let quality = contender.over(span).copied().unwrap_or_default();
                    let mark = if value(&quality).is_some() && value(&quality) == best(span) {
                        "*"
                    } else {
                        " "
                    };
                    show(&quality).map_or("- ".into(), |text| text + mark)
                }));
                cells
            };
            let spans = self.spans.iter().enumerate().map(|(i, span)| row(&span.name, Some(i)));
            out += &Table::new(&columns).rows(std::iter::once(row("whole", None)).chain(spans));
        }
        out
    }
}

impl Contender {
    /// The quality over a span, or over everything.
    pub fn over(&self, span: Option<usize>) -> Option<&Quality> {
        span.map_or(Some(&self.whole), |span| self.spans.get(span))
    }
}

/// Measures by name in one line: `log_loss 0.4321, auc 0.712`.
pub fn measures(metrics: &[(String, f64)]) -> String {
    let texts = metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// The day of a time, `2013-02-05`.
pub fn day(time: Micros) -> String {
    to_rfc3339(time).split('T').next().unwrap_or_default().into()
}

/// A time to the minute, `2013-02-05 12:30`.
pub fn minute(time: Micros) -> String {
    to_rfc3339(time).replace('T', " ").chars().take(16).collect()
}

/// Names and values in three columns.
fn counts(pairs: &[(&str, String)]) -> String {
    let rows = pairs.len().div_ceil(3);
    let name = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let value = pairs.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let mut out = String::new();
    for row in 0..rows {
        let cells = (0..3).filter_map(|column| pairs.get(column * rows + row));
        let line: Vec<String> = cells.map(|(n, v)| format!("{n:<name$} {v:>value$}")).collect();
        out += line.join("    ").trim_end();
        out += "\n";
    }
    out
}

/// A name in at most two lines of twelve characters, for the head of a narrow column.
fn two_lines(name: &str) -> String {
    let middle = name.match_indices(' ').map(|(at, _)| at).rfind(|&at| at <= 12);
    match middle {
        Some(at) if name.len() > 10 => format!("{}\n{}", &name[..at], clip(&name[at + 1..], 12)),
        _ => clip(name, 12),
    }
}

/// Cut to so many characters, with an ellipsis.
fn clip(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.into();
    }
    text.chars().take(limit.saturating_sub(2)).collect::<String>() + ".."
}

#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Right,
}
use Align::{Left, Right};

/// Columns as wide as their widest cell, two blanks between them, a rule under the heads.
struct Table<'a> {
    columns: &'a [(&'a str, Align)],
}

impl<'a> Table<'a> {
    fn new(columns: &'a [(&'a str, Align)]) -> Table<'a> {
        Table { columns }
    }

    fn rows(&self, rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let rows: Vec<Vec<String>> = rows.into_iter().collect();
        let heads = self.heads();
        let width = |column: usize| {
            let cells = heads.iter().chain(&rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let lines = heads.iter().chain([&rule]).chain(&rows);
        lines.map(|row| self.line(row, &widths)).collect()
    }

    /// Heads of one or two lines; a short one stands on the lower line.
    fn heads(&self) -> Vec<Vec<String>> {
        let halves =
            self.columns.iter().map(|(head, _)| head.split_once('\n').unwrap_or(("", head)));
        let (upper, lower): (Vec<String>, Vec<String>) =
            halves.map(|(a, b)| (a.to_owned(), b.to_owned())).unzip();
        if upper.iter().all(String::is_empty) { vec![lower] } else { vec![upper, lower] }
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(widths).zip(self.columns);
        let padded = cells.map(|((cell, &width), (_, align))| match align {
            Left => format!("{cell:<width$}"),
            Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    }
}

#[cfg(test)]
pub(crate) mod tests;
