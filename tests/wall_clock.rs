//! `[online] edge = "wall_clock"`: an entity's features as of a request are those that a row at that time
//! would get.

#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Map, Value, json};
use shop::{Server, Shop, tensor};
use tidemill_types::Micros;
use tidemill_types::time::{DAY, HOUR, MINUTE, to_rfc3339};

const CARDS: usize = 24;
/// 2026-01-01T00:00:00Z.
const BEGIN: Micros = 1_767_225_600_000_000;
const END: Micros = BEGIN + 2 * DAY;

/// The windows of `{row}` see the spine's own stream; what stands for it leaves the row that reads out or not.
const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"
mode = "{mode}"

[source.payments]
type = "file"
path = "{payments}"
schema = { id = "int64", card = "string", place = "string", amount = "float64", at = "timestamp" }
columns = { hour = "date_part('hour', at)", late = "hour > 20", dear = "amount > 90" }
event_time = "at"
id = "id"
lateness = "10m"

[source.refunds]
type = "file"
path = "refunds.jsonl"
schema = { id = "int64", card = "string", place = "string", amount = "float64", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
hour = { by = "card", last = "1h"{row} }
five = { by = "card", rows = 5{row} }
both = { by = "card", rows = 3, last = "2h"{row} }
earlier = { by = "card", last = "3h", offset = "90m" }
before = { by = "card", last = "3h", exclude = "time" }
bucket = { by = "card", tumbling = "6h"{row} }
hops = { by = "card", hopping = { size = "4h", every = "90m" } }
day = { by = "card", calendar = "day", timezone = "America/New_York"{row} }
open = { by = "card", session = "40m"{row} }
halved = { by = "card", half_life = "3h"{row} }
ever = { by = "card", lifetime = true{row} }
tiles = { by = "card", last = "8h", resolution = "1h"{row} }
steps = { by = "card", last = "2h", series = { step = "1h", count = 3 }{row} }
by_place = { by = "card", last = "12h", secondary = "place"{row} }
night = { by = ["card", "late"], last = "1d"{row} }
refunded = { over = "refunds", by = "place", last = "5h" }
either = { over = ["payments", "refunds"], by = "card", last = "5h"{row} }
either_few = { over = ["payments", "refunds"], by = "card", rows = 6{row} }

[features]
amount_now = "amount"
hour_now = "hour"
dear_now = "dear"
spent = "sum(amount) over hour"
ratio = "amount / nullif(avg(amount) over hour, 0)"
spread = "stddev_samp(amount) over tiles"
most = "max(amount) over tiles"
middle = "median(amount) over day"
places = "count(distinct place) over day"
since = "time_since_last(amount) over five"
last_five = "last_k(amount, 5) over five"
fewest = "min(amount) filter (where place <> 'p1') over both"
offset_sum = "sum(amount) over earlier"
before_count = "count(*) over before"
bucket_sum = "sum(amount) over bucket"
hops_sum = "sum(amount) over hops"
open_count = "count(*) over open"
halved_sum = "sum(amount) over halved"
halved_count = "count(*) over halved"
ever_count = "count(*) over ever"
ever_most = "max(amount) over ever"
step_sums = "sum(amount) over steps"
place_sums = "sum(amount) over by_place"
night_count = "count(*) over night"
slope = "slope_over_time(amount) over hour"
back = "sum(amount) over refunded"
back_share = "count(*) over refunded / (1 + hour)"
either_sum = "sum(amount) over either"
either_median = "median(amount) over either"
either_few_last = "last_k(amount, 6) over either_few"

[label.refunded]
over = "refunds"
value = "amount > 20"
wait = "2h"

[model.online]
type = "logistic_regression"
label = "refunded"

[score]
champion = "online"
fallback = [0.5]

[online]
entity = "card"
edge = "wall_clock"

[sink.features]
type = "file"
path = "features.jsonl"
"#;

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn payment(id: usize, card: usize, place: u64, cents: u64, at: Micros) -> Value {
    let (card, place, amount) = (format!("c{card}"), format!("p{place}"), cents as f64 / 100.0);
    json!({"id": id, "card": card, "place": place, "amount": amount, "at": to_rfc3339(at)})
}

/// Payments and refunds of two days, and one probe a card, at a time of its own after the last payment, as
/// the row that would come then.
fn write(shop: &Shop) -> BTreeMap<String, (Micros, i64)> {
    let mut chance = Chance(11);
    let mut times: Vec<Micros> =
        (0..2_000).map(|_| BEGIN + chance.below(2 * 24 * 60 * 6) as Micros * MINUTE / 6).collect();
    times.sort_unstable();
    let (mut payments, mut refunds) = (String::new(), String::new());
    let mut newest: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (id, at) in times.into_iter().enumerate() {
        // Some cards pay often, and some not for long.
        let card = (chance.below(CARDS as u64) * chance.below(CARDS as u64)) as usize / CARDS;
        let (place, cents) = (chance.below(4), chance.below(12_000));
        newest.insert(card, (place, cents));
        writeln!(payments, "{}", payment(id, card, place, cents, at)).expect("a line");
        if id % 3 == 0 {
            let amount = chance.below(5_000) as f64 / 100.0;
            let at = to_rfc3339((at + 20 * MINUTE).min(END));
            let (card, place) = (format!("c{card}"), format!("p{place}"));
            let refund =
                json!({"id": id, "card": card, "place": place, "amount": amount, "at": at});
            writeln!(refunds, "{refund}").expect("a line");
        }
    }
    let mut probed = payments.clone();
    let mut probes = BTreeMap::new();
    let mut rows = Vec::new();
    for (card, (place, cents)) in newest {
        let after = [MINUTE, 17 * MINUTE, 2 * HOUR, 9 * HOUR, DAY, 40 * DAY][card % 6];
        let (id, at) = (100_000 + card, END + after + chance.below(60) as Micros * MINUTE);
        rows.push((at, payment(id, card, place, cents, at)));
        probes.insert(format!("c{card}"), (at, id as i64));
    }
    rows.sort_by_key(|(at, _)| *at);
    rows.iter().for_each(|(_, row)| writeln!(probed, "{row}").expect("a line"));
    for (name, text) in [("payments", payments), ("probed", probed), ("refunds", refunds)] {
        std::fs::write(shop.path(&format!("{name}.jsonl")), text).expect("a file");
    }
    probes
}

fn pipeline(shop: &Shop, mode: &str, payments: &str, row: &str) {
    let text = PIPELINE.replace("{mode}", mode).replace("{payments}", payments);
    std::fs::write(shop.path("shop.toml"), text.replace("{row}", row)).expect("a file");
}

/// The features of every probe, as a run computes them.
fn computed(
    shop: &Shop,
    probes: &BTreeMap<String, (Micros, i64)>,
) -> BTreeMap<String, Map<String, Value>> {
    pipeline(shop, "final", "probed.jsonl", ", exclude = \"row\"");
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("run")
        .arg(shop.path("shop.toml"))
        .args(["--quiet", "--folder"])
        .arg(shop.path("probed"))
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(shop.path("probed/features.jsonl")).expect("features");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let row: Map<String, Value> = serde_json::from_str(line).expect("JSON");
        let card = probes.iter().find(|(_, (_, id))| row["id"] == json!(id)).map(|(card, _)| card);
        if let Some(card) = card {
            found.insert(card.clone(), row);
        }
    }
    assert_eq!(found.len(), probes.len());
    found
}

