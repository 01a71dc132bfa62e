//! The run, on one page: the only module that knows every stage.
//!
//! Input and job are proved before the output is touched; a finished output is only looked at; all
//! between is the coordinator's loop.

mod back_off;
mod beside;
mod byte_gate;
mod call;
mod close_parts;
mod coordinator;
mod drift;
mod error;
mod estimate;
mod free_space;
#[cfg(test)]
mod grown_runs;
mod growth;
mod heartbeat;
mod input_rows;
mod merge;
mod open_part;
mod packer;
mod part_size;
mod passes;
mod preview;
mod priors;
mod probes;
mod reader;
mod report;
mod retry;
mod settlement;
mod setup;
mod share;
mod stage;
mod standing_rows;
mod storage_watch;
mod suspects;
mod tally;
mod work;
mod writer;

use std::num::NonZeroU32;
use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::beside::{AnswerSink, Beside};
use self::coordinator::Coordinator;
pub use self::error::{FailureKind, RunError};
pub use self::estimate::{Estimate, estimate};
use self::heartbeat::Heartbeat;
pub use self::preview::{PREVIEW_ROWS, Preview, PreviewRow, preview};
pub use self::report::RunReport;
pub use self::setup::run_name;
use self::stage::Staged;
use self::tally::Tally;
use self::work::Work;
use self::writer::Left;
use crate::domain::{Billed, Clock, Event, EventSink, JobSpec};
use crate::input::{FoundInput, OrderedInput};
use crate::llm::batcher::BatchLimits;
use crate::llm::provider::Provider;
use crate::output::{
    Found, Job, KnownInput, OpenOutput, OutputError, OutputFolder, PartSchema, Selection,
    WriterSpec,
};

/// What a run is handed beside its job.
pub struct RunContext {
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Ends when the run is to stop after what is in flight.
    pub stop: BoxFuture<'static, ()>,
    /// Whether another run's claim on the output is taken over if that run is not seen to be alive.
    pub takeover: bool,
    /// Who else hears of answers, and what else is charged to the same account.
    pub beside: Beside,
}

/// Runs a job, or goes on with it: afterwards each settled row stands once in a committed part.
///
/// Ends early, and resumable, when told to stop or when the provider or storage stops it; the
/// report says so. On a finished output it makes no call and no write.
///
/// # Errors
/// If the job can't start: the input is unsound, the output belongs to another job or another
/// run, the prompt does not fit. Nothing has been asked then. [`RunError::Internal`] is a defect.
pub async fn run(job: &JobSpec, context: RunContext) -> Result<RunReport, RunError> {
    let folder = OutputFolder::at(&job.output.location, &job.output.cloud);
    run_in(job, folder.map_err(OutputError::from)?, context).await
}

