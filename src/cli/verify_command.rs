//! `verify`: the verdict on an output as a table or as JSON, and as an exit code.

use std::fmt::Write as _;

use super::arguments::VerifyArguments;
use super::console::{self, one_line};
use super::environment;
use super::exit_code::ExitCode;
use super::job::JobError;
use super::run_command::Failure;
use super::storage::cloud;
use crate::domain::Location;
use crate::domain::spec::SORT_MEMORY;
use crate::verify::{self, Check, ComparedInput, State, Verdict, VerifyError};

/// Verifies an output and prints what was found.
///
/// # Errors
/// If there is no output, the input can't be used, storage fails or stdout can't be written.
pub(super) fn verify(arguments: VerifyArguments) -> Result<ExitCode, Failure> {
    let sort_memory = arguments.sort_memory.map_or(SORT_MEMORY, |bytes| bytes.0);
    let temp_dir = arguments.temp_dir.unwrap_or_else(environment::temp_dir);
    let input = arguments.input.map(|location| {
        let location = Location::parse(location.as_os_str())?;
        Ok(ComparedInput { location, sort_memory, temp_dir })
    });
    let input = input.transpose().map_err(JobError::Location)?;
    let output = Location::parse(arguments.output.as_os_str()).map_err(JobError::Location)?;
    let cloud = cloud(arguments.storage).map_err(JobError::Endpoint)?;
    let verdict = verify::verify(&output, input.as_ref(), &cloud)?;
    let internal =
        |error: Box<dyn std::error::Error + Send + Sync>| Failure::new(ExitCode::Internal, error);
    let text = match arguments.json {
        true => serde_json::to_string(&verdict).map_err(|error| internal(error.into()))? + "\n",
        false => table(&verdict),
    };
    console::data(&text).map_err(|error| internal(error.into()))?;
    Ok(ExitCode::of_verdict(verdict.state))
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        let code = if error.is_usage() { ExitCode::Usage } else { ExitCode::Stopped };
        Failure::new(code, error)
    }
}

/// A line for each check, its problems below it.
fn table(verdict: &Verdict) -> String {
    let mut text = String::new();
    for check in &verdict.checks {
        let Check { name, state, detail, problems, problems_found } = check;
        let _ = writeln!(text, "{:<9} {name:<10} {}", word(*state), one_line(detail));
        for problem in problems {
            let _ = writeln!(text, "{:20} {}", "", one_line(problem));
        }
        let unlisted = problems_found.saturating_sub(problems.len() as u64);
        if unlisted > 0 {
            let _ = writeln!(text, "{:20} and {unlisted} more", "");
        }
    }
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::NotDone => "not done",
        State::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_its_problems_below() {
        let check = |name, state, problems: &[&str], problems_found| Check {
            name,
            state,
            detail: "20 rows".into(),
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
            problems_found,
        };
        let shown = table(&Verdict::of(vec![
            check("job", State::Ok, &[], 0),
            check("parts", State::NotDone, &["5 rows are not done yet"], 1),
            check("ids", State::Failed, &["row 2 of part-000001.parquet: \u{1b}[2J"], 12),
        ]));
        insta::assert_snapshot!(shown, @r"
        ok        job        20 rows
        not done  parts      20 rows
                             5 rows are not done yet
        FAILED    ids        20 rows
                             row 2 of part-000001.parquet: \u{1b}[2J
                             and 11 more
        ");
    }

    #[test]
    fn the_exit_code_tells_what_is_wrong_from_what_is_not_done() {
        let numbers = [State::Ok, State::NotDone, State::Failed].map(ExitCode::of_verdict);
        assert_eq!(numbers.map(ExitCode::number), [0, 3, 4]);
    }
}
