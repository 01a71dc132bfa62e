//! Why a run could not start, or ended early.

use std::time::Duration;

use crate::domain::event::RunEnd;
use crate::domain::{PartNumber, Tokens};
use crate::input::InputError;
use crate::llm::budget::{BoundName, Exhausted};
use crate::llm::provider::ProviderError;
use crate::output::{OutputError, PartError, PartSchemaError};

/// Why a run could not start or go on. What was paid for stands in the journal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The input can't be read as it is.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The output can't be used or written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The input has a column where the label is to stand.
    #[error(transparent)]
    PartSchema(#[from] PartSchemaError),
    /// Not even one short row fits into a call.
    #[error(
        "the prompt alone takes {prompt} tokens and leaves no room for a row within {limit} \
         ({setting}); raise that, or shorten the instructions and the labels"
    )]
    PromptTooLong {
        /// Tokens of the prompt, a schema and the reply to one row included.
        prompt: Tokens,
        /// The bound.
        limit: Tokens,
        /// The setting that gives the bound.
        setting: &'static str,
    },
    /// A bound on money, and nobody knows what a token costs.
    #[error(
        "limits.max_cost needs prices, and the table ({table}) has none for `{model}` at {host}: give \
         `input` and `output` in [price], or --price-in and --price-out, dollars for a million tokens"
    )]
    NoPrice {
        /// The model.
        model: String,
        /// Where it is asked.
        host: String,
        /// The table and its date.
        table: &'static str,
    },
    /// Every row has a label or no text.
    #[error("no row of the input has to be asked: each has a label already, or no text")]
    NothingToAsk,
    /// The provider answered a preview with something else than a reply.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A part whose rows are asked again can't be read.
    #[error("the part {} can't be opened again", .0.file_name())]
    Reopen(PartNumber, #[source] PartError),
    /// The output folder lies inside the input.
    #[error("the output folder {0} lies inside the input; name another one")]
    OutputInsideInput(String),
    /// The journal has no place.
    #[error(
        "there is no place for the journal of paid answers: this storage takes none, and there is \
         no home folder; name a folder on a local disk: --journal-folder"
    )]
    NoJournalFolder,
    /// Answers wait in the journal's usual place, and the job names another.
    #[error(
        "{answers} answers of this output wait in the journal {}; leave out --journal-folder, or \
         move it to {}", .usual.display(), .named.display()
    )]
    JournalElsewhere {
        /// How many replies.
        answers: u64,
        /// The usual place.
        usual: std::path::PathBuf,
        /// The place that the job names.
        named: std::path::PathBuf,
    },
    /// The disk has not even room for a first part.
    #[error(
        "the disk of {folder} has {free:.1} MiB free, and about {needed:.1} MiB are needed to begin; \
         free space and run the same command again"
    )]
    DiskFull {
        /// A folder on it.
        folder: String,
        /// What is free, MiB.
        free: f64,
        /// What is needed, MiB.
        needed: f64,
    },
    /// The system has no thread left.
    #[error("can't start a thread")]
    Thread(#[source] std::io::Error),
    /// The input changed, and nothing in the output can be replaced.
    #[error(
        "{changes}; what stands in the output {path} can't be replaced, so it does not follow: \
         restore the input, or classify it into a new folder"
    )]
    CanNotGrow {
        /// The output.
        path: String,
        /// What changed, with counts.
        changes: String,
    },
    /// The input changed, and the parts don't hold what its texts are made of.
    #[error(
        "the input changed, and the rows in {path} can't be compared with it, since their texts \
         are made of the column `{column}`, which holds labels there; restore the input, or name a \
         new folder"
    )]
    CanNotCompare {
        /// The output.
        path: String,
        /// The column.
        column: String,
    },
    /// A defect of this program.
    #[error("{0}; this is a defect of batchclass, please report it")]
    Internal(String),
}

/// Whose move it is after a [`RunError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The user's: a setting, a file or a column.
    Usage,
    /// The storage's; the run is resumable.
    Storage,
    /// The provider's.
    Provider,
    /// The account's: no quota or money is left.
    Quota,
    /// Ours.
    Internal,
}

