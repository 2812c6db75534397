//! The sink of Redis, against a real one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use tidemill_config::plan::SinkPlan;
use tidemill_connectors::client::redis::Value;
use tidemill_connectors::sink::{Entry, SINKS, Sink};
use tidemill_types::{DataType, Error, Fault, Schema};

mod common;
use common::{Chance, open_sink, sink_plan};

#[path = "../../tests/support/redis.rs"]
mod redis;
use redis::{Authority, Cluster, Contents, Redis, bytes};

fn kind() -> &'static Entry {
    SINKS.iter().find(|entry| entry.name == "redis").expect("the sink of Redis")
}

fn schema() -> Schema {
    Schema::new([
        ("card", DataType::String),
        ("shop", DataType::Int64),
        ("amount", DataType::Float64),
        ("diff", DataType::Int64),
    ])
}

/// A row: card, shop, amount, time.
type Row = (Option<String>, i64, f64, i64);

fn batch(rows: &[Row]) -> (RecordBatch, Vec<i64>) {
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.0.as_deref()))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|_| 1))),
    ];
    let batch = RecordBatch::try_new(schema().to_arrow(), columns).expect("rows");
    (batch, rows.iter().map(|r| r.3).collect())
}

fn write(sink: &mut dyn Sink, rows: &[Row]) -> Result<(), Error> {
    let (batch, times) = batch(rows);
    sink.write(&batch, &times)
}

fn plan(url: &str, more: &str) -> SinkPlan {
    sink_plan("redis", &format!("url = \"{url}\"\nkey = [\"shop\", \"card\"]\n{more}"))
}

/// With a list of addresses.
fn plan_of(urls: &str, more: &str) -> SinkPlan {
    sink_plan("redis", &format!("url = {urls}\nkey = [\"shop\", \"card\"]\n{more}"))
}

fn open(plan: &SinkPlan) -> Result<Box<dyn Sink>, Error> {
    open_sink(plan, &schema(), Path::new(""))
}

fn refused(plan: &SinkPlan) -> Error {
    open(plan).err().expect("it was opened")
}

/// The amount of each entity, and the bytes of its time.
fn held(contents: Contents) -> BTreeMap<(String, i64), (f64, Vec<u8>)> {
    let of = |(key, fields): (Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>)| {
        // Two names, card and shop; then a text and a number behind their types and lengths.
        assert_eq!(&key[..4], &[2, 0, 0, 0], "{key:?}");
        let values = &key[4 + 2 * (8 + 4)..];
        let length = values[4] as usize;
        let card = String::from_utf8(values[8..8 + length].to_vec()).expect("UTF-8");
        let shop = &values[8 + length..];
        assert_eq!((&shop[..8], shop.len()), (&[4, 0, 0, 0, 8, 0, 0, 0][..], 16), "{key:?}");
        let shop = i64::from_le_bytes(shop[8..].try_into().expect("eight bytes"));
        assert_eq!(fields.len(), 2, "an amount and a time: {fields:?}");
        let time = fields[&b"_ts:shop"[..]].clone();
        let (_, amount) = fields.iter().find(|(field, _)| field.len() == 4).expect("an amount");
        assert_eq!((amount[0], amount.len()), (5 << 3 | 1, 9), "a double: {amount:?}");
        let amount = f64::from_le_bytes(amount[1..].try_into().expect("eight bytes"));
        ((card, shop), (amount, time))
    };
    contents.into_iter().map(of).collect()
}

/// Rows of some entities in any order of times, before 1970 and within a second too; no time twice for one entity.
fn shuffled(count: usize, seed: u64) -> Vec<Row> {
    let mut chance = Chance(seed);
    let mut rows: Vec<Row> = (0..count)
        .map(|i| {
            let card = chance.below(40);
            let time = (i as i64 - count as i64 / 2) * [1, 999_983, 86_400_000_123][card % 3];
            (Some(format!("c{card}")), (card % 4) as i64 - 1, i as f64 / 8.0, time)
        })
        .collect();
    for i in (1..rows.len()).rev() {
        rows.swap(i, chance.below(i + 1));
    }
    rows
}

/// Of each entity the row of the largest time.
fn newest(rows: &[Row]) -> BTreeMap<(String, i64), f64> {
    let mut found: BTreeMap<(String, i64), (i64, f64)> = BTreeMap::new();
    for (card, shop, amount, time) in rows {
        let Some(card) = card else { continue };
        let held = found.entry((card.clone(), *shop)).or_insert((i64::MIN, 0.0));
        if *time >= held.0 {
            *held = (*time, *amount);
        }
    }
    found.into_iter().map(|(key, (_, amount))| (key, amount)).collect()
}

