//! What DataFusion has otherwise than SQL, as SQL has it.

use super::*;

/// Texts whose value no row changes.
fn constants(cases: &[(&str, Value)]) {
    for (text, wanted) in cases {
        let got = compile(text).evaluate(&rows()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(&values(&got)[0], wanted, "{text}");
    }
}

#[test]
fn distinct_from_ends_before_and_or_and_is() {
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    constants(&[
        ("true is distinct from false and false", no.clone()),
        ("true is distinct from (false and false)", yes.clone()),
        ("true is not distinct from true and false", no.clone()),
        ("false is distinct from false or true", yes.clone()),
        ("false and true is distinct from false or true", yes.clone()),
        ("false and (true is distinct from false or true)", no.clone()),
        ("not true is distinct from false and false", no.clone()),
        ("true is distinct from not true and false", no.clone()),
        // Comparisons bind closer, as does `between`, whose `and` is its own.
        ("true is distinct from 1 = 1", no.clone()),
        ("2 = 2 is distinct from 1 < 2", no.clone()),
        ("true is distinct from 2 between 1 and 3 and true", no.clone()),
        ("1 is distinct from 1 + 1 and true", yes.clone()),
        // From the left, as other systems have it.
        ("true is distinct from true is distinct from true", yes.clone()),
        ("null is distinct from 1 is null", no.clone()),
        ("case when 1 is distinct from 1 and true then 1 else 2 end = 2", yes),
        ("coalesce(1 is distinct from 1 or false, true)", no),
    ]);
}

#[test]
fn signs_bind_closer_than_powers() {
    constants(&[
        ("-2 ^ 2", float(4.0)),
        ("-(2 ^ 2)", float(-4.0)),
        ("2 ^ -1", float(0.5)),
        ("- 2 * 3 - -4", int(-2)),
        ("-9223372036854775808", int(i64::MIN)),
        ("-7::double precision / 2", float(-3.5)),
    ]);
}

/// What a text over `i`, `j`, `x`, `s` and `w` is in one row.
fn one(text: &str, i: Option<i64>, j: Option<i64>, x: f64, s: Option<&str>) -> Value {
    let names = [
        ("i", DataType::Int64),
        ("j", DataType::Int64),
        ("x", DataType::Float64),
        ("zero", DataType::Float64),
        ("s", DataType::String),
        ("w", DataType::String),
    ];
    let schema = Schema::new(names);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![i])),
        Arc::new(Int64Array::from(vec![j])),
        Arc::new(Float64Array::from(vec![x])),
        Arc::new(Float64Array::from(vec![0.0])),
        Arc::new(StringArray::from(vec![s])),
        Arc::new(StringArray::from(vec![s])),
    ];
    let scalar = Scalar::compile(text, &schema, "UTC").unwrap_or_else(|e| panic!("{text}: {e}"));
    let rows = RecordBatch::try_new(schema.to_arrow(), columns).expect("a row");
    values(&scalar.evaluate(&rows).unwrap_or_else(|e| panic!("{text}: {e}"))).remove(0)
}

#[test]
fn lists_beside_each_other_are_judged_each() {
    let (yes, no, null) = (Value::Bool(true), Value::Bool(false), Value::Null);
    for (text, wanted) in [
        // Items that are no constants.
        ("s in (w, 'zz') and s in ('a', 'abc')", &yes),
        ("s in (w, 'zz') and s not in ('b', w)", &no),
        ("i not in (j, 1, 2) or i not in (2, 3)", &no),
        ("i not in (j, 1, 2, 4, 5) or i not in (2, 3, 7, 8, 9)", &no),
        ("i in (j, 1) and i in (3, 4, 5, 6)", &yes),
        ("i in (j + 1, 1) or i in (3, 4)", &yes),
        ("i not in (j + 1, null)", &null),
        ("i in (j, null)", &yes),
        ("i not in (j, null)", &no),
        // NULL in a list, and for a column.
        ("i in (3, null) and i in (2, 1, 3, 4)", &yes),
        ("i in (2, null) and i in (3, 4, 5, 6)", &null),
        ("i not in (4, null) or i not in (3, 5)", &null),
    ] {
        assert_eq!(&one(text, Some(3), Some(3), 0.0, Some("abc")), wanted, "{text}");
    }
    for text in [
        "i in (1, 2) and i in (3, 4)",
        "i in (1, 2, 3, 4) and i in (5, 6, 7, 8)",
        "i not in (1, 2) or i not in (3, 4)",
        "i in (1, 2, 3, 4) and i not in (1, 2, 3, 4)",
        "(i = 1 or i = 2) and (i = 3 or i = 4)",
        "not (i = 1 or i = 2) or not (i = 3 or i = 4)",
        "not (i <> 1 and i <> 2) and not (i <> 3 and i <> 4)",
    ] {
        assert_eq!(one(text, None, Some(3), 0.0, None), Value::Null, "{text}");
    }
}

