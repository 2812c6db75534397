//! A pipeline between topics that runs until it is stopped: what comes is answered by itself, and while
//! nothing comes nothing is done.

#[path = "support/kafka.rs"]
mod kafka;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tidemill_connectors::client::kafka::{Cluster, Topic};

const PIPELINE: &str = "config/pipelines/payments_kafka.toml";

/// How long a row may take on a machine that has other work; what is tested is that it comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The payments pipeline between two topics of its own, stopped with the test.
struct Payments {
    topics: [String; 2],
    command: Command,
    child: Child,
    log: BufReader<ChildStderr>,
    answers: BaseConsumer,
    events: BaseProducer,
    _folder: tempfile::TempDir,
    // The last to go: clients that are closed want to talk to it.
    _broker: Arc<kafka::Broker>,
}

fn spawn(command: &mut Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command.spawn().expect("the program starts");
    let log = BufReader::new(child.stderr.take().expect("a log"));
    (child, log)
}

impl Drop for Payments {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Payments {
    fn start(more: &[&str]) -> Payments {
        Payments::over(kafka::shared(), more)
    }

    fn over(broker: Arc<kafka::Broker>, more: &[&str]) -> Payments {
        let topics = ["events", "features"].map(kafka::unique);
        let cluster = Cluster::new(broker.address());
        for topic in &topics {
            assert!(cluster.create_topic(&Topic::new(topic, 1)).expect("a topic"));
        }
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", broker.address()).set("group.id", "live");
        let answers: BaseConsumer = client.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topics[1], 0, Offset::Beginning).expect("an offset");
        answers.assign(&list).expect("assigned");
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["run", PIPELINE, "--folder"]).arg(folder.path().join("out"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--serve", "127.0.0.1:0"]);
        for (part, topic) in ["source.payments", "sink.features"].iter().zip(&topics) {
            command.arg("--set").arg(format!("{part}.brokers={}", broker.address()));
            command.arg("--set").arg(format!("{part}.topic={topic}"));
        }
        command.args(more).stdout(Stdio::null()).stderr(Stdio::piped());
        let (child, log) = spawn(&mut command);
        // What is sent again to a broker that did not answer is not another payment.
        let events = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer");
        Payments { topics, command, child, log, answers, events, _folder: folder, _broker: broker }
    }

    /// Kills it and starts it again at once.
    fn kill_and_restart(&mut self) {
        self.child.kill().expect("killed");
        // Not waited for: the new one may find the old one's lock still held.
        let (child, log) = spawn(&mut self.command);
        let mut old = std::mem::replace(&mut self.child, child);
        self.log = log;
        old.wait().expect("it is gone");
    }

    /// A payment, and that it is in the topic.
    fn pay(&self, id: u64, ts: u64, card: u64, amount: f64) {
        self.queue(id, ts, card, amount);
        self.events.flush(PATIENCE).expect("sent");
    }

    fn queue(&self, id: u64, ts: u64, card: u64, amount: f64) {
        let event = format!(
            r#"{{"event_id":{id},"ts":{ts},"card_id":{card},"merchant_id":7,"amount":{amount}}}"#
        );
        let record = BaseRecord::<[u8], str>::to(&self.topics[0]).payload(&event);
        self.events.send(record).map_err(|(e, _)| e).expect("queued");
    }

    /// The next answer: its fields.
    fn answer(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        // A poll may end early, for something that is no message, or while the broker is away.
        let message = loop {
            match self.answers.poll(Duration::from_secs(1)) {
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown))) => {}
                Some(message) => break message.expect("no error"),
                None => {}
            }
            assert!(Instant::now() < deadline, "no answer after {PATIENCE:?}");
        };
        let text = std::str::from_utf8(message.payload().expect("a value")).expect("UTF-8");
        text.split(',').map(str::to_string).collect()
    }

    /// Where metrics are served.
    fn address(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a log") > 0, "the log has ended");
            if let Some((_, address)) = line.split_once("address=") {
                return address.trim().to_string();
            }
        }
    }

    /// Asks it to stop, and whether it did so well.
    fn stop(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill").success());
        self.child.wait().expect("it ends").success()
    }
}

/// How often each kind of thread has gone round its loop.
fn turns(address: &str, thread: &str) -> u64 {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let name = format!("tidemill_turns_total{{thread=\"{thread}\"}} ");
    let line = answer.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in\n{answer}")).parse().expect("a number")
}

