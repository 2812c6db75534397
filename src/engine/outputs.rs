//! Results leave the dataflow: one thread drives every sink, and its bounded queue is the
//! back-pressure that a slow sink puts on the workers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Map, Value as Json, json};
use tidemill_config::plan::Stream;
use tidemill_connectors::sink::{self, Delivery, Sink};
use tidemill_operators::column::values;
use tidemill_types::{DataType, DeadLetter, Error, Micros, Schema as TypedSchema, Value};

use super::check::{self, Compiled};
use super::reader::OrderedRows;
use super::watch::Turns;
use crate::mill::Settled;

/// Batches that wait for the sinks at most.
const QUEUE: usize = 32;

/// How often committed rows become visible.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// Rows of one stream.
struct Emission {
    stream: Stream,
    rows: RecordBatch,
    times: Vec<Micros>,
}

/// A sink and what it takes.
struct Opened {
    stream: Stream,
    /// Places of the columns that it wants; all of them if it does not say.
    columns: Option<Vec<usize>>,
    sink: Box<dyn Sink>,
}

impl Opened {
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        let Some(picks) = &self.columns else { return self.sink.write(rows, times) };
        let fits = |e| Error::internal(format!("columns of a sink: {e}"));
        self.sink.write(&rows.project(picks).map_err(fits)?, times)
    }
}

/// What has been sent so far, for the summary and the metrics.
#[derive(Default)]
pub struct Counts {
    /// Rows of the scores stream.
    pub scores: AtomicU64,
    /// Rows refused, by source and reason.
    pub dead_letters: Mutex<BTreeMap<(String, String), u64>>,
    /// Rows later than the lateness allows, by source.
    pub late: Mutex<BTreeMap<String, u64>>,
    /// Alerts.
    pub alerts: AtomicU64,
}

/// The way to the sinks. Clones share it.
#[derive(Clone)]
pub struct Outputs {
    to: Sender<Emission>,
    wanted: Arc<Vec<Stream>>,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
}

/// The columns of a stream.
pub fn schema_of(stream: Stream, ids: DataType, features: &TypedSchema) -> SchemaRef {
    use DataType::{Float64, Int64, String, Timestamp};
    let typed = |fields: &[(&str, DataType)]| TypedSchema::new(fields.iter().copied()).to_arrow();
    match stream {
        Stream::Scores => typed(&[
            ("id", ids),
            ("event_time", Timestamp),
            ("model", String),
            ("version", Int64),
            ("score", Float64),
            ("degraded", String),
            ("diff", Int64),
        ]),
        Stream::Features => {
            let mut all = TypedSchema::new([("id", ids), ("event_time", Timestamp)]);
            all.fields.extend(features.fields.iter().cloned());
            all.fields.push(tidemill_types::Field { name: "diff".to_string(), data_type: Int64 });
            all.to_arrow()
        }
        Stream::Models => typed(&[
            ("model", String),
            ("version", Int64),
            ("kind", String),
            ("artifact", String),
            ("since", Timestamp),
            ("rows", Int64),
            ("manifest", String),
        ]),
        Stream::Alerts => typed(&[
            ("event_time", Timestamp),
            ("drift", String),
            ("detector", String),
            ("of", String),
            ("level", String),
            ("statistic", Float64),
            ("p_value", Float64),
        ]),
        Stream::DeadLetters => {
            let mut fields: Vec<Field> = typed(&[
                ("source", String),
                ("origin", String),
                ("partition", Int64),
                ("offset", Int64),
                ("reason", String),
                ("detail", String),
            ])
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
            fields.push(Field::new("raw", arrow::datatypes::DataType::Binary, true));
            Arc::new(Schema::new(fields))
        }
        Stream::Late => {
            typed(&[("source", String), ("id", String), ("event_time", Timestamp), ("row", String)])
        }
    }
}