impl RunError {
    /// Whose move it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            RunError::Input(error) if error.is_usage() => FailureKind::Usage,
            RunError::Output(error) if error.is_usage() => FailureKind::Usage,
            RunError::Input(_)
            | RunError::Output(_)
            | RunError::Reopen(..)
            | RunError::DiskFull { .. } => FailureKind::Storage,
            RunError::NoJournalFolder
            | RunError::JournalElsewhere { .. }
            | RunError::PartSchema(_)
            | RunError::PromptTooLong { .. }
            | RunError::NothingToAsk
            | RunError::NoPrice { .. }
            | RunError::OutputInsideInput(_)
            | RunError::CanNotGrow { .. }
            | RunError::CanNotCompare { .. } => FailureKind::Usage,
            RunError::Provider(ProviderError::OutOfQuota { .. }) => FailureKind::Quota,
            RunError::Provider(_) => FailureKind::Provider,
            RunError::Thread(_) | RunError::Internal(_) => FailureKind::Internal,
        }
    }

    pub(super) fn from_task(error: tokio::task::JoinError) -> RunError {
        RunError::Internal(format!("a call's task broke off ({error})"))
    }
}

/// What stopped a run before its rows were done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// A signal.
    Interrupted,
    /// The provider, for good.
    Provider(String),
    /// Quota or money.
    Quota(String),
    /// The job's own bound on what it may cost; whether this run made a call.
    Budget { exhausted: Exhausted, has_asked: bool },
    /// Storage, for good.
    Storage(OutputError),
    /// Storage, with nothing but failures for so long; the last of them.
    StorageFailing { error: OutputError, failing_for: Duration },
    /// Storage, with no answer at all for so long.
    StorageSilent { silent_for: Duration },
    /// What was being read broke.
    Reading(RunError),
}

impl Stopped {
    pub(super) fn end(&self) -> RunEnd {
        match self {
            Stopped::Interrupted => RunEnd::Interrupted,
            Stopped::Provider(_) => RunEnd::Provider,
            Stopped::Quota(_) | Stopped::Budget { .. } => RunEnd::Quota,
            Stopped::Reading(error) if error.kind() == FailureKind::Usage => RunEnd::Input,
            Stopped::Storage(_)
            | Stopped::StorageFailing { .. }
            | Stopped::StorageSilent { .. }
            | Stopped::Reading(_) => RunEnd::Storage,
        }
    }

    pub(super) fn message(&self) -> Option<String> {
        match self {
            Stopped::Interrupted => None,
            Stopped::Provider(words) | Stopped::Quota(words) => Some(words.clone()),
            Stopped::Budget { exhausted, has_asked: true } => Some(exhausted.to_string()),
            Stopped::Budget { exhausted, has_asked: false } => {
                Some(format!("{exhausted} (this run made no call)"))
            }
            Stopped::Storage(error) => Some(with_sources(error)),
            Stopped::StorageFailing { error, failing_for } => {
                let seconds = failing_for.as_secs();
                Some(format!("{} (nothing but failures for {seconds} s)", with_sources(error)))
            }
            Stopped::StorageSilent { silent_for } => {
                Some(format!("a part has been on its way for {} s", silent_for.as_secs()))
            }
            Stopped::Reading(error) => Some(with_sources(error)),
        }
    }

    /// What a person has to do before the same command can go on, where that is known.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        match self {
            Stopped::Interrupted | Stopped::Provider(_) | Stopped::Quota(_) => None,
            Stopped::Budget { exhausted, .. } => Some(match exhausted.bound {
                BoundName::Cost => "raise limits.max_cost",
                BoundName::Tokens => "raise limits.max_tokens",
            }),
            Stopped::Storage(error) | Stopped::StorageFailing { error, .. } => remedy(error),
            Stopped::StorageSilent { .. } => Some("see to the storage"),
            Stopped::Reading(error) if error.kind() == FailureKind::Usage => Some("mend the input"),
            Stopped::Reading(error) => remedy(error),
        }
    }
}

/// What mends the failure of a system call that lies beneath `error`, if one does.
fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    let causes = std::iter::successors(Some(error), |error| error.source());
    let failed = causes.into_iter().find_map(|cause| cause.downcast_ref::<std::io::Error>())?;
    match failed.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Some("free space"),
        Kind::PermissionDenied => Some("give permission"),
        Kind::ReadOnlyFilesystem => Some("make it writable"),
        Kind::NotConnected | Kind::StaleNetworkFileHandle => Some("mount it again"),
        _ => None,
    }
}

/// An error and its causes, joined by colons.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
