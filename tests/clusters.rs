//! Trainings and backfills on a real Ray and a real Dask, and what becomes of them when parts of these die. Each cluster
//! is started once, by the one test that uses it.

#[path = "support/history.rs"]
mod history;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/python.rs"]
mod python;
#[path = "support/tasks.rs"]
mod tasks;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proxy::{Mood, Proxy};
use serde_json::json;
use tasks::{
    begun, carry, choice, interpreter, misbehaving, open, outcome, package, pids, quick, rows,
    task_folder, until, why,
};
use tidemill_connectors::executor::Router;
use tidemill_types::task::{Artifact, FailureClass, TaskOutcome, TaskResult, TrainingTask};

/// A process with its children, which end with it.
struct Part(Child);

impl Part {
    fn start(command: &mut Command, log: &Path) -> Part {
        let log = File::create(log).expect("a log");
        let command =
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Part(command.process_group(0).spawn().expect("a part of a cluster"))
    }

    fn signal(&self, signal: &str) {
        sh(&format!("kill -s {signal} -- -{}", self.0.id()));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Those that made groups of their own are told by their parents.
        self.signal("TERM");
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.signal("KILL");
        let _ = self.0.wait();
    }
}

fn sh(line: &str) {
    let _ = Command::new("sh").args(["-c", line]).stderr(Stdio::null()).status();
}

/// A port that nobody has just now, above those that Ray gives to its workers.
fn port() -> u16 {
    loop {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        if port > 20_000 {
            return port;
        }
    }
}

/// Status and body of a call.
fn call(at: &str, method: &str, path: &str, token: &str, body: &str) -> Option<(u16, String)> {
    let address: SocketAddr = at.trim_start_matches("http://").parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// Six at once: one is taken, and one process begins.
fn duplicates(at: &str, token: &str, run: &Path, refused: u16) {
    let marks = run.join("duplicates");
    let entrypoint = format!("sh -c 'echo $$ >> {}'", marks.display());
    let body = json!({ "submission_id": "the-same", "entrypoint": entrypoint }).to_string();
    let submit = || call(at, "POST", "/api/jobs/", token, &body).expect("an answer").0;
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(submit)).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == refused).count(), 5, "{answers:?}");
    begun(&marks, 1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(pids(&marks).len(), 1);
}

/// A task of LightGBM and one of Rust, each in a folder of its own.
fn both(seed: u64) -> [(tempfile::TempDir, TrainingTask); 2] {
    ["gradient_boosting", "lightgbm"].map(|trainer| {
        let run = tempfile::tempdir().expect("a folder");
        let (mut task, _) = rows(run.path(), 3_000, seed);
        if trainer == "lightgbm" {
            task.parameters = json!({ "rounds": 30, "params": { "min_data_in_leaf": 20 } });
        }
        task.trainer = trainer.to_string();
        (run, task)
    })
}

/// What they become in processes of this machine.
fn at_home() -> Vec<Artifact> {
    there("subprocess", &quick(""))
}

fn there(kind: &str, keys: &str) -> Vec<Artifact> {
    let carried = both(1).map(|(run, task)| {
        let trainer = task.trainer.clone();
        let outcome = carry(open(kind, run.path(), keys).as_mut(), task);
        let file = std::fs::read(task_folder(run.path()).join("result.json")).expect("a result");
        let result: TaskResult = serde_json::from_slice(&file).expect("JSON");
        let (whole, inner) = (outcome.seconds, result.usage.wall_s);
        eprintln!("{kind:<10} {trainer:<17} {whole:5.1} s, of which the runner {inner:.1} s");
        outcome.result.expect("an artifact")
    });
    carried.to_vec()
}

