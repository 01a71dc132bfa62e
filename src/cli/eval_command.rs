//! `eval`: the job on rows with known labels, and what its labels are worth.

use std::path::PathBuf;

use super::arguments::{EvalArguments, KeptArguments};
use super::console;
use super::environment;
use super::eval_view::{EvalFigures, json, tables};
use super::exit_code::ExitCode;
use super::job::job;
use super::run_command::{Desk, Failure, settings};
use super::signals::Signal;
use super::summary_view::{Summary, summary};
use super::token_cost::TokenCost;
use super::values::ProgressMode;
use super::{engine, run_command};
use crate::domain::clock::SystemClock;
use crate::domain::event::RunEnd;
use crate::eval::{self, AnswersError, EvalError, GoldError, GoldRows, Workspace};

/// Nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[error("no column with known answers is named: gold = \"COLUMN\" in [input], or --gold COLUMN")]
struct NoGold;

/// No folder to keep answers in.
#[derive(Debug, thiserror::Error)]
#[error("there is no home folder to keep the answers in; name a folder: --out DIR")]
struct NoFolder;

/// Asks the rows with known answers, or what is left of them, and prints what the labels are worth.
///
/// # Errors
/// If the settings make no job, the known answers can't be used, or the engine has no end to report.
pub(super) fn eval(arguments: EvalArguments) -> Result<ExitCode, Failure> {
    let (settings, config) = settings(arguments.settings, &arguments.config)?;
    let mode = settings.run.progress.unwrap_or_default();
    let mut job = job(settings, arguments.input, PathBuf::from("answers"), config.as_deref())?;
    job.output.state_folder = environment::state_folder();
    job.budget.price = engine::price(&job, &SystemClock::start())?;
    let column = job.input.gold.clone();
    let column = column.ok_or_else(|| Failure::new(ExitCode::Usage, NoGold))?;
    let gold = GoldRows::all(&job, &column)?;
    let rows_per_call = job.batch.rows_per_call;
    let all = kept_in(&arguments.kept, "eval")?;
    let place = Workspace::below(&all, &job, &format!("{rows_per_call} rows a call"))?;

    let desk = Desk::open(&job, mode)?;
    let stop = desk.around.stop.clone();
    let price = TokenCost::of(&job);
    let evaluated = desk.see_through(|around| {
        let context = engine::context(&job, around);
        let (job, gold, place) = (&job, &gold, &place);
        async move { Ok::<_, Failure>(eval::evaluate(job, gold, place, context?).await?) }
    })?;
    let ending = Summary {
        run: evaluated.report.clone(),
        accuracy: None,
        cost: None,
        output: place.folder().into(),
        max_unlabelled: job.output.max_unlabelled,
    };
    if ending.run.end != RunEnd::Complete && mode != ProgressMode::Json {
        console::message(&summary(&ending));
    }
    let figures = EvalFigures { job: &job, evaluated: &evaluated, price: price.as_ref() };
    let text = match arguments.kept.json {
        true => json(&figures).to_string() + "\n",
        false => tables(&figures),
    };
    console::data(&text).map_err(|error| Failure::new(ExitCode::Internal, error))?;
    Ok(ending.exit_code(stop.signal().map(Signal::exit_code)))
}

/// The folder for the answers of a command, whatever is asked.
///
/// # Errors
/// If none is named and there is no home.
pub(super) fn kept_in(kept: &KeptArguments, command: &str) -> Result<PathBuf, Failure> {
    let usual = || Some(environment::state_folder()?.join(command));
    let folder = kept.out.clone().or_else(usual);
    folder.ok_or_else(|| Failure::new(ExitCode::Usage, NoFolder))
}

impl From<GoldError> for Failure {
    fn from(error: GoldError) -> Failure {
        let code = if error.is_usage() { ExitCode::Usage } else { ExitCode::Stopped };
        Failure::new(code, error)
    }
}

impl From<AnswersError> for Failure {
    fn from(error: AnswersError) -> Failure {
        match error {
            AnswersError::Output(error) => error.into(),
            AnswersError::Encode(_) | AnswersError::Identity => {
                Failure::new(ExitCode::Internal, error)
            }
            _ => Failure::new(ExitCode::Stopped, error),
        }
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Failure {
        match error {
            EvalError::Gold(error) => error.into(),
            EvalError::Run(error) => run_command::Failure::from(error),
            EvalError::Answers(error) => error.into(),
        }
    }
}
