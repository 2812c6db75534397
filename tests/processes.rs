//! A run of several processes: the same bytes as one gives, whoever is killed, and whatever their number was before.

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/flights.rs"]
mod flights;
#[path = "support/python.rs"]
mod python;

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bucket::Bucket;
use flights::{Data, PIPELINE};

/// Payments that come late, twice, broken and out of order, from two sources.
const PAYMENTS: &str = r#"
[pipeline]
name = "payments"
spine = "payments"
bundle = 60

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", ts = "int64", card = "int64", shop = "string", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "5s"

[source.again]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", ts = "int64", card = "int64", shop = "string", amount = "float64" }
columns = { at = "to_timestamp_millis(ts) + minutes(3)" }
where = "amount > 500"
event_time = "at"
id = "id"
sort = "10m"

[windows]
last_10m = { by = "card", last = "10m" }
ever = { by = "card", lifetime = true }
hour = { by = "shop", tumbling = "1h" }
other = { over = "again", by = "card", last = "30m" }
both = { over = ["payments", "again"], by = "card", last = "20m" }

[features]
n = "count(*) over last_10m"
mean = "avg(amount) over last_10m"
shops = "count(distinct shop) over last_10m"
total = "sum(amount) over ever"
hourly = "avg(amount) over hour"
others = "sum(amount) over other"
both = "sum(amount) over both"
shops_of_both = "count(distinct shop) over both"

[sink.features]
type = "file"
path = "features.parquet"

[sink.lines]
of = "features"
type = "file"
path = "features.jsonl"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"

[sink.late]
type = "file"
path = "late.csv"
"#;

fn payments(folder: &Path, many: u64) -> PathBuf {
    let mut lines = String::new();
    let mut seed = 7u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for id in 0..many {
        let late = if below(4) == 0 { below(5_000) } else { 0 };
        let late = if below(100) == 0 { 60_000 } else { late };
        let ts = (1_600_000_000_000 + id * 200).saturating_sub(late);
        let (card, shop, amount) = (below(300), below(9), below(100_000));
        let written = match below(200) {
            0 => writeln!(lines, "{{\"id\": {id}, \"ts\": \"soon\"}}"),
            1 => writeln!(lines, "no JSON at all"),
            _ => writeln!(
                lines,
                "{{\"id\": {id}, \"ts\": {ts}, \"card\": {card}, \"shop\": \"s{shop}\", \"amount\": {amount}.25}}"
            ),
        };
        written.expect("a line");
    }
    fs::write(folder.join("payments.jsonl"), lines).expect("payments");
    let file = folder.join("payments.toml");
    fs::write(&file, PAYMENTS).expect("a pipeline");
    file
}

