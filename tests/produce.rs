//! `tidemill produce` against a real Kafka: what is in the files is in the topics, to the bit.
#![cfg(feature = "kafka")]

#[path = "support/kafka.rs"]
mod kafka;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde_json::Value as Json;
use tidemill_config::document::load;
use tidemill_connectors::client::kafka::{Cluster, Topic};
use tidemill_connectors::source::{Polled, SOURCES};

/// Texts that a format might trip over; NULL is written `NA`.
const NAMES: [&str; 14] = [
    "plain",
    "\"with, comma\"",
    "\"with \"\"quotes\"\"\"",
    "\"two\nlines\"",
    "\"tab\tand \u{1}\"",
    "\u{fc}ml\u{e4}ut \u{1f30a} \u{2028}",
    " blanks ",
    "back\\slash\\u0041",
    "null",
    "{}",
    "'",
    "",
    "NA",
    "na",
];

const TIMES: [&str; 6] = [
    "2024-02-29T23:59:59.999999Z",
    "2024-07-01T12:00:00+05:30",
    "1969-12-31T23:59:59.000001Z",
    "2024-01-01T00:00:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
];

const NUMBERS: [&str; 9] = [
    "0.1",
    "-0.0",
    "5e-324",
    "1.7976931348623157e308",
    "NA",
    "1e22",
    "-3",
    "0.30000000000000004",
    "NA",
];

const COUNTS: [&str; 5] =
    ["9223372036854775807", "-9223372036854775808", "NA", "0", "9007199254740993"];

/// Rows of the awkward source that can be read; two more cannot.
const ROWS: usize = 9_000;

/// A pipeline of two sources over files of its own; the first one's are awkward.
fn pipeline() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "id,at,name,price,count,ok,unused\n".to_string();
    for i in 0..ROWS {
        let at = if i % 11 == 10 { "NA" } else { TIMES[i % TIMES.len()] };
        let (name, price) = (NAMES[i % NAMES.len()], NUMBERS[i % NUMBERS.len()]);
        let (count, ok) = (COUNTS[i % COUNTS.len()], ["true", "NA", "false"][i % 3]);
        csv += &format!("{i},{at},{name},{price},{count},{ok},x\n");
        if i == 17 || i == ROWS - 2 {
            csv += "none,2024-01-01T00:00:00Z,bad,1,1,true,x\n";
        }
    }
    fs::write(folder.path().join("odd.csv"), csv).expect("written");
    fs::write(folder.path().join("plain.jsonl"), "{\"k\":\"a\",\"at\":\"2024-01-01\"}\n")
        .expect("written");
    let text = r#"
        [pipeline]
        name = "odd"
        spine = "events"

        [source.events]
        type = "file"
        path = "odd.csv"
        format = "csv"
        null = ["NA"]
        schema = { id = "int64", at = "timestamp", name = "string", price = "float64", count = "int64", ok = "bool" }
        event_time = "at"
        id = "id"

        [source.plain]
        type = "file"
        path = "plain.jsonl"
        schema = { k = "string", at = "timestamp" }
        columns = { key = "k" }
        event_time = "at"
        id = "key"
    "#;
    let file = folder.path().join("odd.toml");
    fs::write(&file, text).expect("written");
    (folder, file)
}

fn tidemill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill")).args(arguments).output().expect("a program")
}

