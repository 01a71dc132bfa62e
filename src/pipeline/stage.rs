//! What a run works with: set out before the output is touched, assembled once it is claimed.

use std::sync::{Arc, Mutex};

use super::call::Line;
use super::coordinator::Parts;
use super::error::RunError;
use super::open_part::OpenParts;
use super::packer::Packer;
use super::priors::{self, Priors, Standing};
use super::probes::Probes;
use super::reader::Reader;
use super::report::RunReport;
use super::standing_rows::StandingRows;
use super::work::Work;
use super::writer::Writer;
use super::{RunContext, setup};
use crate::domain::spec::{BudgetSpec, ProviderKind};
use crate::domain::{Billed, Codebook, Event, JobSpec};
use crate::input::OrderedInput;
use crate::llm::asker::Asker;
use crate::llm::batcher::BatchLimits;
use crate::llm::budget::Budget;
use crate::llm::dedupe::Dedupe;
use crate::llm::governor::Governor;
use crate::llm::keys::KeyStream;
use crate::llm::prompt::Prompt;
use crate::output::journal::{self, Journal, JournalSpec};
use crate::output::{OpenOutput, OutputError, OutputFolder};

/// What a run asks with, checked before the output is touched.
pub(super) struct Staged {
    prompt: Arc<Prompt>,
    asker: Arc<Asker>,
    governor: Governor,
    packer: Packer,
    probes: Probes,
    /// What earlier runs were billed for.
    billed_before: Billed,
}

impl Staged {
    /// Sets out what calls are made with.
    ///
    /// # Errors
    /// If not even one row fits into a call, or the record of charges can't be read.
    pub(super) fn set(
        job: &JobSpec,
        context: &RunContext,
        prompt: Arc<Prompt>,
        folder: &OutputFolder,
        secret: [u8; 32],
        run: &str,
    ) -> Result<Staged, RunError> {
        let keys = KeyStream::new(secret, run);
        let provider = Arc::clone(&context.provider);
        let asker = Asker::new(Arc::clone(&prompt), keys, provider, &job.model);
        let asker = Arc::new(asker.counted_by(job.limits.rules).cached_by(&job.budget));
        let own = folder.journal_folder();
        let journals = std::iter::once(&own).chain(&context.beside.charged_with);
        let governor = setup::governor(job, journals, &*context.clock)?;
        let limits = setup::batch_limits(job, &asker, governor.largest_call())?;
        // The embedded scorer answers each row by its own words: nothing steers it, and its answers
        // never differ.
        let is_model = job.model.provider != ProviderKind::Lexical;
        let guard = (job.batch.isolate && is_model).then(|| Arc::clone(prompt.codebook()));
        let packer = Packer::new(limits, guard);
        let mut quality = job.quality;
        if !is_model {
            quality.probe = 0.0;
        }
        let seed = getrandom::u64().unwrap_or_default();
        let probes = Probes::new(quality, limits.rows_per_call.get(), seed);
        let billed_before = Billed::NOTHING;
        Ok(Staged { prompt, asker, governor, packer, probes, billed_before })
    }

    /// The same after earlier runs that were billed for `billed_before`.
    pub(super) fn after(self, billed_before: Billed) -> Staged {
        Staged { billed_before, ..self }
    }

    /// The job's labels.
    pub(super) fn codebook(&self) -> &Arc<Codebook> {
        self.prompt.codebook()
    }

    /// How large a call may be.
    pub(super) fn limits(&self) -> &BatchLimits {
        self.packer.limits()
    }

