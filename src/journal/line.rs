//! The byte form of a line.
//!
//! ```text
//! {"n":7,"prev":"<64 hex>","record":<record>,"hash":"<64 hex>","crc":"<8 hex>"}\n
//! ```
//!
//! * `record` is compact JSON. Readers take its bytes as they stand and never write them anew, so a
//!   later build with more fields finds the same hash.
//! * `hash` is SHA-256 over the 64 characters of `prev` and the bytes of `record`. The first line's
//!   `prev` is 64 zeros.
//! * `crc` is CRC-32 (IEEE) over the line up to, and without, `,"crc"`.
//!
//! Every byte of a line is thus fixed by its number, its predecessor's hash and its record: a line is
//! checked by building it again and comparing. The chain tells a changed or missing line, wherever it
//! is; the CRC judges one line alone, when the chain before it is broken.

use sha2::{Digest, Sha256};
use tidemill_types::schema::hex;

/// What the first line gives as the hash before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const HASH: &[u8] = b",\"hash\":\"";
const CRC: &[u8] = b",\"crc\":\"";
/// Bytes after the record: hash and CRC members with their quotes, and the closing brace.
const TAIL: usize = HASH.len() + 64 + 1 + CRC.len() + 8 + 2;

/// Builds a line without its line feed, and the hash that the next line carries.
pub fn build(n: u64, prev: &str, record: &[u8]) -> (Vec<u8>, String) {
    let hash = hex(&Sha256::new().chain_update(prev).chain_update(record).finalize());
    let mut line = head(n, prev);
    line.reserve(record.len() + TAIL);
    line.extend_from_slice(record);
    line.extend_from_slice(HASH);
    line.extend_from_slice(hash.as_bytes());
    line.push(b'"');
    let crc = crc32fast::hash(&line);
    line.extend_from_slice(CRC);
    line.extend_from_slice(format!("{crc:08x}\"}}").as_bytes());
    (line, hash)
}

/// Checks a line without its line feed; gives the record's bytes and the line's hash, or what is wrong.
pub fn check<'a>(n: u64, prev: &str, line: &'a [u8]) -> Result<(&'a [u8], String), String> {
    let head = head(n, prev);
    if line.len() < head.len() + TAIL {
        return Err(alone(line).map_or_else(|why| why, |()| "it is too short".into()));
    }
    let record = &line[head.len()..line.len() - TAIL];
    let (built, hash) = build(n, prev, record);
    if built == line {
        return Ok((record, hash));
    }
    alone(line)?;
    Err(if line.starts_with(&head) {
        "its hash is not that of its record".into()
    } else if line.starts_with(format!("{{\"n\":{n},").as_bytes()) {
        "it does not carry the hash of the line before it".into()
    } else {
        format!("line number {n} of the chain is missing or out of place")
    })
}

/// Judges a line without the chain, by its CRC.
fn alone(line: &[u8]) -> Result<(), String> {
    let at = line.len().saturating_sub(CRC.len() + 10);
    let expected = format!("{:08x}\"}}", crc32fast::hash(&line[..at]));
    match line[at..].strip_prefix(CRC) {
        Some(found) if found == expected.as_bytes() => Ok(()),
        Some(_) => Err("its bytes do not match their CRC".into()),
        None => Err("it does not end as a journal line does".into()),
    }
}

fn head(n: u64, prev: &str) -> Vec<u8> {
    format!("{{\"n\":{n},\"prev\":\"{prev}\",\"record\":").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_frozen() {
        let (line, hash) = build(0, GENESIS, br#"{"kind":"finished","counts":[]}"#);
        let text = String::from_utf8(line.clone()).expect("ASCII");
        assert!(text.starts_with(r#"{"n":0,"prev":"0000"#), "{text}");
        // Computed apart, with Python's hashlib and zlib; a change would orphan every journal written.
        assert_eq!(hash, FROZEN_HASH);
        assert!(text.ends_with(FROZEN_END), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(check(0, GENESIS, &line).map(|(_, h)| h), Ok(hash));
    }

    const FROZEN_HASH: &str = "f5b5c3d0c8f004953af0e82bcfe8922560f8172c71629b12036fddae03c9e904";
    const FROZEN_END: &str = r#","crc":"7a2676f4"}"#;

    #[test]
    fn a_wrong_line_is_told_apart() {
        let (first, hash) = build(0, GENESIS, b"{}");
        let (second, _) = build(1, &hash, b"{}");
        let why = |n, prev: &str, line: &[u8]| check(n, prev, line).expect_err("wrong");
        assert!(why(1, &hash, &first).contains("missing or out of place"));
        assert!(why(1, GENESIS, &second).contains("before it"));
        assert!(why(0, GENESIS, b"").contains("does not end"));
        let mut flipped = first.clone();
        flipped[90] ^= 1;
        assert!(why(0, GENESIS, &flipped).contains("CRC"), "{}", why(0, GENESIS, &flipped));
    }
}