/// All features of some cards as of a moment, by Feast's API: of each its values, and what is said of them.
fn asked(
    server: &Server,
    cards: &[&String],
    as_of: Option<Micros>,
) -> (Vec<Map<String, Value>>, Value) {
    let as_of = as_of.map(to_rfc3339);
    let request = json!({"feature_service": "shop", "entities": {"card": cards}, "as_of": as_of});
    let (status, answer) = server.post("/get-online-features", &request);
    assert_eq!(status, 200, "{answer}");
    let names = answer["metadata"]["feature_names"].as_array().expect("names");
    let of = |row: usize| {
        let each = names.iter().zip(answer["results"].as_array().expect("results"));
        let each = each.map(|(name, result)| {
            (name.as_str().unwrap_or_default().to_string(), result["values"][row].clone())
        });
        each.collect()
    };
    ((0..cards.len()).map(of).collect(), answer["metadata"].clone())
}

#[test]
fn features_as_of_a_request_are_those_that_a_row_would_get() {
    let shop = Shop::new();
    let probes = write(&shop);
    let wanted = computed(&shop, &probes);
    for (mode, workers) in [("final", "1"), ("at_once", "3")] {
        pipeline(&shop, mode, "payments.jsonl", "");
        let server = shop.serve(&["--workers", workers]);
        for (card, (at, _)) in &probes {
            let (rows, told) = asked(&server, &[card], Some(*at));
            assert_eq!(told["windows_at"], json!(to_rfc3339(*at)), "{told}");
            for (name, got) in &rows[0] {
                let want = &wanted[card][name];
                assert_eq!(got, want, "{mode}: {name} of {card} at {}", to_rfc3339(*at));
            }
            assert!(rows[0].len() > 25, "all features are there");
        }
        // Of several at once, and again: to ask changes nothing.
        let at = END + 3 * HOUR;
        let cards: Vec<&String> = probes.keys().collect();
        let together = asked(&server, &cards, Some(at)).0;
        for (card, row) in cards.iter().zip(&together) {
            assert_eq!(&asked(&server, &[card], Some(at)).0[0], row, "{card}");
        }
        protocols(&server, &cards, at, &together);
        server.stop();
        std::fs::remove_dir_all(shop.path("out")).expect("a folder");
    }
}

