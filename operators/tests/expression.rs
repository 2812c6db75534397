//! The feature language: values, types and errors of single expressions.

#[path = "expression/sql.rs"]
mod sql;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use tidemill_operators::aggregate::Unnest;
use tidemill_operators::column::{Builder, values};
use tidemill_operators::expression::{Scalar, parse_feature};
use tidemill_types::{DataType, Item, Schema, Value};

fn schema() -> Schema {
    Schema::new([
        ("i", DataType::Int64),
        ("j", DataType::Int64),
        ("x", DataType::Float64),
        ("s", DataType::String),
        ("b", DataType::Bool),
        ("t", DataType::Timestamp),
        ("arrDelay", DataType::Int64),
        ("v", DataType::List(Item::Float64)),
        ("tags", DataType::List(Item::String)),
        ("m", DataType::Map(Item::Float64)),
    ])
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::map(entries.iter().map(|(key, value)| (Arc::from(*key), value.clone())))
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    items.into_iter().collect()
}

fn nested(data_type: DataType, rows: [Value; 3]) -> ArrayRef {
    let mut builder = Builder::new(data_type, rows.len());
    rows.iter().for_each(|row| builder.push(row));
    builder.finish()
}

/// Three rows; the last one is NULL throughout.
fn rows() -> RecordBatch {
    let time = TimestampMicrosecondArray::from(vec![Some(1_357_034_400_000_000), Some(0), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(7), Some(-3), None])),
        Arc::new(Int64Array::from(vec![Some(2), Some(0), None])),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(4.0), None])),
        Arc::new(StringArray::from(vec![Some("EWR"), Some("jfk"), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(time.with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![Some(20), Some(10), None])),
        nested(
            DataType::List(Item::Float64),
            [list([float(1.0), Value::Null, float(3.0)]), list([]), Value::Null],
        ),
        nested(
            DataType::List(Item::String),
            [list(["a", "b"].map(text)), list([text("b")]), Value::Null],
        ),
        nested(
            DataType::Map(Item::Float64),
            [
                map(&[("a", float(1.5)), ("B", float(2.0)), ("n", Value::Null)]),
                map(&[]),
                Value::Null,
            ],
        ),
    ];
    RecordBatch::try_new(schema().to_arrow(), columns).expect("rows")
}

