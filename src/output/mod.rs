//! Journal, parts and manifest: the only code that makes a file visible.

mod checked_line;
mod difference;
mod job;
mod names;
mod part_identity;
mod part_reader;
mod part_schema;
mod part_writer;
pub mod store;

pub use difference::Difference;
pub use job::{
    FORMAT_VERSION, FileIdentity, Fingerprint, InputIdentity, Job, Layout, ModelIdentity,
    PromptIdentity, Secret,
};
pub use names::{CONTROL, Generation, SUCCESS};
pub use part_identity::{PartError, PartIdentity, UnlabelledRows};
pub use part_reader::{PartContents, PartReader};
pub use part_schema::{PartSchema, PartSchemaError};
pub use part_writer::{EncodedPart, PartWriter, Provenance, SealedPart};
