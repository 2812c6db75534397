//! Are scores probabilities? What was predicted against what came true, and how often it was predicted.

use super::svg::{Anchor, Svg};
use super::{Bin, Calibration};
use crate::observe::thousands;

const SIZE: f64 = 190.0;
const LEFT: f64 = 30.0;
const PLOT: f64 = SIZE - LEFT - 8.0;
/// The histogram under the plot.
const COUNTS: f64 = 40.0;

/// Draws one contender's bins in a small square of its own.
pub fn draw(calibration: &Calibration, colour: usize) -> String {
    let height = 10.0 + PLOT + 22.0 + COUNTS;
    let label = format!("Calibration of {}", calibration.contender);
    let mut svg = Svg::new(SIZE, height, label);
    let at = |predicted: f64, observed: f64| {
        (LEFT + PLOT * predicted.clamp(0.0, 1.0), 10.0 + PLOT * (1.0 - observed.clamp(0.0, 1.0)))
    };
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        svg.line("grid", at(0.0, tick), at(1.0, tick));
        svg.line("grid", at(tick, 0.0), at(tick, 1.0));
        if tick != 0.25 && tick != 0.75 {
            let (x, y) = at(tick, 0.0);
            svg.text("tick", (x, y + 12.0), Anchor::Middle, &format!("{tick}"));
            svg.text("tick", (LEFT - 5.0, at(0.0, tick).1), Anchor::End, &format!("{tick}"));
        }
    }
    svg.line("ideal", at(0.0, 0.0), at(1.0, 1.0));
    let filled = || calibration.bins.iter().filter(|bin| bin.rows > 0);
    let points: Vec<_> = filled().map(|bin| Some(at(bin.predicted, bin.observed))).collect();
    svg.polyline(&format!("line c{colour}"), &points);
    for bin in filled() {
        svg.circle(&format!("dot c{colour}"), at(bin.predicted, bin.observed), 3.5, &title(bin));
    }
    counts(&mut svg, calibration, colour, height);
    svg.finish()
}

/// Bars by rows, on the same axis.
fn counts(svg: &mut Svg, calibration: &Calibration, colour: usize, height: f64) {
    let most = calibration.bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1) as f64;
    let width = PLOT / calibration.bins.len().max(1) as f64;
    for (i, bin) in calibration.bins.iter().enumerate() {
        let bar = (COUNTS - 4.0) * bin.rows as f64 / most;
        // A bin with a single row is still seen.
        let bar = if bin.rows > 0 { bar.max(1.0) } else { 0.0 };
        let at = (LEFT + i as f64 * width + 1.0, height - 1.0 - bar);
        svg.rect(&format!("bar c{colour}"), at, (width - 2.0, bar), &title(bin));
    }
    svg.line("axis", (LEFT, height - 0.5), (LEFT + PLOT, height - 0.5));
    svg.text("tick", (LEFT - 5.0, height - COUNTS / 2.0), Anchor::End, "rows");
}

fn title(bin: &Bin) -> String {
    let (predicted, observed) = (bin.predicted, bin.observed);
    format!("predicted {predicted:.3}, came true {observed:.3}, {} rows", thousands(bin.rows))
}
