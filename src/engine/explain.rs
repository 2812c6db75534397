//! What an event's features were made of: its sources are read again, and the rows listed that its windows held.
//!
//! A scan of the log and no dataflow: the spine once for the event, then each source that its windows are over once.
//! Rows are derived, filtered and refused as in a run; memory is the rows of the event's keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use tidemill_config::plan::{Frame, WindowPlan};
use tidemill_operators::dataflow::CallProgram;
use tidemill_operators::window::{Name, Rank, members};
use tidemill_types::{Error, Id, Key, Micros};

use super::check::Compiled;
use super::crew::{Way, open_sources, shared, start};
use super::lines::Begin;
use super::outputs::Outputs;
use super::rows::OrderedRows;
use super::run::Options;
use super::watch::Turns;
use crate::host::Host;
use crate::journal::Settled;

/// An event where it stands in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: Id,
    /// Its event time.
    pub time: Micros,
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

/// An event of the spine, with its columns.
pub struct Asked {
    /// Where it stands.
    pub event: Event,
    /// Its row.
    pub row: RecordBatch,
}

/// What a window held for the event, of one of its sources.
pub struct Held {
    /// The window's name.
    pub window: String,
    /// The source's name.
    pub source: String,
    /// The rows, in their order; those that a FILTER leaves out are not among them.
    pub events: Vec<Event>,
}

/// Finds an event of the spine by its id; the first of that id.
///
/// # Errors
/// A source that cannot be read.
pub fn find(compiled: &Arc<Compiled>, work: &Path, id: &str) -> Result<Option<Asked>, Error> {
    let mut found = None;
    scan(compiled, work, compiled.program.spine, &mut |partition, rows| {
        let at = rows.ids.iter().position(|known| known.to_string() == id);
        if let Some(at) = at {
            let (time, offset) = (rows.times[at], rows.offsets[at]);
            let event = Event { id: rows.ids[at].clone(), time, partition, offset };
            found = Some(Asked { event, row: rows.batch.slice(at, 1) });
        }
        found.is_none()
    })?;
    Ok(found)
}

