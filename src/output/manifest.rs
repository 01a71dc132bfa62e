//! The record of committed parts: one immutable, checksummed file for each time a part was written.
//!
//! It is record and index; a verified part outranks it. A part's newest generation counts.

use std::collections::BTreeMap;
use std::thread::ScopedJoinHandle;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checked_line;
use super::edition::{self, Standing};
use super::job::{Fingerprint, Layout};
use super::names::{self, Generation};
use super::part_identity::{PartIdentity, UnlabelledRows};
use super::part_rows::RowRuns;
use super::store::{Store, StoreError};
use crate::domain::{Billed, PartNumber, PositionRange, RowId, UnixMillis, hex};

/// Threads that read records.
const READERS: usize = 16;
/// Records that are not worth a further thread.
const LEAST_SHARE: usize = 32;

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
    /// Rows that stand in the file; `None`: all of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Where nothing is replaced: of `unlabelled`, the rows that stand in no file yet. `None`:
    /// every row stands, and the part can be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Vec<UnlabelledRows>>,
    /// The file's size.
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
    /// Of `prompt_tokens`: tokens that were read from the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Of `prompt_tokens`: tokens that were written into the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

impl Spent {
    /// What that was billed as.
    pub fn billed(&self) -> Billed {
        Billed {
            prompt: self.prompt_tokens,
            cached: self.cached_tokens,
            written: self.cache_write_tokens,
            completion: self.completion_tokens,
        }
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.calls += other.calls;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
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
        layout: Layout,
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
            held: identity.held.as_ref().map(RowRuns::rows),
            open: (layout == Layout::Append).then(|| identity.holes.counts()),
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

    /// Its rows without a label that can still get one, by reason and attempts.
    pub fn refillable(&self) -> &[UnlabelledRows] {
        self.open.as_ref().unwrap_or(&self.unlabelled)
    }

    /// Its rows that stand in no file yet.
    pub fn absent_rows(&self) -> u64 {
        self.open.iter().flatten().map(|rows| rows.rows).sum()
    }

    /// Rows that stand in the file.
    pub fn rows_held(&self) -> u64 {
        self.held.unwrap_or(self.range.rows)
    }

    /// In what a part's footer contradicts this record: the names of fields.
    pub fn differences(&self, identity: &PartIdentity) -> Vec<&'static str> {
        let held = identity.held.as_ref().map(RowRuns::rows);
        let open = self.open.as_ref().is_none_or(|open| *open == identity.holes.counts());
        let differing = [
            (identity.part != self.part, "part"),
            (identity.range != self.range, "range"),
            (identity.first_id != self.first_id, "first_id"),
            (identity.last_id != self.last_id, "last_id"),
            (identity.unlabelled != self.unlabelled, "unlabelled"),
            (held != self.held, "held"),
            (!open, "holes"),
            (identity.provider != self.provider, "provider"),
            (identity.model != self.model, "model"),
            (identity.run != self.run, "run"),
        ];
        differing.into_iter().filter(|(differs, _)| *differs).map(|(_, field)| field).collect()
    }

    /// Whether `part` has the recorded checksum.
    pub fn has_checksum_of(&self, part: &[u8]) -> bool {
        hex::encode(&Sha256::digest(part)) == self.sha256
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
    /// Every record, by part and generation.
    pub records: BTreeMap<PartNumber, BTreeMap<Generation, PartRecord>>,
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
        let files = edition::by_file(&store.list(names::MANIFEST)?);
        let of_parts = files
            .into_iter()
            .filter_map(|(name, editions)| Some((names::parse_record(&name)?, editions)));
        let files: Vec<_> = of_parts.collect();
        let all: Vec<&str> =
            files.iter().flat_map(|(_, editions)| editions).map(String::as_str).collect();
        let mut read = read_all(store, &all)?.into_iter();
        for ((part, generation), editions) in files {
            let mut whole = None;
            let mut torn = Vec::new();
            // A torn edition beside a whole one has done its harm.
            for (name, bytes) in editions.into_iter().zip(&mut read) {
                match checked_line::decode::<IgnoredAny>(&bytes) {
                    Some(_) => whole = Some((name, bytes)),
                    None => torn.push(name),
                }
            }
            let Some((name, bytes)) = whole else {
                manifest.damaged.extend(torn);
                continue;
            };
            let record = checked_line::decode::<PartRecord>(&bytes).filter(|record| {
                record.job == job && record.part == part && record.generation == generation
            });
            match record {
                Some(record) => manifest.add(record),
                None => manifest.foreign.push(name),
            }
        }
        Ok(manifest)
    }

