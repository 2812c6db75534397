//! What a restart begins with: the newest line that is whole and of this pipeline.

use std::collections::BTreeMap;

use tidemill_types::{Error, Micros};

use super::line::{Position, Round, SavedSources};
use super::manifest::{FORMAT, Manifest};
use super::section;
use super::store::{Store, Unusable};

/// A line, read back.
pub struct Restored {
    /// Its number.
    pub line: u64,
    /// The first round that is not in it.
    pub round: Round,
    /// The event time at which that begins.
    pub before: Micros,
    /// From where partitions are read on.
    pub positions: Vec<Position>,
    /// `at_once`: rows that are owed their last answer, by worker.
    pub held: Vec<Vec<u8>>,
    /// Windows, by group of the program.
    pub windows: Vec<(usize, Vec<u8>)>,
    /// What the mill held, by name.
    pub mill: BTreeMap<String, Vec<u8>>,
    /// Where the sinks stood.
    pub sinks: Vec<u8>,
}

/// The newest whole line of this plan at these places, if there is one, and the number of the next.
///
/// A line that is damaged is named in the log, and the one before is taken.
///
/// # Errors
/// A store that does not answer. A line that cannot be read now may be whole, and what a run wrote that began before it
/// would not fit it any more.
pub fn newest(store: &Store, plan: &str, places: &str) -> Result<(Option<Restored>, u64), Error> {
    let lines = store.lines()?;
    let next = lines.first().map_or(1, |newest| newest + 1);
    for number in lines {
        let line = match store.line(number) {
            Ok(line) => line,
            Err(Unusable::Silent(error)) => return Err(silent(error)),
            Err(Unusable::Damaged(error)) => {
                tracing::warn!(%error, "a checkpoint is not whole; the one before is taken");
                continue;
            }
        };
        if line.format < FORMAT {
            tracing::warn!(
                "checkpoint {number} was made by Tidemill {}, in another form: it is not used",
                line.build
            );
            continue;
        }
        if line.plan != plan || line.places != places {
            let store = store.name();
            tracing::warn!(
                "checkpoint {number} in {store} is of another pipeline, or sources and sinks have \
                 moved since: it is not used"
            );
            continue;
        }
        match read(store, &line) {
            Ok(restored) => return Ok((Some(restored), next)),
            Err(Unusable::Silent(error)) => return Err(silent(error)),
            Err(Unusable::Damaged(error)) => {
                tracing::warn!(line = number, %error, "a checkpoint cannot be used; the one before is taken");
            }
        }
    }
    Ok((None, next))
}

fn silent(error: Error) -> Error {
    error.help("start the run again when the store of checkpoints can be read")
}

fn read(store: &Store, line: &Manifest) -> Result<Restored, Unusable> {
    let broken =
        |why: String| Unusable::Damaged(Error::external(format!("line {}: {why}", line.line)));
    let only = |name: &str| {
        let part = line.parts.iter().find(|part| part.name == name);
        store.get(part.ok_or_else(|| broken(format!("there is no part `{name}`")))?)
    };
    let sources: Vec<SavedSources> = section::decode(&only("sources")?).map_err(broken)?;
    let positions = sources.into_iter().flat_map(|saved| saved.positions).collect();
    let held = line.parts_of("held/").map(|(_, part)| store.get(part)).collect::<Result<_, _>>()?;
    let mut windows = Vec::new();
    for (rest, part) in line.parts_of("windows/") {
        let group = rest.split('/').next().and_then(|group| group.parse().ok());
        let group = group.ok_or_else(|| broken(format!("`{}` is no part", part.name)))?;
        let ranges: Vec<Vec<u8>> = section::decode(&store.get(part)?).map_err(broken)?;
        windows.extend(ranges.into_iter().map(|range| (group, range)));
    }
    let mut mill = BTreeMap::new();
    for (rest, part) in line.parts_of("mill/") {
        mill.insert(rest.to_string(), store.get(part)?);
    }
    Ok(Restored {
        line: line.line,
        round: line.round,
        before: line.before,
        positions,
        held,
        windows,
        mill,
        sinks: only("sinks")?,
    })
}
