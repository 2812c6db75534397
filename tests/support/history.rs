//! Payments by card with what comes back of them: late rows, doubles if asked for, windows of every kind, a model beside.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;
use tidemill_types::time::to_rfc3339;

/// Microseconds.
pub const MINUTE: i64 = 60_000_000;
/// 1 January 2026.
pub const START: i64 = 20_454 * 1_440 * MINUTE;

const PIPELINE: &str = r#"
[pipeline]
name = "history"
spine = "payments"

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", card = "string", shop = "int64", amount = "float64", at = "timestamp" }
where = "amount < 9000"
event_time = "at"
id = "id"
lateness = "30m"
[source.payments.columns]
high = "amount > 150"

[source.refunds]
type = "file"
path = "refunds.csv"
schema = { holder = "string", back = "float64", at = "timestamp" }
event_time = "at"
lateness = "10m"

[source.verdicts]
type = "file"
path = "verdicts.csv"
schema = { id = "int64", fraud = "bool", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
hour = { by = "card", last = "1h" }
week = { by = "card", last = "7d" }
before = { by = "card", rows = 5, exclude = "row" }
sitting = { by = "card", session = "40m" }
ever = { by = "card", lifetime = true }
fading = { by = "card", half_life = "6h" }
day = { by = "card", tumbling = "1d" }
here = { by = ["card", "shop"], last = "30d" }
back = { over = "refunds", by = { holder = "card" }, last = "14d" }

[features]
amount_now = "amount"
high = "high"
card = "card"
n_1h = "count(*) over hour"
sum_1h = "sum(amount) over hour"
n_7d = "count(*) over week"
sd_7d = "stddev_pop(amount) over week"
shops_7d = "count(distinct shop) over week"
median = "median(amount) over week"
mean_before = "avg(amount) over before"
n_sitting = "count(*) over sitting"
n_ever = "count(*) over ever"
sum_ever = "sum(amount) over ever"
faded = "sum(amount) over fading"
n_day = "count(*) over day"
n_here = "count(*) over here"
back_14d = "sum(back) over back"
ratio = "amount / nullif(avg(amount) over week, 0)"
latest = "last_k(amount, 3) over week"

[label.fraud]
over = "verdicts"
value = "fraud"
wait = "2h"

[model.online]
type = "logistic_regression"
label = "fraud"

[score]
champion = "online"
fallback = [0.5]

[sink.features]
type = "file"
path = "features.parquet"

[sink.text]
type = "file"
path = "features.jsonl"
of = "features"
"#;

/// The data and what is made of them, in a folder of their own.
pub struct History {
    pub folder: tempfile::TempDir,
}

impl History {
    /// So many payments, five minutes apart on average, of 60 cards; some come late, some have no card. With
    /// `doubles` some come twice, of another card the second time.
    pub fn new(payments: usize, doubles: bool) -> History {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = 7_u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        };
        let (mut text, mut verdicts) = (String::new(), "id,fraud,at\n".to_string());
        let mut refunds = "holder,back,at\n".to_string();
        for id in 0..payments as i64 {
            // Up to 25 minutes out of order, which is allowed, or 100, which is not.
            let late = match uniform() {
                x if x < 0.02 => 100,
                x if x < 0.3 => (x * 80.0) as i64,
                _ => 0,
            };
            let at = START + (id * 5 - late) * MINUTE;
            // Few cards have most of the payments.
            let n = (uniform() * uniform() * 60.0) as usize;
            let card = |n: usize| match n {
                59 => "null".to_string(),
                n => format!("\"c\u{e4}rd {n}\""),
            };
            let (shop, amount) = ((uniform() * 9.0) as i64, (uniform() * 20_000.0).round() / 100.0);
            let amount = if uniform() < 0.01 { 9_999.0 } else { amount };
            let time = to_rfc3339(at);
            let mut line = |card: &str, amount: f64| {
                writeln!(
                    text,
                    "{{\"id\":{id},\"card\":{card},\"shop\":{shop},\"amount\":{amount},\"at\":\"{time}\"}}"
                )
                .expect("memory");
            };
            line(&card(n), amount);
            if doubles && id % 50 == 7 {
                line(&card((n + 1) % 60), amount + 1.0);
                line(&card((n + 2) % 60), amount + 2.0);
            }
            writeln!(verdicts, "{id},{},{}", amount > 120.0, to_rfc3339(at + 45 * MINUTE))
                .expect("memory");
            if id % 6 == 0 {
                let holder = card(n).replace('"', "").replace("null", "");
                writeln!(refunds, "{holder},{},{}", amount / 2.0, to_rfc3339(at + 7 * MINUTE))
                    .expect("memory");
            }
        }
        let history = History { folder };
        for (name, text) in [
            ("payments.jsonl", text.as_str()),
            ("refunds.csv", &refunds),
            ("verdicts.csv", &verdicts),
            ("history.toml", PIPELINE),
        ] {
            std::fs::write(history.path(name), text).expect("a file");
        }
        history
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the pipeline into a folder.
    pub fn run(&self, folder: &str, more: &[&str]) -> Json {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(self.path("history.toml")).args(["--output", "json", "--quiet"]);
        command.arg("--folder").arg(self.path(folder)).args(more);
        json(&command.output().expect("the program starts"))
    }

    /// The command of a backfill into a file or folder.
    pub fn command(&self, (from, to): (&str, &str), out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("backfill").arg(self.path("history.toml"));
        let slash = if out.ends_with('/') { "/" } else { "" };
        let out = format!("{}{slash}", self.path(out).display().to_string().trim_end_matches('/'));
        command.args(["--from", from, "--to", to, "--out", &out]).args(more);
        command
    }

    /// Backfills.
    pub fn backfill(&self, range: (&str, &str), out: &str, more: &[&str]) -> Json {
        let mut command = self.command(range, out, more);
        let output = command.args(["--output", "json", "--quiet"]).output();
        let output = output.expect("the program starts");
        let told = json(&output);
        assert!(
            !self.path(&format!("{}.backfill", out.trim_end_matches('/'))).exists(),
            "it is left behind"
        );
        told
    }

    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        read(&self.path(name))
    }
}

/// The bytes of a file.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a program that succeeded says.
pub fn json(output: &Output) -> Json {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"))
}
