//! The record of committed parts: one immutable, checksummed file for each time a part was written.
//!
//! It is record and index; a verified part outranks it. A part's newest generation counts.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checked_line;
use super::job::Fingerprint;
use super::names::{self, Generation};
use super::part_identity::{PartIdentity, UnlabelledRows};
use super::store::{self, Store, StoreError};
use crate::domain::{PartNumber, PositionRange, RowId, UnixMillis};

/// What stands in a part, and what it took to get there: `manifest/000001.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The version of this form.
    pub version: u32,
    /// The job that the part answers.
    pub job: Fingerprint,
    /// The part.
    pub part: PartNumber,
    /// How often it was written, from 1.
    pub generation: Generation,
    /// The positions of its rows.
    pub range: PositionRange,
    /// The id of its first row.
    pub first_id: RowId,
    /// The id of its last row.
    pub last_id: RowId,
    /// Its rows without a label, by reason and attempts.
    pub unlabelled: Vec<UnlabelledRows>,
    /// The part's size.
    pub bytes: u64,
    /// The SHA-256 of the part, hexadecimal.
    pub sha256: String,
    /// What was spent since the record that was written before this one.
    pub spent: Spent,
    /// Who answered.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// The run that wrote the part.
    pub run: String,
    /// When it was written.
    pub written: UnixMillis,
}

/// Tokens and calls, as charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Tokens of requests.
    pub prompt_tokens: u64,
    /// Tokens of replies.
    pub completion_tokens: u64,
    /// Calls.
    pub calls: u64,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.calls += other.calls;
    }
}

impl PartRecord {
    /// The record of a part from what its footer says.
    pub(super) fn of(
        identity: PartIdentity,
        generation: Generation,
        bytes: u64,
        sha256: String,
        spent: Spent,
        written: UnixMillis,
    ) -> PartRecord {
        PartRecord {
            version: super::job::FORMAT_VERSION,
            job: identity.job,
            part: identity.part,
            generation,
            range: identity.range,
            first_id: identity.first_id,
            last_id: identity.last_id,
            unlabelled: identity.unlabelled,
            bytes,
            sha256,
            spent,
            provider: identity.provider,
            model: identity.model,
            run: identity.run,
            written,
        }
    }

    /// Its rows without a label.
    pub fn unlabelled_rows(&self) -> u64 {
        self.unlabelled.iter().map(|rows| rows.rows).sum()
    }

    /// The identity that the part's footer should have.
    pub fn identity(&self) -> PartIdentity {
        PartIdentity {
            job: self.job,
            part: self.part,
            generation: self.generation,
            range: self.range,
            first_id: self.first_id.clone(),
            last_id: self.last_id.clone(),
            unlabelled: self.unlabelled.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            run: self.run.clone(),
        }
    }

    /// Whether `part` has the recorded checksum.
    pub fn has_checksum_of(&self, part: &[u8]) -> bool {
        checked_line::hex(&Sha256::digest(part)) == self.sha256
    }

    /// The name of its file, from the output folder on.
    pub fn file_name(&self) -> String {
        names::record(self.part, self.generation)
    }

    /// Whether `other` tells of the same bytes for the same rows, whenever it was written.
    pub(super) fn is_of_the_same_part(&self, other: &PartRecord) -> bool {
        let this = (self.job, self.part, self.generation, self.range, &self.sha256);
        this == (other.job, other.part, other.generation, other.range, &other.sha256)
    }
}

/// All records of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The newest record of each part.
    pub newest: BTreeMap<PartNumber, PartRecord>,
    /// What all records together say was spent.
    pub spent: Spent,
    /// Names of records that are torn or damaged.
    pub damaged: Vec<String>,
    /// Names of whole records that are of another job, part or version.
    pub foreign: Vec<String>,
}

impl Manifest {
    /// Reads every record of `job`.
    ///
    /// # Errors
    /// If storage fails; a record that can't be used is no error but listed.
    pub(super) fn load(store: &dyn Store, job: Fingerprint) -> Result<Manifest, StoreError> {
        let mut manifest = Manifest::default();
        for stored in store.list(names::MANIFEST)? {
            let Some((part, generation)) = names::parse_record(&stored.name) else { continue };
            let read = store.read(&stored.name)?;
            let record = checked_line::decode::<PartRecord>(&read).filter(|record| {
                record.job == job && record.part == part && record.generation == generation
            });
            match record {
                Some(record) => manifest.add(record),
                None if checked_line::decode::<IgnoredAny>(&read).is_some() => {
                    manifest.foreign.push(stored.name);
                }
                None => manifest.damaged.push(stored.name),
            }
        }
        Ok(manifest)
    }