    /// Starts the threads and lays everything out for the coordinator.
    ///
    /// # Errors
    /// If the input or the journal can't be read, or the system has no thread left.
    pub(super) fn assemble(
        self,
        job: &JobSpec,
        input: &Arc<OrderedInput>,
        output: OpenOutput,
        work: Work,
        run: &str,
        context: RunContext,
    ) -> Result<Parts, RunError> {
        let Staged { prompt, asker, governor, packer, probes, billed_before } = self;
        let (plan, codebook) = (output.plan().clone(), Arc::clone(prompt.codebook()));
        let (priors, journal) = open_journal(job, &output, &work, run, &codebook, &context)?;
        let mut dedupe = Dedupe::new(job.batch.dedupe_texts);
        for (text_hash, label) in priors.labels() {
            dedupe.seed(text_hash, label);
        }
        let reader = Reader {
            input: Arc::clone(input),
            standing: StandingRows::new(job, output.reader().schema())?,
            prompt,
            longest: job.batch.tokens_per_call,
            work,
            parts: output.reader().clone(),
        };
        let clock = Arc::clone(&context.clock);
        Ok(Parts {
            labelled_before: labelled_by_model(job, &output) + priors.labels().count() as u64,
            line: Line {
                asker,
                journal,
                codebook,
                clock: Arc::clone(&clock),
                answers: context.beside.answers,
            },
            events: context.events,
            governor,
            budget: Budget::new(bounds_of(job), billed_before),
            packer,
            probes,
            dedupe,
            open: OpenParts::new(plan),
            priors,
            chunks: reader.start().map_err(RunError::Thread)?,
            writer: Writer::start(output, clock).map_err(RunError::Thread)?,
            stop: context.stop,
        })
    }
}

/// Rows of finished parts that the model has labelled; none are counted where the input brings
/// labels of its own, since parts don't tell the two apart.
fn labelled_by_model(job: &JobSpec, output: &OpenOutput) -> u64 {
    match &job.input.existing_label {
        Some(_) => 0,
        None => RunReport::of_parts(output.plan(), output.records().values()).labelled,
    }
}

/// Replays what earlier runs paid for and opens the journal for this one.
fn open_journal(
    job: &JobSpec,
    output: &OpenOutput,
    work: &Work,
    run: &str,
    codebook: &Codebook,
    context: &RunContext,
) -> Result<(Priors, Arc<Mutex<Journal>>), RunError> {
    let folder = output.folder().journal_folder();
    let (fingerprint, plan, records) = (output.fingerprint(), output.plan(), output.records());
    let mut priors = Priors::default();
    let replay = journal::replay(&folder, fingerprint, plan, |reply| {
        let at = reply.at;
        if let Some(sink) = &context.beside.answers {
            sink.replied(priors::answers_of(&reply, codebook));
        }
        priors.replay(reply, codebook, |position| {
            let part = plan.part_of(position);
            let record = part.and_then(|part| records.get(&part));
            if record.is_some_and(|record| record.written >= at) {
                Standing::Settled
            } else if part.is_some_and(|part| plan.is_released(part)) {
                Standing::Displaced
            } else {
                Standing::Open
            }
        });
    });
    let replay = replay.map_err(OutputError::from)?;
    priors.note_labelled(labelled_by_model(job, output));
    let spec = JournalSpec {
        folder,
        job: fingerprint,
        run: run.to_owned(),
        started: context.clock.wall(),
        least_billed: output.spent().billed(),
        plan: plan.clone(),
        sync_within: journal::SYNC_WITHIN,
        segment_bytes: journal::SEGMENT_BYTES,
    };
    let leaves_rows = plan.rows() < output.known_input().whole_rows();
    let opened = Journal::open(spec, &replay, |part| work.needs_answers_of(part, leaves_rows));
    let opened = opened.map_err(OutputError::from)?;
    if priors.answered_rows() > 0 {
        let rows = priors.answered_rows();
        context.events.emit(Event::JournalReplayed { rows });
    }
    Ok((priors, Arc::new(Mutex::new(opened))))
}

/// The job's bounds on money and tokens; none where nothing is billed.
fn bounds_of(job: &JobSpec) -> BudgetSpec {
    let mut budget = job.budget.clone();
    if job.model.provider == ProviderKind::Lexical {
        (budget.max_cost, budget.max_tokens) = (None, None);
    }
    budget
}
