//! The rows of a part on the disk: an Arrow stream, whose SHA-256 is its name among the blobs of tasks.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_connectors::disk;
use tidemill_connectors::sink::Sink;
use tidemill_types::long::Cut;
use tidemill_types::schema::hex;
use tidemill_types::{Error, Micros};

/// Rows to a batch: what a join holds of each part.
pub const BATCH: usize = 8_192;

/// What an artifact of kind `feature_rows` says, as JSON: which blob has the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// SHA-256 of the blob, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// Where a sink tells what it wrote when it is closed.
pub type Told = Arc<Mutex<Written>>;

/// Writes a part's rows.
pub struct RowsFile {
    schema: SchemaRef,
    writer: StreamWriter<Hashed<BufWriter<File>>>,
    held: Vec<RecordBatch>,
    cut: Cut,
    rows: u64,
    told: Told,
}

impl RowsFile {
    /// Into a new file.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn new(path: &Path, schema: SchemaRef, told: Told) -> Result<RowsFile, Error> {
        let file = File::create(path).map_err(|e| disk::cannot("write", path, &e))?;
        let below = Hashed {
            below: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            bytes: 0,
        };
        let writer = StreamWriter::try_new(below, &schema).map_err(failed)?;
        Ok(RowsFile { schema, writer, held: Vec::new(), cut: Cut::new(BATCH), rows: 0, told })
    }

    fn flush(&mut self) -> Result<(), Error> {
        let rows = concat_batches(&self.schema, &std::mem::take(&mut self.held)).map_err(failed)?;
        self.writer.write(&rows).map_err(failed)
    }
}

fn failed(error: arrow::error::ArrowError) -> Error {
    Error::external(format!("cannot write the rows of a part: {error}"))
        .help("make room on the disk, and start again: parts that are done are not computed again")
}

impl Sink for RowsFile {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        self.rows += rows.num_rows() as u64;
        let mut rest = rows.clone();
        while rest.num_rows() > 0 {
            let n = self.cut.take(rest.columns(), rest.num_rows());
            self.held.push(rest.slice(0, n));
            rest = rest.slice(n, rest.num_rows() - n);
            if self.cut.ends() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        if !self.cut.is_empty() {
            self.flush()?;
        }
        self.writer.finish().map_err(failed)?;
        let Hashed { below, hash, bytes } = self.writer.into_inner().map_err(failed)?;
        let file = below.into_inner().map_err(|e| Error::from(e.into_error()))?;
        // The answer that names it must not be on the disk before it.
        file.sync_all()?;
        let written = Written { sha256: hex(&hash.finalize()), bytes, rows: self.rows };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = written;
        Ok(())
    }
}

/// Hashes what passes.
struct Hashed<T> {
    below: T,
    hash: Sha256,
    bytes: u64,
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.below.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.below.read(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Reads a part's rows, batch by batch.
pub struct Reading {
    reader: StreamReader<Hashed<BufReader<File>>>,
    wanted: Written,
    path: String,
}

impl Reading {
    /// Opens what was written.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(path: &Path, wanted: Written) -> Result<Reading, Error> {
        let name = path.display().to_string();
        let file =
            File::open(path).map_err(|e| Error::external(format!("cannot read {name}: {e}")))?;
        let below = Hashed {
            below: BufReader::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            bytes: 0,
        };
        let reader = StreamReader::try_new(below, None)
            .map_err(|e| Error::external(format!("cannot read {name}: {e}")))?;
        Ok(Reading { reader, wanted, path: name })
    }

    /// The next batch; nothing at the end, where all was as it was written.
    ///
    /// # Errors
    /// It was changed since.
    pub fn batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let changed = |what: &str| {
            Error::external(format!("{} is not what was written: {what}", self.path))
                .help("remove it and start again: its part is then computed anew")
        };
        match self.reader.next() {
            Some(batch) => batch.map(Some).map_err(|e| changed(&e.to_string())),
            None => {
                let below = self.reader.get_mut();
                io::copy(below, &mut io::sink())?;
                let hash = hex(&below.hash.clone().finalize());
                let same = (hash, below.bytes) == (self.wanted.sha256.clone(), self.wanted.bytes);
                if same { Ok(None) } else { Err(changed("its hash is another")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn rows_come_back_whole_and_a_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let batch = |from: i64, n: i64| {
            let ids = Int64Array::from_iter_values(from..from + n);
            RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap()
        };
        let told = Told::default();
        let mut sink =
            Box::new(RowsFile::new(&path, batch(0, 1).schema(), Arc::clone(&told)).unwrap());
        let mut next = 0;
        for n in [1, 5_000, 9_000, 20_000, 3] {
            sink.write(&batch(next, n), &[]).unwrap();
            next += n;
        }
        sink.close().unwrap();
        let written = told.lock().unwrap().clone();
        assert_eq!(written.rows, next as u64);
        let mut reading = Reading::open(&path, written.clone()).unwrap();
        let mut seen = Vec::new();
        while let Some(batch) = reading.batch().unwrap() {
            assert!(batch.num_rows() <= BATCH);
            seen.push(batch);
        }
        assert_eq!(concat_batches(&seen[0].schema(), &seen).unwrap(), batch(0, next));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut reading = Reading::open(&path, written).unwrap();
        let end = loop {
            match reading.batch() {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(end.unwrap_err().message.contains("not what was written"));
    }
}
