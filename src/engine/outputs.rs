//! Results leave the dataflow: one thread drives every sink, and its bounded queue is the
//! back-pressure that a slow sink puts on the workers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use crossbeam_channel::{Sender, bounded};
use serde_json::{Map, Value as Json, json};
use tidemill_config::plan::Stream;
use tidemill_connectors::sink::{self, Delivery};
use tidemill_operators::column::values;
use tidemill_operators::dataflow::Wire;
use tidemill_types::{DataType, DeadLetter, Error, Micros, Schema as TypedSchema, Value};

use super::check::{self, Compiled};
use super::driver::{Driver, Opened};
use super::ingest::Shared;
use super::replay::Stretch;
use super::rows::OrderedRows;
use super::watch::Turns;
use crate::board::recent::{Recent, SAMPLES};
use crate::checkpoint::line::SharedLines;
use crate::host::{Handle, Host, Turn};
use crate::journal::Settled;

/// Batches that wait for the sinks at most.
const QUEUE: usize = 32;

/// What goes to the sinks' thread.
pub(super) enum Emission {
    /// Rows of one stream.
    Rows(Stream, RecordBatch, Vec<Micros>),
    /// What a source gave that is no use: counted by name, its rows if anybody takes them, and up to
    /// where it was read for that.
    Aside(Stream, Vec<((String, String), u64)>, Option<(RecordBatch, Vec<Micros>)>, Option<Until>),
    /// A line: where the sinks stand belongs to it.
    Mark,
}

/// A partition, and the first offset behind what was read of it.
pub type Until = (String, u64);

/// Where the sinks stand at a line.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct SinksState {
    /// By name.
    pub(super) sinks: BTreeMap<String, Option<Vec<u8>>>,
    /// How far dead letters and late rows were sent, by stream and partition.
    pub until: BTreeMap<(String, String), u64>,
    pub(super) dead_letters: BTreeMap<(String, String), u64>,
    pub(super) late: BTreeMap<String, u64>,
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
    /// Rows of each stream, in the order of [`Stream::ALL`]; those of dead letters and late rows only where
    /// a sink takes them.
    pub streams: [AtomicU64; Stream::ALL.len()],
    /// The newest of what went aside, and alerts.
    pub recent: Recent,
}

impl Counts {
    fn count(&self, stream: Stream, rows: usize) {
        let place = Stream::ALL.iter().position(|(known, _)| *known == stream);
        if let Some(count) = place.and_then(|place| self.streams.get(place)) {
            count.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }
}

/// What a source gave that is no use, on its way to the process that has the sinks.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Aside {
    stream: String,
    counts: Vec<((String, String), u64)>,
    rows: Option<(Wire, Vec<Micros>)>,
    until: Option<Until>,
}

/// Where emissions go.
#[derive(Clone)]
enum Way {
    /// To the sinks' thread.
    Sinks(Sender<Emission>),
    /// To the process that has the sinks.
    Head(Arc<dyn Fn(Aside) + Send + Sync>),
}

