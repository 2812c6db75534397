//! What goes wrong around a run, and what it does then: the table in docs/operations.md.

#[path = "support/kafka.rs"]
mod kafka;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidemill_connectors::client::kafka::{Cluster, Topic};

const PIPELINE: &str = r#"
[pipeline]
name = "faults"
spine = "payments"
bundle = 60

[source.payments]
SOURCE
schema = { id = "int64", ts = "int64", card = "int64", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "5s"

[windows]
last_10m = { by = "card", last = "10m" }

[features]
card = "card"
n = "count(*) over last_10m"
total = "sum(amount) over last_10m"

[sink.features]
type = "file"
path = "features.csv"
"#;

fn payment(id: u64) -> String {
    let (ts, card) = (1_600_000_000_000 + id * 200, id * 7 % 400);
    format!(r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, id * 13 % 997)
}

/// A pipeline over a source.
fn pipeline(folder: &Path, source: &str) -> PathBuf {
    let file = folder.join("faults.toml");
    fs::write(&file, PIPELINE.replace("SOURCE", source)).expect("a pipeline");
    file
}

/// A pipeline over a file of payments.
fn over_file(folder: &Path, payments: u64) -> PathBuf {
    let mut lines = String::new();
    (0..payments).for_each(|id| writeln!(lines, "{}", payment(id)).expect("a line"));
    fs::write(folder.join("payments.jsonl"), lines).expect("payments");
    pipeline(folder, "type = \"file\"\npath = \"payments.jsonl\"")
}

/// A run with a checkpoint every ten milliseconds.
fn run(file: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("run").arg(file).arg("--folder").arg(out);
    command.args(["--set", "checkpoint.interval=10ms", "--set", "pipeline.ahead=1000"]);
    command
}

/// The features of a run that nothing befell.
fn undisturbed(folder: &Path, file: &Path) -> Vec<u8> {
    let whole = folder.join("whole");
    let ended = run(file, &whole).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));
    fs::read(whole.join("features.csv")).expect("features")
}

/// Whichever thread a defect is met on, the run ends and says so, and the next one goes on.
#[test]
fn a_thread_that_panics_ends_the_run_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 150_000);
    let wanted = undisturbed(folder.path(), &file);
    let threads = [
        ("worker", "line.windows:1:panic"),
        ("ingest", "line.source:1:panic"),
        ("mill", "line.mill:1:panic"),
        ("sinks", "line.sinks:1:panic"),
        ("checkpoints", "line.synced:1:panic"),
    ];
    for (thread, point) in threads {
        for workers in ["1", "2"] {
            let out = folder.path().join(format!("{thread}-{workers}"));
            let mut run = run(&file, &out);
            run.args(["--workers", workers]);
            let ended = run.env("TIDEMILL_FAIL_AT", point).output().expect("it ends");
            let text = said(&ended);
            assert_eq!(ended.status.code(), Some(70), "{thread}, {workers} workers: {text}");
            assert!(text.contains("panicked"), "{thread}: {text}");
            let again = run.env_remove("TIDEMILL_FAIL_AT").output().expect("it ends");
            assert!(again.status.success(), "{thread}: {}", said(&again));
            let found = fs::read(out.join("features.csv")).expect("features");
            assert!(found == wanted, "{thread}, {workers} workers: other features");
        }
    }
}

/// Lines are made beside the run: where the disk is slow there are fewer of them, and that is all.
#[test]
fn a_slow_disk_makes_checkpoints_rarer_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 150_000);
    let wanted = undisturbed(folder.path(), &file);
    let lines = |log: String| log.lines().filter(|line| line.contains("checkpoint line=")).count();
    let mut made = Vec::new();
    for (name, wait) in [("fast", "line.part:1:wait=0ms"), ("slow", "line.part:1:wait=400ms")] {
        let out = folder.path().join(name);
        let mut run = run(&file, &out);
        let ended =
            run.env("TIDEMILL_FAIL_AT", wait).env("TIDEMILL_LOG", "tidemill=debug").output();
        let ended = ended.expect("it ends");
        assert!(ended.status.success(), "{}", said(&ended));
        assert!(fs::read(out.join("features.csv")).expect("features") == wanted, "{name}");
        made.push(lines(said(&ended)));
    }
    assert!(made[1] >= 1 && made[1] < made[0], "{made:?} checkpoints");
}

