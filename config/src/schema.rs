//! The JSON Schema of a pipeline file (draft 7, which editors understand): made from lists of keys,
//! those of the tables here and those that components hand in, so that an editor completes exactly
//! what the program takes.

use serde_json::{Map, Value as Json, json};

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

const PIPELINE: &[Key] = &[
    ("name", "text", "names the run's folder, its metrics and its served model"),
    ("spine", "text", "the source whose rows are scored"),
    (
        "mode",
        "\"final\" or \"at_once\", final",
        "wait for the watermark, or score at once and correct",
    ),
    (
        "tick",
        "duration, 1s",
        "an epoch of event time: what is learnt in one counts from the next on",
    ),
    ("bundle", "1 to 1000000, none", "ticks that travel together; results do not depend on it"),
    (
        "max_ahead",
        "duration, 1d",
        "a time further than this beyond the wall clock is a dead letter",
    ),
    ("seed", "integer, 0", "of everything random"),
    (
        "ahead",
        "1 to 1000000000, 65536",
        "rows of a source under way while it is ahead of others; results do not depend on it",
    ),
];

const CHECKPOINT: &[Key] = &[
    ("enabled", "true or false, true", "whether a run that was cut off goes on"),
    ("interval", "duration, 5s", "how often the state is kept"),
    ("keep", "1 to 1000, 2", "so many states are retained"),
    (
        "store",
        "text, checkpoints",
        "where they are: a folder, relative to the run's, or s3://BUCKET/PREFIX",
    ),
    ("endpoint", "text, none", "a bucket's server, http:// or https://; Amazon's if not given"),
    ("region", "text, none", "a bucket's region; that of the environment if not given"),
];

const SOURCE: &[Key] = &[
    ("format", "text, none", "json, csv, parquet or arrow_ipc; by the file's ending if not given"),
    (
        "schema",
        "table of texts",
        "column = type, list<type>, map<type> or vector(length); types are declared, never guessed",
    ),
    ("null", "list of texts, [\"\"]", "CSV: texts that mean NULL"),
    ("timezone", "text, UTC", "of times without one"),
    ("where", "text, none", "rows that count, an expression"),
    ("columns", "table of texts, none", "further columns, name = expression"),
    ("event_time", "text", "the column that says when it happened"),
    ("id", "text, none", "the column that tells rows apart; it orders rows of one time"),
    ("lateness", "duration, 0s", "how far the watermark stands behind the largest time"),
    ("sort", "duration, none", "a replayed file is sorted within this much event time"),
    ("hold", "duration, none", "how long a live source at its end may hold the others back"),
    ("idle_after", "duration, 10s", "a silent partition no longer holds the watermark back"),
    ("until", "\"end\" or \"stopped\", none", "when the source is done"),
];

const WINDOW: &[Key] = &[
    (
        "over",
        "text or list of texts, none",
        "the source whose rows it holds, or several; the spine if not given",
    ),
    ("by", "any", "columns of equal rows; or source column = expression over the spine"),
    ("last", "duration, none", "the rows of this much event time"),
    ("rows", "1 to 1000000, none", "the last rows; with `last`, of those the last"),
    ("tumbling", "duration, none", "the bucket of this length so far"),
    ("hopping", "any, none", "the last whole bucket: { size = \"1h\", every = \"15m\" }"),
    ("origin", "text, 1970-01-01T00:00:00Z", "when a bucket of `tumbling` or `hopping` begins"),
    (
        "calendar",
        "\"hour\" or \"day\" or \"week\" or \"month\" or \"quarter\" or \"year\", none",
        "the period so far; weeks begin on Monday",
    ),
    ("timezone", "text, UTC", "whose `calendar`, by its IANA name"),
    ("session", "duration, none", "the rows that follow each other within this, if it is not over"),
    ("half_life", "duration, none", "all rows, with weights that halve in this time"),
    (
        "resolution",
        "duration, none",
        "the tail of `last` moves by steps of this, and lags by up to one",
    ),
    ("offset", "duration, none", "the window as of so long ago"),
    ("exclude", "\"row\" or \"time\", none", "leaves out the row itself, or all rows of its time"),
    (
        "series",
        "any, none",
        "a list of the window as of so many steps ago: { step = \"1d\", count = 7 }",
    ),
    ("secondary", "text, none", "a column: a value for each of its values"),
    ("lifetime", "true or false, false", "all rows since the beginning"),
];

const LABEL: &[Key] = &[
    ("over", "text", "the source that brings the labels; its id is that of the spine's row"),
    ("value", "text", "the label, an expression"),
    ("wait", "duration", "how long after the event a label may come"),
    ("otherwise", "any, drop", "what counts when none came: \"drop\" or a number"),
    (
        "settled",
        "true or false, false",
        "labels count when the wait is over: for labels of which one kind comes sooner",
    ),
];

const MODEL: &[Key] = &[
    ("label", "text", "the label it learns"),
    ("inputs", "list of texts, [\"features.*\"]", "features, and NAME.margin of another model"),
    ("publish", "duration, none", "how often an online model becomes a version"),
];

const RETRAIN: &[Key] = &[
    (
        "on",
        "list of texts",
        "triggers: \"every 7d\", \"drift.NAME\", \"labels 20000\" (new ones), \"loss above 0.45\"",
    ),
    ("cooldown", "duration, 1d", "but for \"every\", none sooner than this after the last trigger"),
    ("takes", "duration, 0s", "event time that a training is deemed to take in a replay"),
    ("budget", "1 to 1000000, 24", "trainings that may be triggered in a day of event time"),
    (
        "executor",
        "list of texts, in_process",
        "where it is trained: [\"NAME above 500000 rows\", \"in_process\"]",
    ),
];

