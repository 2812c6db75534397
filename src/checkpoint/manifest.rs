//! The manifest of a line: what belongs to it, each part under the hash of its bytes.
//!
//! A manifest is JSON with a last member `check`, the SHA-256 of the text before it: one that is half
//! written or changed is known for what it is. Pure: no file, no clock.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tidemill_types::Micros;
use tidemill_types::schema::hex;

use super::migration;

/// The form of a line: of its manifest and of what its parts hold. A reader refuses a greater one, and brings a smaller
/// one to its own (see [`migration`]).
pub const FORMAT: u32 = 3;

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is: `mill`, `sinks`, `sources/0`, `windows/0/3`.
    pub name: String,
    /// SHA-256 of the packed bytes, hex: its name in the store.
    pub hash: String,
    /// Length of the packed bytes.
    pub bytes: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the writer, by which its parts are read.
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// SHA-256 of the resolved plan, hex: state of another plan has no meaning for this one.
    pub plan: String,
    /// A hash of where sources and sinks are: positions have a meaning there alone.
    pub places: String,
    /// The version of Tidemill that wrote it, for people.
    pub build: String,
    /// The number of the line, rising over all restarts.
    pub line: u64,
    /// The first round that is not in it.
    pub round: u64,
    /// The event time at which that round begins: every row before it is in, none after.
    pub before: Micros,
    /// Workers that wrote it, for people: any number may read it.
    pub workers: usize,
    /// What belongs to it.
    pub parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Checked<T> {
    line: T,
    check: String,
}

/// SHA-256 of a manifest's text. Its numbers are whole, so that one that was read gives the text that was written.
fn checksum(line: &impl Serialize) -> Result<String, String> {
    serde_json::to_vec(line).map(|text| sha256(&text)).map_err(|e| e.to_string())
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Manifest {
    /// Its bytes.
    ///
    /// # Errors
    /// Only a defect.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let checked = Checked { line: self, check: checksum(self)? };
        let mut text = serde_json::to_vec_pretty(&checked).map_err(|e| e.to_string())?;
        text.push(b'\n');
        Ok(text)
    }

    /// A manifest from its bytes.
    ///
    /// # Errors
    /// Bytes that are no whole manifest, or one of a form that cannot be brought to this one.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let not_whole = |e: serde_json::Error| format!("it is no whole manifest: {e}");
        let Checked::<Map<String, Value>> { mut line, check } =
            serde_json::from_slice(bytes).map_err(not_whole)?;
        if checksum(&line)? != check {
            return Err("its checksum does not fit".to_string());
        }
        let format = line.get("format").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let format = format.ok_or("it does not say of which format it is")?;
        migration::manifest(migration::STEPS, (format, FORMAT), &mut line)?;
        serde_json::from_value(Value::Object(line)).map_err(not_whole)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Manifest {
        Manifest {
            format: FORMAT,
            pipeline: "flights".into(),
            plan: "ab".repeat(32),
            places: "12".repeat(32),
            build: "0.1.0".into(),
            line: 17,
            round: 1 << 52,
            before: -5,
            workers: 2,
            parts: vec![
                Part { name: "mill".into(), hash: "cd".repeat(32), bytes: 9 },
                Part { name: "windows/0/0".into(), hash: "ef".repeat(32), bytes: 0 },
            ],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let line = sample();
        assert_eq!(Manifest::decode(&line.encode().unwrap()).unwrap(), line);
    }

    proptest! {
        /// A manifest that is cut off or changed is refused, or says what it said.
        #[test]
        fn damage_is_found(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let whole = sample().encode().unwrap();
            let at = at.index(whole.len());
            prop_assert!(at + 2 >= whole.len() || Manifest::decode(&whole[..at]).is_err());
            let mut bent = whole.clone();
            bent[at] = byte;
            if let Ok(found) = Manifest::decode(&bent) {
                prop_assert_eq!(found, sample());
            }
        }
    }

    #[test]
    fn a_later_format_is_refused() {
        let later = Manifest { format: FORMAT + 1, ..sample() };
        let said = Manifest::decode(&later.encode().unwrap()).unwrap_err();
        assert!(said.contains(&format!("format {}", FORMAT + 1)), "{said}");
    }
}
