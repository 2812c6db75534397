//! Columns of lists: what each format reads of them, and what it refuses.

mod nested;

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListBuilder, Float32Builder, Float64Builder, Int64Array, Int64Builder,
    LargeListBuilder, ListBuilder, RecordBatch, StringBuilder, UInt64Builder,
};
use nested::{columnar, format, layout, read_text, refused};
use tidemill_connectors::format::Packing;
use tidemill_connectors::format::compression::Input;
use tidemill_types::MOST_ITEMS;

const COLUMNS: [(&str, &str); 4] =
    [("id", "int64"), ("v", "list<float64>"), ("tags", "list<string>"), ("e", "vector(2)")];

#[test]
fn json_arrays_are_lists() {
    let lines = [
        r#"{"id":1,"v":[1,2.5,null],"tags":["a","b"],"e":[0.5,-1]}"#,
        r#"{"id":2,"v":[],"tags":null}"#,
        r#"{"id":3,"v":[1],"tags":["a",1],"e":[1,2]}"#,
        r#"{"id":4,"v":[1,"x"]}"#,
        r#"{"id":5,"v":[[1]]}"#,
        r#"{"id":6,"v":1.5}"#,
        r#"{"id":7,"e":[1,2,3]}"#,
        r#"{"id":8,"e":[1]}"#,
        r#"{"id":[9]}"#,
        r#"{"id":10,"v":[{"a":1}]}"#,
        r#"{"e":[3,4],"tags":[null,"é\n"],"v":[-0.0],"id":11}"#,
    ];
    let (rows, rejects) = read_text("json", &lines.join("\n"), &layout(&COLUMNS));
    let wanted = [
        (1, "1|[1.0, 2.5, ]|[a, b]|[0.5, -1.0]"),
        (2, "2|[]|-|-"),
        (11, "11|[-0.0]|[, é\n]|[3.0, 4.0]"),
    ];
    assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    refused(
        &rejects,
        &[
            (3, "column tags: found the number 1 in the array, wanted list<string>"),
            (4, "column v: found the string \"x\" in the array, wanted list<float64>"),
            (5, "column v: found an array in the array, wanted list<float64>"),
            (6, "column v: found the number 1.5, wanted list<float64>"),
            (7, "column e: found a list of 3 items, wanted vector(2)"),
            (8, "column e: found a list of 1 items, wanted vector(2)"),
            (9, "column id: found an array, wanted int64"),
            (10, "column v: found an object in the array, wanted list<float64>"),
        ],
    );
}

#[test]
fn a_list_is_bounded() {
    let list = |items: usize| vec!["1"; items].join(",");
    let text = format!(
        "{{\"id\":1,\"v\":[{}]}}\n{{\"id\":2,\"v\":[{}]}}\n{{\"id\":3}}\n",
        list(MOST_ITEMS),
        list(MOST_ITEMS + 1)
    );
    let (rows, rejects) =
        read_text("json", &text, &layout(&[("id", "int64"), ("v", "list<int64>")]));
    assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    refused(
        &rejects,
        &[(
            2,
            "column v: found a list of more than 4096 items, wanted list<int64> of at most 4096",
        )],
    );
}

#[test]
fn csv_has_lists_as_json() {
    let text = "id,v,tags,e\n1,\"[1,null]\",\"[\"\"a\"\",\"\"b,c\"\"]\",\"[1,2]\"\n2,,[],\n3,1;2,,\n4,[1,,\n\
                5,null,,\n6,\"[1,2\",,\n7,,\"[\"\"a\"\"] x\",\n";
    let (rows, rejects) = read_text("csv", text, &layout(&COLUMNS));
    let wanted = [(2, "1|[1.0, ]|[a, b,c]|[1.0, 2.0]"), (3, "2|-|[]|-"), (6, "5|-|-|-")];
    assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    let wrong =
        |found: &str| format!("column v: found {found}, wanted list<float64> as a JSON array");
    let details: Vec<&str> = rejects.iter().map(|r| r.refusal.detail.as_str()).collect();
    assert_eq!(rejects.iter().map(|r| r.line).collect::<Vec<_>>(), [4, 5, 7, 8]);
    assert_eq!(details[1], wrong("\"[1\""));
    assert_eq!(details[2], wrong("\"[1,2\""));
    assert!(details[0].starts_with("column v: found "), "{details:?}");
    assert!(details[3].contains("wanted list<string> as a JSON array"), "{details:?}");
}

