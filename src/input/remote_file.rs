//! An object read in ranges, in blocks that are kept for a while: only what is asked for is loaded.
//!
//! Every range is read under the condition that the object is still the version that was listed, so
//! what is read is one version, whole. A file that is open holds at most 32 MiB; an input has one
//! file open at a time, two while it is compared.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::cloud::{Bucket, CloudError, Object};

/// The unit that is kept.
const BLOCK: u64 = 1 << 20;
/// Blocks that one open file keeps: a column that is read in step with others needs one or two.
const BLOCKS_KEPT: usize = 32;
/// Blocks that are loaded at once where one is read after the other.
const BLOCKS_AHEAD: u64 = 4;

/// An object, as it was when it was listed.
#[derive(Debug)]
pub(super) struct RemoteFile {
    bucket: Bucket,
    object: Object,
    /// Why a range could not be read, which decoders don't pass on.
    failure: Mutex<Option<CloudError>>,
}

impl RemoteFile {
    pub(super) fn new(bucket: Bucket, object: Object) -> RemoteFile {
        RemoteFile { bucket, object, failure: Mutex::new(None) }
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// Why the last read failed, if it did.
    pub(super) fn failure(&self) -> Option<CloudError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn load(&self, range: Range<u64>) -> io::Result<Bytes> {
        let loaded = self.bucket.read_patiently(&self.object.key, range, &self.object.version);
        loaded.map_err(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            *failure = Some(error.clone());
            io::Error::other(error)
        })
    }
}

/// An open object: a place in it, over blocks that its clones share.
#[derive(Clone, Debug)]
pub(super) struct RemoteReader {
    file: Arc<RemoteFile>,
    blocks: Arc<Mutex<Blocks>>,
    at: u64,
}

/// The blocks that were used last, the latest at the end.
#[derive(Debug, Default)]
struct Blocks {
    kept: VecDeque<(u64, Bytes)>,
    /// The block after the last one that was loaded.
    next: u64,
}

impl RemoteReader {
    pub(super) fn open(file: Arc<RemoteFile>) -> RemoteReader {
        RemoteReader { file, blocks: Arc::default(), at: 0 }
    }

    /// The rest of the block in which byte `at` stands; empty at the end.
    fn rest_of_block(&self, at: u64) -> io::Result<Bytes> {
        let length = self.file.object.bytes;
        if at >= length {
            return Ok(Bytes::new());
        }
        let number = at / BLOCK;
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if !blocks.touch(number) {
            let ahead = if number > 0 && number == blocks.next { BLOCKS_AHEAD } else { 1 };
            let range = number * BLOCK..length.min((number + ahead) * BLOCK);
            let loaded = self.file.load(range)?;
            blocks.keep(number, &loaded);
        }
        let offset = usize::try_from(at - number * BLOCK).unwrap_or(usize::MAX);
        let block = blocks.get(number);
        block.filter(|block| offset < block.len()).map(|block| block.slice(offset..)).ok_or_else(
            // The service gave less than it was asked for.
            || io::ErrorKind::UnexpectedEof.into(),
        )
    }
}

impl Blocks {
    fn get(&self, number: u64) -> Option<&Bytes> {
        self.kept.iter().find(|(kept, _)| *kept == number).map(|(_, block)| block)
    }

    /// Makes the block the latest, if it is kept.
    fn touch(&mut self, number: u64) -> bool {
        let at = self.kept.iter().position(|(kept, _)| *kept == number);
        let block = at.and_then(|at| self.kept.remove(at));
        let is_kept = block.is_some();
        self.kept.extend(block);
        is_kept
    }

    /// Keeps the blocks from `first` on, that one as the latest.
    fn keep(&mut self, first: u64, loaded: &Bytes) {
        let size = BLOCK as usize;
        let mut number = first + (loaded.len().div_ceil(size) as u64);
        self.next = number;
        for start in (0..loaded.len()).step_by(size).rev() {
            number -= 1;
            self.touch(number);
            if self.kept.back().is_some_and(|(kept, _)| *kept == number) {
                continue;
            }
            // Copied, so that a block that is let go takes its memory with it.
            let block = Bytes::copy_from_slice(&loaded[start..loaded.len().min(start + size)]);
            self.kept.push_back((number, block));
        }
        while self.kept.len() > BLOCKS_KEPT {
            self.kept.pop_front();
        }
    }
}

