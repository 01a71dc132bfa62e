//! `plot`: a run's events in, a picture on stdout.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::arguments::PlotArguments;
use super::console;
use super::exit_code::ExitCode;
use super::run_command::Failure;
use crate::plot::{self, PlotError};

/// Why nothing was drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotFailure {
    /// The file can't be opened.
    #[error("can't open {}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds can't be drawn.
    #[error("can't draw {}", .file.display())]
    Undrawable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: PlotError,
    },
}

/// Draws the rolling minute of a run and prints the SVG.
///
/// # Errors
/// If the events can't be read or hold nothing to draw, or stdout can't be written.
pub(super) fn plot(arguments: &PlotArguments) -> Result<ExitCode, Failure> {
    let svg = draw(&arguments.events).map_err(|error| Failure::new(ExitCode::Usage, error))?;
    console::data(&svg).map_err(|error| Failure::new(ExitCode::Internal, error))?;
    Ok(ExitCode::Done)
}

fn draw(events: &Path) -> Result<String, PlotFailure> {
    let file = || events.to_owned();
    let lines: Box<dyn BufRead> = if events == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(events);
        Box::new(BufReader::new(
            opened.map_err(|source| PlotFailure::Unreadable { file: file(), source })?,
        ))
    };
    plot::window(lines).map_err(|source| PlotFailure::Undrawable { file: file(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: &PlotFailure) -> String {
        let cause = std::error::Error::source(error).unwrap();
        format!("{error}: {cause}")
    }

    #[test]
    fn a_file_that_is_missing_or_holds_no_events_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.jsonl");
        assert!(words(&draw(&missing).unwrap_err()).contains("none.jsonl"));
        let error = draw(folder.path()).unwrap_err();
        assert!(matches!(error, PlotFailure::Undrawable { .. }), "{error}");
        assert!(words(&error).contains("reading the events stopped at line 1"), "{error}");
    }
}
