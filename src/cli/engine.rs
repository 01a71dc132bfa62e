//! The commands' way into the engine.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::exit_code::ExitCode;
use super::preview_view::Preview;
use super::run_command::{Engine, Failure, RunContext};
use super::simulate_command::SimulateArguments;
use super::summary_view::RunReport;
use crate::domain::JobSpec;

/// Runs jobs through [`crate::pipeline`].
pub(super) struct Pipeline;

impl Engine for Pipeline {
    fn run(&self, _: JobSpec, _: RunContext) -> BoxFuture<'_, Result<RunReport, Failure>> {
        async { Err(absent()) }.boxed()
    }

    fn preview(
        &self,
        _: JobSpec,
        _: usize,
        _: RunContext,
    ) -> BoxFuture<'_, Result<Preview, Failure>> {
        async { Err(absent()) }.boxed()
    }
}

/// Serves until it is interrupted.
pub(super) fn simulate(_: &SimulateArguments) -> Result<ExitCode, Failure> {
    Err(absent())
}

fn absent() -> Failure {
    Failure::new(ExitCode::Internal, "this build has no engine")
}