impl Outputs {
    /// Opens the sinks and starts their thread, which ends when every clone of the answer is gone.
    /// Rows go to a sink once all that was journaled before them is `settled`; `stop` is set when a
    /// sink fails.
    ///
    /// # Errors
    /// A sink that cannot be opened.
    pub fn open(
        compiled: &Compiled,
        folder: &Path,
        settled: Settled,
        stop: &Arc<AtomicBool>,
        turns: Arc<Turns>,
    ) -> Result<(Outputs, JoinHandle<Result<(), Error>>), Error> {
        let mut open: Vec<Opened> = Vec::new();
        let (ids, features) = (compiled.id_type(), compiled.sent_features());
        for plan in &compiled.plan.sinks {
            let entry = sink::SINKS
                .iter()
                .find(|e| e.name == plan.section.kind.value)
                .ok_or_else(|| Error::internal("a sink passed the check and is not there"))?;
            let delivery = match entry.delivery {
                Delivery::ExactlyOnce => "exactly once",
                Delivery::AtLeastOnce => "at least once",
            };
            let (name, kind) = (&plan.name.value, entry.name);
            tracing::info!(sink = %name, kind, delivery, "sink open");
            let mut schema = schema_of(plan.stream, ids, &features);
            let columns = check::sinks::picked(plan, &schema)
                .map_err(|_| Error::internal("a sink passed the check and names no column"))?;
            if let Some(picks) = &columns {
                let fits = |e| Error::internal(format!("columns of a sink: {e}"));
                schema = Arc::new(schema.project(picks).map_err(fits)?);
            }
            let sink = (entry.open)(plan, schema, folder)?;
            open.push(Opened { stream: plan.stream, columns, sink });
        }
        let wanted: Vec<Stream> = open.iter().map(|opened| opened.stream).collect();
        let (to, from) = bounded(QUEUE);
        let thread = std::thread::Builder::new()
            .name("sinks".to_string())
            .spawn(move || drive(open, &from, &settled, &turns))
            .map_err(|e| Error::external(format!("no thread for the sinks: {e}")))?;
        let counts = Arc::new(Counts::default());
        let stop = Arc::clone(stop);
        Ok((Outputs { to, wanted: Arc::new(wanted), counts, stop }, thread))
    }

    /// The same counts without a way to the sinks, which may then end.
    pub fn closed(&self) -> Outputs {
        let (to, _) = bounded(0);
        let (counts, stop) = (Arc::clone(&self.counts), Arc::clone(&self.stop));
        Outputs { to, wanted: Arc::default(), counts, stop }
    }

    /// What has been sent so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether anybody takes this stream: if not, its rows need not be made.
    pub fn wants(&self, stream: Stream) -> bool {
        self.wanted.contains(&stream)
    }

