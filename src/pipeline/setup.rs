//! What a run is set up with: the prompt, the job's identity, and how large a call may be.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::RunError;
use super::free_space::Need;
use super::work::Work;
use crate::domain::spec::{BudgetSpec, IdSource, ProviderKind};
use crate::domain::{Billed, Clock, Dollars, Event, JobSpec, Location, Tokens, UnixMillis};
use crate::input::{InputFile, OrderedInput, ROW_NUMBER_COLUMN};
use crate::llm::asker::Asker;
use crate::llm::batcher::BatchLimits;
use crate::llm::governor::{Governor, PastCharge};
use crate::llm::price::PRICE_TABLE;
use crate::llm::prompt::Prompt;
use crate::llm::provider::Endpoint;
use crate::llm::token_counter::TokenCounter;
use crate::output::{
    FileIdentity, Job, OpenOutput, OutputError, OutputFolder, Provenance, journal,
};

/// The fixed part of every call of `job`.
pub(super) fn prompt(job: &JobSpec) -> Arc<Prompt> {
    let counter = TokenCounter::for_vocabulary(job.model.vocabulary);
    Arc::new(Prompt::new(&job.instructions, job.codebook.clone(), counter, job.model.key))
}

/// How large a call may be: as the job says, and at most what the governor lets through.
///
/// # Errors
/// If not even one short row fits beside the prompt.
pub(super) fn batch_limits(
    job: &JobSpec,
    asker: &Asker,
    largest_call: Option<(Tokens, &'static str)>,
) -> Result<BatchLimits, RunError> {
    let rows_per_call =
        NonZeroUsize::try_from(job.batch.rows_per_call).unwrap_or(NonZeroUsize::MIN);
    let wanted = job.batch.tokens_per_call;
    let (limit, setting) = match largest_call {
        Some((largest, why)) if largest < wanted => (largest, why),
        _ => (wanted, "batch.tokens_per_call"),
    };
    let limits = asker.limits(rows_per_call, limit);
    let prompt = limits.call_tokens(1, Tokens::ZERO);
    if prompt >= limit {
        return Err(RunError::PromptTooLong { prompt, limit, setting });
    }
    Ok(limits)
}

/// A row of usual length, tokens with its key: what a warning about the room for rows reckons with.
const USUAL_ROW: u32 = 20;

/// A warning where so few rows fit into a call that the prompt eats the limit.
pub(super) fn cramped(job: &JobSpec, limits: &BatchLimits) -> Option<String> {
    let most = limits.tokens_per_call;
    let rows = limits.rows_per_call.get();
    let fitting = (1..=rows)
        .take_while(|rows| {
            let tokens = USUAL_ROW.saturating_mul(u32::try_from(*rows).unwrap_or(u32::MAX));
            limits.call_tokens(*rows, Tokens(tokens)) <= most
        })
        .count();
    let is_held_back = most < job.batch.tokens_per_call;
    (is_held_back && fitting < rows / 2).then(|| {
        format!(
            "the limits leave a call {most} tokens; beside the prompt ({} tokens) about {fitting} \
             rows of {USUAL_ROW} tokens fit, not {rows}",
            limits.fixed
        )
    })
}

/// What makes this job, over `rows` rows in these files, the one that an output answers.
///
/// # Errors
/// If the machine has no randomness for the job's secret.
pub(super) fn identity(
    job: &JobSpec,
    files: &[InputFile],
    rows: u64,
    now: UnixMillis,
) -> Result<Job, RunError> {
    let files = files.iter().map(|file| FileIdentity {
        name: file.name.clone(),
        bytes: file.bytes,
        modified: file.modified,
    });
    Job::new(job, files.collect(), rows, now).map_err(no_randomness)
}

/// The output with its journal where that belongs: in the folder that the job names, else where it
/// usually is.
///
/// # Errors
/// If there is no such place.
pub(super) fn place_journal(job: &JobSpec, folder: OutputFolder) -> Result<OutputFolder, RunError> {
    let named = job.output.journal_folder.as_ref().map(|all| all.join(journal_name(&folder)));
    let place = named.or_else(|| usual_journal(job, &folder)).ok_or(RunError::NoJournalFolder)?;
    Ok(folder.with_journal_folder(place))
}

/// Beside the parts, or in the user's state folder where storage takes no small writes.
fn usual_journal(job: &JobSpec, folder: &OutputFolder) -> Option<PathBuf> {
    if folder.takes_small_writes() {
        return Some(folder.journal_beside());
    }
    let state = job.output.state_folder.as_ref()?;
    Some(state.join("journals").join(journal_name(folder)))
}

fn journal_name(folder: &OutputFolder) -> String {
    match folder.location() {
        Location::Path(path) => journal::folder_name(&journal::absolute(path).to_string_lossy()),
        Location::Object(url) => journal::folder_name(&url.canonical()),
    }
}

/// Refuses to go on without answers that wait in the journal's usual place.
///
/// # Errors
/// If some do and the job names another place, or that journal can't be read.
pub(super) fn refuse_to_leave_a_journal(
    job: &JobSpec,
    output: &OpenOutput,
) -> Result<(), RunError> {
    let named = output.folder().journal_folder();
    let usual = usual_journal(job, output.folder()).filter(|usual| *usual != named);
    let Some(usual) = usual else { return Ok(()) };
    let left = journal::replay(&usual, output.fingerprint(), output.plan(), |_| ());
    match left.map_err(OutputError::from)?.replies {
        0 => Ok(()),
        answers => Err(RunError::JournalElsewhere { answers, usual, named }),
    }
}

/// Refuses a run that the disks have no room for.
///
/// # Errors
/// [`RunError::DiskFull`].
pub(super) fn refuse_a_full_disk(
    job: &JobSpec,
    input: &OrderedInput,
    folder: &OutputFolder,
    work: &Work,
) -> Result<(), RunError> {
    let rows_left = work.parts().map(|(_, range)| range.rows).sum();
    let rows_per_part = u64::from(job.output.rows_per_part().get());
    let bytes = input.files().iter().map(|file| file.bytes).sum();
    let need = Need::of(rows_left, rows_per_part, input.rows(), bytes, journal::SEGMENT_BYTES);
    let output = folder.location().as_path().filter(|_| folder.takes_small_writes());
    need.check(&folder.journal_folder(), output)
}

/// The name of a run: when it began, and enough chance that no two are the same.
///
/// # Errors
/// If the machine has no randomness.
pub fn run_name(now: UnixMillis) -> Result<String, RunError> {
    let chance = getrandom::u32().map_err(no_randomness)?;
    let time = i64::try_from(now.0).ok().and_then(chrono::DateTime::from_timestamp_millis);
    let time = time.unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    Ok(format!("{time}-{chance:08x}"))
}

fn no_randomness(error: getrandom::Error) -> RunError {
    RunError::Internal(format!("the machine gives no random numbers ({error})"))
}

/// Who answers, as parts and manifest entries name it.
pub(super) fn provenance(job: &JobSpec, run: &str) -> Provenance {
    Provenance {
        provider: provider_name(job).to_owned(),
        model: job.model.provenance(),
        run: run.to_owned(),
    }
}

/// The provider's name in a config.
pub(super) fn provider_name(job: &JobSpec) -> &'static str {
    match job.model.provider {
        ProviderKind::Openai => "openai",
        ProviderKind::Lexical => "lexical",
    }
}