/// As [`run`], with the output in `folder`.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    job: &JobSpec,
    folder: OutputFolder,
    context: RunContext,
) -> Result<RunReport, RunError> {
    let clock = Arc::clone(&context.clock);
    let started = clock.now();
    setup::refuse_an_unpriced_bound(job)?;
    let input = FoundInput::find(&job.input)?;
    if input.is_inside(&job.output.location) {
        return Err(RunError::OutputInsideInput(job.output.location.to_string()));
    }
    let found = retry::persist(&*clock, || folder.look()).await?;
    let layout = folder.layout(job.output.layout, found.as_ref());
    let folder = setup::place_journal(job, folder.laid_out(layout))?;
    if let Some(found) = &found {
        // As many rows as there were, if these are the files that there were.
        let rows = found.known_input.revision.rows;
        let mut identity = setup::identity(job, &input.files(), rows, clock.wall())?;
        identity.layout = layout;
        refuse_another_job(&folder, found, &identity)?;
        if is_finished(job, &identity, found) {
            let work = Work::find(job, &found.plan, &found.records, None);
            tell_given_up(&work, &*context.events);
            let mut report = RunReport::of_parts(&found.plan, found.records.values());
            report.files = found.file_names();
            report.is_success = found.success.is_some();
            report.dropped_duplicates = input.rows().map_or(0, |all| all.saturating_sub(rows));
            report.took = clock.now().since(started);
            return Ok(report);
        }
    }
    let input = Arc::new(input.prove()?);
    let schema = part_schema(job, &input)?;
    let prompt = setup::prompt(job);
    let is_journal_beside = folder.takes_small_writes();
    let rows_per_part =
        part_size::rows_per_part(job, &prompt, is_journal_beside, input.row_bytes());
    let job = &with_rows_per_part(job, rows_per_part);
    let mut identity = setup::identity(job, input.files(), input.rows(), clock.wall())?;
    identity.layout = layout;

    let run = setup::run_name(context.clock.wall())?;
    let secret = found.as_ref().map_or(&identity, |found| &found.job).secret.bytes();
    let staged = Staged::set(job, &context, prompt, &folder, secret, &run)?;
    let spec = WriterSpec {
        job: identity.clone(),
        schema,
        encoding: job.output.encoding,
        codebook: Arc::clone(staged.codebook()),
        id_column: setup::id_column(job).to_owned(),
        provenance: setup::provenance(job, &run),
        started: clock.wall(),
        takeover: context.takeover,
    };
    let mut output = retry::persist(&*clock, || folder.begin(spec.clone())).await?;
    let claim = Arc::clone(output.claim());
    let heartbeat = Heartbeat::start(claim, Arc::clone(&clock), job.give_up_after);
    let heartbeat = heartbeat.map_err(RunError::Thread)?;
    let growth =
        retry::persist(&*clock, || growth::settle(job, &identity, &input, &mut output)).await?;
    if let Some(message) = growth.message {
        context.events.emit(Event::Warning { message });
    }
    let mut work = Work::find(job, output.plan(), output.records(), growth.changes);
    if output.reader().schema().hash_column().is_some() {
        work = work.with_texts_of_the_input();
    }
    if !work.is_empty() {
        setup::refuse_to_leave_a_journal(job, &output)?;
        setup::refuse_a_full_disk(job, &input, &folder, &work)?;
    }
    let billed_before = setup::billed_before(&output)?;
    announce(job, &run, &output, &work, staged.limits(), billed_before, &*context.events);
    let is_short = output.plan().rows() < output.known_input().whole_rows();
    if !work.is_empty() || (is_short && output.is_finished()) {
        retry::persist(&*clock, || output.start_work()).await?;
    }

    let events = Arc::clone(&context.events);
    let (mut tally, mut stopped) = (Tally::default(), None);
    let mut left = Left::untouched(output);
    if let Some(output) = left.output.take_if(|_| !work.is_empty()) {
        let parts = staged
            .after(billed_before + context.beside.billed)
            .assemble(job, &input, output, work, &run, context)?;
        let writer;
        (tally, stopped, writer) = Coordinator::new(job, parts, &heartbeat).run().await?;
        left = writer.finish().await;
    }
    let mut is_success = false;
    if stopped.is_none() {
        let broke_off = || RunError::Internal("the writer broke off".into());
        let output = left.output.as_mut().ok_or_else(broke_off)?;
        match close_parts::finish(job, &input, output, &*clock).await {
            Ok(is_written) => is_success = is_written,
            Err(error) => stopped = Some(error),
        }
    }
    input.keep_sorted(stopped.is_some());
    let records = left.output.as_ref().map_or(&left.records, OpenOutput::records);
    let mut report = RunReport::of_parts(&left.plan, records.values());
    report.is_success = is_success;
    report.files = left.output.as_ref().map(OpenOutput::file_names).unwrap_or_default();
    report.add_run(tally, billed_before, stopped, clock.now().since(started));
    report.dropped_duplicates = input.dropped_duplicates();
    if let Some(event) = setup::spending(job, report.billed_in_all, true) {
        events.emit(event);
    }
    events.emit(report.event());
    Ok(report)
}

