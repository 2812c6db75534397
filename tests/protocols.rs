//! Features and scores over every protocol, asked by the official clients of each.

#[path = "support/python.rs"]
mod python;
#[path = "support/shop.rs"]
mod shop;

use serde_json::{Value, json};
use shop::{CARDS, PAYMENTS, Server, Shop, amount, card, tensor};

/// The newest payment of a card, and the amounts of its last hour.
fn newest(of: usize) -> (usize, Vec<f64>) {
    let id = (0..PAYMENTS).rev().find(|id| card(*id) == of).expect("a payment");
    let hour = id.saturating_sub(60)..=id;
    (id, hour.filter(|other| card(*other) == of).map(amount).collect())
}

fn features(server: &Server, entities: Value) -> (u16, Value) {
    server.post("/get-online-features", &json!({"feature_service": "shop", "entities": entities}))
}

/// Values and statuses of a feature.
fn column(answer: &Value, name: &str) -> (Value, Value) {
    let names = answer["metadata"]["feature_names"].as_array().expect("names");
    let at = names.iter().position(|known| known == name).unwrap_or_else(|| panic!("{answer}"));
    let result = &answer["results"][at];
    (result["values"].clone(), result["statuses"].clone())
}

fn score(server: &Server, inputs: Value) -> (f64, Value) {
    let (status, answer) = server.post("/v2/models/shop/infer", &json!({"inputs": inputs}));
    assert_eq!(status, 200, "{answer}");
    let score = answer["outputs"][0]["data"][0].as_f64().expect("a score");
    (score, answer["parameters"].clone())
}

#[test]
fn features_of_every_entity_are_those_of_its_newest_row() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    let cards: Vec<String> = (0..CARDS).map(|c| format!("c{c}")).collect();
    let (status, answer) = features(&server, json!({"card": cards}));
    assert_eq!(status, 200, "{answer}");
    for c in 0..CARDS {
        let (id, hour) = newest(c);
        let mean = hour.iter().sum::<f64>() / hour.len() as f64;
        let value = |name| column(&answer, name).0[c].clone();
        assert_eq!(value("amount_now"), json!(amount(id)), "c{c}");
        assert_eq!(value("large"), json!(amount(id) > 150.0));
        assert_eq!(value("sum_1h"), json!(hour.iter().sum::<f64>()));
        let ratio = value("ratio").as_f64().expect("a number");
        assert!((ratio - amount(id) / mean).abs() < 1e-9, "c{c}: {ratio}");
        let last: Vec<f64> = hour.iter().rev().take(3).copied().collect();
        let mut held: Vec<f64> = value("latest")
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_f64).collect())
            .expect("a list");
        held.sort_by(f64::total_cmp);
        let mut last = last;
        last.sort_by(f64::total_cmp);
        assert_eq!(held, last);
    }
    // Card c7 was seen last at 3:19, 200 minutes before the end; 100 are allowed.
    let (_, statuses) = column(&answer, "sum_1h");
    assert_eq!(statuses[7], "OUTSIDE_MAX_AGE");
    assert_eq!(statuses[0], "PRESENT");

    // An entity that was never seen has no features, but those of the request alone.
    let (status, answer) =
        features(&server, json!({"card": ["c0", "new"], "amount": [7.0, 200.0]}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(column(&answer, "amount_now"), (json!([7.0, 200.0]), json!(["PRESENT", "PRESENT"])));
    assert_eq!(column(&answer, "large").0, json!([false, true]));
    let (ratio, statuses) = column(&answer, "ratio");
    let (_, hour) = newest(0);
    let mean = hour.iter().sum::<f64>() / hour.len() as f64;
    assert!((ratio[0].as_f64().expect("a number") - 7.0 / mean).abs() < 1e-9, "{ratio}");
    assert_eq!((&ratio[1], &statuses[1]), (&Value::Null, &json!("NOT_FOUND")));
    assert_eq!(column(&answer, "sum_1h").1, json!(["PRESENT", "NOT_FOUND"]));

    for (request, status, why) in [
        (json!({"features": ["other:x"], "entities": {"card": ["c0"]}}), 404, "feature view"),
        (json!({"features": ["shop:x"], "entities": {"card": ["c0"]}}), 422, "no feature `x`"),
        (json!({"features": ["ratio"], "entities": {"card": "c0"}}), 422, "no list"),
        (json!({"features": ["ratio"], "entities": {"card": ["c0"], "amount": []}}), 422, "values"),
        (
            json!({"features": ["ratio"], "entities": {"card": ["c0"], "amount": ["x"]}}),
            422,
            "amount",
        ),
        (json!({"entities": {"card": ["c0"]}}), 422, "feature_service"),
    ] {
        let (code, answer) = server.post("/get-online-features", &request);
        let told: Value =
            serde_json::from_str(answer.as_str().unwrap_or("null")).expect("JSON in JSON");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(code == status && message.contains(why), "{request}: {code} {answer}");
    }
    server.stop();
}

#[test]
fn scores_by_entity_by_features_and_both_agree() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    let (id, hour) = newest(2);
    let by_card = json!([tensor("card", "BYTES", json!(["c2"]))]);
    let (held, said) = score(&server, by_card);
    assert_eq!(said["degraded"], Value::Null, "{said}");
    let minutes = (PAYMENTS - 1 - id) as f64;
    assert_eq!(said["feature_age_seconds"], json!(minutes * 60.0), "{said}");
    let mean = hour.iter().sum::<f64>() / hour.len() as f64;
    let (given, said) = score(
        &server,
        json!([
            tensor("amount_now", "FP64", json!([amount(id)])),
            tensor("large", "BOOL", json!([amount(id) > 150.0])),
            tensor("sum_1h", "FP64", json!([hour.iter().sum::<f64>()])),
            tensor("ratio", "FP64", json!([amount(id) / mean])),
        ]),
    );
    assert!((held - given).abs() < 1e-9, "{held} {given}");
    assert_eq!(said["features_at"], Value::Null);
    // What is given takes the place of what is held; so does what follows from what is given.
    let card = || tensor("card", "BYTES", json!(["c2"]));
    let (over, _) = score(&server, json!([card(), tensor("amount", "FP64", json!([199.5]))]));
    let (under, _) = score(&server, json!([card(), tensor("amount", "FP64", json!([0.5]))]));
    assert!(over > under, "large amounts are fraud: {under} {held} {over}");
    let (by_feature, _) = score(
        &server,
        json!([
            card(),
            tensor("amount_now", "FP64", json!([199.5])),
            tensor("large", "BOOL", json!([true])),
            tensor("ratio", "FP64", json!([199.5 / mean])),
        ]),
    );
    assert!((over - by_feature).abs() < 1e-9, "{over} {by_feature}");
    let (_, said) = score(&server, json!([tensor("card", "BYTES", json!(["nobody"]))]));
    assert_eq!(said["degraded"], "unknown_entity");
    let (_, said) = score(&server, json!([tensor("card", "BYTES", json!(["c7"]))]));
    assert_eq!(said["degraded"], "stale_features");
    let (by_id, _) = score(&server, json!([tensor("id", "INT64", json!([id]))]));
    assert!((by_id - held).abs() < 1e-12, "{by_id} {held}");
    let (status, answer) = server.post(
        "/v2/models/shop/infer",
        &json!({"inputs": [tensor("cart", "BYTES", json!(["c2"]))]}),
    );
    assert_eq!((status, answer["error"].as_str().map(|e| e.contains("`cart`"))), (400, Some(true)));
    server.stop();
    // The entity stands in the rows of the features stream.
    let rows = std::fs::read_to_string(shop.path("out/features.jsonl")).expect("features");
    let first: Value = serde_json::from_str(rows.lines().next().expect("a row")).expect("JSON");
    assert_eq!((&first["card"], &first["amount_now"]), (&json!("c0"), &json!(amount(0))));
}

