//! A text file of the input as one stream of bytes, whatever it is compressed with.
//!
//! Places are counted in the text itself. A file that stands as it is is sought in; a compressed one
//! is decompressed from its start, so going forward costs decompression alone, and going back opens
//! it again. What is in memory is a buffer and the window of the decompressor, at most 128 MiB.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use super::InputError;
use super::source::{Compression, Source, SourceReader};

/// The largest window of a zstd file, as a power of two: 128 MiB, which is what the `zstd` command
/// takes unless it is told otherwise.
const MOST_WINDOW: u32 = 27;

/// A file and how its text is stored.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    source: Source,
    compression: Compression,
}

impl TextFile {
    pub(super) fn new(source: Source, compression: Compression) -> TextFile {
        TextFile { source, compression }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn name(&self) -> &str {
        self.source.name()
    }

    /// Opens the text at its start, if the file is still the same.
    pub(super) fn open(&self) -> Result<TextReader, InputError> {
        self.text_of(self.source.open()?)
    }

    /// The text of `file`, which was just opened.
    pub(super) fn text_of(&self, file: SourceReader) -> Result<TextReader, InputError> {
        let stream = match self.compression {
            Compression::None => Stream::Plain(file),
            // No bytes at all are neither a gzip member nor a zstd frame.
            _ if self.source.bytes() == 0 => {
                return Err(self.error(io::ErrorKind::UnexpectedEof.into()));
            }
            _ => Stream::Unpacked(self.unpacked(file).map_err(|error| self.error(error))?),
        };
        Ok(TextReader { file: self.clone(), stream, at: 0 })
    }

    fn unpacked(&self, file: SourceReader) -> io::Result<Box<dyn Read + Send>> {
        let file = Stored(file);
        Ok(match self.compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file)?;
                decoder.window_log_max(MOST_WINDOW)?;
                Box::new(decoder)
            }
        })
    }

    /// What is wrong with the text, unless that came of damage to what it is unpacked from: `text`,
    /// the rest of it, tells at its end.
    pub(super) fn unless_damaged(&self, mut text: impl Read, error: InputError) -> InputError {
        let rest = match self.compression {
            Compression::None => return error,
            _ => io::copy(&mut text, &mut io::sink()),
        };
        rest.map_or_else(|damage| self.error(damage), |_| error)
    }

    /// What a failed read of the text means.
    pub(super) fn error(&self, error: io::Error) -> InputError {
        let file = || self.name().to_owned();
        match error.downcast::<StoredError>() {
            Ok(StoredError(source)) => self.source.io_error(source),
            Err(source) => match self.compression {
                Compression::None => self.source.io_error(source),
                // The only word that the decompressor has for it.
                _ if source.to_string().contains("too much memory") => {
                    InputError::LargeWindow { file: file() }
                }
                compression => InputError::BadCompression {
                    file: file(),
                    compression: compression.name(),
                    source,
                },
            },
        }
    }
}

/// The text from some place on.
pub(super) struct TextReader {
    file: TextFile,
    stream: Stream,
    /// The place in the text; followed where it is unpacked.
    at: u64,
}

enum Stream {
    Plain(SourceReader),
    Unpacked(Box<dyn Read + Send>),
}

impl Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(file) => file.read(buffer),
            Stream::Unpacked(text) => {
                let bytes = text.read(buffer)?;
                self.at += bytes as u64;
                Ok(bytes)
            }
        }
    }
}

impl Seek for TextReader {
    /// Goes to a place counted from the start; no other is known where the text is unpacked.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match (&mut self.stream, to) {
            (Stream::Plain(file), to) => return file.seek(to),
            (Stream::Unpacked(_), SeekFrom::Start(place)) => place,
            (Stream::Unpacked(_), _) => return Err(io::ErrorKind::Unsupported.into()),
        };
        if place < self.at {
            *self = self.file.open().map_err(io::Error::other)?;
        }
        let left = place - self.at;
        io::copy(&mut self.by_ref().take(left), &mut io::sink())?;
        Ok(self.at)
    }
}

impl fmt::Debug for TextReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextReader").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Marks the failures of the stored file, so that they are told from those of its decompressor.
struct Stored(SourceReader);

