//! One frame: a pure function of what was answered and of the room there is.

use std::time::Duration;

use serde_json::Value as Json;

use crate::observe::{duration, size, thousands};

/// What was answered last.
#[derive(Default)]
pub(super) struct Look {
    pub(super) pipeline: Json,
    pub(super) status: Json,
    pub(super) models: Json,
    pub(super) drift: Json,
    pub(super) alerts: Json,
    /// For how long there has been no answer, and why.
    pub(super) lost: Option<(Duration, String)>,
}

/// Where a frame has its place.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) columns: usize,
    pub(super) lines: usize,
    pub(super) colour: bool,
}

/// Lines of a part where nobody says how many there may be.
const PART: usize = 12;

#[derive(Clone, Copy, PartialEq)]
enum Paint {
    Plain,
    Head,
    Soft,
    Good,
    Warn,
    Bad,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Plain => "",
            Paint::Head => "\x1b[1m",
            Paint::Soft => "\x1b[2m",
            Paint::Good => "\x1b[32m",
            Paint::Warn => "\x1b[33m",
            Paint::Bad => "\x1b[31m",
        }
    }
}

/// A cell: a text in a width, to the right if the width is negative.
struct Cell {
    text: String,
    width: isize,
    paint: Paint,
}

fn cell(text: impl Into<String>, width: isize) -> Cell {
    Cell { text: text.into(), width, paint: Paint::Plain }
}

impl Cell {
    fn painted(mut self, paint: Paint) -> Cell {
        self.paint = paint;
        self
    }
}

struct Frame {
    room: Room,
    lines: Vec<String>,
}

