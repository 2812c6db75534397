//! The life of each model: what was triggered, trained, promoted, refused, and what was in charge when.

use tidemill_types::Micros;

use super::line::month_axis;
use super::scale::{Scale, date};
use super::svg::{Anchor, Svg, text_width};
use super::{Moment, Step};

const LANE: f64 = 64.0;
/// The bar of what is in charge, and the line of events above it; from the top of the lane.
const BAR: (f64, f64) = (34.0, 18.0);
const EVENTS: f64 = 20.0;

/// Draws one lane for each model; `moments` are in the order of time.
pub fn draw(moments: &[Moment], span: (Micros, Micros), width: f64) -> String {
    let mut models: Vec<&str> = Vec::new();
    for moment in moments {
        if !models.contains(&moment.model.as_str()) {
            models.push(&moment.model);
        }
    }
    let longest = models.iter().map(|model| text_width(model)).fold(30.0, f64::max);
    let left = (longest + 12.0).min(width / 4.0);
    let height = LANE * models.len() as f64 + 26.0;
    let mut svg = Svg::new(width, height, "Versions of the models over time");
    let x = Scale::new((span.0 as f64, span.1 as f64), (left, width - 12.0));
    for (i, model) in models.iter().enumerate() {
        let own: Vec<&Moment> = moments.iter().filter(|moment| moment.model == **model).collect();
        let top = i as f64 * LANE;
        svg.text("label", (0.0, top + BAR.0 + BAR.1 / 2.0), Anchor::Start, model);
        bars(&mut svg, &own, &x, span, top);
        own.iter().for_each(|moment| mark(&mut svg, moment, &own, &x, top));
    }
    month_axis(&mut svg, &x, span, height - 24.0, (width - left) / 52.0);
    svg.finish()
}

/// What was in charge, from one promotion to the next.
fn bars(svg: &mut Svg, moments: &[&Moment], x: &Scale, span: (Micros, Micros), top: f64) {
    svg.rect(
        "rest",
        (x.at(span.0 as f64), top + BAR.0),
        (x.at(span.1 as f64) - x.at(span.0 as f64), BAR.1),
        "",
    );
    let promoted: Vec<&&Moment> =
        moments.iter().filter(|m| matches!(m.step, Step::Promoted | Step::RolledBack)).collect();
    for (i, moment) in promoted.iter().enumerate() {
        let until = promoted.get(i + 1).map_or(span.1, |next| next.time);
        let (from, to) = (x.at(moment.time as f64), x.at(until as f64));
        let version = moment.version.unwrap_or(0);
        let title =
            format!("version {version} in charge from {} to {}", date(moment.time), date(until));
        svg.rect(&format!("charge k{}", i % 2), (from, top + BAR.0), (to - from, BAR.1), &title);
        let text = format!("v{version}");
        if to - from > text_width(&text) + 4.0 {
            let at = ((from + to) / 2.0, top + BAR.0 + BAR.1 / 2.0);
            svg.text("charge", at, Anchor::Middle, &text);
        }
    }
}

/// A shape for each kind of event, so that colour is not needed to tell them apart.
fn mark(svg: &mut Svg, moment: &Moment, moments: &[&Moment], x: &Scale, top: f64) {
    let (at, y) = (x.at(moment.time as f64), top + EVENTS);
    let version = moment.version.map_or(String::new(), |version| format!(" version {version}"));
    let title = format!("{}: {}{version}. {}", date(moment.time), moment.step.name(), moment.why);
    match moment.step {
        Step::Triggered => svg.polygon("trigger", &triangle(at, y - 12.0), &title),
        Step::Trained => {
            // The wait at the gate: from training to the decision on the same version.
            let decided = moments.iter().find(|m| {
                m.version == moment.version && matches!(m.step, Step::Promoted | Step::Refused)
            });
            if let Some(decided) = decided {
                svg.line("wait", (at, y), (x.at(decided.time as f64), y));
            }
            svg.circle("trained", (at, y), 4.0, &title);
        }
        Step::Promoted => svg.polygon("promoted", &diamond(at, y), &title),
        Step::OnTrial => svg.circle("trained", (at, y), 2.0, &title),
        Step::Refused | Step::RolledBack | Step::Failed => {
            svg.polygon("refused", &cross(at, y), &title)
        }
    }
}

fn triangle(x: f64, y: f64) -> [(f64, f64); 3] {
    [(x - 4.5, y - 4.0), (x + 4.5, y - 4.0), (x, y + 4.0)]
}

fn diamond(x: f64, y: f64) -> [(f64, f64); 4] {
    [(x - 6.0, y), (x, y - 6.0), (x + 6.0, y), (x, y + 6.0)]
}

fn cross(x: f64, y: f64) -> Vec<(f64, f64)> {
    const SHAPE: [(f64, f64); 12] = [
        (0.0, -1.6),
        (3.4, -5.0),
        (5.0, -3.4),
        (1.6, 0.0),
        (5.0, 3.4),
        (3.4, 5.0),
        (0.0, 1.6),
        (-3.4, 5.0),
        (-5.0, 3.4),
        (-1.6, 0.0),
        (-5.0, -3.4),
        (-3.4, -5.0),
    ];
    SHAPE.iter().map(|(dx, dy)| (x + dx, y + dy)).collect()
}

/// The shapes with their meaning, as HTML.
pub fn legend() -> String {
    let shape = |class: &str, points: &[(f64, f64)], text: &str| {
        let mut svg = Svg::new(14.0, 14.0, text);
        svg.polygon(class, points, "");
        format!("<li>{}{text}</li>", svg.finish())
    };
    let mut trained = Svg::new(14.0, 14.0, "trained");
    trained.circle("trained", (7.0, 7.0), 4.0, "");
    let mut wait = Svg::new(14.0, 14.0, "waiting at the gate");
    wait.line("wait", (0.0, 7.0), (14.0, 7.0));
    format!(
        "<ul class=\"legend\">{}<li>{}trained</li><li>{}waiting at the gate</li>{}{}</ul>\n",
        shape("trigger", &triangle(7.0, 7.0), "triggered"),
        trained.finish(),
        wait.finish(),
        shape("promoted", &diamond(7.0, 7.0), "promoted"),
        shape("refused", &cross(7.0, 7.0), "refused or failed"),
    )
}