#[test]
fn whole_numbers_that_overflow_are_errors_of_their_rows() {
    let most = i64::MAX;
    let schema = Schema::new([("i", DataType::Int64), ("b", DataType::Bool)]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(most), Some(1), Some(i64::MIN), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, None])),
    ];
    let rows = RecordBatch::try_new(schema.to_arrow(), columns).expect("rows");
    for (text, wanted, failing) in [
        ("i + 1", [None, Some(2), Some(i64::MIN + 1), None], vec![0]),
        ("2 - i", [Some(2 - most), Some(1), None, None], vec![2]),
        ("i * i * i", [None, Some(1), None, None], vec![0, 2]),
        ("-i", [Some(-most), Some(-1), None, None], vec![2]),
        ("abs(i)", [Some(most), Some(1), None, None], vec![2]),
        ("abs(i + 1 - 2)", [None, Some(0), None, None], vec![0, 2]),
        ("coalesce(i * 4611686018427387904, 0)", [None, Some(1 << 62), None, Some(0)], vec![0, 2]),
        // Of constants, and where no row comes to it.
        ("9223372036854775807 + 1", [None; 4], vec![0, 1, 2, 3]),
        ("-(-9223372036854775807 - 1)", [None; 4], vec![0, 1, 2, 3]),
        ("9223372036854775807 * (1 + 1)", [None; 4], vec![0, 1, 2, 3]),
        (
            "case when i = 1 then i + 9223372036854775806 else 0 end",
            [Some(0), Some(most), Some(0), Some(0)],
            vec![],
        ),
        (
            "case when b then 9223372036854775807 + 1 else 7 end",
            [None, Some(7), Some(7), Some(7)],
            vec![0],
        ),
        ("9223372036854775806 + 1", [Some(most); 4], vec![]),
    ] {
        let scalar =
            Scalar::compile(text, &schema, "UTC").unwrap_or_else(|e| panic!("{text}: {e}"));
        let (array, failed) = scalar.evaluate_rows(&rows);
        let wanted = wanted.map(|i| i.map_or(Value::Null, Value::Int));
        assert_eq!(values(&array), wanted, "{text}");
        assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), failing, "{text}");
        assert!(failed.iter().all(|(_, reason)| reason.contains("verflow")), "{text}: {failed:?}");
    }
    assert_eq!(compile("9223372036854775806 + 1").literal(), Some(&int(most)));
    // A long sum is typed and evaluated as fast as it is read.
    let long = vec!["i"; 400].join(" + ");
    assert_eq!(values(&compile(&long).evaluate(&super::rows()).expect("a sum"))[0], int(2800));
}

#[test]
fn a_duration_is_taken_in_seconds() {
    constants(&[
        ("date_part('epoch', t - (t - seconds(1000.75)))", float(1000.75)),
        ("date_part('EPOCH', t - (t - seconds(2147483648)))", float(2_147_483_648.0)),
        ("extract(epoch from t - (t - minutes(90)))", float(5_400.0)),
        ("date_part('epoch', t)", float(1_357_034_400.0)),
        ("date_part('minute', t)", int(0)),
    ]);
    for text in
        ["date_part('minute', t - (t - minutes(90)))", "extract(day from t - (t - days(1)))"]
    {
        let error = Scalar::compile(text, &schema(), "UTC").expect_err(text);
        assert!(error.message.contains("a duration has no part"), "{text}: {error}");
        assert!(error.help.contains("epoch"), "{text}: {error}");
    }
}

