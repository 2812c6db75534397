//! Parquet column chunks of plain values, written from where the values are.
//!
//! The general writer copies a value four times, into memory that grows as it goes; for two dozen
//! columns of floats that takes longer than to compute them. A column of 64-bit values without a NULL
//! needs none of it: its chunk is one data page, which is a header of some bytes and the values as they
//! are in memory (Apache Parquet format: `PageHeader` and `DataPageHeader` in the compact protocol of
//! Thrift, encodings PLAIN and RLE). Every other column goes through the general writer.

use std::collections::VecDeque;
use std::io::{self, Read};

use arrow::array::{Array, ArrayRef};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;

/// A column chunk that is one plain page: its head, and the values in parts.
pub(super) struct PlainChunk {
    head: Vec<u8>,
    values: Vec<Buffer>,
    bytes: u64,
}

impl PlainChunk {
    /// The chunk of a column that comes in parts; none where it needs the general writer.
    pub(super) fn of(
        parts: &[&ArrayRef],
        column: &ColumnDescPtr,
    ) -> Result<Option<(PlainChunk, ColumnCloseResult)>> {
        let plain = |part: &&ArrayRef| {
            let long = matches!(
                part.data_type(),
                DataType::Int64 | DataType::Float64 | DataType::Timestamp(TimeUnit::Microsecond, _)
            );
            long && part.null_count() == 0
        };
        let flat = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        let rows: usize = parts.iter().map(|part| part.len()).sum();
        let most = i32::MAX as usize / 16;
        if !flat || rows > most || !parts.iter().all(plain) || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let values: Vec<Buffer> = parts.iter().map(|part| values(part)).collect();
        let mut levels = Vec::new();
        if column.max_def_level() == 1 {
            // One run of ones: every value is there.
            let mut run = Vec::new();
            varint((rows as u64) << 1, &mut run);
            run.push(1);
            levels.extend_from_slice(&(run.len() as u32).to_le_bytes());
            levels.append(&mut run);
        }
        let mut head = page_header(rows, levels.len() + rows * 8);
        head.append(&mut levels);
        let bytes = (head.len() + rows * 8) as u64;
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values(rows as i64)
            .set_total_compressed_size(bytes as i64)
            .set_total_uncompressed_size(bytes as i64)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok(Some((PlainChunk { head, values, bytes }, close)))
    }
}

/// The values of an array of a 64-bit type, as they are in memory.
fn values(array: &ArrayRef) -> Buffer {
    let data = array.to_data();
    data.buffers()[0].slice_with_length(data.offset() * 8, array.len() * 8)
}

/// The header of a plain data page (version 1) without a checksum: fields 1, 2, 3 and 5 of
/// `PageHeader`, and in the fifth 1 to 4 of `DataPageHeader`.
fn page_header(values: usize, bytes: usize) -> Vec<u8> {
    const NUMBER: u8 = 0x15;
    const RECORD_TWO_ON: u8 = 0x2c;
    const END: u8 = 0;
    let mut header = Vec::with_capacity(32);
    let mut number = |value: usize| {
        header.push(NUMBER);
        // Whole numbers are in zigzag form; none here is negative.
        varint((value as u64) << 1, &mut header);
    };
    // DATA_PAGE, and its size twice, for nothing is compressed.
    number(0);
    number(bytes);
    number(bytes);
    header.push(RECORD_TWO_ON);
    let mut number = |value: usize| {
        header.push(NUMBER);
        varint((value as u64) << 1, &mut header);
    };
    number(values);
    for encoding in [Encoding::PLAIN, Encoding::RLE, Encoding::RLE] {
        number(encoding as usize);
    }
    header.extend([END, END]);
    header
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Length for PlainChunk {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for PlainChunk {
    type T = Pieces;

    fn get_read(&self, start: u64) -> Result<Pieces> {
        if start != 0 {
            return Err(ParquetError::General("a chunk is read from its beginning".to_string()));
        }
        let head = Buffer::from(self.head.clone());
        let pieces = std::iter::once(head).chain(self.values.iter().cloned());
        Ok(Pieces(pieces.collect()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        let mut read = self.get_read(0)?;
        io::copy(&mut read.by_ref().take(start), &mut io::sink())?;
        read.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Bytes that lie in several places, read as one.
pub(super) struct Pieces(VecDeque<Buffer>);

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(first) = self.0.front_mut() {
            if first.is_empty() {
                self.0.pop_front();
                continue;
            }
            let n = first.len().min(out.len());
            out[..n].copy_from_slice(&first[..n]);
            first.advance(n);
            return Ok(n);
        }
        Ok(0)
    }
}
