//! Sorted ids on disk, as runs that follow each other in one file, and their merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::id_keys::{IdKey, IdKeys};

/// Bytes of each run that a merge has in memory, at most.
const MOST_BUFFER_BYTES: u64 = 32 << 10;

/// A file of runs that is being written.
#[derive(Debug)]
pub(super) struct KeyRunWriter {
    file: BufWriter<File>,
    runs: Vec<Range<u64>>,
    end: u64,
    buffer_bytes: usize,
}

/// A file of runs: each a range of its bytes.
#[derive(Debug)]
pub(super) struct KeyRuns {
    file: File,
    runs: Vec<Range<u64>>,
    /// Bytes of each run that a merge has in memory.
    buffer_bytes: usize,
}

/// The next id of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The run that it stands in, counted from the first one merged.
    pub(super) run: usize,
    /// Whether it is the same id as the one before.
    pub(super) is_repeat: bool,
}

impl KeyRunWriter {
    /// Runs that go into this empty file, to be merged in `memory` bytes.
    pub(super) fn new(file: File, memory: u64) -> KeyRunWriter {
        let file = BufWriter::with_capacity(256 << 10, file);
        let buffer_bytes = (memory / 2048).clamp(512, MOST_BUFFER_BYTES) as usize;
        KeyRunWriter { file, runs: Vec::new(), end: 0, buffer_bytes }
    }

    /// Where a run is written to; [`KeyRunWriter::end_run`] ends it.
    pub(super) fn out(&mut self) -> &mut impl Write {
        &mut self.file
    }

    /// What was written since the last run is a run.
    pub(super) fn end_run(&mut self) -> io::Result<()> {
        let end = self.file.stream_position()?;
        self.runs.push(self.end..end);
        self.end = end;
        Ok(())
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// All of it is written.
    pub(super) fn finish(self) -> io::Result<KeyRuns> {
        let KeyRunWriter { file, runs, buffer_bytes, .. } = self;
        Ok(KeyRuns { file: file.into_inner()?, runs, buffer_bytes })
    }
}

impl KeyRuns {
    /// Shows `each` id of these runs, ascending and of equal ones that of the first run first.
    /// `like` says of which type the ids are. Ends before the first id that `stops_at_repeat`
    /// forbids, and returns it.
    pub(super) fn merge<E: From<io::Error>>(
        &self,
        runs: Range<usize>,
        like: &IdKeys,
        stops_at_repeat: bool,
        each: impl FnMut(Step) -> Result<(), E>,
    ) -> Result<Option<IdKey>, E> {
        let stop = stops_at_repeat;
        Ok(match like {
            IdKeys::Integers(_) => self.merge_keys::<u64, E>(runs, stop, each)?.map(IdKey::Integer),
            IdKeys::Texts { .. } => {
                self.merge_keys::<Vec<u8>, E>(runs, stop, each)?.map(IdKey::Text)
            }
        })
    }

    fn merge_keys<K: Key, E: From<io::Error>>(
        &self,
        runs: Range<usize>,
        stops_at_repeat: bool,
        mut each: impl FnMut(Step) -> Result<(), E>,
    ) -> Result<Option<K>, E> {
        let reader = |run: &Range<u64>| RunReader::new(&self.file, run.clone(), self.buffer_bytes);
        let mut readers: Vec<_> = self.runs[runs].iter().map(reader).collect();
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (run, reader) in readers.iter_mut().enumerate() {
            let mut key = K::default();
            if key.read(reader)? {
                heads.push(Reverse((key, run)));
            }
        }
        let mut last = K::default();
        let mut is_first = true;
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((key, run)) = &mut *head;
            let is_repeat = !is_first && *key == last;
            if is_repeat && stops_at_repeat {
                return Ok(Some(last));
            }
            each(Step { run: *run, is_repeat })?;
            std::mem::swap(key, &mut last);
            is_first = false;
            if !key.read(&mut readers[*run])? {
                PeekMut::pop(head);
            }
        }
        Ok(None)
    }
}

