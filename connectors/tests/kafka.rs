//! The source and the sink of Kafka, against a real one.
#![cfg(feature = "kafka")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill_config::plan::{SourcePlan, Until};
use tidemill_connectors::client::kafka::{Cluster, Topic};
use tidemill_connectors::sink::SINKS;
use tidemill_connectors::source::{Polled, Source};
use tidemill_types::{DataType, Schema};

mod common;
use common::{
    Read, open, open_share, open_sink, read, rows, schema, show, sink_plan, source_plan, times,
};

#[path = "../../tests/support/kafka.rs"]
mod kafka;
use kafka::{Broker, shared, unique};

const SOON: Duration = Duration::from_millis(100);

fn keys(broker: &Broker, topic: &str) -> String {
    format!("brokers = \"{}\"\ntopic = \"{topic}\"", broker.address())
}

fn plan(broker: &Broker, topic: &str) -> SourcePlan {
    source_plan("kafka", &keys(broker, topic), schema(), std::path::Path::new(""))
}

/// A topic of that name for this test alone.
fn topic(broker: &Broker, name: &str, partitions: i32) -> String {
    let name = unique(name);
    let cluster = Cluster::new(broker.address());
    assert!(cluster.create_topic(&Topic::new(&name, partitions)).unwrap(), "it was there already");
    name
}

/// Sends rows through the sink.
fn produce(broker: &Broker, topic: &str, rows: &RecordBatch, more: &str) {
    let plan = sink_plan("kafka", &format!("{}\n{more}", keys(broker, topic)));
    let mut sink = open_sink(&plan, &schema(), std::path::Path::new("")).unwrap();
    sink.write(rows, &times(rows)).unwrap();
    sink.close().unwrap();
}

/// Sends raw messages to a partition.
fn send(broker: &Broker, topic: &str, partition: i32, payloads: &[Option<&[u8]>]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().unwrap();
    for payload in payloads {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).key(b"k");
        record.payload = *payload;
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn texts(rows: &RecordBatch) -> Vec<String> {
    (0..rows.num_rows()).map(|row| show(rows, row)).collect()
}

/// Polls until so many rows are read, and somewhat on.
fn read_rows(source: &mut dyn Source, read: &mut Read, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while read.rows.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} rows", read.rows.len());
        read.note(source.poll(SOON).unwrap(), &schema());
    }
}

#[test]
fn what_the_sink_writes_the_source_reads() {
    let broker = shared();
    let all = rows(20_000, 3);
    for format in ["json", "csv"] {
        let name = topic(&broker, "round", 1);
        let mut sink = sink_plan("kafka", &keys(&broker, &name));
        let mut source = plan(&broker, &name);
        for plan in [&mut sink.format, &mut source.format] {
            *plan = Some(tidemill_config::plan::At::nowhere(format.to_string()));
        }
        let mut sink = open_sink(&sink, &schema(), std::path::Path::new("")).unwrap();
        for from in (0..20_000).step_by(777) {
            let part = all.slice(from, 777.min(20_000 - from));
            sink.write(&part, &times(&part)).unwrap();
            sink.commit().unwrap();
        }
        sink.close().unwrap();
        let found = read(open(&source).unwrap().as_mut(), &schema());
        assert!(found.rejects.is_empty() && found.error.is_none());
        assert_eq!(found.texts(), texts(&all), "{format}");
        assert!(found.rows.iter().zip(0..).all(|(row, i)| row.1 == i), "offsets are the topic's");
    }
}

#[test]
fn equal_keys_share_a_partition_and_shares_of_workers_are_the_whole() {
    let broker = shared();
    let name = topic(&broker, "parts", 5);
    let all = rows(5_000, 5);
    produce(&broker, &name, &all, "key = [\"ok\", \"at\"]");
    produce(&broker, &name, &all, "key = [\"ok\", \"at\"]");
    let mut found = Read::default();
    for share in 0..3 {
        let mut source = open_share(&plan(&broker, &name), (share, 3)).unwrap();
        let wanted: Vec<_> = (0..5).filter(|p| p % 3 == share as u32).collect();
        assert_eq!(source.partitions(), wanted);
        let part = read(source.as_mut(), &schema());
        let mut ends = part.ends.clone();
        ends.sort_unstable();
        assert_eq!(ends, wanted, "each partition's end once");
        found.rows.extend(part.rows);
    }
    let mut places = std::collections::BTreeMap::new();
    for (partition, _, row) in &found.rows {
        assert_eq!(places.entry(row).or_insert(partition), &partition, "{row}");
    }
    assert!(found.rows.iter().any(|r| r.0 != found.rows[0].0), "all keys in one partition");
    let (mut found, mut twice) =
        (found.rows.into_iter().map(|r| r.2).collect::<Vec<_>>(), texts(&all));
    twice.extend(texts(&all));
    found.sort_unstable();
    twice.sort_unstable();
    assert_eq!(found, twice);
    let idle = open_share(&plan(&broker, &name), (6, 7)).unwrap();
    assert!(idle.partitions().is_empty());
}