#[test]
fn a_zero_with_a_sign_is_zero() {
    let (yes, no, null) = (Value::Bool(true), Value::Bool(false), Value::Null);
    for (text, wanted) in [
        ("round(x) = 0", &yes),
        ("1 / nullif(round(x), 0)", &null),
        ("nullif(round(x), zero)", &null),
        ("nullif(zero, round(x))", &null),
        ("nullif(0.0, round(x))", &null),
        ("nullif(-0.0, 0)", &null),
        ("nullif(x, 0)", &float(-0.4)),
        ("nullif(x, null)", &float(-0.4)),
        ("nullif(cast(round(x) as real), 0)", &null),
        ("nullif(i, 0.5)", &float(3.0)),
        ("nullif(i, 3)", &null),
        ("nullif(s, 'abc')", &null),
        ("case round(x) when 0 then 1 else 2 end = 1", &yes),
        ("case 0.0 when round(x) then 1 else 2 end = 1", &yes),
        ("case i when 3 then 1 else 2 end = 1", &yes),
        ("round(x) in (zero, 5)", &yes),
        ("round(x) not in (zero, 5, 6, 7)", &no),
        ("round(x) in (0, 1, 2, 3, 4, 5)", &yes),
        ("round(x) in (7, 1, 2, 3, 4, 5)", &no),
        ("round(x) in (0.0, 1.5, 2.5, 3.5, 4.5)", &yes),
        ("round(x) not in (-0.0, 1.5, 2.5, 3.5, 4.5)", &no),
        ("zero in (1.5, 0)", &yes),
        ("zero in (1, 2, 3, 4, -0.0)", &yes),
    ] {
        assert_eq!(&one(text, Some(3), Some(3), -0.4, Some("abc")), wanted, "{text}");
    }
}

#[test]
fn a_ratio_of_lists_is_refused_by_its_name() {
    let found = feature("1 + ratio(x, i) over w").expect("a feature");
    for data_type in [DataType::List(Item::Float64), DataType::Map(Item::Int64)] {
        let error = found.clone().finish(&schema(), &[data_type; 2]).expect_err("lists");
        assert!(error.message.contains("`ratio`"), "{error}");
        assert!(error.reason.contains("`w`") && error.help.contains("series"), "{error}");
        assert_eq!(error.span.map(|span| span.start), Some(4));
    }
    assert!(found.finish(&schema(), &[DataType::Float64, DataType::Int64]).is_ok());
}

#[test]
fn parts_and_patterns_of_texts_are_those_of_sql() {
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    constants(&[
        ("substr(s, 2)", text("WR")),
        ("SUBSTRING(s, 1, 2)", text("EW")),
        ("substring(s from 2 for 1)", text("W")),
        ("substring(s for 2)", text("EW")),
        ("substr('äöü', 2, 1)", text("ö")),
        ("'abc' similar to 'a%'", yes.clone()),
        ("'abc' similar to 'b'", no.clone()),
        ("'abc' similar to '(a|b)_c'", yes.clone()),
        ("'abc' not similar to '%(b|d)%'", no.clone()),
        ("'a.c' similar to 'a.c'", yes.clone()),
        ("'abc' similar to 'a.c'", no.clone()),
        ("'a%' similar to 'a\\%'", yes.clone()),
        ("'ab' similar to 'a\\%'", no.clone()),
        ("'ab' similar to '[^b-z]{1}[%b]'", yes.clone()),
        ("substr(s, 2) similar to 'W_'", yes),
        ("'x' similar to null and false", no),
    ]);
    let error = Scalar::compile("s similar to s", &schema(), "UTC").expect_err("a column");
    assert!(error.message.contains("similar to"), "{error}");
}

/// A part that is not known would be an error of every row.
#[test]
fn parts_of_times_are_known_or_refused() {
    for part in [
        "year",
        "isoyear",
        "quarter",
        "month",
        "week",
        "day",
        "doy",
        "dow",
        "isodow",
        "hour",
        "minute",
        "second",
        "millisecond",
        "microsecond",
        "nanosecond",
        "epoch",
        "YEARS",
    ] {
        let text = format!("date_part('{part}', t)");
        assert!(compile(&text).evaluate(&super::rows()).is_ok(), "{text}");
        assert!(compile(&format!("extract({part} from t)")).evaluate(&super::rows()).is_ok());
    }
    for part in [
        "year",
        "quarter",
        "month",
        "week",
        "day",
        "hour",
        "minute",
        "second",
        "millisecond",
        "microsecond",
    ] {
        let text = format!("date_trunc('{part}', t)");
        assert!(compile(&text).evaluate(&super::rows()).is_ok(), "{text}");
    }
    constants(&[("date_part('year', t) / 10", int(201))]);
    for (text, message, known) in [
        ("date_part('decade', t)", "date_part knows no `decade`", "epoch"),
        ("extract(century from t)", "date_part knows no `century`", "isodow"),
        ("datepart('fortnight', local(t, 'Europe/Berlin'))", "knows no `fortnight`", "doy"),
        ("date_trunc('decade', t)", "date_trunc knows no `decade`", "quarter"),
        ("date_trunc('dow', t)", "date_trunc knows no `dow`", "week"),
        ("date_trunc(s, t)", "takes a part that is a constant, and `s` is none", "week"),
    ] {
        let error = Scalar::compile(text, &schema(), "UTC").expect_err(text);
        assert!(error.message.contains(message), "{text}: {error}");
        assert!(error.reason.contains(known), "{text}: {error}");
    }
}

