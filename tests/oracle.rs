//! Features against an oracle: DuckDB computes them anew from the raw files.

#[path = "support/flights.rs"]
mod flights;
#[path = "support/python.rs"]
mod python;

use flights::{Data, PIPELINE, summary};

/// Every feature of 2,000 random departures.
#[test]
fn features_are_what_duckdb_computes() {
    let data = Data::of_days(75);
    let told = summary(&data.run(
        "out",
        &[
            "--set",
            "sink.features.type=file",
            "--set",
            "sink.features.path=features.parquet",
            "--set",
            "model.trees.training.min_rows=1000000",
        ],
    ));
    assert!(told["scores"].as_u64() > Some(50_000), "{told}");
    let file = |name: &str| data.path(name).to_str().expect("UTF-8").to_string();
    let sources =
        ["departures", "takeoffs", "arrivals"].map(|s| format!("{s}={}", file("flights.csv")));
    let done = python::command("oracle", include_str!("oracle/requirements.txt"))
        .arg("tests/oracle/check.py")
        .args([PIPELINE, &file("out/features.parquet"), "2000"])
        .args(sources)
        .arg(format!("weather={}", file("weather.csv")))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("of 2000 rows compared, 0 differ"), "{said}");
}