/// Why the stored bytes can't be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct StoredError(io::Error);

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, StoredError(error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::OrderedInput;
    use super::super::tests::{gzip, integer_ids, put, read, refusal, spec, whole, zstd};
    use super::*;
    use crate::domain::{Position, PositionRange};

    fn csv_of(ids: std::ops::Range<i64>) -> String {
        ids.map(|id| format!("{id},text {id}\n")).collect()
    }

    fn ids_in(path: &Path) -> Vec<i128> {
        let input = OrderedInput::open(&spec(path)).unwrap();
        integer_ids(&read(&input, &whole(&input)).1)
    }

    #[test]
    fn members_and_frames_that_follow_each_other_are_one_text() {
        let folder = TempDir::new().unwrap();
        let (first, second) = (format!("id,text\n{}", csv_of(0..3)), csv_of(3..5));
        for (name, pack) in [("a.csv.gz", gzip as fn(&[u8]) -> Vec<u8>), ("a.csv.zst", zstd)] {
            let path = folder.path().join(name);
            put(&path, [pack(first.as_bytes()), pack(b""), pack(second.as_bytes())].concat());
            assert_eq!(ids_in(&path), [0, 1, 2, 3, 4], "{name}");
        }
    }

    #[test]
    fn rows_of_a_compressed_file_are_found_by_number_forward_and_back() {
        let folder = TempDir::new().unwrap();
        let text = format!("id,text\n{}", csv_of(0..50_000));
        let range = |first, rows| PositionRange { first: Position(first), rows };
        let wanted = [range(3, 1), range(16_383, 2), range(32_768, 1), range(40_000, 9_000)];
        let expected: Vec<i128> =
            wanted.iter().flat_map(|range| range.first.0..range.end().0).map(i128::from).collect();
        for (name, bytes) in
            [("a.csv.gz", gzip(text.as_bytes())), ("a.csv.zst", zstd(text.as_bytes()))]
        {
            let path = folder.path().join(name);
            put(&path, bytes);
            let input = OrderedInput::open(&spec(&path)).unwrap();
            assert_eq!(integer_ids(&read(&input, &wanted).1), expected);
            assert_eq!(integer_ids(&read(&input, &wanted[..1]).1), [3], "a second look");
        }
    }

    #[test]
    fn a_place_before_the_present_one_is_reached_by_opening_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv.gz");
        put(&path, gzip(b"0123456789"));
        let source = Source::new(path, "a.csv.gz".into()).unwrap();
        let mut text = TextFile::new(source, Compression::Gzip).open().unwrap();
        let mut found = [0; 2];
        for (place, expected) in [(7, b"78"), (2, b"23"), (4, b"45")] {
            assert_eq!(text.seek(SeekFrom::Start(place)).unwrap(), place);
            text.read_exact(&mut found).unwrap();
            assert_eq!(&found, expected);
        }
    }

    #[test]
    fn lines_are_counted_in_the_text() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv.gz");
        put(&path, gzip(b"id,text\n1,\"a\nb\"\n\n2\n"));
        let error = refusal(&spec(&path)).to_string();
        assert_eq!(error, "line 5 of `a.csv.gz` has 1 fields where the header has 2; mend it");
    }

    #[test]
    fn damage_is_one_sentence_that_names_the_file() {
        let folder = TempDir::new().unwrap();
        let text = format!("id,text\n{}", csv_of(0..20_000));
        for (name, whole) in
            [("a.csv.gz", gzip(text.as_bytes())), ("a.csv.zst", zstd(text.as_bytes()))]
        {
            let path = folder.path().join(name);
            let mut flipped = whole.clone();
            let middle = flipped.len() / 2;
            flipped[middle..middle + 40].fill(0x55);
            let cut = whole[..whole.len() - 9].to_vec();
            let followed = [whole.clone(), b"garbage".to_vec()].concat();
            for bytes in [vec![], text.clone().into_bytes(), cut, flipped, followed] {
                put(&path, bytes);
                let error = refusal(&spec(&path));
                assert!(matches!(error, InputError::BadCompression { .. }), "{error:?}");
                assert!(error.is_usage() && error.to_string().starts_with(&format!("`{name}`")));
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_after_one_row_of_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv.gz");
        let mebibyte = gzip(&[b'x'; 1 << 20]);
        // What comes after 65 MiB would be an error of its own.
        let bomb = [gzip(b"id,text\n1,"), mebibyte.repeat(65), b"not gzip".to_vec()].concat();
        assert!(bomb.len() < 1 << 20);
        put(&path, bomb);
        let error = refusal(&spec(&path)).to_string();
        assert!(
            error.starts_with("the row on line 2 of `a.csv.gz` is longer than 64 MiB"),
            "{error}"
        );
    }

    #[test]
    fn a_window_beyond_the_usual_is_refused_before_it_is_allocated() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv.zst");
        // The magic number, a descriptor without a size, and a window of 2^31 bytes.
        put(&path, [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00]);
        let error = refusal(&spec(&path)).to_string();
        assert!(error.starts_with("`a.csv.zst` was compressed with a window of more"), "{error}");
    }
}