/// DataFusion's ends in 2262.
#[test]
fn a_time_is_made_of_seconds_whatever_the_century() {
    let second = 1_000_000;
    constants(&[
        ("to_timestamp(12345678901)", int(12_345_678_901 * second)),
        ("to_timestamp(-62135596800)", int(-62_135_596_800 * second)),
        ("to_timestamp(1357034400.25)", int(1_357_034_400_250_000)),
        ("to_timestamp(i)", int(7 * second)),
        ("to_timestamp(x)", int(1_500_000)),
        ("to_timestamp(t)", int(1_357_034_400 * second)),
        ("to_timestamp(t) = t", Value::Bool(true)),
        ("to_timestamp('2013-01-01T10:00:00Z') = t", Value::Bool(true)),
        ("to_timestamp('2013-01-01T12:00:00+02:00') = t", Value::Bool(true)),
        ("to_timestamp('01/01/2013 10:00', '%d/%m/%Y %H:%M') = t", Value::Bool(true)),
        ("date_part('year', to_timestamp('2500-06-01'))", int(2500)),
        ("date_part('year', to_timestamp(12345678901))", int(2361)),
        ("to_timestamp(null)", Value::Null),
    ]);
    let (array, failed) = compile("to_timestamp(x * 1e300)").evaluate_rows(&super::rows());
    assert_eq!(values(&array), [Value::Null, Value::Null, Value::Null]);
    assert!(failed.len() == 2 && failed[0].1.contains("the time is out of range"), "{failed:?}");
    for text in ["to_timestamp(b)", "to_timestamp(i, 'x')", "to_timestamp()"] {
        let error = Scalar::compile(text, &schema(), "UTC").expect_err(text);
        assert!(error.to_string().contains("to_timestamp"), "{text}: {error}");
    }
}

/// A `timestamp` of DataFusion, and what it compares one with, ends in 2262 too.
#[test]
fn times_go_on_beyond_2262() {
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    let second = 1_000_000;
    let far = "cast('2500-01-01' as timestamp)";
    let days = |from: &str| format!("date_part('epoch', {far} - {from}) / 86400");
    constants(&[
        (far, int(16_725_225_600 * second)),
        ("timestamp '2500-01-01 06:00:00'", int((16_725_225_600 + 6 * 3_600) * second)),
        ("'2500-01-01'::timestamp with time zone", int(16_725_225_600 * second)),
        ("cast('1500-01-01T00:00:00Z' as timestamp)", int(-14_831_769_600 * second)),
        ("cast('2500-01-01 00:00:00.123456789' as timestamp(9))", int(16_725_225_600_123_456)),
        ("try_cast('2500-01-01' as timestamp)", int(16_725_225_600 * second)),
        ("cast('2500-01-01' as date)::timestamp", int(16_725_225_600 * second)),
        ("cast(12345678901 as timestamp)", int(12_345_678_901 * second)),
        ("cast(i as timestamp)", int(7 * second)),
        // As ever: other numbers count nanoseconds.
        ("cast(x * 2000 as timestamp)", int(3)),
        (&format!("date_part('year', {far})"), int(2500)),
        (&format!("date_part('year', {far} + interval '100 years')"), int(2600)),
        (&format!("date_trunc('month', {far} + interval '40 days')"), int(16_727_904_000 * second)),
        (&format!("date_trunc('week', {far})"), int((16_725_225_600 - 4 * 86_400) * second)),
        (&format!("datetrunc('quarter', t + ({far} - t)) = {far}"), yes.clone()),
        ("date_trunc('year', t + interval '700 years') = '2713-01-01'", yes.clone()),
        ("date_trunc('day', t - interval '700 years') = '1313-01-01'", yes.clone()),
        ("date_trunc('month', t) = '2013-01-01'", yes.clone()),
        ("date_part('year', '2500-06-01')", int(2500)),
        ("date_trunc('year', '2500-06-01') = cast('2500-01-01' as timestamp)", yes.clone()),
        (&days("cast('2499-12-31' as timestamp)"), float(1.0)),
        (&days("cast('2499-12-31' as date)"), float(1.0)),
        (&format!("date_part('epoch', {far} - t)"), float(15_368_191_200.0)),
        // Texts and dates are compared as times.
        ("t < '2500-01-01'", yes.clone()),
        ("t >= cast('2500-01-01' as date)", no.clone()),
        (&format!("{far} > '2013-01-01'"), yes.clone()),
        (&format!("{far} = cast('2500-01-01' as date)"), yes.clone()),
        (&format!("{far} between '2499-01-01' and cast('2501-01-01' as date)"), yes.clone()),
        (&format!("{far} in ('2500-01-01', '2013-01-01')"), yes.clone()),
        (&format!("{far} is distinct from cast('2500-01-01' as date)"), no.clone()),
        (
            &format!("case when b then {far} else cast('2013-01-01' as date) end > '2400-01-01'"),
            yes,
        ),
        (
            &format!("case when b then cast('2500-01-01' as date) else t end = {far}"),
            Value::Bool(true),
        ),
        (&format!("case cast('2500-01-01' as date) when {far} then 1 else 2 end"), int(1)),
        (
            &format!("case when b then {far} else cast('2013-01-01' as date) end"),
            int(16_725_225_600 * second),
        ),
    ]);
    let (array, failed) = compile("cast(s as timestamp)").evaluate_rows(&super::rows());
    assert_eq!(values(&array), [Value::Null, Value::Null, Value::Null]);
    assert_eq!(failed.len(), 2, "{failed:?}");
}

