//! What can be wrong with an input: each variant one sentence that says what, where and whose move
//! it is. No sentence holds a row's text or id.

use std::io;

/// Why the input can't be read. File names are relative to the input's folder.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Nothing stands at the location, and it is no glob.
    #[error("there is no file or folder `{location}`; check the input's path")]
    NotFound {
        /// The location as it was typed.
        location: String,
    },
    /// The glob is malformed.
    #[error("`{location}` is no valid glob pattern; check the input's path")]
    BadPattern {
        /// The location as it was typed.
        location: String,
        /// What is wrong with it.
        #[source]
        source: glob::PatternError,
    },
    /// The folder or glob holds nothing to read.
    #[error(
        "`{location}` holds no .parquet, .pq, .csv, .tsv, .ndjson or .jsonl file, text also as .gz or .zst; \
         names that begin with `.` or `_` are skipped"
    )]
    NoFiles {
        /// The location as it was typed.
        location: String,
    },
    /// A single file of another kind.
    #[error(
        "`{file}` is no .parquet, .pq, .csv, .tsv, .ndjson or .jsonl file, text also as .gz or .zst; \
         convert it to one of these"
    )]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// Files of different formats in one input.
    #[error(
        "`{first}` and `{second}` are of different formats; \
         an input has one format, so narrow it with a glob such as `*.parquet`"
    )]
    MixedFormats {
        /// The first file.
        first: String,
        /// The first file of another format.
        second: String,
    },
    /// A pipe, a socket or a device.
    #[error(
        "`{file}` is a pipe or a device; the input is read more than once, so write it to a file and \
         name that"
    )]
    NoRegularFile {
        /// The file.
        file: String,
    },
    /// A file below a folder whose name, or whose folder's, is no text.
    #[error(
        "the name `{file}` in the input is not UTF-8, so nothing could be said of it; rename it"
    )]
    BadName {
        /// The name, with U+FFFD for what is no text.
        file: String,
    },
    /// A file or folder can't be read.
    #[error("`{file}` can't be read")]
    Io {
        /// The file or folder.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was when the input was opened.
    #[error("`{file}` changed while it was read; run again when nothing writes to it any more")]
    Changed {
        /// The file.
        file: String,
    },
    /// A file is no Parquet file, or a damaged one.
    #[error(
        "`{file}` can't be read as Parquet: it is cut short, damaged, encrypted or of a kind that \
         is not known here; write it anew"
    )]
    BadParquet {
        /// The file.
        file: String,
        /// What its reader says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A compressed file is damaged, cut short, or compressed with something else.
    #[error("`{file}` is no readable {compression} file, perhaps cut short; compress it anew")]
    BadCompression {
        /// The file.
        file: String,
        /// What its name says that it is.
        compression: &'static str,
        /// What its decompressor says.
        #[source]
        source: io::Error,
    },
    /// A zstd file that takes more memory than a reader is expected to have.
    #[error(
        "`{file}` was compressed with a window of more than 128 MiB; compress it anew, \
         with `--long=27` at most"
    )]
    LargeWindow {
        /// The file.
        file: String,
    },
    /// A file is damaged in a way that its reader doesn't survive.
    #[error("`{file}` is damaged inside and can't be read to its end; write it anew")]
    Damaged {
        /// The file.
        file: String,
    },
    /// A column that the output could not hold whole.
    #[error(
        "column `{column}` holds intervals of months, days and milliseconds, and their months would \
         be lost; convert it to text"
    )]
    Interval {
        /// The column.
        column: String,
    },
    /// A CSV file without a line.
    #[error("`{file}` is empty; its first line must show the columns")]
    NoHeader {
        /// The file.
        file: String,
    },
    /// A CSV row with more or fewer fields than the header.
    #[error("line {line} of `{file}` has {fields} fields where the header has {columns}; mend it")]
    RaggedRow {
        /// The file.
        file: String,
        /// The line on which the row begins, from 1.
        line: u64,
        /// The row's fields.
        fields: usize,
        /// The header's fields.
        columns: usize,
    },
    /// Text that is not in the encoding that it is taken to be in.
    #[error(
        "the row on line {line} of `{file}` is not valid {encoding}; convert the file, or name its \
         encoding with `--encoding`"
    )]
    BadText {
        /// The file.
        file: String,
        /// The line on which the row begins or, of another encoding than UTF-8, the text ends to be
        /// valid; from 1.
        line: u64,
        /// The encoding.
        encoding: String,
    },
    /// A CSV quote without an end.
    #[error("the quote opened on line {line} of `{file}` is never closed; mend that line")]
    OpenQuote {
        /// The file.
        file: String,
        /// The line of the opening quote, from 1.
        line: u64,
    },
    /// A row beyond all measure: most likely a file of another kind.
    #[error("the row on line {line} of `{file}` is longer than 64 MiB; is it a file of that kind?")]
    LongRow {
        /// The file.
        file: String,
        /// The line on which the row begins, from 1.
        line: u64,
    },
    /// A row of more fields than any table has columns.
    #[error(
        "the row on line {line} of `{file}` has more than {most} fields, which is the most that is \
         read; is its delimiter another one?"
    )]
    ManyFields {
        /// The file.
        file: String,
        /// The line on which the row begins, from 1.
        line: u64,
        /// The most that is read.
        most: usize,
    },
    /// A line of NDJSON that is something else.
    #[error(
        "line {line} of `{file}` is no JSON object (character {column}); each line holds one, so \
         write it anew"
    )]
    NotAnObject {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The byte of the line where it stops to be one, from 1.
        column: usize,
    },
    /// A string with half of a surrogate pair.
    #[error(
        "a string on line {line} of `{file}` has an escape that stands for no character, half of a \
         pair; write the line anew"
    )]
    BadEscape {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
    },
    /// Names of columns that take too much memory.
    #[error(
        "with line {line} of `{file}` the names of the columns take more than {most} bytes; they \
         should be values, so write it anew"
    )]
    LongNames {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The most that they may take, bytes.
        most: usize,
    },
    /// An object with two members of one name.
    #[error("the object on line {line} of `{file}` has `{name}` twice; rename one")]
    RepeatedName {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The name.
        name: String,
    },
    /// Objects with too many names between them.
    #[error(
        "line {line} of `{file}` has a name more than the {most} columns that are read; are its \
         names data?"
    )]
    ManyColumns {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The most that is read.
        most: usize,
    },
    /// Ids of two kinds in NDJSON files.
    #[error(
        "the id on {second} is {second_kind} and that on {first} {first_kind}; make them one kind, \
         or read all as strings with `--id-type string`"
    )]
    MixedIds {
        /// Where the first id stands.
        first: String,
        /// What it is.
        first_kind: &'static str,
        /// Where the first of another kind stands.
        second: String,
        /// What it is.
        second_kind: &'static str,
    },
    /// An id that is no integer where integers were asked for.
    #[error(
        "the id on {row} is no integer of 64 bits in its usual form, which `id_type = \"integer\"` \
         wants; mend it, or leave that out"
    )]
    NotAnInteger {
        /// Where the row stands.
        row: String,
    },
    /// Two columns of one name.
    #[error("`{file}` has two columns named `{column}`; rename one")]
    DuplicateColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
    },
    /// Files whose columns differ.
    #[error(
        "column {number} is {first_column} in `{first}` but {second_column} in `{second}`; \
         all files of an input must have the same columns"
    )]
    SchemaDiffers {
        /// The column's place, from 1.
        number: usize,
        /// The first file.
        first: String,
        /// Its column's name and type.
        first_column: String,
        /// The file that differs.
        second: String,
        /// Its column's name and type.
        second_column: String,
    },
    /// Files in folders that name other keys.
    #[error(
        "the folders of `{first}` and of `{second}` don't name the same keys in the same order; move \
         the files, or use `--hive-partitioning false`"
    )]
    PartitionsDiffer {
        /// The first file.
        first: String,
        /// The first file that differs.
        second: String,
    },
    /// Partitions are wanted where there are none.
    #[error(
        "`{file}` stands in no folder like `key=value` below the input, which \
         `--hive-partitioning true` wants; name the folder above, or leave that out"
    )]
    NoPartitions {
        /// The first file.
        file: String,
    },
    /// The job names a column that isn't there.
    #[error("no column `{column}` in `{location}`; {hint}")]
    UnknownColumn {
        /// The name in the job.
        column: String,
        /// The location as it was typed.
        location: String,
        /// The nearest name, or the names there are.
        hint: String,
    },
    /// A column of a type that its use doesn't allow.
    #[error("column `{column}` is of type {data_type}, but {wanted}; name or convert another")]
    WrongType {
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// What its use allows, in words.
        wanted: &'static str,
    },
    /// The input has a column of the name that row numbers need.
    #[error(
        "the input has a column `{column}`, which is the name of the column that `id = \"@row\"` \
         adds; rename it, or use it as the id"
    )]
    ReservedColumn {
        /// The name.
        column: &'static str,
    },
    /// A template that would give every row the same text.
    #[error("the text template `{template}` names no column; name one as in `{{address}}`")]
    ConstantText {
        /// The template as it was written.
        template: String,
    },
    /// A row without an id.
    #[error("{row} has no id; fill it, name another id column, or use `id = \"@row\"`")]
    NullId {
        /// Where the row stands, such as ``line 7 of `a.csv` ``.
        row: String,
    },
    /// Two rows with one id.
    #[error(
        "{second} has the same id as {first}; make ids unique, \
         or keep the first of each with `--on-duplicate-id first`"
    )]
    DuplicateId {
        /// Where the row stands that comes first in the input.
        first: String,
        /// Where the other row stands.
        second: String,
    },
    /// The temporary folder has too little room for sorting the input.
    #[error(
        "the input is not in id order, and sorting it takes about {need_mib} MiB of temporary \
         space where `{folder}` has {free_mib} MiB free; free some, or name a folder on another \
         disk with `--temp-dir`"
    )]
    TempSpace {
        /// The folder.
        folder: String,
        /// What sorting takes, MiB.
        need_mib: u64,
        /// What is free, MiB.
        free_mib: u64,
    },
    /// The temporary folder filled up while the input was sorted.
    #[error(
        "`{folder}` filled up while the input was sorted there; free some space, or name a folder \
         on another disk with `--temp-dir`"
    )]
    TempFull {
        /// The folder.
        folder: String,
    },
    /// The temporary folder can't be used.
    #[error("the input can't be sorted in `{folder}`; name another folder with `--temp-dir`")]
    TempFolder {
        /// The folder.
        folder: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Values that can't be rendered, such as a date beyond the calendar.
    #[error("column `{column}` holds a value that can't be used; mend or convert the column")]
    BadValue {
        /// The column.
        column: String,
        /// What is wrong with it.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// A batch that can't be put together, such as one of more text than its offsets count.
    #[error("rows of the input can't be put together; write the input anew, in smaller values")]
    BadBatch {
        /// What is wrong with it.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// Positions that the input doesn't have: it shrank since they were planned.
    #[error(
        "rows {first} to {end} in id order are wanted, but the input has {rows} rows or they were \
         wanted before; restore the input as it was planned"
    )]
    OutOfRange {
        /// The first position wanted.
        first: u64,
        /// The position after the last one wanted.
        end: u64,
        /// The input's rows.
        rows: u64,
    },
}

/// A column's name as an error shows it: on one line, whatever the header of a CSV file holds.
pub(super) fn shown(name: &str) -> String {
    let mut line = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

impl InputError {
    /// Whether the user's input or configuration is at fault (exit code 2); otherwise it is the
    /// storage, or another program that writes to the input meanwhile.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            InputError::Io { .. }
                | InputError::Changed { .. }
                | InputError::TempSpace { .. }
                | InputError::TempFull { .. }
                | InputError::TempFolder { .. }
        )
    }
}
