//! The page around the drawings: heads, tiles, tables, legends.

use super::line::Line;
use super::svg::{Svg, escape};
use super::{
    Drift, Importances, Report, WeeklyQuality, bars, calibration, heat, line, scale, timeline,
};
use crate::observe::summary::{
    Contender, FailedExpression, FailedFeature, Fate, Quality, measures, minute,
};
use crate::observe::{Summary, duration, thousands};

const STYLE: &str = concat!(include_str!("colours.css"), include_str!("style.css"));
/// The widths of the two forms of a drawing, in its own units.
const WIDE: f64 = 1_000.0;
const HALF: f64 = 490.0;
const NARROW: f64 = 370.0;
/// Colours that the style has; more contenders begin again.
const COLOURS: usize = 6;
/// So many features are shown by importance.
const IMPORTANCES: usize = 20;

/// The whole document.
pub fn render(report: &Report) -> String {
    let summary = &report.summary;
    let title = escape(&summary.pipeline);
    let span = summary.event_times.map_or(String::new(), |(from, to)| {
        format!("<p>{} to {}, event time in UTC</p>", scale::date(from), scale::date(to))
    });
    let body = [
        tiles(summary),
        quality_plots(report),
        spans(summary),
        versions(report),
        report.drifts.iter().map(drift).collect(),
        calibrations(report),
        report.importances.as_ref().map_or(String::new(), importances),
        counts(summary),
        failed(summary),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} - Tidemill</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{title}</h1>{span}</header>\n{}\
         <footer>Tidemill {}</footer>\n</main>\n</body>\n</html>\n",
        body.concat(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn section(title: &str, what: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n<p>{}</p>\n{body}</section>\n", escape(title), escape(what))
}

/// A drawing in its wide and its narrow form.
fn figure(wide: f64, draw: impl Fn(f64) -> String) -> String {
    format!(
        "<figure><div class=\"wide\">{}</div><div class=\"narrow\">{}</div></figure>\n",
        draw(wide),
        draw(NARROW)
    )
}

/// The numbers to see first.
fn tiles(summary: &Summary) -> String {
    let mut tiles = vec![
        (thousands(summary.scores), "rows scored".to_owned()),
        (thousands(summary.events_per_second.max(0.0).round() as u64), "events per second".into()),
    ];
    if let Some(served) = summary.contenders.first() {
        if let Some(loss) = served.whole.log_loss {
            tiles.push((format!("{loss:.4}"), format!("log loss, {}", served.name)));
        }
        if let Some(auc) = served.whole.auc {
            tiles.push((format!("{auc:.4}"), format!("AUC, {}", served.name)));
        }
    }
    tiles.push((
        thousands(summary.retrainings.len() as u64),
        format!("retrainings, {} promoted, {} refused", summary.promotions, summary.refusals),
    ));
    tiles.push((thousands(summary.alerts), "drift alerts".into()));
    let tiles = tiles
        .iter()
        .map(|(value, what)| format!("<li><b>{value}</b><span>{}</span></li>", escape(what)));
    format!("<ul class=\"tiles\">{}</ul>\n", tiles.collect::<String>())
}

/// The place of a contender in the summary decides its colour, wherever it is drawn.
fn colour(report: &Report, name: &str) -> usize {
    report.summary.contenders.iter().position(|c| c.name == name).unwrap_or(0) % COLOURS
}

fn quality_plots(report: &Report) -> String {
    let weekly = &report.weekly;
    if weekly.weeks.is_empty() || weekly.contenders.is_empty() {
        return String::new();
    }
    let plot = |label: &str, value: fn(&WeeklyQuality) -> &Vec<Option<f64>>| {
        // Served is drawn last, above the others.
        let lines: Vec<Line<'_>> = weekly
            .contenders
            .iter()
            .rev()
            .map(|c| Line {
                colour: colour(report, &c.name),
                name: &c.name,
                values: value(c).clone(),
            })
            .collect();
        figure(HALF, |width| line::draw(label, &weekly.weeks, &lines, width))
    };
    let legend: String = weekly
        .contenders
        .iter()
        .map(|c| {
            let mut svg = Svg::new(28.0, 14.0, c.name.as_str());
            svg.line(&format!("line c{}", colour(report, &c.name)), (1.0, 7.0), (27.0, 7.0));
            format!(
                "<li>{}{}</li>",
                svg.finish().replacen("<svg", "<svg class=\"stroke\"", 1),
                escape(&c.name)
            )
        })
        .collect();
    let body = format!(
        "<ul class=\"legend\">{legend}</ul>\n<div class=\"pair\"><div><h3>Log loss (lower is better)</h3>{}</div>\
         <div><h3>AUC (higher is better)</h3>{}</div></div>\n",
        plot("Log loss by week", |c| &c.log_loss),
        plot("Area under the ROC curve by week", |c| &c.auc),
    );
    section("Quality by week", "Every contender is judged on the same labelled rows.", &body)
}

fn spans(summary: &Summary) -> String {
    if summary.contenders.is_empty() {
        return String::new();
    }
    let table = |value: fn(&Quality) -> Option<f64>, better: fn(&f64, &f64) -> bool| {
        let heads = summary.contenders.iter().map(|c| format!("<th>{}</th>", escape(&c.name)));
        let heads: String = heads.collect();
        let names = std::iter::once((None, "whole"));
        let names =
            names.chain(summary.spans.iter().enumerate().map(|(i, s)| (Some(i), s.name.as_str())));
        let rows: String =
            names.map(|(span, name)| span_row(summary, span, name, value, better)).collect();
        format!(
            "<div class=\"scroll\"><table><tr><th class=\"l\"></th><th>rows</th>{heads}</tr>{rows}</table></div>\n"
        )
    };
    let body = format!(
        "<h3>Log loss</h3>\n{}<h3>AUC</h3>\n{}",
        table(|q| q.log_loss, f64::lt),
        table(|q| q.auc, f64::gt)
    );
    section("Quality by span", "The best of each row is set in bold.", &body)
}

fn span_row(
    summary: &Summary,
    span: Option<usize>,
    name: &str,
    value: fn(&Quality) -> Option<f64>,
    better: fn(&f64, &f64) -> bool,
) -> String {
    let of = |contender: &Contender| value(contender.over(span)?);
    let values = summary.contenders.iter().filter_map(of);
    let best = values.reduce(|a, b| if better(&b, &a) { b } else { a });
    let rows = summary.contenders.iter().find_map(|c| Some(c.over(span)?.rows)).unwrap_or(0);
    let cells: String = summary
        .contenders
        .iter()
        .map(|contender| match of(contender) {
            Some(v) if Some(v) == best => format!("<td class=\"best\">{v:.4}</td>"),
            Some(v) => format!("<td>{v:.4}</td>"),
            None => "<td>-</td>".into(),
        })
        .collect();
    format!("<tr><td class=\"l\">{}</td><td>{}</td>{cells}</tr>\n", escape(name), thousands(rows))
}

fn versions(report: &Report) -> String {
    let summary = &report.summary;
    let ends = report.moments.first().zip(report.moments.last()).map(|(a, b)| (a.time, b.time));
    let Some(span) = summary.event_times.or(ends).filter(|_| !report.moments.is_empty()) else {
        return String::new();
    };
    let mut body = timeline::legend();
    body += &figure(WIDE, |width| timeline::draw(&report.moments, span, width));
    if !summary.retrainings.is_empty() {
        body += &retrainings(summary);
    }
    section(
        "Versions",
        "Bars show which version was in charge; marks show how it came to that.",
        &body,
    )
}

fn retrainings(summary: &Summary) -> String {
    let rows = summary.retrainings.iter().map(|r| {
        let word = match r.fate {
            Fate::Promoted => "promoted-word",
            Fate::Refused | Fate::RolledBack | Fate::Failed => "refused-word",
            Fate::Waiting => "",
        };
        let version = r.version.map_or(String::new(), |v| format!(" v{v}"));
        format!(
            "<tr><td class=\"l\">{}</td><td class=\"l\">{}{version}</td><td class=\"l\">{}</td><td>{}</td>\
             <td>{}</td><td class=\"l\">{}</td><td class=\"l {word}\">{}</td></tr>\n",
            minute(r.triggered_at),
            escape(&r.model),
            escape(&r.trigger),
            thousands(r.rows),
            duration(r.seconds),
            escape(measures(&r.metrics)),
            r.fate.name(),
        )
    });
    format!(
        "<div class=\"scroll\"><table><tr><th class=\"l\">triggered</th><th class=\"l\">model</th>\
         <th class=\"l\">by</th><th>rows</th><th>time</th><th class=\"l\">measures</th>\
         <th class=\"l\">fate</th></tr>{}</table></div>\n",
        rows.collect::<String>()
    )
}

fn drift(drift: &Drift) -> String {
    let body = heat::legend(drift) + &figure(WIDE, |width| heat::draw(drift, width));
    let what = "The largest reading of each week against the reference of the model in charge.";
    section(&format!("Drift: {}", drift.statistic), what, &body)
}

fn calibrations(report: &Report) -> String {
    if report.calibrations.is_empty() {
        return String::new();
    }
    let plots: String = report
        .calibrations
        .iter()
        .map(|c| {
            let drawing = calibration::draw(c, colour(report, &c.contender));
            format!("<figure><h3>{}</h3>{drawing}</figure>\n", escape(&c.contender))
        })
        .collect();
    let what = "Across: the mean score of a bin. Up: the share that came true. On the dashed line both agree. \
                Below: how many rows fell into it.";
    section("Calibration", what, &format!("<div class=\"small\">{plots}</div>\n"))
}

fn importances(importances: &Importances) -> String {
    let mut shares = importances.shares.clone();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let hidden = shares.len().saturating_sub(IMPORTANCES);
    shares.truncate(IMPORTANCES);
    let label =
        format!("Feature importances of {} version {}", importances.model, importances.version);
    let body = figure(WIDE, |width| bars::draw(&label, &shares, width));
    let more = if hidden > 0 { format!(" {hidden} more are not shown.") } else { String::new() };
    let what =
        format!("Share of the total gain in {} v{}.{more}", importances.model, importances.version);
    section("Feature importances", &what, &body)
}

fn counts(summary: &Summary) -> String {
    let entry =
        |name: &str, value: &str| format!("<div><dt>{}</dt><dd>{value}</dd></div>", escape(name));
    let mut list: String =
        summary.counts().iter().map(|(name, value)| entry(name, value)).collect();
    for letters in &summary.dead_letters {
        list += &entry(
            &format!("dead letters: {} {}", letters.source, letters.reason),
            &thousands(letters.rows),
        );
    }
    section(
        "Counts",
        "What came in and what became of it.",
        &format!("<dl class=\"counts\">{list}</dl>\n"),
    )
}

/// What could not be computed on some rows; nothing where all was.
fn failed(summary: &Summary) -> String {
    let features = summary.failed_features.iter().map(|f| {
        let FailedFeature { feature, rows, why } = f;
        (format!("feature {feature}"), "", *rows, why)
    });
    let others = summary.failed_expressions.iter().map(|f| {
        let FailedExpression { kind, name, expression, rows, why } = f;
        (format!("{kind} {name}"), expression.as_str(), *rows, why)
    });
    let rows: String = features
        .chain(others)
        .map(|(of, expression, rows, why)| {
            format!(
                "<tr><td class=\"l\">{}</td><td class=\"l\">{}</td><td>{}</td><td class=\"l\">{}</td></tr>\n",
                escape(&of),
                escape(expression),
                thousands(rows),
                escape(why),
            )
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    let table = format!(
        "<div class=\"scroll\"><table><tr><th class=\"l\">of</th><th class=\"l\">expression</th><th>rows</th>\
         <th class=\"l\">first</th></tr>{rows}</table></div>\n"
    );
    section(
        "Could not be computed",
        "Expressions that failed on some rows, and are NULL there.",
        &table,
    )
}