const CLIENTS: &str = include_str!("protocols/requirements.txt");
/// In environments of their own: they want other versions of the same libraries.
const FEAST: &str = include_str!("protocols/feast.txt");
const MLSERVER: &str = include_str!("protocols/mlserver.txt");

fn ask(script: &str, server: &Server, more: &[&str]) {
    let mut python = match script {
        "feast.py" => python::command("feast", FEAST),
        "beside_mlserver.py" => python::command("mlserver", MLSERVER),
        _ => python::command("clients", CLIENTS),
    };
    let script =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols").join(script);
    let done = python.arg(script).arg(&server.address).args(more).output().expect("Python starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{errors}\n{}", server.log());
    assert!(said.ends_with("all is well\n"), "{said}");
}

#[test]
fn the_official_client_of_triton_is_served_by_rest_and_grpc() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    ask("triton.py", &server, &[]);
    server.stop();
}

#[test]
fn mlserver_is_answered_alike_side_by_side() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    ask("beside_mlserver.py", &server, &[]);
    server.stop();
}

#[test]
fn features_are_served_to_the_sdk_of_feast() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    let sum: f64 = newest(1).1.iter().sum();
    ask("feast.py", &server, &[&sum.to_string()]);
    server.stop();
}

#[test]
fn the_official_client_of_mcp_calls_every_tool_and_calls_are_journaled() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    ask("agent.py", &server, &[&(PAYMENTS - 1).to_string()]);
    server.stop();
    let folder = shop.path("out/access");
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("the access journal").flatten() {
        if entry.path().extension().is_some_and(|e| e == "jsonl") {
            text += &std::fs::read_to_string(entry.path()).expect("a journal");
        }
    }
    for tool in ["lookup_features", "explain_score", "drift_status", "model_history"] {
        assert!(text.contains(&format!("mcp {tool}")), "{tool} is not in\n{text}");
    }
}

#[test]
fn load_counts_from_when_requests_were_due() {
    let shop = Shop::new();
    let server = shop.serve(&[]);
    let bodies: Vec<String> = (0..CARDS)
        .map(|c| json!({"inputs": [tensor("card", "BYTES", json!([format!("c{c}")]))]}).to_string())
        .collect();
    let file = shop.path("bodies.jsonl");
    std::fs::write(&file, bodies.join("\n")).expect("bodies");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["load", &server.address, "--path", "/v2/models/shop/infer", "--bodies"])
        .arg(&file)
        .args(["--rate", "200", "--seconds", "1", "--warm-up", "0.1", "--output", "json"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["answers"], &told["good"]), (&json!(200), &json!(200)), "{told}");
    let (median, most) = (told["seconds"]["p50"].as_f64(), told["seconds"]["p100"].as_f64());
    assert!(median > Some(0.0) && most >= median, "{told}");
    // Where nothing is good there is nothing to measure.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["load", &server.address, "--path", "/nope", "--bodies"])
        .arg(&file)
        .args(["--rate", "50", "--seconds", "0.5", "--warm-up", "0.1"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("no answer was good: status 404: 25") && said.contains("curl"), "{said}");
    server.stop();
}