/// Texts come from data: none may move the cursor or ring the bell.
fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Frame {
    /// A line of cells, each followed by a blank; what does not fit is cut off.
    fn row(&mut self, cells: &[Cell]) {
        let mut line = String::new();
        let mut left = self.room.columns;
        for cell in cells {
            let text = tame(&cell.text);
            let width = cell.width.unsigned_abs();
            let given = if width == 0 { left } else { width.min(left) };
            let n = text.chars().count();
            let mut text: String = match n > given {
                true if given > 1 => text.chars().take(given - 1).chain(['…']).collect(),
                true => String::new(),
                false => text,
            };
            let padding = if width == 0 { 0 } else { given.saturating_sub(n) };
            text = match cell.width < 0 {
                true => " ".repeat(padding) + &text,
                false => text + &" ".repeat(padding),
            };
            left = left.saturating_sub(text.chars().count() + 1);
            match self.room.colour && cell.paint != Paint::Plain {
                true => line += &format!("{}{text}\x1b[0m ", cell.paint.code()),
                false => line += &format!("{text} "),
            }
            if left == 0 {
                break;
            }
        }
        self.lines.push(line.trim_end().to_string());
    }

    fn head(&mut self, cells: &[(&str, isize)]) {
        let cells: Vec<Cell> =
            cells.iter().map(|(text, width)| cell(*text, *width).painted(Paint::Soft)).collect();
        self.row(&cells);
    }

    fn gap(&mut self) {
        self.lines.push(String::new());
    }

    /// A part of at most so many lines below its head; says how many there are more.
    fn part(&mut self, most: usize, rows: &[Vec<Cell>]) {
        let shown = if rows.len() > most { most.saturating_sub(1) } else { rows.len() };
        rows[..shown].iter().for_each(|row| self.row(row));
        if shown < rows.len() {
            self.row(&[cell(format!("and {} more", rows.len() - shown), 0).painted(Paint::Soft)]);
        }
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or("-").to_string()
}

fn count(value: &Json) -> String {
    value.as_u64().map_or_else(|| "-".to_string(), thousands)
}

fn rate(value: &Json) -> String {
    match value.as_f64() {
        None => "-".to_string(),
        Some(0.0) => "0".to_string(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => thousands(rate.round() as u64),
    }
}

fn number(value: &Json) -> String {
    value.as_f64().map_or_else(|| "-".to_string(), |number| format!("{number:.4}"))
}

fn span(value: &Json) -> String {
    match value.as_f64() {
        None => "-".to_string(),
        Some(seconds) if seconds >= 2.0 * 86_400.0 => format!("{:.0} d", seconds / 86_400.0),
        Some(seconds) => duration(seconds),
    }
}

/// `2026-01-01 12:00:00`, or only its time where there is little room.
fn moment(value: &Json, narrow: bool) -> String {
    let Some(text) = value.as_str() else { return "-".to_string() };
    let text = text.get(..19).unwrap_or(text).replace('T', " ");
    if narrow { text.get(5..16).unwrap_or(&text).to_string() } else { text }
}

fn paint_of(level: &str) -> Paint {
    match level {
        "drift" | "error" => Paint::Bad,
        "warning" => Paint::Warn,
        _ => Paint::Good,
    }
}

fn trouble(value: &Json) -> Paint {
    if value.as_u64().unwrap_or(0) > 0 { Paint::Warn } else { Paint::Plain }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Draws it; no line is longer than the room, and there are no more than it has.
pub(super) fn draw(look: &Look, room: &Room) -> String {
    let mut frame = Frame { room: *room, lines: Vec::new() };
    let narrow = room.columns < 110;
    summary(&mut frame, look);
    let sources = list(&look.status["sources"]).len();
    let models = list(&look.models["models"]).len();
    // Sources and models come first; drift and alerts share what is left.
    let bounded = room.lines < usize::MAX;
    let (first, rest) = match bounded {
        false => (PART, PART),
        true => {
            let left = room.lines.saturating_sub(frame.lines.len() + 9);
            let first = (left / 3).max(2);
            let used = sources.min(first) + models.min(first);
            (first, (left.saturating_sub(used) / 2).max(1))
        }
    };
    frame.gap();
    of_sources(&mut frame, look, narrow, first);
    frame.gap();
    of_models(&mut frame, look, narrow, first);
    frame.gap();
    of_drift(&mut frame, look, narrow, rest);
    frame.gap();
    of_alerts(&mut frame, look, narrow, rest);
    frame.lines.truncate(room.lines.saturating_sub(1));
    frame.lines.join("\n") + "\n"
}

fn summary(frame: &mut Frame, look: &Look) {
    let (pipeline, status) = (&look.pipeline, &look.status);
    let state = text(&status["state"]);
    let (state, paint) = match &look.lost {
        Some((since, why)) => {
            let since = duration(since.as_secs_f64());
            (format!("no answer for {since}: {why}"), Paint::Bad)
        }
        None if state == "running" => (state, Paint::Good),
        None => (state, Paint::Soft),
    };
    frame.row(&[
        cell(text(&pipeline["name"]), text(&pipeline["name"]).chars().count() as isize)
            .painted(Paint::Head),
        cell(state.clone(), state.chars().count() as isize).painted(paint),
        cell(format!("up {}", span(&status["uptime_seconds"])), 0).painted(Paint::Soft),
    ]);
    let line = &status["checkpoint"];
    let mut first = vec![
        format!("rows/s {}", rate(&status["rows_per_second"])),
        format!("scores/s {}", rate(&status["scores_per_second"])),
        format!("done up to {}", moment(&status["watermark"], false)),
    ];
    if pipeline["live"] == true {
        first.push(format!("behind {}", span(&status["lag_seconds"])));
    }
    let mut second = vec![
        format!("log loss {}", number(&status["log_loss"])),
        format!("labelled {}", count(&status["labelled"])),
        format!("awaited {}", count(&status["pending"])),
        format!("memory {}", size(status["memory_bytes"].as_u64().unwrap_or(0))),
    ];
    if line.is_object() {
        second.push(format!("checkpoint {}", size(line["bytes"].as_u64().unwrap_or(0))));
    }
    for parts in [first, second] {
        frame.row(&[cell(parts.join("  "), 0)]);
    }
}

fn of_sources(frame: &mut Frame, look: &Look, narrow: bool, most: usize) {
    let (name, time) = if narrow { (16, 12) } else { (28, 20) };
    frame.head(&[
        ("SOURCE", name),
        ("ROWS/S", -9),
        ("ROWS", -13),
        ("WATERMARK", time),
        ("LAG", -8),
        ("LATE", -7),
        ("DEAD", -7),
    ]);
    let row = |source: &Json| {
        let ended = source["ended"] == true;
        let at = if ended { "at its end".into() } else { moment(&source["watermark"], narrow) };
        vec![
            cell(text(&source["name"]), name),
            cell(rate(&source["rows_per_second"]), -9),
            cell(count(&source["rows"]), -13),
            cell(at, time),
            cell(span(&source["lag_seconds"]), -8),
            cell(count(&source["late"]), -7).painted(trouble(&source["late"])),
            cell(count(&source["dead"]), -7).painted(trouble(&source["dead"])),
        ]
    };
    frame.part(most, &list(&look.status["sources"]).iter().map(row).collect::<Vec<_>>());
}

fn of_models(frame: &mut Frame, look: &Look, narrow: bool, most: usize) {
    let name = if narrow { 16 } else { 28 };
    frame.head(&[("MODEL", name), ("CHARGE", -7), ("NEWEST", -7), ("WHAT HAPPENED LAST", 0)]);
    let version = |n: Option<u64>| match n {
        Some(n) if n > 0 => format!("v{n}"),
        _ => "-".to_string(),
    };
    let row = |model: &Json| {
        let (last, trial) = (&model["events"][0], &model["trial"]);
        let last = match (trial.is_object(), last.is_object()) {
            (true, _) => on_trial(trial),
            (false, true) => {
                let at = moment(&last["at"], narrow);
                format!("{at} v{} {}", count(&last["version"]), text(&last["what"]))
            }
            _ => String::new(),
        };
        let serves = if model["serves"] == true { " *" } else { "" };
        vec![
            cell(format!("{}{serves}", text(&model["name"])), name),
            cell(version(model["current"].as_u64()), -7),
            cell(version(model["versions"][0]["version"].as_u64()), -7),
            cell(last, 0),
        ]
    };
    let models = list(&look.models["models"]);
    frame.part(most, &models.iter().map(row).collect::<Vec<_>>());
    if models.is_empty() {
        frame.row(&[cell("the pipeline has none", 0).painted(Paint::Soft)]);
    }
}

/// How far the version on trial has come, in few words.
fn on_trial(trial: &Json) -> String {
    let newest = list(&trial["growth"]).last().cloned().unwrap_or_default();
    format!(
        "v{} {} at {:.0} % against v{}: evidence {} of {} for better, {} of {} for worse",
        count(&trial["version"]),
        text(&trial["stage"]),
        trial["share"].as_f64().unwrap_or(0.0) * 100.0,
        count(&trial["against"]),
        number(&newest["better"]),
        rate(&trial["better_at"]),
        number(&newest["worse"]),
        rate(&trial["worse_at"]),
    )
}

/// Cells of the map, for a line of blocks: the larger of neighbours where there are too many.
fn blocks(cells: &[Json], warning: f64, limit: f64, width: usize) -> String {
    let each = cells.len().div_ceil(width.max(1)).max(1);
    let block = |group: &[Json]| {
        let largest = group.iter().filter_map(Json::as_f64).fold(f64::NAN, f64::max);
        match largest {
            v if v.is_nan() => ' ',
            v if v >= limit => '█',
            v if v >= warning => '▒',
            _ => '·',
        }
    };
    cells.chunks(each).map(block).collect()
}

fn of_drift(frame: &mut Frame, look: &Look, narrow: bool, most: usize) {
    let name = if narrow { 20 } else { 28 };
    let map = &look.drift["map"];
    let title = match map.is_object() {
        true => format!("DRIFT {}: {}", text(&map["drift"]), text(&map["detector"])),
        false => "DRIFT".to_string(),
    };
    frame.head(&[(&title, name), ("READING", -9), ("LEVEL", 8), ("OVER THE RUN", 0)]);
    let bound = |key: &str| map[key].as_f64().unwrap_or(f64::INFINITY);
    let width = frame.room.columns.saturating_sub(name as usize + 22).min(96);
    let row = |feature: &Json| {
        let level = text(&feature["level"]);
        vec![
            cell(text(&feature["of"]), name),
            cell(number(&feature["statistic"]), -9),
            cell(level.clone(), 8).painted(paint_of(&level)),
            cell(blocks(list(&feature["cells"]), bound("warning"), bound("limit"), width), 0),
        ]
    };
    let features = list(&map["features"]);
    frame.part(most, &features.iter().map(row).collect::<Vec<_>>());
    if features.is_empty() {
        frame.row(&[cell("nothing was read yet", 0).painted(Paint::Soft)]);
    }
}

fn of_alerts(frame: &mut Frame, look: &Look, narrow: bool, most: usize) {
    let time = if narrow { 12 } else { 20 };
    let title = format!("ALERTS ({})", count(&look.status["alerts"]));
    frame.head(&[(&title, time), ("LEVEL", 8), ("OF", 24), ("FOUND BY", 22), ("READING", -9)]);
    let row = |alert: &Json| {
        let level = text(&alert["level"]);
        vec![
            cell(moment(&alert["event_time"], narrow), time),
            cell(level.clone(), 8).painted(paint_of(&level)),
            cell(text(&alert["of"]), 24),
            cell(format!("{}: {}", text(&alert["drift"]), text(&alert["detector"])), 22),
            cell(number(&alert["statistic"]), -9),
        ]
    };
    let alerts = list(&look.alerts["alerts"]);
    frame.part(most, &alerts.iter().map(row).collect::<Vec<_>>());
    if alerts.is_empty() {
        frame.row(&[cell("none", 0).painted(Paint::Soft)]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look() -> Look {
        let source = |n: usize| {
            json!({
                "name": format!("a source with a long name {n}"), "rows_per_second": 12_345.6,
                "rows": 1_234_567_890_u64, "watermark": "2026-01-01T12:34:56.789Z", "lag_seconds": 1.5,
                "ended": n == 1, "late": 3, "dead": 0,
            })
        };
        let feature = |n: usize| json!({"of": format!("feature {n}"), "statistic": 0.31, "level": "drift", "cells": [null, 0.0, 0.15, 0.3]});
        let alert = json!({
            "event_time": "2026-01-01T12:34:56Z", "level": "warning", "of": "\u{1b}[2J\u{7}evil",
            "drift": "features", "detector": "psi", "statistic": 0.2,
        });
        Look {
            pipeline: json!({"name": "shop", "live": true}),
            status: json!({
                "state": "running", "uptime_seconds": 90.0, "rows_per_second": 0.0, "alerts": 40,
                "watermark": "2026-01-01T12:34:56Z", "sources": (0..9).map(source).collect::<Vec<_>>(),
            }),
            models: json!({"models": [{"name": "trees", "current": 2, "serves": true, "versions": [{"version": 3}],
                "events": [{"at": "2026-01-01T12:00:00Z", "version": 2, "what": "takes over from version 1"}]},
                {"name": "others", "current": 1, "versions": [{"version": 2}], "events": [], "trial":
                {"version": 2, "against": 1, "stage": "canary", "share": 0.25, "better_at": 20.0, "worse_at": 100.0,
                 "growth": [{"rows": 7, "better": 3.5, "worse": 0.5}]}}]}),
            drift: json!({"map": {"drift": "features", "detector": "psi", "warning": 0.1, "limit": 0.25,
                "features": (0..20).map(feature).collect::<Vec<_>>()}}),
            alerts: json!({"alerts": vec![alert; 40]}),
            lost: None,
        }
    }

    /// What stands on the screen, without colours.
    fn bare(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            out += before;
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        out + rest
    }

    #[test]
    fn a_frame_fits_into_its_room() {
        for (columns, lines) in [(80, 24), (140, 40), (40, 12), (200, 60), (20, 5)] {
            let text = draw(&look(), &Room { columns, lines, colour: true });
            let text = bare(&text);
            assert!(text.lines().count() < lines, "{columns}x{lines}:\n{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns), "{columns}x{lines}: {widest:?}\n{text}");
        }
        let text = bare(&draw(&look(), &Room { columns: 80, lines: 24, colour: true }));
        for part in ["shop running", "SOURCE", "MODEL", "v2", "DRIFT", "ALERTS (40)", "more", "█"]
        {
            assert!(text.contains(part), "no {part}:\n{text}");
        }
    }

    #[test]
    fn a_pipe_gets_no_escape_and_data_move_no_cursor() {
        let plain = Room { columns: 140, lines: usize::MAX, colour: false };
        let text = draw(&look(), &plain);
        for part in
            ["v2 takes over from version 1", "v2 canary at 25 % against v1: evidence 3.5000 of 20"]
        {
            assert!(text.contains(part), "no `{part}`:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        assert!(text.contains("?[2J?evil"), "{text}");
        let coloured = draw(&look(), &Room { colour: true, ..plain });
        assert!(!coloured.contains("\u{1b}[2J"), "{coloured:?}");
        assert_eq!(bare(&coloured), text);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let mut look = Look { pipeline: json!({"name": "p"}), ..Look::default() };
        look.lost = Some((Duration::from_secs(7), "refused".into()));
        let text = draw(&look, &Room { columns: 80, lines: 24, colour: false });
        for part in
            ["no answer for 7.0 s: refused", "the pipeline has none", "nothing was read yet"]
        {
            assert!(text.contains(part), "no `{part}`:\n{text}");
        }
    }
}
