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
    /// Drift alerts.
    pub alerts: u64,
    /// Trainings in the order of their triggers.
    pub retrainings: Vec<Retraining>,
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

/// What became of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It took over.
    Promoted,
    /// The gate turned it away.
    Refused,
    /// It took over and was taken back.
    RolledBack,
    /// The gate was still waiting for rows, or it was overtaken by a newer one.
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
    let middle = name.match_indices(' ').map(|(at, _)| at).filter(|&at| at <= 12).next_back();
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
pub(crate) mod tests {
    use tidemill_types::time::{DAY, from_rfc3339};

    use super::*;

    /// A run of a year, as large as real ones.
    pub(crate) fn sample() -> Summary {
        let time = |text: &str| from_rfc3339(text).expect("a time");
        let spans: Vec<Span> = (2..=12)
            .map(|month| (format!("2013-{month:02}"), month, 1, month + 1, 1))
            .chain([
                ("5 Feb to 30 Jun".into(), 2, 5, 7, 1),
                ("1 Jul to 31 Dec".into(), 7, 1, 13, 1),
            ])
            .map(|(name, from_month, from_day, to_month, to_day)| {
                let year = if to_month > 12 { 2014 } else { 2013 };
                let to_month = (to_month - 1) % 12 + 1;
                Span {
                    name,
                    from: time(&format!("2013-{from_month:02}-{from_day:02}")),
                    to: time(&format!("{year}-{to_month:02}-{to_day:02}")),
                }
            })
            .collect();
        let contender = |name: &str, loss: f64, auc: Option<f64>| {
            let quality = |i: usize| Quality {
                rows: 26_000 + 311 * i as u64,
                log_loss: Some(loss + 0.013 * (i as f64 * 0.9).sin()),
                auc: auc.map(|a| a - 0.01 * (i as f64 * 0.7).cos()),
            };
            let whole = Quality { rows: 301_512, ..quality(0) };
            Contender { name: name.into(), whole, spans: (0..spans.len()).map(quality).collect() }
        };
        let retraining = |week: i64, trigger: &str, version, fate| Retraining {
            model: "trees".into(),
            version,
            triggered_at: time("2013-02-05") + week * 7 * DAY,
            trigger: trigger.into(),
            rows: 24_311 + 6_000 * week as u64,
            seconds: 1.2 + 0.3 * week as f64,
            metrics: vec![("log_loss".into(), 0.45 - 0.001 * week as f64), ("auc".into(), 0.71)],
            fate,
        };
        Summary {
            pipeline: "flight_delays".into(),
            event_times: Some((time("2013-01-01T10:00:00Z"), time("2013-12-31T23:59:00Z"))),
            events: 689_987,
            events_per_second: 41_250.7,
            scores: 336_776,
            labelled: 327_346,
            timed_out: 9_012,
            pending: 418,
            late: 17,
            dead_letters: vec![
                DeadLetters { source: "departures".into(), reason: "no_time".into(), rows: 3 },
                DeadLetters { source: "weather".into(), reason: "parse".into(), rows: 12 },
            ],
            alerts: 41,
            retrainings: vec![
                retraining(0, "every 7d", Some(1), Fate::Promoted),
                retraining(3, "drift.features gusts psi 0.31 above 0.25", Some(2), Fate::Promoted),
                retraining(9, "every 7d", Some(3), Fate::Refused),
                retraining(15, "drift.loss", None, Fate::Failed),
                retraining(22, "every 7d", Some(4), Fate::Waiting),
            ],
            promotions: 2,
            refusals: 1,
            rollbacks: 0,
            peak_memory_bytes: Some(812 << 20),
            seconds: 84.3,
            seconds_waiting_for_training: 31.9,
            contenders: vec![
                contender("served", 0.4391, Some(0.7411)),
                contender("online", 0.4412, Some(0.7390)),
                contender("trees (retrained)", 0.4463, Some(0.7322)),
                contender("trees v1 (frozen)", 0.4718, Some(0.6891)),
                contender("base rate", 0.5123, None),
            ],
            spans,
        }
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let table = sample().table();
        for line in table.lines() {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
            assert_eq!(line, line.trim_end());
        }
        let wanted =
            ["689,987", "2013-01-01 to 2013-12-31", "812.0 MiB", "base rate", "5 Feb to 30 Jun"];
        for wanted in
            wanted.into_iter().chain(["(retrained)", "(frozen)", "log_loss 0.4500", "no_time"])
        {
            assert!(
                table.contains(wanted),
                "{wanted}
{table}"
            );
        }
    }

    #[test]
    fn the_best_of_a_row_is_marked_once() {
        let table = sample().table();
        let losses =
            table.split("LOG LOSS").nth(1).and_then(|t| t.split("AUC").next()).expect("there");
        assert_eq!(losses.matches('*').count(), sample().spans.len() + 1, "{losses}");
        assert!(losses.contains("0.4391*"), "{losses}");
    }

    #[test]
    fn json_and_back() {
        let text = serde_json::to_string(&sample()).expect("JSON");
        assert_eq!(serde_json::from_str::<Summary>(&text).expect("back"), sample());
    }

    #[test]
    fn an_empty_run_has_a_table_too() {
        let table = Summary::default().table();
        assert!(table.contains("events") && !table.contains("LOG LOSS"), "{table}");
    }
}