    /// Counts one more record.
    pub(super) fn add(&mut self, record: PartRecord) {
        self.spent += record.spent;
        let newest = self.newest.get(&record.part);
        if newest.is_none_or(|newest| newest.generation < record.generation) {
            self.newest.insert(record.part, record);
        }
    }
}

/// Writes `record`; that the same one stands there already is success.
pub(super) fn store_record(
    store: &dyn Store,
    record: &PartRecord,
    encoded: &[u8],
) -> Result<(), StoreError> {
    let name = names::record(record.part, record.generation);
    match store.create(&name, encoded) {
        Err(StoreError::AlreadyExists { name: path }) => {
            let standing = checked_line::decode::<PartRecord>(&store.read(&name)?);
            match standing {
                Some(standing) if standing.is_of_the_same_part(record) => Ok(()),
                // A torn record, or one of bytes that no longer stand: the part outranks it.
                None => store::put(store, &name, encoded).map(drop),
                Some(_) => Err(StoreError::AlreadyExists { name: path }),
            }
        }
        stored => stored.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::MemoryStore;
    use super::*;
    use crate::domain::{Position, Reason};

    fn record(part: u32, generation: Generation) -> PartRecord {
        let first = u64::from(part - 1) * 10;
        let identity = PartIdentity {
            job: Fingerprint::of(b"job"),
            part: PartNumber(part),
            generation,
            range: PositionRange { first: Position(first), rows: 10 },
            first_id: RowId::Integer(first.into()),
            last_id: RowId::Integer((first + 9).into()),
            unlabelled: vec![UnlabelledRows { reason: Reason::Missing, attempts: 3, rows: 2 }],
            provider: "openai".into(),
            model: "gpt-4o-mini".into(),
            run: "r1".into(),
        };
        let spent = Spent { prompt_tokens: 100, completion_tokens: 10, calls: 1 };
        PartRecord::of(identity, generation, 1_000, "00".repeat(32), spent, UnixMillis(5))
    }

    fn put(store: &dyn Store, record: &PartRecord) {
        store_record(store, record, &checked_line::encode(record).unwrap()).unwrap();
    }

    #[test]
    fn the_newest_generation_counts_and_all_spending_adds_up() {
        let store = MemoryStore::default();
        for generation in [1, 2, 11] {
            put(&store, &record(1, generation));
        }
        put(&store, &record(2, 1));
        let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
        assert_eq!(manifest.newest[&PartNumber(1)], record(1, 11));
        assert_eq!(manifest.newest.len(), 2);
        assert_eq!(manifest.spent.calls, 4);
    }

    #[test]
    fn a_torn_record_is_set_aside_and_can_be_written_again() {
        let store = MemoryStore::default();
        let encoded = checked_line::encode(&record(1, 1)).unwrap();
        let name = names::record(PartNumber(1), 1);
        for cut in [0, 1, encoded.len() / 2, encoded.len() - 2] {
            store::put(&store, &name, &encoded[..cut]).unwrap();
            let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
            assert_eq!((manifest.newest.len(), manifest.damaged.len()), (0, 1));
        }
        put(&store, &record(1, 1));
        let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
        assert_eq!(manifest.newest.len(), 1);
    }

    #[test]
    fn a_record_of_another_part_is_never_overwritten() {
        let store = MemoryStore::default();
        put(&store, &record(1, 1));
        let mut other = record(1, 1);
        other.written = UnixMillis(99);
        put(&store, &other);
        other.sha256 = "11".repeat(32);
        let encoded = checked_line::encode(&other).unwrap();
        assert!(store_record(&store, &other, &encoded).is_err());
    }

    #[test]
    fn records_of_another_job_are_not_ours() {
        let store = MemoryStore::default();
        put(&store, &record(1, 1));
        let manifest = Manifest::load(&store, Fingerprint::of(b"other")).unwrap();
        assert_eq!((manifest.newest.len(), manifest.damaged.len()), (0, 0));
        assert_eq!(manifest.foreign, ["_batchclass/manifest/000001.json"]);
    }
}
