//! `check`: what the storage of an output can promise, as a table or as JSON.

use std::fmt::Write as _;

use super::arguments::CheckArguments;
use super::console::{self, one_line};
use super::exit_code::ExitCode;
use super::job::JobError;
use super::run_command::Failure;
use super::storage::cloud;
use crate::check::{Checked, State, check};
use crate::domain::clock::SystemClock;
use crate::domain::spec::Layout;
use crate::domain::{Clock as _, Location};
use crate::output::{OutputError, OutputFolder};
use crate::pipeline::run_name;

/// Asks the storage of an output and prints what it promises.
///
/// # Errors
/// If nothing can be written there, or stdout can't be written.
pub(super) fn check_storage(arguments: CheckArguments) -> Result<ExitCode, Failure> {
    let cloud = cloud(arguments.storage).map_err(JobError::Endpoint)?;
    let location = Location::parse(arguments.output.as_os_str()).map_err(JobError::Location)?;
    let folder = OutputFolder::at(&location, &cloud).map_err(OutputError::from)?;
    let checked = check(folder, &run_name(SystemClock::start().wall())?)?;
    let internal =
        |error: Box<dyn std::error::Error + Send + Sync>| Failure::new(ExitCode::Internal, error);
    let text = match arguments.json {
        true => serde_json::to_string(&checked).map_err(|error| internal(error.into()))? + "\n",
        false => table(&checked),
    };
    console::data(&text).map_err(|error| internal(error.into()))?;
    Ok(if checked.is_sound() { ExitCode::Done } else { ExitCode::Stopped })
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Failure {
        let code = if error.is_usage() { ExitCode::Usage } else { ExitCode::Stopped };
        Failure::new(code, error)
    }
}

fn table(checked: &Checked) -> String {
    let mut text = String::new();
    let layout = match checked.layout {
        Layout::Replace => "replace: missing labels are filled in place",
        Layout::Append => {
            "append: nothing that stands is changed, missing labels come in further files"
        }
    };
    let _ = writeln!(text, "storage              {}", one_line(&checked.storage));
    let _ = writeln!(text, "layout               {layout}");
    for finding in &checked.findings {
        let word = match finding.state {
            State::Kept => "ok",
            State::NotNeeded => "no",
            State::Broken => "BROKEN",
        };
        let _ = writeln!(text, "{word:<6} {:<13} {}", finding.name, one_line(&finding.detail));
    }
    text
}
