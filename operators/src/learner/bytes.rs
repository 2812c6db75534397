//! The bytes of a saved state: a tag that names format and version, then 64-bit words, little end
//! first.

/// Writes a state.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(tag: &[u8; 4]) -> Writer {
        Writer(tag.to_vec())
    }

    pub(super) fn whole(&mut self, x: u64) {
        self.0.extend(x.to_le_bytes());
    }

    pub(super) fn float(&mut self, x: f64) {
        self.whole(x.to_bits());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a state, refusing what is cut off, left over or no finite number.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(state: &'a [u8], tag: &[u8; 4]) -> Result<Reader<'a>, String> {
        let rest = state.strip_prefix(tag.as_slice());
        rest.map(Reader).ok_or_else(|| "the state is of another kind or format".to_string())
    }

    pub(super) fn whole(&mut self) -> Result<u64, String> {
        let (word, rest) = self.0.split_first_chunk().ok_or("the state is cut off")?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }

    pub(super) fn float(&mut self) -> Result<f64, String> {
        let x = f64::from_bits(self.whole()?);
        if x.is_finite() {
            Ok(x)
        } else {
            Err("the state holds a number that is not finite".into())
        }
    }

    pub(super) fn finish(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err("the state is longer than it should be".into()) }
    }
}