/// No further event, tick or timer is needed: a lone payment is answered as it is, and in `final` as
/// soon as another one says that its time is over.
#[test]
fn a_payment_on_a_quiet_topic_is_answered() {
    let _broker = kafka::shared();
    let at_once = ["--set", "pipeline.mode=at_once", "--workers"];
    for workers in ["1", "2"] {
        let live = Payments::start(&[&at_once[..], &[workers]].concat());
        for n in 1..=3 {
            // Each is alone: the next one is made when it has been answered.
            live.pay(n, 1_750_000_000_000 + n, 5, 10.0 * n as f64);
            let row = live.answer();
            assert_eq!(row[..2], [n.to_string(), n.to_string()], "n_1m in {row:?}");
        }
        assert!(live.stop());

        let live = Payments::start(&["--workers", workers]);
        live.pay(1, 1_750_000_000_000, 5, 10.0);
        // Five seconds and a millisecond later: nothing can come before the first any more.
        live.pay(2, 1_750_000_005_001, 6, 20.0);
        let row = live.answer();
        assert_eq!(row[..3], ["1", "1", "10.0"], "event_id, n_1m and sum_1m in {row:?}");
        assert_eq!(row.len(), 23, "{row:?}");
        // A late one still gets its place: before the second, which waits for the third.
        live.pay(3, 1_750_000_000_500, 6, 5.0);
        live.pay(4, 1_750_000_010_100, 9, 1.0);
        let rows = [live.answer(), live.answer()];
        assert_eq!(rows[0][..3], ["3", "1", "5.0"], "{rows:?}");
        assert_eq!(rows[1][..3], ["2", "2", "25.0"], "{rows:?}");
        assert!(live.stop());
    }
}

/// With one worker the ticks that the watermark passes at once travel as one round, with two each by itself,
/// and every payment is given alone or with many: nothing of it shows.
#[test]
fn rounds_that_travel_as_one_answer_as_single_ones_do() {
    let _broker = kafka::shared();
    let payments = 2_000;
    let mut found = Vec::new();
    for (workers, alone) in [("1", 50), ("1", payments), ("2", payments)] {
        let live = Payments::start(&["--workers", workers]);
        for n in 0..payments {
            // Ten cards, two payments a second; each ninth comes late, by up to 4.9 s.
            let late = if n % 9 == 0 { n * 37 % 4_900 } else { 0 };
            live.queue(
                n,
                1_750_000_010_000 + n * 500 - late,
                n * 7 % 10,
                1.0 + (n * 13 % 97) as f64,
            );
            if n % alone == alone - 1 {
                live.events.flush(PATIENCE).expect("sent");
            }
        }
        live.pay(payments, 1_750_900_000_000, 77, 1.0);
        let mut rows: Vec<Vec<String>> = (0..payments).map(|_| live.answer()).collect();
        rows.sort();
        found.push(rows);
        assert!(live.stop());
    }
    let ids: Vec<&String> = found[0].iter().map(|row| &row[0]).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "a payment was answered twice");
    assert!(found[0] == found[1], "payments in small batches and in one: other answers");
    assert!(found[0] == found[2], "one worker and two: other answers");
}

/// Ticks of a millisecond travel together, lines cut between them, and the run is killed now and then: every
/// payment is answered once, and as by a run that was left alone.
#[test]
fn a_killed_live_run_answers_every_payment_once() {
    let _broker = kafka::shared();
    let payments = 6_000;
    let mut found = Vec::new();
    for kills in [0, 6] {
        let more = ["sink.features.delivery=exactly_once", "checkpoint.interval=20ms"];
        let more: Vec<&str> = more.iter().flat_map(|key| ["--set", *key]).collect();
        let mut live = Payments::start(&[&more[..], &["--workers", "1"]].concat());
        let mut rows: Vec<Vec<String>> = Vec::new();
        for n in 0..payments {
            let late = if n % 9 == 0 { n * 37 % 4_900 } else { 0 };
            let ts = 1_750_000_010_000 + n * 50 - late;
            live.queue(n, ts, n * 7 % 10, 1.0 + (n * 13 % 97) as f64);
            if n % 10 == 9 {
                live.events.flush(PATIENCE).expect("sent");
            }
            if kills > 0 && n % (payments / kills) == payments / kills / 2 {
                // Some of what was sent has been answered by now, not all of it.
                rows.push(live.answer());
                live.kill_and_restart();
            }
        }
        live.pay(payments, 1_750_900_000_000, 77, 1.0);
        while rows.len() < payments as usize {
            rows.push(live.answer());
        }
        let more = live.answers.poll(Duration::from_millis(300));
        assert!(more.is_none_or(|more| more.is_err()), "more answers than payments");
        let folder = live._folder.path().join("out/checkpoints/lines");
        assert!(std::fs::read_dir(folder).is_ok_and(|lines| lines.count() > 0), "no line was made");
        found.push(rows);
        assert!(live.stop());
    }
    assert!(found[0] == found[1], "other answers, or in another order");
}