/// History computed there in parts is what it is here in one, and an answer that is there is taken by whoever asks.
fn backfill_is_the_same(kind: &str, keys: &str) {
    let range = ("2026-01-03", "2026-01-05");
    let history = history::History::new(1_500, true);
    let file = history.path("history.toml");
    let text = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, format!("{text}\n[executor.cluster]\ntype = \"{kind}\"\n{keys}\n"))
        .expect("written");
    let here = history.backfill(range, "here.parquet", &[]);
    let there = ["--parts", "3", "--executor", "cluster", "--workers", "2"];
    let told = history.backfill(range, "there.parquet", &there);
    assert_eq!((&told["rows"], &told["parts"]), (&here["rows"], &json!(3)));
    assert!(
        history.bytes("there.parquet") == history.bytes("here.parquet"),
        "other bytes on {kind}"
    );
    let seconds = |told: &serde_json::Value, key: &str| told[key].as_f64().unwrap_or(f64::NAN);
    let (whole, inner) = (seconds(&told, "seconds"), seconds(&told, "seconds_of_parts"));
    eprintln!("{kind:<10} backfill, 3 parts   {whole:5.1} s, of which the parts {inner:.1} s");

    // A part whose code or environment is another one there says so, and is not tried again.
    let other = ["--parts", "2", "--executor", "cluster", "--set", "executor.cluster.code=other"];
    let refused = history.command(range, "other.parquet", &other).output().expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("STALE_CODE") && said.contains("install that version"), "{said}");
}

/// What a run is told to do elsewhere, and here if that fails.
fn with_fallback(kind: &str, run: &Path, keys: &str, task: TrainingTask) -> TaskOutcome {
    let choices =
        vec![choice(kind, run, keys, Some(1)), choice("subprocess", run, &quick(""), None)];
    let mut router = Router::new(choices, 1);
    router.submit(task, 1_000).expect("taken");
    let until = Instant::now() + Duration::from_secs(240);
    while Instant::now() < until {
        if let Some(outcome) = router.wait(Duration::from_secs(1)).pop() {
            return outcome;
        }
    }
    panic!("no outcome in four minutes");
}

/// A folder with rows, and a task that misbehaves so.
fn trouble(params: serde_json::Value) -> (tempfile::TempDir, TrainingTask, PathBuf) {
    let run = tempfile::tempdir().expect("a folder");
    let (task, _) = rows(run.path(), 500, 9);
    let marks = run.path().join("marks");
    let mut params = params;
    params["once"] = json!(marks);
    (run, misbehaving(task, params), marks)
}