/// The host that is asked; empty for the embedded provider.
pub(super) fn host(job: &JobSpec) -> String {
    match job.model.provider {
        ProviderKind::Lexical => String::new(),
        ProviderKind::Openai => Endpoint::parse(&job.model.base_url)
            .map_or_else(|_| String::new(), |endpoint| endpoint.authority().to_owned()),
    }
}

/// The name of the output's id column.
pub(super) fn id_column(job: &JobSpec) -> &str {
    match &job.input.id {
        IdSource::Column(name) => name,
        IdSource::RowNumber => ROW_NUMBER_COLUMN,
    }
}

/// Refuses a bound on money where nobody knows what tokens cost.
///
/// # Errors
/// [`RunError::NoPrice`].
pub(super) fn refuse_an_unpriced_bound(job: &JobSpec) -> Result<(), RunError> {
    let is_free = job.model.provider == ProviderKind::Lexical;
    match job.budget.max_cost {
        Some(_) if job.budget.price.is_none() && !is_free => Err(RunError::NoPrice {
            model: job.model.name.clone(),
            host: host(job),
            table: PRICE_TABLE,
        }),
        _ => Ok(()),
    }
}

/// What the output's own records say that earlier runs were billed for, or its journal if that knows
/// of more, as it does unless it was lost.
///
/// # Errors
/// If the journal can't be read.
pub(super) fn billed_before(output: &OpenOutput) -> Result<Billed, RunError> {
    let folder = output.folder().journal_folder();
    let bill = journal::past_bill(&folder, output.fingerprint(), output.spent().billed());
    Ok(bill.map_err(OutputError::from)?)
}

/// What the job has been billed for so far, where something of it has a price or a bound.
pub(super) fn spending(job: &JobSpec, billed: Billed, is_final: bool) -> Option<Event> {
    let BudgetSpec { max_cost, max_tokens, price, .. } = &job.budget;
    if max_cost.is_none() && max_tokens.is_none() && price.is_none() {
        return None;
    }
    Some(Event::Spending {
        tokens: billed.tokens(),
        cost_usd: price.as_ref().map(|price| price.cost(&billed).to_f64()),
        max_tokens: max_tokens.map(NonZeroU64::get),
        max_cost_usd: max_cost.map(Dollars::to_f64),
        prices: price.as_ref().map(|price| price.source.clone()),
        is_final,
    })
}

/// A governor that knows what earlier runs with these journals were charged, as far back as any
/// limit does.
///
/// # Errors
/// If a record of charges can't be read.
pub(super) fn governor<'a>(
    job: &JobSpec,
    journals: impl Iterator<Item = &'a PathBuf>,
    clock: &dyn Clock,
) -> Result<Governor, RunError> {
    let now = clock.now();
    let seed = getrandom::u64().unwrap_or_default();
    let wall = clock.wall();
    let mut governor = Governor::new(job.limits, seed, now, wall);
    let mut past = Vec::new();
    for folder in journals {
        past.extend(journal::past_charges(folder, wall).map_err(OutputError::from)?);
    }
    past.sort_by_key(|charge| charge.at);
    let charges = past.into_iter().map(|past| PastCharge {
        age: Duration::from_millis(wall.0.saturating_sub(past.at.0)),
        charge: past.charge,
    });
    governor.restore(charges, now);
    Ok(governor)
}