/// A run stands still for longer than brokers wait for a transaction, as on a host that hangs: the broker ends the
/// transaction and takes the id away. Nobody else has it, so the run takes it back, and sends again what was in it.
#[test]
fn a_run_that_stood_still_goes_on() {
    let _broker = kafka::shared();
    let more = [
        "sink.features.delivery=exactly_once",
        "sink.features.commit_every=500ms",
        "sink.features.properties={ \"transaction.timeout.ms\" = \"3000\" }",
    ];
    let more: Vec<&str> = more.iter().flat_map(|key| ["--set", *key]).collect();
    let live = Payments::start(&more);
    let signal = |name: &str| {
        let id = live.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().expect("kill").success());
    };
    let pay = |from: u64, to: u64| {
        for n in from..to {
            live.queue(n, 1_750_000_010_000 + n * 100, n * 7 % 10, 1.0);
        }
        live.events.flush(PATIENCE).expect("sent");
    };
    pay(0, 500);
    let mut rows = vec![live.answer()];
    for n in 1..20 {
        // Rows are sent all the time, so that some are in a transaction when it stops.
        pay(n * 500, n * 500 + 500);
        std::thread::sleep(Duration::from_millis(30));
    }
    signal("STOP");
    // Brokers look for transactions that are too old every ten seconds.
    std::thread::sleep(Duration::from_secs(16));
    pay(10_000, 10_500);
    signal("CONT");
    live.pay(10_500, 1_750_900_000_000, 77, 1.0);
    while rows.len() < 10_500 {
        rows.push(live.answer());
    }
    let more = live.answers.poll(Duration::from_millis(300));
    assert!(more.is_none_or(|more| more.is_err()), "more answers than payments");
    let ids: Vec<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, (0..10_500).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(live.stop());
}

/// A broker that does not answer for minutes, longer than transactions live, is waited for: when it is back every
/// payment is answered, by a sink that is exactly once exactly once, and nobody had to start anything again.
#[test]
fn a_broker_that_is_away_for_minutes_is_waited_for() {
    let away = std::env::var("TIDEMILL_AWAY").ok().and_then(|seconds| seconds.parse().ok());
    let broker = Arc::new(kafka::Broker::start());
    let once = ["--set", "sink.features.delivery=exactly_once"];
    let runs = [&once[..], &[]].map(|more| Payments::over(Arc::clone(&broker), more));
    let pay = |from: u64, to: u64| {
        for live in &runs {
            (from..to).for_each(|n| live.queue(n, 1_750_000_010_000 + n * 100, n * 7 % 10, 1.0));
        }
    };
    pay(0, 500);
    let mut rows = runs.each_ref().map(|live| vec![live.answer()]);
    // Some of these are on their way when it stops.
    pay(500, 1_000);
    broker.pause();
    pay(1_000, 1_500);
    std::thread::sleep(Duration::from_secs(away.unwrap_or(130)));
    broker.resume();
    for (live, rows) in runs.iter().zip(&mut rows) {
        live.pay(1_500, 1_750_900_000_000, 77, 1.0);
        while rows.last().is_none_or(|row| row[0] != "1499") {
            rows.push(live.answer());
        }
    }
    let ids = rows.map(|rows| rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>());
    let all: Vec<String> = (0..1_500).map(|n| n.to_string()).collect();
    assert_eq!(ids[0], all);
    // At least once: what was sent and not acknowledged may be there twice.
    let mut seen = HashSet::new();
    let first: Vec<&String> = ids[1].iter().filter(|id| seen.insert(*id)).collect();
    assert_eq!(first, all.iter().collect::<Vec<_>>());
    assert!(runs.into_iter().all(Payments::stop));
}

/// What is counted is turns of loops, not time: a loop that looks by the clock for work makes
/// thousands a second.
#[test]
fn an_idle_run_sleeps() {
    let mut live = Payments::start(&[]);
    let address = live.address();
    live.pay(1, 1_750_000_000_000, 5, 10.0);
    live.pay(2, 1_750_000_005_001, 6, 20.0);
    live.answer();
    // What is left of the work: acknowledgements, the end of the partition, the first idle partition.
    std::thread::sleep(Duration::from_secs(2));
    let (began, threads) = (Instant::now(), ["reader", "worker", "sinks"]);
    let before = threads.map(|thread| turns(&address, thread));
    assert!(before.iter().all(|turns| *turns > 0), "{before:?}");
    std::thread::sleep(Duration::from_secs(2));
    let after = threads.map(|thread| turns(&address, thread));
    // A reader looks ten times a second whether it is to stop; nobody else looks at all.
    let looks = began.elapsed().as_secs() * 10 + 20;
    let made: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(made[0] <= looks && made[1] <= 5 && made[2] <= 5, "{threads:?}: {made:?}");
    assert!(live.stop());
}
