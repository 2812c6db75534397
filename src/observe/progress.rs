//! The progress of a run on standard error: a bar on a terminal, a line each ten seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::ProgressStyle;
use tidemill_types::Micros;
use tidemill_types::time::{MINUTE, to_rfc3339};

use super::{Screen, duration, thousands};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often a bar is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The bar's length in steps; the share done is rounded to one.
const STEPS: u64 = 1_000;

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Rows read from all sources.
    pub rows: u64,
    /// The present rate.
    pub rows_per_second: f64,
    /// The event time at which the run began.
    pub start: Option<Micros>,
    /// The pipeline's watermark.
    pub watermark: Option<Micros>,
    /// The last event time, if the input is bounded and it is known.
    pub end: Option<Micros>,
    /// Seconds behind the newest event, if the input is live.
    pub lag: Option<f64>,
    /// The version in charge of each model.
    pub versions: Vec<(String, u64)>,
    /// Rows scored.
    pub scores: u64,
    /// Log loss of what was served, over recently labelled rows.
    pub log_loss: Option<f64>,
}

impl Progress {
    /// The share done, 0 to 1, if the input is bounded and both its ends are known.
    pub fn share(&self) -> Option<f64> {
        let (start, now, end) = (self.start?, self.watermark?, self.end?);
        let whole = end.checked_sub(start).filter(|&whole| whole > 0)?;
        Some((now.saturating_sub(start) as f64 / whole as f64).clamp(0.0, 1.0))
    }

    /// Everything in one line, without the share.
    pub fn line(&self) -> String {
        let mut parts = Vec::with_capacity(6);
        if let Some(watermark) = self.watermark {
            // To the minute: seconds would only flicker.
            let minute = to_rfc3339(watermark.div_euclid(MINUTE) * MINUTE);
            parts.push(minute.trim_end_matches(":00Z").replace('T', " "));
        }
        let rate = self.rows_per_second.max(0.0).round() as u64;
        parts.push(format!("{} rows", thousands(self.rows)));
        parts.push(format!("{}/s", thousands(rate)));
        if let Some(lag) = self.lag {
            parts.push(format!("lag {}", duration(lag)));
        }
        if self.scores > 0 {
            parts.push(format!("{} scores", thousands(self.scores)));
        }
        let versions = self.versions.iter().map(|(model, version)| format!("{model} v{version}"));
        let versions = versions.collect::<Vec<_>>().join(" ");
        if !versions.is_empty() {
            parts.push(versions);
        }
        if let Some(loss) = self.log_loss {
            parts.push(format!("log loss {loss:.4}"));
        }
        parts.join("  ")
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A bar that is drawn again and again.
    Bar,
    /// A line each ten seconds.
    Lines,
    /// Nothing.
    None,
}

impl Display {
    /// A bar on a terminal, lines elsewhere, nothing if `quiet`.
    pub fn choose(quiet: bool) -> Display {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Display::None,
            (false, true) => Display::Bar,
            (false, false) => Display::Lines,
        }
    }
}

/// Shows snapshots of progress. It may be told as often as one likes: it draws as often as is useful.
#[derive(Debug)]
pub struct ProgressBar {
    display: Display,
    screen: Screen,
    bar: Option<indicatif::ProgressBar>,
    shown: Option<Instant>,
}

impl ProgressBar {
    /// Nothing is shown before the first [`update`](ProgressBar::update).
    pub fn new(display: Display, screen: &Screen) -> ProgressBar {
        ProgressBar { display, screen: screen.clone(), bar: None, shown: None }
    }

    /// Takes a snapshot.
    pub fn update(&mut self, progress: &Progress) {
        let now = Instant::now();
        if self.due(now) {
            self.shown = Some(now);
            self.show(progress);
        }
    }

    /// Shows the last snapshot; the bar is taken off the screen.
    pub fn finish(&mut self, progress: &Progress) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        } else if self.display == Display::Lines {
            self.show(progress);
        }
    }

    fn due(&self, now: Instant) -> bool {
        let every = match self.display {
            Display::None => return false,
            Display::Bar => DRAW_EVERY,
            Display::Lines => LINE_EVERY,
        };
        self.shown.is_none_or(|shown| now.duration_since(shown) >= every)
    }

    fn show(&mut self, progress: &Progress) {
        if self.display == Display::Lines {
            let share =
                progress.share().map_or(String::new(), |s| format!("{:3.0} %  ", s * 100.0));
            let line = format!("{share}{}\n", progress.line());
            // A closed standard error must not stop a run.
            let _ = self.screen.suspend(|| std::io::stderr().write_all(line.as_bytes()));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            self.screen.bars.add(indicatif::ProgressBar::new(STEPS).with_style(style(false)))
        });
        if let Some(share) = progress.share() {
            bar.set_style(style(true));
            bar.set_position((share * STEPS as f64) as u64);
        }
        bar.set_message(progress.line());
        bar.tick();
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The bar of a bounded input, or the spinner of one whose end is not known.
fn style(bounded: bool) -> ProgressStyle {
    ProgressStyle::with_template(template(bounded))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("##-")
        .tick_chars("|/-\\ ")
}

fn template(bounded: bool) -> &'static str {
    if bounded {
        "{bar:24.cyan/dim} {percent:>3} %  {wide_msg}"
    } else {
        "{spinner:.cyan} {wide_msg}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            rows: 336_776,
            rows_per_second: 41_250.6,
            start: Some(0),
            watermark: Some(1_370_044_799_000_000 / 2),
            end: Some(1_370_044_799_000_000),
            lag: Some(2.5),
            versions: vec![("online".into(), 12), ("trees".into(), 3)],
            scores: 100,
            log_loss: Some(0.51234),
        }
    }

    #[test]
    fn a_snapshot_is_one_line() {
        assert_eq!(
            progress().line(),
            "1991-09-16 11:59  336,776 rows  41,251/s  lag 2.5 s  100 scores  online v12 trees v3  log loss 0.5123"
        );
        assert_eq!(Progress::default().line(), "0 rows  0/s");
    }

    #[test]
    fn the_share_needs_both_ends() {
        assert!(progress().share().is_some_and(|s| (s - 0.5).abs() < 1e-9));
        assert_eq!(Progress { end: None, ..progress() }.share(), None);
        assert_eq!(Progress { end: Some(0), ..progress() }.share(), None);
        assert_eq!(Progress { watermark: Some(-9), ..progress() }.share(), Some(0.0));
        assert_eq!(Progress { watermark: Some(i64::MAX), ..progress() }.share(), Some(1.0));
    }

    #[test]
    fn lines_come_each_ten_seconds_and_never_when_quiet() {
        let mut bar = ProgressBar::new(Display::Lines, &Screen::default());
        let start = Instant::now();
        assert!(bar.due(start));
        bar.shown = Some(start);
        assert!(
            !bar.due(start + Duration::from_secs(9)) && bar.due(start + Duration::from_secs(10))
        );
        assert!(!ProgressBar::new(Display::None, &Screen::default()).due(start));
    }

    #[test]
    fn templates_are_understood() {
        // The fallback in `style` would hide a mistake.
        for bounded in [false, true] {
            assert!(ProgressStyle::with_template(template(bounded)).is_ok());
        }
    }
}