/// The other ways of asking say the same, and what cannot be answered is refused.
fn protocols(server: &Server, cards: &[&String], at: Micros, rows: &[Map<String, Value>]) {
    let as_of = to_rfc3339(at);
    for (card, row) in cards.iter().zip(rows).take(4) {
        let score = |inputs: Vec<Value>, parameters: Value| {
            let body = json!({"inputs": inputs, "parameters": parameters});
            let (status, answer) = server.post("/v2/models/shop/infer", &body);
            assert_eq!(status, 200, "{answer}");
            (answer["outputs"][0]["data"][0].clone(), answer["parameters"]["windows_at"].clone())
        };
        let entity = vec![tensor("card", "BYTES", json!([card]))];
        let (held, told) = score(entity.clone(), json!({"as_of": as_of}));
        assert_eq!(told, json!(as_of));
        assert_eq!(score(entity.clone(), json!({"as_of": at})).0, held, "in microseconds");
        let given = row.iter().filter_map(|(name, value)| match value {
            Value::Number(_) if name != "card" => Some(tensor(name, "FP64", json!([value]))),
            Value::Bool(_) => Some(tensor(name, "BOOL", json!([value]))),
            _ => None,
        });
        let (by_features, told) = score(given.collect(), json!({}));
        assert_eq!((held, Value::Null), (by_features, told), "{card}");
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "lookup_features",
            "arguments": {"key": {"card": card}, "features": ["spent", "since"], "as_of": as_of},
        }});
        let (status, answer) = server.post("/mcp", &call);
        let found = &answer["result"]["structuredContent"];
        assert_eq!((status, &found["windows_at"]), (200, &json!(as_of)), "{answer}");
        assert_eq!(found["features"], json!({"spent": row["spent"], "since": row["since"]}));
    }
    // A column that names a window's key may be given: it is then that one's window.
    let give = |place: &str| {
        let entities = json!({"card": [cards[0]], "place": [place]});
        let request = json!({"features": ["back"], "entities": entities, "as_of": as_of});
        server.post("/get-online-features", &request).1["results"][2]["values"][0].clone()
    };
    let sums: Vec<Value> = (0..4).map(|place| give(&format!("p{place}"))).collect();
    assert!(sums.iter().all(Value::is_number), "{sums:?}");
    assert!(sums.iter().any(|sum| *sum != sums[0]) && sums.contains(&rows[0]["back"]), "{sums:?}");
    assert_eq!(give("nowhere"), Value::Null);
    // Nobody named a moment: the clock's, by which all is long over.
    let (now, told) = asked(server, cards, None);
    assert!(told["windows_at"].as_str() > Some("2026-01-03"), "{told}");
    for (row, then) in now.iter().zip(rows) {
        assert_eq!((&row["spent"], &row["open_count"]), (&Value::Null, &json!(0)), "{row:?}");
        assert_eq!(row["ever_count"], then["ever_count"]);
        assert!(row["since"].as_f64() > then["since"].as_f64());
    }
    let (early, id) = (to_rfc3339(BEGIN + DAY), vec![tensor("id", "BYTES", json!(["1999"]))]);
    let entity = vec![tensor("card", "BYTES", json!([cards[0]]))];
    for (inputs, as_of, why) in [
        (entity.clone(), json!(early), "too early"),
        (entity, json!("yesterday"), "is a time"),
        (id, json!(as_of), "as they were scored"),
    ] {
        let body = json!({"inputs": inputs, "parameters": {"as_of": as_of}});
        let (status, answer) = server.post("/v2/models/shop/infer", &body);
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(why), "{status} {answer}");
    }
}

#[test]
fn an_edge_at_event_time_answers_no_other_moment() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    let request = json!({"features": ["sum_1h"], "entities": {"card": ["c0"]},
                         "as_of": "2026-01-02T00:00:00Z"});
    let (status, answer) = server.post("/get-online-features", &request);
    assert!(status == 422 && answer.to_string().contains("wall_clock"), "{status} {answer}");
    server.stop();
}
