//! A drawing as text: elements with a class for their colours, which the page's style gives.

use std::fmt::{Display, Write};

/// A drawing under way.
pub struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// To the right of it.
    Start,
    /// On it.
    Middle,
    /// To the left of it.
    End,
}

impl Svg {
    /// An empty drawing; `label` is what a screen reader says.
    pub fn new(width: f64, height: f64, label: impl Into<String>) -> Svg {
        Svg { width, height, label: label.into(), body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (n(from.0), n(from.1), n(to.0), n(to.1));
        self.push(format_args!(
            r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#
        ));
    }

    /// A line through points; a missing one is a gap. A point alone between gaps is drawn as a dot.
    pub fn polyline(&mut self, class: &str, points: &[Option<(f64, f64)>]) {
        let mut path = String::new();
        for run in points.split(Option::is_none) {
            for (i, (x, y)) in run.iter().flatten().enumerate() {
                // Writing to a String cannot fail.
                let _ = write!(path, "{}{} {}", if i == 0 { "M" } else { "L" }, n(*x), n(*y));
            }
            if run.len() == 1 {
                path += "h0";
            }
        }
        self.push(format_args!(r#"<path class="{class}" d="{path}"/>"#));
    }

    /// A closed shape through points.
    pub fn polygon(&mut self, class: &str, points: &[(f64, f64)], title: &str) {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", n(*x), n(*y))).collect();
        let (points, title) = (points.join(" "), tip(title));
        self.push(format_args!(r#"<polygon class="{class}" points="{points}">{title}</polygon>"#));
    }

    /// A rectangle from its upper left corner.
    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) {
        let (x, y, w, h) = (n(at.0), n(at.1), n(size.0.max(0.0)), n(size.1.max(0.0)));
        let title = tip(title);
        self.push(format_args!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{w}" height="{h}">{title}</rect>"#
        ));
    }

    /// A disc.
    pub fn circle(&mut self, class: &str, at: (f64, f64), radius: f64, title: &str) {
        let (x, y, r, title) = (n(at.0), n(at.1), n(radius), tip(title));
        self.push(format_args!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{r}">{title}</circle>"#
        ));
    }

    /// A text whose middle line goes through `at`.
    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (n(at.0), n(at.1 + 4.0), escape(text));
        self.push(format_args!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// The element.
    pub fn finish(self) -> String {
        let (width, height, label) = (n(self.width), n(self.height), escape(&self.label));
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">{}</svg>\n",
            self.body
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
    }
}

/// How wide a text of so many characters is at 12 px, about.
pub fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// Text as it may stand in an element or an attribute.
pub fn escape(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters are not allowed in a document.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn tip(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) }
}

/// A coordinate with at most one decimal; what is not finite is put at 0.
fn n(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_safe() {
        let mut svg = Svg::new(10.0, f64::NAN, "a\"<b>");
        svg.text("t", (1.25, -4.04), Anchor::End, "<script>&\n");
        svg.polyline("l", &[Some((0.0, 1.0)), Some((2.0, 3.0)), None, Some((4.0, 5.0))]);
        let text = svg.finish();
        assert!(
            text.contains("a&quot;&lt;b&gt;") && text.contains("&lt;script&gt;&amp; "),
            "{text}"
        );
        assert!(text.contains(r#"y="0""#) && text.contains(r#"d="M0 1L2 3M4 5h0""#), "{text}");
    }
}