#[test]
fn a_bounded_source_ends_where_the_topic_ended_at_open() {
    let broker = shared();
    let name = topic(&broker, "bounded", 2);
    send(&broker, &name, 0, &[Some(b"{\"id\":1}"), Some(b"{\"id\":2}")]);
    let mut source = open(&plan(&broker, &name)).unwrap();
    send(&broker, &name, 0, &[Some(b"{\"id\":3}")]);
    send(&broker, &name, 1, &[Some(b"{\"id\":4}")]);
    let found = read(source.as_mut(), &schema());
    assert_eq!(found.texts(), ["1|-|-|-|-", "2|-|-|-|-"]);
    let mut ends = found.ends;
    ends.sort_unstable();
    assert_eq!(ends, [0, 1]);
    for _ in 0..10 {
        assert!(matches!(source.poll(SOON).unwrap(), Polled::Nothing), "something after the end");
    }
    source.seek(0, 1).unwrap();
    let mut found = Read::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    while found.ends.is_empty() {
        assert!(Instant::now() < deadline, "the end was not said after the seek");
        found.note(source.poll(SOON).unwrap(), &schema());
    }
    assert_eq!((found.texts(), &found.ends[..]), (vec!["2|-|-|-|-"], &[0][..]));
}

#[test]
fn a_live_source_says_each_time_that_it_is_at_the_end() {
    let broker = shared();
    let name = topic(&broker, "live", 1);
    let mut plan = plan(&broker, &name);
    plan.until = Some(Until::Stopped);
    let mut source = open(&plan).unwrap();
    let mut found = Read::default();
    for round in 0..3 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while found.ends.len() <= round {
            assert!(Instant::now() < deadline, "the end was not said in round {round}");
            found.note(source.poll(SOON).unwrap(), &schema());
        }
        assert_eq!((found.ends.len(), found.rows.len()), (round + 1, round));
        send(&broker, &name, 0, &[Some(b"{\"id\":7}")]);
    }
    plan.section.keys.extend(common::section("", "start = \"latest\"", "".as_ref()).keys);
    let mut late = open(&plan).unwrap();
    send(&broker, &name, 0, &[Some(b"{\"id\":8}")]);
    let mut found = Read::default();
    read_rows(late.as_mut(), &mut found, 1);
    assert_eq!(found.texts(), ["8|-|-|-|-"]);
}

#[test]
fn a_paused_partition_is_still_and_loses_nothing() {
    let broker = shared();
    let name = topic(&broker, "paused", 2);
    let all = rows(20_000, 9);
    produce(&broker, &name, &all, "key = \"id\"");
    let mut source = open(&plan(&broker, &name)).unwrap();
    let mut found = Read::default();
    read_rows(source.as_mut(), &mut found, 1);
    source.pause(0, true);
    let before = found.rows.iter().filter(|row| row.0 == 0).count();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !found.ends.contains(&1) {
        assert!(Instant::now() < deadline);
        found.note(source.poll(SOON).unwrap(), &schema());
    }
    for _ in 0..5 {
        assert!(matches!(source.poll(SOON).unwrap(), Polled::Nothing));
    }
    assert_eq!(found.rows.iter().filter(|row| row.0 == 0).count(), before);
    assert!(before < 9_000, "the partition was read before it was paused");
    source.pause(0, false);
    let rest = read_to_end(source.as_mut(), found);
    let mut rows: Vec<_> = rest.rows.into_iter().map(|row| row.2).collect();
    rows.sort_unstable();
    let mut wanted = texts(&all);
    wanted.sort_unstable();
    assert_eq!(rows, wanted);
}

fn read_to_end(source: &mut dyn Source, mut found: Read) -> Read {
    let deadline = Instant::now() + Duration::from_secs(90);
    while found.ends.len() < source.partitions().len() {
        assert!(Instant::now() < deadline, "no end after {} rows", found.rows.len());
        found.note(source.poll(SOON).unwrap(), &schema());
    }
    found
}

