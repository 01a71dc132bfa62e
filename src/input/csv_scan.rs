//! Looks at CSV bytes on their way into the parser, for what the parser doesn't tell: where an
//! unclosed quote was opened, and that a row grows beyond all measure.
//!
//! It follows the parser's grammar: a quote opens a field only at its beginning, a doubled quote
//! within stands for itself, and a line ends with LF, CR or both.

use std::io::{self, BufRead, Read};

use super::reader::MAX_COLUMNS;
use crate::domain::Reading;

/// Longest row, bytes: beyond it a file is no CSV file, or a quote is not closed.
const MAX_ROW_BYTES: u64 = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Most fields of a row: beyond it a file is no CSV file, or has another delimiter.
const MAX_FIELDS: u64 = MAX_COLUMNS as u64;

/// What stands between fields and around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CsvForm {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) has_header: bool,
}

impl CsvForm {
    /// What `reading` tells; where it tells no delimiter it is `usual`.
    pub(super) fn of(reading: &Reading, usual: char) -> CsvForm {
        let byte = |char: char| u8::try_from(char).unwrap_or_default();
        CsvForm {
            delimiter: byte(reading.delimiter.unwrap_or(usual)),
            quote: reading.quote.map(byte),
            has_header: reading.header,
        }
    }
}

/// Why reading on makes no sense. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The quote opened on this line is not closed.
    OpenQuote { line: u64 },
    /// The row that begins on this line is too long.
    LongRow { line: u64 },
    /// The row that begins on this line has too many fields.
    ManyFields { line: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or the first of two.
    QuoteInQuoted,
}

/// A reader that fails on a [`Fault`] and keeps it.
#[derive(Debug)]
pub(super) struct Watched<R> {
    inner: R,
    form: CsvForm,
    state: State,
    line: u64,
    after_return: bool,
    opened_on: u64,
    row_began_on: u64,
    row_bytes: u64,
    /// Delimiters in the row so far.
    row_fields: u64,
    /// Bytes of a byte-order mark seen at the very beginning.
    mark_bytes: usize,
    fault: Option<Fault>,
}

impl<R: Read> Watched<R> {
    pub(super) fn new(inner: R, form: CsvForm) -> Watched<R> {
        Watched {
            inner,
            form,
            state: State::FieldStart,
            line: 1,
            after_return: false,
            opened_on: 1,
            row_began_on: 1,
            row_bytes: 0,
            row_fields: 0,
            mark_bytes: 0,
            fault: None,
        }
    }

    /// The line (from 1) of the byte that comes next.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// What was found, once a read has failed.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn see(&mut self, byte: u8) {
        if self.mark_bytes < BYTE_ORDER_MARK.len() {
            if byte == BYTE_ORDER_MARK[self.mark_bytes] {
                self.mark_bytes += 1;
                return;
            }
            self.mark_bytes = BYTE_ORDER_MARK.len();
        }
        let ends_line = byte == b'\n' || byte == b'\r';
        if ends_line && !(byte == b'\n' && self.after_return) {
            self.line += 1;
        }
        self.after_return = byte == b'\r';
        self.row_bytes += 1;
        let is_quote = Some(byte) == self.form.quote;
        self.state = match self.state {
            State::Quoted if is_quote => State::QuoteInQuoted,
            State::Quoted => State::Quoted,
            State::QuoteInQuoted if is_quote => State::Quoted,
            State::FieldStart if is_quote => {
                self.opened_on = self.line;
                State::Quoted
            }
            _ if ends_line => {
                self.row_began_on = self.line;
                self.row_bytes = 0;
                self.row_fields = 0;
                State::FieldStart
            }
            _ if byte == self.form.delimiter => {
                self.row_fields += 1;
                State::FieldStart
            }
            _ => State::Plain,
        };
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault = Some(fault);
        io::ErrorKind::InvalidData.into()
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        for &byte in &buffer[..bytes] {
            self.see(byte);
            if self.row_fields >= MAX_FIELDS {
                return Err(self.fail(Fault::ManyFields { line: self.row_began_on }));
            }
        }
        let is_open = self.state == State::Quoted;
        let is_long = self.row_bytes > MAX_ROW_BYTES;
        if is_open && (is_long || bytes == 0) && !buffer.is_empty() {
            return Err(self.fail(Fault::OpenQuote { line: self.opened_on }));
        }
        if is_long {
            return Err(self.fail(Fault::LongRow { line: self.row_began_on }));
        }
        Ok(bytes)
    }
}

/// The line (from 1) of the first row at or after byte `offset`, blank lines skipped.
pub(super) fn line_at(input: impl BufRead, offset: u64) -> io::Result<u64> {
    let mut line = 1;
    let mut after_return = false;
    for (at, byte) in input.bytes().enumerate() {
        let byte = byte?;
        let ends_line = byte == b'\n' || byte == b'\r';
        if at as u64 >= offset && !ends_line {
            break;
        }
        if ends_line && !(byte == b'\n' && after_return) {
            line += 1;
        }
        after_return = byte == b'\r';
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAS: CsvForm = CsvForm { delimiter: b',', quote: Some(b'"'), has_header: true };

    fn fault_in(text: &str) -> Option<Fault> {
        let mut watched = Watched::new(text.as_bytes(), COMMAS);
        let _ = io::copy(&mut watched, &mut io::sink());
        watched.fault()
    }

    #[test]
    fn an_unclosed_quote_is_named_by_the_line_that_opened_it() {
        assert_eq!(
            fault_in("a,b\r\n\"x\r\ny\",1\r\n2,\"z\nz\nz"),
            Some(Fault::OpenQuote { line: 4 })
        );
        assert_eq!(fault_in("\u{feff}\"a"), Some(Fault::OpenQuote { line: 1 }));
    }

    #[test]
    fn quotes_inside_a_field_and_doubled_quotes_are_closed() {
        for text in ["a\n5\" pipe\n", "a\n\"say \"\"hi\"\"\"\n", "a\n\"\"", "a\n\"\"\"\"", ""] {
            assert_eq!(fault_in(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_row_without_end_is_given_up() {
        let endless = io::Cursor::new("a,b\n").chain(io::repeat(b'x'));
        let mut watched = Watched::new(endless, COMMAS);
        let error = io::copy(&mut watched, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(watched.fault(), Some(Fault::LongRow { line: 2 }));
    }

    #[test]
    fn a_row_of_delimiters_is_given_up() {
        let text = format!("a,b\n{}", ",".repeat(MAX_COLUMNS));
        assert_eq!(fault_in(&text[..text.len() - 1]), None);
        assert_eq!(fault_in(&text), Some(Fault::ManyFields { line: 2 }));
    }

    #[test]
    fn without_a_quote_nothing_is_quoted() {
        let form = CsvForm { quote: None, ..COMMAS };
        let mut watched = Watched::new(&b"a,\"b\n"[..], form);
        assert_eq!(io::copy(&mut watched, &mut io::sink()).unwrap(), 5);
    }

    #[test]
    fn lines_count_whatever_ends_them() {
        let text = b"a\r\n\r\nb\rc\nd";
        let lines: Vec<_> = [0, 1, 5, 7, 9].map(|at| line_at(&text[..], at).unwrap()).to_vec();
        assert_eq!(lines, [1, 3, 3, 4, 5]);
    }
}
