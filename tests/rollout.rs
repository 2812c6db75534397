//! Shadow, canary, champion, probation, rollback: in a stream whose truth turns.

#[path = "support/turncoat.rs"]
mod turncoat;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use turncoat::{Turncoat, lines};

const ROLLOUT: &str = r#"rollout = { shadow = "1h", canary = ["20% for 2h"], by = "user", min_rows = 50, give_up = "12h", probation = "8h", false_promotion = 0.01, false_abort = 0.01 }"#;

/// The truth turns on the third day: the second version, of the day before, is as the first, and given
/// up; the third is better, and takes over in steps. Half an hour later the truth turns back: it is
/// worse, and taken back by itself.
fn turning() -> Turncoat {
    Turncoat::new(96, &[(48, 76)], ROLLOUT)
}

fn of(records: &[Json], version: u64) -> Vec<&Json> {
    records.iter().filter(|r| r["version"] == version || r["to"] == version).collect()
}

#[test]
fn a_version_takes_over_in_steps_and_is_taken_back_when_it_is_worse() {
    let data = turning();
    let told = data.run("out", &[]);
    assert_eq!(told["rollbacks"], 1, "{told}");
    let looks = data.journal("out", "rollout");
    let refused = data.journal("out", "refused");
    assert!(
        of(&refused, 2)[0]["why"].as_str().is_some_and(|w| w.contains("neither")),
        "{refused:?}"
    );
    let third = of(&looks, 3);
    let stages: Vec<&str> = third.iter().filter_map(|l| l["stage"].as_str()).collect();
    assert_eq!(stages, ["shadow", "canary", "canary", "probation", "probation"], "{third:?}");
    assert!(third[2]["better"].as_f64().expect("evidence") >= 100.0);
    assert!(third[4]["worse"].as_f64().expect("evidence") >= 100.0);
    let back = data.journal("out", "rolled_back");
    assert_eq!((&back[0]["from"], &back[0]["to"]), (&3.into(), &1.into()), "{back:?}");
    let alerts = lines(&data.path("out/alerts.jsonl"));
    assert!(
        alerts.iter().any(|a| a["detector"] == "sequential" && a["of"] == "trees"),
        "{alerts:?}"
    );

    // Each score names the version that made it; the canary serves its keys, and no other.
    let epochs = |records: &[&Json]| -> Vec<i64> {
        records.iter().filter_map(|r| r["event_time"].as_i64()).collect()
    };
    let steps = epochs(&third);
    let (canary, charge, taken) =
        (steps[1], steps[2], back[0]["event_time"].as_i64().expect("when"));
    let rows = std::fs::read_to_string(data.path("rows.csv")).expect("rows");
    let users: BTreeMap<i64, i64> = rows
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect::<Vec<_>>())
        .map(|c| (c[0].parse().expect("id"), c[2].parse().expect("user")))
        .collect();
    let (mut served, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut by_canary = 0;
    for score in data.scores("out") {
        let time = score["event_time"].as_str().expect("a time");
        let time = tidemill_types::time::from_rfc3339(time).expect("a time");
        let version = score["version"].as_i64().expect("a version");
        let user = users[&score["id"].as_i64().expect("id")];
        let wanted: &[i64] = match time {
            t if t >= taken => &[1, 4],
            t if t >= charge => &[3],
            t if t >= canary => &[1, 3],
            // The second was a canary too, for a while.
            _ => &[0, 1, 2],
        };
        assert!(wanted.contains(&version), "{score} while {wanted:?} may serve");
        if (canary..charge).contains(&time) {
            by_canary += i64::from(version == 3);
            if version == 3 {
                served.insert(user)
            } else {
                others.insert(user)
            };
        }
    }
    assert!(served.is_disjoint(&others), "a key was served by both");
    let share = served.len() as f64 / 97.0;
    assert!(
        (0.1..0.32).contains(&share) && by_canary > 20,
        "{share} of the keys, {by_canary} rows"
    );
}

