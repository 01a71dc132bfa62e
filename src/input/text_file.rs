//! A text file of the input as one stream of UTF-8, whatever its compression and encoding.
//!
//! Places are counted in the text itself. A file that stands as it is is sought in; another is
//! unpacked from its start, so going forward costs no parsing, and going back opens it again.
//! What is in memory is a buffer and the window of the decompressor, at most 128 MiB.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use encoding_rs::DecoderResult;

use super::InputError;
use super::source::{Compression, Source, SourceReader};
use crate::domain::reading::Encoding;

/// The largest window of a zstd file, as a power of two: 128 MiB, which is what the `zstd` command
/// takes unless it is told otherwise.
const MOST_WINDOW: u32 = 27;
/// Bytes that are decoded at once.
const BUFFER: usize = 64 << 10;

/// A file and how its text is stored.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    source: Source,
    compression: Compression,
    encoding: Encoding,
}

impl TextFile {
    pub(super) fn new(source: Source, compression: Compression, encoding: Encoding) -> TextFile {
        TextFile { source, compression, encoding }
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
        // No bytes at all are neither a gzip member nor a zstd frame.
        if self.compression != Compression::None && self.source.bytes() == 0 {
            return Err(self.error(io::ErrorKind::UnexpectedEof.into(), None));
        }
        let stream = match (self.compression, self.encoding.is_utf8()) {
            (Compression::None, true) => Stream::Plain(file),
            (_, true) => Stream::Unpacked(self.unpacked(file)?),
            (_, false) => {
                Stream::Unpacked(Box::new(Decoded::new(self.unpacked(file)?, self.encoding)))
            }
        };
        Ok(TextReader { file: self.clone(), stream, at: 0 })
    }

    fn unpacked(&self, file: SourceReader) -> Result<Box<dyn Read + Send>, InputError> {
        let file = Stored(file);
        Ok(match self.compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Compression::Zstd => Box::new(zstd_decoder(file).map_err(|e| self.error(e, None))?),
        })
    }

    /// What is wrong with the text, unless that came of damage to what it is unpacked from: `text`,
    /// the rest of it, tells at its end.
    pub(super) fn unless_damaged(&self, mut text: impl Read, error: InputError) -> InputError {
        let rest = match self.compression {
            Compression::None => return error,
            _ => io::copy(&mut text, &mut io::sink()),
        };
        rest.map_or_else(|damage| self.error(damage, None), |_| error)
    }

    /// What a failed read of the text means, which got as far as `line` (from 1).
    pub(super) fn error(&self, error: io::Error, line: Option<u64>) -> InputError {
        let file = || self.name().to_owned();
        let error = match error.downcast::<StoredError>() {
            Ok(StoredError(source)) => return self.source.io_error(source),
            Err(error) => error,
        };
        if error.get_ref().is_some_and(|cause| cause.is::<Malformed>()) {
            return match line {
                Some(line) => self.not_decodable(line),
                None => InputError::Damaged { file: file() },
            };
        }
        match self.compression {
            Compression::None => self.source.io_error(error),
            // The only word that the decompressor has for it.
            _ if error.to_string().contains("too much memory") => {
                InputError::LargeWindow { file: file() }
            }
            compression => {
                let compression = compression.name();
                InputError::BadCompression { file: file(), compression, source: error }
            }
        }
    }

    /// The row on this line (from 1) is not in the encoding.
    pub(super) fn not_decodable(&self, line: u64) -> InputError {
        let (file, encoding) = (self.name().to_owned(), self.encoding.to_string());
        InputError::BadText { file, line, encoding }
    }
}

fn zstd_decoder<R: Read>(
    file: R,
) -> io::Result<zstd::stream::read::Decoder<'static, io::BufReader<R>>> {
    let mut decoder = zstd::stream::read::Decoder::new(file)?;
    decoder.window_log_max(MOST_WINDOW)?;
    Ok(decoder)
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

