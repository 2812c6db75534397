//! A heat map of drift: features down, weeks across.

use super::line::month_axis;
use super::scale::{Scale, date};
use super::svg::{Anchor, Svg, text_width};
use super::{Drift, number};

/// Classes of colour; the style has one for each.
const CLASSES: usize = 8;

/// Draws it; features in the order given.
pub fn draw(drift: &Drift, width: f64) -> String {
    let narrow = width < 500.0;
    let (row, gap): (f64, f64) = if narrow { (16.0, 1.0) } else { (20.0, 1.5) };
    let longest = drift.features.iter().map(|f| text_width(&f.name)).fold(40.0, f64::max);
    let left = (longest + 10.0).min(if narrow { 120.0 } else { 190.0 });
    let limit = ((left - 10.0) / 6.6) as usize;
    let height = row * drift.features.len() as f64 + 26.0;
    let label = format!("{} of each feature by week", drift.statistic);
    let mut svg = Svg::new(width, height, label);
    let cell = (width - left - 4.0) / drift.weeks.len().max(1) as f64;
    for (i, feature) in drift.features.iter().enumerate() {
        let y = i as f64 * row;
        svg.text("label", (left - 8.0, y + row / 2.0), Anchor::End, &clip(&feature.name, limit));
        for (j, (week, value)) in drift.weeks.iter().zip(&feature.values).enumerate() {
            let (class, text) = match value {
                Some(value) => (format!("h{}", class_of(*value, drift)), number(*value)),
                None => ("none".into(), "no reading".into()),
            };
            let title = format!("{}, week of {}: {text}", feature.name, date(*week));
            let at = (left + j as f64 * cell, y);
            svg.rect(&class, at, (cell - gap.min(cell / 4.0), row - gap), &title);
        }
    }
    if let (Some(&first), Some(&last)) = (drift.weeks.first(), drift.weeks.last()) {
        let centre = |j: f64| left + (j + 0.5) * cell;
        let places = (centre(0.0), centre(drift.weeks.len() as f64 - 1.0));
        let x = Scale::new((first as f64, last as f64), places);
        month_axis(&mut svg, &x, (first, last), height - 24.0, (width - left) / 52.0);
    }
    svg.finish()
}

/// The colours with the values at which they begin, as HTML.
pub fn legend(drift: &Drift) -> String {
    let edges = edges(drift.warning, drift.limit);
    let mut out = String::from("<ul class=\"legend heat\">");
    for class in 0..CLASSES {
        let text = match class {
            0 => format!("below {}", number(edges[0])),
            _ => format!("from {}", number(edges[class - 1])),
        };
        let note = match class {
            3 => " (warning)",
            5 => " (drift)",
            _ => "",
        };
        out += &format!(
            "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect class=\"h{class}\" width=\"14\" height=\"14\"/></svg>{text}{note}</li>"
        );
    }
    out + "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect class=\"none\" width=\"14\" height=\"14\"/></svg>no reading</li></ul>\n"
}

/// From which values on each class begins, but the first: three classes below the warning, two up to drift,
/// three above, for what matters is where thresholds are.
pub fn edges(warning: f64, limit: f64) -> [f64; CLASSES - 1] {
    [
        warning / 4.0,
        warning / 2.0,
        warning,
        f64::midpoint(warning, limit),
        limit,
        2.0 * limit,
        4.0 * limit,
    ]
}

fn class_of(value: f64, drift: &Drift) -> usize {
    edges(drift.warning, drift.limit).iter().filter(|&&edge| value >= edge).count()
}

fn clip(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.into();
    }
    text.chars().take(limit.saturating_sub(1)).collect::<String>() + "\u{2026}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_turn_at_the_thresholds() {
        let drift = Drift {
            statistic: "PSI".into(),
            warning: 0.1,
            limit: 0.25,
            weeks: vec![0],
            features: Vec::new(),
        };
        let class = |value| class_of(value, &drift);
        assert_eq!((class(0.0), class(0.0999), class(0.1), class(0.2499)), (0, 2, 3, 4));
        assert_eq!((class(0.25), class(0.5), class(1.0), class(f64::INFINITY)), (5, 6, 7, 7));
    }
}
