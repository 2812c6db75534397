//! The gate's report as it is kept beside its version: sealed by its hash and, where the run has a key,
//! signed with HMAC-SHA256.
//!
//! ```text
//! <the report, one line of JSON>
//! {"sha256": "<of that line>", "hmac_sha256": "<the same, keyed>" or null}
//! ```
//!
//! The key is the value of `TIDEMILL_SIGNING_KEY`. The journal holds the same report in its chain.

use hmac::Mac;
use serde::{Deserialize, Serialize};
use tidemill_types::Error;
use tidemill_types::schema::hex;

use super::people::mac;
use super::registry::sha256;
use crate::journal::record::Report;

/// The variable that holds the key.
pub const KEY: &str = "TIDEMILL_SIGNING_KEY";

#[derive(Serialize, Deserialize)]
struct SealLine {
    sha256: String,
    hmac_sha256: Option<String>,
}

/// What a report's seal is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Signed with this key.
    Signed,
    /// Signed, and there is no key here to check it with.
    Unchecked,
    /// Whole, and never signed.
    Unsigned,
    /// Not signed, and there is a key here: a signature may have been taken away.
    Stripped,
    /// Changed since, or signed with another key.
    Broken,
}

impl Seal {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Seal::Signed => "signed",
            Seal::Unchecked => "signed; set TIDEMILL_SIGNING_KEY to check it",
            Seal::Unsigned => "whole, not signed",
            Seal::Stripped => {
                "NOT SIGNED, though TIDEMILL_SIGNING_KEY is set: it may have been changed"
            }
            Seal::Broken => "BROKEN: changed since it was written, or signed with another key",
        }
    }
}

/// The key of this process, if it has one.
pub fn key() -> Option<String> {
    std::env::var(KEY).ok().filter(|key| !key.is_empty())
}

fn sign(report: &[u8], key: &str) -> String {
    let mut mac = mac(key.as_bytes());
    mac.update(report);
    hex(&mac.finalize().into_bytes())
}

/// The bytes of the file.
///
/// # Errors
/// Only a defect.
pub fn seal(report: &Report, key: Option<&str>) -> Result<Vec<u8>, Error> {
    let broken = |e: serde_json::Error| Error::internal(format!("a report cannot be kept: {e}"));
    let mut bytes = serde_json::to_vec(report).map_err(broken)?;
    let seal = SealLine { sha256: sha256(&bytes), hmac_sha256: key.map(|key| sign(&bytes, key)) };
    bytes.push(b'\n');
    bytes.extend(serde_json::to_vec(&seal).map_err(broken)?);
    bytes.push(b'\n');
    Ok(bytes)
}

/// The report in a file, and what its seal is worth.
///
/// # Errors
/// What is no report.
pub fn open(bytes: &[u8], key: Option<&str>) -> Result<(Report, Seal), Error> {
    let broken = |e: serde_json::Error| {
        Error::external(format!("this is no report: {e}")).help("restore the file from a backup")
    };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (text, seal) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let report = serde_json::from_slice(text).map_err(broken)?;
    let sealed: SealLine = serde_json::from_slice(seal).map_err(broken)?;
    let seal = match (&sealed.hmac_sha256, key) {
        _ if sha256(text) != sealed.sha256 => Seal::Broken,
        (None, None) => Seal::Unsigned,
        (None, Some(_)) => Seal::Stripped,
        (Some(_), None) => Seal::Unchecked,
        (Some(signature), Some(key)) if sign(text, key) == *signature => Seal::Signed,
        _ => Seal::Broken,
    };
    Ok((report, seal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Check;

    #[test]
    fn a_report_shows_whether_anybody_has_changed_it() {
        let check = Check {
            name: "nulls".into(),
            value: 0.1 + 0.2,
            limit: 0.5,
            passed: true,
            detail: "\"of\" age".into(),
        };
        let report = Report { model: "trees".into(), version: 3, epoch: 9, checks: vec![check] };
        for (key, with, wanted) in [
            (Some("k"), Some("k"), Seal::Signed),
            (Some("k"), None, Seal::Unchecked),
            (Some("k"), Some("other"), Seal::Broken),
            (None, Some("k"), Seal::Stripped),
        ] {
            let bytes = seal(&report, key).expect("sealed");
            assert_eq!(open(&bytes, with).expect("opened"), (report.clone(), wanted));
            let text = String::from_utf8(bytes).expect("text").replace("true", "false");
            assert_eq!(open(text.as_bytes(), with).expect("opened").1, Seal::Broken);
        }
        assert!(open(b"{}", None).is_err());
    }
}