/// The same, where no file may grow beyond so many blocks: the system refuses more, as a full disk does.
fn cramped(command: &Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_full_disk_stops_checkpoints_and_not_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 20_000);
    let mut command = run(&file, &folder.path().join("out"));
    command.args(["--set", "sink.features.type=blackhole", "--set", "sink.features.path="]);
    let output = cramped(&command, 8).output().expect("it ends");
    let text = said(&output);
    assert!(text.contains("a checkpoint could not be written"), "{text}");
    assert!(text.contains("make room on the disk: the run goes on"), "{text}");
    assert!(text.contains("rows=20000"), "it came to its end: {text}");
    // The report is written last, and there is no room for it either.
    assert!(text.contains("cannot write the report") && text.contains(ROOM), "{text}");
}

/// What is to be done where there is no room, and what is promised then.
const ROOM: &str = "cure: make room on the disk, then give the same command again: nothing is lost";

#[test]
fn a_full_disk_stops_a_run_that_writes_there_and_room_lets_it_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 50_000);
    for (name, blocks) in
        [("features.csv", 1_000), ("features.parquet", 100), ("features.arrow", 1_000)]
    {
        let run = |out: &Path| {
            let mut command = run(&file, out);
            command.arg("--set").arg(format!("sink.features.path={name}"));
            command
        };
        let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
        assert!(run(&whole).output().expect("it ends").status.success());
        let bytes = |folder: &Path| fs::read(folder.join(name)).expect("features");
        // In the middle, and where nothing is missing but the end, which is written when all was decided.
        let end = (bytes(&whole).len() as u32 - 1) / 512;
        for blocks in [blocks, end] {
            let output = cramped(&run(&out), blocks).output().expect("it ends");
            let text = said(&output);
            assert_eq!(output.status.code(), Some(69), "{name}, {blocks} blocks: {text}");
            assert!(text.contains(&format!("{name}.partial")) && text.contains(ROOM), "{text}");
            assert!(!out.join(name).exists(), "half a file has no name");
            let output = run(&out).output().expect("it ends");
            assert!(output.status.success(), "{name}, {blocks} blocks: {}", said(&output));
            assert!(bytes(&out) == bytes(&whole), "{name}: other bytes than a run that had room");
            fs::remove_dir_all(&out).expect("removed");
        }
        fs::remove_dir_all(whole).expect("removed");
    }
}

/// The journal has to have what happened before anything of it leaves, so that a run ends where that cannot be
/// written; so does `at_once` where its epochs cannot.
#[test]
fn a_full_disk_where_the_log_is_stops_a_run_and_room_lets_it_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 50_000);
    let sink = ["--set", "sink.features.path=features.csv.gz"];
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    let at_once = ["--set", "pipeline.mode=at_once"];
    assert!(run(&file, &whole).args(sink).args(at_once).output().expect("ends").status.success());
    let mut command = run(&file, &out);
    command.args(sink).args(at_once);
    // Less than its epochs take.
    let output = cramped(&command, 8).output().expect("it ends");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains(ROOM), "{text}");
    let output = command.output().expect("it ends");
    assert!(output.status.success(), "{}", said(&output));
    let bytes = |folder: &Path| fs::read(folder.join("features.csv.gz")).expect("features");
    assert!(bytes(&out) == bytes(&whole), "other bytes than a run that had room");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path(), 10);
    // Not even root makes a folder there.
    let output = run(&file, Path::new("/proc/tidemill/out")).output().expect("it ends");
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    let (text, cure) = (said(&output), "--folder");
    assert!(text.contains("/proc/tidemill/out") && text.contains(cure), "{text}");
}

/// A topic of so many payments in two partitions, and a bounded pipeline over it.
fn over_topic(broker: &kafka::Broker, folder: &Path, payments: u64) -> (String, PathBuf) {
    let topic = kafka::unique("faults");
    assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 2)).expect("a topic"));
    send(broker, &topic, 0..payments, 2);
    let source = format!(
        "type = \"kafka\"\ntopic = \"{topic}\"\nbrokers = \"{}\"\nuntil = \"end\"",
        broker.address()
    );
    (topic, pipeline(folder, &source))
}

fn send(broker: &kafka::Broker, topic: &str, ids: std::ops::Range<u64>, partitions: u64) {
    broker.send(topic, ids.map(|id| ((id % partitions) as i32, payment(id))));
}

