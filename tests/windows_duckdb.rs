//! Windows against DuckDB: random rows, frames, calls and filters, each read once by the incremental
//! store and once by an SQL window query over all rows.
//!
//! A case is a call over a frame of a data set, with or without a filter. 50,000 of them are run;
//! `TIDEMILL_CASES=1000000` runs as many, and `TIDEMILL_SEED` others. A case that fails is printed
//! with the seed that makes it alone. `calls.rs` says what is compared and how exactly, `windows.py`
//! how a frame is said in SQL.

#[path = "windows_duckdb/calls.rs"]
mod calls;
#[path = "windows_duckdb/case.rs"]
mod case;
#[path = "windows_duckdb/data.rs"]
mod data;
#[path = "windows_duckdb/of_lists.rs"]
mod of_lists;
#[path = "windows_duckdb/of_maps.rs"]
mod of_maps;
#[path = "support/python.rs"]
mod python;
#[path = "windows_duckdb/theirs.rs"]
mod theirs;

use calls::{NOT_IN_DUCKDB, UNLISTED_ARE_SKIPPED, spellings};
use case::{CASES_A_DATA_SET, Calls, Failure, Tried};
use tidemill_operators::aggregate::AGGREGATES;

/// What one process of DuckDB is given: more would only take memory.
const CASES_A_BATCH: u64 = 10_000;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no whole number: {text}")),
        Err(_) => default,
    }
}

#[test]
fn windows_are_what_duckdb_computes() {
    let (cases, seed) = (number("TIDEMILL_CASES", 50_000), number("TIDEMILL_SEED", 20_130_101));
    let calls = Calls::new();
    let (mut reads, mut failures) = (0, Vec::new());
    for from in (0..cases).step_by(CASES_A_BATCH as usize) {
        let data_sets = CASES_A_BATCH.min(cases - from).div_ceil(CASES_A_DATA_SET as u64);
        let first = seed.wrapping_add(from / CASES_A_DATA_SET as u64);
        let tried: Vec<Tried> =
            (0..data_sets).map(|n| Tried::new(first.wrapping_add(n), &calls)).collect();
        for (tried, theirs) in tried.iter().zip(theirs::compute(&tried)) {
            reads += theirs.len();
            failures.extend(tried.compare(&theirs));
        }
    }
    // Of all that show a defect, the smallest says most.
    failures.sort_by_key(|failure: &Failure| failure.rows);
    for failure in failures.iter().take(3) {
        eprintln!("{}", failure.text);
    }
    assert!(failures.is_empty(), "{} of {reads} reads of {cases} cases differ", failures.len());
    assert!(reads as u64 >= 2 * cases, "{reads} reads of {cases} cases");
    eprintln!("{reads} reads of {cases} cases are what DuckDB computes");
}

/// Whoever adds an aggregate decides how it is compared.
#[test]
fn every_aggregate_is_compared_or_has_a_reason() {
    let name = |ours: &'static str| ours.split('(').next().unwrap_or(ours);
    let compared: Vec<&str> = spellings().map(|spelling| name(spelling.ours)).collect();
    for entry in AGGREGATES {
        let reason = NOT_IN_DUCKDB.iter().find(|(name, _)| *name == entry.name);
        assert!(
            compared.contains(&entry.name) != reason.is_some(),
            "{}: add its calls to tests/windows_duckdb/calls.rs, or the reason why \
             DuckDB has none to NOT_IN_DUCKDB, not both",
            entry.name
        );
    }
    let listed = |name: &str| AGGREGATES.iter().any(|entry| entry.name == name);
    for name in NOT_IN_DUCKDB.iter().map(|(name, _)| *name).chain(compared) {
        assert!(listed(name) || UNLISTED_ARE_SKIPPED, "{name} is no aggregate of ours");
    }
}
