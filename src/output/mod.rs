//! Journal, parts and manifest: the only code that makes a file visible.

mod checked_line;
mod claim;
mod commit;
#[cfg(test)]
mod crash_consistency;
mod difference;
mod edition;
mod error;
#[cfg(test)]
mod formats_v1;
mod found;
#[cfg(test)]
mod histories;
mod job;
pub mod journal;
mod manifest;
mod names;
mod output_folder;
mod part_file;
mod part_identity;
mod part_reader;
mod part_rows;
mod part_scan;
mod part_schema;
mod part_writer;
mod probe;
mod recovery;
mod revision;
mod row_groups;
mod standing;
pub mod store;
mod success;

pub use claim::{Claim, ClaimError, Claimant, Holder, RENEW_EVERY, RETRY_RENEWAL_AFTER, Standing};
pub use difference::Difference;
pub use error::OutputError;
pub use found::{Evidence, Found, Problem};
pub use job::{
    FORMAT_VERSION, FileIdentity, Fingerprint, InputIdentity, Job, Layout, ModelIdentity,
    PromptIdentity, Secret,
};
pub use manifest::{Manifest, PartRecord, Spent};
pub use names::{CONTROL, Generation, SUCCESS};
pub use output_folder::{OpenOutput, OutputFolder, WriterSpec};
pub use part_identity::{PartError, PartIdentity, UnlabelledRows};
pub use part_reader::{PartContents, PartReader};
pub use part_rows::{Holes, RowRuns};
pub use part_scan::PartScan;
pub use part_schema::{PartSchema, PartSchemaError, Selection};
pub use part_writer::{EncodedPart, PartWriter, Provenance, SealedPart};
pub use probe::{Kept, Promise, probe};
pub use recovery::Recovery;
pub use revision::{KnownInput, Revision};
pub use row_groups::bytes_of;
pub use success::Success;
