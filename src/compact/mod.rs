//! Rewrites the small or refilled parts of a finished output into full ones, in a new output.
//!
//! The rows, their labels and reasons stay as they are, in id order; nothing is asked. What is
//! written is an output like any other: it is resumed after a crash and answers the same job.

mod merged;

use std::mem::take;
use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use sha2::{Digest, Sha256};

use self::merged::{MergedRows, Run};
use crate::domain::spec::IdSource;
use crate::domain::{
    Clock, Codebook, CodebookError, Location, Outcome, PartEncoding, PartNumber, Plan, RowId,
    UnixMillis,
};
use crate::input::{InputError, ROW_NUMBER_COLUMN};
use crate::output::{
    Found, InputIdentity, Job, Layout, OpenOutput, OutputError, OutputFolder, PartError,
    PartRecord, PartScan, PartSchema, PartSchemaError, Provenance, Revision, SealedPart, Spent,
    WriterSpec, journal,
};

/// How an output is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactSpec {
    /// Rows in each new part.
    pub rows_per_part: NonZeroU32,
    /// How they are encoded.
    pub encoding: PartEncoding,
    /// This run's name.
    pub run: String,
    /// When it began.
    pub started: UnixMillis,
}

/// What was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Rows in the new output.
    pub rows: u64,
    /// Parts before.
    pub parts_before: u64,
    /// Parts now.
    pub parts: u64,
}

