//! What was typed, the environment, progress and exit codes.
//!
//! Two steps: `arguments`, `environment` and `config_file` say what was asked for; `job` makes a
//! validated [`crate::domain::JobSpec`] of it, and the commands hand that to the engine.

pub mod api_key;
pub mod arguments;
mod calibrate_command;
mod calibrate_view;
pub mod check_command;
pub mod compact_command;
pub mod config_edit;
pub mod config_file;
pub mod console;
mod engine;
pub mod environment;
mod eval_command;
mod eval_view;
pub mod exit_code;
pub mod init_command;
pub mod job;
mod known_rows;
pub mod label_setting;
mod panic_hook;
#[cfg(feature = "polars")]
mod part_agreement;
pub mod plot_command;
pub mod preview_view;
pub mod progress;
#[cfg(test)]
mod reference;
pub mod run_command;
pub mod section;
pub mod settings;
pub mod signals;
pub mod simulate_command;
pub mod storage;
pub mod summary_view;
mod table;
mod token_cost;
pub mod values;
pub mod verify_command;

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use self::arguments::{Command, CommandLine};
use self::exit_code::ExitCode;
use self::run_command::Failure;
use crate::domain::memory;

/// Runs the program; the exit code is the process's.
pub fn main() -> std::process::ExitCode {
    panic_hook::install();
    memory::return_large_buffers_early();
    let typed: Vec<OsString> = std::env::args_os().collect();
    let command_line = match read_command_line(typed.clone()) {
        Ok(command_line) => command_line,
        Err(refused) => return print_refusal(&refused, &typed).into(),
    };
    for warning in unknown_variables(environment::names()) {
        console::message(&warning);
    }
    let ended = obey(command_line.command);
    console::clear_bar();
    let code = ended.unwrap_or_else(|failure| {
        console::error(failure.error.as_ref());
        failure.code
    });
    code.into()
}

fn read_command_line(typed: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let parser = CommandLine::command();
    let commands: Vec<&str> = parser.get_subcommands().map(clap::Command::get_name).collect();
    let is_file = |word: &OsString| Path::new(word).exists();
    CommandLine::try_parse_from(arguments::with_command(typed, &commands, is_file))
}

fn obey(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(arguments) => run_command::run(*arguments),
        Command::Preview(arguments) => run_command::run_preview(*arguments),
        Command::Init(arguments) => {
            init_command::init(&arguments.path)
                .map_err(|error| Failure::new(ExitCode::Usage, error))?;
            console::message(&format!(
                "{} is written; edit it, then look before you pay: batchclass preview INPUT",
                arguments.path.display()
            ));
            Ok(ExitCode::Done)
        }
        Command::Simulate(arguments) => simulate_command::simulate(&arguments),
        Command::Calibrate(arguments) => calibrate_command::calibrate(*arguments),
        Command::Eval(arguments) => eval_command::eval(*arguments),
        Command::Verify(arguments) => verify_command::verify(arguments),
        Command::Check(arguments) => check_command::check_storage(arguments),
        Command::Compact(arguments) => compact_command::compact_output(&arguments),
        Command::Plot(arguments) => plot_command::plot(&arguments),
    }
}

/// Prints the help that was asked for, or what is wrong with what was typed.
fn print_refusal(refused: &clap::Error, typed: &[OsString]) -> ExitCode {
    // Where there is no terminal left to print to, the exit code still says it.
    let _ = refused.print();
    if refused.exit_code() == 0 {
        return ExitCode::Done;
    }
    if let Some(variable) = blamed_variable(refused, typed) {
        console::message(&format!("the value comes from the environment variable {variable}"));
    }
    ExitCode::Usage
}

/// The variable that a refused value comes from, where its flag was not typed.
fn blamed_variable(refused: &clap::Error, typed: &[OsString]) -> Option<String> {
    let is_value = matches!(refused.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    let Some(ContextValue::String(named)) = refused.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = named.split_whitespace().next().filter(|_| is_value)?;
    let is_typed = typed.iter().any(|word| word.to_string_lossy().starts_with(flag));
    let name = flag.strip_prefix("--").filter(|_| !is_typed)?;
    Some(format!("{VARIABLE_PREFIX}{}", name.replace('-', "_").to_uppercase()))
}

/// What every variable of ours begins with.
const VARIABLE_PREFIX: &str = "BATCHCLASS_";

/// A warning for every variable that looks like a setting and is none: it would be passed over in
/// silence otherwise, and cost what it was set to save.
fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let parser = CommandLine::command();
    let known: Vec<String> = parser
        .get_subcommands()
        .flat_map(|command| command.get_arguments())
        .filter_map(|flag| Some(flag.get_env()?.to_string_lossy().into_owned()))
        .collect();
    let is_unknown = |name: &String| name.starts_with(VARIABLE_PREFIX) && !known.contains(name);
    names
        .filter(is_unknown)
        .map(|name| {
            format!("warning: the environment variable {name} is no setting and is ignored")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_no_setting_is_named() {
        let names = ["BATCHCLASS_ROW_PER_CALL", "BATCHCLASS_ROWS_PER_CALL", "HOME"];
        assert_eq!(
            unknown_variables(names.map(str::to_owned).into_iter()),
            [
                "warning: the environment variable BATCHCLASS_ROW_PER_CALL is no setting and is ignored"
            ]
        );
    }

    #[test]
    fn a_refused_value_that_was_not_typed_is_traced_to_its_variable() {
        let typed = ["batchclass", "run", "in", "out", "--limit", "x"].map(OsString::from);
        let refused = read_command_line(typed.to_vec()).unwrap_err();
        assert_eq!(blamed_variable(&refused, &typed), None);
        let not_typed = &typed[..4];
        let variable = blamed_variable(&refused, not_typed);
        assert_eq!(variable.as_deref(), Some("BATCHCLASS_LIMIT"));
    }
}
