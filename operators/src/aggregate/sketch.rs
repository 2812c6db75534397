//! `hll_sketch(x)`, `cpc_sketch(x)`: a summary of the different values of a window, to be merged with others
//! elsewhere; `approx_count_distinct(x)`, `approx_percentile(x, q)`: names that promise an estimate.
//!
//! **What is asked here is answered exactly.** A window keeps its values anyway, for they must leave it
//! again, and a sketch cannot let go of a value. So `approx_count_distinct` is `count(distinct x)` and
//! `approx_percentile` is `quantile`; the precision that others take as a further argument is accepted,
//! and any is kept.
//!
//! **What is sent elsewhere is a sketch.** `hll_sketch(x, lg_k = 12)` and `cpc_sketch(x, lg_k = 11)` are the
//! base64 of the bytes that every Apache DataSketches library reads and merges (Java, C++, Python, Spark,
//! Druid): the union over keys, days or services is what no exact count gives. It is built at each read from
//! the values in the window, in their order, so its bytes are a function of them; the cost is a hash a value,
//! 20 to 50 ns each. Values are hashed as those libraries do: whole numbers, timestamps and truth values
//! as 64 bits, floats as doubles (one zero, one NaN), texts as UTF-8, of which the empty one is skipped. NULL is
//! not there, and over no values the sketch is NULL.
//!
//! **Error bound.** The relative standard error of a fresh sketch's estimate is at most 0.8326 / sqrt(2^lg_k) for
//! HLL (1.3 % at 12) and 0.5888 / sqrt(2^lg_k) for CPC (1.3 % at 11, in two thirds of the bytes); of a union 1.0390
//! and 0.6931. Estimates are within two of them 95 times in 100. (Flajolet et al., "HyperLogLog", 2007, with
//! historic inverse probability estimators: Ting, 2014; Lang, "Back to the future", 2017.)
//!
//! The KLL sketches of that family throw a coin, and t-digests go by platform logarithms: neither gives the
//! same bytes twice, so none is offered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datasketches::cpc::CpcSketch;
use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{HllSketch, HllType};
use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View, count, quantile};

pub(super) const HLL_SKETCH: Entry = Entry {
    name: "hll_sketch",
    aliases: &[],
    summary: "an Apache DataSketches HLL sketch of the different values, base64: hll_sketch(x, lg_k = 12)",
    build: |call| build(call, Kind::Hll),
};

pub(super) const CPC_SKETCH: Entry = Entry {
    name: "cpc_sketch",
    aliases: &[],
    summary: "an Apache DataSketches CPC sketch of the different values, base64: cpc_sketch(x, lg_k = 11)",
    build: |call| build(call, Kind::Cpc),
};

pub(super) const APPROX_COUNT_DISTINCT: Entry = Entry {
    name: "approx_count_distinct",
    aliases: &["approx_unique_count"],
    summary: "count(distinct x), exactly; a precision is accepted and kept",
    build: |call| {
        call.without_distinct()?;
        call.without_second()?;
        call.input(&DataType::ALL)?;
        match call.constants {
            [] | [Value::Int(1..)] => {}
            _ => {
                return Err(format!(
                    "{} takes a column and a precision, as a whole number",
                    call.name
                ));
            }
        }
        (count::ENTRY.build)(&Call { distinct: true, constants: &[], ..call.clone() })
    },
};

pub(super) const APPROX_PERCENTILE: Entry = Entry {
    name: "approx_percentile",
    aliases: &["approx_quantile"],
    summary: "quantile(x, q), exactly; a precision is accepted and kept",
    build: |call| {
        let constants = match call.constants {
            [q, Value::Int(1..)] => std::slice::from_ref(q),
            [_, _, ..] => {
                return Err(format!(
                    "{} takes a column, a share and a precision, as a whole number",
                    call.name
                ));
            }
            others => others,
        };
        (quantile::QUANTILE.build)(&Call { constants, ..call.clone() })
    },
};

#[derive(Clone, Copy)]
enum Kind {
    Hll,
    Cpc,
}

fn build(call: &Call<'_>, kind: Kind) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    call.input(&DataType::ALL)?;
    let (least, most, default) = match kind {
        Kind::Hll => (4, 21, 12),
        Kind::Cpc => (4, 26, 11),
    };
    let lg_k = match call.constants {
        [] => default,
        [Value::Int(lg_k)] if (least..=most).contains(lg_k) => *lg_k as u8,
        _ => {
            return Err(format!("{} takes a column and an lg_k from {least} to {most}", call.name));
        }
    };
    Ok(Box::new(Sketched { kind, lg_k }))
}

