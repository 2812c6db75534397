//! A text file in blocks of whole lines, and the lines of a block.
//!
//! A line end is `\n` or `\r\n`; lines of white space alone are passed over; a line beyond the limit is
//! handed out as its first bytes, refused. Blocks know nothing of each other, so that several threads
//! can parse them.

use std::io::{self, BufRead};

use memchr::{memchr, memrchr};

use super::Refusal;
use super::records::too_long;

/// Bytes of a block, unless a line is longer.
pub(super) const BLOCK: usize = 512 << 10;

/// Some whole lines.
#[derive(Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// All there is here is the beginning of a line of so many bytes.
    beginning_of: Option<u64>,
}

/// Cuts an input into blocks.
pub(super) struct Blocks {
    input: Box<dyn BufRead + Send>,
    /// The beginning of a line whose end is not read yet.
    rest: Vec<u8>,
    limit: usize,
    /// The input is at its end, or broken.
    ended: bool,
}

/// One line, without its end.
pub(super) struct Line<'a> {
    /// Its number in the block, from 1.
    pub number: u64,
    pub bytes: &'a [u8],
    /// Why it cannot even be parsed.
    pub refusal: Option<Refusal>,
}

/// How far a block is read.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    at: usize,
    /// Lines read.
    pub lines: u64,
}

impl Blocks {
    /// `limit`: bytes of the longest line.
    pub(super) fn new(input: Box<dyn BufRead + Send>, limit: usize) -> Blocks {
        Blocks { input, rest: Vec::new(), limit, ended: false }
    }

    /// The next lines; `None` at the end. `used` is a block that is read, whose memory serves again.
    ///
    /// With an error come the whole lines before the break.
    pub(super) fn next(&mut self, used: Block) -> (Option<Block>, Option<io::Error>) {
        let mut bytes = used.bytes;
        bytes.clear();
        bytes.append(&mut self.rest);
        let mut failed = None;
        // Two bytes more than the limit show that a line is too long, whatever its end.
        let most = BLOCK.max(self.limit + 2);
        let mut searched = 0;
        while !self.ended {
            let last = memrchr(b'\n', &bytes[searched..]).map(|at| searched + at);
            if bytes.len() >= BLOCK && last.is_some() {
                break;
            }
            if last.is_none() {
                searched = bytes.len();
            }
            if bytes.len() >= most {
                return self.long_line(bytes);
            }
            let wanted = if bytes.len() < BLOCK { BLOCK - bytes.len() } else { most - bytes.len() };
            match self.input.fill_buf() {
                Ok([]) => self.ended = true,
                Ok(found) => {
                    let taken = found.len().min(wanted);
                    bytes.extend_from_slice(&found[..taken]);
                    self.input.consume(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    failed = Some(error);
                    // A line that breaks off is no line.
                    bytes.truncate(memrchr(b'\n', &bytes).map_or(0, |at| at + 1));
                }
            }
        }
        if !self.ended {
            let end = memrchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1);
            self.rest.extend_from_slice(&bytes[end..]);
            bytes.truncate(end);
        }
        let block = (!bytes.is_empty()).then_some(Block { bytes, beginning_of: None });
        (block, failed)
    }

    /// Passes over the rest of a line that is too long; its beginning is the block.
    fn long_line(&mut self, mut bytes: Vec<u8>) -> (Option<Block>, Option<io::Error>) {
        let mut total = bytes.len() as u64;
        let mut last = bytes.last().copied();
        loop {
            match self.input.fill_buf() {
                Ok([]) => {
                    self.ended = true;
                    break;
                }
                Ok(found) => {
                    let end = memchr(b'\n', found);
                    let line = &found[..end.unwrap_or(found.len())];
                    total += line.len() as u64;
                    last = line.last().copied().or(last);
                    let used = line.len() + usize::from(end.is_some());
                    self.input.consume(used);
                    if end.is_some() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return (None, Some(error));
                }
            }
        }
        bytes.truncate(self.limit + 2);
        let total = total - u64::from(last == Some(b'\r'));
        (Some(Block { bytes, beginning_of: Some(total) }), None)
    }
}

impl Block {
    /// The next line that is not blank.
    pub(super) fn line(&self, place: &mut Place, limit: usize) -> Option<Line<'_>> {
        while place.at < self.bytes.len() {
            let from = &self.bytes[place.at..];
            let end = memchr(b'\n', from).map_or(from.len(), |at| at + 1);
            place.at += end;
            place.lines += 1;
            let (number, line) = (place.lines, &from[..end]);
            let bytes = without_line_end(line);
            if bytes.len() > limit {
                let total = self.beginning_of.unwrap_or(bytes.len() as u64);
                let bytes = without_line_end(&line[..limit]);
                return Some(Line { number, bytes, refusal: Some(too_long(total, limit)) });
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Some(Line { number, bytes, refusal: None });
            }
        }
        None
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
