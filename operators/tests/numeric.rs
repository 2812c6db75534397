//! What the laws of the list cannot see of numeric aggregates: digits far from zero, long decays, refusals.

use std::sync::Arc;

use tidemill_config::plan::{Edge, Frame};
use tidemill_operators::aggregate::{self, Aggregate, Call, Unnest};
use tidemill_operators::window::{Group, Output, Store};
use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Id, Key, Micros, Value};

const FLOAT: Option<DataType> = Some(DataType::Float64);

fn build(
    name: &str,
    second: Option<DataType>,
    constants: &[Value],
) -> Result<Box<dyn Aggregate>, String> {
    aggregate::build(&Call {
        name,
        distinct: false,
        input: FLOAT,
        second,
        constants,
        unnest: Unnest::No,
    })
}

fn half_life(text: &str) -> [Value; 1] {
    [Value::Text(text.into())]
}

/// Over two columns of all rows.
fn store(aggregate: Box<dyn Aggregate>) -> Store {
    let (column, second, filter) = (Some(0), Some(1), None);
    let aggregate = Arc::from(aggregate);
    let output =
        Output { frame: Frame::Lifetime, edge: Edge::default(), column, second, filter, aggregate };
    Store::new(Group { own_stream: false, outputs: vec![output] })
}

fn insert(store: &mut Store, time: Micros, y: f64, x: f64) {
    store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Float(y), Value::Float(x)]);
}

fn read(store: &mut Store, time: Micros) -> Option<f64> {
    let mut out = Vec::new();
    store.read(Some(Key::GLOBAL), time, &Id::Int(0), &mut out);
    out[0].as_f64()
}

/// A line a billion from zero: textbook sums lose all digits here.
#[test]
fn lines_far_from_zero_keep_their_digits() {
    for (name, want) in [
        ("corr", -1.0),
        ("regr_slope", -0.5),
        ("regr_intercept", 3e9),
        ("regr_r2", 1.0),
        ("covar_pop", -1.0),
        ("covar_samp", -1.25),
        ("regr_sxx", 10.0),
        ("skewness", 0.0),
        ("kurtosis_pop", -1.3),
        ("slope_over_time", -500_000.0),
    ] {
        let second = FLOAT.filter(|_| name.starts_with("co") || name.starts_with("re"));
        let mut store = store(build(name, second, &[]).expect(name));
        for i in 0..5 {
            let x = 1e9 + i as f64;
            insert(&mut store, i, 3e9 - 0.5 * x, x);
        }
        assert_eq!(read(&mut store, 9), Some(want), "{name}");
    }
}

#[test]
fn a_decay_over_long_times_is_its_definition() {
    let half_lives = 1_000;
    let value = |i: i64| 1.0 + (i * i % 97) as f64 / 7.0;
    for name in ["decayed_sum", "decayed_count", "decayed_avg"] {
        let mut store = store(build(name, None, &half_life("10s")).expect(name));
        for i in 0..half_lives * 4 {
            insert(&mut store, i * 2_500_000, value(i), 0.0);
            if i % 50 != 0 {
                continue;
            }
            let now = i * 2_500_000 + 1_234_567;
            let weight = |j: i64| ((j * 2_500_000 - now) as f64 / 1e7).exp2();
            let weights: f64 = (0..=i).map(weight).sum();
            let sum: f64 = (0..=i).map(|j| weight(j) * value(j)).sum();
            let want = match name {
                "decayed_sum" => sum,
                "decayed_count" => weights,
                _ => sum / weights,
            };
            let got = read(&mut store, now).expect("a number");
            assert!((got / want - 1.0).abs() < 1e-13, "{name} after {i}: {got}, not {want}");
        }
        let bytes = store.size().2;
        assert!(bytes < 500_000, "{name}: {bytes} bytes");
    }
}

/// All of the last 128 half-lives count, and nothing older than 192.
#[test]
fn a_decay_forgets_what_weighs_nothing() {
    for age in [0, 1, 100, 127, 128, 192, 193, 500, 5_000] {
        let mut store = store(build("decayed_count", None, &half_life("1s")).expect("built"));
        insert(&mut store, 0, 1.0, 0.0);
        let count = read(&mut store, age * SECOND).expect("a count");
        let whole = (-(age as f64)).exp2();
        if age <= 128 {
            assert_eq!(count, whole, "{age}");
        } else if age > 192 {
            assert_eq!(count, 0.0, "{age}");
        }
    }
    // Sums of what is forgotten are those of no rows.
    let mut store = store(build("decayed_sum", None, &half_life("1s")).expect("built"));
    insert(&mut store, 0, f64::NAN, 0.0);
    assert!(read(&mut store, 9 * SECOND).is_some_and(f64::is_nan));
    assert_eq!(read(&mut store, 300 * SECOND), None);
    insert(&mut store, 299 * SECOND, 8.0, 0.0);
    assert_eq!(read(&mut store, 302 * SECOND), Some(1.0));
    // And back: the row is still there.
    assert!(read(&mut store, 9 * SECOND).is_some_and(f64::is_nan));
}

#[test]
fn windows_that_decay_have_sum_count_and_avg() {
    let call = |name| Call {
        name,
        distinct: false,
        input: FLOAT,
        second: None,
        constants: &[],
        unnest: Unnest::No,
    };
    for (name, want) in [("sum", 5.0), ("count", 1.5), ("avg", 10.0 / 3.0), ("mean", 10.0 / 3.0)] {
        let aggregate = aggregate::decayed(&call(name), 60 * SECOND).expect(name);
        let mut store = store(aggregate);
        insert(&mut store, 0, 2.0, 0.0);
        insert(&mut store, 60 * SECOND, 4.0, 0.0);
        assert_eq!(read(&mut store, 60 * SECOND), Some(want), "{name}");
    }
    let refusal = |name, half_life| match aggregate::decayed(&call(name), half_life) {
        Ok(_) => panic!("{name} was built"),
        Err(message) => message,
    };
    assert_eq!(refusal("max", SECOND), "a window that decays has sum, count and avg; found max");
    assert_eq!(refusal("sum", 0), "sum: a half-life is longer than nothing");
}

#[test]
fn refusals_say_what_is_missing() {
    let refusal = |name: &str, second, constants: &[Value]| match build(name, second, constants) {
        Ok(_) => panic!("{name} was built"),
        Err(message) => message,
    };
    let text = Some(DataType::String);
    assert_eq!(refusal("corr", None, &[]), "corr takes two columns: corr(y, x)");
    assert_eq!(
        refusal("regr_slope", text, &[]),
        "the second column of regr_slope is of type int64, float64 or bool; found string"
    );
    assert_eq!(
        refusal("decayed_sum", None, &half_life("1 hour")),
        "decayed_sum takes a column and a half-life: decayed_sum(x, '1h'); `1 hour` has no unit"
    );
    assert_eq!(
        refusal("decayed_avg", None, &half_life("0s")),
        "decayed_avg: a half-life is longer than nothing"
    );
    for alpha in [Value::Float(0.0), Value::Float(1.5), Value::Bool(true), Value::Float(f64::NAN)] {
        let message = refusal("ewma", None, &[alpha]);
        assert_eq!(message, "ewma takes a column and an alpha above 0 and up to 1: ewma(x, 0.1)");
    }
    assert_eq!(
        refusal("hll_sketch", None, &[Value::Int(3)]),
        "hll_sketch takes a column and an lg_k from 4 to 21"
    );
    assert_eq!(
        refusal("approx_percentile", None, &[Value::Float(0.5), Value::Int(0)]),
        "approx_percentile takes a column, a share and a precision, as a whole number"
    );
}
