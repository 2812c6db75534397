//! What a restart begins with: the newest line that is whole and of this pipeline.

use std::collections::BTreeMap;

use tidemill_types::{Error, Micros};

use super::line::{Position, Round, SavedSources};
use super::manifest::{FORMAT, Manifest};
use super::store::{Store, Unusable};
use super::{migration, section};

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
                tracing::warn!(%error, "a checkpoint is not whole, or of another format; the one before is taken");
                continue;
            }
        };
        if line.plan != plan || line.places != places {
            let store = store.name();
            tracing::warn!(
                "checkpoint {number} in {store} is of another pipeline, or sources and sinks have \
                 moved since: it is not used"
            );
            continue;
        }
        match read(store, &line, &|_| true) {
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

/// A line that another process goes on from, without what that alone needs.
///
/// # Errors
/// One that is not there, or not whole.
pub fn shared(store: &Store, number: u64) -> Result<Restored, Error> {
    let line = store.line(number);
    let line = line.and_then(|line| read(store, &line, &|name| !name.starts_with("mill/")));
    line.map_err(|error| {
        Error::from(error).help(
            "all processes of a run keep checkpoints in one place: a folder that all see, or a bucket",
        )
    })
}

fn read(
    store: &Store,
    line: &Manifest,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Restored, Unusable> {
    let broken =
        |why: String| Unusable::Damaged(Error::external(format!("line {}: {why}", line.line)));
    let wanted = || line.parts.iter().filter(|part| wanted(&part.name));
    let contents = store.get(wanted())?;
    let parts = wanted().map(|part| part.name.clone()).zip(contents).collect();
    let mut parts =
        migration::parts(migration::STEPS, (line.format, FORMAT), parts).map_err(broken)?;
    let mut only = |name: &str| {
        let at = parts.iter().position(|(part, _)| part == name);
        at.map(|at| parts.remove(at).1).ok_or_else(|| broken(format!("there is no part `{name}`")))
    };
    let sources: Vec<SavedSources> = section::decode(&only("sources")?).map_err(broken)?;
    let positions = sources.into_iter().flat_map(|saved| saved.positions).collect();
    let sinks = only("sinks")?;
    let (mut held, mut windows, mut mill) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (name, content) in parts {
        match name.split_once('/') {
            Some(("held", _)) => held.push(content),
            Some(("mill", rest)) => drop(mill.insert(rest.to_string(), content)),
            Some(("windows", rest)) => {
                let group = rest.split('/').next().and_then(|group| group.parse().ok());
                let group = group.ok_or_else(|| broken(format!("`{name}` is no part")))?;
                let ranges: Vec<Vec<u8>> = section::decode(&content).map_err(broken)?;
                windows.extend(ranges.into_iter().map(|range| (group, range)));
            }
            _ => return Err(broken(format!("`{name}` is no part that this build knows"))),
        }
    }
    Ok(Restored {
        line: line.line,
        round: line.round,
        before: line.before,
        positions,
        held,
        windows,
        mill,
        sinks,
    })
}
