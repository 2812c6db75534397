//! Spans of single events and requests, to a collector of OpenTelemetry.
//!
//! * **Sampled by the parent**: a record with a sampled `traceparent`, or a request with one, is traced; all others cost a look at
//!   a flag. Nothing is sampled here.
//! * **An event's spans**: `receive` (read, parsed, put in order), `features` (until they are known; in `final` most of it is
//!   the wait for the watermark), `score`, and `send` for each sink that takes it. Rows are known by their ids, so they need
//!   the source's `id`.
//! * **Never waited for**: a queue of [`QUEUE`] spans and [`ROWS`] rows; what finds them full, or a collector that is away, is
//!   dropped and counted.
//!
//! OpenTelemetry's own tracer is not used: its spans end where they began, in one thread and one stack, and a row's go through many.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde_json::{Value as Json, json};
use tidemill_config::plan::{Plan, Stream};
use tidemill_connectors::client::otlp::Collector;
use tidemill_connectors::client::otlp::messages::{self, Any};
use tidemill_types::{Error, Id, TraceContext};

/// Spans that wait to be sent.
const QUEUE: usize = 8_192;

/// Rows whose traces are known: the newest.
const ROWS: usize = 16_384;

/// Spans to a message.
const BATCH: usize = 512;

/// How long spans wait for others.
const EVERY: Duration = Duration::from_millis(500);

/// How long the end of a run waits for what is still to be sent.
const LAST: Duration = Duration::from_secs(6);

/// Between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// The tracer of this process, where a pipeline with `[traces]` runs.
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

/// Starts tracing, where the pipeline asks for it.
///
/// # Errors
/// Certificates that cannot be used.
pub fn start(plan: &Plan) -> Result<(), Error> {
    let Some(traces) = &plan.traces else { return Ok(()) };
    let collector = Collector::new(traces).map_err(|why| {
        let error = Error::user(format!("[traces] cannot send to {}: {why}", traces.endpoint));
        error.help("let `ca` name a file of PEM: who signed the collector's certificate")
    })?;
    let (to, from) = bounded(QUEUE);
    let counts = Arc::new(Counts::default());
    let (told, pipeline) = (Arc::clone(&counts), plan.pipeline.name.value.clone());
    let post = move || post(&collector, &pipeline, &from, &told);
    // Without a thread nothing is traced, and nothing else suffers.
    if std::thread::Builder::new().name("traces".to_string()).spawn(post).is_ok() {
        let tracer = Tracer {
            to,
            counts,
            rows: Mutex::default(),
            chance: RandomState::new(),
            made: AtomicU64::new(1),
        };
        let _ = TRACER.set(tracer);
    }
    Ok(())
}

/// Sends what waits, at the end of a run.
pub fn finish() {
    let Some(tracer) = tracer() else { return };
    let (done, wait) = bounded(1);
    if tracer.to.send_timeout(Message::Flush(done), LAST).is_ok() {
        let _ = wait.recv_timeout(LAST);
    }
}

/// What became of spans.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Makes spans.
pub struct Tracer {
    to: Sender<Message>,
    counts: Arc<Counts>,
    rows: Mutex<Rows>,
    chance: RandomState,
    made: AtomicU64,
}

enum Message {
    Span(Span),
    Flush(Sender<()>),
}

#[derive(Default)]
struct Rows {
    by_id: HashMap<Id, Row>,
    order: VecDeque<Id>,
}

/// A row under way.
#[derive(Clone, Copy)]
struct Row {
    /// Its newest span.
    context: TraceContext,
    /// When that ended.
    at: SystemTime,
}

/// What OpenTelemetry calls the kind of a span, by its number.
#[derive(Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
    Producer = 4,
    Consumer = 5,
}

struct Span {
    context: TraceContext,
    parent: [u8; 8],
    name: String,
    kind: Kind,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, Json)>,
    failed: bool,
}

impl Tracer {
    /// Spans that were sent and that were dropped so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.sent.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new span in the trace of another.
    fn below(&self, parent: TraceContext) -> TraceContext {
        let mut hasher = self.chance.build_hasher();
        hasher.write_u64(self.made.fetch_add(1, Ordering::Relaxed));
        // The specification forbids zero.
        TraceContext { span: hasher.finish().max(1).to_be_bytes(), ..parent }
    }

