//! The commands' way into the engine: a validated job and its surroundings in, numbers out.

use std::sync::Arc;

use futures::FutureExt as _;

use super::exit_code::ExitCode;
use super::preview_view::{Preview, PreviewRow};
use super::run_command::{Failure, Surroundings};
use super::summary_view::{Accuracy, Summary};
use crate::domain::JobSpec;
use crate::domain::spec::ProviderKind;
use crate::llm::price::{Price, price_of};
use crate::llm::provider::{OpenAi, Provider, ProviderSetupError, lexical::LexicalProvider};
use crate::pipeline::{self, Beside, FailureKind, RunContext, RunError, RunReport};

/// Runs `job` to its end, or until it is stopped; says how it ended.
///
/// # Errors
/// If there is no end to report: the input or the output can't be used, or a defect.
pub(super) async fn run(job: JobSpec, around: Surroundings) -> Result<Summary, Failure> {
    let price = price(&job, &around);
    let report = pipeline::run(&job, context(&job, around)?).await?;
    let cost = price.map(|price| {
        let dollars = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        dollars(report.prompt_tokens, price.input_per_million)
            + dollars(report.completion_tokens, price.output_per_million)
    });
    Ok(Summary {
        accuracy: accuracy(&job, &report),
        price_usd: cost.filter(|_| report.calls > 0),
        run: report,
        output: job.output.location,
        max_unlabelled: job.output.max_unlabelled,
    })
}

/// Asks for the first rows of `job` and writes nothing.
///
/// # Errors
/// If the input can't be used or the provider doesn't answer.
pub(super) async fn preview(job: JobSpec, around: Surroundings) -> Result<Preview, Failure> {
    let price = price(&job, &around);
    let shown = pipeline::preview(&job, context(&job, around)?).await?;
    let rows = shown.rows.into_iter();
    let rows = rows.map(|row| PreviewRow { text: row.text, label: row.label, gold: row.gold });
    Ok(Preview {
        rows: rows.collect(),
        system: shown.system,
        user: shown.user,
        schema: shown.schema,
        counted_prompt_tokens: shown.counted_prompt,
        usage: shown.usage,
        price_usd: price.and_then(|price| Some(price.cost(&shown.usage?))),
    })
}

/// What a run of `job` is handed.
///
/// # Errors
/// If the provider can't be set up.
pub(super) fn context(
    job: &JobSpec,
    around: Surroundings,
) -> Result<RunContext, ProviderSetupError> {
    let Surroundings { events, stop, clock, api_key, takeover } = around;
    let provider: Arc<dyn Provider> = match job.model.provider {
        ProviderKind::Lexical => Arc::new(LexicalProvider::new(true)),
        ProviderKind::Openai => Arc::new(OpenAi::new(&job.model, api_key, Arc::clone(&clock))?),
    };
    let stop = async move { stop.wait().await }.boxed();
    Ok(RunContext { provider, events, clock, stop, takeover, beside: Beside::default() })
}

fn price(job: &JobSpec, around: &Surroundings) -> Option<Price> {
    match job.model.provider {
        ProviderKind::Lexical => None,
        ProviderKind::Openai => price_of(&job.model.name, &job.model.base_url, around.clock.wall()),
    }
}

/// How the labels of these parts compare with the gold column, if the job names one.
#[cfg(feature = "polars")]
fn accuracy(job: &JobSpec, report: &RunReport) -> Option<Accuracy> {
    let gold = job.input.gold.as_deref()?;
    let label = &job.output.label_column;
    let agreement = match job.output.location.as_path() {
        Some(folder) => {
            let files: Vec<_> = report.files.iter().map(|name| folder.join(name)).collect();
            let summary = crate::summary::of_parts(&files, label, Some(gold));
            summary.map(|summary| summary.agreement).map_err(|error| super::console::chain(&error))
        }
        None => super::part_agreement::of_objects(&job.output, gold, &report.files)
            .map(Some)
            .map_err(|error| super::console::chain(error.as_ref())),
    };
    match agreement {
        Ok(agreement) => agreement.map(|known| Accuracy {
            right: known.correct,
            compared: known.compared,
            interval: known.interval().map(|interval| (interval.low, interval.high)),
        }),
        Err(words) => {
            super::console::message(&format!("the accuracy is not known: {words}"));
            None
        }
    }
}

#[cfg(not(feature = "polars"))]
fn accuracy(_: &JobSpec, _: &RunReport) -> Option<Accuracy> {
    None
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let code = match error.kind() {
            FailureKind::Usage => ExitCode::Usage,
            FailureKind::Storage | FailureKind::Provider => ExitCode::Stopped,
            FailureKind::Quota => ExitCode::Quota,
            FailureKind::Internal => ExitCode::Internal,
        };
        Failure::new(code, error)
    }
}
