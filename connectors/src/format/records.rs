//! Cuts a stream of bytes into CSV records, whose quoted fields may hold line ends.
//!
//! A line end is `\n` or `\r\n`. Empty lines are passed over. A record beyond the limit is handed
//! out as its first bytes, refused; the rest of its line is passed over. A quote that never closes
//! costs its own line only: reading goes on at the line after it, so one bad quote does not eat the
//! file. That makes the worst case (every line opens a quote and none closes) read `max_record`
//! bytes a line.

use std::io::{self, BufRead, Read};

use tidemill_types::Error;

use super::Refusal;
use super::csv::Quotes;

/// The records of a text file.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    name: String,
    /// Read already, and to be read again.
    again: Vec<u8>,
    again_at: usize,
    buffer: Vec<u8>,
    lines: u64,
    limit: usize,
}

/// One record, without its line end.
pub(super) struct Record<'a> {
    /// The number of its first line, from 1.
    pub line: u64,
    pub bytes: &'a [u8],
    /// Why it cannot even be parsed.
    pub refusal: Option<Refusal>,
}

impl Records {
    pub(super) fn new(input: Box<dyn BufRead + Send>, name: &str, limit: usize) -> Records {
        Records {
            input,
            name: name.to_string(),
            again: Vec::new(),
            again_at: 0,
            buffer: Vec::new(),
            lines: 0,
            limit,
        }
    }

    /// Lines taken so far.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The next record that is not an empty line.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        loop {
            self.buffer.clear();
            let line = self.lines + 1;
            let refusal = match self.take_record() {
                Ok(None) => return Ok(None),
                Ok(Some(refusal)) => refusal,
                Err(error) => return Err(self.explain(&error)),
            };
            let end = without_line_end(&self.buffer).len();
            self.buffer.truncate(end);
            if !self.buffer.is_empty() || refusal.is_some() {
                return Ok(Some(Record { line, bytes: &self.buffer, refusal }));
            }
        }
    }

    /// Fills the buffer with a record and its line end; `None` at the end of the input.
    #[allow(clippy::option_option)]
    fn take_record(&mut self) -> io::Result<Option<Option<Refusal>>> {
        if !self.take_line()? {
            return Ok(None);
        }
        if self.too_long() {
            return self.pass_over().map(|refusal| Some(Some(refusal)));
        }
        let mut quotes = Quotes::default();
        let mut seen = 0;
        let mut first = 0;
        let mut lines = 0;
        loop {
            quotes.scan(&self.buffer[seen..]);
            seen = self.buffer.len();
            if first == 0 {
                first = seen;
            }
            if !quotes.open() {
                return Ok(Some(None));
            }
            let more = self.take_line()?;
            lines += u64::from(more);
            if !more || self.too_long() {
                self.read_again(first);
                self.lines -= lines;
                let detail =
                    format!("a quote opens here and does not close within {} bytes", self.limit);
                return Ok(Some(Some(Refusal::new("parse", detail))));
            }
        }
    }

    /// Appends a line with its end, or as much of it as shows that it is too long.
    fn take_line(&mut self) -> io::Result<bool> {
        let before = self.buffer.len();
        let again = &self.again[self.again_at..];
        if !again.is_empty() {
            let end = again.iter().position(|b| *b == b'\n').map_or(again.len(), |at| at + 1);
            self.buffer.extend_from_slice(&again[..end]);
            self.again_at += end;
        }
        if self.buffer.last() != Some(&b'\n') || self.buffer.len() == before {
            // Two bytes more than the limit leave room for a line end.
            let room = (self.limit + 2).saturating_sub(self.buffer.len()).max(1) as u64;
            self.input.by_ref().take(room).read_until(b'\n', &mut self.buffer)?;
        }
        let more = self.buffer.len() > before;
        self.lines += u64::from(more);
        Ok(more)
    }

    fn too_long(&self) -> bool {
        without_line_end(&self.buffer).len() > self.limit
    }

    /// Reads to the end of a line that is too long, and keeps its beginning.
    fn pass_over(&mut self) -> io::Result<Refusal> {
        let mut total = without_line_end(&self.buffer).len() as u64;
        let mut ended = self.buffer.last() == Some(&b'\n');
        while !ended {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let at = bytes.iter().position(|b| *b == b'\n');
            let used = at.map_or(bytes.len(), |at| at + 1);
            total += at.unwrap_or(used) as u64;
            ended = at.is_some();
            self.input.consume(used);
        }
        self.buffer.truncate(self.limit);
        Ok(too_long(total, self.limit))
    }

    /// Keeps the first bytes of the buffer, and has the others read again.
    fn read_again(&mut self, keep: usize) {
        let mut again = self.buffer.split_off(keep);
        again.extend_from_slice(&self.again[self.again_at..]);
        self.again = again;
        self.again_at = 0;
    }

    fn explain(&self, error: &io::Error) -> Error {
        Error::external(format!("{}: broken after line {}: {error}", self.name, self.lines))
            .help("every row before the break was read; fetch the file again")
    }
}

/// The refusal of a record that is too large.
pub(crate) fn too_large(bytes: u64, limit: usize) -> Refusal {
    let detail = format!("the record has {bytes} bytes, `max_record` is {limit}");
    Refusal::new("too_large", detail)
}

/// The same of a line that was not read whole.
pub(crate) fn too_long(bytes: u64, limit: usize) -> Refusal {
    let Refusal { reason, detail } = too_large(bytes, limit);
    Refusal { reason, detail: detail + "; its beginning is kept" }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
