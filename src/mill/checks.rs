//! The gate's report: what a new version was found to be before it serves anybody.
//!
//! Data checks compare its training set with that of the version in charge, as soon as it is trained;
//! model checks compare the two on the same labelled rows, when it is decided on. A check that fails
//! turns the version away. The report is kept with the version and its outcome in the journal, from where
//! a second run takes what a clock has measured.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tidemill_config::gate::GatePlan;
use tidemill_operators::evaluate::checks::{Bench, nulls, outside};
use tidemill_types::Error;

use super::Mill;
use super::join::Scored;
use super::models::{State, Version};
use super::trial::{KeyFrom, value_of};
use crate::journal::record::{Check, Record, Report};

/// Rows over which the time to score is taken.
const TIMED: usize = 256;

/// What is measured of a version while its labels come.
#[derive(Default)]
pub struct Measured {
    bench: Bench,
    /// The last rows that were compared, to take the time over.
    rows: VecDeque<Arc<Scored>>,
}

/// The same as of a line, rows by their places.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct SavedMeasured {
    bench: Bench,
    rows: Vec<u32>,
}

impl Measured {
    /// Takes a compared row.
    pub fn add(&mut self, row: &Arc<Scored>, by: &[KeyFrom], label: bool, new: f64, old: f64) {
        let segments: Vec<u64> =
            by.iter().map(|by| value_of(*by, &row.numbers, &row.categories)).collect();
        self.bench.add(label, new, old, &segments);
        self.rows.push_back(Arc::clone(row));
        if self.rows.len() > TIMED {
            self.rows.pop_front();
        }
    }

    /// What is held, for a line.
    pub fn save(&self, mut place: impl FnMut(&Arc<Scored>) -> u32) -> SavedMeasured {
        SavedMeasured {
            bench: self.bench.clone(),
            rows: self.rows.iter().map(&mut place).collect(),
        }
    }

    /// Goes on from what was saved.
    ///
    /// # Errors
    /// A row is missing.
    pub fn resumed(
        saved: SavedMeasured,
        row: impl Fn(u32) -> Result<Arc<Scored>, String>,
    ) -> Result<Measured, String> {
        let rows = saved.rows.into_iter().map(row).collect::<Result<_, String>>()?;
        Ok(Measured { bench: saved.bench, rows })
    }
}

fn at_most(name: &str, value: f64, limit: f64, detail: String) -> Check {
    Check { name: name.to_string(), value, limit, passed: value <= limit, detail }
}

/// The share of a text feature's values that are NULL.
fn without_text(column: Option<&Vec<u64>>) -> f64 {
    let column = column.map_or(&[][..], Vec::as_slice);
    let none = column.iter().filter(|hash| **hash == 0).count();
    none as f64 / column.len().max(1) as f64
}

impl Mill {
    /// Checks the training set of a version beside that of the one in charge. Says what is wrong.
    pub(super) fn data_checks(&self, m: usize, version: &Version, gate: &GatePlan) -> Vec<Check> {
        let State::Batch(batch) = &self.models[m].state else { return Vec::new() };
        let features = &self.compiled.program.feature_schema;
        let ours = features.fingerprint();
        let same = version.manifest.lineage.schema == ours;
        let mut checks = vec![at_most(
            "schema",
            f64::from(u8::from(!same)),
            0.0,
            format!("fingerprint {:.12}", version.manifest.lineage.schema),
        )];
        let texts =
            |field: &&tidemill_types::Field| field.data_type == tidemill_types::DataType::String;
        let numbers: Vec<&str> =
            features.fields.iter().filter(|f| !texts(f)).map(|f| f.name.as_str()).collect();
        let worst = |of: &dyn Fn(usize) -> f64| {
            let all = (0..version.reference.numbers.len().min(numbers.len())).map(|i| (of(i), i));
            let worst = all.max_by(|a, b| a.0.total_cmp(&b.0));
            worst.map_or((0.0, String::new()), |(value, i)| (value, numbers[i].to_string()))
        };
        if let Some(limit) = gate.leakage {
            let known = &version.reference.separation;
            let (value, of) = worst(&|i| known.get(i).copied().unwrap_or(0.5));
            checks.push(at_most("leakage", value, limit, format!("AUC of {of} alone")));
        }
        if let Some(limit) = gate.size {
            let detail = "bytes of the artifact".to_string();
            checks.push(at_most("size", version.size as f64, limit as f64, detail));
        }
        let Some(live) = &batch.live else { return checks };
        if let Some(limit) = gate.volume {
            let rows = |v: &Version| v.manifest.lineage.rows as f64;
            let value = rows(version) / rows(live).max(1.0);
            let detail = format!("{} rows, {} before", rows(version), rows(live));
            let name = "volume".to_string();
            checks.push(Check { name, value, limit, passed: value >= limit, detail });
        }
        // A version that was taken from the registry has left no sample to compare with.
        let column =
            |v: &Version, i: usize| v.reference.numbers.get(i).cloned().unwrap_or_default();
        if let Some(limit) = gate.nulls {
            let (mut value, mut of) =
                worst(&|i| nulls(&column(version, i)) - nulls(&column(live, i)));
            for (i, field) in features.fields.iter().filter(texts).enumerate() {
                let share = |v: &Version| without_text(v.reference.categories.get(i));
                let more = share(version) - share(live);
                if more > value || of.is_empty() {
                    (value, of) = (more, field.name.to_string());
                }
            }
            checks.push(at_most("nulls", value, limit, format!("more of {of}")));
        }
        if let Some(limit) = gate.range {
            let (value, of) = worst(&|i| outside(&column(version, i), &column(live, i)));
            checks.push(at_most("range", value, limit, format!("values of {of} are new")));
        }
        checks
    }

