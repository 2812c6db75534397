//! What is run: pipelines of both modes, over payments that come late, twice, broken and out of order, and verdicts that
//! models learn from.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemill::engine::check::{Compiled, compile};
use tidemill_config::document::parse;
use tidemill_types::Micros;

use super::broker::{Cell, Log, Record};
use super::chance::Chance;

/// The day on which all of it is run.
pub const TODAY: Micros = 1_650_000_000_000_000;
const BEGIN: Micros = 1_600_000_000_000_000;
const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;

const PIPELINE: &str = r#"
[pipeline]
name = "simulated"
spine = "payments"
mode = "MODE"
tick = "1m"
bundle = BUNDLE
ahead = 24

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", at = "timestamp", card = "string", amount = "float64" }
event_time = "at"
id = "id"
lateness = "2m"

[source.verdicts]
type = "file"
path = "verdicts.jsonl"
schema = { id = "int64", at = "timestamp", fraud = "bool" }
event_time = "at"
id = "id"

[source.visits]
type = "file"
path = "visits.jsonl"
schema = { card = "string", at = "timestamp", pages = "int64" }
event_time = "at"
sort = "3m"

[windows]
last_10m = { by = "card", last = "10m" }
previous = { by = "card", rows = 3 }
ever = { by = "card", lifetime = true }
hour = { by = "card", tumbling = "20m" }
looks = { over = "visits", by = "card", last = "15m" }
acts = { over = ["payments", "visits"], by = "card", rows = 4 }
always = { over = ["payments", "visits"], by = "card", lifetime = true }

[features]
now = "amount"
n = "count(*) over last_10m"
mean = "avg(amount) over last_10m"
three = "sum(amount) over previous"
total = "sum(amount) over ever"
hourly = "max(amount) over hour"
pages = "sum(pages) over looks"
acts = "count(*) over acts"
always = "count(*) over always"
MODELS
[sink.features]
type = "file"
path = "features.jsonl"

[sink.messages]
of = "features"
type = "kafka"
topic = "features"
brokers = "localhost:9092"
delivery = "exactly_once"
format = "json"

[sink.late]
type = "file"
path = "late.jsonl"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"

[checkpoint]
interval = "INTERVAL"
keep = 2
"#;

/// What learns, and what that gives.
const MODELS: &str = r#"
[label.fraud]
over = "verdicts"
value = "fraud"
wait = "20m"

[model.trees]
type = "gradient_boosting"
label = "fraud"
inputs = ["features.*"]
trees = 2
min_rows_per_leaf = 2
retrain = { on = ["every 15m"], takes = "4m" }
training = { min_rows = 10 }
promote = { min_rows = 5 }

[model.online]
type = "logistic_regression"
label = "fraud"
inputs = ["features.*", "trees.margin"]
publish = "10m"

[drift.loss]
of = "loss"
detect = "page_hinkley"

[drift.features]
of = "*"
detect = ["psi"]
reference = "training"
model = "trees"
window = "10m"
every = "5m"

[score]
champion = "online"
fallback = ["trees", 0.2]

[sink.scores]
type = "file"
path = "scores.csv"
roll = "20m"

[sink.packed]
of = "scores"
type = "file"
path = "packed.csv.zst"

[sink.columns]
of = "features"
type = "file"
path = "columns.parquet"

[sink.models]
type = "kafka"
topic = "models"
brokers = "localhost:9092"
delivery = "exactly_once"
format = "json"

[sink.alerts]
type = "file"
path = "alerts.jsonl"
"#;

/// A pipeline.
pub struct Case {
    /// For people.
    pub name: String,
    pub compiled: Arc<Compiled>,
    /// The declared columns of each source.
    pub schemas: Vec<SchemaRef>,
    pub at_once: bool,
}

