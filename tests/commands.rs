//! `tidemill new`: what it writes is sound, runs as it says, and never replaces anything. Answers go
//! to whoever reads them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program in a folder, without variables that a starter reads.
fn tidemill(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("BROKERS")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON object of a command that must succeed.
fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_new_pipeline_passes_the_check() {
    for (template, wanted) in [
        ("files", &["README.md", "orders.csv", "payments.csv", "shop.toml"][..]),
        ("kafka", &["README.md", "load.toml", "orders.csv", "payments.csv", "shop.toml"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let output = tidemill(folder.path(), &["new", "shop", "--template", template]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(names(&folder.path().join("shop")), wanted, "{template}");
        for file in wanted.iter().filter(|file| file.ends_with(".toml")) {
            let checked =
                tidemill(folder.path(), &["check", &format!("shop/{file}"), "--output", "json"]);
            let told = json(&checked);
            assert_eq!(told["counts"]["sources"], 2, "{told}");
            assert!(*file == "load.toml" || told["counts"]["drifts"] == 1, "{told}");
        }
        for file in names(&folder.path().join("shop")) {
            let written = fs::read_to_string(folder.path().join("shop").join(&file)).expect(&file);
            for mark in ["NAME", "ORDERS", "PAYMENTS"] {
                assert!(!written.contains(mark), "{template}: {file} still says {mark}");
            }
        }
    }
}

/// What it says to type next works as it is written, in a folder that a shell would take apart too.
#[test]
fn what_it_says_to_type_next_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["new", "shop", "--folder", "it's a trial/shop", "--output", "json"];
    let told = json(&tidemill(folder.path(), &arguments));
    let next: Vec<&str> =
        told["next"].as_array().expect("commands").iter().filter_map(|c| c.as_str()).collect();
    assert_eq!(next.len(), 2, "{next:?}");
    for command in next {
        let program = env!("CARGO_BIN_EXE_tidemill");
        let arguments = command.strip_prefix("tidemill ").expect("a command of tidemill");
        let done = Command::new("sh")
            .args(["-c", &format!("\"$0\" {arguments} --output json"), program])
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        let told = json(&done);
        if command.contains(" run ") {
            assert_eq!(told["scores"], 200, "{told}");
            assert_eq!(told["late"], 0, "{told}");
            // Late payments are labels too, for `otherwise` says what they are.
            assert_eq!((&told["labelled"], &told["pending"]), (&200.into(), &0.into()), "{told}");
            // There is none where all labels are the same.
            let auc = &told["contenders"][0]["whole"]["auc"];
            assert!(auc.as_f64().is_some_and(|auc| auc > 0.0 && auc < 1.0), "{told}");
        }
    }
    let scores = fs::read_to_string(folder.path().join("out/shop/scores.jsonl")).expect("scores");
    assert_eq!(scores.lines().count(), 200);
    let online = scores.lines().filter(|line| line.contains("\"model\":\"risk\"")).count();
    assert!(online > 100, "the model was in charge of {online} of 200 rows");
    let letters =
        fs::read(folder.path().join("out/shop/dead_letters.jsonl")).expect("dead letters");
    assert!(letters.is_empty(), "{}", text(&letters));
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(tidemill(folder.path(), &["new", "shop"]).status.success());
    let pipeline = folder.path().join("shop/shop.toml");
    fs::write(&pipeline, "mine").expect("written");
    let again = tidemill(folder.path(), &["new", "shop"]);
    assert_eq!(again.status.code(), Some(78));
    let said = text(&again.stderr);
    assert!(said.contains("shop.toml is there already") && said.contains("cure:"), "{said}");
    assert_eq!(fs::read_to_string(&pipeline).expect("the file"), "mine");

    // The last of its files is in the way: none of the others is written.
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("README.md"), "mine").expect("written");
    let refused =
        tidemill(folder.path(), &["new", "shop", "--folder", "other", "--output", "json"]);
    assert_eq!(refused.status.code(), Some(78));
    let told: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert!(told["error"].as_str().is_some_and(|e| e.contains("README.md")), "{told}");
    assert_eq!(names(&other), ["README.md"]);

    // Beside a file of another name there is room.
    fs::rename(other.join("README.md"), other.join("notes.md")).expect("renamed");
    assert!(tidemill(folder.path(), &["new", "shop", "--folder", "other"]).status.success());
    assert_eq!(names(&other).len(), 5);
}

#[test]
fn wrong_names_places_and_flags_have_their_exit_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "x".repeat(64);
    for name in ["", "9lives", "a b", "../up", "caf\u{e9}", "load", &long] {
        let output = tidemill(folder.path(), &["new", name]);
        assert_eq!(output.status.code(), Some(78), "`{name}`: {}", text(&output.stderr));
    }
    assert!(names(folder.path()).is_empty(), "a refused name left {:?}", names(folder.path()));
    fs::write(folder.path().join("file"), "").expect("written");
    let output = tidemill(folder.path(), &["new", "shop", "--folder", "file/below"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    for arguments in [&["new"][..], &["new", "shop", "--template", "paper"]] {
        assert_eq!(tidemill(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = text(&tidemill(folder.path(), &["new", "--help"]).stdout);
    assert!(help.contains("Examples:") && help.contains("--template"), "{help}");
}

/// `tidemill schema | head` closes the pipe early: no panic, no complaint.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["schema", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}
