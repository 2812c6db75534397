//! The program as a person uses it.

use std::path::Path;
use std::process::{Command, Output};

fn tidemill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

const FLIGHTS: &str = "config/pipelines/flight_delays.toml";

#[test]
fn a_sound_file_passes_the_check() {
    let output = tidemill(&["check", FLIGHTS]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("49 features"), "{}", text(&output.stdout));
    let output = tidemill(&["check", FLIGHTS, "--output", "json"]);
    assert_eq!(json(&output)["counts"]["windows"], 25);
}

#[test]
fn columns_of_a_sink_are_checked() {
    let file = "config/pipelines/payments_kafka.toml";
    let output = tidemill(&["check", file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let columns = r#"sink.features.columns=["event_id", "n_1mm", "n_1h", "n_1h"]"#;
    let output = tidemill(&["check", file, "--set", columns]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    for part in ["names no column: `n_1mm`", "did you mean `n_1m`?", "names `n_1h` twice"] {
        assert!(said.contains(part), "{said}");
    }
    let output = tidemill(&["check", file, "--set", "sink.features.columns=[]"]);
    assert!(text(&output.stderr).contains("`columns` of sink.features is empty"));
    // Messages' keys are columns of what is sent.
    for (columns, key) in [("[\"event_id\", \"n_1m\"]", "n_1h"), ("[\"n_1m\"]", "event_id")] {
        let columns = format!("sink.features.columns={columns}");
        let key = format!("sink.features.key={key}");
        let output = tidemill(&["check", file, "--set", &columns, "--set", &key]);
        assert_eq!(output.status.code(), Some(78));
        let said = text(&output.stderr);
        assert!(said.contains("`key` of sink.features names no column"), "{said}");
    }
}

/// Two sinks of one file would mix their rows, and one of a source's file would take the input away.
#[test]
fn no_sink_writes_over_another_one_or_over_a_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = r#"
        [pipeline]
        name = "over"
        spine = "rows"

        [source.rows]
        type = "file"
        path = "rows.csv"
        schema = { id = "int64", at = "timestamp" }
        event_time = "at"
        id = "id"

        [features]
        same = "id"

        [sink.features]
        type = "file"
        path = "features.csv"
    "#;
    let rows = "id,at\n1,2024-01-01T00:00:00Z\n";
    let file = folder.path().join("over.toml");
    std::fs::write(&file, pipeline).expect("a pipeline");
    std::fs::write(folder.path().join("rows.csv"), rows).expect("rows");
    let file = file.to_str().expect("a path");
    let second = |path: &str| {
        let set = format!("sink.more={{ of = \"features\", type = \"file\", path = \"{path}\" }}");
        tidemill(&["check", file, "--set", &set])
    };
    for path in ["features.csv", "./features.csv", "more/../features.csv"] {
        let output = second(path);
        assert_eq!(output.status.code(), Some(78), "{path}");
        let said = text(&output.stderr);
        assert!(said.contains("sink.more writes the file of sink.features"), "{said}");
    }
    assert!(second("../features.csv").status.success() && second("more.csv").status.success());
    // The ending that the format gives is part of the name.
    let set =
        "sink.more={ of = \"features\", type = \"file\", path = \"features\", format = \"csv\" }";
    assert_eq!(tidemill(&["check", file, "--set", set]).status.code(), Some(78));
    let out = folder.path().join("out");
    for (out, path) in [(folder.path(), "rows.csv"), (&out, "../rows.csv")] {
        std::fs::create_dir_all(out).expect("a folder");
        let out = out.to_str().expect("a path");
        let path = format!("sink.features.path={path}");
        let output = tidemill(&["run", file, "--quiet", "--folder", out, "--set", &path]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("which the source rows reads") && said.contains("cure:"), "{said}");
        let left = std::fs::read_to_string(folder.path().join("rows.csv")).expect("rows");
        assert_eq!(left, rows);
    }
    // Ids may be below zero, and are no flags then: what is missing here is the run.
    let output = tidemill(&["explain", file, "-5"]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
}

/// Of two sinks with one transactional id Kafka would refuse the first, and a topic of progress is no place for rows.
#[test]
fn sinks_of_kafka_have_topics_of_progress_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.toml");
    let sinks = |first: &str, second: &str| {
        let pipeline = format!(
            r#"[pipeline]
name = "shop"
spine = "rows"
[checkpoint]
enabled = true
[source.rows]
type = "file"
path = "rows.csv"
schema = {{ id = "int64", at = "timestamp" }}
event_time = "at"
id = "id"
[features]
same = "id"
[sink.one]
of = "features"
type = "kafka"
{first}
[sink.two]
of = "features"
type = "kafka"
{second}
"#
        );
        std::fs::write(&file, pipeline).expect("written");
        let output = tidemill(&["check", file.to_str().expect("a path")]);
        (output.status.code(), text(&output.stderr))
    };
    let sink = |topic: &str, brokers: &str, progress: &str| {
        format!("topic = \"{topic}\"\nbrokers = [{brokers}]\n{progress}")
    };
    let once = |progress: &str| format!("delivery = \"exactly_once\"\nprogress = \"{progress}\"");
    let (here, there) = ("\"here:9092\"", "\"there:9092\"");
    let one = sink("a", here, &once("p"));
    for (second, line, told) in [
        (
            sink("b", here, &once("p")),
            27,
            "sink.two keeps its progress in `p`, where sink.one does",
        ),
        (
            sink("b", "\"more:9092\", \"HERE:9092\"", &once("p")),
            27,
            "sink.two keeps its progress in `p`, where sink.one does",
        ),
        (
            sink("b", here, &once("a")),
            27,
            "sink.two keeps its progress in `a`, the topic of sink.one",
        ),
        (sink("p", here, ""), 24, "sink.two writes into `p`, where sink.one keeps its progress"),
    ] {
        let (code, said) = sinks(&one, &second);
        assert_eq!(code, Some(78), "{second}: {said}");
        for part in [told, &format!("shop.toml:{line}:"), "reason: ", "cure: "] {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
    // Other brokers, other topics of progress, rows of several sinks in one topic.
    for second in [
        sink("b", there, &once("p")),
        sink("b", here, &once("q")),
        sink("a", here, &once("q")),
        sink("a", here, "delivery = \"exactly_once\""),
        sink("a", here, ""),
    ] {
        let (code, said) = sinks(&one, &second);
        assert_eq!(code, Some(0), "{second}: {said}");
    }
}

#[test]
fn a_wrong_file_exits_with_78_and_shows_where() {
    let file = "config/tests/broken/09_unknown_spine.toml";
    let output = tidemill(&["check", file]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    for part in ["09_unknown_spine.toml:3:9", "ordres", "reason:", "did you mean `orders`?"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    let output = tidemill(&["check", file, "--output", "json"]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(json(&output)["errors"][0]["line"], 3);
    assert_eq!(tidemill(&["check", "no_such_file.toml"]).status.code(), Some(78));
}

/// What is wrong with windows once their source and their aggregates are known.
#[test]
fn windows_that_cannot_be_computed_are_refused_in_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let sound = include_str!("../config/tests/broken/sound.toml");
    let (window, feature) =
        ("card_1h = { by = \"card\", last = \"1h\" }", "sum(amount) over card_1h");
    assert!(sound.contains(window) && sound.contains(feature));
    for (wrong_window, wrong_feature, told) in [
        ("half_life = \"1h\"", "max(amount)", "a window that decays has sum, count and avg"),
        ("last = \"1h\", secondary = \"merchant\"", "sum(amount)", "`secondary` names no column"),
        ("last = \"1h\", secondary = \"amount\"", "sum(amount)", "cannot be a secondary key"),
        ("last = \"1h\", secondary = \"id\"", "corr(amount, amount)", "has a secondary key"),
    ] {
        let pipeline = sound
            .replace(window, &format!("card_1h = {{ by = \"card\", {wrong_window} }}"))
            .replace(feature, &format!("{wrong_feature} over card_1h"));
        std::fs::write(&file, pipeline).expect("written");
        let output = tidemill(&["check", file.to_str().expect("a path")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(told), "no `{told}` in\n{said}");
        assert!(said.contains(&format!("{}:", file.display())), "{wrong_window}: {said}");
    }
}

#[test]
fn an_override_is_checked_like_the_file() {
    let good = tidemill(&["check", FLIGHTS, "--set", "pipeline.tick=1m"]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    let bad = tidemill(&["check", FLIGHTS, "--set", "pipeline.tick=soon"]);
    assert_eq!(bad.status.code(), Some(78));
}

#[test]
fn the_graph_shows_every_source_and_sink() {
    for format in ["dot", "mermaid"] {
        let output = tidemill(&["graph", FLIGHTS, "--format", format]);
        let drawn = text(&output.stdout);
        for part in ["source.weather", "window.sky", "model.online", "sink.scores", "drift.loss"] {
            assert!(drawn.contains(part), "{format}: no `{part}` in\n{drawn}");
        }
    }
}

#[test]
fn a_journal_is_shown_and_verified_and_a_changed_one_is_refused() {
    use tidemill::journal::Journal;
    use tidemill::journal::record::{Header, Record};
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(folder.path()).expect("a new journal");
    for name in ["first", "second"] {
        journal.append(&Record::Header(Header::new(name, "plan"))).expect("a record");
    }
    journal.sync().expect("written");
    drop(journal);
    let path = folder.path().to_str().expect("a path");
    let output = tidemill(&["journal", "verify", path, "--output", "json"]);
    assert_eq!(json(&output)["records"], 2);
    assert!(text(&tidemill(&["journal", "show", path]).stdout).contains("second"));
    let file = std::fs::read_dir(folder.path())
        .expect("files")
        .flatten()
        .map(|e| e.path())
        .find(|p| std::fs::read_to_string(p).is_ok_and(|t| t.contains("first")))
        .expect("the journal's file");
    let changed = std::fs::read_to_string(&file).expect("text").replacen("first", "worst", 1);
    std::fs::write(&file, changed).expect("written");
    let output = tidemill(&["journal", "verify", path]);
    assert!(!output.status.success(), "{}", text(&output.stdout));
}

/// Of a folder without a journal nothing is said to be whole.
#[test]
fn what_is_no_journal_is_not_verified() {
    let run = tempfile::tempdir().expect("a folder");
    let inner = run.path().join("journal");
    let (journal, _) = tidemill::journal::Journal::open(&inner).expect("a new journal");
    drop(journal);
    let path = run.path().to_str().expect("a path");
    for command in ["verify", "show"] {
        let output = tidemill(&["journal", command, path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("there is no journal in"), "{said}");
        assert!(said.contains("its journal is in"), "{said}");
        let output = tidemill(&["journal", command, "/nowhere/at/all"]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    }
}

#[test]
fn a_registry_is_listed_and_shown() {
    use tidemill::models::registry::Registry;
    use tidemill_types::model::{Lineage, ModelVersion};
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("a registry");
    let artifact = registry.put("trees", b"an artifact").expect("stored");
    let version = ModelVersion {
        model: "trees".into(),
        version: 1,
        kind: "gradient_boosting".into(),
        artifact,
        since: 0,
        lineage: Lineage { rows: 42, ..Lineage::default() },
        metrics: vec![("log_loss".into(), 0.5)],
    };
    registry.register(&version).expect("registered");
    let path = folder.path().to_str().expect("a path");
    let output = tidemill(&["models", "list", path]);
    assert!(text(&output.stdout).contains(" 42 "), "{}", text(&output.stdout));
    let output = tidemill(&["models", "show", path, "trees", "1", "--output", "json"]);
    assert_eq!(json(&output)["artifact_bytes"], 11);
    assert!(!tidemill(&["models", "show", path, "trees", "2"]).status.success());
    assert_eq!(tidemill(&["models", "list", "no/such/folder"]).status.code(), Some(78));
}

#[test]
fn the_reference_lists_what_there_is() {
    let output = tidemill(&["reference", "--output", "json"]);
    let lists = json(&output);
    for (kind, name) in [
        ("windows", "hopping"),
        ("aggregates", "quantile"),
        ("functions", "coalesce"),
        ("detectors", "adwin"),
        ("trainers", "gradient_boosting"),
    ] {
        let listed = lists[kind].as_array().expect("a list");
        assert!(listed.iter().any(|e| e["name"] == name), "{kind} has no {name}");
    }
    assert!(text(&tidemill(&["completions", "bash"]).stdout).contains("tidemill"));
    assert!(text(&tidemill(&["--help"]).stdout).contains("Examples:"));
}

#[test]
fn what_would_always_be_null_or_written_twice_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.toml");
    let check = |more: &str, feature: &str| {
        let pipeline = format!(
            r#"
[pipeline]
name = "shop"
spine = "orders"
[source.orders]
type = "file"
path = "orders.csv"
schema = {{ number = "int64", id = "string", at = "timestamp", x = "float64", tags = "list<string>" }}
event_time = "at"
id = "number"
[windows]
five = {{ by = "id", rows = 5 }}
some = {{ by = "id", rows = 5, last = "1h" }}
all = {{ by = "id", lifetime = true }}
{more}
[features]
{feature}
[sink.features]
type = "stdout"
"#
        );
        std::fs::write(&file, pipeline).expect("written");
        let output = tidemill(&["check", file.to_str().expect("a path")]);
        (output.status.code(), text(&output.stderr))
    };
    for feature in [
        "f = \"nth_value(x, 5) over five\"",
        "f = \"lag(x, 4) over some\"",
        "f = \"lag(x, 1000001) over all\"",
        "f = \"nth_value(unnest(tags), 6) over five\"",
        "number = \"number\"",
    ] {
        let (code, said) = check("", feature);
        assert_eq!(code, Some(0), "{feature}: {said}");
    }
    let own = ["each row of features has columns `id`, `event_time`, `diff` of its own"];
    let five = ["`nth_value` over `five` is always NULL", "write rows = 2000 or more in `five`"];
    let some = ["`some` holds 5 at most", "write rows = 6 or more in `some`"];
    let most = ["it asks for 1000002 rows", "`rows` is 1000000 at most"];
    for (feature, parts) in [
        ("id = \"id\"", &own[..]),
        ("event_time = \"at\"", &own),
        ("diff = \"x\"", &own),
        ("f = \"nth_value(x, 2000) over five\"", &five),
        ("f = \"lag(x, 5) over some\"", &some),
        ("f = \"lag(x, 1000001) over five\"", &most),
        ("f = \"lag_per(x, id, 5) over some\"", &some),
        ("f = \"quantile(x, 1.5) over five\"", &["a share from 0 to 1; found 1.5"]),
        ("f = \"date_part('decade', at)\"", &["knows no `decade`", "isodow"]),
    ] {
        let (code, said) = check("", feature);
        assert_eq!(code, Some(78), "{feature}: {said}");
        for part in parts {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
    // The entity's column would stand beside the id.
    let (code, said) = check("[online]\nentity = \"id\"", "f = \"x\"");
    assert!(code == Some(78) && said.contains("`id` cannot name an entity"), "{said}");
}

#[test]
fn a_wrong_expression_is_shown_where_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = std::fs::read_to_string(FLIGHTS).expect("the sample");
    for (from, to, part) in [
        (
            "count(*) over due_origin_1h",
            "count(*) over due_origin_1",
            "did you mean `due_origin_1h`?",
        ),
        ("avg(arr_delay) over carrier_3h", "avg(arr_dely) over carrier_3h", "no column `arr_dely`"),
        ("avg(arr_delay) over carrier_3h", "avg(carrier) over carrier_3h", "string"),
        ("arr_delay > 15", "carrier", "neither a condition nor a number"),
        ("detect = [\"adwin\"]", "detect = [\"adwim\"]", "did you mean `adwin`?"),
        ("feature_fraction = 0.3", "feature_fraction = 1.5", "feature_fraction"),
        ("event_time = \"landed_at\"", "event_time = \"dep_delay\"", "is no time"),
    ] {
        assert!(good.contains(from), "the sample has no `{from}`");
        let file = folder.path().join("wrong.toml");
        std::fs::write(&file, good.replacen(from, to, 1)).expect("written");
        let output = tidemill(&["check", file.to_str().expect("a path")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{to}: {said}");
        assert!(said.contains(part) && said.contains("wrong.toml:"), "no `{part}` in\n{said}");
    }
}

/// Lists and maps are features like others, but for models and detectors.
#[test]
fn no_model_reads_lists_and_maps() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lists.toml");
    let good = std::fs::read_to_string(FLIGHTS).expect("the sample");
    let written = |changes: &[(&str, &str)]| {
        let mut text = good.clone();
        for (from, to) in changes {
            assert!(text.contains(from), "the sample has no `{from}`");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(&file, text).expect("written");
    };
    let list = ("avg(arr_delay) over carrier_3h", "last_k(arr_delay, 3) over carrier_3h");
    written(&[list]);
    let loaded = tidemill_config::document::load(&file, &[]);
    let compiled = loaded.and_then(tidemill::engine::check::compile);
    let compiled = compiled.unwrap_or_else(|report| panic!("{report}"));
    let of = compiled.program.feature_schema.type_of("carrier_delay_3h");
    assert_eq!(of.map(|t| t.name()), Some("list<int64>"));
    for inputs in &compiled.inputs {
        assert!(!inputs.names.numbers.is_empty());
        assert!(!inputs.names.numbers.iter().any(|name| name == "carrier_delay_3h"));
    }
    for (from, to) in [
        ("inputs = [\"features.*\"]", "inputs = [\"features.*\", \"carrier_delay_3h\"]"),
        ("of = \"*\"", "of = [\"carrier_delay_3h\", \"score\"]"),
    ] {
        written(&[list, (from, to)]);
        let output = tidemill(&["check", file.to_str().expect("a path")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{to}: {said}");
        for part in ["cannot read feature `carrier_delay_3h`", "list<int64>", "lists.toml:"] {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
}

/// A bounded input is taken in bundles of a day; a live one waits for no more than a tick.
#[test]
fn a_live_source_makes_short_bundles() {
    use tidemill::engine::check::compile;
    let round = |sets: &[(&str, &str)]| {
        let sets: Vec<(String, String)> =
            sets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let loaded = tidemill_config::document::load(Path::new(FLIGHTS), &sets);
        let compiled = loaded.and_then(compile).unwrap_or_else(|report| panic!("{report}"));
        compiled.program.round
    };
    let live = [
        ("source.weather.path", ""),
        ("source.weather.type", "kafka"),
        ("source.weather.topic", "weather"),
        ("source.weather.brokers", "localhost:9092"),
    ];
    assert_eq!(round(&[]), 86_400_000_000);
    assert_eq!(round(&live), 300_000_000);
    assert_eq!(round(&[&live[..], &[("source.weather.until", "end")]].concat()), 86_400_000_000);
}