impl Case {
    fn new(mode: &str, bundle: u32, interval: &str, learns: bool) -> Case {
        // Columns are packed anew at each restart, and in `at_once` nothing of them is compared.
        let models = if learns { MODELS } else { "" };
        let text = PIPELINE
            .replace("MODELS", models)
            .replace("MODE", mode)
            .replace("BUNDLE", &bundle.to_string())
            .replace("INTERVAL", interval);
        let loaded = parse("simulated.toml", &text, Path::new(""), &[], &|_| None);
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        let compiled = Arc::new(compile(loaded).unwrap_or_else(|e| panic!("{e}")));
        let schemas = compiled.plan.sources.iter().map(|s| s.schema.to_arrow()).collect();
        let with = if learns { " with models" } else { "" };
        let name = format!("{mode}, bundles of {bundle}, lines every {interval}{with}");
        Case { name, compiled, schemas, at_once: mode == "at_once" }
    }
}

/// Every pipeline.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("final", 1, "10ms", false),
        Case::new("final", 10, "40ms", false),
        Case::new("final", 3, "20ms", true),
        Case::new("at_once", 10, "10ms", false),
        Case::new("at_once", 10, "40ms", false),
        Case::new("at_once", 10, "20ms", true),
    ]
}

/// Spreads rows that come in the order given over partitions. Offsets have gaps, as those of a topic that is written to
/// by transactions.
fn log(rows: Vec<(u64, Option<Vec<Cell>>)>, partitions: u64, chance: &mut Chance) -> Log {
    let mut log = vec![Vec::new(); partitions as usize];
    let mut next = vec![0; partitions as usize];
    for (key, row) in rows {
        let at = (key % partitions) as usize;
        next[at] += if chance.once_in(6) { 2 } else { 1 };
        log[at].push(Record { offset: next[at] - 1, row });
    }
    log
}

/// The logs of all sources, in the order of the plan.
pub fn logs(seed: u64) -> Vec<Arc<Log>> {
    let chance = &mut Chance::new(seed, 1);
    let n = 20 + chance.below(100) as i64;
    let cards = 1 + chance.below(8);
    let (mut payments, mut verdicts, mut visits) = (Vec::new(), Vec::new(), Vec::new());
    let mut now = BEGIN;
    for id in 0..n {
        now += match chance.below(20) {
            0 => 12 * MINUTE,
            1..=4 => 0,
            _ => chance.below(90) as i64 * SECOND,
        };
        let late = match chance.below(12) {
            0 => chance.below(600) as i64 * SECOND,
            1..=4 => chance.below(120) as i64 * SECOND,
            _ => 0,
        };
        let at = now - late;
        let card = chance.below(cards);
        let amount = chance.below(10_000) as f64 / 100.0;
        let time = match chance.below(60) {
            0 => None,
            // Further ahead than any clock of the simulation will be.
            1 => Some(2 * TODAY),
            _ => Some(at),
        };
        let of = vec![
            Cell::Int(id),
            Cell::Time(time),
            Cell::Text(format!("c{card}")),
            Cell::Float(amount),
        ];
        if chance.once_in(30) {
            payments.push((card, None));
        }
        payments.push((card, Some(of.clone())));
        if chance.once_in(25) {
            payments.push((card, Some(of)));
        }
        if !chance.once_in(8) {
            let heard = at + (2 + chance.below(25) as i64) * MINUTE;
            let fraud = Cell::Bool(amount > 60.0 || chance.once_in(9));
            verdicts.push((heard, vec![Cell::Int(id), Cell::Time(Some(heard)), fraud]));
        }
        if chance.once_in(2) {
            let seen = now - chance.below(200) as i64 * SECOND;
            let pages = Cell::Int(1 + chance.below(9) as i64);
            let row = vec![Cell::Text(format!("c{card}")), Cell::Time(Some(seen)), pages];
            visits.push((chance.below(99), Some(row)));
        }
    }
    verdicts.sort_by_key(|(heard, _)| *heard);
    let verdicts = verdicts.into_iter().map(|(heard, row)| (heard as u64, Some(row))).collect();
    let partitions = 1 + chance.below(3);
    let payments = log(payments, partitions, chance);
    let verdicts = log(verdicts, 1, chance);
    let visits = log(visits, 1 + seed % 2, chance);
    vec![Arc::new(payments), Arc::new(verdicts), Arc::new(visits)]
}