/// Why an output can't be rewritten. The one that it is made of is never changed.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// There is no output.
    #[error("there is no output of batchclass at {0}; check the path")]
    NoOutput(String),
    /// Rows are missing from it.
    #[error("{path} is not finished: {rows_left} rows stand in no part yet; finish its run first")]
    NotFinished {
        /// The output.
        path: String,
        /// Planned rows without a part.
        rows_left: u64,
    },
    /// A crash left something that the next run puts right.
    #[error("{0} has to be put right by its own run first; run that again")]
    Unsettled(String),
    /// One lies within the other.
    #[error("{to} and {from} lie within each other; name another folder")]
    Nested {
        /// The output that is read.
        from: String,
        /// The one to be written.
        to: String,
    },
    /// It was begun from something else.
    #[error(
        "{to} was made from another state of {from}, or with another --rows-per-part; remove it, or \
         name a new folder"
    )]
    OtherState {
        /// The output that is read.
        from: String,
        /// The one to be written.
        to: String,
    },
    /// Rows without a label would be given up on for good.
    #[error(
        "{rows} rows have no label, and at {to} nothing can be replaced to fill them in later; \
         label them first, accept them with --max-unlabelled, or name a DEST on a disk"
    )]
    Unlabelled {
        /// The output to be written.
        to: String,
        /// How many.
        rows: u64,
    },
    /// A part can't be read.
    #[error("the part {} can't be read; `batchclass verify` says more", .part.file_name())]
    Part {
        /// Which part.
        part: PartNumber,
        /// The cause.
        source: PartError,
    },
    /// The job's labels don't form a codebook any more.
    #[error("job.json can't be used")]
    Job(#[from] CodebookError),
    /// The columns of the parts can't stand in a part.
    #[error(transparent)]
    Schema(#[from] PartSchemaError),
    /// The ids can't be read.
    #[error(transparent)]
    Ids(#[from] InputError),
    /// One of the two outputs can't be used, or storage failed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl CompactError {
    /// Whether the user has to change the command or finish a run, rather than wait for storage.
    pub fn is_usage(&self) -> bool {
        match self {
            CompactError::Output(error) => error.is_usage(),
            CompactError::Part { .. } => false,
            _ => true,
        }
    }
}

/// Writes the rows of `from` to `to` in parts of `spec.rows_per_part` rows. Called again after a
/// crash it goes on; over a finished `to` it writes nothing.
///
/// # Errors
/// If `from` is not finished, `to` holds anything else, or storage fails; `from` is untouched.
pub fn compact(
    from: &OutputFolder,
    to: &OutputFolder,
    spec: &CompactSpec,
    clock: &dyn Clock,
) -> Result<Compacted, CompactError> {
    let path = from.location().to_string();
    let [inner, outer] = [to.location(), from.location()].map(absolute);
    if inner.is_within(&outer) || outer.is_within(&inner) {
        return Err(CompactError::Nested { from: path, to: to.location().to_string() });
    }
    let found = from.look()?.ok_or_else(|| CompactError::NoOutput(path.clone()))?;
    check_finished(&found, path.clone())?;
    let begun = to.look()?;
    let layout = to.layout(None, begun.as_ref());
    let to = to.clone().laid_out(layout);
    let job = job(&found, spec, layout);
    if begun.is_some_and(|begun| begun.job.rewritten_from != job.rewritten_from) {
        return Err(CompactError::OtherState { from: path, to: to.location().to_string() });
    }
    if layout == Layout::Append && found.success.is_none() && found.unlabelled_rows() > 0 {
        let (to, rows) = (to.location().to_string(), found.unlabelled_rows());
        return Err(CompactError::Unlabelled { to, rows });
    }
    let codebook = codebook(&found.job)?;
    let columns = columns(from, &found)?;
    let id_column = id_column(&found.job);
    let reader = from.reader(&found, columns.clone(), Arc::clone(&codebook));
    let mut output = to.begin(WriterSpec {
        job,
        schema: columns,
        encoding: spec.encoding,
        codebook,
        id_column: id_column.to_owned(),
        provenance: provenance(&found, spec),
        started: spec.started,
        takeover: false,
    })?;
    let mut rewriting = Rewriting::new(&mut output, found.spent, clock);
    let mut rows = MergedRows::new(&found, &reader, id_column);
    while let Some(run) = rows.next()? {
        rewriting.take(run)?;
    }
    if output.records().len() != output.plan().part_numbers().count() {
        return Err(CompactError::Unsettled(path));
    }
    // Once a run has followed another input there, what the output is held against is its own.
    if output.known_input().is_later() || output.plan().rows() != found.plan.rows() {
        return Ok(compacted(&found, &output));
    }
    let known = &found.known_input.revision;
    if known.vanished > 0 {
        let revision = Revision { released: Vec::new(), changed: Vec::new(), ..known.clone() };
        output.revise_plan(revision, found.plan.rows(), spec.rows_per_part)?;
    }
    if found.success.is_some() && !output.is_finished() {
        output.claim().hold(clock.wall()).map_err(OutputError::from)?;
        output.finish(clock.wall())?;
    }
    Ok(compacted(&found, &output))
}

fn compacted(found: &Found, output: &OpenOutput) -> Compacted {
    Compacted {
        rows: output.plan().rows(),
        parts_before: found.records.len() as u64,
        parts: output.records().len() as u64,
    }
}

fn check_finished(found: &Found, path: String) -> Result<(), CompactError> {
    let absent: u64 = found.records.values().map(PartRecord::absent_rows).sum();
    let rows_left = found.plan.rows() - found.rows_done() + absent;
    if rows_left > 0 {
        return Err(CompactError::NotFinished { path, rows_left });
    }
    let known = &found.known_input;
    // Of parts that interleave, a row limit may have left out rows between those that stand, and
    // rows in one order would be taken for the input's first.
    let is_short = known.is_later() && found.plan.rows() < known.whole_rows();
    if !found.problems.is_empty() || !known.has_its_texts(&found.records) || is_short {
        return Err(CompactError::Unsettled(path));
    }
    Ok(())
}

/// A location as it is however it was typed.
fn absolute(location: &Location) -> Location {
    match location {
        Location::Path(path) => journal::absolute(path).into(),
        Location::Object(_) => location.clone(),
    }
}

fn codebook(job: &Job) -> Result<Arc<Codebook>, CompactError> {
    let prompt = &job.prompt;
    Ok(Arc::new(Codebook::new(prompt.labels.clone(), prompt.unsure_code.clone())?))
}

/// The columns of the parts, all but ours taken for the input's: a label column that took the
/// input's place stands where it stands.
fn columns(from: &OutputFolder, found: &Found) -> Result<PartSchema, CompactError> {
    let label_column = &found.job.label_column;
    let first = found.records.keys().next().zip(found.file_names().into_iter().next());
    let input = match first {
        Some((part, name)) => {
            let failed = |source| CompactError::Part { part: *part, source };
            let bytes = from.store().read(&name).map_err(|error| failed(error.into()))?;
            let schema = PartScan::columns_of(&name, bytes).map_err(failed)?;
            let ours = schema.fields().len().saturating_sub(2);
            Schema::new(schema.fields()[..ours].to_vec())
        }
        None => Schema::empty(),
    };
    Ok(PartSchema::new(&input, label_column, None)?)
}

fn id_column(job: &Job) -> &str {
    match &job.input.id {
        IdSource::Column(name) => name,
        IdSource::RowNumber => ROW_NUMBER_COLUMN,
    }
}

/// The same job, its rows planned in larger parts.
///
/// It names the newest input, of which each row is at its position now. Where the parts hold rows
/// that this input has no more that is not so: then it names none, until all parts stand and a
/// revision can say so, and a run that comes before compares first.
fn job(found: &Found, spec: &CompactSpec, layout: Layout) -> Job {
    let known = &found.known_input.revision;
    let (files, rows) = match known.vanished {
        0 => (known.files.clone(), known.rows),
        _ => (Vec::new(), found.plan.rows()),
    };
    let input = InputIdentity { files, rows, ..found.job.input.clone() };
    Job {
        created: spec.started,
        batchclass: env!("CARGO_PKG_VERSION").to_owned(),
        layout,
        input,
        rewritten_from: Some(state(found, spec)),
        stretch: Plan::default().extend_to(found.plan.rows(), spec.rows_per_part),
        ..found.job.clone()
    }
}

/// What is rewritten, and how, as a hash: going on with it needs the same.
fn state(found: &Found, spec: &CompactSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(found.fingerprint.to_string());
    hash.update(spec.rows_per_part.to_string());
    for record in found.records.values() {
        hash.update(format!("{} {} {}\n", record.part, record.generation, record.sha256));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who answered, as the newest part says.
fn provenance(found: &Found, spec: &CompactSpec) -> Provenance {
    let newest = found.records.values().max_by_key(|record| record.written);
    let said = newest.map(|record| (record.provider.clone(), record.model.clone()));
    let (provider, model) = said.unwrap_or_default();
    Provenance { provider, model, run: spec.run.clone() }
}

/// The new output, and the rows that wait for the rest of their part.
struct Rewriting<'a> {
    output: &'a mut OpenOutput,
    columns: Vec<RecordBatch>,
    ids: Option<(RowId, RowId)>,
    outcomes: Vec<Outcome>,
    /// The part that the next row belongs to.
    next: PartNumber,
    /// What the old output cost, until the first new part has taken it over.
    spent: Spent,
    clock: &'a dyn Clock,
}

impl<'a> Rewriting<'a> {
    fn new(output: &'a mut OpenOutput, spent: Spent, clock: &'a dyn Clock) -> Rewriting<'a> {
        let is_begun = !output.records().is_empty();
        Rewriting {
            output,
            columns: Vec::new(),
            ids: None,
            outcomes: Vec::new(),
            next: PartNumber(1),
            spent: if is_begun { Spent::default() } else { spent },
            clock,
        }
    }

    /// Takes rows in id order; writes each part that they fill.
    fn take(&mut self, mut run: Run) -> Result<(), CompactError> {
        while !run.ids.is_empty() {
            let planned = self.output.plan().range_of(self.next).map_or(u64::MAX, |it| it.rows);
            let wanted = planned - self.outcomes.len() as u64;
            let rows = usize::try_from(wanted).unwrap_or(usize::MAX).min(run.ids.len());
            self.add(run.split_to(rows));
            if rows as u64 == wanted {
                self.seal()?;
            }
        }
        Ok(())
    }

    fn add(&mut self, run: Run) {
        if let (Some(first), Some(last)) = (run.ids.first(), run.ids.last()) {
            let first = self.ids.take().map_or_else(|| first.clone(), |(first, _)| first);
            self.ids = Some((first, last.clone()));
        }
        self.columns.push(run.columns);
        self.outcomes.extend(run.outcomes);
    }

    fn seal(&mut self) -> Result<(), CompactError> {
        let number = self.next;
        self.next = PartNumber(number.0 + 1);
        let (columns, outcomes) = (take(&mut self.columns), take(&mut self.outcomes));
        let ids = self.ids.take();
        let (Some(range), Some((first_id, last_id))) = (self.output.plan().range_of(number), ids)
        else {
            return Ok(());
        };
        let part = SealedPart { number, range, first_id, last_id, columns, outcomes };
        // A claim that has lapsed meanwhile is proved anew.
        self.output.claim().hold(self.clock.wall()).map_err(OutputError::from)?;
        if !self.output.records().contains_key(&number) {
            self.output.commit(&part, take(&mut self.spent), self.clock.wall())?;
        }
        // Where nothing is replaced, rows without a label stand in no file yet.
        self.output.give_up(number, &part.columns, self.clock.wall())?;
        Ok(())
    }
}