const EXECUTOR: &[Key] =
    &[("fallback", "text, none", "the executor of trainings that cannot be run here")];

const TRAINING: &[Key] = &[
    ("last", "duration, none", "labels of this much event time; all if not given"),
    ("max_rows", "1 to 1000000000, 1000000", "the newest rows"),
    ("min_rows", "1 to 1000000000, 1000", "no training with fewer"),
];

const PROMOTE: &[Key] = &[
    ("when", "\"not_worse\" or \"always\", not_worse", "what the gate asks"),
    ("by", "\"log_loss\", log_loss", "what is compared"),
    ("margin", "float, 0.002", "the mean difference of the log losses must be below it"),
    ("last", "duration, 7d", "rows labelled this long ago or less are compared"),
    ("min_rows", "1 to 1000000000, 2000", "the gate waits for so many"),
];

const ROLLOUT: &[Key] = &[
    ("shadow", "duration, 1d", "a new version is scored beside the champion at least so long"),
    (
        "canary",
        "list of texts, [\"5% for 1d\", \"25% for 1d\"]",
        "then it serves a growing share of the keys",
    ),
    ("by", "text, none", "the feature whose values are the keys; the row's id if not given"),
    (
        "false_promotion",
        "float, 0.05",
        "the chance, at most, that a version that is not better takes over",
    ),
    (
        "false_abort",
        "float, 0.01",
        "the chance, at most, that one that is not worse is aborted or rolled back",
    ),
    ("margin", "float, 0", "more log loss that is no fault"),
    (
        "clip",
        "float, 0.001",
        "probabilities count as no nearer to 0 and 1; below a rare label's rate",
    ),
    ("min_rows", "1 to 1000000000, 500", "no step ends before so many rows were compared"),
    ("give_up", "duration, 30d", "a version that is found neither better nor worse is turned away"),
    ("probation", "duration, 7d", "so long it may be rolled back after it took over"),
    ("abort_on", "list of texts, []", "\"drift.NAME\": whose drift ends a canary or a probation"),
];

const GATE: &[Key] = &[
    (
        "volume",
        "float, none",
        "rows to train on, at least, as a share of those of the one in charge",
    ),
    ("nulls", "float, none", "by how much a feature's share of NULLs may have grown"),
    ("range", "float, none", "the share of a feature's values, at most, that are new to it"),
    ("leakage", "float, none", "the AUC of a numeric feature alone, at most"),
    ("segments", "list of texts, []", "features whose values are compared apart"),
    ("segment_loss", "float, 0.02", "by how much its loss may be above the other's in a segment"),
    ("segment_rows", "1 to 1000000000, 200", "segments of fewer rows are not judged"),
    ("calibration", "float, none", "the expected calibration error, at most"),
    ("latency", "duration, none", "the mean time to score a row, at most"),
    ("size", "bytes, none", "of the artifact, at most"),
    ("requires_approval", "0 to 100, 0", "so many people must approve a version before it serves"),
];

const DRIFT: &[Key] = &[
    ("of", "text or list of texts, *", "features, \"*\" for all and the score, or \"loss\""),
    ("reference", "\"training\", training", "what the window is compared with"),
    ("model", "text, none", "whose training set it is; the first that is retrained if not given"),
    ("reference_rows", "10 to 1000000, 10000", "rows of the reference"),
    ("window", "duration, 7d", "rows that are compared"),
    ("every", "duration, 1h", "how often, in event time"),
];

const SCORE: &[Key] = &[
    ("champion", "text", "the model that is served"),
    ("challengers", "list of texts, []", "models that are scored beside it"),
    ("fallback", "any, 0.5", "models and at last a probability, until the champion is there"),
    ("freeze", "text, none", "the model whose first version is scored for ever, to compare with"),
    ("spans", "table of texts, none", "name = \"from/to\": spans that are summed up apart"),
];

const TRACES: &[Key] = &[
    ("endpoint", "text", "a collector of OpenTelemetry, http://127.0.0.1:4318 for example"),
    (
        "protocol",
        "\"http/protobuf\" or \"grpc\" or \"http/json\", http/protobuf",
        "which OTLP it speaks; on port 4317 usually grpc, on 4318 the others",
    ),
    ("headers", "table of texts, none", "name = value: sent with all spans, a token for example"),
    ("ca", "text, none", "PEM: who signs the certificate of an https:// endpoint"),
];

const ONLINE: &[Key] = &[
    ("entity", "text or list of texts", "columns of the spine that together name an entity"),
    ("max_entities", "1 to 1000000000, 1000000", "the one updated longest ago leaves beyond it"),
    ("max_age", "duration, none", "features older than this are answered as stale"),
    ("recent", "0 to 100000000, 100000", "the newest scored rows, which can be asked for by id"),
    ("edge", "\"event_time\" or \"wall_clock\", event_time", "where the windows of an entity end"),
];

const SINK: &[Key] = &[
    ("of", "text, its name", "the stream: features, scores, models, alerts or dead_letters"),
    ("format", "text, none", "json, csv, parquet or arrow_ipc; by the file's ending if not given"),
    (
        "columns",
        "list of texts, none",
        "columns of the stream in the order wanted; all if not given",
    ),
];

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