fn amounts(redis: &Redis) -> BTreeMap<(String, i64), f64> {
    amounts_of(redis.contents("shop"))
}

fn amounts_of(contents: Contents) -> BTreeMap<(String, i64), f64> {
    held(contents).into_iter().map(|(key, (amount, _))| (key, amount)).collect()
}

#[test]
fn the_newest_row_wins_whoever_writes_and_in_whatever_order() {
    let redis = Redis::start(&[]);
    let rows = shuffled(20_000, 1);
    let plan = plan(&redis.url(), "");
    // Two writers at once, each with rows of every entity, each sending often.
    let parts: Vec<Vec<Row>> =
        (0..2).map(|part| rows.iter().skip(part).step_by(2).cloned().collect()).collect();
    thread::scope(|scope| {
        for part in &parts {
            scope.spawn(|| {
                let mut sink = open(&plan).expect("it is opened");
                for some in part.chunks(37) {
                    write(sink.as_mut(), some).expect("written");
                    sink.commit().expect("committed");
                }
                sink.close().expect("closed");
            });
        }
    });
    assert_eq!(amounts(&redis), newest(&rows));
    // Once more, all of it: nothing changes.
    let before = held(redis.contents("shop"));
    let mut sink = open(&plan).expect("it is opened");
    write(sink.as_mut(), &rows).expect("written");
    sink.close().expect("closed");
    assert_eq!(held(redis.contents("shop")), before);
}

#[test]
fn of_equal_times_the_last_counts_and_rows_without_a_key_or_taken_back_do_not() {
    let redis = Redis::start(&[]);
    let mut sink = open(&plan(&redis.url(), "ttl = \"1h\"")).expect("it is opened");
    let card = |name: &str| Some(name.to_string());
    write(sink.as_mut(), &[(card("a"), 1, 1.0, 5), (card("b"), 1, 1.0, 5)]).expect("written");
    sink.commit().expect("committed");
    write(sink.as_mut(), &[(card("a"), 1, 2.0, 5), (None, 1, 9.0, 9)]).expect("written");
    sink.commit().expect("committed");
    let (rows, times) = batch(&[(card("a"), 1, 3.0, 7), (card("b"), 1, 4.0, 4)]);
    let mut columns = rows.columns().to_vec();
    columns[3] = Arc::new(Int64Array::from(vec![-1, -1]));
    let back = RecordBatch::try_new(rows.schema(), columns).expect("rows");
    sink.write(&back, &times).expect("passed over");
    sink.close().expect("closed");
    let wanted = BTreeMap::from([(("a".to_string(), 1), 2.0), (("b".to_string(), 1), 1.0)]);
    assert_eq!(amounts(&redis), wanted);
    // Time to live, in milliseconds.
    let Value::Array(keys) = redis.ask(&["KEYS", "*"]) else { panic!("no keys") };
    assert_eq!(keys.len(), 2);
    let script = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
                  all[#all + 1] = redis.call('PTTL', key) end return all";
    let Value::Array(left) = redis.ask(&["EVAL", script, "0"]) else { panic!("no times") };
    for left in left {
        assert!(
            matches!(left, Value::Int(ms) if (3_000_000..=3_600_000).contains(&ms)),
            "{left:?}"
        );
    }
}

/// Redis is killed while rows are on their way, more than once, and started again over what its disk has; where it
/// syncs once a second it has not all of what it acknowledged.
#[test]
fn nothing_is_lost_when_redis_is_killed_and_comes_back() {
    for fsync in ["always", "everysec"] {
        let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", fsync]);
        let (url, redis) = (redis.url(), Mutex::new(redis));
        // Each of an entity of its own: no later row makes up for one that is lost.
        let row = |i: i64| (Some(format!("c{i}")), i % 4, i as f64 / 8.0, i * 999_983);
        let rows: Vec<Row> = (0..60_000).map(row).collect();
        let sent = AtomicUsize::new(0);
        let plan = plan(&url, "");
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut sink = open(&plan).expect("it is opened");
                for some in rows.chunks(50) {
                    write(sink.as_mut(), some).expect("written");
                    sink.commit().expect("committed");
                    sent.fetch_add(some.len(), Ordering::SeqCst);
                }
                sink.close().expect("closed");
            });
            for part in 1..4 {
                while sent.load(Ordering::SeqCst) < part * rows.len() / 4 && !writer.is_finished() {
                    thread::sleep(Duration::from_millis(1));
                }
                let mut redis = redis.lock().expect("nobody panicked");
                redis.kill();
                assert!(!writer.is_finished(), "everything was written before Redis was killed");
                thread::sleep(Duration::from_millis(200));
                if fsync == "everysec" {
                    redis.lose(50_000);
                }
                redis.start_again();
            }
        });
        let redis = redis.into_inner().expect("nobody panicked");
        assert_eq!(amounts(&redis), newest(&rows), "appendfsync {fsync}");
    }
}

