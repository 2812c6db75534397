//! The newest lines of a journal, without reading all of it.
//!
//! Lines are numbered and files are named by their first line, so a line is found by halving the file.
//! What is read here is shown to people and not checked against the chain: `tidemill journal verify` does that.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;
use tidemill_types::Error;

use super::read::files;

/// Lines of one page at most.
pub const PAGE: usize = 200;

/// Bytes of a file that are read through rather than halved once more.
const NEAR: u64 = 64 << 10;

/// A line as it stands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Line {
    /// Its number in the chain.
    pub n: u64,
    /// Its hash.
    pub hash: String,
    /// What it says.
    pub record: Json,
}

/// A page of lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The newest first.
    pub lines: Vec<Line>,
    /// How many lines there are on the disk.
    pub total: u64,
}

/// The newest `limit` lines ([`PAGE`] at most) before number `before`, or of all. Cost: some reads of 64 KiB,
/// and the lines. A line that is being written is passed over.
///
/// # Errors
/// A folder or a file that cannot be read, or lines that are none.
pub fn page(folder: &Path, before: Option<u64>, limit: usize) -> Result<Page, Error> {
    if !folder.is_dir() {
        return Ok(Page::default());
    }
    let files = files(folder)?;
    let total = total(&files)?;
    let end = before.unwrap_or(total).min(total);
    let begin = end.saturating_sub(limit.clamp(1, PAGE) as u64);
    let mut lines = between(&files, begin, end, total)?;
    lines.reverse();
    Ok(Page { lines, total })
}

/// Lines from number `from` on, in order, at most `limit`; [`Page::total`] says how many there are.
///
/// # Errors
/// As [`page`].
pub fn since(folder: &Path, from: u64, limit: usize) -> Result<Page, Error> {
    if !folder.is_dir() {
        return Ok(Page::default());
    }
    let files = files(folder)?;
    let total = total(&files)?;
    let lines = between(&files, from, from.saturating_add(limit as u64).min(total), total)?;
    Ok(Page { lines, total })
}

/// The number of the first line of a file.
fn first(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("journal-")?.parse().ok()
}

fn total(files: &[PathBuf]) -> Result<u64, Error> {
    let Some(path) = files.last() else { return Ok(0) };
    Ok(newest(path)?.map_or(first(path).unwrap_or(0), |n| n + 1))
}

fn between(files: &[PathBuf], begin: u64, end: u64, total: u64) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for (i, path) in files.iter().enumerate() {
        let own = first(path).unwrap_or(0);
        let next = files.get(i + 1).and_then(|next| first(next)).unwrap_or(total);
        if own < end && next > begin {
            read(path, begin.max(own), end.min(next), &mut lines)?;
        }
    }
    Ok(lines)
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::external(format!("cannot read the journal {}: {why}", path.display()))
        .help("`tidemill journal verify` says what is wrong with it")
}

/// The number at the beginning of a line.
fn number(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"n\":")?;
    let end = digits.iter().position(|b| *b == b',')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The number of the last whole line of a file.
fn newest(path: &Path) -> Result<Option<u64>, Error> {
    let mut file = File::open(path).map_err(|e| failed(path, &e))?;
    let length = file.metadata().map_err(|e| failed(path, &e))?.len();
    let mut window = NEAR;
    loop {
        let from = length.saturating_sub(window);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(|e| failed(path, &e))?;
        (&mut file).take(window).read_to_end(&mut bytes).map_err(|e| failed(path, &e))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        // Of what stands in the window only lines that begin in it are whole.
        let begin = bytes[..whole].iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        match begin.or((from == 0).then_some(0)) {
            Some(begin) => return Ok(number(&bytes[begin..whole])),
            None => window *= 4,
        }
    }
}

/// Reads the lines from `begin` to before `end`, all of which are in this file.
fn read(path: &Path, begin: u64, end: u64, lines: &mut Vec<Line>) -> Result<(), Error> {
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    let length = file.metadata().map_err(|e| failed(path, &e))?.len();
    let mut reader = BufReader::with_capacity(NEAR as usize, file);
    // The line `begin` starts in [low, high): halve until what is left is read as fast.
    let (mut low, mut high) = (0_u64, length);
    let mut line = Vec::new();
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        reader.seek(SeekFrom::Start(middle)).map_err(|e| failed(path, &e))?;
        line.clear();
        let skipped = reader.read_until(b'\n', &mut line).map_err(|e| failed(path, &e))? as u64;
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|e| failed(path, &e))?;
        match number(&line) {
            Some(n) if n <= begin => low = middle + skipped,
            _ => high = middle,
        }
    }
    reader.seek(SeekFrom::Start(low)).map_err(|e| failed(path, &e))?;
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|e| failed(path, &e))?;
        let Some(whole) = line.strip_suffix(b"\n") else { return Ok(()) };
        match number(whole) {
            Some(n) if n < begin => {}
            Some(n) if n >= end => return Ok(()),
            _ => lines.push(serde_json::from_slice(whole).map_err(|e| failed(path, &e))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Header, Record};
    use super::super::{Journal, records};
    use super::*;

    #[test]
    fn pages_from_the_end_are_those_of_the_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(page(&folder.path().join("none"), None, 10).expect("empty"), Page::default());
        let (mut journal, _) = Journal::open_rolling_at(folder.path(), 200_000).expect("a journal");
        journal.append(&Record::Header(Header::new("p", "plan"))).expect("a header");
        for n in 0..3_000_u64 {
            // Some lines are longer than a window.
            let why = "x".repeat(if n % 997 == 0 { 150_000 } else { n as usize % 300 });
            let record = Record::Finished { counts: vec![(why, n)] };
            journal.append(&record).expect("a record");
        }
        journal.sync().expect("on the disk");
        let whole: Vec<(u64, Json)> = records(folder.path())
            .expect("a journal")
            .map(|entry| entry.map(|e| (e.n, serde_json::json!(e.record))).expect("sound"))
            .collect();
        assert!(files(folder.path()).expect("files").len() > 3, "it has rolled");
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let page = page(folder.path(), before, 70).expect("a page");
            assert_eq!(page.total, 3_001);
            let Some(last) = page.lines.last() else { break };
            before = Some(last.n);
            found.extend(page.lines.into_iter().map(|line| (line.n, line.record)));
        }
        found.reverse();
        assert_eq!(found, whole);
        // And forward.
        let mut forward = Vec::new();
        loop {
            let page = since(folder.path(), forward.len() as u64, 700).expect("lines");
            if page.lines.is_empty() {
                break;
            }
            forward.extend(page.lines.into_iter().map(|line| (line.n, line.record)));
        }
        assert_eq!(forward, whole);
        // An unfinished line is not there yet.
        let last = files(folder.path()).expect("files").pop().expect("a file");
        let mut text = std::fs::read(&last).expect("bytes");
        text.extend_from_slice(b"{\"n\":3001,\"prev\":\"00");
        std::fs::write(&last, text).expect("written");
        let page = page(folder.path(), None, 1).expect("a page");
        assert_eq!((page.total, page.lines[0].n), (3_001, 3_000));
    }
}
