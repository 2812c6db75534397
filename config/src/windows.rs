//! `[windows]`: which rows a window holds.

use tidemill_types::{Micros, Zone, time};

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{
    At, Edge, Exclude, Frame, MOST_ROWS, MOST_SOURCES, Period, Series, SourcePlan, WindowPlan,
};
use crate::section::Params;
use crate::table::{Item, Node};
use crate::{suggest, units};

/// The keys of which one says what rows there are.
const FRAMES: [&str; 8] =
    ["last", "rows", "tumbling", "hopping", "calendar", "session", "half_life", "lifetime"];

const ONE_FRAME: &str = "give one of last = \"3h\", rows = 5, tumbling = \"1h\", \
    hopping = { size = \"1h\", every = \"15m\" }, calendar = \"day\", session = \"30m\", \
    half_life = \"1h\", lifetime = true; or last and rows together";

impl Reader {
    pub(crate) fn window(
        &mut self,
        key: &At<String>,
        node: &Node,
        sources: &[SourcePlan],
        spine: usize,
    ) -> Option<WindowPlan> {
        let path = format!("windows.{}", key.value);
        let folder = self.folder.clone();
        let entries = self.table_of(key, node)?;
        let mut p = Params::new(&path, &key.span, entries, &folder);
        let over = over(&mut p, &path);
        let by = by(&mut p, key, &path);
        let frame = self.frame(&mut p, key, &path, entries);
        let offset = p.optional_period("offset").unwrap_or(0);
        let exclude = p.node("exclude").map(|_| p.choice("exclude", "row", &["row", "time"]));
        let series = self.series(&mut p, &path);
        let secondary = p.optional_text("secondary");
        let over = match over {
            Some(over) => self.sources(&mut p, &path, &over, sources),
            None => Some(vec![spine]),
        };
        let exclude = match exclude {
            None => Exclude::Nothing,
            Some("time") => Exclude::Time,
            Some(_) => Exclude::Row,
        };
        let at = |name: &str| span(entries, name);
        if let (Exclude::Row, Some(over)) = (exclude, over.as_ref().filter(|o| !o.contains(&spine)))
        {
            let name = |source: &usize| format!("`{}`", sources[*source].name.value);
            let others: Vec<String> = over.iter().map(name).collect();
            let (others, spine) = (others.join(" and "), name(&spine));
            p.error(Diagnostic::new(
                &at("exclude"),
                format!("{path} cannot exclude the row that reads"),
                format!("that is a row of {spine}, and this is a window over {others}"),
                "remove `exclude`, or write exclude = \"time\"",
            ));
        }
        if exclude == Exclude::Row && offset > 0 {
            p.error(Diagnostic::new(
                &at("exclude"),
                format!("{path} excludes a row that is not in it"),
                "with an `offset` the row that reads is left out already",
                "remove `exclude`",
            ));
        }
        if exclude != Exclude::Nothing && matches!(frame, Frame::Hopping { .. }) {
            p.error(Diagnostic::new(
                &at("exclude"),
                format!("{path} excludes what is not in it"),
                "the last whole bucket ends before the time that is read",
                "remove `exclude`",
            ));
        }
        self.finish(p);
        let edge = Edge { offset, exclude };
        Some(WindowPlan { name: key.clone(), sources: over?, by, frame, edge, series, secondary })
    }

    /// The sources that `over` names, in the order of the file.
    fn sources(
        &mut self,
        p: &mut Params<'_>,
        path: &str,
        over: &[At<String>],
        sources: &[SourcePlan],
    ) -> Option<Vec<usize>> {
        let names: Vec<&str> = sources.iter().map(|s| s.name.value.as_str()).collect();
        let mut found = Vec::new();
        for name in over {
            let source = self.bind(name, &names, "over", "source")?;
            if found.contains(&source) {
                p.error(Diagnostic::new(
                    &name.span,
                    format!("`over` of {path} names `{}` twice", name.value),
                    "a row is in a window once",
                    "remove one of the two",
                ));
            }
            found.push(source);
        }
        if let Some(more) = over.get(MOST_SOURCES) {
            p.error(Diagnostic::new(
                &more.span,
                format!("`over` of {path} names {} sources", over.len()),
                format!("a window is over {MOST_SOURCES} at most"),
                "bring some of them into one stream before, or add up features of several windows",
            ));
        }
        found.sort_unstable();
        Some(found)
    }