/// An id as it is merged.
trait Key: Ord + Default {
    /// Becomes the reader's next id; `false` at the run's end.
    fn read(&mut self, from: &mut RunReader<'_>) -> io::Result<bool>;
}

impl Key for u64 {
    fn read(&mut self, from: &mut RunReader<'_>) -> io::Result<bool> {
        let Some(bytes) = from.array()? else { return Ok(false) };
        *self = u64::from_le_bytes(bytes);
        Ok(true)
    }
}

impl Key for Vec<u8> {
    fn read(&mut self, from: &mut RunReader<'_>) -> io::Result<bool> {
        let Some(length) = from.array()? else { return Ok(false) };
        let length = u32::from_le_bytes(length) as usize;
        self.clear();
        self.extend_from_slice(from.bytes(length)?);
        Ok(true)
    }
}

/// One run, read from its start.
struct RunReader<'a> {
    file: &'a File,
    /// What is not in the buffer yet.
    rest: Range<u64>,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    taken: usize,
    buffer_bytes: usize,
}

impl<'a> RunReader<'a> {
    fn new(file: &'a File, run: Range<u64>, buffer_bytes: usize) -> RunReader<'a> {
        RunReader { file, rest: run, buffer: Vec::new(), taken: 0, buffer_bytes }
    }

    /// The next bytes; `None` at the run's end.
    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if self.taken == self.buffer.len() && self.rest.is_empty() {
            return Ok(None);
        }
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(Some(array))
    }

    /// The next `count` bytes, which the run has.
    fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.taken < count {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let held = self.buffer.len();
            let more = count.max(self.buffer_bytes) - held;
            let more = more.min(usize::try_from(self.rest.end - self.rest.start).unwrap_or(more));
            self.buffer.resize(held + more, 0);
            self.file.read_exact_at(&mut self.buffer[held..], self.rest.start)?;
            self.rest.start += more as u64;
        }
        let bytes = self.buffer.get(self.taken..self.taken + count);
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.taken += count;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn runs(parts: &[ArrayRef]) -> (KeyRuns, IdKeys) {
        let mut writer = KeyRunWriter::new(tempfile::tempfile().unwrap(), 1 << 20);
        let mut keys = IdKeys::new(parts[0].data_type());
        for part in parts {
            keys.extend(part).unwrap();
            keys.write_sorted(writer.out()).unwrap();
            writer.end_run().unwrap();
        }
        (writer.finish().unwrap(), keys)
    }

    fn steps(parts: &[ArrayRef], stops_at_repeat: bool) -> (Vec<(usize, bool)>, Option<IdKey>) {
        let (runs, like) = runs(parts);
        let mut steps = Vec::new();
        let stopped = runs.merge::<io::Error>(0..parts.len(), &like, stops_at_repeat, |step| {
            steps.push((step.run, step.is_repeat));
            Ok(())
        });
        (steps, stopped.unwrap())
    }

    #[test]
    fn runs_are_merged_by_id_and_the_first_run_comes_first() {
        let integers = |ids: &[i64]| Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef;
        let texts = |ids: &[&str]| Arc::new(StringArray::from(ids.to_vec())) as ArrayRef;
        let expected = [(2, false), (0, false), (1, false), (1, true), (2, true), (0, false)];
        let found = steps(&[integers(&[7, -2]), integers(&[3, 3]), integers(&[3, -9])], false);
        assert_eq!(found, (expected.to_vec(), None));
        let found = steps(&[texts(&["d", "b"]), texts(&["c", "c"]), texts(&["c", ""])], false);
        assert_eq!(found, (expected.to_vec(), None));
    }

    #[test]
    fn the_first_repeated_id_ends_a_merge_that_forbids_it() {
        let long = "x".repeat(100_000);
        let texts = |ids: &[&str]| Arc::new(StringArray::from(ids.to_vec())) as ArrayRef;
        let (steps, stopped) = steps(&[texts(&[&long, "a"]), texts(&[&long, "b"])], true);
        assert_eq!(steps, [(0, false), (1, false), (0, false)]);
        assert_eq!(stopped, Some(IdKey::Text(long.into_bytes())));
    }

    #[test]
    fn runs_larger_than_the_buffer_come_whole() {
        let ids =
            |from: i64| Arc::new(Int64Array::from_iter_values((0..50_000).map(|n| n * 2 + from)));
        let (steps, _) = steps(&[ids(0), ids(1)], false);
        assert!(steps.iter().enumerate().all(|(at, step)| *step == (at % 2, false)));
        assert_eq!(steps.len(), 100_000);
    }
}
