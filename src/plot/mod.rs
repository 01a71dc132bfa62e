//! Draws a run from its events: tokens in the rolling minute against the limit.
//!
//! Pure but for the reader that the events come from: the lines of `--progress json` in, an SVG out.
//! The same lines give the same picture.

mod chart;
mod series;

use std::io::BufRead;

use thiserror::Error;

use self::series::Series;

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The events can't be read to their end.
    #[error("reading the events stopped at line {line}")]
    Read {
        /// Counted from 1.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// An event of a later version.
    #[error(
        "line {line} is an event of version {version}, and this program knows {}; use the program \
         that wrote it, or a later one",
        crate::domain::event::EVENT_VERSION
    )]
    Version {
        /// Counted from 1.
        line: u64,
        /// The event's version.
        version: u64,
    },
    /// Nothing that could be drawn.
    #[error(
        "no event tells of a call; they are written by `batchclass INPUT OUT --progress json \
         2> events.jsonl`"
    )]
    NoCalls,
    /// The drawing failed.
    #[error("the picture could not be drawn: {0}")]
    Drawing(String),
}

/// Draws the tokens of the last 60 seconds over the time of a run, with the limit and the times in
/// which a 429 held all calls, as an SVG of 960 by 420. Lines that are no events are passed over.
///
/// # Errors
/// If the events can't be read, are of a later version, or tell of no call.
pub fn window(events: impl BufRead) -> Result<String, PlotError> {
    let series = Series::read(events)?;
    chart::draw(&series).map_err(|error| PlotError::Drawing(error.to_string()))
}