    /// The one frame that the keys name; after an error, all rows.
    fn frame(
        &mut self,
        p: &mut Params<'_>,
        key: &At<String>,
        path: &str,
        entries: &[(At<String>, Node)],
    ) -> Frame {
        let last = p.optional_period("last");
        let rows = p.node("rows").map(|_| p.integer("rows", 1, 1..=MOST_ROWS) as u64);
        let tumbling = p.optional_period("tumbling");
        let hopping = self.hopping(p, path);
        let origin = origin(p, path);
        let calendar = calendar(p);
        let zone = zone(p, path);
        let session = p.optional_period("session");
        let half_life = p.optional_period("half_life");
        let resolution = p.optional_period("resolution");
        let lifetime = p.boolean("lifetime", false);
        let mut given: Vec<&str> = entries.iter().map(|(k, _)| k.value.as_str()).collect();
        given.retain(|name| FRAMES.contains(name) && (*name != "lifetime" || lifetime));
        given.sort_unstable();
        if given.len() != 1 && given != ["last", "rows"] {
            p.error(Diagnostic::new(
                &key.span,
                format!("{path} needs one frame"),
                match given.is_empty() {
                    true => "nothing says which rows it holds",
                    false => "more than one key says which rows it holds",
                },
                ONE_FRAME,
            ));
            return Frame::Lifetime;
        }
        for (name, of) in [
            ("origin", &["tumbling", "hopping"][..]),
            ("timezone", &["calendar"]),
            ("resolution", &["last"]),
        ] {
            let fits = given.len() == 1 && of.contains(&given[0]);
            if !fits && entries.iter().any(|(k, _)| k.value == name) {
                p.error(Diagnostic::new(
                    &span(entries, name),
                    format!("`{name}` of {path} has no meaning"),
                    format!("it goes with `{}` and nothing else", of.join("` or `")),
                    format!("remove `{name}`"),
                ));
            }
        }
        let found = match given[..] {
            ["calendar"] => calendar.map(|period| Frame::Calendar { period, zone }),
            ["half_life"] => half_life.map(Frame::Decayed),
            ["hopping"] => hopping.map(|(size, every)| Frame::Hopping {
                size,
                every,
                origin: origin.rem_euclid(every),
            }),
            ["last", "rows"] => rows.zip(last).map(|(rows, last)| Frame::Within { rows, last }),
            ["last"] => last.map(|last| match resolution {
                Some(resolution) => Frame::Tiled { last, resolution },
                None => Frame::Last(last),
            }),
            ["rows"] => rows.map(Frame::Rows),
            ["session"] => session.map(Frame::Session),
            ["tumbling"] => {
                tumbling.map(|size| Frame::Tumbling { size, origin: origin.rem_euclid(size) })
            }
            _ => None,
        };
        found.unwrap_or(Frame::Lifetime)
    }

    /// `hopping = { size = "1h", every = "15m" }`
    fn hopping(&mut self, p: &mut Params<'_>, path: &str) -> Option<(Micros, Micros)> {
        let node = p.node("hopping")?;
        let path = format!("hopping of {path}");
        let name = At { value: path.clone(), span: node.span.clone() };
        let entries = self.table_of(&name, node)?;
        let folder = self.folder.clone();
        let mut p = Params::new(&path, &node.span, entries, &folder);
        let (size, every) = (required(&mut p, "size"), required(&mut p, "every"));
        let found = size.zip(every);
        if let Some((size, every)) = found.filter(|(size, every)| size < every) {
            p.error(Diagnostic::new(
                &span(entries, "every"),
                format!("`every` of {path} is longer than `size`"),
                "rows between two buckets would be in none",
                format!(
                    "write every = \"{}\" or less, or make `size` {} or more",
                    units::show_duration(size),
                    units::show_duration(every)
                ),
            ));
        }
        self.finish(p);
        found
    }

