//! The sink of Kafka that is exactly once, against a real one.
#![cfg(feature = "kafka")]

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidemill_config::plan::SinkPlan;
use tidemill_connectors::sink::{Entry, SINKS, Sink};
use tidemill_types::Error;

mod common;
use common::{rows, schema, sink_plan, times};

#[path = "../../tests/support/kafka.rs"]
mod kafka;
use kafka::{Broker, shared, unique};

fn kind() -> &'static Entry {
    SINKS.iter().find(|entry| entry.name == "kafka").expect("the sink of Kafka")
}

fn plan(broker: &Broker, name: &str) -> SinkPlan {
    let keys = format!(
        "brokers = \"{}\"\ntopic = \"{}\"\ncreate = true\nkey = \"id\"\npartitions = 2\ndelivery = \"exactly_once\"",
        broker.address(),
        unique(name)
    );
    sink_plan("kafka", &keys)
}

/// Opens it as a run does, at the beginning or where a mark was made.
fn open(plan: &SinkPlan, state: Option<&[u8]>) -> Result<Box<dyn Sink>, Error> {
    let nowhere = Path::new("");
    match state {
        None => (kind().open)(plan, schema().to_arrow(), nowhere),
        Some(state) => {
            kind().reopen.expect("it goes on")(plan, schema().to_arrow(), nowhere, state)
        }
    }
}

fn write(sink: &mut dyn Sink, rows: &RecordBatch) -> Result<(), Error> {
    sink.write(rows, &times(rows))
}

/// What readers of committed messages see: a line a row, sorted.
fn seen(plan: &SinkPlan) -> Vec<String> {
    let bytes = (kind().readback.expect("it is looked at").read)(plan).expect("committed rows");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.is_empty()).map(str::to_string).collect();
    lines.sort();
    lines
}

/// How many rows somebody reads who does not wait for a transaction under way.
fn now(plan: &SinkPlan) -> usize {
    let keys = &plan.section.keys;
    let text = |name: &str| {
        let found = keys.iter().find(|(key, _)| key.value == name).map(|(_, node)| &node.value);
        match found {
            Some(tidemill_config::table::Item::Text(text)) => text.clone(),
            other => panic!("{name}: {other:?}"),
        }
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", text("brokers"))
        .set("group.id", "now")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut places = TopicPartitionList::new();
    for partition in 0..2 {
        places.add_partition_offset(&text("topic"), partition, Offset::Beginning).expect("a place");
    }
    consumer.assign(&places).expect("assigned");
    let (mut rows, mut ends) = (0, 0);
    while ends < 2 {
        match consumer.poll(Duration::from_secs(30)).expect("an answer") {
            Ok(_) => rows += 1,
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    rows
}

/// What they see of a sink that nothing happened to.
fn undisturbed(broker: &Broker, all: &RecordBatch) -> Vec<String> {
    let plan = plan(broker, "undisturbed");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), all).expect("written");
    sink.close().expect("closed");
    seen(&plan)
}

#[test]
fn rows_are_seen_once_and_only_when_committed() {
    let broker = shared();
    let all = rows(1_000, 3);
    let wanted = undisturbed(&broker, &all);
    assert_eq!(wanted.len(), 1_000);

    let plan = plan(&broker, "once");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &all.slice(0, 300)).expect("written");
    assert_eq!(now(&plan), 0, "nothing is committed");
    sink.commit().expect("committed");
    assert_eq!(seen(&plan).len(), 300);
    write(sink.as_mut(), &all.slice(300, 100)).expect("written");
    let mark = sink.mark().expect("a mark").expect("its state").state;
    assert_eq!(seen(&plan).len(), 400, "a line has no row that is not committed");
    write(sink.as_mut(), &all.slice(400, 200)).expect("written");
    sink.commit().expect("committed");
    // A crash: these rows were sent, and the transaction stays open.
    write(sink.as_mut(), &all.slice(600, 200)).expect("written");
    drop(sink);

    // The run goes on from the line, with other batches: of its rows 200 are there.
    let mut sink = open(&plan, Some(&mark)).expect("opens");
    assert_eq!(seen(&plan).len(), 600, "what was left open is gone");
    for from in (400..1_000).step_by(150) {
        write(sink.as_mut(), &all.slice(from, 150)).expect("written");
    }
    sink.close().expect("closed");
    assert!(seen(&plan) == wanted, "other rows than undisturbed");

    // And from the beginning, where there is no line: all are there.
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &all).expect("written");
    sink.close().expect("closed");
    assert!(seen(&plan) == wanted, "other rows than undisturbed");
}

