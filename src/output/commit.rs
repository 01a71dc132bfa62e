//! A part to its place: the file first, its record second, neither over anything unseen.
//!
//! Where files can be replaced, a part's file is replaced under the version that was listed.
//! Elsewhere each file is new: its name follows from the part and its generation, so of two
//! writers that fill the same part one finds the name taken, and what it holds is never written
//! over. A name that a torn file burnt is passed over.

use arrow::array::RecordBatch;

use super::checked_line;
use super::error::OutputError;
use super::job::Layout;
use super::manifest::{PartRecord, Spent, store_record};
use super::names::{self, Generation};
use super::output_folder::OpenOutput;
use super::part_file::PartFile;
use super::part_identity::{PartError, PartIdentity};
use super::part_writer::{EncodedPart, SealedPart};
use super::store::{StoreError, Version, version_of};
use crate::domain::{PartNumber, PositionRange, UnixMillis};

/// Torn files that one commit passes over at most.
const MOST_BURNT: usize = 16;

/// A file that stands.
struct Placed {
    encoded: EncodedPart,
    version: Version,
}

impl OpenOutput {
    /// Stores a part, then its record. Where files can be replaced, the one that stood for these
    /// rows is; elsewhere a further file takes the rows that have a label and stand in none yet.
    /// `spent` is what was spent since the last commit. When it returns, both are durable. After
    /// an error it may be called again with the same part.
    ///
    /// # Errors
    /// If the part is not the planned one, if another writer has filled it meanwhile, or if
    /// storage fails.
    pub fn commit(
        &mut self,
        part: &SealedPart,
        spent: Spent,
        now: UnixMillis,
    ) -> Result<PartRecord, OutputError> {
        let planned = self.plan().range_of(part.number);
        if planned != Some(part.range) {
            return Err(self.folder.part_error(PartError::Uneven {
                part: part.number,
                found: format!("{:?}", part.range),
                wanted: format!("{planned:?}"),
            }));
        }
        let held = self.found.files.get(&part.number).map(|files| files.held.clone());
        let file = match self.job().layout {
            Layout::Replace => PartFile::whole(part),
            Layout::Append => PartFile::answered(part, &held.unwrap_or_default()),
        };
        let file = file.map_err(|error| self.folder.part_error(error))?;
        self.place(&file, spent, now)
    }

    /// Parts with rows that stand in no file yet, and their ranges: where nothing is replaced,
    /// rows without a label wait for [`OpenOutput::give_up`].
    pub fn open_parts(&self) -> Vec<(PartNumber, PositionRange)> {
        let open = self.records().iter().filter(|(_, record)| record.absent_rows() > 0);
        open.map(|(part, record)| (*part, record.range)).collect()
    }

    /// Stores the rows of `part` that stand in no file yet, with a null label and their reason:
    /// nothing asks for them again. `columns` are the input's, of the part's whole range.
    ///
    /// # Errors
    /// As [`OpenOutput::commit`].
    pub fn give_up(
        &mut self,
        part: PartNumber,
        columns: &[RecordBatch],
        now: UnixMillis,
    ) -> Result<(), OutputError> {
        let Some(record) = self.records().get(&part).cloned() else { return Ok(()) };
        let holes = self.found.files.get(&part).map(|files| files.holes.clone());
        let holes = holes.unwrap_or_default();
        if holes.is_empty() {
            return Ok(());
        }
        let (outcomes, ids) = (holes.outcomes(), (&record.first_id, &record.last_id));
        let file = PartFile::given_up(
            part,
            record.range,
            ids,
            columns,
            &holes,
            &outcomes,
            record.unlabelled,
        );
        let file = file.map_err(|error| self.folder.part_error(error))?;
        self.place(&file, Spent::default(), now).map(drop)
    }

