//! Trainings in processes of this machine, and what becomes of those that go wrong.

#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/python.rs"]
mod python;
#[path = "support/tasks.rs"]
mod tasks;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};
use tasks::{
    begun, carry, choice, misbehaving, open, outcome, pids, quick, rows, task_folder, until, why,
};
use tidemill_connectors::executor::Router;
use tidemill_connectors::task::describe;
use tidemill_connectors::task::folder::TaskFolder;
use tidemill_types::schema::hex;
use tidemill_types::task::{Artifact, FailureClass, Limits, exit};

fn sha256(artifact: &Artifact) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(&artifact.bytes))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Each trainer of the package, with parameters that small sets bear.
fn trainers() -> [(&'static str, Json); 3] {
    [
        (
            "lightgbm",
            json!({ "rounds": 40, "params": { "min_data_in_leaf": 20, "bagging_fraction": 0.8, "bagging_freq": 1 } }),
        ),
        (
            "xgboost",
            json!({ "rounds": 40, "params": { "subsample": 0.8, "max_cat_to_onehot": 1 } }),
        ),
        ("scikit_learn", json!({ "params": {} })),
    ]
}

#[test]
fn artifacts_score_as_the_library_that_made_them() {
    for (trainer, parameters) in trainers() {
        let run = folder();
        let (mut task, rows) = rows(run.path(), 4_000, 1);
        (task.trainer, task.parameters) = (trainer.to_string(), parameters);
        let mut executor = open("subprocess", run.path(), &quick(""));
        let artifact =
            carry(executor.as_mut(), task).result.unwrap_or_else(|e| panic!("{trainer}: {e}"));
        let file = run.path().join("artifact.json");
        std::fs::write(&file, &artifact.bytes).expect("a file");
        let words = tasks::runner();
        let out = Command::new(&words[0])
            .args(&words[1..4])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainer/predict.py"))
            .arg(task_folder(run.path()).join("task.json"))
            .args([&artifact.kind, file.to_str().expect("a path")])
            .output()
            .expect("the oracle");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let theirs: Vec<f64> = String::from_utf8_lossy(&out.stdout)
            .lines()
            .map(|l| l.parse().expect("a number"))
            .collect();
        let ours = rows.margins(&artifact);
        assert_eq!(ours.len(), theirs.len());
        let probability = tidemill_operators::predictor::probability;
        let apart = |(a, b): (&f64, &f64)| (probability(*a) - probability(*b)).abs();
        let worst = ours.iter().zip(&theirs).map(apart).fold(0.0, f64::max);
        eprintln!("{trainer}: {} rows, at most {worst:e} apart", ours.len());
        assert!(worst <= 1e-6, "{trainer}: {worst}");
        let different: BTreeSet<u64> = ours.iter().map(|m| m.to_bits()).collect();
        assert!(different.len() > 100, "{trainer} tells rows apart");
        damage(&artifact, &rows);
    }
}

/// A damaged artifact is refused, or scores without a panic and without NaN.
fn damage(artifact: &Artifact, rows: &tasks::Rows) {
    let mut refused = 0;
    let length = artifact.bytes.len();
    for round in 0..200_usize {
        let mut bent = artifact.clone();
        let at = round * 7_919 % length;
        match round % 4 {
            0 => bent.bytes.truncate(at),
            1 => bent.bytes[at] = b'9',
            2 => bent.bytes[at] = b'-',
            _ => bent.bytes[at] ^= 1 << (round / 4 % 8),
        }
        match rows.try_margins(&bent, 50) {
            Ok(margins) => assert!(margins.iter().all(|m| !m.is_nan()), "round {round}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused >= 50, "only {refused} of 200 were refused, every cut among them");
}

/// Installed by pip, as where tasks run; a runner of the asked code takes a task.
#[test]
fn the_package_installs_and_names_itself() {
    let place = folder();
    let source = place.path().join("trainer");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("trainer");
    assert!(
        done(Command::new("cp").arg("-r").arg(ours).arg(&source)),
        "a copy, for building leaves files behind"
    );
    let target = place.path().join("installed");
    let python = tasks::interpreter();
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
    assert!(done(pip.arg(&target).arg(&source)), "pip install");
    let described = Command::new(&python)
        .args(["-m", "tidemill_trainer", "describe"])
        .env("PYTHONPATH", &target)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the package");
    let described: Json = serde_json::from_slice(&described.stdout).expect("JSON");
    let identity = described["identity"].as_str().expect("an identity");
    let run = folder();
    let (task, _) = rows(run.path(), 500, 10);
    let mut executor = open("subprocess", run.path(), &quick(&format!("code = \"{identity}\"")));
    carry(executor.as_mut(), misbehaving(task, json!({}))).result.expect("the same code here");
}

fn done(command: &mut Command) -> bool {
    command.status().expect("a program").success()
}

#[test]
fn the_same_task_is_the_same_bytes_wherever_it_runs() {
    let run = folder();
    let (task, _) = rows(run.path(), 2_000, 2);
    let mut here = open("in_process", run.path(), "");
    let ours = carry(here.as_mut(), task.clone()).result.expect("an artifact");
    let mut apart = open("subprocess", run.path(), &quick("cpus = 2").replace("cpus = 1\n", ""));
    assert_eq!(carry(apart.as_mut(), task.clone()).result.expect("an artifact"), ours);

    // A second run of the package, in another folder and with other threads.
    let [(trainer, parameters), ..] = trainers();
    let mut hashes = BTreeSet::new();
    for cpus in [1, 2] {
        let run = folder();
        let (mut task, _) = rows(run.path(), 2_000, 2);
        (task.trainer, task.parameters) = (trainer.to_string(), parameters.clone());
        let keys = quick("").replace("cpus = 1", &format!("cpus = {cpus}"));
        let mut executor = open("subprocess", run.path(), &keys);
        hashes.insert(sha256(&carry(executor.as_mut(), task).result.expect("an artifact")));
    }
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

#[test]
fn a_task_that_was_done_is_not_done_again() {
    let run = folder();
    let (task, _) = rows(run.path(), 500, 3);
    let marks = run.path().join("marks");
    let task = misbehaving(task, json!({ "once": marks }));
    let started = || pids(&marks).len();
    let first = carry(open("subprocess", run.path(), &quick("")).as_mut(), task.clone());
    assert_eq!((started(), first.setbacks.len()), (1, 0));
    // Another trigger, another engine: the same rows, code and parameters.
    let mut again = task.clone();
    (again.id, again.triggered) = ("another".to_string(), (99, "drift.inputs".to_string()));
    let second = carry(open("subprocess", run.path(), &quick("deadline = \"9m\"")).as_mut(), again);
    assert_eq!(second.result, first.result);
    assert_eq!(started(), 1, "the same task ran twice");
    let mut other = task;
    other.seed += 1;
    carry(open("subprocess", run.path(), &quick("")).as_mut(), other).result.expect("an artifact");
    assert_eq!(started(), 2, "another seed is another task");
}

#[test]
fn what_fails_is_told_apart_and_only_the_world_is_tried_again() {
    let run = folder();
    let (task, _) = rows(run.path(), 500, 4);
    let fails = |params: Json, keys: &str| {
        let task = misbehaving(task.clone(), params);
        carry(open("subprocess", run.path(), &quick(keys)).as_mut(), task)
    };
    let broken = fails(json!({ "raise": true }), "");
    assert_eq!(broken.setbacks.len(), 0);
    assert_eq!(why(broken), (FailureClass::Code, "ValueError".to_string()));

    // A trainer that hangs: the deadline ends it, and it is not tried again.
    let hung = fails(json!({ "sleep": 600 }), "deadline = \"2s\"");
    assert_eq!(hung.setbacks.len(), 0);
    assert_eq!(why(hung), (FailureClass::Timeout, "DEADLINE".to_string()));

    // Killed in the middle, once: the second attempt answers.
    let marks = run.path().join("killed");
    let killed = fails(json!({ "once": marks, "kill": true }), "");
    let classes: Vec<_> = killed.setbacks.iter().map(|s| (s.attempt, s.failure.class)).collect();
    assert_eq!(classes, [(1, FailureClass::Infra)]);
    assert!(killed.result.is_ok());

    // Out of memory: once more with twice as much, and then it is over.
    let full = fails(json!({ "fill": 700 }), "memory = \"300MiB\"");
    let classes: Vec<_> = full.setbacks.iter().map(|s| s.failure.class).collect();
    assert_eq!(classes, [FailureClass::Oom]);
    assert_eq!(why(full), (FailureClass::Oom, "OUT_OF_MEMORY".to_string()));
    let marks = run.path().join("full once");
    let once = fails(json!({ "once": marks, "fill": 300 }), "memory = \"300MiB\"");
    assert!(once.result.is_ok(), "{:?}", once.result);

    // Rows of another schema.
    let mut other = task.clone();
    other.schema = "another".to_string();
    for task in [other.clone(), misbehaving(other, json!({}))] {
        let outcome = carry(open("subprocess", run.path(), &quick("")).as_mut(), task);
        assert_eq!(why(outcome), (FailureClass::Data, "SCHEMA_MISMATCH".to_string()));
    }

    // Other code than the task asks for.
    let stale = fails(json!({ "n": 1 }), "code = \"0000\"");
    assert_eq!(why(stale), (FailureClass::Code, "STALE_CODE".to_string()));

    // No runner at all: the cure is in the words.
    let keys = "python = [\"/no/such/python\"]\npoll = \"50ms\"";
    let absent = carry(
        open("subprocess", run.path(), keys).as_mut(),
        misbehaving(task.clone(), json!({ "n": 2 })),
    );
    assert_eq!(why(absent), (FailureClass::Code, "NO_RUNNER".to_string()));
}

/// The system refuses further bytes: what a full disk does, by a limit on the size of files.
#[test]
fn a_full_disk_is_the_world_and_the_next_executor_takes_over() {
    let run = folder();
    let (mut task, _) = rows(run.path(), 2_000, 5);
    let [(trainer, parameters), ..] = trainers();
    (task.trainer, task.parameters) = (trainer.to_string(), parameters);
    let tight = quick("retries = 1").replace(
        "python = [",
        "python = [\"sh\", \"-c\", \"ulimit -f 16; exec \\\"$@\\\"\", \"sh\", ",
    );
    let choices = vec![
        choice("subprocess", run.path(), &tight, Some(1)),
        choice("subprocess", run.path(), &quick(""), None),
    ];
    let mut router = Router::new(choices, 1);
    router.submit(task, 2_000).expect("taken");
    let mut done = Vec::new();
    while done.is_empty() {
        done = router.wait(std::time::Duration::from_secs(1));
    }
    let outcome = done.remove(0);
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    assert_eq!(outcome.setbacks.len(), 2);
    assert!(
        outcome.setbacks.iter().all(|s| s.failure.class == FailureClass::Infra),
        "{:?}",
        outcome.setbacks
    );
}

#[test]
fn an_attempt_that_was_given_up_answers_to_nobody() {
    let run = folder();
    let (task, _) = rows(run.path(), 500, 6);
    let marks = run.path().join("marks");
    let task = misbehaving(task, json!({ "once": marks, "sleep": 600 }));
    let mut executor = open("subprocess", run.path(), &quick("silence = \"2s\""));
    executor.submit(task).expect("taken");
    let pid = begun(&marks, 1)[0].clone();
    // One that was never heard is waited for longer, until it must have started.
    let beat = task_folder(run.path()).join("attempt-1/heartbeat.json");
    until("the first heartbeat", || beat.exists());
    // It stands still, as on a host that hangs: neither dead nor alive.
    let stop = |signal: &str| {
        let word = format!("kill -{signal} {pid}");
        Command::new("sh").args(["-c", &word]).status().expect("a shell");
    };
    stop("STOP");
    let outcome = outcome(executor.as_mut());
    let answer = outcome.result.expect("the second attempt answers");
    assert_eq!(outcome.setbacks.len(), 1);
    assert_eq!(outcome.setbacks[0].failure.code, "SILENT");

    // A zombie elsewhere, that nobody could kill, starts or writes late.
    let file = task_folder(run.path()).join("task.json");
    let words = tasks::runner();
    let late =
        Command::new(&words[0]).args(&words[1..]).arg(&file).args(["--attempt", "1"]).status();
    assert_eq!(late.expect("a runner").code(), Some(exit::FENCED));
    let late = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("train")
        .arg(&file)
        .args(["--attempt", "1"])
        .output();
    assert_eq!(late.expect("a runner").status.code(), Some(exit::FENCED));
    let (folder, _) = TaskFolder::of(&file).expect("a task");
    let mut forged = folder.result().expect("a file").expect("a result");
    (forged.attempt, forged.sha256) = (1, "0".repeat(64));
    folder.end(1, &Ok(forged.clone())).expect("it writes late");
    assert_eq!(folder.accept(&forged).expect("a result").attempt, 2, "the first answer stays");
    let result = folder.result().expect("a file").expect("a result");
    assert_eq!(result.sha256, sha256(&answer));
}

#[test]
fn a_cancelled_task_ends_its_process() {
    let run = folder();
    let (task, _) = rows(run.path(), 500, 7);
    let marks = run.path().join("marks");
    let task = misbehaving(task, json!({ "once": marks, "sleep": 600, "child": true }));
    let id = task.id.clone();
    let mut executor = open("subprocess", run.path(), &quick(""));
    executor.submit(task).expect("taken");
    let both = begun(&marks, 2);
    executor.cancel(&id).expect("known");
    assert_eq!(why(outcome(executor.as_mut())).0, FailureClass::Cancelled);
    // A child that nobody has waited for yet has no command line any more.
    let lives =
        |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty());
    until("both to end", || !both.iter().any(|pid| lives(pid)));
    assert!(task_folder(run.path()).join("cancel").exists());
}

/// An engine that is killed leaves its attempt behind; the next one takes its answer.
#[test]
fn an_attempt_of_an_engine_before_is_taken_over() {
    let run = folder();
    let (task, _) = rows(run.path(), 500, 8);
    let marks = run.path().join("marks");
    let task = misbehaving(task, json!({ "once": marks, "sleep": 4 }));
    let limits = Limits { deadline_s: 60.0, heartbeat_s: 0.1, cpus: 1, gpus: 0, memory_mb: 2_048 };
    let asked = describe(&task.clone().into(), run.path(), limits, None).expect("a task");
    let folder = TaskFolder::make(run.path(), &asked).expect("a folder");
    folder.grant(5).expect("a lease");
    let file = folder.task_json();
    let words = tasks::runner();
    let mut orphan = Command::new(&words[0])
        .args(&words[1..])
        .arg(&file)
        .args(["--attempt", "5"])
        .spawn()
        .expect("a runner");
    begun(&marks, 1);
    let outcome = carry(open("subprocess", run.path(), &quick("")).as_mut(), task);
    assert!(outcome.result.is_ok() && outcome.setbacks.is_empty(), "{outcome:?}");
    assert_eq!(folder.result().expect("a file").expect("a result").attempt, 5);
    assert_eq!(pids(&marks).len(), 1, "it ran once");
    orphan.wait().expect("it ended");
}

/// Runs the program on a pipeline; its journal's records and its outputs.
fn run(folder: &Path) -> (Vec<Json>, String, String) {
    let out = folder.join("out");
    let done = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("run")
        .arg(folder.join("pipeline.toml"))
        .arg("--folder")
        .arg(&out)
        .output()
        .expect("the program");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default();
    let journal = read("journal/journal-00000000000000000000.jsonl");
    let records = journal.lines().map(|line| serde_json::from_str(line).expect("a record"));
    let records: Vec<Json> = records.map(|line: Json| line["record"].clone()).collect();
    (records, read("scores.jsonl"), read("alerts.jsonl"))
}

fn of_kind<'a>(records: &'a [Json], kind: &str) -> Vec<&'a Json> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

#[test]
fn a_cluster_that_is_away_is_journaled_alerted_and_passed_over() {
    let folder = folder();
    // Small ones stay here, large ones go to a cluster that nobody can reach.
    let retrain = "{ on = [\"every 10d\"], executor = [\"cluster above 1_000 rows\", \"here\"] }";
    let executors = "[executor.cluster]\ntype = \"ray\"\naddress = \"http://127.0.0.1:9\"\n\
                     retries = 1\nbackoff = \"10ms\"\nfallback = \"here\"\n\
                     [executor.here]\ntype = \"in_process\"";
    pipeline::write(folder.path(), retrain, executors);
    let (records, scores, alerts) = run(folder.path());
    let outcomes = of_kind(&records, "outcome");
    assert_eq!(outcomes.len(), 4);
    let setbacks = |outcome: &Json| outcome["setbacks"].as_array().map_or(0, Vec::len);
    let counts: Vec<usize> = outcomes.iter().map(|outcome| setbacks(outcome)).collect();
    // The first is small; the breaker then opens, and the last one is not tried there at all.
    assert_eq!(counts, [0, 2, 1, 1], "{outcomes:?}");
    assert_eq!(outcomes[1]["setbacks"][0]["executor"], "cluster");
    assert_eq!(outcomes[1]["setbacks"][0]["code"], "UNREACHABLE");
    let code = outcomes[3]["setbacks"][0]["code"].as_str();
    // On a slow machine the breaker may have rested by then, and its probe fails.
    assert!(matches!(code, Some("BREAKER_OPEN" | "UNREACHABLE")), "{code:?}");
    assert!(outcomes.iter().all(|outcome| outcome["outcome"]["trained"].is_object()));
    assert_eq!(of_kind(&records, "promoted").len(), 4, "one promotion a trigger");
    assert_eq!(alerts.lines().filter(|line| line.contains("\"warning\"")).count(), 3, "{alerts}");
    assert_eq!(scores.lines().count(), 6_000);
    // A second run takes all of it from the journal, and says the same.
    let (again, scores_again, alerts_again) = run(folder.path());
    assert_eq!(of_kind(&again, "outcome").len(), 4, "nothing is trained twice");
    assert_eq!((scores, alerts), (scores_again, alerts_again));
}

#[test]
fn labels_losses_and_budgets_decide_when_a_model_is_retrained() {
    let tasks = |retrain: &str| {
        let folder = folder();
        pipeline::write(folder.path(), retrain, "");
        let (records, ..) = run(folder.path());
        let tasks: Vec<Json> = of_kind(&records, "task").into_iter().cloned().collect();
        tasks
    };
    let why = |task: &Json| task["task"]["triggered"][1].as_str().unwrap_or_default().to_string();
    let by_labels = tasks("{ on = [\"labels 1500\"], cooldown = \"1d\" }");
    assert_eq!(by_labels.len(), 3, "of 6,000 labels, the last of which are learnt at the end");
    for task in &by_labels {
        assert_eq!(why(task), "labels 1500");
        let seen = task["evidence"][0][1].as_f64().expect("a count");
        assert!(
            task["evidence"][0][0] == "new labels" && (1_500.0..1_520.0).contains(&seen),
            "{task}"
        );
    }
    // Trained once by schedule on the old world; the new one makes the loss rise.
    let by_loss = tasks("{ on = [\"every 20d\", \"loss above 0.6\"], cooldown = \"3d\" }");
    let last = by_loss.iter().rfind(|task| why(task) == "loss above 0.6");
    let last = last.unwrap_or_else(|| panic!("{by_loss:?}"));
    assert!(last["evidence"][0][1].as_f64().expect("a loss") > 0.6);
    // Every hour is asked for, two a day are had.
    let often = tasks("{ on = [\"every 1h\"], budget = 2 }");
    let day = |task: &Json| task["task"]["triggered"][0].as_i64().expect("a time") / 86_400_000_000;
    let days: BTreeSet<i64> = often.iter().map(day).collect();
    assert!(days.len() > 30 && often.len() <= 2 * days.len() && often.len() >= 2 * days.len() - 2);
}

/// What cannot run is refused before anything starts, with the cure.
#[test]
fn executors_that_cannot_be_are_refused_by_name() {
    let check = |retrain: &str, executors: &str| {
        let folder = folder();
        pipeline::write(folder.path(), retrain, executors);
        let file = folder.path().join("pipeline.toml");
        let text = std::fs::read_to_string(&file).expect("a file");
        let text = match executors.contains("#python") {
            true => text
                .replace("type = \"gradient_boosting\"", "type = \"lightgbm\"")
                .replace("trees = 20\n", ""),
            false => text,
        };
        std::fs::write(&file, text).expect("a file");
        let out = Command::new(env!("CARGO_BIN_EXE_tidemill")).arg("check").arg(&file).output();
        let out = out.expect("the program");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let every = |executor: &str| format!("{{ on = [\"every 7d\"], executor = {executor} }}");
    let cases = [
        (every("\"nowhere\""), "", "there is no executor `nowhere`"),
        (every("\"ray\""), "", "add [executor.NAME] with type = \"ray\""),
        (
            every("[\"here above 10 rows\"]"),
            "[executor.here]\ntype = \"subprocess\"",
            "does not end in one for all sizes",
        ),
        (every("[\"here above some rows\"]"), "", "names no executor"),
        (
            every("\"a\""),
            "[executor.a]\ntype = \"subprocess\"\nfallback = \"a\"",
            "falls back to itself",
        ),
        (
            every("\"a\""),
            "[executor.a]\ntype = \"subprocess\"\nfallback = \"b\"",
            "there is no executor `b`",
        ),
        (
            every("\"a\""),
            "[executor.a]\ntype = \"ray\"\naddress = \"https://x\"",
            "it begins with http://",
        ),
        (every("\"in_process\""), "#python", "is of the Python package"),
        (
            every("\"a\""),
            "[executor.a]\ntype = \"subprocess\"\nfallback = \"in_process\" #python",
            "by executor `in_process`",
        ),
    ];
    for (retrain, executors, said) in cases {
        let (sound, text) = check(&retrain, executors);
        assert!(
            !sound && text.contains(said) && text.contains("cure:"),
            "{retrain} {executors}: {text}"
        );
    }
    let (sound, text) = check(&every("\"a\""), "[executor.a]\ntype = \"subprocess\" #python");
    assert!(sound, "{text}");
}
