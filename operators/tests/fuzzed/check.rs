//! What holds of every text that is given as a feature: the function that is fuzzed, by
//! `operators/tests/feature_fuzz.rs` on stable Rust and by `fuzz/` with libFuzzer.

use std::ops::Range;

use tidemill_operators::aggregate;
use tidemill_operators::expression::{ExpressionError, Scalar, parse_feature};
use tidemill_types::{DataType, Item, Schema};

/// Every type, lists and a map, a name with a capital, and one that needs quotes.
fn schema() -> Schema {
    Schema::new([
        ("i", DataType::Int64),
        ("x", DataType::Float64),
        ("s", DataType::String),
        ("b", DataType::Bool),
        ("t", DataType::Timestamp),
        ("arrDelay", DataType::Int64),
        ("a name", DataType::Float64),
        ("v", DataType::List(Item::Float64)),
        ("tags", DataType::List(Item::String)),
        ("m", DataType::Map(Item::Float64)),
    ])
}

/// How far a text came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is no feature.
    Refused,
    /// Its calls are known, and the whole has no type.
    Parsed,
    /// It is a feature.
    Typed,
}

/// Reads and types a text as a feature over windows `w` and `v`; panics if an error or a call does
/// not say where it stands: within the text, at ends of characters.
pub fn check(text: &str) -> Came {
    let schema = schema();
    let source = |window: &str| ["w", "v"].contains(&window).then(|| schema.clone());
    let feature = match parse_feature(text, &schema, &source, &["w", "v"], "UTC") {
        Ok(feature) => feature,
        Err(error) => return refused(text, &error, Came::Refused),
    };
    let mut types = Vec::new();
    for call in &feature.calls {
        within(text, &call.span, &call.function);
        let built = aggregate::build(&aggregate::Call {
            name: &call.function,
            distinct: call.distinct,
            input: call.argument.as_ref().map(Scalar::data_type),
            second: call.second.as_ref().map(Scalar::data_type),
            constants: &call.constants,
            unnest: call.unnest,
        });
        // A call that cannot be built is refused later; the rest is to stand whatever its type.
        types.push(built.map_or(DataType::Float64, |aggregate| aggregate.output()));
    }
    match feature.finish(&schema, &types) {
        Ok(_) => Came::Typed,
        Err(error) => refused(text, &error, Came::Parsed),
    }
}

fn refused(text: &str, error: &ExpressionError, came: Came) -> Came {
    assert!(!error.message.is_empty() && !error.help.is_empty(), "{text:?}: {error:?}");
    if let Some(span) = &error.span {
        within(text, span, &error.message);
    }
    came
}

fn within(text: &str, span: &Range<usize>, what: &str) {
    let ends = text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
    assert!(
        ends && span.start <= span.end,
        "{text:?} of {} bytes: {span:?} is no place for `{what}`",
        text.len()
    );
}