    fn place(
        &mut self,
        file: &PartFile<'_>,
        spent: Spent,
        now: UnixMillis,
    ) -> Result<PartRecord, OutputError> {
        let layout = self.job().layout;
        let Placed { encoded, version } = match layout {
            Layout::Replace => self.place_over(file)?,
            Layout::Append => self.place_beside(file)?,
        };
        let EncodedPart { identity, bytes, sha256 } = encoded;
        let (generation, length) = (identity.generation, bytes.len() as u64);
        let record = PartRecord::of(identity, generation, length, sha256, spent, now, layout);
        let line = checked_line::encode(&record);
        let line = line.map_err(|error| self.folder.unwritable(names::MANIFEST, error))?;
        store_record(self.folder.store().as_ref(), &record, &line)?;
        let files = self.found.files.entry(record.part).or_default();
        files.last = generation;
        match layout {
            Layout::Replace => {
                files.whole.clear();
                files.version = Some(version);
            }
            Layout::Append => {
                files.held = files.held.and(file.held.as_ref(), file.range.rows);
                files.holes = file.holes.clone();
            }
        }
        files.whole.insert(generation, length);
        self.found.records.insert(record.part, record.clone());
        self.found.spent += spent;
        Ok(record)
    }

    /// Stores a part's one file, in place of the one that was listed, if one was.
    fn place_over(&self, file: &PartFile<'_>) -> Result<Placed, OutputError> {
        let store = self.folder.store().as_ref();
        let name = names::part_file(Layout::Replace, file.number, 1);
        let files = self.found.files.get(&file.number);
        let encoded = self.encode(file, files.map_or(1, |files| files.last + 1))?;
        let stored = match files.and_then(|files| files.version.as_ref()) {
            Some(seen) => store.replace(&name, &encoded.bytes, seen),
            None => store.create(&name, &encoded.bytes),
        };
        let error = match stored {
            Ok(version) => return Ok(Placed { encoded, version }),
            Err(error) => error,
        };
        if !matches!(error, StoreError::AlreadyExists { .. } | StoreError::Changed { .. }) {
            return Err(error.into());
        }
        // An earlier try of this commit may have come through although it failed, whole or cut.
        // The version first: what is read then is at least as new, so nothing unread is replaced.
        let version = version_of(store, &name)?;
        let standing = store.read(&name)?;
        if standing == encoded.bytes {
            return Ok(Placed { encoded, version });
        }
        match PartIdentity::of_end(&name, &standing, self.fingerprint()) {
            Err(PartError::Torn { .. }) => {
                let version = store.replace(&name, &encoded.bytes, &version)?;
                Ok(Placed { encoded, version })
            }
            _ => Err(error.into()),
        }
    }

    /// Stores a file of its own beside those of the part that stand.
    fn place_beside(&mut self, file: &PartFile<'_>) -> Result<Placed, OutputError> {
        for _ in 0..MOST_BURNT {
            let generation = self.next_generation(file.number);
            let name = names::part_file(Layout::Append, file.number, generation);
            let encoded = self.encode(file, generation)?;
            let store = self.folder.store().as_ref();
            let taken = match store.create(&name, &encoded.bytes) {
                Ok(version) => return Ok(Placed { encoded, version }),
                Err(taken @ StoreError::AlreadyExists { .. }) => taken,
                Err(error) => return Err(error.into()),
            };
            let standing = store.read(&name)?;
            if standing == encoded.bytes {
                let version = version_of(store, &name)?;
                return Ok(Placed { encoded, version });
            }
            match PartIdentity::of_end(&name, &standing, self.fingerprint()) {
                Err(PartError::Torn { .. }) => self.pass_over(file.number, generation, name)?,
                _ => return Err(taken.into()),
            }
        }
        let name = names::part_file(Layout::Append, file.number, self.next_generation(file.number));
        Err(StoreError::AlreadyExists { name }.into())
    }

    /// Frees the name of a torn file, or goes on without it.
    fn pass_over(
        &mut self,
        part: PartNumber,
        generation: Generation,
        name: String,
    ) -> Result<(), OutputError> {
        match self.folder.store().delete(&name) {
            Err(StoreError::Refused { .. }) => {
                self.found.files.entry(part).or_default().burnt.insert(generation);
                self.found.stuck.push(name);
                Ok(())
            }
            removed => Ok(removed?),
        }
    }

    fn next_generation(&self, part: PartNumber) -> Generation {
        self.found.files.get(&part).map_or(1, |files| files.next_generation())
    }

    fn encode(
        &self,
        file: &PartFile<'_>,
        generation: Generation,
    ) -> Result<EncodedPart, OutputError> {
        let encoded = self.writer.encode(file, generation);
        encoded.map_err(|error| self.folder.part_error(error))
    }
}
