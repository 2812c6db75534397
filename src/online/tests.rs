//! The store by itself: bounds, order, corrections.

use std::path::Path;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use tidemill_config::document::parse;
use tidemill_types::Value;

use super::*;
use crate::engine::check::{Compiled, compile};

const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"
[source.payments]
type = "file"
path = "payments.jsonl"
schema = { card = "string", amount = "float64", at = "timestamp" }
event_time = "at"
[features]
double = "amount * 2"
[online]
entity = "card"
max_entities = 3
"#;

fn compiled(text: &str) -> Result<Compiled, String> {
    let loaded = parse("shop.toml", text, Path::new(""), &[], &|_| None);
    compile(loaded.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

fn keeper() -> (Arc<Online>, Keeper) {
    let online = Arc::new(Online::default());
    let keeper = Keeper::new(Arc::clone(&online), &compiled(PIPELINE).expect("sound"));
    (online, keeper)
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(i, column)| (i.to_string(), column, true));
    RecordBatch::try_from_iter_with_nullable(named).expect("columns")
}

/// Rows of (card, time, id, feature).
fn put(keeper: &mut Keeper, rows: &[(&str, Micros, i64, f64)]) {
    let features: Vec<f64> = rows.iter().map(|row| row.3).collect();
    let amounts: Vec<f64> = rows.iter().map(|row| row.3 / 2.0).collect();
    let cards =
        StringArray::from_iter(rows.iter().map(|row| Some(row.0).filter(|c| !c.is_empty())));
    let times: Vec<Micros> = rows.iter().map(|row| row.1).collect();
    let ids: Vec<Id> = rows.iter().map(|row| Id::Int(row.2)).collect();
    let kept = batch(vec![Arc::new(cards), Arc::new(Float64Array::from(amounts))]);
    keeper.rows(&times, &ids, &batch(vec![Arc::new(Float64Array::from(features))]), Some(&kept));
}

fn held(online: &Online, card: &str) -> Option<(Micros, Value, Value)> {
    let row = online.entity(Key::of([&Value::Text(card.into())])?)?;
    Some((row.time, row.features[0].clone(), row.kept[0].clone()))
}

fn of(time: Micros, feature: f64) -> Option<(Micros, Value, Value)> {
    Some((time, Value::Float(feature), Value::Float(feature / 2.0)))
}

#[test]
fn the_newest_row_stays_whatever_the_order_of_arrival() {
    let (online, mut keeper) = keeper();
    put(&mut keeper, &[("a", 5, 1, 1.0), ("a", 7, 1, 2.0), ("a", 6, 9, 3.0), ("", 8, 1, 4.0)]);
    assert_eq!(held(&online, "a"), of(7, 2.0));
    put(&mut keeper, &[("a", 6, 2, 5.0)]);
    assert_eq!(held(&online, "a"), of(7, 2.0), "an older row that came late");
    put(&mut keeper, &[("a", 7, 1, 6.0)]);
    assert_eq!(held(&online, "a"), of(7, 6.0), "the same row, corrected");
    put(&mut keeper, &[("a", 7, 2, 7.0)]);
    assert_eq!(held(&online, "a"), of(7, 7.0), "a later id of the same time");
    assert_eq!(online.entities(), 1, "a row without an entity is held for nobody");
}

#[test]
fn the_store_is_bounded_and_who_was_updated_longest_ago_leaves() {
    let (online, mut keeper) = keeper();
    put(&mut keeper, &[("a", 1, 1, 1.0), ("b", 2, 2, 2.0), ("c", 3, 3, 3.0)]);
    put(&mut keeper, &[("a", 4, 4, 4.0)]);
    put(&mut keeper, &[("d", 5, 5, 5.0)]);
    let there: Vec<&str> =
        ["a", "b", "c", "d"].into_iter().filter(|card| held(&online, card).is_some()).collect();
    assert_eq!((there, online.evicted()), (vec!["a", "c", "d"], 1));
    for time in 10..20_000 {
        put(&mut keeper, &[("a", time, 1, 1.0)]);
    }
    assert!(keeper.backlog() < 10_000, "updates that were overtaken are forgotten");
    put(&mut keeper, &[("e", 60_000, 1, 1.0)]);
    assert_eq!((held(&online, "c"), online.entities()), (None, 3));
}

#[test]
fn a_line_has_every_entity_as_it_was_and_who_leaves_next() {
    let (online, mut first) = keeper();
    put(&mut first, &[("a", 1, 1, 1.0), ("b", 2, 2, f64::NAN), ("c", 3, 3, -0.0)]);
    put(&mut first, &[("a", 4, 4, 4.0)]);
    let bits = |online: &Online| {
        ["a", "b", "c", "d"].map(|card| match held(online, card) {
            Some((time, Value::Float(feature), Value::Float(kept))) => {
                Some((time, feature.to_bits(), kept.to_bits()))
            }
            _ => None,
        })
    };
    let (then, later) = (bits(&online), first.save());
    // It is saved when these have come, and `b` and `c` have left.
    put(&mut first, &[("a", 5, 5, 5.0), ("a", 6, 6, 6.0), ("d", 7, 7, 7.0), ("e", 8, 8, 8.0)]);
    assert_eq!(online.entities(), 3);
    let parts = later().expect("bytes");
    let (again, mut second) = keeper();
    second.restore(&parts.iter().cloned().collect()).expect("the same entities");
    assert_eq!(bits(&again), then);
    assert_eq!(second.save()().expect("bytes"), parts, "unchanged, it is not written again");
    put(&mut second, &[("d", 5, 5, 5.0)]);
    let [a, b, c, d] = bits(&again);
    assert_eq!((a, b, c), (then[0], None, then[2]), "the one updated longest ago leaves");
    assert!(d.is_some());
    let cut = parts.into_iter().map(|(name, bytes)| (name, bytes[..bytes.len() - 1].to_vec()));
    let (_, mut third) = keeper();
    assert!(third.restore(&cut.collect()).is_err(), "a part that is cut off");
}

/// Lines are saved by another thread, while rows come.
#[test]
fn lines_saved_meanwhile_have_what_was_there() {
    let online = Arc::new(Online::default());
    let text = PIPELINE.replace("max_entities = 3", "max_entities = 700");
    let mut keeper = Keeper::new(Arc::clone(&online), &compiled(&text).expect("sound"));
    let cards: Vec<String> = (0..1_000).map(|card| format!("card {card}")).collect();
    let mut at = 0;
    let mut next = |keeper: &mut Keeper| {
        let rows: Vec<_> = (0..50)
            .map(|i| {
                let n = at + i;
                (cards[(n * n + n / 7) as usize % cards.len()].as_str(), n, n, n as f64)
            })
            .collect();
        at += 50;
        put(keeper, &rows);
    };
    for _ in 0..50 {
        next(&mut keeper);
        let all = || -> Vec<_> { cards.iter().map(|card| held(&online, card)).collect() };
        let (then, later) = (all(), keeper.save());
        let saving = std::thread::spawn(later);
        while !saving.is_finished() {
            next(&mut keeper);
        }
        let parts = saving.join().expect("no panic").expect("bytes");
        let again = Arc::new(Online::default());
        let mut second = Keeper::new(Arc::clone(&again), &compiled(&text).expect("sound"));
        second.restore(&parts.into_iter().collect()).expect("the same entities");
        let found: Vec<_> = cards.iter().map(|card| held(&again, card)).collect();
        assert_eq!(found, then);
    }
}

#[test]
fn readers_see_whole_rows_while_they_are_written() {
    let (online, mut keeper) = keeper();
    put(&mut keeper, &[("a", 0, 0, 0.0)]);
    let reading = Arc::clone(&online);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut last = 0;
            while last < 2_000 {
                let (time, feature, _) = held(&reading, "a").expect("always held");
                assert_eq!(feature, Value::Float(time as f64), "of one row");
                assert!(time >= last, "time does not go back");
                last = time;
            }
        });
        let mut time = 0;
        while !reader.is_finished() {
            time += 1;
            put(&mut keeper, &[("a", time, 0, time as f64)]);
        }
        reader.join().expect("no row was torn");
    });
}

#[test]
fn an_entity_is_checked_when_the_pipeline_is_read() {
    let wrong = |from: &str, to: &str| compiled(&PIPELINE.replace(from, to)).err().expect("wrong");
    let error = wrong("entity = \"card\"", "entity = \"cart\"");
    assert!(error.contains("names no column of the spine") && error.contains("`card`"), "{error}");
    let error = wrong("entity = \"card\"", "entity = \"amount\"");
    assert!(error.contains("cannot name an entity") && error.contains("float64"), "{error}");
    let error = wrong("double = ", "card = ");
    assert!(error.contains("a feature too"), "{error}");
    let error = wrong("entity = \"card\"", "entity = [\"card\", \"card\"]");
    assert!(error.contains("twice"), "{error}");
    let error = wrong("entity = \"card\"\n", "");
    assert!(error.contains("has no `entity`") && error.contains("shop.toml:"), "{error}");
}
