//! The first act of every run: what a crash left behind is put right.
//!
//! Valid parts are kept and recorded, whatever the manifest says; unfinished files go; rows whose
//! part is gone or torn are done again. Each step leaves a sound state, so a recovery that
//! is cut short is done by the next one.

use sha2::{Digest, Sha256};

use super::checked_line;
use super::found::{Found, Problem};
use super::job::Layout;
use super::manifest::{PartRecord, Spent, store_record};
use super::names::{self, Generation};
use super::part_identity::PartIdentity;
use super::store::{Store, StoreError};
use crate::domain::{PartNumber, UnixMillis, hex};

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Parts that were taken over without a record, or with an older one.
    pub adopted: Vec<PartNumber>,
    /// What a person should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Puts `found` right, in `store` and in itself.
pub(super) fn recover(
    store: &dyn Store,
    found: &mut Found,
    now: UnixMillis,
) -> Result<Recovery, StoreError> {
    let mut recovery = Recovery::default();
    for name in std::mem::take(&mut found.leftovers) {
        store.delete(&name)?;
    }
    for problem in std::mem::take(&mut found.problems) {
        match problem {
            Problem::Unrecorded { identity, generation } => {
                recovery.adopted.push(identity.part);
                adopt(store, found, *identity, generation, now)?;
            }
            Problem::Torn { part, generation, name, reason } => {
                let what_comes = remove_torn(store, found, part, generation, &name)?;
                recovery.warnings.push(format!("{name} is no whole part ({reason}); {what_comes}"));
            }
            Problem::Missing { part } => recovery.warnings.push(format!(
                "{} is recorded as done but gone, or a part of it; its rows are done again",
                part.file_name()
            )),
            Problem::DamagedRecord { name } => {
                store.delete(&name)?;
                recovery.warnings.push(format!(
                    "{name} was damaged and is removed; the part that it recorded speaks for itself"
                ));
            }
        }
    }
    for name in &found.foreign {
        recovery.warnings.push(format!("{name} is no part of this output but is read with them"));
    }
    Ok(recovery)
}

/// Sees to it that a torn file is in nobody's way; says what becomes of its rows.
fn remove_torn(
    store: &dyn Store,
    found: &mut Found,
    part: PartNumber,
    generation: Generation,
    name: &str,
) -> Result<&'static str, StoreError> {
    if found.job.layout == Layout::Replace {
        // Under the version that was listed: what another run put there meanwhile is kept.
        return Ok("its rows are done again, and it is replaced");
    }
    match store.delete(name) {
        Err(StoreError::Refused { .. }) => {
            found.files.entry(part).or_default().burnt.insert(generation);
            found.stuck.push(name.to_owned());
            Ok("its rows are done again beside it, since this storage removes nothing")
        }
        removed => removed.map(|()| "it is removed and its rows are done again"),
    }
}

/// Records a file that has no record.
fn adopt(
    store: &dyn Store,
    found: &mut Found,
    identity: PartIdentity,
    generation: Generation,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (part, layout) = (identity.part, found.job.layout);
    let name = names::part_file(layout, part, generation);
    let bytes = store.read(&name)?;
    let (length, sha256) = (bytes.len() as u64, hex::encode(&Sha256::digest(&bytes)));
    let spent = Spent::default();
    let mut record = PartRecord::of(identity, generation, length, sha256, spent, now, layout);
    let encoded = checked_line::encode(&record)
        .map_err(|error| StoreError::from_io("recording", name, error.into()))?;
    store_record(store, &record, &encoded)?;
    let files = found.files.entry(part).or_default();
    files.last = files.last.max(generation);
    if layout == Layout::Replace {
        files.whole.clear();
    }
    files.whole.insert(generation, length);
    if files.whole.keys().next_back() == Some(&generation) {
        record.add_lost(&files.holes);
        found.records.insert(part, record);
    }
    Ok(())
}
