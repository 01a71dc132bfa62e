//! `compact`: an output's rows in full parts, in a new output.

use std::num::NonZeroU32;
use std::path::Path;

use super::arguments::CompactArguments;
use super::console;
use super::exit_code::ExitCode;
use super::job::{JobError, encoding};
use super::run_command::Failure;
use super::storage::cloud;
use crate::compact::{CompactError, CompactSpec, compact};
use crate::domain::clock::SystemClock;
use crate::domain::{Clock as _, Location};
use crate::output::{OutputError, OutputFolder};
use crate::pipeline::run_name;

/// Rewrites an output into another one and says what came of it.
///
/// # Errors
/// If the output is not finished, the other one holds anything else, or storage fails.
pub(super) fn compact_output(arguments: &CompactArguments) -> Result<ExitCode, Failure> {
    let clock = SystemClock::start();
    let started = clock.wall();
    let rows_per_part = u32::try_from(arguments.rows_per_part.get()).unwrap_or(u32::MAX);
    let rows_per_part = NonZeroU32::new(rows_per_part).unwrap_or(NonZeroU32::MIN);
    let encoding = encoding(arguments.compression, arguments.row_group_rows);
    let spec = CompactSpec { rows_per_part, encoding, run: run_name(started)?, started };
    let cloud = cloud(arguments.storage.clone()).map_err(JobError::Endpoint)?;
    let folder = |typed: &Path| -> Result<OutputFolder, Failure> {
        let location = Location::parse(typed.as_os_str()).map_err(JobError::Location)?;
        Ok(OutputFolder::at(&location, &cloud)
            .map_err(OutputError::from)
            .map_err(CompactError::from)?)
    };
    let (from, to) = (folder(&arguments.output)?, folder(&arguments.destination)?);
    let done = compact(&from, &to, &spec, &clock)?;
    console::message(&format!(
        "{} rows in {} parts, where there were {}: {}",
        done.rows,
        done.parts,
        done.parts_before,
        arguments.destination.display()
    ));
    Ok(ExitCode::Done)
}

impl From<CompactError> for Failure {
    fn from(error: CompactError) -> Failure {
        let code = if error.is_usage() { ExitCode::Usage } else { ExitCode::Stopped };
        Failure::new(code, error)
    }
}
