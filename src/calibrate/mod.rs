//! The same rows at several numbers of rows a call: what packing does to the labels of this job.
//!
//! Each size has an ordinary output of its own beside the same rows, in the same random order, so
//! that a batch is a random one. Sizes run one after the other, each governor knowing what the others
//! were charged. What is answered is kept: another bound, or another look, asks nothing.
//!
//! 1. `sample`: which rows, in which order.
//! 2. `places`: where each row stood in its call.
//! 3. `measure`: the figures.

mod measure;
mod places;
mod sample;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

pub use measure::{SizeFigures, choose_size};
pub use sample::Sample;

use self::measure::{SizeAnswers, measure};
use self::places::{PlaceKeeper, Places};
use crate::domain::event::RunEnd;
use crate::domain::{Billed, JobSpec, RowId};
use crate::eval::{AnswersError, EvalError, Workspace, read_answers};
use crate::input::InputRow;
use crate::output::{OutputError, OutputFolder, journal};
use crate::pipeline::{self, Beside, Estimate, RunContext, RunReport};

/// The sizes that are tried unless others are named.
pub const SIZES: [u32; 6] = [1, 10, 25, 50, 100, 200];
/// How many rows are asked at each unless told otherwise.
pub const ROWS: u32 = 2_000;

/// What is asked: these rows, of this job, kept there, at these sizes.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The job.
    pub job: &'a JobSpec,
    /// Its rows, in order.
    pub sample: &'a Sample,
    /// Whether their answers are known.
    pub has_gold: bool,
    /// Where everything is kept.
    pub place: &'a Workspace,
    /// Rows a call, rising.
    pub sizes: &'a [NonZeroU32],
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The sizes that were run to their end, rising; all of them unless a run was stopped.
    pub sizes: Vec<SizeFigures>,
    /// The run that was stopped, if one was.
    pub stopped: Option<RunReport>,
}

impl Plan<'_> {
    /// What asking the rows that have no answer yet takes, size by size.
    ///
    /// # Errors
    /// If kept answers can't be read, or not even one row fits into a call.
    pub fn estimate(&self) -> Result<Vec<Estimate>, EvalError> {
        let estimate = |size: &NonZeroU32| {
            let job = self.job_at(*size);
            let answered = answered(&job)?;
            let rows = self.sample.rows.iter().filter(|row| !answered.contains(&row.id));
            let rows = rows.map(|row| InputRow {
                id: row.id.clone(),
                text: row.text.clone(),
                existing_label: None,
            });
            Ok(pipeline::estimate(&job, rows)?)
        };
        self.sizes.iter().map(estimate).collect()
    }

    /// Asks what has no answer yet, size by size, and measures. `contexts` gives each run its
    /// context; it is asked just before that run.
    ///
    /// # Errors
    /// As [`pipeline::run`]; if the workspace can't be written or the answers can't be read back.
    pub async fn carry_out(
        &self,
        mut contexts: impl FnMut(NonZeroU32) -> RunContext,
    ) -> Result<Calibration, EvalError> {
        self.place.lay_out(&self.sample.rows)?;
        let mut sizes = Vec::new();
        let mut stopped = None;
        let mut billed = Billed::NOTHING;
        for size in self.sizes {
            let job = self.job_at(*size);
            let name = format!("{}.places.json", name_of(*size));
            let known = self.place.note(&name)?.map(|bytes| Places::decode(&bytes));
            let known = known.unwrap_or_default();
            let keeper = Arc::new(PlaceKeeper::knowing(known.clone()));
            let context = contexts(*size);
            let beside = Beside {
                answers: Some(keeper.clone()),
                charged_with: self.journals_beside(*size),
                billed,
            };
            let report = pipeline::run(&job, RunContext { beside, ..context }).await?;
            let places = keeper.places();
            if places != known {
                self.place.keep(&name, &places.encode())?;
            }
            if report.end != RunEnd::Complete {
                stopped = Some(report);
                break;
            }
            let mut answers =
                SizeAnswers { rows_per_call: size.get(), places, ..SizeAnswers::default() };
            answers.spent = read_answers(&job, |id, label| {
                answers.given.insert(id, label);
            })?;
            // A size that was finished before tells nothing but its records.
            billed += match report.billed_in_all {
                Billed::NOTHING => answers.spent.billed(),
                told => told,
            };
            sizes.push(answers);
        }
        let sizes = measure(&self.sample.rows, self.has_gold, sizes);
        Ok(Calibration { sizes, stopped })
    }

    /// The job at this size, over the rows of the sample alone.
    fn job_at(&self, size: NonZeroU32) -> JobSpec {
        let mut job = self.place.job(self.job, &self.sample.rows, &name_of(size));
        job.batch.rows_per_call = size;
        job
    }

    /// The journals of the other sizes: one account pays for all.
    fn journals_beside(&self, size: NonZeroU32) -> Vec<PathBuf> {
        let others = self.sizes.iter().filter(|other| **other != size);
        let outputs = others.map(|other| self.place.folder().join(name_of(*other)));
        outputs.map(|output| OutputFolder::new(output).journal_beside()).collect()
    }
}

fn name_of(size: NonZeroU32) -> String {
    format!("rows-{size:03}")
}

/// The rows that stand in a part or whose reply waits in the journal.
fn answered(job: &JobSpec) -> Result<HashSet<RowId>, EvalError> {
    let mut answered = HashSet::new();
    read_answers(job, |id, _| {
        answered.insert(id);
    })?;
    let folder = OutputFolder::at(&job.output.location, &job.output.cloud);
    let folder = folder.map_err(|error| AnswersError::from(OutputError::from(error)))?;
    if let Some(found) = folder.look().map_err(AnswersError::from)? {
        let journal = folder.journal_beside();
        let replayed = journal::replay(&journal, found.fingerprint, &found.plan, |reply| {
            answered.extend(reply.rows.into_iter().map(|row| row.id));
        });
        replayed.map_err(|error| AnswersError::from(OutputError::from(error)))?;
    }
    Ok(answered)
}
