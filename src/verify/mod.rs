//! Proves what an output promises, from its files alone: each planned row stands in exactly one
//! part, and every file says the same of it.
//!
//! Reads only and takes no claim. One part is in memory at a time, decoded in batches of 8,192
//! rows, of which only the id, the label and the reason are looked at.

mod comparison;
mod examination;
mod interleaved;
mod place;
mod rows;
mod totals;
mod verdict;

use std::path::PathBuf;

use self::comparison::Comparison;
use self::examination::Examination;
use self::verdict::Finding;
pub use self::verdict::{Check, State, Verdict};
use crate::domain::Location;
use crate::domain::spec::{CloudSpec, InputSpec};
use crate::input::{InputError, OrderedInput};
use crate::output::{Job, OutputError, OutputFolder};

/// An input to compare the output with; everything else about it is in the output's `job.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedInput {
    /// A file, a folder or a glob.
    pub location: Location,
    /// Most memory for bringing an unsorted input into id order, bytes.
    pub sort_memory: u64,
    /// Where an unsorted input that is larger than that is sorted.
    pub temp_dir: PathBuf,
}

/// Why nothing can be said of an output.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no output.
    #[error("there is no output of batchclass at {0}; check the path")]
    NoOutput(String),
    /// The output is of a later version, or storage fails.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A part that was whole is not so any more.
    #[error("{0} changed while it was verified; verify again")]
    Changed(String),
    /// The input can't be used.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl VerifyError {
    /// Whether the user has to change the command or a file, rather than wait for storage.
    pub fn is_usage(&self) -> bool {
        match self {
            VerifyError::NoOutput(_) | VerifyError::Input(_) => true,
            VerifyError::Output(error) => error.is_usage(),
            VerifyError::Changed(_) => false,
        }
    }
}

/// Holds the files of `output` against each other and, if given, its ids against those of `input`.
/// Object storage is reached as `cloud` says.
///
/// A damaged file is a check that fails, not an error. Nothing is written.
///
/// # Errors
/// If there is no output of this program or it is of a later version, if storage fails, or if the
/// input can't be used.
pub fn verify(
    output: &Location,
    input: Option<&ComparedInput>,
    cloud: &CloudSpec,
) -> Result<Verdict, VerifyError> {
    let folder = OutputFolder::at(output, cloud).map_err(OutputError::from)?;
    let evidence = match folder.evidence() {
        Ok(Some(evidence)) => evidence,
        Ok(None) | Err(OutputError::NotOurs { .. } | OutputError::IsAFile { .. }) => {
            return Err(VerifyError::NoOutput(output.to_string()));
        }
        Err(error @ OutputError::Damaged { .. }) => {
            let mut finding = Finding::new("job");
            finding.fail(error.to_string());
            let detail = "without it nothing else can be checked";
            return Ok(Verdict::of(vec![finding.check(detail)]));
        }
        Err(error) => return Err(error.into()),
    };
    let comparison = match input {
        Some(input) => {
            let input = OrderedInput::open(&spec(&evidence.job, input, cloud))?;
            Some(Comparison::with(&input, &evidence.known_input)?)
        }
        None => None,
    };
    Examination::new(&evidence, folder.store().as_ref(), comparison).run()
}

/// How the job read its input.
fn spec(job: &Job, input: &ComparedInput, cloud: &CloudSpec) -> InputSpec {
    InputSpec {
        location: input.location.clone(),
        cloud: cloud.clone(),
        reading: job.input.reading.clone(),
        id: job.input.id.clone(),
        text: job.input.text.clone(),
        existing_label: job.input.existing_label.clone(),
        gold: None,
        // Of the rows only the ids are compared.
        columns: Some(Vec::new()),
        on_duplicate_id: job.input.on_duplicate_id,
        sort_memory: input.sort_memory,
        temp_dir: input.temp_dir.clone(),
    }
}
