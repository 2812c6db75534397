//! The JSON Schema of a pipeline file (draft 7, which editors understand): made from lists of keys,
//! those of the tables (`schema/keys.rs`) and those that components hand in, so that an editor completes
//! exactly what the program takes.

use serde_json::{Map, Value as Json, json};

mod keys;

use keys::{
    CHECKPOINT, DRIFT, EXECUTOR, GATE, LABEL, MODEL, ONLINE, PIPELINE, PROMOTE, RETRAIN, ROLLOUT,
    SCORE, SINK, SOURCE, TRACES, TRAINING, WINDOW,
};

/// Name, type and default, and meaning of a key.
///
/// The type is one of `text`, `list of texts`, `text or list of texts`, `table of texts`, `table`,
/// `true or false`, `integer`, `float`, `A to B` (a range), `duration`, `bytes`, `"one" or "other"`, and
/// `any`; after a comma comes the default, `none` for nothing. A key without a default is required.
pub type Key = (&'static str, &'static str, &'static str);

/// A component that a table can be of: its name, a line about it, its own keys.
pub type Component = (&'static str, &'static str, &'static [Key]);

/// The components of each table with a `type`.
pub struct Components {
    /// Of `[source.*]`.
    pub sources: Vec<Component>,
    /// Of `[executor.*]`.
    pub executors: Vec<Component>,
    /// Of `[model.*]`: what learns row by row.
    pub learners: Vec<Component>,
    /// Of `[model.*]` with `retrain`.
    pub trainers: Vec<Component>,
    /// Of `detect` in `[drift.*]`.
    pub detectors: Vec<Component>,
    /// Of `[sink.*]`.
    pub sinks: Vec<Component>,
}

/// The schema of pipeline files whose tables may be of these components.
///
/// # Panics
/// A key whose type is not of the grammar of [`Key`]: a defect in a list, found by every test that
/// asks for the schema.
pub fn schema(components: &Components) -> Json {
    let retrained = [
        ("retrain", object(&[RETRAIN])),
        ("training", object(&[TRAINING])),
        ("promote", object(&[PROMOTE])),
        ("rollout", object(&[ROLLOUT])),
        ("gate", object(&[GATE])),
    ];
    let detect = any_of(components.detectors.iter().flat_map(|detector| {
        [json!({ "const": detector.0, "description": detector.1 }), of_type(detector, &[], &[])]
    }));
    let detect = json!({ "anyOf": [detect, { "type": "array", "items": detect, "minItems": 1 }] });
    let mut drift = object(&[DRIFT]);
    drift["properties"]["detect"] = detect;
    drift["required"] = json!(["detect"]);
    let each = |all: &[Component], common: &[Key]| {
        named(any_of(all.iter().map(|component| of_type(component, common, &[]))))
    };
    let learners = components.learners.iter().map(|learner| of_type(learner, MODEL, &[]));
    let trainers = components.trainers.iter().map(|trainer| of_type(trainer, MODEL, &retrained));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A pipeline of Tidemill",
        "type": "object",
        "required": ["pipeline", "source"],
        "additionalProperties": false,
        "properties": {
            "pipeline": object(&[PIPELINE]),
            "checkpoint": object(&[CHECKPOINT]),
            "traces": object(&[TRACES]),
            "source": each(&components.sources, SOURCE),
            "windows": named(object(&[WINDOW])),
            "features": named(json!({
                "type": "string",
                "description": "an expression over the spine's row and aggregates `over` windows",
            })),
            "label": named(object(&[LABEL])),
            "executor": each(&components.executors, EXECUTOR),
            "model": named(any_of(learners.chain(trainers))),
            "drift": named(drift),
            "score": object(&[SCORE]),
            "online": object(&[ONLINE]),
            "sink": each(&components.sinks, SINK),
        },
    })
}

fn named(of: Json) -> Json {
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,62}$" },
        "additionalProperties": of,
    })
}

fn any_of(all: impl Iterator<Item = Json>) -> Json {
    json!({ "anyOf": all.collect::<Vec<_>>() })
}

fn of_type(component: &Component, common: &[Key], more: &[(&str, Json)]) -> Json {
    let (name, summary, own) = component;
    let mut made = object(&[common, own]);
    made["description"] = json!(summary);
    made["properties"]["type"] = json!({ "const": name, "description": summary });
    for (key, value) in more {
        made["properties"][*key] = value.clone();
    }
    if let Some(required) = made["required"].as_array_mut() {
        required.push(json!("type"));
    }
    made
}