fn admin(broker: &kafka::Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("an admin")
}

/// A run that dies behind its first checkpoint.
fn died(file: &Path, out: &Path) {
    let ended =
        run(file, out).env("TIDEMILL_FAIL_AT", "line.committed:1").output().expect("it ends");
    assert_eq!(ended.status.code(), None, "it was killed: {}", said(&ended));
}

#[test]
fn records_that_retention_took_before_a_restart_are_missed() {
    let broker = kafka::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let (topic, file) = over_topic(&broker, folder.path(), 100_000);
    let out = folder.path().join("out");
    died(&file, &out);
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&topic, 0, Offset::Offset(49_999)).expect("an offset");
    let removal = admin(&broker);
    let removal = removal.delete_records(&gone, &AdminOptions::new());
    futures::executor::block_on(removal).expect("removed");
    let output = run(&file, &out).output().expect("it ends");
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains(&topic) && text.contains("deleted by the topic's retention"), "{text}");
}

/// A live run hears of a sink that has failed, and not only when there is something to send again.
#[test]
fn a_sink_that_fails_while_nothing_comes_ends_a_live_run() {
    let broker = kafka::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let topic = kafka::unique("faults");
    assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 1)).expect("a topic"));
    // A minute of payments: one round of them is whole, and no other follows.
    send(&broker, &topic, 0..300, 1);
    let source =
        format!("type = \"kafka\"\ntopic = \"{topic}\"\nbrokers = \"{}\"", broker.address());
    let file = pipeline(folder.path(), &source);
    let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    let mut live = run(&file, &folder.path().join("out"));
    live.args(["--set", "sink.features.type=stdout", "--set", "sink.features.path="]);
    live.args(["--set", "checkpoint.enabled=false"]);
    let mut live = live.stdout(full).stderr(log).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while live.try_wait().expect("a state").is_none() {
        if std::time::Instant::now() > deadline {
            let _ = live.kill();
            panic!("it goes on without its sink");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = live.wait().expect("it has ended");
    let text = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert_eq!(status.code(), Some(69), "{text}");
    assert!(text.contains("No space left"), "{text}");
}

#[test]
fn a_topic_that_is_gone_at_a_restart_is_named() {
    let broker = kafka::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let (topic, file) = over_topic(&broker, folder.path(), 100_000);
    let out = folder.path().join("out");
    died(&file, &out);
    Cluster::new(broker.address()).remove_topics(&[&topic]).expect("removed");
    std::thread::sleep(Duration::from_secs(1));
    let output = run(&file, &out).output().expect("it ends");
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains(&format!("there is no topic {topic}")),
        "{text}"
    );
}

#[test]
fn a_partition_that_was_added_is_told_of_and_read_after_a_restart() {
    let broker = kafka::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let (topic, file) = over_topic(&broker, folder.path(), 100_000);
    let out = folder.path().join("out");
    died(&file, &out);
    let add = || {
        let admin = admin(&broker);
        let partitions = [NewPartitions::new(&topic, 3)];
        let adding = admin.create_partitions(&partitions, &AdminOptions::new());
        futures::executor::block_on(adding).expect("added");
    };
    // A live run sees that there are more than it reads.
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    let mut live = run(&file, &folder.path().join("live"));
    live.args(["--set", "source.payments.until="]).stdout(Stdio::null()).stderr(log);
    let mut live = live.spawn().expect("it starts");
    let told = |word: &str| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(folder.path().join("log")).expect("a log").contains(word) {
            assert!(std::time::Instant::now() < deadline, "nothing of `{word}`");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    told("sink open");
    std::thread::sleep(Duration::from_secs(1));
    add();
    told("has 3 partitions now");
    live.kill().expect("killed");
    live.wait().expect("gone");

    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while std::time::Instant::now() < deadline
        && admin(&broker)
            .inner()
            .fetch_metadata(Some(&topic), Duration::from_secs(5))
            .is_ok_and(|m| m.topics()[0].partitions().len() < 3)
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    send(&broker, &topic, 100_000..100_300, 3);
    let output = run(&file, &out).output().expect("it ends");
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(out.join("features.csv")).expect("features");
    let mut ids: Vec<u64> = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().parse().expect("an id"))
        .collect();
    ids.sort_unstable();
    assert!(ids == (0..100_300).collect::<Vec<u64>>(), "{} rows", ids.len());
}
