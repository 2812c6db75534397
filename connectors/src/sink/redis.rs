//! `redis`: the newest row of each entity, as Feast's Redis store holds it ([`layout`]).
//!
//! * **Newest wins** by event time, and of equal ones the row that comes last. A script compares and writes in one step, so
//!   that neither late rows, nor a second writer (Feast's own, for example), nor rows that a restart sends again ever
//!   overwrite a newer one. Rows taken back (`diff` -1) are passed over: what is right follows them.
//! * **Commit** waits until Redis has answered for every row; of rows that wait, only the newest of each entity is sent.
//! * **Delivery** at least once, of upserts that change nothing the second time: after a crash the same contents.
//! * **Away** it is tried again at growing intervals, up to [`PATIENCE`]; what has no answer is sent again. A server that was started anew
//!   has lost what its disk had not: the last [`KEPT`] are sent again too, and one that comes back empty ends the run.
//! * **Memory** the rows of a pipeline, and what was sent in the last [`KEPT`], [`MOST_KEPT`] bytes at most.

mod layout;
mod readback;

use std::collections::{HashMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::SinkPlan;
use tidemill_types::time::MILLISECOND;
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Mark, Readback, Sink};
use crate::client::redis::{Connection, Reply, Server, Trouble, request};
use crate::keys;
use crate::steps;
use layout::Layout;
use readback::{elsewhere, read_back, remove};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "redis",
    summary: "the newest row of each entity, for Feast's online store",
    keys: &[
        ("url", "text", "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]"),
        ("key", "text or list of texts", "columns that are the entity's join keys"),
        ("project", "text, the pipeline's name", "Feast's project"),
        ("feature_view", "text, the pipeline's name", "Feast's feature view"),
        ("ttl", "duration, none", "an entity that gets no row for so long is forgotten"),
    ],
    delivery: |_| Delivery::Upserts,
    check: |plan| read(plan).map(drop),
    open: |plan, schema, _| {
        let keys = read(plan).map_err(keys::error)?;
        Ok(Box::new(RedisSink::open(keys, &schema, 0)?))
    },
    reopen: Some(|plan, schema, _, state| {
        let keys = read(plan).map_err(keys::error)?;
        let Standing { rows } = bincode::deserialize(state)
            .map_err(|e| Error::internal(format!("the mark of a Redis sink: {e}")))?;
        Ok(Box::new(RedisSink::open(keys, &schema, rows)?))
    }),
    readback: Some(Readback { elsewhere, read: read_back, remove }),
};

/// Rows that wait for each other, at most: of the same entity only the newest is sent.
const PIPELINE: usize = 2_048;

/// Bytes of them.
const PIPELINE_BYTES: usize = 4 << 20;

/// How long rows may wait for others. The first after a quiet time do not.
const COMMIT_EVERY: Duration = Duration::from_millis(10);

/// How long what was sent is kept: with `appendfsync everysec` Redis may lose what it acknowledged in the last second, or
/// two where its disk is slow.
const KEPT: Duration = Duration::from_secs(5);

/// Bytes of that.
const MOST_KEPT: usize = 64 << 20;

/// How long Redis may be away before the run ends. A restart goes on all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it may be away when the run begins.
const PATIENCE_AT_OPEN: Duration = Duration::from_secs(10);

/// Between two attempts: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Between two warnings about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Writes a row unless the entity has a newer one of its view; the answer is 1 if it did. `ARGV`: milliseconds
/// to live (0: for ever), field and value of the time, fields and values of the features. Times are
/// protobuf's: seconds (field 1) and nanoseconds (field 2), varints of two's complement.
const SCRIPT: &str = r"
local function parse(bytes)
  local at, found = 1, {0, 0}
  while at <= #bytes do
    local tag, number, inverse, unit, length = bytes:byte(at), 0, 0, 1, 0
    repeat
      at, length = at + 1, length + 1
      local byte = bytes:byte(at)
      number = number + byte % 128 * unit
      if length < 10 then inverse = inverse + (127 - byte % 128) * unit end
      unit = unit * 128
    until byte < 128
    if length == 10 then number = -inverse - 1 end
    at = at + 1
    if tag == 8 then found[1] = number elseif tag == 16 then found[2] = number end
  end
  return found[1], found[2]
end
local held = redis.call('HGET', KEYS[1], ARGV[2])
if held and held ~= ARGV[3] then
  local s, n = parse(held)
  local seconds, nanos = parse(ARGV[3])
  if s > seconds or s == seconds and n > nanos then return 0 end
