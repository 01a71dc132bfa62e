//! The first act of every run: what a crash left behind is put right.
//!
//! Valid parts are kept and recorded, whatever the manifest says; unfinished files and torn parts
//! go; rows whose part is gone are done again. Each step leaves a sound state, so a recovery that
//! is cut short is done by the next one.

use sha2::{Digest, Sha256};

use super::checked_line::{self, hex};
use super::found::{Found, Problem};
use super::manifest::{PartRecord, Spent, store_record};
use super::names::Generation;
use super::part_identity::PartIdentity;
use super::store::{Store, StoreError};
use crate::domain::{PartNumber, UnixMillis};

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
                let part = identity.part;
                let record = adopt(store, identity, generation, now)?;
                found.generations.insert(part, generation);
                found.records.insert(part, record);
                recovery.adopted.push(part);
            }
            Problem::Torn { part, reason } => {
                store.delete(&part.file_name())?;
                recovery.warnings.push(format!(
                    "{} was no whole part ({reason}); it is removed and its rows are done again",
                    part.file_name()
                ));
            }
            Problem::Missing { part } => recovery.warnings.push(format!(
                "{} is recorded as done but gone; its rows are done again",
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

fn adopt(
    store: &dyn Store,
    identity: PartIdentity,
    generation: Generation,
    now: UnixMillis,
) -> Result<PartRecord, StoreError> {
    let name = identity.part.file_name();
    let bytes = store.read(&name)?;
    let (length, sha256) = (bytes.len() as u64, hex(&Sha256::digest(&bytes)));
    let record = PartRecord::of(identity, generation, length, sha256, Spent::default(), now);
    let encoded = checked_line::encode(&record)
        .map_err(|error| StoreError::from_io("recording", name, error.into()))?;
    store_record(store, &record, &encoded)?;
    Ok(record)
}
