//! ONNX artifacts: scored here as ONNX Runtime and the library that trained score them, row by row.

#[path = "support/python.rs"]
mod python;
#[path = "support/tasks.rs"]
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value as Json, json};
use tasks::{carry, open, quick, rows, task_folder};
use tidemill_operators::predictor::{Inputs, PREDICTORS, Predictor, Row, probability};

/// Runs a script of `tests/trainer` and gives what it said.
fn script(name: &str, arguments: &[&str]) -> String {
    let words = tasks::runner();
    let out = Command::new(&words[0])
        .args(&words[1..4])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainer").join(name))
        .args(arguments)
        .output()
        .expect("the oracle");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

fn load(bytes: &[u8], inputs: &Inputs) -> Result<Box<dyn Predictor>, String> {
    let entry = PREDICTORS.iter().find(|entry| entry.name == "onnx").expect("it is on the list");
    (entry.load)(bytes, inputs)
}

/// The bytes of a case's model, which are written as hexadecimal digits.
fn model_of(case: &Json) -> Vec<u8> {
    let digits = case["model"].as_str().expect("a model");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn three() -> Inputs {
    Inputs { numbers: ["a", "b", "c"].map(String::from).to_vec(), categories: Vec::new() }
}

#[test]
fn artifacts_score_as_onnx_runtime_and_the_library_that_trained() {
    let ours = |estimator: &str, params: Json| {
        let given = json!({ "estimator": estimator, "params": params });
        (estimator.to_string(), "scikit_learn", given)
    };
    let theirs = |which: &str| {
        let given = json!({ "module": "onnx_models", "params": { "which": which } });
        (which.to_string(), "python", given)
    };
    let all = [
        ours("hist_gradient_boosting", json!({ "max_iter": 60 })),
        ours("gradient_boosting", json!({ "n_estimators": 60 })),
        ours("random_forest", json!({ "n_estimators": 40, "min_samples_leaf": 3 })),
        ours("extra_trees", json!({ "n_estimators": 40, "max_depth": 8 })),
        theirs("logistic"),
        theirs("normalized"),
        theirs("boosted"),
        theirs("network"),
        theirs("calibrated"),
        theirs("lightgbm"),
        theirs("lightgbm_categories"),
        theirs("xgboost"),
    ];
    for (name, trainer, parameters) in all {
        let run = tempfile::tempdir().expect("a folder");
        let (mut task, rows) = rows(run.path(), 4_000, 1);
        (task.trainer, task.parameters) = (trainer.to_string(), parameters);
        let mut executor = open("subprocess", run.path(), &quick(""));
        let outcome = carry(executor.as_mut(), task);
        let artifact = outcome.result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(artifact.kind, "onnx");
        let file = run.path().join("model.onnx");
        std::fs::write(&file, &artifact.bytes).expect("a file");
        let task = task_folder(run.path()).join("task.json");
        let words = [&task, &file].map(|path| path.to_str().expect("a path"));
        let said = script("predict_onnx.py", &words);
        let margins = rows.margins(&artifact);
        assert_eq!(said.lines().count(), margins.len());
        let (mut runtime, mut library) = (0.0_f64, 0.0_f64);
        for (line, margin) in said.lines().zip(&margins) {
            let (one, other) = line.split_once(' ').expect("two numbers");
            let off = |of: &str| (probability(*margin) - of.parse::<f64>().expect("one")).abs();
            (runtime, library) = (runtime.max(off(one)), library.max(off(other)));
        }
        eprintln!("{name}: off ONNX Runtime by {runtime:.1e}, off its library by {library:.1e}");
        assert!(runtime <= 1e-6 && library <= 1e-6, "{name}: {runtime}, {library}");
        let different: std::collections::BTreeSet<u64> =
            margins.iter().map(|m| m.to_bits()).collect();
        assert!(different.len() > 100, "{name} tells rows apart");
    }
}

/// Graphs that nobody would write, with NULL, infinities and numbers that meet thresholds.
#[test]
fn random_graphs_score_as_in_onnx_runtime() {
    let cases = std::env::var("TIDEMILL_CASES").unwrap_or("400".to_string());
    let said = script("onnx_random.py", &[&cases, "60", "7"]);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let number =
        |x: &Json| x.as_f64().unwrap_or_else(|| x.as_str().expect("x").parse().expect("x"));
    let mut compared = 0;
    for line in said.lines() {
        let case: Json = serde_json::from_str(line).expect("JSON");
        let kinds: Vec<&str> =
            case["kinds"].as_array().expect("kinds").iter().filter_map(Json::as_str).collect();
        let bytes = model_of(&case);
        let model = load(&bytes, &three()).unwrap_or_else(|why| panic!("{kinds:?}: {why}"));
        kinds.iter().for_each(|kind| *seen.entry(kind.to_string()).or_default() += 1);
        let list = |name: &str| -> Vec<f64> {
            case[name].as_array().expect("numbers").iter().map(number).collect()
        };
        let (rows, scores) = (list("rows"), list("scores"));
        let mut many = Vec::new();
        model.margins(scores.len(), &rows, &[], &mut many);
        for (at, (row, wanted)) in rows.chunks(3).zip(&scores).enumerate() {
            let margin = model.margin(Row { numbers: row, categories: &[] });
            assert_eq!(margin.to_bits(), many[at].to_bits(), "one and many, {kinds:?}");
            assert!(!margin.is_nan());
            // Of a sum of infinities nothing is wanted but that it is a number.
            if wanted.is_nan() {
                continue;
            }
            let found = match case["probability"].as_bool() {
                Some(true) => probability(margin),
                _ => margin,
            };
            let off = if found == *wanted { 0.0 } else { (found - wanted).abs() };
            assert!(
                off <= 2e-6 * wanted.abs().max(1.0),
                "{kinds:?} {row:?}: {found}, not {wanted}"
            );
            compared += 1;
        }
    }
    eprintln!("{compared} rows, {seen:?}");
    let asked =
        ["TreeEnsembleClassifier", "TreeEnsembleRegressor", "LinearClassifier", "Normalizer"];
    assert!(asked.iter().all(|kind| seen.get(*kind).is_some_and(|n| *n > 10)), "{seen:?}");
}

/// A damaged graph is refused, or scores without a panic and without NaN.
#[test]
fn a_bent_graph_is_refused_or_scores() {
    let said = script("onnx_random.py", &["40", "1", "11"]);
    let cases: usize =
        std::env::var("TIDEMILL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let sound: Vec<Vec<u8>> = said
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).expect("JSON"))
        .map(|case| model_of(&case))
        .collect();
    let mut dice = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut below = |n: usize| (dice.next_u64() % n.max(1) as u64) as usize;
    let rows = [0.5, f64::NAN, f64::INFINITY, -1.0, 1e300, 0.0];
    let (mut refused, mut scored) = (0, 0);
    for case in 0..cases {
        let mut bytes = sound[case % sound.len()].clone();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(4) {
                0 if below(4) == 0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
                2 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                _ => bytes.insert(at, below(256) as u8),
            }
        }
        match load(&bytes, &three()) {
            Err(_) => refused += 1,
            Ok(model) => {
                let mut many = Vec::new();
                model.margins(2, &rows, &[], &mut many);
                assert!(many.iter().all(|margin| !margin.is_nan()), "case {case}");
                scored += 1;
            }
        }
    }
    assert!(refused > cases / 4 && scored > cases / 50, "{refused} refused, {scored} scored");
}

/// What cannot be read is refused by the name of its node, with what to do.
#[test]
fn what_is_not_read_is_named() {
    let said = script("onnx_refused.py", &[]);
    for line in said.lines() {
        let case: Json = serde_json::from_str(line).expect("JSON");
        let bytes = model_of(&case);
        let why = match load(&bytes, &three()) {
            Ok(_) => panic!("{} is read", case["wants"]),
            Err(why) => why,
        };
        for word in case["wants"].as_array().expect("words") {
            assert!(why.contains(word.as_str().expect("a word")), "{why}, without {word}");
        }
    }
    assert!(said.lines().count() >= 8);
}