/// What the windows of each feature held for an event, by feature in the order of the plan.
///
/// # Errors
/// A source that cannot be read.
pub fn made_of(
    compiled: &Arc<Compiled>,
    work: &Path,
    asked: &Asked,
) -> Result<Vec<Vec<Held>>, Error> {
    let program = &compiled.program;
    let mut rows: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    let used = |g: usize| program.features.iter().any(|f| f.calls.iter().any(|c| c.group == g));
    for s in 0..compiled.plan.sources.len() {
        let of_source =
            program.groups.iter().enumerate().filter(|(g, of)| used(*g) && of.stream(s).is_some());
        let keys: Vec<(usize, Option<Key>)> =
            of_source.map(|(g, of)| (g, of.spine_keys(&asked.row)[0])).collect();
        if keys.is_empty() {
            continue;
        }
        scan(compiled, work, s, &mut |partition, piece| {
            for (g, key) in &keys {
                let from = (s, partition);
                let kept = Row::of_key(compiled, *g, *key, asked.event.time, from, piece);
                rows.entry(*g).or_default().extend(kept);
            }
            true
        })?;
    }
    for rows in rows.values_mut() {
        rows.sort_by(|a, b| a.place().cmp(&b.place()));
    }
    let groups = groups_of(&compiled.plan.windows);
    let held = |call: &CallProgram| -> Vec<Held> {
        let group = &program.groups[call.group];
        let output = &group.group.outputs[call.output];
        let known = rows.get(&call.group).map(Vec::as_slice).unwrap_or_default();
        let places: Vec<(Micros, Name<'_>)> = known.iter().map(Row::place).collect();
        let read = (asked.event.time, &asked.event.id);
        let range = members((output.frame, output.edge), group.group.own_stream, read, &places);
        let passes = |row: &&Row| output.filter.is_none_or(|filter| row.passes.contains(&filter));
        let frame = |window: &WindowPlan| match window.frame {
            // The weights are the aggregate's; the rows are all there are.
            Frame::Decayed(_) => Frame::Lifetime,
            frame => frame,
        };
        let window = compiled.plan.windows.iter().zip(&groups).find(|(window, g)| {
            **g == call.group && (frame(window), window.edge) == (output.frame, output.edge)
        });
        let window = window.map_or_else(String::new, |(window, _)| window.name.value.clone());
        let of = |source: usize| Held {
            window: window.clone(),
            source: compiled.plan.sources[source].name.value.clone(),
            events: known[range.clone()]
                .iter()
                .filter(|row| row.source == source)
                .filter(passes)
                .map(|row| row.event.clone())
                .collect(),
        };
        group.streams.iter().map(|stream| of(stream.source)).collect()
    };
    let calls = |calls: &[CallProgram]| {
        let mut all: Vec<Held> = Vec::new();
        for held in calls.iter().flat_map(held) {
            let same = |known: &Held| {
                known.window == held.window
                    && known.source == held.source
                    && known.events == held.events
            };
            if !all.iter().any(same) {
                all.push(held);
            }
        }
        all
    };
    Ok(program.features.iter().map(|feature| calls(&feature.calls)).collect())
}

/// The group of each window: windows over the same sources by one key share one, in the order of the file.
fn groups_of(windows: &[WindowPlan]) -> Vec<usize> {
    let by = |window: &WindowPlan| -> Vec<(String, String)> {
        window.by.iter().map(|(c, e)| (c.value.clone(), e.value.clone())).collect()
    };
    let mut known = Vec::new();
    let place = |window: &WindowPlan| {
        let key = (window.sources.clone(), by(window));
        known.iter().position(|found| *found == key).unwrap_or_else(|| {
            known.push(key);
            known.len() - 1
        })
    };
    windows.iter().map(place).collect()
}

/// A row of one of the event's keys.
struct Row {
    event: Event,
    source: usize,
    rank: Rank,
    /// Columns of truth values of its group that are true.
    passes: Vec<usize>,
}

impl Row {
    /// How it orders among the rows of its key.
    fn place(&self) -> (Micros, Name<'_>) {
        (self.event.time, Name { rank: self.rank, id: &self.event.id })
    }

    fn of_key(
        compiled: &Compiled,
        g: usize,
        key: Option<Key>,
        until: Micros,
        (source, partition): (usize, u32),
        rows: &OrderedRows,
    ) -> Vec<Row> {
        let group = &compiled.program.groups[g];
        let Some(stream) = group.stream(source) else { return Vec::new() };
        let shared = stream.shared(&rows.batch);
        let mut filters: Vec<usize> = group.group.outputs.iter().filter_map(|o| o.filter).collect();
        filters.sort_unstable();
        filters.dedup();
        let filters: Vec<_> =
            filters.into_iter().map(|f| (f, group.columns[f].evaluate_rows(&shared).0)).collect();
        let keys = stream.keys(&rows.batch);
        let of = |n: &usize| key.is_some() && keys[*n] == key && rows.times[*n] <= until;
        (0..keys.len())
            .filter(of)
            .map(|n| Row {
                event: Event {
                    id: rows.ids[n].clone(),
                    time: rows.times[n],
                    partition,
                    offset: rows.offsets[n],
                },
                source,
                rank: stream.rank,
                passes: filters
                    .iter()
                    .filter(|(_, column)| {
                        let column = column.as_boolean();
                        !arrow::array::Array::is_null(column, n) && column.value(n)
                    })
                    .map(|(f, _)| *f)
                    .collect(),
            })
            .collect()
    }
}

/// Reads a source to its end, or until `take` has enough.
fn scan(
    compiled: &Arc<Compiled>,
    work: &Path,
    source: usize,
    take: &mut dyn FnMut(u32, &OrderedRows) -> bool,
) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let host = &Host::default();
    let options = Options {
        folder: work.to_path_buf(),
        workers: 1,
        members: None,
        speed: None,
        serve: None,
        stretch: None,
        host: host.clone(),
    };
    let shared = Arc::new(shared(compiled, &options, Arc::clone(&stop)));
    let turns = Arc::new(Turns::default());
    let nothing = (Arc::clone(&turns), None, None);
    let (settled, state) = (Settled::default(), (None, host));
    let (outputs, sinks) = Outputs::open(compiled, work, settled, &shared, nothing, state)?;
    let share = open_sources(&compiled.plan.sources, 0..1, 1)?.remove(0);
    let (mut readers, begin) = (Vec::new(), Begin::default());
    let (worker, stretch) = (0, None);
    let way = Way {
        outputs: &outputs,
        shared: &shared,
        offsets: &shared.offsets,
        turns: &turns,
        worker,
        begin: &begin,
        stretch,
        host,
    };
    let rows = Arc::new(AtomicU64::new(0));
    let mut result = Ok(());
    for (s, open) in share.into_iter().filter(|(s, _)| *s == source) {
        let feed = start(compiled, s, open, &way, &rows, &mut readers)?;
        for piece in feed.from {
            match piece {
                Ok(piece) if piece.rows.iter().all(|rows| take(piece.partition, rows)) => {}
                Ok(_) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    readers.into_iter().for_each(|reader| drop(reader.join()));
    drop(outputs);
    let _ = sinks.join();
    result
}