/// A run with a checkpoint every 20 ms.
fn run(file: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("run").arg(file).arg("--folder").arg(out).stdout(Stdio::null());
    command.args(["--set", "checkpoint.interval=20ms", "--set", "pipeline.ahead=1000"]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What both runs wrote; of what comes from several sources, the order may be another one.
fn same(found: &Path, wanted: &Path) {
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).expect(name);
    for name in ["features.parquet", "features.jsonl"] {
        assert!(read(found, name) == read(wanted, name), "{name} in {}", found.display());
    }
    for name in ["dead.jsonl", "late.csv"] {
        let sorted = |folder: &Path| {
            let text = String::from_utf8(read(folder, name)).expect("a text");
            let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        assert!(sorted(wanted).len() > 100, "{name} is small");
        assert!(sorted(found) == sorted(wanted), "{name} in {}", found.display());
    }
}

/// The processes that a supervisor started.
fn children(supervisor: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{supervisor}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    listed
        .flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

fn kill(signal: &str, id: u32) {
    let _ = Command::new("kill").args([signal, &id.to_string()]).stderr(Stdio::null()).status();
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Models that learn, are retrained and take over: decisions and lineage are those of one process.
#[test]
fn three_processes_decide_what_one_decides() {
    let data = Data::of_days(14);
    let folder = tempfile::tempdir().expect("a folder");
    let run = |processes: &[&str], name: &str| {
        let mut command = run(Path::new(PIPELINE), &folder.path().join(name));
        data.with_data(&mut command);
        for key in [
            "model.trees.trees=10",
            "model.trees.training.min_rows=4000",
            "model.trees.promote.min_rows=300",
        ] {
            command.args(["--set", key]);
        }
        let ended = command.args(processes).output().expect("it ends");
        assert!(ended.status.success(), "{}", said(&ended));
    };
    run(&[], "one");
    run(&["--processes", "3", "--workers", "2"], "three");
    let read = |folder: &Path| {
        let journal = fs::read_to_string(folder.join("journal/journal-00000000000000000000.jsonl"));
        let records: Vec<serde_json::Value> = journal
            .expect("a journal")
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).expect("a record")["record"].clone()
            })
            .collect();
        (fs::read(folder.join("scores.jsonl")).expect("scores"), records)
    };
    let (one, three) = (read(&folder.path().join("one")), read(&folder.path().join("three")));
    assert!(one.1.len() > 5, "the journal has {} records", one.1.len());
    assert_eq!(one.1, three.1, "decisions, with the offsets that models learnt up to");
    assert!(one.0 == three.0, "other scores");
}

/// Any of the processes, at any moment: all begin again at the newest line.
#[test]
fn killed_processes_give_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 200_000);
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    let ended = run(&file, &whole).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));
    let mut group = run(&file, &out);
    group
        .args(["--processes", "3"])
        .stderr(fs::File::create(folder.path().join("log")).expect("a log"));
    let mut group = group.spawn().expect("it starts");
    let lines = || fs::read_dir(out.join("checkpoints/lines")).map_or(0, Iterator::count);
    for victim in [1, 0, 2, 0] {
        wait("three processes and a checkpoint", || {
            let over = group.try_wait().expect("a group").is_some();
            over || (children(group.id()).len() == 3 && lines() > 0)
        });
        if let Some(id) = children(group.id()).get(victim) {
            kill("-KILL", *id);
            wait("another one", || !children(group.id()).contains(id));
        }
    }
    let status = group.wait().expect("it ends");
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert!(status.success(), "{log}");
    assert!(
        log.contains("all begin again") && log.contains("going on from the checkpoint"),
        "{log}"
    );
    same(&out, &whole);
}

/// 2 processes -> 1 with 3 workers -> 3 processes with 2 workers each -> 1.
#[test]
fn the_number_of_processes_may_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 300_000);
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    assert!(run(&file, &whole).output().expect("it ends").status.success());
    for (processes, workers) in [("2", "1"), ("1", "3"), ("3", "2")] {
        // Killed behind its first checkpoint, and the supervisor with it.
        let mut group = run(&file, &out);
        group.args(["--processes", processes, "--workers", workers]).stderr(Stdio::null());
        let mut group =
            group.env("TIDEMILL_FAIL_AT", "line.committed:1").spawn().expect("it starts");
        if processes == "1" {
            assert_eq!(group.wait().expect("it ends").code(), None, "it was killed");
            continue;
        }
        let started = || children(group.id()).len() == processes.parse::<usize>().unwrap();
        wait("all processes", started);
        wait("one to be killed", || !started());
        let left = children(group.id());
        kill("-KILL", group.id());
        group.wait().expect("gone");
        // Nobody outlives a supervisor.
        wait("all to end", || left.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()));
    }
    let ended = run(&file, &out).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));
    assert!(said(&ended).contains("going on from the checkpoint"), "{}", said(&ended));
    same(&out, &whole);
}

/// Processes that are started each by itself, as pods are: folders of their own, checkpoints in a bucket.
struct Pods {
    hosts: String,
    children: Vec<Child>,
}