/// Nothing but the data shows in what is decided: not workers, bundles, or a second run.
#[test]
fn decisions_do_not_depend_on_how_it_is_run() {
    let data = turning();
    data.run("one", &[]);
    let files = |folder: &str| {
        ["scores.jsonl", "models.jsonl", "alerts.jsonl"]
            .map(|name| std::fs::read(data.path(folder).join(name)).expect(name))
    };
    let (wanted, decided) = (files("one"), data.journal("one", "rollout"));
    assert!(decided.len() > 5);
    for (folder, more) in [
        ("two", &["--workers", "2", "--set", "pipeline.bundle=1"][..]),
        ("three", &["--workers", "3", "--set", "pipeline.bundle=10000"]),
        ("one", &[]),
    ] {
        data.run(folder, more);
        assert!(files(folder) == wanted, "{more:?} shows in the output");
        assert_eq!(data.journal(folder, "rollout"), decided, "{more:?} shows in decisions");
    }
}

/// An alert that is named ends a canary or a probation at once, where the test would still wait.
#[test]
fn an_alert_that_is_named_ends_a_trial() {
    let named =
        ROLLOUT.replace("false_abort = 0.01", "false_abort = 1e-9, abort_on = [\"drift.loss\"]");
    let drift = "[drift.loss]\nof = \"loss\"\ndetect = [\"adwin\"]";
    let ended = |rollout: &str| {
        let data = Turncoat::new(83, &[(48, 77)], &format!("{rollout}\n{drift}"));
        data.run("out", &[]);
        let mut ends = data.journal("out", "refused");
        ends.extend(data.journal("out", "rolled_back"));
        let of_alert =
            |end: &Json| end["why"].as_str().is_some_and(|w| w.starts_with("drift.loss"));
        let alerts = lines(&data.path("out/alerts.jsonl"));
        let told = alerts.iter().filter(|a| a["drift"] == "rollout").count();
        (ends.iter().filter(|end| of_alert(end)).count(), told)
    };
    let (ends, told) = ended(&named);
    assert!(ends > 0 && told == ends, "{ends} trials ended, {told} told");
    assert_eq!(ended(&named.replace("[\"drift.loss\"]", "[]")).0, 0, "nobody named the alert");
}

/// From this hour on x is another one.
const SHIFT: i64 = 52;

/// A canary that is as the champion when x shifts, and one that is trained for that.
fn shifting() -> Turncoat {
    let named = ROLLOUT.replace("probation", "abort_on = [\"drift.x\"], probation");
    let drift = |of: &str| {
        let rest = "detect = [\"psi\"]\nmodel = \"trees\"\nwindow = \"2h\"\nevery = \"1h\"";
        format!("[drift.{of}]\nof = [\"{of}\"]\n{rest}\n")
    };
    let more = format!("{named}\n{}{}", drift("x"), drift("score"));
    Turncoat::with(84, &more, |at, row| {
        if at >= SHIFT * 3600 {
            row.x = row.x.map(|x| x + 1.0);
        }
        true
    })
}

const ON_DRIFT: [&str; 4] = [
    "--set",
    "model.trees.retrain.on=[\"every 1d\", \"drift.x\"]",
    "--set",
    "model.trees.retrain.cooldown=\"1h\"",
];

