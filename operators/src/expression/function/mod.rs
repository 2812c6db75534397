//! The scalar functions: DataFusion's, less those that a replay could not repeat or that build
//! types and texts without bound, and ours.

mod duration;
mod instant;
mod local;
mod nested;
mod nullif;
mod real;
mod remainder;
mod truncation;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{ScalarUDF, Volatility};

pub(super) use nested::Lists;

/// Functions of SQL systems that depend on more than their arguments.
const VOLATILE: &[&str] = &[
    "clock_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "getdate",
    "localtime",
    "localtimestamp",
    "now",
    "rand",
    "random",
    "sysdate",
    "today",
    "transaction_timestamp",
    "uuid",
];

/// Left out: they make types that no column has, name the library's own, or (`repeat`) let one
/// event ask for all memory.
const LEFT_OUT: &[&str] = &[
    "arrow_cast",
    "arrow_field",
    "arrow_metadata",
    "arrow_try_cast",
    "arrow_typeof",
    "cast_to_type",
    "get_field",
    "named_struct",
    "regexp_match",
    "repeat",
    "struct",
    "try_cast_to_type",
    "union_extract",
    "union_tag",
    "version",
    "with_metadata",
];

/// By every name, lower case.
static FUNCTIONS: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let ours = duration::functions().into_iter().chain(real::functions()).chain([
        instant::function(),
        local::function(),
        nullif::function(),
        remainder::function(),
        truncation::function(),
    ]);
    let mut all = BTreeMap::new();
    for function in datafusion_functions::all_default_functions()
        .into_iter()
        .filter(|f| f.signature().volatility == Volatility::Immutable)
        .filter(|f| !LEFT_OUT.contains(&f.name()))
        .chain(nested::functions())
        .chain(ours.map(Arc::new))
    {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(|a| &**a))
        {
            if !LEFT_OUT.contains(&name) {
                all.insert(name.to_lowercase(), Arc::clone(&function));
            }
        }
    }
    // SQL's name of what is called as in other languages here.
    all.extend(all.get("signum").cloned().map(|signum| ("sign".to_string(), signum)));
    all
});

/// The function of that lower-case name.
pub(super) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.get(name).cloned()
}

/// Whether the name is one whose result a replay could not repeat.
pub(super) fn is_volatile(name: &str) -> bool {
    VOLATILE.contains(&name)
}

/// The name of every scalar function, aliases too, in alphabetical order.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    FUNCTIONS.keys().map(String::as_str)
}

/// Every scalar function by one name of its own, with its other names, both in alphabetical order.
pub fn listed() -> Vec<(&'static str, Vec<&'static str>)> {
    let named = |function: &Arc<ScalarUDF>| {
        let own = function.name().to_lowercase();
        FUNCTIONS.get_key_value(&own).filter(|(_, found)| Arc::ptr_eq(found, function))
    };
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, function) in FUNCTIONS.iter() {
        let own = named(function).map_or(name.as_str(), |(own, _)| own);
        let others = all.entry(own).or_default();
        others.extend((own != name).then_some(name.as_str()));
    }
    all.into_iter().collect()
}

/// A number of any width, or NULL.
fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

/// Refuses a call with another number of arguments.
fn arity(name: &str, given: &[DataType], expected: std::ops::RangeInclusive<usize>) -> Result<()> {
    if expected.contains(&given.len()) {
        return Ok(());
    }
    let many = match (expected.start(), expected.end()) {
        (1, 1) => "1 argument".to_owned(),
        (low, high) if low == high => format!("{low} arguments"),
        (low, high) => format!("{low} to {high} arguments"),
    };
    plan_err!("{name} takes {many}, not {}", given.len())
}