impl Pods {
    fn start(bucket: &Bucket, folder: &Path, file: &Path, prefix: &str) -> Pods {
        let free = |_| TcpListener::bind("127.0.0.1:0").expect("a port");
        let held: Vec<TcpListener> = (0..2).map(free).collect();
        let hosts: Vec<String> =
            held.iter().map(|l| l.local_addr().expect("an address").to_string()).collect();
        drop(held);
        let mut pods = Pods { hosts: hosts.join(","), children: Vec::new() };
        for process in ["1", "0"] {
            let mut pod = run(file, &folder.join(process));
            pod.args(["--process", process, "--hosts", &pods.hosts]);
            pod.env("TIDEMILL_TOKEN", "a token that nobody else has");
            bucket.keeps(&mut pod, prefix);
            pod.stderr(fs::File::create(folder.join(format!("log-{process}"))).expect("a log"));
            pods.children.insert(0, pod.spawn().expect("it starts"));
        }
        pods
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn processes_without_a_common_folder_go_on_from_a_bucket() {
    let mut bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 400_000);
    let whole = folder.path().join("whole");
    assert!(run(&file, &whole).output().expect("it ends").status.success());
    let log = |process: &str| {
        fs::read_to_string(folder.path().join(format!("log-{process}"))).expect("a log")
    };
    // When one is gone the other ends, and says why.
    for (victim, left) in [(0, 1), (1, 0)] {
        let mut pods = Pods::start(&bucket, folder.path(), &file, "pods");
        wait("both to begin", || log("0").contains("sink open"));
        wait("a checkpoint", || !bucket.keys("pods/lines/").is_empty());
        pods.children[victim].kill().expect("killed");
        let status = pods.children[left].wait().expect("it ends");
        let text = log(&left.to_string());
        assert_eq!(status.code(), Some(69), "{text}");
        assert!(text.contains(&format!("process {victim} is gone")), "{text}");
    }
    let mut pods = Pods::start(&bucket, folder.path(), &file, "pods");
    for child in &mut pods.children {
        assert!(child.wait().expect("it ends").success(), "{}{}", log("0"), log("1"));
    }
    assert!(log("0").contains("going on from the checkpoint"), "{}", log("0"));
    same(&folder.path().join("0"), &whole);
    assert!(!folder.path().join("1/features.jsonl").exists(), "only the head has sinks");
    assert_eq!(bucket.keys("pods/"), Vec::<String>::new());
}

/// Folders that are not the same show at the first checkpoint, and not when it is needed.
#[test]
fn checkpoints_that_not_all_processes_see_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 60_000);
    let mut pods = Pods { hosts: String::new(), children: Vec::new() };
    let free =
        || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    pods.hosts = format!("{},{}", free(), free());
    for process in ["0", "1"] {
        let mut pod = run(&file, &folder.path().join(process));
        pod.args(["--process", process, "--hosts", &pods.hosts]);
        pod.stderr(fs::File::create(folder.path().join(format!("log-{process}"))).expect("a log"));
        pods.children.push(pod.spawn().expect("it starts"));
    }
    for child in &mut pods.children {
        assert!(child.wait().expect("it ends").success());
    }
    let log = fs::read_to_string(folder.path().join("log-0")).expect("a log");
    assert!(log.contains("a checkpoint could not be written"), "{log}");
}

#[test]
fn a_stop_stops_all_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 300_000);
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    assert!(run(&file, &whole).output().expect("it ends").status.success());
    let mut group = run(&file, &out);
    let mut group =
        group.args(["--processes", "2"]).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = || fs::read_dir(out.join("checkpoints/lines")).map_or(0, Iterator::count);
    wait("a checkpoint", || lines() > 0);
    kill("-TERM", group.id());
    assert!(group.wait().expect("it ends").success());
    let rows = |folder: &Path| fs::read(folder.join("features.jsonl")).expect("features").len();
    assert!(rows(&out) < rows(&whole), "it was stopped before its end");
    let ended = run(&file, &out).args(["--processes", "2"]).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));
    same(&out, &whole);
}