impl Read for RemoteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let rest = self.rest_of_block(self.at)?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for RemoteReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.file.object.bytes, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = from.checked_add_signed(by);
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Length for RemoteReader {
    fn len(&self) -> u64 {
        self.file.object.bytes
    }
}

impl ChunkReader for RemoteReader {
    type T = RemoteReader;

    fn get_read(&self, start: u64) -> Result<RemoteReader, ParquetError> {
        Ok(RemoteReader { at: start, ..self.clone() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut reader = self.get_read(start)?;
        // A damaged footer may ask for more than there is.
        if (length as u64) > self.len().saturating_sub(start) {
            return Err(ParquetError::EOF("a page ends after the file".to_owned()));
        }
        let first = reader.rest_of_block(start).map_err(ParquetError::from)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).map_err(ParquetError::from)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::moto;
    use crate::cloud::scripted_server::url;
    use crate::domain::spec::CloudSpec;

    fn block(number: u64) -> Bytes {
        Bytes::from(vec![number as u8; BLOCK as usize])
    }

    #[test]
    fn the_blocks_used_last_are_kept_and_no_more() {
        let mut blocks = Blocks::default();
        for number in 0..BLOCKS_KEPT as u64 {
            blocks.keep(number, &block(number));
        }
        assert!(blocks.touch(0));
        blocks.keep(100, &block(100));
        assert_eq!(blocks.kept.len(), BLOCKS_KEPT);
        assert!(blocks.touch(0) && !blocks.touch(1) && blocks.touch(2) && blocks.touch(100));
    }

    #[test]
    fn blocks_that_came_together_are_told_apart_and_the_last_may_be_short() {
        let mut blocks = Blocks::default();
        let mut loaded = [block(7), block(8)].concat();
        loaded.extend([9; 3]);
        blocks.keep(7, &loaded.into());
        assert_eq!(blocks.next, 10);
        assert_eq!(blocks.get(7).unwrap()[0], 7);
        assert_eq!(blocks.get(8).unwrap().len(), BLOCK as usize);
        assert_eq!(blocks.get(9).unwrap()[..], [9; 3]);
        assert_eq!(blocks.kept.back().unwrap().0, 7);
    }

    #[test]
    fn any_place_of_an_object_reads_as_it_stands_and_a_changed_object_does_not() {
        let Some(bucket) = moto::bucket() else { return };
        let mut state = 1_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        let bytes: Vec<u8> = (0..6 * BLOCK as usize + 123).map(|_| random() as u8).collect();
        bucket.put("big", &bytes);
        let environment = bucket.environment().map(|(name, value)| (name.to_owned(), value));
        let spec = CloudSpec { environment: environment.into(), ..CloudSpec::default() };
        let connected = Bucket::connect(&url(&bucket.url("big")), &spec).unwrap();
        let object = connected.head("big").unwrap();
        let file = Arc::new(RemoteFile::new(connected, object));

        let mut reader = RemoteReader::open(Arc::clone(&file));
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).unwrap();
        assert!(whole == bytes);
        assert_eq!(bucket.count("GET"), 1 + 1 + 1, "blocks 0, 1 to 4, 5 to 6");
        for _ in 0..50 {
            let start = random() % bytes.len();
            let length = random() % (bytes.len() - start).min(2 * BLOCK as usize) + 1;
            let read = reader.get_bytes(start as u64, length.min(bytes.len() - start)).unwrap();
            assert!(read[..] == bytes[start..start + read.len()], "{start} {length}");
        }
        assert_eq!(bucket.count("GET"), 3, "all of it is kept");
        assert!(reader.get_bytes(bytes.len() as u64 - 1, 2).is_err());
        assert_eq!(reader.seek(SeekFrom::End(-3)).unwrap(), bytes.len() as u64 - 3);
        assert_eq!(file.failure(), None);

        bucket.put("big", &bytes[1..]);
        let error = RemoteReader::open(Arc::clone(&file)).read_to_end(&mut whole).unwrap_err();
        let cause = error.get_ref().unwrap().downcast_ref::<CloudError>();
        assert_eq!(cause, Some(&CloudError::Changed));
        assert_eq!(file.failure(), Some(CloudError::Changed));
    }
}
