//! Rows on their way to the sinks, gathered into batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde_json::json;
use tidemill_config::plan::Stream;
use tidemill_types::model::ModelVersion;
use tidemill_types::{DataType, Error, Id, Micros, Schema};

use super::watch::Said;
use crate::board::recent::{Alert, wall_clock};
use crate::engine::check::Compiled;
use crate::engine::outputs::{Outputs, schema_of};

/// Rows to a batch of scores.
const BATCH: usize = 4_096;

/// Makes batches for the sinks.
pub struct Emitter {
    outputs: Outputs,
    ids: DataType,
    features: Schema,
    /// Which of the columns that are kept stand before the features in what is sent.
    entity: Vec<usize>,
    scores: Scores,
}

#[derive(Default)]
struct Scores {
    ids: Vec<Id>,
    times: Vec<Micros>,
    models: Vec<Arc<str>>,
    versions: Vec<i64>,
    scores: Vec<f64>,
    degraded: Vec<Option<Arc<str>>>,
    upstream: Vec<Option<Arc<str>>>,
}

/// What is said of a served score.
pub struct Served {
    /// The model that gave it.
    pub model: Arc<str>,
    /// Its version.
    pub version: u64,
    /// The probability.
    pub score: f64,
    /// Why it is not the champion's.
    pub degraded: Option<Arc<str>>,
    /// The versions of other models whose margins it was made of.
    pub upstream: Option<Arc<str>>,
}

impl Emitter {
    /// To these outputs.
    pub fn new(outputs: Outputs, compiled: &Compiled) -> Emitter {
        let (entity, features) = (compiled.sent_entity(), compiled.sent_features());
        let entity = entity.into_iter().map(|(column, _)| column).collect();
        Emitter { outputs, ids: compiled.id_type(), features, entity, scores: Scores::default() }
    }

    /// The way to the sinks.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Nothing more will be sent: the sinks may end.
    pub fn close(&mut self) {
        self.outputs = self.outputs.closed();
    }

