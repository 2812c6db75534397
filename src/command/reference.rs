//! `tidemill reference`: what there is to choose from, from the lists themselves.

use clap::ValueEnum;
use serde_json::{Value as Json, json};
use tidemill_connectors::executor::EXECUTORS;
use tidemill_connectors::format::FORMATS;
use tidemill_connectors::sink::SINKS;
use tidemill_connectors::source::SOURCES;
use tidemill_operators::aggregate::{AGGREGATES, FORMS};
use tidemill_operators::drift::DETECTORS;
use tidemill_operators::expression::listed_functions;
use tidemill_operators::learner::LEARNERS;
use tidemill_operators::trainer::TRAINERS;

use super::Said;

/// A kind of component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Where events come from.
    Sources,
    /// How rows are written down.
    Formats,
    /// Which rows a window holds.
    Windows,
    /// What a window of rows becomes.
    Aggregates,
    /// What stands in an expression, over values of one row.
    Functions,
    /// What notices that the world has changed.
    Detectors,
    /// What learns row by row.
    Learners,
    /// What makes batch models.
    Trainers,
    /// Where batch models are trained.
    Executors,
    /// Where rows go.
    Sinks,
}

type Keys = &'static [(&'static str, &'static str, &'static str)];

fn description(of: &Json) -> &str {
    of["description"].as_str().unwrap_or_default()
}

/// Other names of an entry; none where its kind has no such names.
fn aliases<'a>(
    of: Kind,
    name: &str,
    functions: &'a [(&'static str, Vec<&'static str>)],
) -> Option<&'a [&'static str]> {
    match of {
        Kind::Aggregates => AGGREGATES.iter().find(|e| e.name == name).map(|e| e.aliases),
        Kind::Functions => functions.iter().find(|f| f.0 == name).map(|f| f.1.as_slice()),
        _ => None,
    }
}

/// Lists one kind, or all.
pub(super) fn run(kind: Option<Kind>) -> Said {
    let mut text = String::new();
    let mut all = serde_json::Map::new();
    // The keys of a window are those of the schema.
    let schema = super::schema::run().json;
    let window = &schema["properties"]["windows"]["additionalProperties"]["properties"];
    let functions = listed_functions();
    for of in Kind::value_variants().iter().filter(|k| kind.is_none_or(|wanted| wanted == **k)) {
        let (title, rows): (&str, Vec<(&str, &str, Keys)>) = match of {
            Kind::Sources => {
                ("sources", SOURCES.iter().map(|e| (e.name, e.summary, e.keys)).collect())
            }
            Kind::Formats => {
                ("formats", FORMATS.iter().map(|e| (e.name, e.summary, &[][..])).collect())
            }
            Kind::Windows => {
                let keys = window.as_object().into_iter().flatten();
                (
                    "windows",
                    keys.map(|(key, of)| (key.as_str(), description(of), &[][..])).collect(),
                )
            }
            Kind::Aggregates => {
                ("aggregates", AGGREGATES.iter().map(|e| (e.name, e.summary, &[][..])).collect())
            }
            Kind::Functions => {
                ("functions", functions.iter().map(|(name, _)| (*name, "", &[][..])).collect())
            }
            Kind::Detectors => {
                ("detectors", DETECTORS.iter().map(|e| (e.name, e.summary, e.keys)).collect())
            }
            Kind::Learners => {
                ("learners", LEARNERS.iter().map(|e| (e.name, e.summary, e.keys)).collect())
            }
            Kind::Executors => {
                ("executors", EXECUTORS.iter().map(|e| (e.name, e.summary, e.keys)).collect())
            }
            Kind::Sinks => ("sinks", SINKS.iter().map(|e| (e.name, e.summary, e.keys)).collect()),
            Kind::Trainers => {
                ("trainers", TRAINERS.iter().map(|e| (e.name, e.summary, e.keys)).collect())
            }
        };
        text.push_str(&format!("{title}\n"));
        let mut listed = Vec::new();
        for (name, summary, keys) in rows {
            text.push_str(format!("  {name:<20} {summary}").trim_end());
            text.push('\n');
            let aliases = aliases(*of, name, &functions);
            if let Some(aliases) = aliases.filter(|aliases| !aliases.is_empty()) {
                text.push_str(&format!("  {:<20} also {}\n", "", aliases.join(", ")));
            }
            for (key, default, meaning) in keys {
                text.push_str(&format!("    {key:<20} {default}: {meaning}\n"));
            }
            let keys: Vec<Json> = keys
                .iter()
                .map(|(key, default, meaning)| {
                    json!({ "key": key, "type": default, "meaning": meaning })
                })
                .collect();
            let mut entry = json!({ "name": name, "summary": summary, "keys": keys });
            if let Some(aliases) = aliases {
                entry["aliases"] = json!(aliases);
            }
            listed.push(entry);
        }
        if matches!(of, Kind::Aggregates) {
            let forms =
                FORMS.iter().map(|(form, summary)| json!({ "name": form, "summary": summary }));
            all.insert("forms".to_string(), forms.collect());
        }
        if matches!(of, Kind::Aggregates) {
            text.push_str("  forms\n");
            for (form, summary) in FORMS {
                text.push_str(&format!("    {form:<30} {summary}\n"));
            }
        }
        all.insert(title.to_string(), Json::Array(listed));
    }
    Said { text, json: Json::Object(all) }
}