fn compile(text: &str) -> Scalar {
    Scalar::compile(text, &schema(), "UTC").unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn int(i: i64) -> Value {
    Value::Int(i)
}

fn float(f: f64) -> Value {
    Value::Float(f)
}

fn text(s: &str) -> Value {
    Value::Text(s.into())
}

#[test]
fn expressions_have_the_values_that_sql_gives_them() {
    use DataType::{Bool, Float64, Int64, String, Timestamp};
    let null = Value::Null;
    let hour = 3_600_000_000;
    let cases = [
        ("i + j", Int64, [int(9), int(-3), null.clone()]),
        ("i * 2 - 1", Int64, [int(13), int(-7), null.clone()]),
        ("i / 2", Int64, [int(3), int(-1), null.clone()]),
        ("i % 4", Int64, [int(3), int(-3), null.clone()]),
        ("i / 2.0", Float64, [float(3.5), float(-1.5), null.clone()]),
        ("x * i", Float64, [float(10.5), float(-12.0), null.clone()]),
        ("-x", Float64, [float(-1.5), float(-4.0), null.clone()]),
        ("abs(i)", Int64, [int(7), int(3), null.clone()]),
        ("sqrt(x * x)", Float64, [float(1.5), float(4.0), null.clone()]),
        ("greatest(i, j)", Int64, [int(7), int(0), null.clone()]),
        ("nullif(j, 0)", Int64, [int(2), null.clone(), null.clone()]),
        ("i / nullif(j, 0)", Int64, [int(3), null.clone(), null.clone()]),
        ("coalesce(x, 0)", Float64, [float(1.5), float(4.0), float(0.0)]),
        ("i > 0", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("i is null", Bool, [Value::Bool(false), Value::Bool(false), Value::Bool(true)]),
        ("b and i > 0", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("s in ('EWR', 'LGA')", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("i between 5 and 9", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("s like 'E%'", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("lower(s)", String, [text("ewr"), text("jfk"), null.clone()]),
        ("s || '-' || i", String, [text("EWR-7"), text("jfk--3"), null.clone()]),
        ("case when i > 0 then 1 else 0 end", Int64, [int(1), int(0), int(0)]),
        ("cast(x as bigint)", Int64, [int(1), int(4), null.clone()]),
        ("i::double precision", Float64, [float(7.0), float(-3.0), null.clone()]),
        ("arrDelay > 15", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        ("\"arrDelay\" + 1", Int64, [int(21), int(11), null.clone()]),
        ("t + hours(1)", Timestamp, [int(1_357_034_400_000_000 + hour), int(hour), null.clone()]),
        ("t + minutes(j)", Timestamp, [int(1_357_034_520_000_000), int(0), null.clone()]),
        ("date_part('hour', t)", Int64, [int(10), int(0), null.clone()]),
        ("extract(year from t)", Int64, [int(2013), int(1970), null.clone()]),
        ("epoch(t)", Float64, [float(1_357_034_400.0), float(0.0), null.clone()]),
        ("1 + 1", Int64, [int(2), int(2), int(2)]),
    ];
    for (text, data_type, wanted) in cases {
        let scalar = compile(text);
        assert_eq!(scalar.data_type(), data_type, "{text}");
        let array = scalar.evaluate(&rows()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(values(&array), wanted, "{text}");
        // Batches of one row give the same as all at once.
        for (row, value) in wanted.iter().enumerate() {
            let alone = scalar.evaluate(&rows().slice(row, 1)).expect("one row");
            assert_eq!(&values(&alone)[0], value, "{text}, row {row} alone");
        }
        assert_eq!(values(&scalar.evaluate(&rows().slice(0, 0)).expect("none")), [], "{text}");
    }
}

#[test]
fn columns_and_literals_are_known() {
    assert_eq!(compile("i + x").columns(), [0, 2]);
    assert_eq!(compile("2 * 3").literal(), Some(&int(6)));
    assert_eq!(compile("i").literal(), None);
}

#[test]
fn a_row_that_fails_is_named_and_the_others_stand() {
    let scalar = compile("i / j");
    assert!(scalar.evaluate(&rows()).is_err());
    let (array, failed) = scalar.evaluate_rows(&rows());
    assert_eq!(values(&array), [int(3), Value::Null, Value::Null]);
    assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_is_no_expression_is_refused_with_a_cure() {
    for (text, part) in [
        ("", "empty"),
        ("   ", "empty"),
        ("i +", ""),
        ("i i", ""),
        ("(i", ""),
        ("'open", ""),
        ("select i from t", "begins a statement"),
        ("arrdelay", "arrDelay"),
        ("amuont", "no column"),
        ("foo(i)", "no function `foo`"),
        ("random()", "not allowed"),
        ("now()", "not allowed"),
        ("s + 1 > b", ""),
        ("t - t", ""),
        ("hours(1)", ""),
    ] {
        let error = Scalar::compile(text, &schema(), "UTC").expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(!error.message.is_empty() && !error.help.is_empty(), "{text}: {error:?}");
        if let Some(span) = &error.span {
            assert!(text.get(span.clone()).is_some(), "{text}: {span:?}");
        }
    }
}

fn feature(text: &str) -> Result<tidemill_operators::expression::Feature, String> {
    let windows = |name: &str| (name == "w").then(schema);
    parse_feature(text, &schema(), &windows, &["w"], "UTC").map_err(|e| e.to_string())
}

#[test]
fn calls_are_cut_out_and_come_back_as_columns() {
    let found =
        feature("coalesce(avg(x) over w, 0) / nullif(count(*) filter (where i > 0) over w, 0) + i")
            .expect("a feature");
    assert_eq!(found.calls.len(), 2);
    assert_eq!(found.calls[0].function, "avg");
    assert_eq!(found.calls[0].argument.as_ref().map(ToString::to_string).as_deref(), Some("x"));
    assert!(found.calls[1].argument.is_none() && found.calls[1].filter.is_some());
    assert_eq!(found.calls[1].window, "w");
    let scalar = found.finish(&schema(), &[DataType::Float64, DataType::Int64]).expect("typed");
    assert_eq!(scalar.data_type(), DataType::Float64);
    let found = feature("quantile(x, 0.5 + 0.4) over w - quantile(x, 0.9) over w").expect("two");
    assert_eq!(found.calls[0].constants, [float(0.9)]);
    let found = feature("sum(x) over w / (1 + sum(x) over w)").expect("equal calls are one");
    assert_eq!(found.calls.len(), 1);
    let found = feature("count(distinct s) over (w)").expect("with parentheses");
    assert!(found.calls[0].distinct);
}

#[test]
fn conditions_and_ratios_are_spelled_in_short() {
    let filter = |text: &str| {
        let found = feature(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let [call] = found.calls.as_slice() else { panic!("{text}: {:?}", found.calls) };
        let said = |scalar: &Option<Scalar>| scalar.as_ref().map(ToString::to_string);
        (call.function.clone(), said(&call.argument), said(&call.second), said(&call.filter))
    };
    let some = |text: &str| Some(text.to_string());
    assert_eq!(filter("sum_if(x, i > 3) over w"), ("sum".into(), some("x"), None, some("i > 3")));
    assert_eq!(filter("AVG_WHERE(x, b) over w"), ("avg".into(), some("x"), None, some("b")));
    assert_eq!(filter("count_if(b) over w"), ("count".into(), None, None, some("b")));
    assert_eq!(
        filter("sum_cate_where(x, i > 3, s) over w"),
        ("sum_cate".into(), some("x"), some("s"), some("i > 3"))
    );
    let found = feature("top_n_key_sum_cate_where(x, b, s, 2) over w").expect("a feature");
    assert_eq!(found.calls[0].constants, [Value::Int(2)]);
    let found = feature("1 - ratio(x, i) filter (where b) over w").expect("a feature");
    let sums: Vec<Option<String>> =
        found.calls.iter().map(|c| c.argument.as_ref().map(ToString::to_string)).collect();
    assert_eq!(sums, [some("x"), some("i")]);
    assert!(found.calls.iter().all(|call| call.function == "sum" && call.filter.is_some()));
    let scalar = found.finish(&schema(), &[DataType::Float64, DataType::Int64]).expect("typed");
    assert_eq!(scalar.data_type(), DataType::Float64);
    for (text, part) in [
        ("sum_if(x, b) filter (where b) over w", "two conditions"),
        ("sum_if(x, i) over w", "no condition"),
        ("count_if(*) over w", "no condition"),
        ("ratio(x) over w", "two columns"),
        ("lower_if(s, b) over w", "no aggregate `lower_if`"),
    ] {
        let error = feature(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_feature_may_be_a_list_or_a_map() {
    let found = feature("last_k(i, 3) over w").expect("a feature");
    let list = DataType::List(tidemill_types::Item::Int64);
    let scalar = found.finish(&schema(), &[list]).expect("typed");
    assert_eq!(scalar.data_type(), list);
    let found = feature("case when i > 0 then histogram(s) over w end").expect("a feature");
    let map = DataType::Map(tidemill_types::Item::Int64);
    assert_eq!(found.finish(&schema(), &[map]).expect("typed").data_type(), map);
}

#[test]
fn calls_over_items_name_the_list() {
    for (text, unnest) in [
        ("sum(v) over w", Unnest::No),
        ("sum(unnest(v)) over w", Unnest::First),
        ("count(distinct UNNEST(tags)) filter (where cardinality(tags) > 2) over w", Unnest::First),
        ("sum_if(unnest(v), b) over w", Unnest::First),
        ("sum_per(x, unnest(tags)) over w", Unnest::Second),
        ("sum_cate_where(x, b, unnest(tags)) over w", Unnest::Second),
    ] {
        let found = feature(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let call = &found.calls[0];
        assert_eq!(call.unnest, unnest, "{text}");
        let of = if unnest == Unnest::Second { &call.second } else { &call.argument };
        let of = of.as_ref().expect("an argument");
        assert!(of.data_type().is_nested(), "{text}");
    }
    let two = feature("sum(unnest(v)) over w + sum(unnest(v)) over w").expect("a feature");
    assert_eq!(two.calls.len(), 1);
}

#[test]
fn expressions_read_lists() {
    use DataType::{Bool, Float64, Int64, List, String};
    let null = Value::Null;
    let v = list([float(1.0), null.clone(), float(3.0)]);
    let cases = [
        ("array_length(tags)", Int64, [int(2), int(1), null.clone()]),
        ("tags[1]", String, [text("a"), text("b"), null.clone()]),
        ("tags[2]", String, [text("b"), null.clone(), null.clone()]),
        ("array_has(tags, 'a')", Bool, [Value::Bool(true), Value::Bool(false), null.clone()]),
        (
            "array_has_any(tags, ['a', 'c'])",
            Bool,
            [Value::Bool(true), Value::Bool(false), null.clone()],
        ),
        ("array_max(v)", Float64, [float(3.0), null.clone(), null.clone()]),
        ("inner_product([3.0, 4.0], [x, x])", Float64, [float(10.5), float(28.0), null.clone()]),
        ("array_to_string(tags, '+')", String, [text("a+b"), text("b"), null.clone()]),
        ("v", List(Item::Float64), [v.clone(), list([]), null.clone()]),
        ("case when b then v end", List(Item::Float64), [v, null.clone(), null.clone()]),
        (
            "[i, j]",
            List(Item::Int64),
            [list([int(7), int(2)]), list([int(-3), int(0)]), list([null.clone(), null.clone()])],
        ),
    ];
    for (text, data_type, wanted) in cases {
        let scalar = compile(text);
        assert_eq!(scalar.data_type(), data_type, "{text}");
        let got = scalar.evaluate(&rows()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(*got.data_type(), data_type.to_arrow(), "{text}");
        assert_eq!(values(&got), wanted, "{text}");
    }
    for text in ["array_repeat(1, 1000000)", "string_to_array(s, ',')", "range(0, 1000000)"] {
        assert!(Scalar::compile(text, &schema(), "UTC").is_err(), "{text}");
    }
}

#[test]
fn expressions_read_maps() {
    use DataType::{Bool, Float64, Int64, List, Map, String};
    let null = Value::Null;
    let m = map(&[("a", float(1.5)), ("B", float(2.0)), ("n", Value::Null)]);
    let cases = [
        ("m['a']", Float64, [float(1.5), null.clone(), null.clone()]),
        ("m['n']", Float64, [null.clone(), null.clone(), null.clone()]),
        ("coalesce(m['B'], 0) + x", Float64, [float(3.5), float(4.0), null.clone()]),
        (
            "m[case when i > 0 then 'a' else s end]",
            Float64,
            [float(1.5), null.clone(), null.clone()],
        ),
        ("cardinality(m)", Int64, [int(3), int(0), null.clone()]),
        (
            "map_keys(m)",
            List(Item::String),
            [list(["B", "a", "n"].map(text)), list([]), null.clone()],
        ),
        (
            "map_values(m)",
            List(Item::Float64),
            [list([float(2.0), float(1.5), null.clone()]), list([]), null.clone()],
        ),
        (
            "array_has(map_keys(m), 'a')",
            Bool,
            [Value::Bool(true), Value::Bool(false), null.clone()],
        ),
        ("m", Map(Item::Float64), [m.clone(), map(&[]), null.clone()]),
        ("case when b then m end", Map(Item::Float64), [m, null.clone(), null.clone()]),
        ("array_to_string(map_keys(m), '+')", String, [text("B+a+n"), text(""), null.clone()]),
    ];
    for (text, data_type, wanted) in cases {
        let scalar = compile(text);
        assert_eq!(scalar.data_type(), data_type, "{text}");
        let got = scalar.evaluate(&rows()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(*got.data_type(), data_type.to_arrow(), "{text}");
        assert_eq!(values(&got), wanted, "{text}");
    }
    for text in [
        "m[1]",
        "m['a':'b']",
        "map_entries(m)",
        "map {'a': 1}",
        "map(['a', 'a'], [1, 2])",
        "get_field(m, 'a')",
        "v['a']",
    ] {
        assert!(Scalar::compile(text, &schema(), "UTC").is_err(), "{text}");
    }
}

#[test]
fn calls_that_mean_nothing_are_refused() {
    for (text, part) in [
        ("avg(x) over v", "no window `v`"),
        ("avg(x) over (partition by s)", "a window is named"),
        ("avgg(x) over w", "did you mean `avg`"),
        ("lower(s) over w", "no aggregate `lower`"),
        ("sum(avg(x) over w) over w", "inside another"),
        ("corr(x, i, x) over w", "only the first two arguments"),
        ("count(*) filter (where i) over w", "FILTER"),
        ("sum(y) over w", "no column `y`"),
        ("unnest(tags)", "stands alone"),
        ("sum(unnest(v) + 1) over w", "stands alone"),
        ("sum(unnest(v, v)) over w", "unnest takes one list"),
        ("corr(unnest(v), unnest(v)) over w", "only one of the first two"),
        ("(select 1)", "subqueries"),
    ] {
        let error = feature(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
    let bare = feature("avg(x)").expect("read").finish(&schema(), &[]).expect_err("no window");
    assert!(bare.to_string().contains("needs a window"), "{bare}");
}

/// No text may make the compiler panic.
#[test]
fn bent_texts_are_refused_or_compiled() {
    let mut state = 7u64;
    let mut next = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let words = [
        "i", "x", "s", "b", "t", "(", ")", "+", "-", "*", "/", "%", "||", "avg", "over", "w",
        "case", "when", "then", "end", "null", "not", "and", "in", "1", "0.5", "'a'", ",", "cast",
        "as", "bigint", "hours", "is", "::", "filter", "where", "count", "distinct", "\"", "$1",
        ";",
    ];
    for _ in 0..5_000 {
        let text: Vec<&str> = (0..1 + next(9)).map(|_| words[next(words.len())]).collect();
        let text = text.join(" ");
        if let Ok(feature) = feature(&text) {
            let types = vec![DataType::Float64; feature.calls.len()];
            let _ = feature.finish(&schema(), &types);
        }
    }
}