#[test]
fn a_run_that_makes_other_rows_is_refused() {
    let broker = shared();
    let plan = plan(&broker, "other");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &rows(100, 3)).expect("written");
    sink.close().expect("closed");
    let mut sink = open(&plan, None).expect("opens");
    let error = write(sink.as_mut(), &rows(101, 4)).expect_err("other rows");
    assert!(error.message.contains("holds 100 rows") && error.help.is_some(), "{error:?}");
    // The last row before the place is looked at too.
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &rows(99, 3)).expect("the same rows");
    let error = write(sink.as_mut(), &rows(1, 5)).expect_err("another row");
    assert!(error.message.contains("makes other ones"), "{error:?}");
}

#[test]
fn progress_that_is_gone_is_not_guessed_at() {
    let broker = shared();
    let plan = plan(&broker, "lost");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &rows(100, 3)).expect("written");
    let mark = sink.mark().expect("a mark").expect("its state").state;
    drop(sink);
    (kind().readback.expect("it is looked at").remove)(&plan).expect("removed");
    let deadline = Instant::now() + Duration::from_secs(30);
    // Kafka removes topics in its own time.
    let error = loop {
        match open(&plan, Some(&mark)) {
            Err(error) if error.message.contains("holds 0 rows") => break error,
            other => assert!(Instant::now() < deadline, "{:?}", other.err()),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(error.help.expect("what to do").contains("remove the run's folder of checkpoints"));
}

#[test]
fn a_run_whose_place_was_taken_stops() {
    let broker = shared();
    let all = rows(1_000, 3);
    let plan = plan(&broker, "fenced");
    let mut former = open(&plan, None).expect("opens");
    write(former.as_mut(), &all.slice(0, 100)).expect("written");
    former.commit().expect("committed");
    write(former.as_mut(), &all.slice(100, 100)).expect("written");
    let mut sink = open(&plan, None).expect("opens");
    let error = former.commit().expect_err("it is fenced");
    assert!(error.message.contains("another run has taken over"), "{error:?}");
    assert!(error.help.is_some());
    // It stays so, and disturbs nobody.
    assert!(write(former.as_mut(), &all.slice(200, 100)).and_then(|()| former.commit()).is_err());
    write(sink.as_mut(), &all).expect("written");
    sink.close().expect("closed");
    assert!(seen(&plan) == undisturbed(&broker, &all), "other rows than undisturbed");
}

/// The broker is killed with a transaction under way, and comes back.
#[test]
fn a_broker_that_restarts_loses_and_doubles_nothing() {
    let mut broker = Broker::start();
    let all = rows(900, 3);
    let wanted = undisturbed(&broker, &all);
    let plan = plan(&broker, "restart");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &all.slice(0, 300)).expect("written");
    sink.commit().expect("committed");
    write(sink.as_mut(), &all.slice(300, 300)).expect("written");
    std::thread::scope(|scope| {
        broker.kill();
        let starts = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            broker.restart()
        });
        sink.commit().expect("committed when it is back");
        write(sink.as_mut(), &all.slice(600, 300)).expect("written");
        sink.commit().expect("committed");
        assert!(starts.join().expect("no panic"), "Kafka is back");
    });
    sink.close().expect("closed");
    assert!(seen(&plan) == wanted, "other rows than undisturbed");
}

/// The broker gets a commit and its answer does not come before the sink has given up waiting: the commit
/// happens all the same, and the sink finds that out.
#[test]
fn a_commit_whose_answer_is_lost_is_looked_up() {
    let broker = Broker::start();
    let all = rows(600, 3);
    let wanted = undisturbed(&broker, &all);
    let plan = plan(&broker, "unknown");
    let mut sink = open(&plan, None).expect("opens");
    write(sink.as_mut(), &all.slice(0, 300)).expect("written");
    sink.commit().expect("committed");
    write(sink.as_mut(), &all.slice(300, 300)).expect("written");
    std::thread::scope(|scope| {
        // The rows are there by then; what the broker finds when it goes on is the commit, then who asks anew.
        std::thread::sleep(Duration::from_millis(500));
        broker.pause();
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(25));
            broker.resume();
        });
        sink.commit().expect("committed when it goes on");
    });
    sink.close().expect("closed");
    assert!(seen(&plan) == wanted, "other rows than undisturbed");
}