struct Sketched {
    kind: Kind,
    lg_k: u8,
}

impl Aggregate for Sketched {
    fn output(&self) -> DataType {
        DataType::String
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Ordered]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(ordered) = view.ordered().filter(|all| !all.is_empty()) else {
            return Value::Null;
        };
        let bytes = match self.kind {
            Kind::Hll => HllSketch::new(self.lg_k, HllType::Hll4).map(|mut sketch| {
                different(ordered.iter(), |value| match value {
                    Hashed::Whole(i) => sketch.update(i),
                    Hashed::Float(x) => sketch.update(canonical_float::from_f64(x)),
                    Hashed::Text(text) => sketch.update(raw_bytes::from_str(text)),
                });
                sketch.serialize()
            }),
            Kind::Cpc => CpcSketch::new(self.lg_k).map(|mut sketch| {
                different(ordered.iter(), |value| match value {
                    Hashed::Whole(i) => sketch.update(i),
                    Hashed::Float(x) => sketch.update(canonical_float::from_f64(x)),
                    Hashed::Text(text) => sketch.update(raw_bytes::from_str(text)),
                });
                sketch.serialize()
            }),
        };
        bytes.map_or(Value::Null, |bytes| Value::Text(STANDARD.encode(bytes).into()))
    }
}

/// A value as sketches take it.
enum Hashed<'a> {
    Whole(i64),
    Float(f64),
    Text(&'a str),
}

