//! A small pipeline whose model is retrained, with rows of its own.

use std::fmt::Write;
use std::path::Path;

use tidemill_types::time::to_rfc3339;

const MINUTE: i64 = 60_000_000;
const START: i64 = 19_723 * 1_440 * MINUTE;

/// Writes 6,000 rows of 42 days, ten minutes apart, and `pipeline.toml` with this `retrain` and these
/// executors. From row 4,000 on the label turns round.
pub fn write(folder: &Path, retrain: &str, executors: &str) {
    let (mut orders, mut payments) = ("id,at,x,y\n".to_string(), "id,at,bad\n".to_string());
    let mut state = 42_u64;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    for id in 0..6_000 {
        let at = START + i64::from(id) * 10 * MINUTE;
        let (x, y) = (uniform() - 0.5, uniform());
        let turned = if id < 4_000 { x } else { -x };
        let bad = uniform() < if turned > 0.0 { 0.9 } else { 0.1 };
        let time = |at| to_rfc3339(at);
        writeln!(orders, "{id},{},{x},{y}", time(at)).expect("memory");
        writeln!(payments, "{id},{},{bad}", time(at + 300 * MINUTE)).expect("memory");
    }
    let text = format!(
        r#"
[pipeline]
name = "risk"
spine = "orders"
tick = "1h"
[source.orders]
type = "file"
path = "orders.csv"
schema = {{ id = "int64", at = "timestamp", x = "float64", y = "float64" }}
event_time = "at"
id = "id"
[source.payments]
type = "file"
path = "payments.csv"
schema = {{ id = "int64", at = "timestamp", bad = "bool" }}
event_time = "at"
id = "id"
[features]
x = "x"
y = "y"
[label.bad]
over = "payments"
value = "bad"
wait = "2d"
{executors}
[model.trees]
type = "gradient_boosting"
label = "bad"
trees = 20
retrain = {retrain}
training = {{ last = "10d", min_rows = 500 }}
promote = {{ when = "always" }}
[score]
champion = "trees"
fallback = [0.5]
[sink.scores]
type = "file"
path = "scores.jsonl"
[sink.alerts]
type = "file"
path = "alerts.jsonl"
"#
    );
    for (name, text) in
        [("orders.csv", orders), ("payments.csv", payments), ("pipeline.toml", text)]
    {
        std::fs::write(folder.join(name), text).expect("a file");
    }
}