#[test]
fn columns_of_lists_of_every_kind_are_read() {
    let ids = Arc::new(Int64Array::from_iter_values(1..=5));
    let mut small = ListBuilder::new(Float32Builder::new());
    let mut large = LargeListBuilder::new(StringBuilder::new());
    let mut fixed = FixedSizeListBuilder::new(Float64Builder::new(), 2);
    for n in 1..=5 {
        match n {
            2 => {
                small.append_null();
                large.append_null();
            }
            3 => {
                small.append_value([]);
                large.append_value(Vec::<Option<&str>>::new());
            }
            _ => {
                small.append_value([Some(n as f32 / 2.0), None]);
                large.append_value([Some("a"), None, Some("b")]);
            }
        }
        fixed.values().append_option((n != 4).then_some(n as f64));
        fixed.values().append_value(0.5);
        fixed.append(n != 5);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", ids),
        ("v", Arc::new(small.finish())),
        ("tags", Arc::new(large.finish())),
        ("e", Arc::new(fixed.finish())),
    ];
    let wanted = [
        (1, "1|[0.5, ]|[a, , b]|[1.0, 0.5]"),
        (2, "2|-|-|[2.0, 0.5]"),
        (3, "3|[]|[]|[3.0, 0.5]"),
        (4, "4|[2.0, ]|[a, , b]|[, 0.5]"),
        (5, "5|[2.5, ]|[a, , b]|-"),
    ];
    for rows in columnar(columns, &COLUMNS) {
        assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    }
}

#[test]
fn lists_that_do_not_fit_are_refused_row_by_row() {
    let mut numbers = ListBuilder::new(UInt64Builder::new());
    let mut vectors = ListBuilder::new(Int64Builder::new());
    for n in 1..=7_u64 {
        match n {
            2 => numbers.append_value([Some(1), None, Some(u64::MAX)]),
            6 => numbers.append_value((0..=MOST_ITEMS as u64).map(Some)),
            _ => numbers.append_value([Some(n), None]),
        }
        match n {
            4 => vectors.append_value([Some(1)]),
            5 => vectors.append_null(),
            _ => vectors.append_value([Some(n as i64), None]),
        }
    }
    let columns: Vec<(&str, ArrayRef)> =
        vec![("v", Arc::new(numbers.finish())), ("e", Arc::new(vectors.finish()))];
    let declared = [("v", "list<int64>"), ("e", "vector(2)")];
    let wanted = [
        (1, "[1, ]|[1.0, ]"),
        (3, "[3, ]|[3.0, ]"),
        (5, "[5, ]|-"),
        (7, "[7, ]|[7.0, ]"),
        (2, "column v: found 18446744073709551615, wanted list<int64> (out of range, item 3)"),
        (4, "column e: found a list of 1 items, wanted vector(2)"),
        (6, "column v: found a list of more than 4096 items, wanted list<int64> of at most 4096"),
    ];
    for rows in columnar(columns, &declared) {
        assert_eq!(rows, wanted.map(|(line, row)| (line, row.to_string())));
    }
}

#[test]
fn a_column_of_another_kind_is_no_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a")]);
    let lists: ArrayRef = Arc::new(lists.finish());
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values([1]));
    let batch = RecordBatch::try_from_iter([("tags", lists), ("id", ids)]).expect("a batch");
    let path = folder.path().join("rows.parquet");
    let file = fs::File::create(&path).expect("a file");
    let mut writer =
        (format("parquet").writer)(Box::new(file), &batch.schema(), Packing::default())
            .expect("it opens");
    writer.write(&batch).expect("written");
    writer.finish().expect("ended");
    for (name, declared) in [("tags", "list<float64>"), ("tags", "string"), ("id", "list<int64>")] {
        let opened = (format("parquet").reader)(&Input::new(&path), &layout(&[(name, declared)]));
        let error = opened.err().expect("another type");
        assert!(error.to_string().contains(&format!("wanted {declared}")), "{error}");
    }
}