/// The job with the size of its parts settled.
fn with_rows_per_part(job: &JobSpec, rows_per_part: NonZeroU32) -> JobSpec {
    let mut job = job.clone();
    job.output.rows_per_part = Some(rows_per_part);
    job
}

/// The columns of the output; checked before the output is touched.
fn part_schema(job: &JobSpec, input: &OrderedInput) -> Result<PartSchema, RunError> {
    let existing_label = job.input.existing_label.as_deref();
    let (input, label_column) = (input.schema(), job.output.label_column.as_str());
    Ok(match &job.input.columns {
        None => PartSchema::new(input, label_column, existing_label)?,
        Some(columns) => {
            let (id, text) = (setup::id_column(job), &job.input.text);
            let selection = Selection { columns, id, text };
            PartSchema::select(input, label_column, existing_label, selection)?
        }
    })
}

fn refuse_another_job(folder: &OutputFolder, found: &Found, job: &Job) -> Result<(), RunError> {
    let differences = found.job.differences(job);
    if differences.is_empty() {
        return Ok(());
    }
    let path = folder.location().to_string();
    Err(OutputError::JobChanged { path, differences }.into())
}

/// Whether there is nothing to ask, to put right or to write.
fn is_finished(job: &JobSpec, identity: &Job, found: &Found) -> bool {
    let stands = RunReport::of_parts(&found.plan, found.records.values());
    let known = &found.known_input;
    let lacks_success = found.success.is_none() && deserves_success(job, known, &stands);
    found.is_complete()
        && known.is_read_by(identity)
        && known.has_its_texts(&found.records)
        && found.plan.rows() >= growth::rows_wanted(job, known)
        && Work::find(job, &found.plan, &found.records, None).is_empty()
        && !lacks_success
}

/// Whether the output is whole: every row of the input is planned, and few enough lack a label.
/// Readers take `_SUCCESS` as "all is there", so a run with a row limit does not write it.
fn deserves_success(job: &JobSpec, input: &KnownInput, report: &RunReport) -> bool {
    report.rows == input.whole_rows() && report.unlabelled_rows() <= job.output.max_unlabelled
}

/// Tells of rows that can't be asked again, although the user wants it.
fn tell_given_up(work: &Work, events: &dyn EventSink) {
    let rows = work.given_up();
    if rows > 0 {
        let message = format!(
            "{rows} rows that an earlier run gave up on are not asked again: nothing that stands in \
             this output can be replaced (layout `append`); to ask them, begin a new output"
        );
        events.emit(Event::Warning { message });
    }
}

/// Tells what stands already and what is going to be asked.
fn announce(
    job: &JobSpec,
    run: &str,
    output: &OpenOutput,
    work: &Work,
    limits: &BatchLimits,
    billed_before: Billed,
    events: &dyn EventSink,
) {
    for message in &output.recovery().warnings {
        events.emit(Event::Warning { message: message.clone() });
    }
    tell_given_up(work, events);
    let report = RunReport::of_parts(output.plan(), output.records().values());
    events.emit(Event::RunStarted {
        run: run.to_owned(),
        rows: report.rows,
        rows_done: report.labelled + report.unlabelled_rows(),
        unlabelled: report.unlabelled_rows(),
        provider: setup::provider_name(job).to_owned(),
        model: job.model.name.clone(),
        host: setup::host(job),
        api_key_env: job.model.api_key_env.clone().filter(|_| !setup::host(job).is_empty()),
        tokens_per_minute: job.limits.tokens_per_minute.map(std::num::NonZeroU32::get),
        rows_per_call: job.batch.rows_per_call.get(),
    });
    if let Some(event) = setup::spending(job, billed_before, false) {
        events.emit(event);
    }
    if let Some(message) = setup::cramped(job, limits) {
        events.emit(Event::Warning { message });
    }
    for (part, rows) in work.reopened() {
        events.emit(Event::PartReopened { part, rows });
    }
}