/// Text of another encoding as UTF-8.
struct Decoded {
    inner: Box<dyn Read + Send>,
    decoder: encoding_rs::Decoder,
    /// Bytes as they are stored; those in `raw` are not decoded yet.
    stored: Box<[u8]>,
    raw: Range<usize>,
    /// Decoded text; what is in `ready` was not read yet.
    text: Box<[u8]>,
    ready: Range<usize>,
    state: Decoding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decoding {
    Going,
    /// The stored bytes have ended; the decoder may hold some back.
    Ending,
    Ended,
    Malformed,
}

/// Why bytes can't be decoded.
#[derive(Debug, thiserror::Error)]
#[error("bytes that stand for no text in their encoding")]
struct Malformed;

impl Decoded {
    fn new(inner: Box<dyn Read + Send>, encoding: Encoding) -> Decoded {
        let buffer = || vec![0; BUFFER].into_boxed_slice();
        Decoded {
            inner,
            decoder: encoding.decoder(),
            stored: buffer(),
            raw: 0..0,
            text: buffer(),
            ready: 0..0,
            state: Decoding::Going,
        }
    }

    /// Decodes what is stored next. What is malformed is told once the text before it was read.
    fn advance(&mut self) -> io::Result<()> {
        if self.raw.is_empty() && self.state == Decoding::Going {
            self.raw = 0..self.inner.read(&mut self.stored)?;
            if self.raw.is_empty() {
                self.state = Decoding::Ending;
            }
        }
        let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
            &self.stored[self.raw.clone()],
            &mut self.text,
            self.state == Decoding::Ending,
        );
        self.raw.start += read;
        self.ready = 0..written;
        match result {
            DecoderResult::Malformed(..) => self.state = Decoding::Malformed,
            DecoderResult::InputEmpty if self.state == Decoding::Ending => {
                self.state = Decoding::Ended;
            }
            DecoderResult::InputEmpty | DecoderResult::OutputFull => {}
        }
        Ok(())
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            match self.state {
                Decoding::Ended => return Ok(0),
                Decoding::Malformed => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, Malformed));
                }
                Decoding::Going | Decoding::Ending => self.advance()?,
            }
        }
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.text[self.ready.start..self.ready.start + count]);
        self.ready.start += count;
        Ok(count)
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
        let mut text =
            TextFile::new(source, Compression::Gzip, Encoding::default()).open().unwrap();
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
    fn text_of_other_encodings_is_the_same_text() {
        let folder = TempDir::new().unwrap();
        let text = format!("id,text\n{}", csv_of(0..9_000).replace("text", "café"));
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = [&[0xfe, 0xff], &utf_16[..]].concat();
        let latin: Vec<u8> = text.chars().map(|char| u32::from(char) as u8).collect();
        for (label, bytes) in [("utf-16be", utf_16), ("utf-16", marked), ("latin-1", latin)] {
            for name in ["a.csv", "a.csv.gz"] {
                let path = folder.path().join(name);
                put(&path, if name == "a.csv" { bytes.clone() } else { gzip(&bytes) });
                let mut told = spec(&path);
                told.reading.encoding = Encoding::of(label).unwrap();
                let input = OrderedInput::open(&told).unwrap();
                let range = PositionRange { first: Position(8_000), rows: 1_000 };
                let (_, rows) = read(&input, &[range]);
                assert_eq!(rows[999].text.as_deref(), Some("café 8999"), "{label} {name}");
            }
        }
    }

    #[test]
    fn text_that_is_not_in_its_encoding_is_named_by_its_line() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        let mut bytes: Vec<u8> =
            "id,text\n1,a\n2,b".encode_utf16().flat_map(u16::to_le_bytes).collect();
        // Half of a pair, and nothing after it.
        bytes.extend([0x3d, 0xd8]);
        put(&path, bytes);
        let mut told = spec(&path);
        told.reading.encoding = Encoding::of("utf-16le").unwrap();
        assert_eq!(
            refusal(&told).to_string(),
            "the row on line 3 of `a.csv` is not valid UTF-16LE; convert the file, or name its \
             encoding with `--encoding`"
        );
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
