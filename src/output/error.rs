//! Why an output can't be read or written on.

use super::claim::ClaimError;
use super::difference::Difference;
use super::job::FORMAT_VERSION;
use super::part_identity::PartError;
use super::store::StoreError;

/// Why an output can't be read or written on. Paths begin with the output's own.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output is a file.
    #[error("the output {path} is a file; name a folder, which is made if it does not exist")]
    IsAFile {
        /// The output.
        path: String,
    },
    /// The folder holds something, but no job.
    #[error(
        "the output {path} is not empty and no output of batchclass: it holds {example}; name an \
         empty folder or a new one"
    )]
    NotOurs {
        /// The output.
        path: String,
        /// One of the things in it.
        example: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "{path} has format version {version}, this program reads up to {FORMAT_VERSION}; use a \
         newer batchclass"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// A file that the output can't be understood without.
    #[error("{path} is damaged ({reason}); restore it from a backup, or begin in a new folder")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The run's job is not the one that the output answers.
    #[error(
        "the output {path} answers another job; undo the change or name a new folder ({})",
        list(.differences)
    )]
    JobChanged {
        /// The output.
        path: String,
        /// In what.
        differences: Vec<Difference>,
    },
    /// Another run is at work, or the claim failed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A part can't be used.
    #[error("a part of the output {path} can't be used")]
    Part {
        /// The output.
        path: String,
        /// The cause.
        source: PartError,
    },
    /// Files were cut by a crash and can't be removed through this storage.
    #[error(
        "{} {} cut by a crash and can't be removed through this storage; remove {} with the \
         storage's own tool, such as `aws s3 rm`, then run again",
        .files.join(", "),
        if .files.len() == 1 { "was" } else { "were" },
        if .files.len() == 1 { "it" } else { "them" }
    )]
    Stuck {
        /// The files.
        files: Vec<String>,
    },
    /// Rows that were not given up on yet: a mistake of the caller.
    #[error("{rows} rows of the output {path} stand in no part yet, so it is not finished")]
    Unfinished {
        /// The output.
        path: String,
        /// How many.
        rows: u64,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OutputError {
    /// Whether the user has to change the command, the config or the folder.
    pub fn is_usage(&self) -> bool {
        match self {
            OutputError::IsAFile { .. }
            | OutputError::NotOurs { .. }
            | OutputError::Newer { .. }
            | OutputError::Damaged { .. }
            | OutputError::JobChanged { .. } => true,
            OutputError::Part { source, .. } => {
                use PartError::{Foreign, Newer, Overlap};
                matches!(source, Foreign { .. } | Newer { .. } | Overlap { .. })
            }
            OutputError::Claim(_)
            | OutputError::Stuck { .. }
            | OutputError::Unfinished { .. }
            | OutputError::Store(_) => false,
        }
    }

    /// Whether the same call may succeed in a moment, with nobody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            OutputError::Store(error)
            | OutputError::Claim(ClaimError::Store(error))
            | OutputError::Part { source: PartError::Store(error), .. } => error.is_retryable(),
            _ => false,
        }
    }
}

fn list(differences: &[Difference]) -> String {
    let each: Vec<String> = differences.iter().map(Difference::to_string).collect();
    each.join("; ")
}
