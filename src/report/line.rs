//! Lines over time, one for each contender.

use tidemill_types::Micros;

use super::scale::{Scale, date, months, ticks};
use super::svg::{Anchor, Svg};

/// A line to draw.
pub struct Line<'a> {
    /// Which colour and dash.
    pub colour: usize,
    /// Its name in the tooltips.
    pub name: &'a str,
    /// A value for each time; gaps where there is none.
    pub values: Vec<Option<f64>>,
}

/// Draws lines over the same `times`.
pub fn draw(label: &str, times: &[Micros], lines: &[Line<'_>], width: f64) -> String {
    let height = if width < 500.0 { 220.0 } else { 250.0 };
    let (left, right, top, bottom) = (46.0, width - 10.0, 10.0, height - 26.0);
    let mut svg = Svg::new(width, height, label);
    let y_ticks = ticks(lines.iter().flat_map(|line| line.values.iter().flatten().copied()), 4);
    let range = (y_ticks[0].0, y_ticks[y_ticks.len() - 1].0);
    let y = Scale::new(range, (bottom, top));
    let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
    let x = Scale::new((first as f64, last as f64), (left + 4.0, right - 4.0));
    for (value, text) in &y_ticks {
        svg.line("grid", (left, y.at(*value)), (right, y.at(*value)));
        svg.text("tick", (left - 6.0, y.at(*value)), Anchor::End, text);
    }
    month_axis(&mut svg, &x, (first, last), bottom, (right - left) / 52.0);
    for line in lines {
        let point =
            |(time, value): (&Micros, &Option<f64>)| Some((x.at(*time as f64), y.at((*value)?)));
        let points: Vec<_> = times.iter().zip(&line.values).map(point).collect();
        svg.polyline(&format!("line c{}", line.colour), &points);
        for ((at, time), value) in points.iter().zip(times).zip(&line.values) {
            if let (Some(at), Some(value)) = (at, value) {
                let title = format!("{}, week of {}: {value:.4}", line.name, date(*time));
                svg.circle("hover", *at, 6.0, &title);
            }
        }
    }
    svg.finish()
}

/// Month names under a drawing, as many as fit.
pub fn month_axis(svg: &mut Svg, x: &Scale, span: (Micros, Micros), y: f64, fit: f64) {
    for (time, text) in months(span.0, span.1, fit.max(1.0) as usize) {
        let at = x.at(time as f64);
        svg.line("axis", (at, y), (at, y + 5.0));
        svg.text("tick", (at, y + 16.0), Anchor::Middle, &text);
    }
}