/// The way to the sinks. Clones share it.
#[derive(Clone)]
pub struct Outputs {
    to: Way,
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
            ("upstream", String),
            ("diff", Int64),
        ]),
        Stream::Features => {
            let mut all = TypedSchema::new([("id", ids), ("event_time", Timestamp)]);
            all.fields.extend(features.fields.iter().cloned());
            all.fields.push(tidemill_types::Field::new("diff", Int64));
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
    /// Rows go to a sink once all that was journaled before them is `settled`; the run is stopped when a
    /// sink fails, and a run that has failed gives no file a name that is not whole.
    ///
    /// # Errors
    /// A sink that cannot be opened.
    pub fn open(
        compiled: &Compiled,
        folder: &Path,
        settled: Settled,
        shared: &Arc<Shared>,
        (turns, lines, stretch): (Arc<Turns>, Option<SharedLines>, Option<Arc<Stretch>>),
        (state, host): (Option<SinksState>, &Host),
    ) -> Result<(Outputs, Handle<Result<(), Error>>), Error> {
        let mut open: Vec<Opened> = Vec::new();
        let counts = Arc::new(Counts::default());
        let state = state.unwrap_or_default();
        let (ids, features) = (compiled.id_type(), compiled.sent_features());
        for plan in &compiled.plan.sinks {
            let entry = sink::SINKS
                .iter()
                .find(|e| e.name == plan.section.kind.value)
                .ok_or_else(|| Error::internal("a sink passed the check and is not there"))?;
            let delivery = match (entry.delivery)(plan) {
                Delivery::ExactlyOnce | Delivery::Transactions => "exactly once",
                Delivery::Upserts => "idempotent upserts",
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
            let mark = state.sinks.get(name).and_then(Option::as_deref);
            let simulated = host.simulation().and_then(|world| world.sink(plan, &schema, mark));
            let sink = match (simulated, mark, entry.reopen) {
                (Some(sink), ..) => sink?,
                (None, Some(mark), Some(reopen)) => reopen(plan, schema, folder, mark)?,
                _ => (entry.open)(plan, schema, folder)?,
            };
            open.push(Opened::new(plan.stream, name.clone(), columns, sink, host));
        }
        for (stream, sink) in stretch.iter().flat_map(|stretch| stretch.take_extra()) {
            let name = format!("{} beside", stream.name());
            open.push(Opened::new(stream, name, None, sink, host));
        }
        let wanted: Vec<Stream> = open.iter().map(|opened| opened.stream).collect();
        let SinksState { until, dead_letters, late, .. } = state;
        *counts.dead_letters.lock().unwrap_or_else(PoisonError::into_inner) = dead_letters;
        *counts.late.lock().unwrap_or_else(PoisonError::into_inner) = late;
        let told = Arc::clone(&counts);
        let replay = stretch.map(|stretch| (stretch, Arc::clone(&shared.stop)));
        let host = host.clone();
        let (sinks, here) = (open, host.clone());
        let driver = Driver { sinks, settled, counts: told, lines, until, turns, replay, host };
        let (to, from) = here.channel(QUEUE);
        let (mut all, run) = (Some((driver, from)), Arc::clone(shared));
        let step = move |wait: bool| {
            let Some((driver, from)) = &mut all else { return Turn::Idle };
            match driver.step(from, wait) {
                Ok(Turn::Over(())) => {
                    let failed = run.has_failed();
                    Turn::Over(all.take().map_or(Ok(()), |(driver, _)| driver.close(failed)))
                }
                Ok(Turn::Moved) => Turn::Moved,
                Ok(Turn::Idle) => Turn::Idle,
                Err(error) => {
                    // A live run may wait for long until it has something to send again.
                    run.stop.store(true, Ordering::SeqCst);
                    Turn::Over(Err(error))
                }
            }
        };
        let thread = here.start("sinks", step)?;
        let stop = Arc::clone(&shared.stop);
        let to = Way::Sinks(to);
        Ok((Outputs { to, wanted: Arc::new(wanted), counts, stop }, thread))
    }

    /// The same counts without a way to the sinks, which may then end.
    pub fn closed(&self) -> Outputs {
        let to = Way::Sinks(bounded(0).0);
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
            self.counts.count(stream, rows.num_rows());
            self.emit(Emission::Rows(stream, rows, times));
        }
    }

    fn emit(&self, emission: Emission) {
        let to = match (&self.to, emission) {
            (Way::Sinks(to), emission) => to.send(emission).is_ok(),
            (Way::Head(to), Emission::Aside(stream, counts, rows, until)) => {
                let rows = rows.map(|(rows, times)| (Wire(rows), times));
                to(Aside { stream: stream.name().to_string(), counts, rows, until });
                true
            }
            // Models and what they give are the head's.
            (Way::Head(_), _) => true,
        };
        // The sinks' thread is gone only after an error, which the run reports when it has ended.
        if !to {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    /// The outputs of a process that has no sinks.
    pub fn elsewhere(
        compiled: &Compiled,
        stop: &Arc<AtomicBool>,
        way: Arc<dyn Fn(Aside) + Send + Sync>,
    ) -> Outputs {
        let wanted = compiled.plan.sinks.iter().map(|sink| sink.stream).collect();
        let (counts, stop) = (Arc::default(), Arc::clone(stop));
        Outputs { to: Way::Head(way), wanted: Arc::new(wanted), counts, stop }
    }

    /// Sends what another process had to say.
    pub fn aside(&self, aside: Aside) {
        let Aside { stream, counts, rows, until } = aside;
        let Some((stream, _)) = Stream::ALL.iter().find(|(_, name)| *name == stream) else {
            return;
        };
        self.counts.count(*stream, rows.as_ref().map_or(0, |(_, times)| times.len()));
        let rows = rows.map(|(Wire(rows), times)| (rows, times));
        self.emit(Emission::Aside(*stream, counts, rows, until));
    }

    /// Has the sinks give to the line under way where they stand, behind all that was sent.
    pub fn mark(&self) {
        self.emit(Emission::Mark);
    }

    /// Sends records that could not be used; `until` is told where they are all of a partition's up to there.
    pub fn dead_letters(&self, letters: Vec<DeadLetter>, until: Option<Until>) {
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        self.counts.recent.dead(&letters);
        for letter in &letters {
            *counts.entry((letter.source.clone(), letter.reason.clone())).or_default() += 1;
            if !self.wants(Stream::DeadLetters) {
                tracing::warn!(
                    source = letter.source,
                    offset = letter.provenance.offset,
                    reason = letter.reason,
                    detail = letter.detail,
                    "record refused, and no sink takes dead_letters"
                );
            }
        }
        let text = |of: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(letters.iter().map(of)))
        };
        let number = |of: &dyn Fn(&DeadLetter) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(letters.iter().map(of)))
        };
        let columns: Vec<ArrayRef> = vec![
            text(&|l| l.source.clone()),
            text(&|l| l.provenance.origin.clone()),
            number(&|l| i64::from(l.provenance.partition)),
            number(&|l| l.provenance.offset as i64),
            text(&|l| l.reason.clone()),
            text(&|l| l.detail.clone()),
            Arc::new(BinaryArray::from_iter_values(letters.iter().map(|l| &l.raw))),
        ];
        let schema = schema_of(Stream::DeadLetters, DataType::Int64, &TypedSchema::default());
        // A dead letter may have no time: it files under the latest roll.
        let rows = RecordBatch::try_new(schema, columns).ok();
        let rows = rows.map(|rows| (rows, vec![Micros::MIN; letters.len()]));
        let rows = rows.filter(|_| self.wants(Stream::DeadLetters));
        self.counts.count(Stream::DeadLetters, rows.as_ref().map_or(0, |_| letters.len()));
        let counts = counts.into_iter().collect();
        self.emit(Emission::Aside(Stream::DeadLetters, counts, rows, until));
    }

    /// Sends rows that came too late; `until` as for dead letters.
    pub fn late(&self, source: &str, rows: &OrderedRows, until: Option<Until>) {
        let n = rows.times.len();
        let counts = vec![((source.to_string(), String::new()), n as u64)];
        let newest = n.saturating_sub(SAMPLES)..n;
        let sample =
            |i: usize| (rows.ids[i].to_string(), rows.times[i], row_as_json(&rows.batch, i));
        self.counts.recent.late(source, newest.map(sample));
        if !self.wants(Stream::Late) {
            return self.emit(Emission::Aside(Stream::Late, counts, None, until));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![source; n])),
            Arc::new(StringArray::from_iter_values(rows.ids.iter().map(ToString::to_string))),
            Arc::new(TimestampMicrosecondArray::from(rows.times.clone()).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values((0..n).map(|i| row_as_json(&rows.batch, i)))),
        ];
        let schema = schema_of(Stream::Late, DataType::Int64, &TypedSchema::default());
        let batch = RecordBatch::try_new(schema, columns).ok();
        let batch = batch.map(|batch| (batch, rows.times.clone()));
        self.counts.count(Stream::Late, n);
        self.emit(Emission::Aside(Stream::Late, counts, batch, until));
    }
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