/// A drift that begins while a version serves ends its trial; not one that was there before, nor that for which
/// the version was trained.
#[test]
fn a_drift_that_stood_before_ends_no_trial() {
    let data = shifting();
    let told = data.run("out", &ON_DRIFT);
    let (looks, refused) = (data.journal("out", "rollout"), data.journal("out", "refused"));
    let why = of(&refused, 2)[0]["why"].as_str().expect("why");
    assert!(why.starts_with("drift.x: psi of x"), "the second was a canary when x shifted: {why}");
    let third = of(&looks, 3);
    let stages: Vec<&str> = third.iter().filter_map(|l| l["stage"].as_str()).collect();
    assert_eq!(stages, ["shadow", "canary", "canary", "probation", "probation"], "{third:?}");
    assert_eq!(third[4]["why"], "its probation is over");
    assert_eq!(told["rollbacks"], 0, "{told}");
    let trained = &data.models(&["show", "out", "trees", "3"])["version"]["lineage"];
    assert_eq!(trained["trigger"], "drift.x");

    // Those that came before their turn are turned away, wherever that is told.
    let overtaken: Vec<u64> = refused
        .iter()
        .filter(|r| r["why"].as_str().is_some_and(|why| why.contains("came before its turn")))
        .filter_map(|r| r["to"].as_u64())
        .collect();
    assert!(!overtaken.is_empty(), "{refused:?}");
    let listed = data.models(&["list", "out"]);
    for number in overtaken {
        let of_number = |all: &Json| -> Json {
            let all = all.as_array().expect("a list");
            all.iter().find(|v| v["version"] == number).expect("it is there").clone()
        };
        assert_eq!(of_number(&listed["versions"])["stage"], "refused");
        assert_eq!(of_number(&told["retrainings"])["fate"], "refused", "version {number}");
    }

    let files =
        |folder: &str| OUTPUTS.map(|name| std::fs::read(data.path(folder).join(name)).expect(name));
    data.run("two", &[&ON_DRIFT[..], &["--workers", "2", "--set", "pipeline.bundle=1"]].concat());
    assert!(files("two") == files("out"), "workers or bundles show in the output");
}

/// Scores are compared with those of the version that makes them: a swap is no drift, and what shifts is.
#[test]
fn a_swap_is_no_drift_of_the_score() {
    let drift = "[drift.score]\nof = [\"score\"]\ndetect = [\"psi\", \"ks\"]\nmodel = \"trees\"\n\
                 window = \"2h\"\nevery = \"1h\"";
    let always = "promote = { when = \"always\" }".to_string();
    let canary = ROLLOUT.replace("20% for 2h", "50% for 4h");
    for (rollout, swaps) in [(always, 3), (canary, 2)] {
        // The truth turns, so that the second version gives other scores than the first; later x shifts.
        let shift = 90;
        let data = Turncoat::with(96, &format!("{rollout}\n{drift}"), |at, row| {
            row.yes = row.yes != (at >= 36 * 3600);
            if at >= shift * 3600 {
                row.x = row.x.map(|x| 0.5 + x / 2.0);
            }
            true
        });
        let told = data.run("out", &[]);
        assert!(told["promotions"].as_u64() >= Some(swaps), "{told}");
        let time = |alert: &Json| {
            let time = alert["event_time"].as_str().expect("a time");
            tidemill_types::time::from_rfc3339(time).expect("a time") / 3_600_000_000
        };
        let alerts = lines(&data.path("out/alerts.jsonl"));
        let of_score: Vec<&Json> = alerts.iter().filter(|a| a["of"] == "score").collect();
        let early: Vec<&&Json> = of_score.iter().filter(|a| time(a) < shift).collect();
        assert!(early.is_empty(), "nothing but versions has changed: {early:?}");
        assert!(of_score.iter().any(|a| a["level"] == "drift"), "{alerts:?}");
    }
}

