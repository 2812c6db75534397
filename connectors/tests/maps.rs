//! Columns of maps: what each format reads of them, and what it refuses.

mod nested;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Builder, Int32Builder, Int64Array, Int64Builder, LargeStringBuilder,
    MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StringDictionaryBuilder, UInt64Builder,
};
use arrow::datatypes::Int32Type;
use nested::{columnar, format, layout, read_text, refused};
use tidemill_connectors::format::Packing;
use tidemill_connectors::format::compression::Input;
use tidemill_types::MOST_ITEMS;

const COLUMNS: [(&str, &str); 3] = [("id", "int64"), ("m", "map<float64>"), ("s", "map<string>")];

#[test]
fn json_objects_are_maps_in_the_order_of_keys() {
    let lines = [
        r#"{"id":1,"m":{"b":1,"a":2.5,"":null},"s":{"x":"1","é":"\n"}}"#,
        r#"{"id":2,"m":{},"s":null}"#,
        r#"{"id":3,"m":{"a":1,"b":"x"}}"#,
        r#"{"id":4,"m":{"b":1,"a":2,"b":3}}"#,
        r#"{"id":5,"m":[1]}"#,
        r#"{"id":6,"m":{"a":{"b":1}}}"#,
        r#"{"id":7,"m":{"a":[1]}}"#,
        r#"{"id":8,"m":"a"}"#,
        r#"{"id":{"a":1}}"#,
        r#"{"id":10,"s":{"b":"2","a":1}}"#,
        r#"{"s":{"b":"2","a":"1"},"m":{"a":-0.0},"id":11}"#,
        r#"{"id":12,"m":{"a":1},"m":{"a":2}}"#,
    ];
    let (rows, rejects) = read_text("json", &lines.join("\n"), &layout(&COLUMNS));
    let wanted = [
        (1, "1|{: , a: 2.5, b: 1.0}|{x: 1, é: \n}"),
        (2, "2|{}|-"),
        (11, "11|{a: -0.0}|{a: 1, b: 2}"),
    ];
    assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    let (last, rejects) = rejects.split_last().expect("refusals");
    assert_eq!((last.line, last.refusal.reason), (12, "parse"));
    refused(
        rejects,
        &[
            (3, "column m: found the string \"x\" in the object, wanted map<string, float64>"),
            (4, "column m: found the key \"b\" twice, wanted map<string, float64>"),
            (5, "column m: found an array, wanted map<string, float64>"),
            (6, "column m: found an object in the object, wanted map<string, float64>"),
            (7, "column m: found an array in the object, wanted map<string, float64>"),
            (8, "column m: found the string \"a\", wanted map<string, float64>"),
            (9, "column id: found an object, wanted int64"),
            (10, "column s: found the number 1 in the object, wanted map<string, string>"),
        ],
    );
}

#[test]
fn a_map_is_bounded() {
    let map = |entries: usize| {
        let entries: Vec<String> = (0..entries).rev().map(|n| format!("\"k{n:04}\":{n}")).collect();
        entries.join(",")
    };
    let text = format!(
        "{{\"id\":1,\"m\":{{{}}}}}\n{{\"id\":2,\"m\":{{{}}}}}\n{{\"id\":3}}\n",
        map(MOST_ITEMS),
        map(MOST_ITEMS + 1)
    );
    let (rows, rejects) =
        read_text("json", &text, &layout(&[("id", "int64"), ("m", "map<int64>")]));
    assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    assert!(rows[0].1.starts_with("1|{k0000: 0, k0001: 1, "), "{}", &rows[0].1[..40]);
    refused(
        &rejects,
        &[(
            2,
            "column m: found a map of more than 4096 entries, wanted map<string, int64> of at most 4096",
        )],
    );
}

#[test]
fn csv_has_maps_as_json() {
    let text = "id,m,s\n1,\"{\"\"b\"\":1,\"\"a\"\":null}\",\"{\"\"x\"\":\"\"y,z\"\"}\"\n2,,{}\n3,a=1,\n4,{,\n5,null,\n\
                6,\"{\"\"a\"\":1} x\",\n";
    let (rows, rejects) = read_text("csv", text, &layout(&COLUMNS));
    let wanted = [(2, "1|{a: , b: 1.0}|{x: y,z}"), (3, "2|-|{}"), (6, "5|-|-")];
    assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    let wanted = |line: u64, found: &str| {
        (line, format!("column m: found {found}, wanted map<string, float64> as a JSON object"))
    };
    let wanted = [wanted(4, "\"a=1\""), wanted(5, "\"{\""), wanted(7, "\"{\\\"a\\\":1} x\"")];
    let wanted: Vec<(u64, &str)> = wanted.iter().map(|(line, text)| (*line, &**text)).collect();
    refused(&rejects, &wanted);
}

