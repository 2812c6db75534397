//! The bytes of one part of a line: what it is, how long, its checksum, its content.
//!
//! ```text
//! "TMCK" | format u16 | length u64 | CRC-32 u32 | Zstandard frame of the content
//! ```
//!
//! Numbers are little-endian; length and checksum are those of the content. Pure: no file, no clock.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The form of a section; a reader refuses another one.
pub const FORMAT: u16 = 1;

const MAGIC: &[u8; 4] = b"TMCK";
const HEAD: usize = 4 + 2 + 8 + 4;

/// The most that a section may hold: a damaged length asks for no more memory than this.
const MOST: u64 = 1 << 36;

/// Packs a part's content.
///
/// # Errors
/// Only what the compressor says, which is a lack of memory.
pub fn pack(content: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(HEAD + content.len() / 3);
    out.extend(MAGIC);
    out.extend(FORMAT.to_le_bytes());
    out.extend((content.len() as u64).to_le_bytes());
    out.extend(crc32fast::hash(content).to_le_bytes());
    let packed = zstd::bulk::compress(content, 1).map_err(|e| e.to_string())?;
    out.extend(packed);
    Ok(out)
}

/// The content of a packed part.
///
/// # Errors
/// Anything but what [`pack`] wrote: another format, a part that is cut off or damaged.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let head = bytes.get(..HEAD).ok_or("it is cut off")?;
    let (magic, rest) = head.split_at(4);
    if magic != MAGIC {
        return Err("it is no part of a line".to_string());
    }
    let number = |at: std::ops::Range<usize>| {
        let mut word = [0; 8];
        word[..at.len()].copy_from_slice(&rest[at]);
        u64::from_le_bytes(word)
    };
    let (format, length, check) = (number(0..2), number(2..10), number(10..14));
    if format != u64::from(FORMAT) {
        return Err(format!("it is of format {format}, and this build reads {FORMAT}"));
    }
    if length > MOST {
        return Err("its length cannot be".to_string());
    }
    // Memory is taken as content comes out, and not as the head announces it.
    let decoder = zstd::Decoder::new(&bytes[HEAD..]).map_err(|e| e.to_string())?;
    let mut content = Vec::new();
    let mut limited = std::io::Read::take(decoder, length + 1);
    std::io::Read::read_to_end(&mut limited, &mut content).map_err(|e| e.to_string())?;
    if content.len() as u64 != length || u64::from(crc32fast::hash(&content)) != check {
        return Err("its checksum does not fit".to_string());
    }
    Ok(content)
}

/// A value as content.
///
/// # Errors
/// Only a defect: a value that has no bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serialize(value).map_err(|e| e.to_string())
}

/// A value from content.
///
/// # Errors
/// Content of something else.
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    use bincode::Options;
    let options = bincode::DefaultOptions::new().with_fixint_encoding();
    options.with_limit(content.len() as u64).deserialize(content).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(content in prop::collection::vec(any::<u8>(), 0..4_000)) {
            prop_assert_eq!(unpack(&pack(&content).unwrap()).unwrap(), content);
        }

        /// Damage of any kind is found: it never panics, and never gives other content.
        #[test]
        fn damage_is_found(
            content in prop::collection::vec(0..8u8, 0..2_000),
            at in any::<prop::sample::Index>(),
            flip in 1..=255u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = pack(&content).unwrap();
            let mut bent = whole.clone();
            bent[at.index(whole.len())] ^= flip;
            if let Ok(found) = unpack(&bent) {
                prop_assert_eq!(&found, &content);
            }
            let cut = cut.index(whole.len());
            prop_assert!(unpack(&whole[..cut]).is_err());
        }

        /// Any bytes decode to a value or to an error.
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            type Value = (Vec<(i64, String)>, Option<f64>, std::collections::BTreeMap<String, Vec<u64>>);
            let _ = decode::<Value>(&bytes);
            let _ = unpack(&bytes);
        }

        #[test]
        fn values_come_back(value in any::<(Vec<(i64, String)>, Option<u64>, bool)>()) {
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(decode::<(Vec<(i64, String)>, Option<u64>, bool)>(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn numbers_keep_their_bits() {
        for x in [f64::NAN, -0.0, f64::INFINITY, f64::from_bits(0x7ff0_0000_0000_0001)] {
            let back: f64 = decode(&encode(&x).unwrap()).unwrap();
            assert_eq!(back.to_bits(), x.to_bits());
        }
    }

    #[test]
    fn another_format_is_refused() {
        let mut bytes = pack(b"content").unwrap();
        bytes[4] = 9;
        assert!(unpack(&bytes).unwrap_err().contains("format 9"));
    }
}
