//! Bars across, longest first: which features the trees use.

use super::svg::{Anchor, Svg, text_width};

/// Draws shares, which sum to 1 at most, largest first.
pub fn draw(label: &str, shares: &[(String, f64)], width: f64) -> String {
    const ROW: f64 = 20.0;
    let longest = shares.iter().map(|(name, _)| text_width(name)).fold(30.0, f64::max);
    let left = (longest + 10.0).min(width * 0.45);
    let most = shares.iter().map(|(_, share)| *share).fold(1e-12, f64::max);
    let mut svg = Svg::new(width, ROW * shares.len() as f64 + 2.0, label);
    for (i, (name, share)) in shares.iter().enumerate() {
        let y = i as f64 * ROW;
        let bar = (width - left - 60.0) * share / most;
        let text = format!("{:.1} %", share * 100.0);
        svg.text("label", (left - 8.0, y + ROW / 2.0), Anchor::End, name);
        svg.rect("share", (left, y + 3.0), (bar, ROW - 6.0), &format!("{name}: {text}"));
        svg.text("tick", (left + bar + 6.0, y + ROW / 2.0), Anchor::Start, &text);
    }
    svg.finish()
}