fn object(lists: &[&[Key]]) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (key, kind, meaning) in lists.iter().copied().flatten() {
        let (kind, default) = match kind.split_once(", ") {
            Some((kind, default)) => (kind, Some(default)),
            None => (*kind, None),
        };
        let Some(mut value) = value(kind) else { panic!("`{kind}` of `{key}` is no type") };
        value["description"] = match default {
            Some("none") => json!(meaning),
            Some(default) => json!(format!("{meaning}; {default} if not given")),
            None => json!(meaning),
        };
        if default.is_none() {
            required.push(json!(key));
        }
        properties.insert(key.to_string(), value);
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What a value of this kind looks like.
fn value(kind: &str) -> Option<Json> {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let scalars = json!(["string", "number", "boolean"]);
    Some(match kind {
        "any" => json!({}),
        "text" => json!({ "type": "string", "minLength": 1 }),
        "list of texts" => json!({ "anyOf": [{ "type": "string" }, texts] }),
        "text or list of texts" => json!({ "anyOf": [{ "type": "string" }, texts] }),
        "table of texts" => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        "table" => json!({ "type": "object", "additionalProperties": { "type": scalars } }),
        "true or false" => json!({ "type": "boolean" }),
        "integer" => json!({ "type": "integer" }),
        "float" => json!({ "type": "number" }),
        "bytes" => {
            json!({ "type": "string", "pattern": "^([0-9]+( *(B|[KMG]iB|[kKMG]B))?|\\$\\{.*\\})$" })
        }
        "duration" => {
            let pattern = "^(([0-9]+(us|ms|s|m|h|d))+|\\$\\{.*\\})$";
            json!({ "type": "string", "pattern": pattern })
        }
        _ if kind.starts_with('"') => {
            let words: Vec<&str> = kind.split(" or ").map(|word| word.trim_matches('"')).collect();
            json!({ "enum": words })
        }
        _ => {
            let (least, most) = kind.split_once(" to ")?;
            let (least, most): (i64, i64) = (least.parse().ok()?, most.parse().ok()?);
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::plan::Plan;

    fn parse(text: &str) -> Result<Plan, crate::diagnostic::Report> {
        document::parse("p.toml", text, "".as_ref(), &[], &|_| None).map(|loaded| loaded.plan)
    }

    const HEAD: &str = r#"
[pipeline]
name = "p"
spine = "s"
[source.s]
type = "file"
schema = { a = "int64" }
event_time = "a"
[label.l]
over = "s"
value = "a"
wait = "1d"
"#;

    /// The keys that the program itself names when it meets one that it does not know.
    fn told(table: &str, text: &str) -> Vec<String> {
        let report = parse(text).expect_err("an unknown key is refused");
        let reason = report.diagnostics().iter().find(|e| e.message.contains("`nonsense`"));
        let reason = &reason.unwrap_or_else(|| panic!("{table}: {report}")).reason;
        let keys = reason.strip_prefix("the keys are ").expect("the keys are told");
        keys.split(", ").map(str::to_string).collect()
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_asks_for() {
        let head = HEAD;
        let retrain = "[model.m]\ntype = \"x\"\nlabel = \"l\"\nretrain = { on = [\"every 7d\"] }\n";
        let plain: [(&str, String, &[Key]); 13] = [
            ("pipeline", head.replacen("name", "nonsense = 1\nname", 1), PIPELINE),
            ("windows", format!("{head}[windows.w]\nnonsense = 1\n"), WINDOW),
            ("label", format!("{head}nonsense = 1\n"), LABEL),
            (
                "retrain",
                format!("{head}{}", retrain.replace("{ on", "{ nonsense = 1, on")),
                RETRAIN,
            ),
            ("training", format!("{head}{retrain}training = {{ nonsense = 1 }}\n"), TRAINING),
            ("promote", format!("{head}{retrain}promote = {{ nonsense = 1 }}\n"), PROMOTE),
            ("rollout", format!("{head}{retrain}rollout = {{ nonsense = 1 }}\n"), ROLLOUT),
            ("gate", format!("{head}{retrain}gate = {{ nonsense = 1 }}\n"), GATE),
            ("drift", format!("{head}[drift.d]\nnonsense = 1\n"), DRIFT),
            ("score", format!("{head}[score]\nnonsense = 1\n"), SCORE),
            ("online", format!("{head}[online]\nnonsense = 1\n"), ONLINE),
            ("checkpoint", format!("{head}[checkpoint]\nnonsense = 1\n"), CHECKPOINT),
            ("traces", format!("{head}[traces]\nnonsense = 1\n"), TRACES),
        ];
        for (table, text, keys) in plain {
            let mut wanted: Vec<&str> = keys.iter().map(|key| key.0).collect();
            if table == "drift" {
                wanted.push("detect");
            }
            wanted.sort_unstable();
            assert_eq!(told(table, &text), wanted, "{table}");
        }
    }

    #[test]
    fn the_schema_has_the_keys_that_components_share() {
        let text = format!(
            "{HEAD}[model.m]\ntype = \"x\"\nlabel = \"l\"\n[sink.scores]\ntype = \"x\"\n[executor.e]\ntype = \"x\"\n"
        );
        let plan = parse(&text).unwrap_or_else(|report| panic!("{report}"));
        let retrained = ["retrain", "training", "promote", "rollout", "gate"];
        let shared = [
            (&plan.sources[0].section, SOURCE, &[][..]),
            (&plan.executors[0].section, EXECUTOR, &[][..]),
            (&plan.models[0].section, MODEL, &retrained[..]),
            (&plan.sinks[0].section, SINK, &[][..]),
        ];
        for (section, keys, more) in shared {
            let mut wanted: Vec<&str> = keys.iter().map(|key| key.0).chain(["type"]).collect();
            wanted.extend(more);
            wanted.sort_unstable();
            let mut asked = section.common.clone();
            asked.sort_unstable();
            asked.dedup();
            assert_eq!(asked, wanted, "{}", section.path);
        }
    }

    #[test]
    fn every_kind_of_value_is_understood() {
        for kind in ["text", "list of texts", "1 to 5", "\"a\" or \"b\"", "duration", "bytes"] {
            assert!(value(kind).is_some(), "{kind}");
        }
        assert_eq!(value("\"a\" or \"b\""), Some(json!({ "enum": ["a", "b"] })));
        assert!(value("sometimes").is_none());
    }
}
