//! `tidemill explain`: how an event got its score.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use serde_json::{Map, Value as Json, json};
use tidemill_config::document::load;
use tidemill_config::plan::Stream;
use tidemill_connectors::sink::Sink;
use tidemill_types::time::to_rfc3339;
use tidemill_types::{Error, Micros};

use super::replay::{folder_of, replay};
use super::{Failure, Said};
use crate::engine::check::compile;
use crate::engine::explain::{Event, Held, find, made_of};
use crate::engine::outputs::row_as_json;
use crate::engine::replay::{Extra, Stretch, prepare};
use crate::journal::{self, Record};

/// What a person asks.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// The event's id.
    #[arg(allow_negative_numbers = true)]
    id: String,
    /// The folder that the run wrote to; `out/NAME` if it is not given.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Names so many events of a window at most; the rest is counted.
    #[arg(long, default_value_t = 10)]
    events: usize,
    /// Shows no progress, and of the log only errors.
    #[arg(long)]
    quiet: bool,
}

/// Keeps the rows of one id, as JSON.
struct Kept {
    id: String,
    rows: Arc<Mutex<Vec<Json>>>,
}

impl Sink for Kept {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        for row in 0..rows.num_rows() {
            let found: Json = serde_json::from_str(&row_as_json(rows, row))
                .map_err(|e| Error::internal(format!("a row that is no JSON: {e}")))?;
            let id = match &found["id"] {
                Json::String(id) => id.clone(),
                id => id.to_string(),
            };
            if id == self.id {
                self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// Explains one event.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let mut compiled = compile(load(file, overrides)?)?;
    let folder = folder_of(&compiled, options.folder.as_ref(), "");
    let work = std::env::temp_dir().join(format!("tidemill-explain-{}", std::process::id()));
    let explained = prepare(&mut compiled, &folder, &work).and_then(|prepared| {
        // What is asked for is told, and nothing written.
        compiled.plan.sinks.clear();
        explain(compiled, &folder, &work, prepared.live, options)
    });
    if work.exists() {
        fs::remove_dir_all(&work).map_err(Error::from)?;
    }
    Ok(explained?)
}

fn explain(
    compiled: crate::engine::check::Compiled,
    folder: &Path,
    work: &Path,
    live: bool,
    options: &Options,
) -> Result<Said, Error> {
    let compiled = Arc::new(compiled);
    let spine = compiled.plan.sources[compiled.program.spine].name.value.clone();
    let asked = find(&compiled, work, &options.id)?.ok_or_else(|| {
        Error::user(format!("source `{spine}` has no event with the id {}", options.id)).help(
            "ids are those of the scores; an event that was refused or came too late stands among dead letters or late \
             rows",
        )
    })?;
    let made = made_of(&compiled, work, &asked)?;
    let names: Vec<String> =
        compiled.program.feature_schema.fields.iter().map(|f| f.name.clone()).collect();
    let tick = compiled.plan.pipeline.tick;
    let compiled = Arc::try_unwrap(compiled)
        .map_err(|_| Error::internal("the pipeline is still in use after its sources were read"))?;
    let rows = [Stream::Scores, Stream::Features].map(|stream| (stream, Arc::default()));
    let extra: Vec<Extra> = rows
        .iter()
        .map(|(stream, rows)| {
            let kept = Kept { id: options.id.clone(), rows: Arc::clone(rows) };
            (*stream, Box::new(kept) as Box<dyn Sink>)
        })
        .filter(|(stream, _)| *stream == Stream::Features || compiled.plan.score.is_some())
        .collect();
    let time = asked.event.time;
    let stretch = Stretch::new(time, time.saturating_add(1), live, extra);
    replay(compiled, work, stretch, 1, options.quiet)?;
    let [score, features] = rows.map(|(_, rows): (Stream, Arc<Mutex<Vec<Json>>>)| {
        rows.lock().unwrap_or_else(PoisonError::into_inner).first().cloned().unwrap_or_default()
    });
    let why = match score["model"].as_str() {
        Some(model) => because(folder, model, score["version"].as_u64().unwrap_or(0), time)?,
        None => Json::Null,
    };
    let features: Vec<Json> = names
        .iter()
        .zip(made)
        .map(|(name, held)| {
            json!({
                "name": name,
                "value": features[name.as_str()],
                "windows": held.iter().map(|held| window(held, options.events)).collect::<Vec<_>>(),
            })
        })
        .collect();
    let json = json!({
        "event": event(&asked.event, &spine),
        "columns": serde_json::from_str::<Json>(&row_as_json(&asked.row, 0)).unwrap_or_default(),
        "epoch": time.div_euclid(tick),
        "score": score,
        "because": why,
        "features": features,
    });
    Ok(Said { text: text(&json), json })
}

fn event(event: &Event, source: &str) -> Json {
    json!({
        "id": event.id.to_string(),
        "event_time": to_rfc3339(event.time),
        "source": source,
        "partition": event.partition,
        "offset": event.offset,
    })
}

fn window(held: &Held, most: usize) -> Json {
    let skip = held.events.len().saturating_sub(most);
    let newest = held.events.iter().skip(skip).map(|found| event(found, &held.source));
    json!({
        "window": held.window,
        "source": held.source,
        "events": held.events.len(),
        "newest": newest.collect::<Vec<_>>(),
    })
}

/// Why a version was in charge at a time: its manifest, and what the journal says of how it came there.
fn because(folder: &Path, model: &str, version: u64, time: Micros) -> Result<Json, Error> {
    let mut because = Map::new();
    for entry in journal::records(&folder.join("journal"))? {
        let entry = entry?;
        let record = match &entry.record {
            Record::Version { version: found }
                if found.model == model && found.version == version =>
            {
                "version"
            }
            Record::Gate(gate) if gate.model == model && gate.challenger == version => "gate",
            Record::Promoted(switch)
                if switch.model == model && switch.to == version && switch.event_time <= time =>
            {
                "promotion"
            }
            _ => continue,
        };
        let mut found = json!(entry.record);
        found["journal"] = json!(entry.n);
        because.insert(record.to_string(), found);
    }
    Ok(Json::Object(because))
}

fn text(json: &Json) -> String {
    let plain = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Null => "NULL".to_string(),
        other => other.to_string(),
    };
    let event = &json["event"];
    let mut text = format!(
        "event {} of source `{}` at {}\n  partition {}, offset {}, epoch {}\n",
        plain(&event["id"]),
        plain(&event["source"]),
        plain(&event["event_time"]),
        event["partition"],
        event["offset"],
        json["epoch"]
    );
    let score = &json["score"];
    match score["score"].is_null() {
        true => text += "\nno score\n",
        false => {
            let model = plain(&score["model"]);
            text +=
                &format!("\nscore {} by `{model}` version {}\n", score["score"], score["version"]);
            if !score["degraded"].is_null() {
                text += &format!("  degraded: {}\n", plain(&score["degraded"]));
            }
        }
    }
    let because = &json["because"];
    let promotion = &because["promotion"];
    if !promotion.is_null() {
        let at = promotion["event_time"].as_i64().map(to_rfc3339).unwrap_or_default();
        text += &format!(
            "  in charge since {at} (epoch {}, journal record {}) in place of version {}: {}\n",
            promotion["epoch"],
            promotion["journal"],
            promotion["from"],
            plain(&promotion["why"])
        );
    }
    let version = &because["version"]["version"];
    if !version.is_null() {
        let lineage = &version["lineage"];
        let labels = |n: usize| match lineage["labels"][n].as_i64() {
            Some(Micros::MIN) => "the beginning".to_string(),
            label => label.map(to_rfc3339).unwrap_or_default(),
        };
        text += &format!(
            "  it has learnt {} rows with labels from {} to {}; asked for by: {}; artifact {:.12}\n",
            lineage["rows"],
            labels(0),
            labels(1),
            plain(&lineage["trigger"]),
            plain(&version["artifact"])
        );
        for offset in lineage["offsets"].as_array().into_iter().flatten() {
            text += &format!("  read up to {} offset {}\n", plain(&offset[0]), offset[1]);
        }
    }
    text += "\nfeatures\n";
    for feature in json["features"].as_array().into_iter().flatten() {
        text += &format!("  {:<28} {}\n", plain(&feature["name"]), plain(&feature["value"]));
        for window in feature["windows"].as_array().into_iter().flatten() {
            let of = |e: &Json| format!("{} ({}:{})", plain(&e["id"]), e["partition"], e["offset"]);
            let newest: Vec<String> =
                window["newest"].as_array().into_iter().flatten().map(of).collect();
            let all = window["events"].as_u64().unwrap_or(0);
            let more = all - newest.len() as u64;
            text += &format!(
                "      {} of `{}` in {}: {}{}\n",
                if all == 1 { "1 event".to_string() } else { format!("{all} events") },
                plain(&window["source"]),
                plain(&window["window"]),
                if more > 0 { format!("{more} older, ") } else { String::new() },
                newest.join(", ")
            );
        }
    }
    text
}