/// A server that keeps nothing on its disk comes back empty: that is no place to go on writing to.
#[test]
fn a_server_that_comes_back_empty_is_an_error_until_all_is_written_anew() {
    let mut redis = Redis::start(&[]);
    let plan = plan(&redis.url(), "");
    let rows = shuffled(500, 4);
    let mut sink = open(&plan).expect("it is opened");
    write(sink.as_mut(), &rows).expect("written");
    sink.commit().expect("committed");
    let mark = sink.mark().expect("a mark").expect("a place").state;
    redis.kill();
    redis.start_again();
    let error = write(sink.as_mut(), &rows).and_then(|()| sink.commit()).expect_err("it is empty");
    assert!(
        error.to_string().contains("is empty, and") && error.to_string().contains("appendonly"),
        "{error}"
    );
    let reopen = kind().reopen.expect("it goes on");
    let error = reopen(&plan, schema().to_arrow(), Path::new(""), &mark);
    let error = error.err().expect("it is empty");
    assert!(error.to_string().contains("remove the run's checkpoints"), "{error}");
    let mut sink = open(&plan).expect("from the beginning");
    write(sink.as_mut(), &rows).expect("written");
    sink.close().expect("closed");
    assert_eq!(amounts(&redis), newest(&rows));
}

#[test]
fn what_redis_refuses_is_said_with_what_to_do() {
    let guarded = Redis::start(&["--requirepass", "secret word"]);
    let with = |word: &str| guarded.url().replace("://", &format!("://{word}@"));
    for (url, why, cure) in [
        (guarded.url(), "NOAUTH", "it wants a password"),
        (with(":wrong"), "WRONGPASS", "is another one"),
        (with("ann:wrong"), "WRONGPASS", "is another one"),
    ] {
        let error = refused(&plan(&url, "")).to_string();
        assert!(error.contains(why) && error.contains(cure), "{error}");
        assert!(!error.contains("wrong@") && !error.contains(":wrong"), "a password: {error}");
    }
    assert!(open(&plan(&with(":secret%20word"), "")).is_ok());

    let redis = Redis::start(&["--maxmemory", "3mb"]);
    let error = refused(&plan(&redis.url().replace("://", "://:word@"), "")).to_string();
    assert!(error.contains("the server has no password"), "{error}");
    let error = refused(&plan(&format!("{}/99", redis.url()), "")).to_string();
    assert!(error.contains("DB index is out of range"), "{error}");
    // A key that holds something else.
    let mut sink = open(&plan(&redis.url(), "")).expect("it is opened");
    let row = (Some("a".to_string()), 1, 1.0, 5);
    write(sink.as_mut(), std::slice::from_ref(&row)).expect("taken");
    sink.commit().expect("written");
    let script = "local key = redis.call('KEYS', '*')[1] redis.call('DEL', key) \
                  return redis.call('SET', key, 'x')";
    redis.ask(&["EVAL", script, "0"]);
    write(sink.as_mut(), std::slice::from_ref(&row)).expect("taken");
    let error = sink.commit().expect_err("it is no hash").to_string();
    assert!(error.contains("WRONGTYPE") && error.contains("another `project`"), "{error}");
    redis.ask(&["FLUSHALL"]);
    // More than it has room for.
    let mut sink = open(&plan(&redis.url(), "")).expect("it is opened");
    let full = (0..100_000)
        .try_for_each(|i| write(sink.as_mut(), &[(Some(format!("card {i}")), 1, 1.0, 5)]));
    let error = full.and_then(|()| sink.commit()).expect_err("there is no room");
    assert_eq!(error.fault, Fault::External);
    assert!(
        error.to_string().contains("OOM") && error.to_string().contains("raise maxmemory"),
        "{error}"
    );

    // Something else listens.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 64]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = refused(&plan(&format!("redis://{address}"), "")).to_string();
    assert!(error.contains("is no Redis"), "{error}");
    // Nobody does.
    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let error = refused(&plan(&format!("redis://{nobody}"), "")).to_string();
    assert!(
        error.contains("was away for 10 s") && error.contains("see that the server is up"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_meant_is_found_before_anything_is_opened() {
    let check = |keys: &str| {
        let found = (kind().check)(&sink_plan("redis", keys)).err();
        let found = found.unwrap_or_else(|| panic!("`{keys}` is fine"));
        assert!(found.iter().all(|d| !d.help.is_empty()), "{keys}");
        found
            .into_iter()
            .map(|d| format!("{}: {}", d.message, d.reason))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (keys, why) in [
        ("key = \"card\"", "has no `url`"),
        ("url = \"redis://here\"", "has no `key`"),
        ("url = \"here:6379\"\nkey = \"card\"", "does not begin with redis://"),
        ("url = \"rediss://here#insecure\"\nkey = \"card\"", "only if its certificate is right"),
        ("url = [\"redis://a\", \"redis://b\"]\nkey = \"card\"", "those of a cluster"),
        (
            "url = [\"redis://a\", \"redis://:x@b\"]\ncluster = true\nkey = \"card\"",
            "of the whole cluster",
        ),
        ("url = \"redis://a/1\"\ncluster = true\nkey = \"card\"", "no databases"),
        ("url = []\nkey = \"card\"", "cannot be an array"),
        ("url = \"redis://a\"\nca = \"ca.pem\"\nkey = \"card\"", "nothing is encrypted"),
        ("url = \"rediss://a\"\nca = \"nowhere.pem\"\nkey = \"card\"", "nowhere.pem"),
        ("url = \"rediss://a\"\ncertificate = \"c.pem\"\nkey = \"card\"", "without `private_key`"),
        ("url = \"redis://here\"\nkey = [\"card\", \"card\"]", "twice"),
        ("url = \"redis://here\"\nkey = \"card\"\nview = \"x\"", "has no key `view`"),
        ("url = \"redis://here\"\nkey = \"card\"\nttl = \"0s\"", "`ttl` is shorter"),
    ] {
        assert!(check(keys).contains(why), "{keys}: {}", check(keys));
    }
    let redis = Redis::start(&[]);
    let opened = |keys: &str| {
        let plan = sink_plan("redis", &format!("url = \"{}\"\n{keys}", redis.url()));
        open(&plan).err().unwrap_or_else(|| panic!("`{keys}` is fine")).to_string()
    };
    assert!(opened("key = \"cart\"").contains("no column cart"));
    assert!(opened("key = \"amount\"").contains("`amount` is float64"));
    assert!(opened("key = [\"card\", \"shop\", \"amount\"]").contains("`amount` is float64"));
}

/// Rows, each of an entity of its own.
fn entities(of: std::ops::Range<i64>, round: i64) -> Vec<Row> {
    of.map(|i| (Some(format!("c{i}")), i % 4, (i * 10 + round) as f64, (i + round) * 999_983))
        .collect()
}

/// Rows of slots that are on their way between two masters go to where they are, and after that to their new master.
#[test]
fn slots_that_move_take_their_rows_along() {
    let cluster = Cluster::start(0, None);
    let (from, to) = (&cluster.nodes[0], &cluster.nodes[1]);
    let plan = plan_of(&cluster.url(), "cluster = true");
    let mut sink = open(&plan).expect("it is opened");
    let mut rows = entities(0..2_000, 0);
    write(sink.as_mut(), &rows).expect("written");
    sink.commit().expect("committed");
    let (ids, slots) = ([from.id(), to.id()], (0..300).map(|slot: i32| slot.to_string()));
    let slots: Vec<String> = slots.collect();
    for slot in &slots {
        to.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[0]]);
        from.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[1]]);
    }
    // Half of the entities are known; of the others those in the slots are for the new master.
    rows.extend(entities(0..4_000, 1));
    write(sink.as_mut(), &rows[2_000..]).expect("written");
    sink.commit().expect("committed");
    let held_there = || {
        let count = |slot| match to.ask(&["CLUSTER", "COUNTKEYSINSLOT", slot]) {
            Value::Int(count) => count,
            other => panic!("no number: {other:?}"),
        };
        slots.iter().map(|slot| count(slot)).sum::<i64>()
    };
    let asked = held_there();
    assert!(asked > 10, "{asked} rows were led to the new master");
    for slot in &slots {
        let keys = from.connect().ask(&[b"CLUSTER", b"GETKEYSINSLOT", slot.as_bytes(), b"1000"]);
        let Ok(Value::Array(keys)) = keys else { panic!("no keys") };
        for key in keys.into_iter().map(bytes) {
            let moved = from.connect().ask(&[
                b"MIGRATE",
                b"127.0.0.1",
                to.port().as_bytes(),
                &key,
                b"0",
                b"5000",
            ]);
            assert_eq!(moved.expect("an answer"), Value::Okay);
        }
        to.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[1]]);
        from.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[1]]);
    }
    let moved = held_there();
    assert!(moved > asked, "{moved} rows were moved");
    rows.extend(entities(0..6_000, 2));
    write(sink.as_mut(), &rows[6_000..]).expect("written");
    sink.close().expect("closed");
    assert!(held_there() > moved, "new rows come to the new master");
    assert_eq!(amounts_of(cluster.contents("shop")), newest(&rows));
}

