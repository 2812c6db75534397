//! The pipeline of frauds: labels that come late, a truth that turns, and versions that come into charge by
//! evidence, the same wherever they are trained.

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

fn run(folder: &Path, executor: &str) -> Json {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "config/pipelines/fraud_scoring.toml", "--quiet", "--output", "json"])
        .args(["--set", "source.payments.times=75", "--set", "source.complaints.times=75"])
        .args(["--set", &format!("model.trees.retrain.executor={executor}"), "--folder"])
        .arg(folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn versions_come_into_charge_by_evidence_wherever_they_are_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let (here, apart) = (folder.path().join("here"), folder.path().join("apart"));
    let told = run(&here, "here");
    assert_eq!(told["scores"], 75 * 4_000, "{told}");
    assert_eq!(told["promotions"], 2, "the first version, and one that knows the new ways: {told}");
    assert_eq!(
        told["labelled"].as_u64().zip(told["pending"].as_u64()).map(|(l, p)| l + p),
        Some(300_000)
    );
    // Whoever is there serves, and the score says so: the constant, the light model, the trees.
    let scores = std::fs::read_to_string(here.join("scores.jsonl")).expect("scores");
    let mut served = Vec::new();
    for line in scores.lines() {
        let row: Json = serde_json::from_str(line).expect("JSON");
        let by = (row["model"].clone(), row["degraded"].clone());
        if served.last() != Some(&by) {
            served.push(by);
        }
    }
    let ladder = [("constant", Some("warming_up")), ("light", Some("warming_up")), ("trees", None)];
    let ladder = ladder.map(|(model, why)| (Json::from(model), Json::from(why)));
    assert_eq!(served, ladder);
    run(&apart, "apart");
    for name in ["scores.jsonl", "models.jsonl", "alerts.jsonl"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).expect(name);
        assert!(read(&here) == read(&apart), "{name} shows where versions were trained");
    }
}