/// What failed is told without the names of the libraries that it came through.
#[test]
fn reasons_name_no_layers() {
    for (text, told) in [
        ("1 / j", "Divide by zero"),
        ("i * 9223372036854775807", "Overflow happened on"),
        ("cast(s as bigint)", "Cannot cast string 'EWR'"),
        ("cast(s as timestamp)", "'EWR'"),
        ("to_timestamp(x * 1e300)", "the time is out of range"),
        ("cast(x * 1e300 as bigint)", "1.5e300"),
    ] {
        let (_, failed) = compile(text).evaluate_rows(&super::rows());
        let reason = &failed.first().unwrap_or_else(|| panic!("{text} is no error")).1;
        assert!(reason.contains(told), "{text}: {reason}");
        for layer in ["Arrow error", "Execution error", "Cast error", "Parser error"] {
            assert!(!reason.contains(layer), "{text}: {reason}");
        }
    }
}

#[test]
fn a_remainder_and_a_sign_go_by_their_names_too() {
    constants(&[
        ("mod(i, 4)", int(3)),
        ("mod(-7, 4)", int(-3)),
        ("mod(i, 2.5)", float(2.0)),
        ("mod(x, 1)", float(0.5)),
        ("mod(null, i)", Value::Null),
        ("sign(-2.5)", float(-1.0)),
        ("sign(i)", float(1.0)),
        ("sign(0)", float(0.0)),
    ]);
    // The second row divides by zero.
    let (array, failed) = compile("mod(i, j)").evaluate_rows(&super::rows());
    assert_eq!(values(&array), [int(1), Value::Null, Value::Null]);
    assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
    let error = Scalar::compile("mod(s, 2)", &schema(), "UTC").expect_err("a text");
    assert!(error.reason.contains("mod takes numbers"), "{error}");
    let error = Scalar::compile("md5(s)", &schema(), "UTC").expect_err("none");
    assert!(error.help.contains("tidemill reference functions"), "{error}");
}

#[test]
fn every_function_is_listed_once() {
    let listed = tidemill_operators::expression::listed_functions();
    let names = listed.iter().flat_map(|(name, others)| std::iter::once(name).chain(others));
    let mut names: Vec<&str> = names.copied().collect();
    names.sort_unstable();
    assert_eq!(names, tidemill_operators::expression::functions().collect::<Vec<_>>());
    let others = |name: &str| listed.iter().find(|(own, _)| *own == name).map(|(_, o)| o.clone());
    assert_eq!(others("signum"), Some(vec!["sign"]));
    assert_eq!(others("power"), Some(vec!["pow"]));
    assert_eq!(others("mod"), Some(vec![]));
}