/// A version that has its training set by heart gives other scores to it than to what is new: that is no drift, and what
/// shifts is.
#[test]
fn what_a_version_has_by_heart_is_no_drift_of_the_score() {
    let drift = "promote = { when = \"always\" }\n[drift.score]\nof = [\"score\"]\ndetect = [\"psi\"]\n\
                 model = \"trees\"\nwindow = \"4h\"\nevery = \"1h\"";
    let shift = 64;
    let data = Turncoat::with(72, drift, |at, row| {
        if at >= shift * 3600 {
            row.x = row.x.map(|x| 0.5 + x / 2.0);
        }
        true
    });
    let by_heart = ["inputs=[\"x\", \"user\"]", "trees=200", "leaves=256", "learning_rate=0.3"];
    let by_heart = by_heart.into_iter().chain(["min_rows_per_leaf=1"]);
    let set = by_heart.flat_map(|set| ["--set".to_string(), format!("model.trees.{set}")]);
    let set: Vec<String> = set.collect();
    let told = data.run("out", &set.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(told["promotions"].as_u64() >= Some(2), "{told}");
    let time = |alert: &Json| {
        let time = alert["event_time"].as_str().expect("a time");
        tidemill_types::time::from_rfc3339(time).expect("a time") / 3_600_000_000
    };
    let alerts = lines(&data.path("out/alerts.jsonl"));
    let (late, early): (Vec<&Json>, Vec<&Json>) = alerts.iter().partition(|a| time(a) >= shift);
    assert!(early.is_empty(), "nothing has changed: {early:?}");
    assert!(late.iter().any(|a| a["of"] == "score" && a["level"] == "drift"), "{alerts:?}");
}

/// A run that is up is told to go back while rows come: one epoch later the other version serves, no row
/// is lost or scored twice, and a second run repeats it all.
#[test]
fn a_rollback_under_load_takes_one_epoch() {
    let data = Turncoat::new(96, &[], "promote = { when = \"always\" }");
    // Four days in about fifteen seconds.
    let mut child = data
        .command("out", &["--quiet", "--speed", "20000x", "--set", "pipeline.bundle=1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let began = Instant::now();
    let in_charge = |version: u64| {
        data.path("out/models").is_dir()
            && data.models(&["list", "out"])["versions"].as_array().is_some_and(|all| {
                all.iter().any(|v| v["version"] == version && v["stage"] == "champion")
            })
    };
    while !in_charge(2) {
        assert!(began.elapsed() < Duration::from_secs(120), "version 2 never came");
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = data.models(&["rollback", "out", "trees", "--why", "a drill", "--as", "ann"]);
    assert_eq!(said["state"], "done", "{said}");
    let again = data
        .tidemill(&["models", "rollback", "out", "trees", "9", "--as", "ann"])
        .output()
        .expect("the program starts");
    let why = String::from_utf8_lossy(&again.stderr).to_string();
    assert!(again.status.code() == Some(78) && why.contains("no version 9"), "{why}");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let back = data.journal("out", "rolled_back");
    assert_eq!(back.len(), 1, "{back:?}");
    let at = back[0]["event_time"].as_i64().expect("when");
    assert_eq!(back[0]["epoch"], said["epoch"]);
    let next = data.journal("out", "promoted");
    let next = next.iter().filter_map(|p| p["event_time"].as_i64()).find(|t| *t > at);
    let scores = data.scores("out");
    let ids: BTreeSet<i64> = scores.iter().filter_map(|s| s["id"].as_i64()).collect();
    assert_eq!((ids.len(), scores.len()), (96 * 120, 96 * 120), "lost or doubled");
    for score in &scores {
        let time = score["event_time"].as_str().expect("a time");
        let time = tidemill_types::time::from_rfc3339(time).expect("a time");
        if time >= at && next.is_none_or(|next| time < next) {
            assert_eq!(score["version"], 1, "{score} after the rollback");
        }
    }
    let wanted = std::fs::read(data.path("out/scores.jsonl")).expect("scores");
    data.run("out", &[]);
    let repeated = std::fs::read(data.path("out/scores.jsonl")).expect("scores");
    assert!(repeated == wanted, "a second run does not repeat the rollback");
}

/// Without a version before it a rollback leaves the fallback, and scores say so.
#[test]
fn approvals_come_from_different_people_and_the_ladder_ends_in_the_fallback() {
    let data = Turncoat::new(
        60,
        &[],
        "promote = { when = \"always\" }\ngate = { requires_approval = 2, leakage = 0.99, size = \"10MiB\", segments = [\"user\"], latency = \"1s\" }",
    );
    let people = |name: &str, role: &str| {
        data.models(&["people", "out", name, "--role", role])["token"]
            .as_str()
            .expect("a token")
            .to_string()
    };
    std::fs::create_dir_all(data.path("out/models")).expect("a folder");
    let tokens = [people("ann", "approver"), people("bob", "approver"), people("cy", "operator")];
    // Without a version to approve nothing can be ordered by name; orders wait for the run.
    let mut child = data
        .command("out", &["--quiet", "--speed", "8000x", "--set", "pipeline.bundle=1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let order = |words: &[&str], who: &str, token: &str| {
        let words = [&["models"], words, &["--as", who, "--output", "json"]].concat();
        let mut command = data.tidemill(&words);
        let output = command.env("TIDEMILL_TOKEN", token).output().expect("the program starts");
        let said: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.success(), said)
    };
    let began = Instant::now();
    while data.models(&["list", "out"])["versions"].as_array().is_none_or(Vec::is_empty) {
        assert!(began.elapsed() < Duration::from_secs(120), "version 1 never came");
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(100));
    }
    let approve = ["approve", "out", "trees", "1"];
    let (done, said) = order(&approve, "ann", &tokens[1]);
    assert!(!done && said["error"].as_str().is_some_and(|e| e.contains("token")), "{said}");
    assert!(order(&approve, "ann", &tokens[0]).0);
    let (done, said) = order(&approve, "ann", &tokens[0]);
    assert!(!done && said["error"].as_str().is_some_and(|e| e.contains("already")), "{said}");
    let (done, said) = order(&["promote", "out", "trees", "1"], "cy", &tokens[2]);
    assert!(!done && said["error"].as_str().is_some_and(|e| e.contains("1 of 2")), "{said}");
    let (done, said) = order(&approve, "cy", &tokens[2]);
    assert!(!done && said["error"].as_str().is_some_and(|e| e.contains("operator")), "{said}");
    assert!(order(&approve, "bob", &tokens[1]).0);
    let champion = || data.models(&["list", "out"])["versions"][0]["stage"] == "champion";
    while !champion() {
        assert!(began.elapsed() < Duration::from_secs(120), "version 1 never took over");
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (done, said) = order(&["rollback", "out", "trees", "--why", "bad"], "cy", &tokens[2]);
    assert!(done, "{said}");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let scores = data.scores("out");
    let modes: BTreeMap<String, usize> = scores.iter().fold(BTreeMap::new(), |mut all, s| {
        *all.entry(s["degraded"].as_str().unwrap_or("none").to_string()).or_default() += 1;
        all
    });
    assert!(
        ["warming_up", "rolled_back", "none"].iter().all(|m| modes.contains_key(*m)),
        "{modes:?}"
    );
    assert_eq!(scores.len(), 60 * 120);
    let shown = data.models(&["show", "out", "trees", "1"]);
    assert_eq!(shown["seal"], "whole, not signed");
    assert_eq!(shown["history"]["approvals"], serde_json::json!(["ann", "bob"]), "{shown}");
    let checks: Vec<&str> = shown["report"]["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(checks, ["schema", "leakage", "size"]);
}

/// Killed in the shadow, as a canary or on probation, a run goes on with the evidence that it had.
#[test]
fn a_killed_run_goes_on_with_its_trial() {
    for (data, more) in [(turning(), &[][..]), (shifting(), &ON_DRIFT)] {
        let words =
            ["crash-test", "turncoat.toml", "--kills", "16", "--seed", "9", "--folder", "runs"];
        let bundle = ["--set", "pipeline.bundle=30", "--output", "json"];
        let mut command = data.tidemill(&words);
        let told = turncoat::json(&command.args(bundle).args(more).output().expect("it starts"));
        assert!(told["went_on"].as_u64().is_some_and(|n| n > 0), "no restart went on: {told}");
        assert!(
            data.journal("runs/whole", "rollout").len() > 5,
            "the run that is repeated has no trial"
        );
    }
}

#[test]
fn a_training_can_be_ordered_and_a_second_run_repeats_it() {
    let data = Turncoat::new(96, &[], "promote = { when = \"always\" }");
    let run = |folder: &str, more: &[&str]| {
        let paced = ["--quiet", "--speed", "8000x", "--set", "pipeline.bundle=1"];
        let mut command = data.command(folder, &[&paced[..], more].concat());
        let piped = std::process::Stdio::piped;
        command.stdout(piped()).stderr(piped()).spawn().expect("the program starts")
    };
    let mut child = run("out", &[]);
    let began = Instant::now();
    let made = || {
        data.path("out/models").is_dir() && data.models(&["list", "out"])["versions"][0].is_object()
    };
    while !made() {
        assert!(began.elapsed() < Duration::from_secs(120), "version 1 never came");
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = data.models(&["retrain", "out", "trees", "--why", "new shops", "--as", "ann"]);
    assert_eq!(said["state"], "done", "{said}");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tasks = data.journal("out", "task");
    let ordered: Vec<&Json> = tasks
        .iter()
        .map(|record| &record["task"])
        .filter(|task| task["triggered"][1].as_str().is_some_and(|why| why.contains("new shops")))
        .collect();
    assert_eq!(ordered.len(), 1, "{tasks:?}");
    assert_eq!(ordered[0]["labels"][1], ordered[0]["triggered"][0], "all that was known by then");
    let wanted = std::fs::read(data.path("out/scores.jsonl")).expect("scores");
    data.run("out", &[]);
    assert!(std::fs::read(data.path("out/scores.jsonl")).expect("scores") == wanted);

    // What cannot be done is refused with the reason.
    let child = run("few", &["--set", "model.trees.training.min_rows=1000000"]);
    while !data.path("few/journal/lock").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused =
        data.tidemill(&["models", "retrain", "few", "trees"]).output().expect("it starts");
    let why = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(!refused.status.success() && why.contains("a training wants 1000000"), "{why}");
    assert!(child.wait_with_output().expect("ends").status.success());
}

const OUTPUTS: [&str; 3] = ["scores.jsonl", "models.jsonl", "alerts.jsonl"];

/// The input has ended, and the next run of the folder has nothing new to read: it does what was asked for
/// since, in that order, behind the end of what it repeats.
#[test]
fn orders_for_a_run_that_has_ended_are_carried_out_by_the_next_one() {
    let data = Turncoat::new(95, &[], "promote = { when = \"always\" }");
    let read = || OUTPUTS.map(|name| std::fs::read(data.path("out").join(name)).expect(name));
    let stage = |version: u64| {
        let shown = data.models(&["show", "out", "trees", &version.to_string()]);
        shown["history"]["stage"].as_str().expect("a stage").to_string()
    };
    let wait = |words: &[&str]| {
        let said = data.models(words);
        assert_eq!(said["state"], "waiting", "{said}");
    };
    data.run("out", &[]);
    let first = read();
    assert_eq!(stage(3), "champion");
    for version in ["1", "2", "3", "1", "2", "1"] {
        wait(&["promote", "out", "trees", version, "--why", "a drill", "--as", "ann"]);
    }
    let told = data.run("out", &[]);
    assert_eq!(told["promotions"], 3 + 6, "{told}");
    let orders = |folder: &str| -> Vec<String> {
        let what = |c: &Json| c["what"].as_str().expect("an order").to_string();
        data.journal(folder, "command").iter().map(what).collect()
    };
    assert_eq!(orders("out"), ["1", "2", "3", "1", "2", "1"].map(|n| format!("promote trees {n}")));
    assert!(data.journal("out", "command").iter().all(|c| c["refused"].is_null()));
    assert_eq!((stage(1).as_str(), stage(3).as_str()), ("champion", "former"));
    assert_eq!(data.journal("out", "finished").len(), 2, "the second end stands behind the orders");
    let waiting = || std::fs::read_dir(data.path("out/control/orders")).expect("a folder").count();
    assert_eq!(waiting(), 0, "they are answered");
    let second = read();
    assert!(second[0] == first[0], "no row was left that they could change");
    assert!(second[1].starts_with(&first[1]) && second[1].len() > first[1].len());

    // Without anything new a run gives the same once more, and writes down nothing.
    let records =
        || data.tidemill(&["journal", "show", "out/journal"]).output().expect("it starts");
    let before = records().stdout;
    data.run("out", &[]);
    assert!(read() == second && records().stdout == before, "the longer journal is not repeated");

    // What can be done no more is refused, and what comes after it is done.
    wait(&["retrain", "out", "trees", "--as", "ann"]);
    wait(&["promote", "out", "trees", "9", "--as", "ann"]);
    wait(&["rollback", "out", "trees", "--why", "it refuses everybody", "--as", "ann"]);
    let told = data.run("out", &["--workers", "2"]);
    assert_eq!(told["rollbacks"], 1, "{told}");
    let refused = data.journal("out", "command");
    let why = |c: &Json| c["refused"].as_str().unwrap_or("done").to_string();
    let why: Vec<String> = refused[6..].iter().map(why).collect();
    assert!(why[0].contains("the input has ended") && why[1].contains("no version 9"), "{why:?}");
    assert_eq!(
        (why[2].as_str(), stage(1).as_str(), stage(2).as_str()),
        ("done", "rolled_back", "champion")
    );
    assert_eq!(data.journal("out", "finished").len(), 3);
    let (third, before) = (read(), records().stdout);
    data.run("out", &[]);
    assert!(read() == third && records().stdout == before);
    assert!(third[0] == first[0] && waiting() == 0);
}

/// A tick that failed is not done: an order that was carried out now would stand in the journal before what the tick has
/// still to write there.
#[test]
fn an_order_is_not_carried_out_by_a_run_that_has_failed() {
    let data = Turncoat::new(60, &[], "promote = { when = \"always\" }");
    data.run("out", &[]);
    let said = data.models(&["rollback", "out", "trees", "--why", "a drill", "--as", "ann"]);
    assert_eq!(said["state"], "waiting", "{said}");
    // An earlier run that came to its first decision, which another input does not lead to.
    let journal = data.path("out/journal/journal-00000000000000000000.jsonl");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let first: Vec<&str> = text.split_inclusive('\n').take(2).collect();
    std::fs::write(&journal, first.concat()).expect("written");
    assert_eq!(data.journal("out", "task").len(), 1);
    let rows = std::fs::read_to_string(data.path("rows.csv")).expect("rows");
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.drain(1..1 + 20 * 120);
    std::fs::write(data.path("rows.csv"), rows.join("\n")).expect("written");
    let ended = data.command("out", &["--quiet"]).output().expect("it ends");
    let why = String::from_utf8_lossy(&ended.stdout).to_string();
    assert_eq!(ended.status.code(), Some(78), "{why}");
    assert!(why.contains("does not repeat"), "{why}");
    assert!(data.journal("out", "command").is_empty(), "it stands in the journal");
    let waiting = std::fs::read_dir(data.path("out/control/orders")).expect("a folder").count();
    assert_eq!(waiting, 1, "it waits for the next run");
}

/// A run that only serves any more says so; it does not have people wait for what never comes.
#[test]
fn a_server_takes_no_orders_after_the_end() {
    let data = Turncoat::new(60, &[], "promote = { when = \"always\" }");
    let mut command = data.command("out", &["--serve", "127.0.0.1:0", "--linger"]);
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut log = BufReader::new(child.stderr.take().expect("a log")).lines();
    let mut line = |wanted: &str| {
        let mut lines = log.by_ref().map(|line| line.expect("a log"));
        lines.find(|line| line.contains(wanted)).expect("a line")
    };
    let served = line("address=");
    let address = served.split("address=").nth(1).expect("an address").trim().to_string();
    line("HTTP is served on");
    let body = r#"{"version": 1, "why": "a drill"}"#;
    let mut stream = TcpStream::connect(&address).expect("a connection");
    write!(
        stream,
        "POST /api/v1/models/trees/promote HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let _ = child.kill();
    let _ = child.wait();
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("has ended"), "{answer}");
    assert!(!data.path("out/control/orders").exists(), "nothing waits for ever");
}