/// A source that breaks in the middle, beside the models or in another process: what the others have read by then is not
/// taken for all there is.
#[test]
fn a_source_that_breaks_ends_all_and_nothing_is_taken_for_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 60_000);
    // The first source is read by worker 0, the others by the last two: in two processes by the second, side by side.
    let third =
        PAYMENTS.split("[source.again]").nth(1).and_then(|rest| rest.split("[windows]").next());
    let third = format!("[source.third]{}", third.expect("a source").replace("> 500", "> 900"));
    let pipeline = PAYMENTS
        .replace(
            "[windows]",
            &format!(
                "{third}[windows]\nthirds = {{ over = \"third\", by = \"card\", last = \"30m\" }}"
            ),
        )
        .replace("[features]", "[features]\nthirds = \"sum(amount) over thirds\"");
    let pipeline = pipeline.replacen(
        "[source.again]\ntype = \"file\"\npath = \"payments.jsonl\"",
        "[source.again]\ntype = \"file\"\npath = \"again.jsonl.zst\"",
        1,
    );
    fs::write(&file, pipeline).expect("a pipeline");
    let lines = fs::read(folder.path().join("payments.jsonl")).expect("payments");
    let packed = zstd::encode_all(lines.as_slice(), 1).expect("packed");
    let again = folder.path().join("again.jsonl.zst");
    fs::write(&again, &packed).expect("written");
    let whole = folder.path().join("whole");
    let ended = run(&file, &whole).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));
    let wanted = fs::read(whole.join("features.jsonl")).expect("features");
    let two = ["--processes", "2", "--workers", "2"];
    let cases =
        [&["--workers", "1"][..], &["--workers", "2"], &["--processes", "2"], &two, &two, &two];
    for (n, arguments) in cases.into_iter().enumerate() {
        let out = folder.path().join(format!("out-{n}"));
        fs::write(&again, &packed[..packed.len() * (n + 2) / 9]).expect("written");
        let ended = run(&file, &out).args(arguments).stdout(Stdio::piped()).output();
        let ended = ended.expect("it ends");
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(69), "{arguments:?}: {text}");
        assert!(text.contains("again.jsonl.zst"), "{arguments:?}: {text}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: a summary");
        // Some of it is there, and nothing else; half a file has no name.
        assert!(!out.join("features.jsonl").exists(), "{arguments:?}");
        let found = fs::read(out.join(".features.jsonl.partial")).expect("features");
        assert!(
            found.len() < wanted.len() && wanted.starts_with(&found),
            "{arguments:?}: other rows"
        );
        let journal = out.join("journal/journal-00000000000000000000.jsonl");
        let journal = fs::read_to_string(journal).expect("a journal");
        assert!(!journal.contains("finished"), "{arguments:?}: {journal}");
        fs::write(&again, &packed).expect("written");
        let ended = run(&file, &out).args(arguments).output().expect("it ends");
        assert!(ended.status.success(), "{arguments:?}: {}", said(&ended));
        same(&out, &whole);
    }
}

/// What cannot be is told before anything begins.
#[test]
fn wrong_processes_do_not_begin() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 10);
    let tell = |arguments: &[&str]| {
        let ended =
            run(&file, &folder.path().join("out")).args(arguments).output().expect("it ends");
        assert_eq!(ended.status.code(), Some(78), "{arguments:?}: {}", said(&ended));
        said(&ended)
    };
    let text = tell(&["--processes", "2", "--set", "pipeline.mode=at_once"]);
    assert!(text.contains("at_once") && text.contains("one process"), "{text}");
    let text = tell(&["--processes", "2", "--speed", "60x"]);
    assert!(text.contains("--speed"), "{text}");
    let text = tell(&["--process", "2", "--hosts", "127.0.0.1:1,127.0.0.1:2"]);
    assert!(text.contains("is none of the 2"), "{text}");
    let text =
        tell(&["--process", "0", "--hosts", "tidemill-0.tidemill:2101,tidemill-1.tidemill:2101"]);
    assert!(text.contains("TIDEMILL_TOKEN"), "{text}");
}

/// A process with another token, or of another pipeline, is not let in; the run waits for its own.
#[test]
fn strangers_are_turned_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = payments(folder.path(), 20_000);
    let free =
        || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hosts = format!("{},{}", free(), free());
    let start = |process: &str, token: &str, more: &[&str], log: &str| {
        let mut pod = run(&file, &folder.path().join("out"));
        pod.args(["--process", process, "--hosts", &hosts]).args(more).env("TIDEMILL_TOKEN", token);
        pod.stderr(fs::File::create(folder.path().join(log)).expect("a log"));
        pod.spawn().expect("it starts")
    };
    let text = |log: &str| fs::read_to_string(folder.path().join(log)).expect("a log");
    let mut head = start("0", "the right token", &[], "head");
    for (token, more) in
        [("a wrong token", &[][..]), ("the right token", &["--set", "windows.last_10m.last=9m"])]
    {
        let mut stranger = start("1", token, more, "stranger");
        wait("it to be turned away", || text("head").matches("not of this run").count() > 0);
        stranger.kill().expect("killed");
        stranger.wait().expect("gone");
        assert!(!text("head").contains(token), "the token is in the log");
        fs::write(folder.path().join("head"), "").expect("an empty log");
    }
    // Nor is somebody who speaks otherwise.
    let address = hosts.split(',').next().expect("an address");
    let mut web = std::net::TcpStream::connect(address).expect("a connection");
    std::io::Write::write_all(&mut web, &[b'x'; 64]).expect("sent");
    let mut member = start("1", "the right token", &[], "member");
    assert!(head.wait().expect("it ends").success(), "{}", text("head"));
    assert!(member.wait().expect("it ends").success(), "{}", text("member"));
}
