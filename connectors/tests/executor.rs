//! Laws of every executor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill_config::section::Section;
use tidemill_connectors::executor::{EXECUTORS, Entry, Executor, Setup};
use tidemill_connectors::task::KEPT;
use tidemill_connectors::task::folder::TaskFolder;
use tidemill_types::Error;
use tidemill_types::task::{Artifact, FailureClass, Task, TaskOutcome, Train, TrainingTask};

mod common;

fn task(id: &str) -> TrainingTask {
    TrainingTask {
        id: id.to_string(),
        model: "trees".to_string(),
        trainer: "gradient_boosting".to_string(),
        parameters: serde_json::json!({}),
        data: Vec::new(),
        labels: (0, 1),
        max_rows: 1,
        features: Vec::new(),
        categories: 0,
        schema: String::new(),
        seed: 0,
        triggered: (0, "by hand".to_string()),
    }
}

/// An artifact that names its task and the threads it was given.
fn artifact(task: &TrainingTask, threads: usize) -> Artifact {
    let metrics = vec![("threads".to_string(), threads as f64)];
    Artifact { kind: "test".to_string(), bytes: task.id.clone().into_bytes(), rows: 1, metrics }
}

fn each(law: impl Fn(&dyn Fn(Train) -> Box<dyn Executor>)) {
    // Those whose tasks run apart have their own tests, with real processes.
    for entry in EXECUTORS.iter().filter(|entry| !entry.apart) {
        let setup = |train| Setup {
            name: entry.name.to_string(),
            train,
            threads: 2,
            folder: PathBuf::new(),
            python: Vec::new(),
        };
        law(&|train| (entry.open)(&Section::bare(entry.name), &setup(train)).expect(entry.name));
    }
}

fn all(executor: &mut dyn Executor, count: usize) -> Vec<TaskOutcome> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut outcomes = Vec::new();
    while outcomes.len() < count && Instant::now() < deadline {
        outcomes.extend(executor.wait(Duration::from_millis(100)));
    }
    outcomes
}

/// A training that waits for a word before it ends, and says when it begins.
fn held() -> (Train, Sender<()>, Receiver<String>) {
    let (go, gate) = channel();
    let (began, begun) = channel();
    let (gate, began) = (Mutex::new(gate), Mutex::new(began));
    let train: Train = Arc::new(move |task, threads| {
        began.lock().unwrap().send(task.id.clone()).unwrap();
        gate.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
        Ok(artifact(task, threads))
    });
    (train, go, begun)
}

#[test]
fn tasks_are_run_in_order_once_each() {
    each(|open| {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let mut executor = open(Arc::new(move |task, threads| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(artifact(task, threads))
        }));
        let ids = ["c", "a", "b"];
        for id in ids.iter().chain(&ids) {
            executor.submit(task(id)).unwrap();
        }
        let outcomes = all(executor.as_mut(), 3);
        assert_eq!(outcomes.iter().map(|o| o.task.as_str()).collect::<Vec<_>>(), ids);
        for outcome in &outcomes {
            assert_eq!(outcome.result, Ok(artifact(&task(&outcome.task), 2)));
        }
        executor.submit(task("a")).unwrap();
        assert!(executor.wait(Duration::from_millis(50)).is_empty());
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn errors_and_panics_are_outcomes_and_the_next_task_runs() {
    each(|open| {
        let mut executor = open(Arc::new(|task, threads| match task.id.as_str() {
            "error" => Err(Error::user("too few rows")),
            "panic" => panic!("index {} is out of range", 7),
            _ => Ok(artifact(task, threads)),
        }));
        for id in ["error", "panic", "good"] {
            executor.submit(task(id)).unwrap();
        }
        let results: Vec<_> = all(executor.as_mut(), 3).into_iter().map(|o| o.result).collect();
        assert_eq!(results[0], Err("too few rows".to_string().into()));
        let panic = "the training panicked: index 7 is out of range".to_string();
        assert_eq!(results[1], Err(panic.into()));
        assert_eq!(results[2], Ok(artifact(&task("good"), 2)));
    });
}

#[test]
fn finished_never_waits_and_wait_waits_no_longer_than_said() {
    each(|open| {
        let (train, go, begun) = held();
        let mut executor = open(train);
        assert!(executor.finished().is_empty());
        executor.submit(task("slow")).unwrap();
        begun.recv_timeout(Duration::from_secs(30)).unwrap();
        let start = Instant::now();
        assert!(executor.finished().is_empty());
        assert!(executor.wait(Duration::from_millis(30)).is_empty());
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(start.elapsed() < Duration::from_secs(10));
        go.send(()).unwrap();
        assert_eq!(all(executor.as_mut(), 1).len(), 1);
    });
}

#[test]
fn cancelling_is_final() {
    each(|open| {
        let (train, go, begun) = held();
        let mut executor = open(train);
        for id in ["running", "waiting"] {
            executor.submit(task(id)).unwrap();
        }
        assert_eq!(begun.recv_timeout(Duration::from_secs(30)).unwrap(), "running");
        executor.cancel("running").unwrap();
        executor.cancel("waiting").unwrap();
        executor.cancel("waiting").unwrap();
        executor.submit(task("waiting")).unwrap();
        go.send(()).unwrap();
        let outcomes = all(executor.as_mut(), 2);
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            let class = outcome.result.map_err(|failure| failure.class);
            assert_eq!(class, Err(FailureClass::Cancelled), "{}", outcome.task);
        }
        assert!(begun.try_recv().is_err(), "the waiting task was begun");
        assert!(executor.cancel("unheard of").is_err());
    });
}

#[test]
fn dropping_does_not_wait_for_a_training() {
    each(|open| {
        let (train, go, begun) = held();
        let mut executor = open(train);
        executor.submit(task("running")).unwrap();
        executor.submit(task("never")).unwrap();
        begun.recv_timeout(Duration::from_secs(30)).unwrap();
        let start = Instant::now();
        drop(executor);
        assert!(start.elapsed() < Duration::from_secs(10));
        go.send(()).unwrap();
        assert!(
            begun.recv_timeout(Duration::from_millis(200)).is_err(),
            "a given-up task was begun"
        );
    });
}

fn needed(entry: &Entry) -> &'static str {
    let address = entry.keys.iter().any(|(key, ..)| *key == "address");
    if address { "address = \"http://127.0.0.1:1\"\n" } else { "" }
}