end
for from = 2, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, from, math.min(from + 999, #ARGV)))
end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1";

struct Keys {
    server: Server,
    key: Vec<String>,
    project: String,
    view: String,
    ttl: Option<Micros>,
}

fn read(plan: &SinkPlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let url = params.text("url");
    let key = params.strings("key");
    let project = params.optional_text("project");
    let view = params.optional_text("feature_view");
    let ttl = params.optional_duration("ttl");
    let mut errors = params.finish().err().unwrap_or_default();
    let server = match Server::parse(&url.value) {
        _ if url.value.is_empty() => None,
        Ok(server) => Some(server),
        Err((why, cure)) => {
            let what = "`url` is no address of a Redis server";
            errors.push(Diagnostic::new(&url.span, what, why, cure));
            None
        }
    };
    if key.value.is_empty() {
        errors.push(Diagnostic::new(
            &plan.section.span,
            format!("{} has no `key`", plan.section.path),
            "rows are found by the join keys of an entity",
            "add `key = \"...\"`, a column of type string or int64",
        ));
    }
    if let Some(twice) = key.value.iter().enumerate().find(|(i, k)| key.value[..*i].contains(k)) {
        errors.push(Diagnostic::new(
            &key.span,
            format!("`key` names `{}` twice", twice.1),
            "a join key has one value",
            "name it once",
        ));
    }
    if ttl.is_some_and(|ttl| ttl < MILLISECOND) {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "`ttl` is shorter than a millisecond",
            "Redis counts in milliseconds",
            "write `ttl = \"7d\"`, or leave it out to keep rows for ever",
        ));
    }
    match server {
        Some(server) if errors.is_empty() => Ok(Keys {
            server,
            key: key.value,
            project: project.map_or_else(|| plan.pipeline.clone(), |p| p.value),
            view: view.map_or_else(|| plan.pipeline.clone(), |v| v.value),
            ttl,
        }),
        _ => Err(errors),
    }
}

fn given_up(server: &Server, trouble: Trouble, what: &str) -> Error {
    match trouble {
        Trouble::Refused(error) => error,
        Trouble::Away(why) => Error::external(format!("Redis at {server} {what}: {why}"))
            .help("see that the server is up and that `url` is right, and start again"),
    }
}

/// How far the sink had come at a line.
#[derive(Serialize, Deserialize)]
struct Standing {
    rows: u64,
}

/// A pipeline that was sent.
struct Sent {
    at: Instant,
    bytes: Vec<u8>,
    rows: usize,
    answered: bool,
    /// Whether they were counted: the first answer does that.
    counted: bool,
}

/// Rows that wait to be sent.
#[derive(Default)]
struct Waiting {
    /// Times and requests, in the order of their first coming.
    rows: Vec<(Micros, Vec<u8>)>,
    /// Where an entity's row stands.
    by_key: HashMap<Vec<u8>, usize>,
    bytes: usize,
}

struct RedisSink {
    server: Server,
    layout: Layout,
    /// Milliseconds, as text.
    ttl: String,
    connection: Option<Connection>,
    /// See [`Connection::life`].
    life: Option<String>,
    script: Vec<u8>,
    waiting: Waiting,
    sent: VecDeque<Sent>,
    /// Rows that Redis has answered for, those of former lives before the line too.
    rows: u64,
    older: u64,
    without_key: u64,
}

impl RedisSink {
    fn open(keys: Keys, schema: &SchemaRef, rows: u64) -> Result<RedisSink, Error> {
        let layout = Layout::new(schema, (&keys.project, &keys.view), &keys.key)?;
        let ttl = keys.ttl.map_or(0, |ttl| ttl / MILLISECOND).to_string();
        let mut sink = RedisSink {
            server: keys.server,
            layout,
            ttl,
            connection: None,
            life: None,
            script: Vec::new(),
            waiting: Waiting::default(),
            sent: VecDeque::new(),
            rows,
            older: 0,
            without_key: 0,
        };
        sink.settle(PATIENCE_AT_OPEN)?;
        Ok(sink)
    }