/// Each different value once, in order.
fn different(values: impl Iterator<Item = Value>, mut update: impl FnMut(Hashed<'_>)) {
    let mut last = Value::Null;
    for value in values {
        if value == last {
            continue;
        }
        match &value {
            Value::Float(x) => update(Hashed::Float(*x)),
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => update(Hashed::Text(text)),
            other => other.as_i64().into_iter().for_each(|i| update(Hashed::Whole(i))),
        }
        last = value;
    }
}

#[cfg(test)]
mod tests {
    use datasketches::cpc::CpcUnion;
    use datasketches::hll::HllUnion;

    use super::super::moment::Moment;
    use super::super::ordered::Ordered;
    use super::super::state::State;
    use super::super::{Columns, Row, Rows};
    use super::*;

    struct NoRows;

    impl Rows for NoRows {
        fn walk(&self, _: Columns, _: bool, _: usize, _: &mut dyn FnMut(Row<'_>) -> bool) {}
    }

    fn sketch(name: &str, input: DataType, lg_k: i64, values: &[Value]) -> String {
        let entry = [HLL_SKETCH, CPC_SKETCH].into_iter().find(|entry| entry.name == name).unwrap();
        let (input, constants) = (Some(input), &[Value::Int(lg_k)]);
        let unnest = crate::aggregate::Unnest::No;
        let call = Call { name, distinct: false, input, second: None, constants, unnest };
        let aggregate = (entry.build)(&call).unwrap();
        let mut ordered = Ordered::default();
        values.iter().for_each(|value| ordered.insert(value));
        let mut places = [usize::MAX; Primitive::COUNT];
        places[Primitive::Ordered as usize] = 0;
        let states = [State::Ordered(ordered)];
        let view = View {
            moment: &Moment::default(),
            numbers: None,
            states: &states,
            places: &places,
            columns: Columns::default(),
            rows: &NoRows,
            time: 0,
        };
        match aggregate.finish(&view) {
            Value::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn ints(range: std::ops::Range<i64>) -> Vec<Value> {
        range.map(Value::Int).collect()
    }

    fn hll(text: &str) -> HllSketch {
        HllSketch::deserialize(&STANDARD.decode(text).unwrap()).unwrap()
    }

    fn cpc(text: &str) -> CpcSketch {
        CpcSketch::deserialize(&STANDARD.decode(text).unwrap()).unwrap()
    }

    /// Over 60 sets of values, the error is what is promised, and none is far beyond it.
    #[test]
    fn errors_are_within_the_bound() {
        for (n, lg_k) in [(50, 8), (2_000, 8), (3_000, 10), (20_000, 10)] {
            let (mut hlls, mut cpcs) = (Vec::new(), Vec::new());
            for set in 0..60i64 {
                let values = ints(set * 1_000_003..set * 1_000_003 + n);
                let error = |estimate: f64| estimate / n as f64 - 1.0;
                hlls.push(error(
                    hll(&sketch("hll_sketch", DataType::Int64, lg_k, &values)).estimate(),
                ));
                cpcs.push(error(
                    cpc(&sketch("cpc_sketch", DataType::Int64, lg_k, &values)).estimate(),
                ));
            }
            for (errors, factor) in [(hlls, 0.8326), (cpcs, 0.5888)] {
                let bound = factor / f64::from(1 << lg_k).sqrt();
                let square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
                // The standard error of a standard error over 60 is a tenth of it.
                assert!(
                    square.sqrt() < 1.25 * bound,
                    "{n} at {lg_k}: {} of {bound}",
                    square.sqrt()
                );
                assert!(errors.iter().all(|e| e.abs() < 4.0 * bound), "{n} at {lg_k}: {errors:?}");
            }
        }
    }

    #[test]
    fn sketches_of_windows_merge() {
        let (mut hlls, mut cpcs) = (HllUnion::new(12).unwrap(), CpcUnion::new(11).unwrap());
        for part in 0..10 {
            // Each overlaps the next by half.
            let values = ints(part * 500..part * 500 + 1_000);
            hlls.update(&hll(&sketch("hll_sketch", DataType::Int64, 12, &values)));
            cpcs.update(&cpc(&sketch("cpc_sketch", DataType::Int64, 11, &values))).unwrap();
        }
        let estimates = [hlls.estimate(), cpcs.to_sketch().estimate()];
        assert!(estimates.iter().all(|e| (e / 5_500.0 - 1.0).abs() < 0.06), "{estimates:?}");
    }

    #[test]
    fn how_often_a_value_is_there_does_not_show() {
        let once = ints(0..700);
        let twice: Vec<Value> = once.iter().rev().chain(&once).cloned().collect();
        for name in ["hll_sketch", "cpc_sketch"] {
            let sketch = |values: &[Value]| sketch(name, DataType::Int64, 10, values);
            assert_eq!(sketch(&once), sketch(&twice));
            assert_ne!(sketch(&once), sketch(&once[1..]));
        }
    }

    /// Bytes of Apache DataSketches for Python, 5.2: `hll_sketch(lg_k, HLL_4).serialize_compact()` and
    /// `cpc_sketch(lg_k).serialize()` after the same updates.
    #[test]
    fn bytes_are_those_of_the_other_libraries() {
        let (few, many) = (ints(-2..3), ints(0..300));
        let floats = [-0.0, 0.5, 1e300].map(Value::Float);
        let texts = ["", "a", "é", "tidemill"].map(|text| Value::Text(text.into()));
        let (whole, float, text) = (DataType::Int64, DataType::Float64, DataType::String);
        let check = |name: &str, of: DataType, lg_k: i64, values: &[Value], bytes: &str| {
            assert_eq!(sketch(name, of, lg_k, values), bytes, "{name} of {of}");
        };
        check("hll_sketch", whole, 12, &few, "AgEHDAMIBQD+WkMH2WTnC8vXwgQr8vsGhi/5DQ==");
        check(
            "hll_sketch",
            whole,
            4,
            &many,
            "CgEHBAAIBALRKgW1YBVzQAAAAAAAYOQ/AAAAAAAAAAAIAAAAAAAAAAAxBCEAAQAz",
        );
        check("hll_sketch", float, 12, &floats, "AgEHDAMIAwDL18IEcxwAGzz0dws=");
        check("hll_sketch", text, 12, &texts, "AgEHDAMIAwAvgjsESA9RBYz94AU=");
        check(
            "cpc_sketch",
            whole,
            11,
            // Of negative ones that library's CPC, and no other, makes floats.
            &ints(0..5),
            "CAEQCwAOzJMFAAAAAgAAAAAAAACA959AaLCNUiACFECs0xathgUWAQ==",
        );
        check(
            "cpc_sketch",
            whole,
            4,
            &many,
            "CgEQBAEezJNJAAAAAQAAAAAAAAAAUPQ/4to8DuDdcUABAAAAAwAAAKD7jtAADqwbAAAAAFUAAAA=",
        );
        check(
            "cpc_sketch",
            float,
            11,
            &floats,
            "CAEQCwAOzJMDAAAAAgAAAAAAAADw/J9AcgyDEAQBCECRx+cNYgUAAA==",
        );
        check(
            "cpc_sketch",
            text,
            11,
            &texts,
            "CAEQCwAOzJMDAAAAAgAAAAAAAAAA+p9AiIAEKIABCEB8wa7yBgAAAA==",
        );
    }
}