#[test]
fn columns_of_maps_of_every_kind_are_read() {
    let ids = Arc::new(Int64Array::from_iter_values(1..=4));
    let names = || {
        Some(MapFieldNames {
            entry: "key_value".to_string(),
            key: "key".to_string(),
            value: "value".to_string(),
        })
    };
    let mut plain = MapBuilder::new(names(), StringBuilder::new(), Float32Builder::new());
    let mut other = MapBuilder::new(
        None,
        StringDictionaryBuilder::<Int32Type>::new(),
        LargeStringBuilder::new(),
    );
    for n in 1..=4 {
        if n != 2 {
            for (key, value) in [("b", Some(n as f32)), ("a", None), ("c", Some(0.5))] {
                plain.keys().append_value(key);
                plain.values().append_option(value);
            }
        }
        plain.append(n != 3).expect("entries");
        for key in ["z", "y"].into_iter().take(n as usize - 1) {
            other.keys().append_value(key);
            other.values().append_value(format!("{key}{n}"));
        }
        other.append(true).expect("entries");
    }
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", ids), ("m", Arc::new(plain.finish())), ("s", Arc::new(other.finish()))];
    let wanted = [
        (1, "1|{a: , b: 1.0, c: 0.5}|{}"),
        (2, "2|{}|{z: z2}"),
        (3, "3|-|{y: y3, z: z3}"),
        (4, "4|{a: , b: 4.0, c: 0.5}|{y: y4, z: z4}"),
    ];
    for rows in columnar(columns, &COLUMNS) {
        assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    }
}

#[test]
fn maps_that_do_not_fit_are_refused_row_by_row() {
    let mut numbers = MapBuilder::new(None, StringBuilder::new(), UInt64Builder::new());
    for n in 1..=5_u64 {
        let entries: Vec<(String, u64)> = match n {
            2 => vec![("b".into(), 1), ("a".into(), u64::MAX)],
            3 => vec![("b".into(), 1), ("a".into(), 2), ("b".into(), 1)],
            5 => (0..=MOST_ITEMS as u64).map(|k| (format!("{k:04}"), k)).collect(),
            _ => vec![("b".into(), n), ("a".into(), 0)],
        };
        for (key, value) in entries {
            numbers.keys().append_value(key);
            numbers.values().append_value(value);
        }
        numbers.append(true).expect("entries");
    }
    let columns: Vec<(&str, ArrayRef)> = vec![("m", Arc::new(numbers.finish()))];
    let wanted = [
        (1, "{a: 0, b: 1}"),
        (4, "{a: 0, b: 4}"),
        (
            2,
            "column m: found 18446744073709551615, wanted map<string, int64> (out of range, key \"a\")",
        ),
        (3, "column m: found the key \"b\" twice, wanted map<string, int64>"),
        (
            5,
            "column m: found a map of more than 4096 entries, wanted map<string, int64> of at most 4096",
        ),
    ];
    for rows in columnar(columns, &[("m", "map<int64>")]) {
        assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    }
}

#[test]
fn a_column_of_another_kind_is_no_map() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(1);
    maps.append(true).expect("entries");
    let mut numbered = MapBuilder::new(None, Int64Builder::new(), Int32Builder::new());
    numbered.append(true).expect("entries");
    let columns: [(&str, ArrayRef); 3] = [
        ("m", Arc::new(maps.finish())),
        ("n", Arc::new(numbered.finish())),
        ("id", Arc::new(Int64Array::from_iter_values([1]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let path = folder.path().join("rows.parquet");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer =
        (format("parquet").writer)(Box::new(file), &batch.schema(), Packing::default())
            .expect("it opens");
    writer.write(&batch).expect("written");
    writer.finish().expect("ended");
    for (name, declared, wanted) in [
        ("m", "map<string>", "wanted map<string, string>"),
        ("m", "list<int64>", "wanted list<int64>"),
        ("n", "map<int64>", "wanted map<string, int64>"),
        ("id", "map<int64>", "wanted map<string, int64>"),
    ] {
        let opened = (format("parquet").reader)(&Input::new(&path), &layout(&[(name, declared)]));
        let error = opened.err().expect("another type");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