    /// Connects. What a server has lost that was started anew is to be sent again.
    fn connect(&mut self) -> Result<(), Trouble> {
        let mut connection = Connection::open(&self.server)?;
        if let Reply::Bytes(Some(hash)) =
            connection.ask(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()])?
        {
            self.script = hash;
        }
        let life = connection.life()?;
        let anew = life.is_none() || life != self.life;
        if anew && self.rows > 0 {
            if self.ttl == "0" && connection.ask(&[b"DBSIZE"])? == Reply::Number(0) {
                return Err(Trouble::Refused(self.emptied()));
            }
            let rows: usize = self.sent.iter().map(|sent| sent.rows).sum();
            self.sent.iter_mut().for_each(|sent| sent.answered = false);
            if rows > 0 {
                tracing::warn!(redis = %self.server, rows, "Redis was started anew: the newest rows are sent again");
            }
        }
        self.life = life;
        self.connection = Some(connection);
        Ok(())
    }

    fn emptied(&self) -> Error {
        let (server, rows) = (&self.server, self.rows);
        Error::external(format!("Redis at {server} is empty, and {rows} rows of this pipeline were written to it"))
            .help("it keeps nothing on its disk, or was emptied: restore it, or remove the run's checkpoints to write all rows again; appendonly yes lets it keep them")
    }

    /// Sends what has no answer, and takes the answers.
    fn exchange(&mut self) -> Result<(), Trouble> {
        if self.connection.is_none() {
            self.connect()?;
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        for sent in self.sent.iter_mut().filter(|sent| !sent.answered) {
            connection.send(&sent.bytes)?;
            let mut older = 0;
            for _ in 0..sent.rows {
                older += u64::from(connection.take()? == Reply::Number(0));
            }
            steps::pass("redis.answered");
            sent.answered = true;
            if !std::mem::replace(&mut sent.counted, true) {
                self.rows += sent.rows as u64;
                self.older += older;
            }
        }
        // It has been up until now: what it took that long ago is on its disk, if it keeps anything there.
        let now = Instant::now();
        let mut held: usize = self.sent.iter().map(|sent| sent.bytes.len()).sum();
        while let Some(oldest) = self.sent.front()
            && (now.duration_since(oldest.at) > KEPT || held > MOST_KEPT)
        {
            held -= oldest.bytes.len();
            self.sent.pop_front();
        }
        Ok(())
    }

    /// Exchanges until all is answered.
    fn settle(&mut self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let (mut pause, mut warned) = (PAUSES.0, None::<Instant>);
        loop {
            let why = match self.exchange() {
                Ok(()) => {
                    if warned.is_some() {
                        let seconds = began.elapsed().as_secs();
                        tracing::info!(redis = %self.server, seconds, "Redis is back");
                    }
                    return Ok(());
                }
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Away(why)) => why,
            };
            // Answers that are still to come belong to nobody now.
            self.connection = None;
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let what = format!("was away for {} s", patience.as_secs());
                return Err(given_up(&self.server, Trouble::Away(why), &what));
            }
            if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                warned = Some(Instant::now());
                tracing::warn!(redis = %self.server, why, "Redis does not take rows: they wait");
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn send(&mut self) -> Result<(), Error> {
        let Waiting { rows, bytes, .. } = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(bytes);
        rows.iter().for_each(|(_, request)| all.extend_from_slice(request));
        self.sent.push_back(Sent {
            at: Instant::now(),
            bytes: all,
            rows: rows.len(),
            answered: false,
            counted: false,
        });
        self.settle(PATIENCE)
    }

    /// The request for a row.
    fn request(&self, key: &[u8], time: Micros, rows: &RecordBatch, row: usize) -> Vec<u8> {
        let time = layout::timestamp(time);
        let features: Vec<_> = self.layout.features(rows, row).collect();
        let mut arguments: Vec<&[u8]> = Vec::with_capacity(7 + 2 * features.len());
        arguments.extend([b"EVALSHA", &self.script[..], b"1", key, self.ttl.as_bytes()]);
        arguments.extend([&self.layout.time[..], &time]);
        for (field, value) in &features {
            arguments.extend([&field[..], value]);
        }
        let mut out = Vec::new();
        request(&arguments, &mut out);
        out
    }
}

impl Sink for RedisSink {
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        for (row, time) in times.iter().copied().enumerate() {
            if self.layout.taken_back(rows, row) {
                continue;
            }
            let Some(key) = self.layout.key(rows, row) else {
                self.without_key += 1;
                continue;
            };
            let at = self.waiting.by_key.get(&key).copied();
            if at.is_some_and(|at| self.waiting.rows[at].0 > time) {
                self.older += 1;
                continue;
            }
            let request = self.request(&key, time, rows, row);
            self.waiting.bytes += request.len();
            match at {
                Some(at) => {
                    self.waiting.bytes -= self.waiting.rows[at].1.len();
                    self.waiting.rows[at] = (time, request);
                }
                None => {
                    self.waiting.by_key.insert(key, self.waiting.rows.len());
                    self.waiting.rows.push((time, request));
                }
            }
            if self.waiting.rows.len() >= PIPELINE || self.waiting.bytes >= PIPELINE_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    fn commit_every(&self) -> Duration {
        COMMIT_EVERY
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.send()
    }

    fn mark(&mut self) -> Result<Option<Mark>, Error> {
        let state = bincode::serialize(&Standing { rows: self.rows })
            .map_err(|e| Error::internal(format!("the mark of a Redis sink: {e}")))?;
        Ok(Some(Mark { state, files: Vec::new() }))
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.send()?;
        let (written, older, without_key) = (self.rows, self.older, self.without_key);
        tracing::info!(redis = %self.server, written, older, without_key, "Redis has every row");
        if without_key > 0 {
            tracing::warn!(redis = %self.server, rows = without_key, "rows whose key is NULL were not written: no entity has them");
        }
        Ok(())
    }
}