    /// A row was scored.
    ///
    /// # Errors
    /// Only a defect.
    pub fn score(&mut self, id: &Id, time: Micros, served: Served) -> Result<(), Error> {
        let scores = &mut self.scores;
        scores.ids.push(id.clone());
        scores.times.push(time);
        scores.models.push(served.model);
        scores.versions.push(served.version as i64);
        scores.scores.push(served.score);
        scores.degraded.push(served.degraded);
        scores.upstream.push(served.upstream);
        if scores.ids.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Sends the scores that wait.
    ///
    /// # Errors
    /// Only a defect.
    pub fn flush(&mut self) -> Result<(), Error> {
        let scores = std::mem::take(&mut self.scores);
        let n = scores.ids.len();
        if n == 0 {
            return Ok(());
        }
        let model = |m: &Arc<str>| m.to_string();
        let columns: Vec<ArrayRef> = vec![
            id_column(&scores.ids, self.ids),
            time_column(&scores.times),
            Arc::new(StringArray::from_iter_values(scores.models.iter().map(model))),
            Arc::new(Int64Array::from(scores.versions)),
            Arc::new(Float64Array::from(scores.scores)),
            Arc::new(scores.degraded.iter().map(Option::as_deref).collect::<StringArray>()),
            Arc::new(scores.upstream.iter().map(Option::as_deref).collect::<StringArray>()),
            Arc::new(Int64Array::from(vec![1; n])),
        ];
        self.send(Stream::Scores, columns, scores.times)
    }

    /// Feature rows, with what is kept beside them; `diff` is 1 for a new row and -1 for one that is taken back.
    ///
    /// # Errors
    /// Only a defect.
    pub fn features(
        &mut self,
        ids: &[Id],
        times: &[Micros],
        features: &RecordBatch,
        kept: Option<&RecordBatch>,
        diff: i64,
    ) -> Result<(), Error> {
        if !self.outputs.wants(Stream::Features) || ids.is_empty() {
            return Ok(());
        }
        let mut columns = vec![id_column(ids, self.ids), time_column(times)];
        if let Some(kept) = kept {
            columns.extend(self.entity.iter().map(|column| Arc::clone(kept.column(*column))));
        }
        columns.extend(features.columns().iter().cloned());
        columns.push(Arc::new(Int64Array::from(vec![diff; ids.len()])));
        self.send(Stream::Features, columns, times.to_vec())
    }

    /// A version that whoever scores elsewhere should know.
    ///
    /// # Errors
    /// Only a defect.
    pub fn model(&mut self, version: &ModelVersion, now: Micros) -> Result<(), Error> {
        let manifest = json!(version).to_string();
        let text = |t: &str| -> ArrayRef { Arc::new(StringArray::from(vec![t])) };
        let number = |n: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![n as i64])) };
        let columns = vec![
            text(&version.model),
            number(version.version),
            text(&version.kind),
            text(&version.artifact),
            time_column(&[version.since]),
            number(version.lineage.rows),
            text(&manifest),
        ];
        self.send(Stream::Models, columns, vec![now])
    }

    /// A detector has something to say.
    ///
    /// # Errors
    /// Only a defect.
    pub fn alert(&mut self, drift: &str, said: &Said, now: Micros) -> Result<(), Error> {
        self.outputs.counts().recent.alert(Alert {
            seen: wall_clock(),
            event_time: now,
            drift: drift.to_string(),
            detector: said.detector.to_string(),
            of: said.of.to_string(),
            level: said.level_name().to_string(),
            statistic: said.reading.statistic,
            p_value: said.reading.p_value,
        });
        let text = |t: &str| -> ArrayRef { Arc::new(StringArray::from(vec![t])) };
        let columns: Vec<ArrayRef> = vec![
            time_column(&[now]),
            text(drift),
            text(said.detector),
            text(&said.of),
            text(said.level_name()),
            Arc::new(Float64Array::from(vec![said.reading.statistic])),
            Arc::new(Float64Array::from(vec![said.reading.p_value])),
        ];
        self.send(Stream::Alerts, columns, vec![now])
    }

    /// A training failed, or came to something only after setbacks.
    ///
    /// # Errors
    /// Only a defect.
    pub fn training(
        &mut self,
        model: &str,
        code: &str,
        level: &str,
        failures: usize,
        now: Micros,
    ) -> Result<(), Error> {
        self.outputs.counts().recent.alert(Alert {
            seen: wall_clock(),
            event_time: now,
            drift: "training".to_string(),
            detector: code.to_string(),
            of: model.to_string(),
            level: level.to_string(),
            statistic: failures as f64,
            p_value: None,
        });
        let text = |t: &str| -> ArrayRef { Arc::new(StringArray::from(vec![t])) };
        let columns: Vec<ArrayRef> = vec![
            time_column(&[now]),
            text("training"),
            text(code),
            text(model),
            text(level),
            Arc::new(Float64Array::from(vec![failures as f64])),
            Arc::new(Float64Array::from(vec![None])),
        ];
        self.send(Stream::Alerts, columns, vec![now])
    }

    fn send(
        &self,
        stream: Stream,
        columns: Vec<ArrayRef>,
        times: Vec<Micros>,
    ) -> Result<(), Error> {
        let schema = schema_of(stream, self.ids, &self.features);
        let rows = RecordBatch::try_new(schema, columns)
            .map_err(|e| Error::internal(format!("rows of {} do not fit: {e}", stream.name())))?;
        self.outputs.send(stream, rows, times);
        Ok(())
    }
}

fn time_column(times: &[Micros]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))
}

fn id_column(ids: &[Id], data_type: DataType) -> ArrayRef {
    match data_type {
        DataType::Int64 => Arc::new(Int64Array::from_iter(ids.iter().map(|id| match id {
            Id::Int(i) => Some(*i),
            _ => None,
        }))),
        _ => Arc::new(StringArray::from_iter_values(ids.iter().map(ToString::to_string))),
    }
}