    /// Sends rows of a stream; waits while the sinks are behind.
    pub fn send(&self, stream: Stream, rows: RecordBatch, times: Vec<Micros>) {
        match stream {
            Stream::Scores => {
                self.counts.scores.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            }
            Stream::Alerts => {
                self.counts.alerts.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            }
            _ => {}
        }
        if self.wants(stream) {
            // The sinks' thread is gone only after an error, which the run reports when it has ended.
            if self.to.send(Emission { stream, rows, times }).is_err() {
                self.stop.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Sends a record that could not be used.
    pub fn dead_letter(&self, letter: DeadLetter) {
        if let Ok(mut counts) = self.counts.dead_letters.lock() {
            *counts.entry((letter.source.clone(), letter.reason.clone())).or_default() += 1;
        }
        if !self.wants(Stream::DeadLetters) {
            tracing::warn!(
                source = letter.source,
                offset = letter.provenance.offset,
                reason = letter.reason,
                detail = letter.detail,
                "record refused, and no sink takes dead_letters"
            );
            return;
        }
        let text = |s: &str| -> ArrayRef { Arc::new(StringArray::from(vec![s])) };
        let columns: Vec<ArrayRef> = vec![
            text(&letter.source),
            text(&letter.provenance.origin),
            Arc::new(Int64Array::from(vec![i64::from(letter.provenance.partition)])),
            Arc::new(Int64Array::from(vec![letter.provenance.offset as i64])),
            text(&letter.reason),
            text(&letter.detail),
            Arc::new(BinaryArray::from_vec(vec![&letter.raw])),
        ];
        let schema = schema_of(Stream::DeadLetters, DataType::Int64, &TypedSchema::default());
        if let Ok(rows) = RecordBatch::try_new(schema, columns) {
            // A dead letter may have no time: it files under the latest roll.
            self.send(Stream::DeadLetters, rows, vec![Micros::MIN]);
        }
    }

    /// Sends rows that came too late.
    pub fn late(&self, source: &str, rows: &OrderedRows) {
        let n = rows.times.len();
        if let Ok(mut counts) = self.counts.late.lock() {
            *counts.entry(source.to_string()).or_default() += n as u64;
        }
        if !self.wants(Stream::Late) {
            return;
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![source; n])),
            Arc::new(StringArray::from_iter_values(rows.ids.iter().map(ToString::to_string))),
            Arc::new(TimestampMicrosecondArray::from(rows.times.clone()).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values((0..n).map(|i| row_as_json(&rows.batch, i)))),
        ];
        let schema = schema_of(Stream::Late, DataType::Int64, &TypedSchema::default());
        if let Ok(batch) = RecordBatch::try_new(schema, columns) {
            self.send(Stream::Late, batch, rows.times.clone());
        }
    }
}

/// Writes what comes, makes it visible now and then, and closes the sinks when nobody sends.
fn drive(
    mut sinks: Vec<Opened>,
    from: &Receiver<Emission>,
    settled: &Settled,
    turns: &Turns,
) -> Result<(), Error> {
    let mut committed = Instant::now();
    let mut dirty = false;
    loop {
        turns.sinks.fetch_add(1, Ordering::Relaxed);
        // Only what was written and is not visible yet is a reason to wake without new rows.
        let emission = match dirty {
            true => from.recv_deadline(committed + COMMIT_EVERY),
            false => from.recv().map_err(RecvTimeoutError::from),
        };
        match emission {
            Ok(emission) => {
                settled.wait()?;
                let taking = |opened: &&mut Opened| opened.stream == emission.stream;
                for opened in sinks.iter_mut().filter(taking) {
                    opened.write(&emission.rows, &emission.times)?;
                }
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if dirty && committed.elapsed() >= COMMIT_EVERY {
            sinks.iter_mut().try_for_each(|opened| opened.sink.commit())?;
            (committed, dirty) = (Instant::now(), false);
        }
    }
    sinks.into_iter().try_for_each(|opened| opened.sink.close())
}

/// One row as a JSON object, for people: dead letters and late rows.
pub fn row_as_json(batch: &RecordBatch, row: usize) -> String {
    let mut object = Map::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let value = values(&column.slice(row, 1)).into_iter().next().unwrap_or_default();
        let data_type = DataType::from_arrow(field.data_type());
        object.insert(field.name().clone(), as_json(&value, data_type));
    }
    Json::Object(object).to_string()
}

fn as_json(value: &Value, data_type: Option<DataType>) -> Json {
    let inner = match data_type {
        Some(DataType::List(item) | DataType::Map(item)) => Some(item.into()),
        _ => None,
    };
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) if data_type == Some(DataType::Timestamp) => {
            Json::String(tidemill_types::time::to_rfc3339(*i))
        }
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Text(text) => Json::String(text.to_string()),
        Value::List(items) => items.iter().map(|item| as_json(item, inner)).collect(),
        Value::Map(entries) => {
            let each = entries.iter().map(|(key, value)| (key.to_string(), as_json(value, inner)));
            Json::Object(each.collect())
        }
    }
}