/// A master is killed while rows are on their way, and does not come back: its replica takes over.
#[test]
fn nothing_is_lost_when_a_replica_takes_over() {
    let mut cluster = Cluster::start(1, None);
    let plan = plan_of(&cluster.url(), "cluster = true");
    // Each of an entity of its own: no later row makes up for one that is lost.
    let rows = entities(0..30_000, 0);
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut sink = open(&plan).expect("it is opened");
            for some in rows.chunks(50) {
                write(sink.as_mut(), some).expect("written");
                sink.commit().expect("committed");
                sent.fetch_add(some.len(), Ordering::SeqCst);
            }
            sink.close().expect("closed");
        });
        while sent.load(Ordering::SeqCst) < rows.len() / 2 && !writer.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        cluster.nodes[0].kill();
        assert!(!writer.is_finished(), "everything was written before the master was killed");
    });
    assert!(cluster.nodes[3].says(&["ROLE"], "master"), "the replica has not taken over");
    assert_eq!(amounts_of(cluster.contents("shop")), newest(&rows));
}

#[test]
fn tls_trusts_who_it_was_told_to_and_shows_who_it_is() {
    let authority = Authority::new();
    let redis = Redis::secured(&[], &authority);
    let mut sink = open(&plan(&redis.url(), &authority.keys())).expect("it is opened");
    let rows = entities(0..3_000, 0);
    write(sink.as_mut(), &rows).expect("written");
    sink.close().expect("closed");
    assert_eq!(amounts(&redis), newest(&rows));

    let other = Authority::new();
    let ca = |authority: &Authority| format!("ca = {:?}\n", authority.file("ca.pem"));
    let localhost = redis.url().replace("127.0.0.1", "localhost");
    let plain = Redis::start(&[]);
    let to_plain = plain.url().replace("redis://", "rediss://");
    for (url, more, why, cure) in [
        (redis.url(), other.keys(), "invalid peer certificate", "name the file of who did, ca"),
        (redis.url(), ca(&authority), "CertificateRequired", "private_key = "),
        (
            redis.url(),
            other.keys().replace(&ca(&other), &ca(&authority)),
            "alert",
            "private_key = ",
        ),
        (localhost, authority.keys(), "certificate not valid for name", "is for other names"),
        (to_plain, authority.keys(), "no TLS comes back", "write redis://"),
    ] {
        let error = refused(&plan(&url, &more)).to_string();
        assert!(error.contains(why) && error.contains(cure), "{url} {more}: {error}");
    }
    let unencrypted = redis.url().replace("rediss://", "redis://");
    let error = refused(&plan(&unencrypted, "")).to_string();
    assert!(error.contains("if it wants TLS, write rediss://"), "{error}");
}

#[test]
fn a_cluster_and_a_server_are_not_taken_for_each_other() {
    let redis = Redis::start(&[]);
    let error = refused(&plan(&redis.url(), "cluster = true")).to_string();
    assert!(error.contains("leave `cluster = true` out"), "{error}");
    let cluster = Cluster::start(0, None);
    let mut sink = open(&plan(&cluster.nodes[0].url(), "")).expect("it is opened");
    let written = write(sink.as_mut(), &entities(0..100, 0)).and_then(|()| sink.commit());
    let error = written.expect_err("two thirds of the rows are not its own").to_string();
    assert!(error.contains("MOVED") && error.contains("add `cluster = true`"), "{error}");
}