#[test]
fn bad_messages_become_dead_letters() {
    let broker = shared();
    let name = topic(&broker, "bad", 1);
    let big = format!("{{\"name\":\"{}\"}}", "x".repeat(200));
    let payloads: [Option<&[u8]>; 5] =
        [Some(b"{\"id\":1}"), Some(b"{\"id\":"), None, Some(big.as_bytes()), Some(b"{\"id\":2}")];
    send(&broker, &name, 0, &payloads);
    let mut plan = plan(&broker, &name);
    plan.section.keys.extend(common::section("", "max_record = 100", "".as_ref()).keys);
    let found = read(open(&plan).unwrap().as_mut(), &schema());
    assert_eq!(found.rows.iter().map(|row| row.1).collect::<Vec<_>>(), [0, 4]);
    let dead: Vec<_> =
        found.rejects.iter().map(|d| (d.provenance.offset, d.reason.as_str())).collect();
    assert_eq!(dead, [(1, "parse"), (2, "parse"), (3, "too_large")]);
    assert_eq!(found.rejects[0].raw, b"{\"id\":");
    assert_eq!(found.rejects[0].provenance.origin, name);
    assert_eq!(found.rejects[1].detail, "the message has no payload");
    assert_eq!(found.rejects[2].raw, big.as_bytes(), "nothing of it is lost");
    assert_eq!(found.rejects[2].detail, "the record has 211 bytes, `max_record` is 100");
}

/// The producer and a topic take a megabyte, and a letter has its record in base64.
#[test]
fn a_letter_too_large_for_a_message_has_the_beginning_of_its_record() {
    let broker = shared();
    let letters = Arc::new(ArrowSchema::new(vec![
        Field::new("offset", ArrowType::Int64, true),
        Field::new("detail", ArrowType::Utf8, true),
        Field::new("raw", ArrowType::Binary, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![7, 8, 9])),
        Arc::new(StringArray::from(vec!["too long"; 3])),
        Arc::new(BinaryArray::from_iter_values([vec![0; 30], vec![0; 1 << 20], vec![0; 60]])),
    ];
    let rows = RecordBatch::try_new(Arc::clone(&letters), columns).unwrap();
    for delivery in ["at_least_once", "exactly_once"] {
        let name = topic(&broker, "letters", 1);
        let more = format!("delivery = \"{delivery}\"\nkey = [\"offset\", \"detail\"]");
        let plan = sink_plan("kafka", &format!("{}\n{more}", keys(&broker, &name)));
        let entry = SINKS.iter().find(|entry| entry.name == "kafka").unwrap();
        let mut sink = (entry.open)(&plan, Arc::clone(&letters), "".as_ref()).unwrap();
        sink.write(&rows, &[0; 3]).unwrap();
        sink.close().unwrap();
        let read_as = Schema::new([
            ("offset", DataType::Int64),
            ("detail", DataType::String),
            ("raw", DataType::String),
        ]);
        let source = source_plan("kafka", &keys(&broker, &name), read_as.clone(), "".as_ref());
        let found = read(open(&source).unwrap().as_mut(), &read_as);
        assert!(found.rejects.is_empty(), "{delivery}");
        let texts = found.texts();
        assert_eq!(texts.len(), 3, "{delivery}");
        assert!(texts[0].contains(&"A".repeat(40)) && texts[2].contains(&"A".repeat(80)));
        assert!(texts[1].contains("bytes, for a message holds no more"), "{:.300}", texts[1]);
        assert!(texts[1].contains(" of 1048576 bytes"), "{:.300}", texts[1]);
        assert!((990_000..1_000_000).contains(&texts[1].len()), "{}", texts[1].len());
    }
}

#[test]
fn a_topic_that_is_not_there_is_an_error_with_help() {
    let broker = shared();
    let name = topic(&broker, "departures", 1);
    let misspelt = name.replace("departures", "departuers");
    let error = open(&plan(&broker, &misspelt)).err().expect("an error");
    assert_eq!(error.message, format!("there is no topic {misspelt}"));
    assert_eq!(error.help.unwrap(), format!("did you mean `{name}`?"));
    let plan = sink_plan("kafka", &keys(&broker, &misspelt));
    let error = open_sink(&plan, &schema(), "".as_ref()).err().expect("an error");
    assert_eq!(error.message, format!("there is no topic {misspelt}"));
}

#[test]
fn nobody_at_the_address_is_an_error_with_help() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let keys = format!("brokers = \"{address}\"\ntopic = \"a\"");
    let error = open(&source_plan("kafka", &keys, schema(), "".as_ref())).err().expect("an error");
    assert!(error.message.starts_with("cannot read about the topic a: "), "{error}");
    assert!(error.message.contains("Connection refused"), "{error}");
    assert!(error.help.is_some());
}