fn produce(file: &Path, brokers: &str, more: &[&str]) -> Output {
    let file = file.to_str().expect("a path");
    tidemill(&[&["produce", file, "--brokers", brokers], more].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON object of a command that must succeed.
fn json(output: &Output) -> Json {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Every row of a source as `(partition, id, row)`, read by the keys that `produce` gave or, without
/// them, as the file says.
fn read(file: &Path, name: &str, keys: Option<&Json>) -> Vec<(u32, i64, RecordBatch)> {
    let mut set = Vec::new();
    if let Some(keys) = keys {
        set.push((format!("source.{name}.path"), String::new()));
        for (key, value) in keys.as_object().expect("keys") {
            set.push((format!("source.{name}.{key}"), value.as_str().expect("a text").to_string()));
        }
    }
    let plan = load(file, &set).unwrap_or_else(|report| panic!("{report}")).plan;
    let source = plan.sources.iter().find(|s| s.name.value == name).expect("the source");
    let entry = SOURCES.iter().find(|e| e.name == source.section.kind.value).expect("its kind");
    let mut from = (entry.open)(source, (0, 1)).expect("an open source");
    let mut open: BTreeSet<u32> = from.partitions().into_iter().collect();
    let mut rows = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(90);
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "no end after {} rows", rows.len());
        match from.poll(Duration::from_millis(100)).expect("rows") {
            Polled::Chunk(chunk) => {
                assert!(keys.is_none() || chunk.rejects.is_empty(), "{:?}", chunk.rejects);
                let ids = chunk.rows.column(0).as_primitive_opt::<Int64Type>().cloned();
                for row in 0..chunk.rows.num_rows() {
                    let id = ids.as_ref().map_or(row as i64, |ids| ids.value(row));
                    rows.push((chunk.partition, id, chunk.rows.slice(row, 1)));
                }
            }
            Polled::AtEnd(partition) => {
                open.remove(&partition);
            }
            Polled::Nothing => {}
        }
    }
    rows
}

#[test]
fn rows_read_back_equal_from_a_topic() {
    let broker = kafka::shared();
    let (_folder, file) = pipeline();
    let prefix = format!("{}-", kafka::unique("odd"));
    let arguments = ["--topic-prefix", &prefix, "--output", "json"];
    let output = produce(&file, &broker.address(), &arguments);
    let told = json(&output);
    let topics = told["topics"].as_array().expect("topics");
    let names: Vec<_> = topics.iter().map(|t| t["topic"].as_str().expect("a name")).collect();
    assert_eq!(names, [format!("{prefix}events"), format!("{prefix}plain")]);
    assert_eq!(topics[0]["rows"], ROWS, "{told}");
    assert_eq!(topics[0]["refused"], 2, "{told}");
    assert_eq!((&topics[1]["rows"], &topics[1]["created"]), (&1.into(), &true.into()), "{told}");
    let said = text(&output.stderr);
    assert!(said.contains("odd.csv") && said.contains(" rows"), "no progress in: {said}");

    let wanted = read(&file, "events", None);
    let found = read(&file, "events", Some(&topics[0]["keys"]));
    assert_eq!((wanted.len(), found.len()), (ROWS, ROWS));
    let used: BTreeSet<u32> = found.iter().map(|row| row.0).collect();
    assert_eq!(used, (0..4).collect(), "ids are spread over the partitions");
    let mut last = BTreeMap::new();
    let mut by_id = BTreeMap::new();
    for (partition, id, row) in found {
        let before = last.insert(partition, id);
        assert!(before.is_none_or(|b| b < id), "the file's order is lost in partition {partition}");
        by_id.insert(id, row);
    }
    for (_, id, row) in wanted {
        assert_eq!(by_id.get(&id), Some(&row), "row {id}");
    }
    let nulls = by_id.values().filter(|row| row.columns().iter().any(|c| c.null_count() > 0));
    assert!(nulls.count() > ROWS / 2, "too few NULLs to prove anything");
    let plain = read(&file, "plain", Some(&topics[1]["keys"]));
    assert_eq!(plain[0].2, read(&file, "plain", None)[0].2);
}

#[test]
fn a_key_of_ones_own_and_a_topic_that_is_there_already() {
    let broker = kafka::shared();
    let (_folder, file) = pipeline();
    let prefix = format!("{}-", kafka::unique("keyed"));
    let topic = format!("{prefix}events");
    let cluster = Cluster::new(broker.address());
    assert!(cluster.create_topic(&Topic::new(&topic, 3)).expect("a topic"));
    let arguments = ["--prefix", &prefix, "--source", "events", "--key", "name", "--quiet"];
    let output = produce(&file, &broker.address(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        &format!("events -> {topic}: 9,000 rows, 2 records rejected"),
        "there already",
        "[source.events]",
        &format!("topic = \"{topic}\""),
        "format = \"json\"",
        "until = \"end\"",
        "--set source.events.path=",
    ] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    assert!(!said.contains("source.plain"), "another source was loaded too:\n{said}");
    assert_eq!(text(&output.stderr), "");

    // Once more: what was there stays there.
    let again = [&arguments[..], &["--output", "json"]].concat();
    let told = json(&produce(&file, &broker.address(), &again));
    assert_eq!(told["topics"][0]["created"], false, "{told}");
    let found = read(&file, "events", Some(&told["topics"][0]["keys"]));
    assert_eq!(found.len(), 2 * ROWS);
    let mut places: BTreeMap<Option<String>, BTreeSet<u32>> = BTreeMap::new();
    for (partition, _, row) in &found {
        let names = row.column(2).as_string::<i32>();
        let name = names.is_valid(0).then(|| names.value(0).to_string());
        places.entry(name).or_default().insert(*partition);
    }
    assert_eq!(places.len(), NAMES.len());
    assert!(places.values().all(|partitions| partitions.len() == 1), "{places:?}");
    let used: BTreeSet<u32> = places.into_values().flatten().collect();
    assert!(used.len() > 1 && used.iter().all(|p| *p < 3), "{used:?}");
}

#[test]
fn what_is_refused_is_refused_before_anything_is_made() {
    let broker = kafka::shared();
    let (folder, file) = pipeline();
    let prefix = format!("{}-", kafka::unique("refused"));
    let lost = "source.plain.path=no_such_file.jsonl";
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--source", "evnts"], 78, "did you mean `events`?"),
        (&["--key", "name"], 78, "plain has no column `name`"),
        (&["--source", "plain", "--key", "key"], 78, "has no column `key`"),
        (&["--property", "acks=0"], 78, "`acks` cannot be set"),
        (&["--property", "no.such.property=1"], 78, "no.such.property"),
        (&["--set", "source.events.type=kafka", "--source", "events"], 78, "source.events"),
        (&["--set", lost], 78, "no_such_file.jsonl"),
        (&["--partitions", "0"], 2, "--partitions"),
    ];
    for (more, code, part) in cases {
        let arguments = [&["--topic-prefix", &prefix], more].concat();
        let output = produce(&file, &broker.address(), &arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(part), "{more:?}: no `{part}` in\n{said}");
    }
    let cluster = Cluster::new(broker.address());
    for source in ["events", "plain"] {
        let topic = Topic::new(format!("{prefix}{source}"), 1);
        assert!(cluster.create_topic(&topic).expect("a topic"), "{source} was made");
    }
    let output = produce(&file, &broker.address(), &["--topic-prefix", "a topic/"]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    let file = file.to_str().expect("a path");
    assert_eq!(tidemill(&["produce", file]).status.code(), Some(2), "no brokers");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let output = tidemill(&["produce", file, "--brokers", &nobody]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let told = text(&output.stderr);
    assert!(told.contains("cure: ") && told.contains("--brokers"), "{told}");
    drop(folder);
}

/// Properties go to librdkafka, and come back as a pipeline file may hold them: no secret is shown.
#[test]
fn properties_are_used_and_secrets_are_not_shown() {
    let broker = kafka::shared();
    let (_folder, file) = pipeline();
    let prefix = format!("{}-", kafka::unique("secret"));
    let arguments = [
        ["--topic-prefix", &prefix],
        ["--source", "plain"],
        ["--property", "sasl.username=$Me"],
        ["--property", "sasl.password=hush=hush"],
    ];
    let output = produce(&file, &broker.address(), &arguments.concat());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(!said.contains("hush") && !text(&output.stderr).contains("hush"), "{said}");
    for part in ["\"sasl.username\" = \"$$Me\"", "\"sasl.password\" = \"${SASL_PASSWORD}\""] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    // The keys that it prints make a sound pipeline.
    let (_, keys) = said.split_once("[source.plain]").expect("the keys");
    let (_, keys) = keys.split_once('\n').expect("lines");
    let old = "type = \"file\"\n        path = \"plain.jsonl\"";
    let changed = fs::read_to_string(&file).expect("the file").replace(old, keys);
    fs::write(&file, changed).expect("written");
    let check = |password: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("check").arg(&file).env_remove("SASL_PASSWORD");
        command.envs(password.map(|p| ("SASL_PASSWORD", p)));
        command.output().expect("a program")
    };
    let checked = check(Some("hush"));
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&check(None).stderr).contains("SASL_PASSWORD"));
}

/// The starter for Kafka, as its README says: its scores are those of the starter for files.
#[test]
fn the_starter_for_kafka_scores_as_the_one_for_files() {
    let broker = kafka::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let name = kafka::unique("shop");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).args(["--output", "json"]).current_dir(folder.path());
        json(&command.env("BROKERS", broker.address()).output().expect("a program"))
    };
    run(&["new", &name, "--folder", "files"]);
    run(&["new", &name, "--folder", "topics", "--template", "kafka"]);
    let prefix = format!("{name}-");
    let brokers = broker.address();
    let load = ["produce", "topics/load.toml", "--brokers", &brokers, "--topic-prefix", &prefix];
    assert_eq!(run(&load)["topics"][0]["rows"], 200);
    let scores = |from: &str| {
        let out = format!("out-{from}");
        let told = run(&["run", &format!("{from}/{name}.toml"), "--folder", &out, "--quiet"]);
        assert_eq!((&told["scores"], &told["late"]), (&200.into(), &0.into()), "{told}");
        fs::read_to_string(folder.path().join(out).join("scores.jsonl")).expect("scores")
    };
    assert_eq!(scores("topics"), scores("files"));
}