#[test]
fn keys_that_nobody_knows_are_refused() {
    for entry in EXECUTORS {
        let good = common::section(entry.name, needed(entry), Path::new(""));
        assert!((entry.check)(&good).is_ok(), "{}", entry.name);
        let keys = format!("{}treads = 2", needed(entry));
        let bad = common::section(entry.name, &keys, Path::new(""));
        assert_eq!((entry.check)(&bad).unwrap_err().len(), 1, "{}", entry.name);
    }
}

/// The reference lists the keys that are read.
#[test]
fn every_key_is_in_the_reference() {
    for entry in EXECUTORS {
        let keys = format!("{}nonsense = 2", needed(entry));
        let bad = common::section(entry.name, &keys, Path::new(""));
        let reason = (entry.check)(&bad).unwrap_err().remove(0).reason;
        let told = reason.strip_prefix("the keys are ").expect(entry.name).split(", ");
        let mut listed: Vec<&str> = entry.keys.iter().map(|(key, ..)| *key).collect();
        listed.sort_unstable();
        assert_eq!(told.collect::<Vec<_>>(), listed, "{}", entry.name);
    }
}

/// A trainer that is a shell script: what it makes names its task; every fifth task it fails.
const SCRIPT: &str = r#"
set -e
folder=$(dirname "$1"); id=$(basename "$folder"); attempt="$folder/attempt-$3"
if grep -q '"seed": *[0-9]*[05],' "$1"; then exit 3; fi
printf 'model of %s' "$id" > "$attempt/made"
hash=$(sha256sum < "$attempt/made" | cut -c 1-64)
shelf="$folder/../blobs/$(printf %s "$hash" | cut -c 1-2)"
mkdir -p "$shelf"
mv "$attempt/made" "$shelf/$hash"
printf '{"protocol": 1, "task_id": "%s", "attempt": %s, "kind": "test", "sha256": "%s", "bytes": 41, "rows": 1,
    "metrics": [], "usage": {"wall_s": 0, "cpu_s": 0, "peak_mb": 0}, "environment": {}}' "$id" "$3" "$hash" > "$attempt/part"
mv "$attempt/part" "$attempt/result.json"
"#;

/// However many trainings a run sees, the newest are all that stays of them: what they made, and what failed.
#[test]
fn folders_of_old_trainings_are_swept() {
    let run = tempfile::tempdir().unwrap();
    let script = run.path().join("trainer.sh");
    std::fs::write(&script, SCRIPT).unwrap();
    let keys = format!("python = [\"sh\", '{}']\npoll = \"5ms\"\nretries = 0", script.display());
    let section = common::section("subprocess", &keys, run.path());
    let entry = EXECUTORS.iter().find(|entry| entry.name == "subprocess").unwrap();
    let setup = Setup {
        name: entry.name.to_string(),
        train: Arc::new(|_, _| Err(Error::internal("it runs apart"))),
        threads: 1,
        folder: run.path().to_path_buf(),
        python: vec!["test"],
    };
    let mut executor = (entry.open)(&section, &setup).unwrap();
    let count = KEPT + 20;
    for seed in 1..=count as u64 {
        let mut task = task(&format!("{seed}"));
        (task.seed, task.trainer) = (seed, "test".to_string());
        executor.submit(task).unwrap();
    }
    let outcomes = all(executor.as_mut(), count);
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
    assert_eq!((outcomes.len(), failed.count()), (count, count / 5), "{:?}", outcomes.last());

    let files = |path: PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let seeds = || -> Vec<u64> {
        let tasks = files(run.path().join("tasks")).into_iter();
        let of = |path: PathBuf| Some(TaskFolder::of(&path.join("task.json")).ok()?.1.task);
        let seed = |task| match task {
            Task::Train(task) => task.seed,
            Task::Backfill(_) => 0,
        };
        let mut seeds: Vec<u64> = tasks.filter_map(of).map(seed).collect();
        seeds.sort_unstable();
        seeds
    };
    let kept: Vec<u64> = (count as u64 - KEPT as u64 + 1..=count as u64).collect();
    assert_eq!(seeds(), kept);
    let shelves = files(run.path().join("tasks/blobs"));
    let blobs: usize = shelves.into_iter().map(|shelf| files(shelf).len()).sum();
    assert_eq!(blobs, KEPT - KEPT / 5);
}
