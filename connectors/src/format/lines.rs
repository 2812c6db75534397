//! Reads a file of one record a line, on one thread or on several.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::RecordBatch;
use tidemill_types::{Error, Schema};

use super::blocks::{Block, Blocks, Place};
use super::compression::Input;
use super::rows::Rows;
use super::text::PART_BYTES;
use super::{Decoder, FileReader, Layout, Part, Reject};

/// Blocks that wait for a parser at most.
const WAITING: usize = 2;

/// A file whose records are lines.
///
/// With several threads, blocks go to them in turn and come back in turn, so that the rows, their
/// lines and what is refused are those of one thread.
pub(super) struct LineReader {
    blocks: Blocks,
    parsing: Parsing,
    name: String,
    /// Lines handed out.
    lines: u64,
    /// What ends the file before its end, behind the rows before it.
    broken: Option<io::Error>,
    failed: Option<Error>,
}

enum Parsing {
    /// By whoever reads.
    Here {
        parser: Parser,
        block: Block,
        place: Place,
    },
    /// By others, who start at the first read.
    Waiting(Vec<Parser>),
    Crew(Crew),
}

impl LineReader {
    /// Over a file; `decoder` makes a parser of its records.
    pub(super) fn new(
        input: &Input,
        layout: &Layout,
        decoder: fn(&Layout) -> Box<dyn Decoder>,
    ) -> Result<LineReader, Error> {
        let parser = || Parser::new(decoder(layout), &layout.schema, layout.max_record);
        Ok(LineReader {
            blocks: Blocks::new(input.text()?, layout.max_record),
            parsing: match layout.threads {
                0 | 1 => Parsing::Here {
                    parser: parser(),
                    block: Block::default(),
                    place: Place::default(),
                },
                threads => Parsing::Waiting((0..threads).map(|_| parser()).collect()),
            },
            name: input.name.clone(),
            lines: 0,
            broken: None,
            failed: None,
        })
    }

    /// The end of the file, or what broke it.
    fn end(&mut self) -> Result<Option<Part>, Error> {
        if let Some(error) = self.broken.take() {
            let error = format!("{}: broken after line {}: {error}", self.name, self.lines);
            self.failed = Some(
                Error::external(error)
                    .help("every row before the break was read; fetch the file again"),
            );
        }
        self.failed.clone().map_or(Ok(None), Err)
    }
}

impl FileReader for LineReader {
    fn read(&mut self, rows: usize) -> Result<Option<Part>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Parsing::Waiting(parsers) = &mut self.parsing {
            self.parsing = Parsing::Crew(Crew::start(std::mem::take(parsers))?);
        }
        match &mut self.parsing {
            Parsing::Here { parser, block, place } => {
                while !parser.parse(block, place, self.lines, (rows, PART_BYTES)) {
                    self.lines += std::mem::take(&mut place.lines);
                    if self.broken.is_some() {
                        break;
                    }
                    let (next, broken) = self.blocks.next(std::mem::take(block));
                    (*place, self.broken) = (Place::default(), broken);
                    match next {
                        Some(next) => *block = next,
                        None => break,
                    }
                }
                match parser.finish()? {
                    Some(part) => Ok(Some(part)),
                    None => self.end(),
                }
            }
            Parsing::Waiting(_) => Err(Error::internal("the parsers did not start")),
            Parsing::Crew(crew) => loop {
                crew.feed(&mut self.blocks, &mut self.broken)?;
                let Some(parsed) = crew.take()? else { return self.end() };
                let before = self.lines;
                self.lines += parsed.read;
                if let Some(mut part) = parsed.part {
                    part.lines.iter_mut().for_each(|line| *line += before);
                    part.rejects.iter_mut().for_each(|reject| reject.line += before);
                    return Ok(Some(part));
                }
            },
        }
    }

    fn position(&self) -> u64 {
        match &self.parsing {
            Parsing::Here { place, .. } => self.lines + place.lines,
            _ => self.lines,
        }
    }
}

/// Makes rows of lines.
struct Parser {
    decoder: Box<dyn Decoder>,
    rows: Rows,
    lines: Vec<u64>,
    rejects: Vec<Reject>,
    /// Bytes of what was refused.
    refused: usize,
    limit: usize,
}