    /// Counts one more record.
    fn add(&mut self, record: PartRecord) {
        self.spent += record.spent;
        self.records.entry(record.part).or_default().insert(record.generation, record);
    }

    /// The newest record of `part`.
    pub fn newest(&self, part: PartNumber) -> Option<&PartRecord> {
        self.records.get(&part)?.values().next_back()
    }
}

/// The objects of these names, in their order. Storage in a network takes its time for each.
fn read_all(store: &dyn Store, names: &[&str]) -> Result<Vec<Bytes>, StoreError> {
    let read = |names: &[&str]| -> Result<Vec<Bytes>, StoreError> {
        names.iter().map(|name| store.read(name)).collect()
    };
    let share = names.len().div_ceil(READERS).max(LEAST_SHARE);
    if names.len() <= share {
        return read(names);
    }
    std::thread::scope(|scope| {
        let start = |share| {
            let thread = std::thread::Builder::new().name("records".into());
            (share, thread.spawn_scoped(scope, move || read(share)))
        };
        let readers: Vec<_> = names.chunks(share).map(start).collect();
        let mut all = Vec::with_capacity(names.len());
        for (share, reader) in readers {
            let read = match reader.map(ScopedJoinHandle::join) {
                Ok(Ok(read)) => read,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // The system has no thread left.
                Err(_) => read(share),
            };
            all.extend(read?);
        }
        Ok(all)
    })
}

/// Writes `record`; that the same one stands there already is success.
pub(super) fn store_record(
    store: &dyn Store,
    record: &PartRecord,
    encoded: &[u8],
) -> Result<(), StoreError> {
    edition::put_whole(store, &record.file_name(), encoded, |standing| {
        match checked_line::decode::<PartRecord>(standing) {
            Some(standing) if standing.is_of_the_same_part(record) => Standing::Same,
            None if checked_line::decode::<IgnoredAny>(standing).is_none() => Standing::Torn,
            _ => Standing::Other,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::part_rows::Holes;
    use super::super::store::{CreateOnceStore, MemoryStore, put as overwrite};
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
            held: None,
            holes: Holes::default(),
            provider: "openai".into(),
            model: "gpt-4o-mini".into(),
            run: "r1".into(),
        };
        let spent =
            Spent { prompt_tokens: 100, completion_tokens: 10, calls: 1, ..Spent::default() };
        PartRecord::of(
            identity,
            generation,
            1_000,
            "00".repeat(32),
            spent,
            UnixMillis(5),
            Layout::Replace,
        )
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
        assert_eq!(manifest.newest(PartNumber(1)), Some(&record(1, 11)));
        assert_eq!(manifest.records.len(), 2);
        assert_eq!(manifest.spent.calls, 4);
    }

    #[test]
    fn a_torn_record_is_set_aside_and_can_be_written_again() {
        let store = MemoryStore::default();
        let encoded = checked_line::encode(&record(1, 1)).unwrap();
        let name = names::record(PartNumber(1), 1);
        for cut in [0, 1, encoded.len() / 2, encoded.len() - 2] {
            overwrite(&store, &name, &encoded[..cut]).unwrap();
            let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
            assert_eq!((manifest.records.len(), manifest.damaged.len()), (0, 1));
        }
        put(&store, &record(1, 1));
        let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
        assert_eq!(manifest.records.len(), 1);
    }

    #[test]
    fn where_a_torn_records_name_is_burnt_its_next_edition_counts() {
        let store = CreateOnceStore::new(std::sync::Arc::new(MemoryStore::default()));
        store.create(&names::record(PartNumber(1), 1), b"{\"checksum\":").unwrap();
        put(&store, &record(1, 1));
        put(&store, &record(1, 1));
        let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
        assert_eq!((manifest.records.len(), &manifest.damaged), (1, &Vec::new()));
        assert_eq!(manifest.spent.calls, 1);
        assert_eq!(store.list(names::MANIFEST).unwrap().len(), 2);
    }

    #[test]
    fn many_records_are_read_by_many_threads_and_each_once() {
        let store = MemoryStore::default();
        for part in 1..=1_000 {
            put(&store, &record(part, 1));
        }
        let manifest = Manifest::load(&store, Fingerprint::of(b"job")).unwrap();
        assert_eq!(manifest.spent.calls, 1_000);
        assert!((1..=1_000).all(|part| manifest.newest(PartNumber(part)).unwrap().part.0 == part));
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
        assert_eq!((manifest.records.len(), manifest.damaged.len()), (0, 0));
        assert_eq!(manifest.foreign, ["_batchclass/manifest/000001.json"]);
    }
}