#[test]
fn a_compacted_topic_is_made_by_the_sink() {
    let broker = shared();
    let name = unique("models");
    let all = rows(10, 1);
    produce(&broker, &name, &all, "key = \"id\"\ncreate = true\ncompact = true\npartitions = 3");
    produce(&broker, &name, &all, "key = \"id\"\ncreate = true");
    let found = read(open(&plan(&broker, &name)).unwrap().as_mut(), &schema());
    assert_eq!(found.rows.len(), 20);
    let policy = policy(&broker, &name);
    assert_eq!(policy, "compact");
    let source = open(&plan(&broker, &name)).unwrap();
    assert_eq!(source.partitions(), [0, 1, 2]);
}

/// The topic's `cleanup.policy`, as the broker says it.
fn policy(broker: &Broker, topic: &str) -> String {
    use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().unwrap();
    let options = AdminOptions::new();
    let wanted = [ResourceSpecifier::Topic(topic)];
    let mut future = std::pin::pin!(admin.describe_configs(&wanted, &options));
    let mut context = Context::from_waker(Waker::noop());
    let results = loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(results) => break results.unwrap(),
            Poll::Pending => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let resource = results.into_iter().next().unwrap().unwrap();
    resource.get("cleanup.policy").unwrap().value.clone().unwrap()
}

#[test]
fn reading_and_writing_go_on_after_the_broker_was_killed() {
    let mut broker = Broker::start();
    let name = topic(&broker, "killed", 1);
    let all = rows(60_000, 21);
    produce(&broker, &name, &all.slice(0, 30_000), "");
    let mut live = plan(&broker, &name);
    live.until = Some(Until::Stopped);
    // Small fetches, so that the broker dies while some are still to come.
    let small = "properties = { \"queued.max.messages.kbytes\" = 64, \"fetch.max.bytes\" = 65536, \
                 \"message.max.bytes\" = 65000, \"reconnect.backoff.max.ms\" = 500 }";
    live.section.keys.extend(common::section("", small, "".as_ref()).keys);
    let mut source = open(&live).unwrap();
    let mut found = Read::default();
    read_rows(source.as_mut(), &mut found, 1);

    let sink = sink_plan("kafka", &keys(&broker, &name));
    let mut sink = open_sink(&sink, &schema(), "".as_ref()).unwrap();
    broker.kill();
    let rest = all.slice(30_000, 30_000);
    sink.write(&rest, &times(&rest)).unwrap();
    for _ in 0..10 {
        found.note(source.poll(SOON).unwrap(), &schema());
    }
    assert!(found.rows.len() < 30_000, "everything was read before the broker died");
    assert!(broker.restart(), "Kafka did not come back");
    sink.close().unwrap();
    read_rows(source.as_mut(), &mut found, 60_000);
    assert_eq!(found.texts(), texts(&all), "lost, doubled or out of order");
    assert!(found.rejects.is_empty());
}

#[test]
fn checks_refuse_what_would_break_a_promise() {
    let cases = [
        ("topic = \"a\"", "`brokers` is missing"),
        ("topic = \"a b\"\nbrokers = \"b\"", "`a b` cannot be the name of a topic"),
        ("topic = \"a\"\nbrokers = \"b\"\nstart = \"erliest\"", "`start` cannot be `erliest`"),
        (
            "topic = \"a\"\nbrokers = \"b\"\nproperties = { \"enable.auto.commit\" = true }",
            "the property `enable.auto.commit` cannot be set",
        ),
    ];
    let sources = tidemill_connectors::source::SOURCES;
    let entry = sources.iter().find(|entry| entry.name == "kafka").unwrap();
    for (keys, wanted) in cases {
        let found = (entry.check)(&source_plan("kafka", keys, schema(), "".as_ref())).unwrap_err();
        assert_eq!(found[0].message, wanted);
    }
    let mut plan = source_plan("kafka", "topic = \"a\"\nbrokers = \"b\"", schema(), "".as_ref());
    assert!((entry.check)(&plan).is_ok(), "a check talks to no broker");
    plan.format = Some(tidemill_config::plan::At::nowhere("parquet".to_string()));
    assert_eq!((entry.check)(&plan).unwrap_err()[0].message, "`parquet` is a format of files");
    let sinks = tidemill_connectors::sink::SINKS;
    let entry = sinks.iter().find(|entry| entry.name == "kafka").unwrap();
    let plan = sink_plan("kafka", "topic = \"a/b\"\nbrokers = \"b\"");
    let found = (entry.check)(&plan).unwrap_err();
    assert_eq!(found[0].message, "`a/b` cannot be the name of a topic");
    let plan = sink_plan("kafka", "topic = \"a\"\nbrokers = \"b\"\ncompact = true");
    assert_eq!((entry.check)(&plan).unwrap_err()[0].message, "a compacted topic needs keys");
}