impl Parser {
    fn new(decoder: Box<dyn Decoder>, schema: &Schema, limit: usize) -> Parser {
        let (lines, rejects) = (Vec::new(), Vec::new());
        Parser { decoder, rows: Rows::new(schema), lines, rejects, refused: 0, limit }
    }

    /// Reads on in a block until there are `most` rows, or so many bytes of text or of what is refused; false if
    /// the block ends before.
    fn parse(
        &mut self,
        block: &Block,
        place: &mut Place,
        before: u64,
        most: (usize, usize),
    ) -> bool {
        while self.lines.len() + self.rejects.len() < most.0
            && self.rows.text_bytes().max(self.refused) < most.1
        {
            let Some(line) = block.line(place, self.limit) else { return false };
            let outcome = match line.refusal {
                Some(refusal) => Err(refusal),
                None => self.decoder.decode(line.bytes, &mut self.rows),
            };
            let number = before + line.number;
            match outcome {
                Ok(()) => self.lines.push(number),
                Err(refusal) => {
                    let raw = line.bytes.to_vec();
                    self.refused += raw.len();
                    self.rejects.push(Reject { line: number, refusal, raw });
                }
            }
        }
        true
    }

    /// Hands over what was read.
    fn finish(&mut self) -> Result<Option<Part>, Error> {
        if self.lines.is_empty() && self.rejects.is_empty() {
            return Ok(None);
        }
        self.refused = 0;
        let rows: RecordBatch = self.rows.finish()?;
        let (lines, rejects) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.rejects));
        Ok(Some(Part { rows, lines, rejects }))
    }
}

/// Parsers on threads of their own, which end when they are dropped.
struct Crew {
    hands: Vec<Hand>,
    fed: usize,
    taken: usize,
    /// Blocks that were read, for their memory.
    used: Vec<Block>,
    ended: bool,
}

struct Hand {
    to: SyncSender<Block>,
    from: Receiver<Result<Parsed, Error>>,
}

/// What became of a block.
struct Parsed {
    /// Rows and refusals; none of a block of blank lines. Its lines count from the block's first.
    part: Option<Part>,
    /// Lines of the block.
    read: u64,
    block: Block,
}

impl Crew {
    fn start(parsers: Vec<Parser>) -> Result<Crew, Error> {
        let start = |mut parser: Parser| {
            let (to, blocks) = sync_channel::<Block>(WAITING);
            let (parsed, from) = sync_channel(WAITING);
            let work = move || {
                for block in blocks {
                    let mut place = Place::default();
                    parser.parse(&block, &mut place, 0, (usize::MAX, usize::MAX));
                    let part = parser.finish();
                    let part = part.map(|part| Parsed { part, read: place.lines, block });
                    if parsed.send(part).is_err() {
                        break;
                    }
                }
            };
            std::thread::Builder::new()
                .name("parse".to_string())
                .spawn(work)
                .map_err(|e| Error::external(format!("no thread to parse a file: {e}")))?;
            Ok(Hand { to, from })
        };
        let hands = parsers.into_iter().map(start).collect::<Result<_, Error>>()?;
        Ok(Crew { hands, fed: 0, taken: 0, used: Vec::new(), ended: false })
    }

    /// Gives each parser as many blocks as it may have.
    fn feed(&mut self, blocks: &mut Blocks, broken: &mut Option<io::Error>) -> Result<(), Error> {
        while !self.ended && self.fed - self.taken < self.hands.len() * WAITING {
            let (block, error) = blocks.next(self.used.pop().unwrap_or_default());
            self.ended = block.is_none() || error.is_some();
            *broken = error;
            if let Some(block) = block {
                let hand = &self.hands[self.fed % self.hands.len()];
                hand.to.send(block).map_err(|_| gone())?;
                self.fed += 1;
            }
        }
        Ok(())
    }

    /// The next block's rows, in the order of the file; none behind the last.
    fn take(&mut self) -> Result<Option<Parsed>, Error> {
        if self.taken == self.fed {
            return Ok(None);
        }
        let hand = &self.hands[self.taken % self.hands.len()];
        let mut parsed = hand.from.recv().map_err(|_| gone())??;
        self.taken += 1;
        self.used.push(std::mem::take(&mut parsed.block));
        Ok(Some(parsed))
    }
}

fn gone() -> Error {
    Error::internal("a thread that parses a file is gone")
}
