//! A thousand versions take over in a row while requests are answered: none fails, nothing is lost or left behind. How
//! long answers took is printed.

#![allow(clippy::print_stdout)]

#[path = "support/turncoat.rs"]
mod turncoat;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use turncoat::Turncoat;

const SWAPS: usize = 1_000;

/// A program that is stopped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a state");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("memory");
    line.split_whitespace().nth(1).expect("a number").parse().expect("kilobytes")
}

/// Lays down the order with this number; orders are taken up in the order of their names.
fn order(data: &Turncoat, number: usize) {
    let id = format!("{number:016}");
    let what = format!("promote trees {}", 1 + number % 2);
    let letter = json!({ "id": id, "who": "ann", "what": what, "why": "a drill", "proof": "" });
    let folder = data.path("out/control/orders");
    fs::create_dir_all(&folder).expect("a folder");
    let half = folder.join(format!("{id}.half"));
    fs::write(&half, letter.to_string()).expect("an order");
    fs::rename(half, folder.join(format!("{id}.json"))).expect("an order");
}

#[test]
fn a_thousand_swaps_under_load_lose_nothing_and_leave_nothing() {
    let data = Turncoat::new(96, &[], "promote = { when = \"always\" }");
    let paced = ["--speed", "8000x", "--serve", "127.0.0.1:0"];
    let once = [
        "--set",
        "pipeline.bundle=1",
        "--set",
        "model.trees.retrain.on=[\"every 4d\", \"labels 1500\"]",
    ];
    let mut command = data.command("out", &[&paced[..], &once].concat());
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().expect("the program starts"));
    let mut log = BufReader::new(running.0.stderr.take().expect("a log")).lines();
    let address = log
        .find_map(|line| {
            line.expect("a log").split("address=").nth(1).map(|at| at.trim().to_string())
        })
        .expect("an address");
    std::thread::spawn(move || log.for_each(drop));
    let began = Instant::now();
    let versions = || data.models(&["list", "out"])["versions"].as_array().map_or(0, Vec::len);
    while !data.path("out/models").is_dir() || versions() < 2 {
        assert!(began.elapsed() < Duration::from_secs(120), "version 2 never came");
        assert!(running.0.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(100));
    }

    let mut bodies = String::new();
    for i in 0..100 {
        let body = json!({ "inputs": [
            { "name": "x", "shape": [1], "datatype": "FP64", "data": [f64::from(i) / 100.0] },
        ]});
        writeln!(bodies, "{body}").expect("a text");
    }
    fs::write(data.path("bodies.jsonl"), bodies).expect("bodies");
    let load = |seconds: &str| {
        let path =
            ["load", &address, "--path", "/v2/models/turncoat/infer", "--bodies", "bodies.jsonl"];
        let rate =
            ["--rate", "500", "--connections", "8", "--output", "json", "--seconds", seconds];
        let mut command = data.tidemill(&[&path[..], &rate].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    };
    let told = |load: Child| turncoat::json(&load.wait_with_output().expect("it ends"));
    let steady = told(load("3"));
    let swapping = load("8");
    let mut before = 0;
    for number in 0..SWAPS {
        order(&data, number);
        std::thread::sleep(Duration::from_millis(5));
        if number == SWAPS / 4 {
            before = resident(running.0.id());
        }
    }
    let answers = || fs::read_dir(data.path("out/control/answers")).map_or(0, Iterator::count);
    while answers() < SWAPS {
        assert!(began.elapsed() < Duration::from_secs(120), "{} orders were answered", answers());
        assert!(running.0.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = resident(running.0.id());
    let swapping = told(swapping);
    println!("steady {steady}\nswapping {swapping}\nresident kB {before} {after}");
    for load in [&steady, &swapping] {
        assert_eq!(load["good"], load["answers"], "{load}");
        assert!(load["answers"].as_u64().is_some_and(|n| n > 1_000), "{load}");
    }
    assert!(after < before + 32 * 1024, "{before} kB resident after 250 swaps, {after} after all");
    assert!(running.0.wait().expect("it ends").success());

    let promoted = data.journal("out", "promoted");
    let drilled: Vec<&Json> = promoted
        .iter()
        .filter(|p| p["why"].as_str().is_some_and(|why| why.contains("a drill")))
        .collect();
    let refused = data.journal("out", "command").iter().filter(|c| !c["refused"].is_null()).count();
    assert_eq!(drilled.len() + refused, SWAPS);
    assert!(drilled.len() > SWAPS - 10, "{refused} were refused");
    let scores = data.scores("out");
    let ids: BTreeSet<i64> = scores.iter().filter_map(|s| s["id"].as_i64()).collect();
    assert_eq!((ids.len(), scores.len()), (96 * 120, 96 * 120), "lost or doubled");
}
