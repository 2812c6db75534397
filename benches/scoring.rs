//! Scores rows with a model of another library: `cargo bench --bench scoring -- KIND MODEL ROWS WIDTH MARGINS`.
//!
//! `KIND` is that of the artifact, `lightgbm` or `xgboost`; `ROWS` is a file of 64-bit floats, row after row.
//! `benches/scoring.py` makes both, runs this and stands the library beside it. Prints JSON: nanoseconds a row, one at a time and many at once, the median of five. The
//! margins go to a file, by which the script knows that both scored the same.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use tidemill_operators::predictor::{Inputs, PREDICTORS, Row};

fn measure(rows: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e9 / rows as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [kind, model, rows, width, out] = &words[..] else {
        println!("run python benches/scoring.py, which starts this with what it needs");
        return;
    };
    let width: usize = width.parse().expect("a number of columns");
    let bytes = std::fs::read(rows).expect("rows");
    let numbers: Vec<f64> = bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let count = numbers.len() / width;
    let names = (0..width).map(|i| format!("Column_{i}")).collect();
    let inputs = Inputs { numbers: names, categories: Vec::new() };
    let entry = PREDICTORS.iter().find(|p| p.name == kind).expect("a kind of the list");
    let model = (entry.load)(&std::fs::read(model).expect("a model"), &inputs).expect("a model");
    let mut margins = Vec::with_capacity(count);
    let many = measure(count, || {
        margins.clear();
        model.margins(count, &numbers, &[], &mut margins);
    });
    let mut off = 0.0_f64;
    let single = measure(count, || {
        for (row, many) in numbers.chunks_exact(width).zip(&margins) {
            off = off.max((model.margin(Row { numbers: row, categories: &[] }) - many).abs());
        }
    });
    assert!(off == 0.0, "one at a time and many at once differ");
    let bytes: Vec<u8> = margins.iter().flat_map(|margin| margin.to_le_bytes()).collect();
    std::fs::write(out, bytes).expect("margins");
    println!("{{\"single_ns\": {single:.1}, \"many_ns\": {many:.1}}}");
}
