//! `redis`: the newest row of each entity, as Feast's Redis store holds it ([`layout`]).
//!
//! * **Newest wins** by event time, and of equal ones the row that comes last. A script compares and writes in one step, so
//!   that neither late rows, nor a second writer (Feast's own, for example), nor rows that a restart sends again ever
//!   overwrite a newer one. Rows taken back (`diff` -1) are passed over: what is right follows them.
//! * **Commit** waits until Redis has answered for every row; of rows that wait, only the newest of each entity is sent.
//! * **Delivery** at least once, of upserts that change nothing the second time: after a crash the same contents.
//! * **Away** it is tried again at growing intervals, up to [`PATIENCE`]; what has no answer is sent again. A server that was started anew
//!   has lost what its disk had not, and a replica that takes over what it was not told: the last seconds are sent again too
//!   ([`nodes`]), and a server that comes back empty ends the run.
//! * **Memory** the rows of a pipeline, and what was sent in the last seconds, 64 MiB at most.

mod layout;
mod nodes;
mod readback;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SinkPlan};
use tidemill_config::section::Params;
use tidemill_types::time::MILLISECOND;
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Mark, Readback, Sink};
use crate::client::redis::{Files, Server, Slot, Trouble, request};
use crate::keys;
use layout::Layout;
use nodes::{Nodes, names};
use readback::{elsewhere, read_back, remove};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "redis",
    summary: "the newest row of each entity, for Feast's online store",
    keys: &[
        (
            "url",
            "text or list of texts",
            "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS; some of a cluster",
        ),
        ("cluster", "true or false, false", "`url` names servers of a cluster, one or more"),
        (
            "ca",
            "text, none",
            "PEM: who signs the servers' certificates; those whom this machine trusts if not given",
        ),
        ("certificate", "text, none", "PEM: what this program shows to servers that ask"),
        ("private_key", "text, none", "PEM: the key of `certificate`"),
        ("key", "text or list of texts", "columns that are the entity's join keys"),
        ("project", "text, the pipeline's name", "Feast's project"),
        ("feature_view", "text, the pipeline's name", "Feast's feature view"),
        ("ttl", "duration, none", "an entity that gets no row for so long is forgotten"),
    ],
    delivery: |_| Delivery::Upserts,
    check: |plan| read(plan).map(drop),
    targets: |_| Vec::new(),
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

/// How long Redis may be away before the run ends. A restart goes on all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it may be away when the run begins.
const PATIENCE_AT_OPEN: Duration = Duration::from_secs(10);

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
    /// The only one, or some of a cluster.
    servers: Vec<Server>,
    cluster: bool,
    key: Vec<String>,
    project: String,
    view: String,
    ttl: Option<Micros>,
}

/// `ca`, `certificate` and `private_key`.
fn files(params: &mut Params<'_>) -> (Files, Option<At<PathBuf>>) {
    let mut file = |key| params.node(key).is_some().then(|| params.path(key));
    let (ca, certificate, key) = (file("ca"), file("certificate"), file("private_key"));
    let any = [&ca, &certificate, &key].into_iter().flatten().next().cloned();
    let alone = match (&certificate, &key) {
        (Some(certificate), None) => {
            Some((certificate, "`certificate` stands without `private_key`"))
        }
        (None, Some(key)) => Some((key, "`private_key` stands without `certificate`")),
        _ => None,
    };
    if let Some((file, what)) = alone {
        params.refuse(Diagnostic::new(
            &file.span,
            what,
            "whoever shows a certificate has to prove that it is theirs",
            "name both files, or none",
        ));
    }
    let identity = certificate.zip(key).map(|(certificate, key)| (certificate.value, key.value));
    (Files { ca: ca.map(|ca| ca.value), identity }, any)
}

/// The servers of `url`.
fn servers(
    urls: &[At<String>],
    cluster: bool,
    (files, file): (&Files, Option<&At<PathBuf>>),
    errors: &mut Vec<Diagnostic>,
) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for url in urls {
        let wrong = |why: String, cure: &str| {
            Diagnostic::new(&url.span, "`url` is no address of a Redis server", why, cure)
        };
        match Server::parse(&url.value) {
            Err((why, cure)) => errors.push(wrong(why, cure)),
            Ok(server) if cluster && server.database() > 0 => {
                let cure = "leave out the number behind the /";
                errors.push(wrong("a cluster has no databases".to_string(), cure));
            }
            Ok(server) if servers.first().is_some_and(|first| !first.alike(&server)) => {
                let why = "user, password and TLS are those of the whole cluster";
                let cure = "write all addresses with the same user and password, and all with redis:// or all with rediss://";
                errors.push(wrong(why.to_string(), cure));
            }
            Ok(server) => servers.push(server),
        }
    }
    if let Some(second) = urls.get(1).filter(|_| !cluster) {
        errors.push(Diagnostic::new(
            &second.span,
            "`url` names more than one server",
            "several servers are those of a cluster",
            "add `cluster = true`, or name one server",
        ));
    }
    if let Some(file) = file.filter(|_| servers.iter().any(|server| !server.secure())) {
        errors.push(Diagnostic::new(
            &file.span,
            "certificates without TLS",
            "`url` begins with redis://, so nothing is encrypted",
            "write rediss:// in `url`, with the port that speaks TLS",
        ));
        return Vec::new();
    }
    let mut trusting = Vec::new();
    for server in servers {
        match server.trusting(files) {
            Ok(server) => trusting.push(server),
            Err(why) => {
                let at = file.map_or_else(|| urls[0].span.clone(), |file| file.span.clone());
                let cure = "give files of PEM: ca, and where the servers ask for it certificate and private_key";
                errors.push(Diagnostic::new(&at, "no TLS to Redis with these files", why, cure));
                return Vec::new();
            }
        }
    }
    trusting
}

