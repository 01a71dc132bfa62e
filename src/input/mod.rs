//! Rows in id order, less what is done.
//!
//! An input is proved sound before anything is asked of a model: its files fit together, the
//! columns that the job names are there, and no id is null or repeated. What follows is a stream of
//! batches; an input out of id order is sorted first, in bounded memory.
//!
//! 1. `location` and `remote_listing`: which files, in which order; `source`, `remote_file`: one of them.
//! 2. `table`: one file, read by row number: `parquet_table` by its `parquet_footer`, through
//!    `parquet_pages`; over the text of a
//!    `text_file` `csv_table` and `ndjson_table`, the latter with the columns that `json_columns` finds
//!    and `json_values` fills.
//! 3. `tables`: all files as one sequence of rows, `partitions` what their folders say of them.
//! 4. `order`: the proof of the ids, and the order; `ids`: what can be one.
//! 5. `sorter`: rows out of order brought into it, on disk if they are many.
//! 6. `reader`: chunks of wanted positions.
//! 7. `row_reader`: a batch's rows as id, text and existing label.

mod batch_rows;
mod csv_scan;
mod csv_table;
#[cfg(test)]
mod damage;
mod error;
mod ids;
mod json_columns;
mod json_line;
mod json_values;
mod location;
mod ndjson_table;
mod order;
mod ordered_input;
mod parquet_footer;
mod parquet_pages;
mod parquet_table;
mod partitions;
mod reader;
mod remote_file;
mod remote_listing;
mod row_reader;
mod sorter;
mod source;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod text_file;
#[cfg(test)]
mod unread;

pub use error::InputError;
pub use ordered_input::{FoundInput, OrderedInput};
pub use reader::{InputChunk, InputReader, MAX_CHUNK_ROWS};
pub use row_reader::{InputRow, ROW_NUMBER_COLUMN, RowReader, existing_labels, row_ids};
pub use source::InputFile;
