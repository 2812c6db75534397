//! The page that maps the functions of other platforms to ours says nothing that is not so.

use std::collections::BTreeSet;

use tidemill_operators::aggregate::{self, AGGREGATES};
use tidemill_operators::expression::{Scalar, parse_feature};
use tidemill_types::{DataType, Item, Schema};

const PAGE: &str = include_str!("../../docs/aggregates.md");

/// Rows of tables: the section, the cells.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let (mut section, mut rows) = ("", Vec::new());
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if !["call", "theirs"].contains(&cells[0]) {
            rows.push((section, cells));
        }
    }
    rows
}

/// What stands in backticks.
fn calls(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The cell of a row that spells calls of ours.
fn ours(section: &str, cells: &[&'static str]) -> &'static str {
    if section == "What there is" { cells[0] } else { cells[1] }
}

/// Builds a call; the names of its aggregates.
fn build(text: &str) -> Vec<String> {
    let schema = Schema::new([
        ("x", DataType::Float64),
        ("y", DataType::Float64),
        ("s", DataType::String),
        ("c", DataType::String),
        ("b", DataType::Bool),
        ("v", DataType::List(Item::Float64)),
        ("tags", DataType::List(Item::String)),
        ("m", DataType::Map(Item::Float64)),
    ]);
    let source = |name: &str| (name == "w").then(|| schema.clone());
    let text = format!("{text} over w");
    let feature = parse_feature(&text, &schema, &source, &["w"], "UTC")
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for call in &feature.calls {
        let built = aggregate::build(&aggregate::Call {
            name: &call.function,
            distinct: call.distinct,
            input: call.argument.as_ref().map(Scalar::data_type),
            second: call.second.as_ref().map(Scalar::data_type),
            constants: &call.constants,
            unnest: call.unnest,
        });
        types.push(built.unwrap_or_else(|error| panic!("{text}: {error}")).output());
        names.push(call.function.clone());
    }
    assert!(!names.is_empty(), "{text} calls nothing");
    feature.finish(&schema, &types).unwrap_or_else(|error| panic!("{text}: {error}"));
    names
}

#[test]
fn every_call_of_ours_is_one() {
    let mut built = 0;
    for (section, cells) in rows() {
        let ours = ours(section, &cells);
        let spelled = calls(ours);
        assert!(spelled.is_empty() == (ours == "not yet"), "{section}: {cells:?} says neither");
        built += spelled.iter().map(|call| build(call).len()).sum::<usize>();
    }
    assert!(built > 150, "{built} calls are not the page");
}

#[test]
fn no_aggregate_is_missing() {
    let there: BTreeSet<String> = rows()
        .into_iter()
        .filter(|(section, _)| *section == "What there is")
        .flat_map(|(section, cells)| calls(ours(section, &cells)))
        .flat_map(build)
        .collect();
    let missing: Vec<&str> =
        AGGREGATES.iter().map(|entry| entry.name).filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/aggregates.md does not tell of {missing:?}");
}

#[test]
fn every_function_of_theirs_is_told_of() {
    let theirs = |of: &str| rows().iter().filter(|(section, _)| *section == of).count();
    assert_eq!(theirs("Chronon"), 20 + 4, "20 operations, buckets, lists, maps");
    assert_eq!(theirs("Tecton"), 16 + 1, "16 functions and the secondary key");
    for of in ["Fennel", "Chalk", "OpenMLDB", "Volga", "Feast", "Feathr"] {
        assert!(theirs(of) > 1, "{of}");
    }
}