/// A head of Ray whose dashboard answers, and where. Ports that are free now may be taken by the time that Ray comes to
/// them, by another test: then it is started once more, with others.
fn ray_head(folder: &Path, token_file: &Path, token: &str) -> (Part, String) {
    let bin = Path::new(&interpreter()).with_file_name("ray");
    // 127.0.0.1 is taken for the outer address of the machine; its neighbour is not.
    let host = "127.0.0.2";
    for n in 1..=3 {
        let ports: BTreeSet<u16> = std::iter::repeat_with(port).take(8).collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let arguments = [
            "start".to_string(),
            "--head".to_string(),
            "--block".to_string(),
            "--disable-usage-stats".to_string(),
            format!("--node-ip-address={host}"),
            format!("--port={}", ports[0]),
            format!("--ray-client-server-port={}", ports[1]),
            format!("--dashboard-agent-listen-port={}", ports[2]),
            format!("--dashboard-host={host}"),
            format!("--dashboard-port={}", ports[3]),
            "--num-cpus=2".to_string(),
            "--object-store-memory=80000000".to_string(),
            format!("--temp-dir={}", folder.join(format!("t{n}")).display()),
        ];
        let mut command = Command::new(&bin);
        command.args(arguments).env("RAY_USAGE_STATS_ENABLED", "0");
        command.env("RAY_AUTH_MODE", "token").env("RAY_AUTH_TOKEN_PATH", token_file);
        let log = folder.join(format!("log{n}"));
        let head = Part::start(&mut command, &log);
        let at = format!("http://{host}:{}", ports[3]);
        let end = Instant::now() + Duration::from_secs(100);
        while Instant::now() < end {
            let answer = call(&at, "GET", "/api/version", token, "");
            if answer.is_some_and(|(status, _)| status == 200) {
                return (head, at);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{}", std::fs::read_to_string(log).unwrap_or_default());
    }
    panic!("Ray's dashboard did not come to be, three times");
}

#[test]
fn ray() {
    let folder = tempfile::Builder::new().prefix("r").tempdir_in("/tmp").expect("a short path");
    let token = "a-token-of-this-test-that-is-long-enough-0123456789";
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, token).expect("a file");
    let (head, at) = ray_head(folder.path(), &token_file, token);
    // The dashboard is up before its agent, which starts jobs.
    let mut tries = 0;
    until("Ray's agent", || {
        tries += 1;
        let body = json!({ "submission_id": format!("warm-{tries}"), "entrypoint": "true" });
        let taken = call(&at, "POST", "/api/jobs/", token, &body.to_string());
        taken.is_some_and(|(status, _)| status == 200)
    });
    until("Ray's first job", || {
        let path = format!("/api/jobs/warm-{tries}");
        call(&at, "GET", &path, token, "").is_some_and(|(_, text)| text.contains("SUCCEEDED"))
    });
    let keys =
        |more: &str| quick(&format!("address = \"{at}\"\ntoken_file = {token_file:?}\n{more}"));

    assert_eq!(there("ray", &keys("")), at_home(), "the same bytes as here");
    backfill_is_the_same("ray", &keys(""));
    duplicates(&at, token, folder.path(), 500);

    // Another token, and none.
    std::fs::write(folder.path().join("wrong"), "wrong").expect("a file");
    let (run, task, _) = trouble(json!({}));
    let wrong = keys("").replace("/token\"", "/wrong\"");
    let refused = carry(open("ray", run.path(), &wrong).as_mut(), task);
    assert_eq!(why(refused), (FailureClass::Code, "UNAUTHORIZED".to_string()));

    // More cores than there are: it waits for ever at Ray's, and goes elsewhere here.
    let (run, task, marks) = trouble(json!({}));
    let many = keys("start_within = \"3s\"\nretries = 0").replace("cpus = 1", "cpus = 64");
    let pending = with_fallback("ray", run.path(), &many, task);
    assert!(pending.result.is_ok(), "{:?}", pending.result);
    let codes: Vec<_> = pending.setbacks.iter().map(|s| s.failure.code.as_str()).collect();
    assert_eq!((codes, pids(&marks).len()), (vec!["NOT_STARTED"], 1));

    // The trainer is killed in the middle, then one takes more memory than it may.
    let (run, task, marks) = trouble(json!({ "kill": true }));
    let killed = carry(open("ray", run.path(), &keys("")).as_mut(), task);
    assert!(killed.result.is_ok(), "{:?}", killed.result);
    assert_eq!((killed.setbacks.len(), pids(&marks).len()), (1, 2));
    let (run, task, _) = trouble(json!({ "fill": 300 }));
    let full = carry(open("ray", run.path(), &keys("memory = \"300MiB\"")).as_mut(), task);
    assert!(full.result.is_ok(), "{:?}", full.result);
    assert_eq!(full.setbacks[0].failure.class, FailureClass::Oom);

    // The network to Ray is a black hole while it trains: the training ends unseen, and its answer is taken.
    let proxy = Proxy::to(at.trim_start_matches("http://"));
    let by_proxy = keys("retries = 0").replace(&at, &proxy.url());
    let (run, task, marks) = trouble(json!({ "sleep": 3 }));
    let mut executor = open("ray", run.path(), &by_proxy);
    executor.submit(task).expect("taken");
    begun(&marks, 1);
    proxy.set(Mood::Swallow);
    let unseen = outcome(executor.as_mut());
    assert!(unseen.result.is_ok() && unseen.setbacks.is_empty(), "{unseen:?}");
    // It swallows the submission, then resets every connection: nothing runs there, and it goes elsewhere.
    for mood in [Mood::Swallow, Mood::Reset] {
        proxy.set(mood);
        let (run, task, marks) = trouble(json!({}));
        let cut = with_fallback("ray", run.path(), &by_proxy, task);
        assert!(cut.result.is_ok(), "{mood:?}: {cut:?}");
        let codes: Vec<_> = cut.setbacks.iter().map(|s| s.failure.code.as_str()).collect();
        assert_eq!((codes, pids(&marks).len()), (vec!["UNREACHABLE"], 1), "{mood:?}");
    }

    // The head dies under a training: what Ray says no longer counts, the files do.
    let (run, task, marks) = trouble(json!({ "sleep": 4 }));
    let mut executor = open("ray", run.path(), &keys("retries = 5\nsilence = \"5s\""));
    executor.submit(task).expect("taken");
    begun(&marks, 1);
    head.signal("KILL");
    std::thread::sleep(Duration::from_secs(1));
    let over = outcome(executor.as_mut());
    match &over.result {
        // It lived on, unseen, and its answer was taken.
        Ok(_) => assert_eq!(pids(&marks).len(), 1),
        // It died with its head, and Ray cannot be reached any more.
        Err(failure) => assert_eq!(failure.class, FailureClass::Infra, "{failure}"),
    }
    let (run, task, marks) = trouble(json!({}));
    let elsewhere = with_fallback("ray", run.path(), &keys("retries = 1"), task);
    assert!(elsewhere.result.is_ok(), "{:?}", elsewhere.result);
    let codes: BTreeSet<_> = elsewhere.setbacks.iter().map(|s| s.failure.code.as_str()).collect();
    assert_eq!((codes, pids(&marks).len()), (BTreeSet::from(["UNREACHABLE"]), 1));
}

#[test]
fn dask() {
    let folder = tempfile::tempdir().expect("a folder");
    let (python, log) = (interpreter(), |name: &str| folder.path().join(name));
    let token = "another-token";
    std::fs::write(log("token"), token).expect("a file");
    let scheduler = format!("tcp://127.0.0.1:{}", port());
    let started = |arguments: &[&str], name: &str| {
        let mut command = Command::new(&python);
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainer");
        let path = format!("{}:{}", package().display(), tests.display());
        Part::start(
            command
                .args(["-m"])
                .args(arguments)
                .env("PYTHONPATH", path)
                .env("PYTHONDONTWRITEBYTECODE", "1"),
            &log(name),
        )
    };
    let place = log("work").display().to_string();
    let dashboard = ["--dashboard-address", "127.0.0.1:0"];
    let at = scheduler.rsplit(':').next().expect("a port");
    let head = started(
        &[&["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", at][..], &dashboard]
            .concat(),
        "scheduler",
    );
    let worker = started(
        &[
            &["distributed.cli.dask_worker", &scheduler, "--host", "127.0.0.1", "--nworkers", "1"]
                [..],
            &["--nthreads", "2", "--local-directory", &place],
            &dashboard,
        ]
        .concat(),
        "worker",
    );
    let bridge = |name: &str, port: u16| {
        let (state, token_file) =
            (log("jobs").display().to_string(), log("token").display().to_string());
        let port = port.to_string();
        let options = ["--port", &port, "--scheduler", &scheduler, "--folder", &state];
        let options = [&["tidemill_trainer.bridge"][..], &options, &["--token-file", &token_file]];
        started(&options.concat(), name)
    };
    let bridge_port = port();
    let first = bridge("bridge", bridge_port);
    let at = format!("http://127.0.0.1:{bridge_port}");
    let up =
        || call(&at, "GET", "/api/version", token, "").is_some_and(|(status, _)| status == 200);
    until("the bridge", up);
    let token_file = log("token");
    let keys = |at: &str, more: &str| {
        quick(&format!("address = \"{at}\"\ntoken_file = {token_file:?}\n{more}"))
    };

    let home = at_home();
    assert_eq!(there("dask", &keys(&at, "")), home, "the same bytes as here");
    backfill_is_the_same("dask", &keys(&at, ""));
    // Without the bridge: a process here that has a worker do it.
    let client = quick("").replace(
        "\"tidemill_trainer\"]",
        &format!("\"tidemill_trainer.dask_run\", \"--scheduler\", \"{scheduler}\"]"),
    );
    let [_, (run, task)] = both(1);
    let by_client = carry(open("subprocess", run.path(), &client).as_mut(), task);
    assert_eq!(by_client.result.as_ref(), Ok(&home[1]));
    duplicates(&at, token, folder.path(), 409);
    let refused = call(&at, "GET", "/api/jobs/the-same", "wrong", "").map(|(status, _)| status);
    assert_eq!(refused, Some(403));

    // The answer to the submission is lost: it is settled by the id, and nothing runs twice.
    let proxy = Proxy::to(at.trim_start_matches("http://"));
    let by_proxy = keys(&proxy.url(), "retries = 0");
    proxy.set(Mood::LoseAnswers(1));
    let (run, task, marks) = trouble(json!({}));
    let lost = carry(open("dask", run.path(), &by_proxy).as_mut(), task);
    assert!(lost.result.is_ok() && lost.setbacks.is_empty(), "{lost:?}");
    assert_eq!((pids(&marks).len(), proxy.lost()), (1, 1));
    // The network is a black hole while it trains: it ends unseen, and its answer is taken.
    let (run, task, marks) = trouble(json!({ "sleep": 3 }));
    let mut executor = open("dask", run.path(), &by_proxy);
    executor.submit(task).expect("taken");
    begun(&marks, 1);
    proxy.set(Mood::Swallow);
    let unseen = outcome(executor.as_mut());
    assert!(unseen.result.is_ok() && unseen.setbacks.is_empty(), "{unseen:?}");
    // Every connection is reset: elsewhere.
    proxy.set(Mood::Reset);
    let (run, task, marks) = trouble(json!({}));
    let cut = with_fallback("dask", run.path(), &by_proxy, task);
    assert!(cut.result.is_ok(), "{cut:?}");
    assert_eq!((cut.setbacks.len(), pids(&marks).len()), (1, 1));
    proxy.set(Mood::Pass);

    // The worker dies in the middle; a new one of its nanny runs the task again, or we do.
    let (run, task, marks) = trouble(json!({ "sleep": 6 }));
    let mut executor = open("dask", run.path(), &keys(&at, "silence = \"3s\""));
    executor.submit(task).expect("taken");
    let trainer = begun(&marks, 1)[0].clone();
    // The process that started the trainer is the worker, the one above it the nanny.
    let parent = |pid: &str| -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1))
            .unwrap_or("0")
            .to_string()
    };
    let work = parent(&trainer);
    sh(&format!("kill -KILL {work} {trainer}"));
    let again = outcome(executor.as_mut());
    assert!(again.result.is_ok(), "{again:?}");
    assert!(pids(&marks).len() >= 2, "it began again");
    let result = task_folder(run.path()).join("result.json");
    assert!(result.exists(), "one answer");

    // The bridge dies under a training, and one that is started anew answers.
    let (run, task, marks) = trouble(json!({ "sleep": 3 }));
    let slow = keys(&at, "silence = \"5s\"").replace("\"100ms\"\ncpus", "\"2s\"\ncpus");
    let mut executor = open("dask", run.path(), &slow);
    executor.submit(task).expect("taken");
    begun(&marks, 1);
    first.signal("KILL");
    let second = bridge("bridge again", bridge_port);
    until("the bridge", up);
    let over = outcome(executor.as_mut());
    assert!(over.result.is_ok() && over.setbacks.is_empty(), "its own answer: {over:?}");
    assert_eq!(pids(&marks).len(), 1, "it was not begun again");

    // The scheduler dies: every attempt fails, and the task goes elsewhere.
    head.signal("KILL");
    let (run, task, _) = trouble(json!({}));
    let keys = keys(&at, "retries = 0\nstart_within = \"3s\"");
    let elsewhere = with_fallback("dask", run.path(), &keys, task);
    assert!(elsewhere.result.is_ok(), "{elsewhere:?}");
    assert_eq!(elsewhere.setbacks.len(), 1);
    drop((second, worker));
}