    /// `series = { step = "1d", count = 7 }`
    fn series(&mut self, p: &mut Params<'_>, path: &str) -> Option<Series> {
        let node = p.node("series")?;
        let path = format!("series of {path}");
        let name = At { value: path.clone(), span: node.span.clone() };
        let entries = self.table_of(&name, node)?;
        let folder = self.folder.clone();
        let mut p = Params::new(&path, &node.span, entries, &folder);
        let step = required(&mut p, "step");
        if p.node("count").is_none() {
            p.error(Diagnostic::new(
                &node.span,
                format!("{path} has no `count`"),
                "a list has a length",
                "add count = 7",
            ));
        }
        let count = p.integer("count", 1, 1..=1_000) as u64;
        self.finish(p);
        step.map(|step| Series { step, count })
    }
}

/// A duration above zero that has to be there.
fn required(p: &mut Params<'_>, key: &'static str) -> Option<Micros> {
    if p.node(key).is_none() {
        p.text(key);
        return None;
    }
    p.optional_period(key)
}

fn span(entries: &[(At<String>, Node)], key: &str) -> std::ops::Range<usize> {
    entries.iter().find(|(k, _)| k.value == key).map_or(0..0, |(_, node)| node.span.clone())
}

fn origin(p: &mut Params<'_>, path: &str) -> Micros {
    let Some(text) = p.optional_text("origin") else { return 0 };
    time::from_rfc3339(&text.value).unwrap_or_else(|| {
        p.error(Diagnostic::new(
            &text.span,
            format!("`origin` of {path} is no time"),
            format!("`{}` is not in the form of RFC 3339", text.value),
            "write for example \"2024-01-01T06:00:00Z\"",
        ));
        0
    })
}

fn calendar(p: &mut Params<'_>) -> Option<Period> {
    p.node("calendar")?;
    let word = p.choice("calendar", "day", &Period::ALL.map(|(_, name)| name));
    Period::ALL.iter().find(|(_, name)| *name == word).map(|(period, _)| *period)
}

fn zone(p: &mut Params<'_>, path: &str) -> Zone {
    let Some(text) = p.optional_text("timezone") else { return Zone::UTC };
    Zone::parse(&text.value).unwrap_or_else(|| {
        p.error(Diagnostic::new(
            &text.span,
            format!("`timezone` of {path} is no time zone: `{}`", text.value),
            "it is a name of the IANA database",
            match suggest(&text.value, Zone::names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write for example \"America/New_York\" or \"UTC\"".to_string(),
            },
        ));
        Zone::UTC
    })
}

/// `over`: a source, or several.
fn over(p: &mut Params<'_>, path: &str) -> Option<Vec<At<String>>> {
    let empty =
        p.node("over").filter(|node| matches!(&node.value, Item::Array(of) if of.is_empty()));
    if let Some(node) = empty {
        p.error(Diagnostic::new(
            &node.span,
            format!("`over` of {path} names no source"),
            "a window holds rows of some source",
            "name one or more, or remove `over`: the window is over the spine then",
        ));
        return None;
    }
    p.optional_texts("over")
}

/// `by`: a column, several, a table of source column = spine expression, or none.
fn by(p: &mut Params<'_>, key: &At<String>, path: &str) -> Vec<(At<String>, At<String>)> {
    let same = |text: &At<String>| {
        let quoted = format!("\"{}\"", text.value);
        (text.clone(), At { value: quoted, span: text.span.clone() })
    };
    match p.node("by").map(|n| &n.value) {
        Some(Item::Table(_)) => p.named_texts("by"),
        Some(_) => p.optional_texts("by").unwrap_or_default().iter().map(same).collect(),
        None => {
            p.error(Diagnostic::new(
                &key.span,
                format!("{path} has no `by`"),
                "nothing says which rows belong together",
                "add by = \"column\", or by = [] for one window over everything",
            ));
            Vec::new()
        }
    }
}