    fn end(&self, span: Span) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.to.try_send(Message::Span(span))
        {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rows of a source came with contexts: `(id, offset, context)` each. Those of the spine are followed further.
    pub fn received(
        &self,
        source: &str,
        partition: u32,
        spine: bool,
        began: SystemTime,
        rows: &[(Id, u64, TraceContext)],
    ) {
        let ended = SystemTime::now();
        let mut under_way = self.rows();
        for (id, offset, parent) in rows {
            let context = self.below(*parent);
            if spine {
                if under_way.by_id.insert(id.clone(), Row { context, at: ended }).is_none() {
                    under_way.order.push_back(id.clone());
                }
                if under_way.order.len() > ROWS
                    && let Some(oldest) = under_way.order.pop_front()
                {
                    under_way.by_id.remove(&oldest);
                }
            }
            self.end(Span {
                context,
                parent: parent.span,
                name: format!("receive {source}"),
                kind: Kind::Consumer,
                began,
                ended,
                attributes: vec![
                    ("messaging.system", json!("kafka")),
                    ("messaging.operation.type", json!("receive")),
                    ("messaging.destination.partition.id", json!(partition.to_string())),
                    ("messaging.kafka.offset", json!(offset)),
                    ("tidemill.source", json!(source)),
                    ("tidemill.id", json!(id.to_string())),
                ],
                failed: false,
            });
        }
    }

    /// The features of these rows are known.
    pub fn featured(&self, ids: &[Id]) {
        let now = SystemTime::now();
        let mut under_way = self.rows();
        if under_way.by_id.is_empty() {
            return;
        }
        for id in ids {
            let Some(row) = under_way.by_id.get_mut(id) else { continue };
            let (parent, began) = (row.context, row.at);
            *row = Row { context: self.below(parent), at: now };
            self.end(Span {
                context: row.context,
                parent: parent.span,
                name: "features".to_string(),
                kind: Kind::Internal,
                began,
                ended: now,
                attributes: vec![("tidemill.id", json!(id.to_string()))],
                failed: false,
            });
        }
    }

    /// When the scoring of a row begins; nothing of one that is not traced.
    pub fn scoring(&self, id: &Id) -> Option<SystemTime> {
        self.rows().by_id.contains_key(id).then(SystemTime::now)
    }

    /// A row was scored.
    pub fn scored(&self, id: &Id, began: SystemTime, model: &str, version: u64, score: f64) {
        let now = SystemTime::now();
        let mut under_way = self.rows();
        let Some(row) = under_way.by_id.get_mut(id) else { return };
        let parent = row.context;
        *row = Row { context: self.below(parent), at: now };
        self.end(Span {
            context: row.context,
            parent: parent.span,
            name: format!("score {model}"),
            kind: Kind::Internal,
            began,
            ended: now,
            attributes: vec![
                ("tidemill.model", json!(model)),
                ("tidemill.version", json!(version)),
                ("tidemill.score", json!(score)),
                ("tidemill.id", json!(id.to_string())),
            ],
            failed: false,
        });
    }

    /// Rows of a stream are about to be given to a sink.
    pub fn sending(&self, sink: &str, stream: Stream, rows: &RecordBatch) -> Option<Sending> {
        if !matches!(stream, Stream::Scores | Stream::Features) {
            return None;
        }
        let under_way = self.rows();
        if under_way.by_id.is_empty() {
            return None;
        }
        let ids = rows.column_by_name("id")?;
        let id = |row: usize| match ids.as_primitive_opt::<Int64Type>() {
            Some(numbers) => Some(Id::Int(numbers.value(row))),
            None => Some(Id::Text(ids.as_string_opt::<i32>()?.value(row).into())),
        };
        let traced = |row: usize| Some((row, under_way.by_id.get(&id(row)?)?.context));
        let parents: Vec<_> = (0..ids.len()).filter_map(traced).collect();
        let contexts = parents.iter().map(|(row, parent)| (*row, self.below(*parent))).collect();
        let began = SystemTime::now();
        (!parents.is_empty()).then_some(Sending {
            sink: sink.to_string(),
            stream,
            parents,
            contexts,
            began,
        })
    }

    /// The sink has them.
    pub fn sent(&self, sending: Sending) {
        let ended = SystemTime::now();
        for ((_, parent), (_, context)) in sending.parents.into_iter().zip(sending.contexts) {
            self.end(Span {
                context,
                parent: parent.span,
                name: format!("send {}", sending.sink),
                kind: Kind::Producer,
                began: sending.began,
                ended,
                attributes: vec![
                    ("tidemill.sink", json!(sending.sink)),
                    ("tidemill.stream", json!(sending.stream.name())),
                ],
                failed: false,
            });
        }
    }

    /// A request came with this `traceparent`; nothing of one that is not sampled.
    pub fn request(&self, header: &[u8]) -> Option<Requested> {
        let parent = TraceContext::sampled(header)?;
        Some(Requested { parent, context: self.below(parent), began: SystemTime::now() })
    }

    /// It was answered.
    pub fn answered(&self, request: Requested, method: &str, route: &str, status: u16, grpc: bool) {
        let name = if grpc {
            route.trim_start_matches('/').to_string()
        } else {
            format!("{method} {route}")
        };
        let mut attributes = vec![
            ("http.request.method", json!(method)),
            ("http.route", json!(route)),
            ("http.response.status_code", json!(status)),
        ];
        if grpc {
            attributes.push(("rpc.system", json!("grpc")));
        }
        self.end(Span {
            context: request.context,
            parent: request.parent.span,
            name,
            kind: Kind::Server,
            began: request.began,
            ended: SystemTime::now(),
            attributes,
            failed: status >= 500,
        });
    }
}

/// Rows on their way into a sink.
pub struct Sending {
    sink: String,
    stream: Stream,
    parents: Vec<(usize, TraceContext)>,
    contexts: Vec<(usize, TraceContext)>,
    began: SystemTime,
}

impl Sending {
    /// The contexts that go with them.
    pub fn contexts(&self) -> &[(usize, TraceContext)] {
        &self.contexts
    }
}

/// A request that is traced.
pub struct Requested {
    parent: TraceContext,
    context: TraceContext,
    began: SystemTime,
}

/// Sends spans in batches until nobody makes any.
fn post(collector: &Collector, pipeline: &str, from: &Receiver<Message>, counts: &Counts) {
    let (mut batch, mut warned) = (Vec::new(), None::<Instant>);
    let mut due = Instant::now() + EVERY;
    loop {
        let message = match batch.is_empty() {
            true => from.recv().map_err(|_| true),
            false => from.recv_deadline(due).map_err(|error| error.is_disconnected()),
        };
        let mut flushed = None;
        match message {
            Ok(Message::Span(span)) => {
                if batch.is_empty() {
                    due = Instant::now() + EVERY;
                }
                batch.push(span);
            }
            Ok(Message::Flush(done)) => flushed = Some(done),
            Err(true) => return,
            Err(false) => {}
        }
        let now = Instant::now();
        if !batch.is_empty() && (batch.len() >= BATCH || now >= due || flushed.is_some()) {
            let n = batch.len() as u64;
            let sent = collector.send(&encode(pipeline, &std::mem::take(&mut batch)));
            let (dropped, why) = match sent {
                Ok(0) => (0, None),
                Ok(refused) => (refused.min(n), Some("it refuses some of them".to_string())),
                Err(why) => (n, Some(why)),
            };
            counts.sent.fetch_add(n - dropped, Ordering::Relaxed);
            counts.dropped.fetch_add(dropped, Ordering::Relaxed);
            if let Some(why) = why
                && warned.is_none_or(|at| at.elapsed() > WARN_EVERY)
            {
                warned = Some(now);
                tracing::warn!(why, "the collector of traces takes no spans: they are dropped");
            }
        }
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

/// A message of these spans.
fn encode(pipeline: &str, spans: &[Span]) -> messages::ExportTraceServiceRequest {
    let nanos = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    };
    let value = |value: &Json| match value {
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Any::Int(whole),
            None => Any::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Any::Text(text.clone()),
        other => Any::Text(other.to_string()),
    };
    let pair = |(key, of): (&str, &Json)| {
        let value = Some(messages::AnyValue { value: Some(value(of)) });
        messages::KeyValue { key: key.to_string(), value }
    };
    let span = |span: &Span| messages::Span {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.to_vec(),
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: span.attributes.iter().map(|(k, v)| pair((k, v))).collect(),
        status: span.failed.then_some(messages::Status { code: 2 }),
        // Sampled, and its parent is of another process or of this one: not told.
        flags: 1,
    };
    let (name, version) = ("tidemill".to_string(), env!("CARGO_PKG_VERSION").to_string());
    let resource = [
        ("service.name", json!(name)),
        ("service.instance.id", json!(pipeline)),
        ("service.version", json!(version)),
    ];
    let attributes = resource.iter().map(|(k, v)| pair((k, v))).collect();
    let scope = messages::ScopeSpans {
        scope: Some(messages::InstrumentationScope { name, version }),
        spans: spans.iter().map(span).collect(),
    };
    let resource = messages::ResourceSpans {
        resource: Some(messages::Resource { attributes }),
        scope_spans: vec![scope],
    };
    messages::ExportTraceServiceRequest { resource_spans: vec![resource] }
}