fn read(plan: &SinkPlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let urls = params.optional_texts("url").unwrap_or_default();
    if urls.is_empty() {
        // Says that it is missing.
        params.text("url");
    }
    let cluster = params.boolean("cluster", false);
    let (files, file) = files(&mut params);
    let key = params.strings("key");
    let project = params.optional_text("project");
    let view = params.optional_text("feature_view");
    let ttl = params.optional_duration("ttl");
    let mut errors = params.finish().err().unwrap_or_default();
    let servers = servers(&urls, cluster, (&files, file.as_ref()), &mut errors);
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
    match errors.is_empty() {
        true => Ok(Keys {
            servers,
            cluster,
            key: key.value,
            project: project.map_or_else(|| plan.pipeline.clone(), |p| p.value),
            view: view.map_or_else(|| plan.pipeline.clone(), |v| v.value),
            ttl,
        }),
        false => Err(errors),
    }
}

fn given_up(servers: &str, trouble: Trouble, what: &str) -> Error {
    match trouble {
        Trouble::Refused(error) => error,
        Trouble::Away(why) => Error::external(format!("Redis at {servers} {what}: {why}"))
            .help("see that the server is up and that `url` is right, and start again"),
    }
}

/// How far the sink had come at a line.
#[derive(Serialize, Deserialize)]
struct Standing {
    rows: u64,
}

struct Row {
    time: Micros,
    slot: Slot,
    request: Vec<u8>,
}

/// Rows that wait to be sent.
#[derive(Default)]
struct Waiting {
    /// In the order of their first coming.
    rows: Vec<Row>,
    /// Where an entity's row stands.
    by_key: HashMap<Vec<u8>, usize>,
    bytes: usize,
}

struct RedisSink {
    layout: Layout,
    /// Milliseconds, as text.
    ttl: String,
    waiting: Waiting,
    nodes: Nodes,
    /// Rows that found a newer one here already.
    older: u64,
    without_key: u64,
}

impl RedisSink {
    fn open(keys: Keys, schema: &SchemaRef, rows: u64) -> Result<RedisSink, Error> {
        let layout = Layout::new(schema, (&keys.project, &keys.view), &keys.key)?;
        let ttl = keys.ttl.map_or(0, |ttl| ttl / MILLISECOND).to_string();
        let mut nodes = Nodes::new(keys.servers, keys.cluster, keys.ttl.is_some(), rows);
        nodes.settle(PATIENCE_AT_OPEN)?;
        let waiting = Waiting::default();
        Ok(RedisSink { layout, ttl, waiting, nodes, older: 0, without_key: 0 })
    }

    fn send(&mut self) -> Result<(), Error> {
        let Waiting { rows, .. } = std::mem::take(&mut self.waiting);
        match rows.is_empty() {
            true => Ok(()),
            false => self.nodes.send(rows.into_iter().map(|row| (row.slot, row.request)), PATIENCE),
        }
    }

    /// The request for a row.
    fn request(&self, key: &[u8], time: Micros, rows: &RecordBatch, row: usize) -> Vec<u8> {
        let time = layout::timestamp(time);
        let features: Vec<_> = self.layout.features(rows, row).collect();
        let mut arguments: Vec<&[u8]> = Vec::with_capacity(7 + 2 * features.len());
        arguments.extend([b"EVALSHA", self.nodes.script(), b"1", key, self.ttl.as_bytes()]);
        arguments.extend([&self.layout.time[..], &time]);
        for (field, value) in &features {
            arguments.extend([&field[..], value]);
        }
        request(&arguments)
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
            if at.is_some_and(|at| self.waiting.rows[at].time > time) {
                self.older += 1;
                continue;
            }
            let request = self.request(&key, time, rows, row);
            self.waiting.bytes += request.len();
            let new = Row { time, slot: self.nodes.slot(&key), request };
            match at {
                Some(at) => {
                    self.waiting.bytes -= self.waiting.rows[at].request.len();
                    self.waiting.rows[at] = new;
                }
                None => {
                    self.waiting.by_key.insert(key, self.waiting.rows.len());
                    self.waiting.rows.push(new);
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
        let state = bincode::serialize(&Standing { rows: self.nodes.rows })
            .map_err(|e| Error::internal(format!("the mark of a Redis sink: {e}")))?;
        Ok(Some(Mark { state, files: Vec::new() }))
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.send()?;
        let (written, older) = (self.nodes.rows, self.older + self.nodes.older);
        let without_key = self.without_key;
        tracing::info!(redis = %self.nodes, written, older, without_key, "Redis has every row");
        if without_key > 0 {
            tracing::warn!(redis = %self.nodes, rows = without_key, "rows whose key is NULL were not written: no entity has them");
        }
        Ok(())
    }
}
