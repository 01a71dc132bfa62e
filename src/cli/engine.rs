//! The commands' way into the engine: a validated job and its surroundings in, numbers out.

use std::sync::Arc;

use futures::FutureExt as _;

use super::exit_code::ExitCode;
use super::preview_view::{Preview, PreviewRow};
use super::run_command::{Failure, Surroundings};
use super::summary_view::{Accuracy, Cost, Summary};
use crate::domain::spec::ProviderKind;
use crate::domain::{Billed, Clock, JobSpec, Price};
use crate::llm::learned_scorer::LearnedScorer;
use crate::llm::price::{PriceError, price_of, priced};
use crate::llm::provider::{OpenAi, Provider, ProviderSetupError, lexical::LexicalProvider};
use crate::pipeline::{self, Beside, FailureKind, RunContext, RunError, RunReport};

/// Runs `job` to its end, or until it is stopped; says how it ended.
///
/// # Errors
/// If there is no end to report: the input or the output can't be used, or a defect.
pub(super) async fn run(mut job: JobSpec, around: Surroundings) -> Result<Summary, Failure> {
    job.budget.price = price(&job, &*around.clock)?;
    let report = pipeline::run(&job, context(&job, around)?).await?;
    let price = job.budget.price.as_ref();
    let cost = price.map(|price| Cost {
        of_run: price.cost(&report.billed).to_f64(),
        in_all: price.cost(&report.billed_in_all).to_f64(),
        prices: price.source.clone(),
    });
    Ok(Summary {
        accuracy: accuracy(&job, &report),
        cost: cost.filter(|cost| cost.in_all > 0.0),
        run: report,
        output: job.output.location,
        max_unlabelled: job.output.max_unlabelled,
    })
}

/// Asks for the first rows of `job` and writes nothing.
///
/// # Errors
/// If the input can't be used or the provider doesn't answer.
pub(super) async fn preview(mut job: JobSpec, around: Surroundings) -> Result<Preview, Failure> {
    job.budget.price = price(&job, &*around.clock)?;
    let price = job.budget.price.clone();
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
        cost: price.and_then(|price| {
            let cost = price.cost(&Billed::of_usage(&shown.usage?)).to_f64();
            Some((cost, price.source))
        }),
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
        ProviderKind::Lexical => Arc::new(match &job.model.fit {
            Some(known) => {
                let scorer = LearnedScorer::new(Arc::clone(known), Arc::clone(&events));
                LexicalProvider::fitted(true, scorer)
            }
            None => LexicalProvider::new(true),
        }),
        ProviderKind::Openai => Arc::new(OpenAi::new(&job.model, api_key, Arc::clone(&clock))?),
    };
    let stop = async move { stop.wait().await }.boxed();
    Ok(RunContext { provider, events, clock, stop, takeover, beside: Beside::default() })
}

/// What the job's tokens cost, where that is known; with the embedded provider nothing.
///
/// # Errors
/// If the user's own prices make none.
pub(super) fn price(job: &JobSpec, clock: &dyn Clock) -> Result<Option<Price>, PriceError> {
    let JobSpec { model, batch, budget, .. } = job;
    match model.provider {
        ProviderKind::Lexical => Ok(None),
        ProviderKind::Openai => {
            let longest = batch.tokens_per_call;
            let table = price_of(&model.name, &model.base_url, clock.wall(), longest);
            priced(budget.own_price, table)
        }
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