    /// Checks what was measured of a version beside the one in charge.
    pub(super) fn model_checks(
        &self,
        m: usize,
        version: &Version,
        measured: &Measured,
        gate: &GatePlan,
    ) -> Vec<Check> {
        let mut checks = Vec::new();
        let features = &self.compiled.program.feature_schema.fields;
        if let Some(worst) = measured.bench.worst(gate.segment_rows) {
            let feature = &features[gate.segments[worst.feature].value];
            let value = match feature.data_type {
                tidemill_types::DataType::String => self.word(m, &worst, measured),
                _ => f64::from_bits(worst.value).to_string(),
            };
            let detail = format!("{} = {value}, {} rows", feature.name, worst.rows);
            checks.push(at_most("segment", worst.mean, gate.segment_loss, detail));
        }
        if let (Some(limit), Some(error)) = (gate.calibration, measured.bench.calibration_error()) {
            let detail = format!("over {} rows", measured.bench.rows());
            checks.push(at_most("calibration", error, limit, detail));
        }
        if let Some(limit) = gate.latency.filter(|_| !measured.rows.is_empty()) {
            let model = &self.models[m];
            let began = Instant::now();
            for row in &measured.rows {
                std::hint::black_box(model.margin_of(version, row));
            }
            let each = began.elapsed().as_secs_f64() / measured.rows.len() as f64;
            let detail = format!("seconds a row, over {} rows", measured.rows.len());
            checks.push(at_most("latency", each, limit as f64 / 1e6, detail));
        }
        checks
    }

    /// The text of a segment, if one of the rows at hand has it.
    fn word(
        &self,
        m: usize,
        worst: &tidemill_operators::evaluate::checks::Segment,
        measured: &Measured,
    ) -> String {
        use arrow::array::AsArray;
        let by = self.models[m].segments[worst.feature];
        let at = self.models[m].plan.gate.as_ref().map(|gate| gate.segments[worst.feature].value);
        let row = measured
            .rows
            .iter()
            .find(|row| value_of(by, &row.numbers, &row.categories) == worst.value);
        let text = row.zip(at).and_then(|(row, at)| {
            let column = row.columns.columns().get(at)?.as_string_opt::<i32>()?;
            Some(column.value(row.row as usize).to_string())
        });
        text.unwrap_or_else(|| format!("#{:016x}", worst.value))
    }

    /// Writes a report down. Where an earlier run did, its outcome is taken from there, for a clock gives
    /// another time each time. Whether the version passed, and what it failed.
    pub(super) fn report(
        &mut self,
        m: usize,
        version: &Version,
        checks: Vec<Check>,
        epoch: u64,
    ) -> Result<Option<String>, Error> {
        let model = self.models[m].name.to_string();
        let made = Report { model, version: version.number, epoch, checks };
        let report = self.ledger.report(made);
        let failed = report.checks.iter().find(|check| !check.passed).map(|check| {
            let Check { name, value, limit, detail, .. } = check;
            format!("the gate's check of {name} failed: {value:.6} against {limit:.6} ({detail})")
        });
        self.ledger.file(&report)?;
        self.ledger.note(Record::Report(report))?;
        Ok(failed)
    }
}
