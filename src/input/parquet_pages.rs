//! A Parquet file as its decoder reads it, with each page held to the footer before the memory for
//! it is taken.
//!
//! The header of a page says how long its values are once they are unpacked, and the decoder takes
//! that much memory at once: up to 2 GiB on the word of four damaged bytes. The footer says how much
//! the pages of the whole column unpack to, which no page of it can exceed.

use std::io::{Chain, Cursor, Read};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

/// The beginning of a page's header, enough for the fields that are looked at.
const HEADER_BYTES: u64 = 24;
/// How the header's first three fields begin: each the next one, and a 32-bit integer.
const NEXT_INTEGER: u8 = 0x15;

/// A reader of pages.
#[derive(Debug)]
pub(super) struct PageReader<R> {
    inner: R,
    /// The columns' places, ascending.
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    first: u64,
    end: u64,
    unpacked: u64,
}

impl<R> PageReader<R> {
    pub(super) fn new(inner: R, footer: &ParquetMetaData) -> PageReader<R> {
        let chunks = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
        let columns = chunks.map(|column| {
            let (first, length) = column.byte_range();
            let unpacked = u64::try_from(column.uncompressed_size()).unwrap_or(0);
            Column { first, end: first.saturating_add(length), unpacked }
        });
        let mut columns: Vec<_> = columns.collect();
        columns.sort_unstable_by_key(|column| column.first);
        PageReader { inner, columns }
    }

    fn column_at(&self, byte: u64) -> Option<&Column> {
        let after = self.columns.partition_point(|column| column.first <= byte);
        self.columns[..after].last().filter(|column| byte < column.end)
    }
}

impl<R: Length> Length for PageReader<R> {
    fn len(&self) -> u64 {
        self.inner.len()
    }
}

impl<R: ChunkReader> ChunkReader for PageReader<R> {
    type T = Chain<Cursor<Vec<u8>>, R::T>;

    /// Reads from the header of a page on.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut read = self.inner.get_read(start)?;
        let mut header = Vec::new();
        read.by_ref().take(HEADER_BYTES).read_to_end(&mut header)?;
        if let (Some(column), Some(unpacked)) = (self.column_at(start), unpacked_bytes(&header))
            // A footer that says nothing of the column can't be held against its pages.
            && column.unpacked > 0
            && unpacked > column.unpacked
        {
            return Err(ParquetError::General(format!(
                "a page of {unpacked} bytes stands in a column of {}",
                column.unpacked
            )));
        }
        Ok(Cursor::new(header).chain(read))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.inner.get_bytes(start, length)
    }
}

/// The second field of a page's header; `None` if this is no header, which the decoder then says.
fn unpacked_bytes(header: &[u8]) -> Option<u64> {
    let (_kind, rest) = integer(header)?;
    let (unpacked, _) = integer(rest)?;
    u64::try_from(unpacked).ok()
}

/// The integer of the next field, and what follows it: seven bits a byte, the sign in the last one.
fn integer(field: &[u8]) -> Option<(i64, &[u8])> {
    let (&NEXT_INTEGER, digits) = field.split_first()? else { return None };
    let length = digits.iter().take(5).position(|digit| digit & 0x80 == 0)? + 1;
    let (digits, rest) = digits.split_at(length);
    let value =
        digits.iter().rev().fold(0_i64, |value, digit| value << 7 | i64::from(digit & 0x7f));
    Some(((value >> 1) ^ -(value & 1), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_field_of_a_header_is_read() {
        assert_eq!(unpacked_bytes(&[0x15, 0, 0x15, 0x84, 0x11, 0x15, 4]), Some(1090));
        assert_eq!(
            unpacked_bytes(&[0x15, 4, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
            Some(i32::MAX as u64)
        );
        for no_header in
            [&[][..], &[0x15], &[0x15, 0, 0x15, 0x80], &[0x15, 0, 0x25, 4], &[0x15, 0, 0x15, 1]]
        {
            assert_eq!(unpacked_bytes(no_header), None, "{no_header:?}");
        }
    }
}
