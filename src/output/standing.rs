//! The files of an output's parts, held against their records.
//!
//! A record is believed where its file has the recorded size. Where rows lack a label, where the
//! size differs or there is no record, the file's own footer decides.

use std::collections::{BTreeMap, BTreeSet};

use super::found::{Found, Problem};
use super::job::Layout;
use super::manifest::{Manifest, PartRecord};
use super::names::{self, Generation};
use super::part_identity::{PartError, PartIdentity, UnlabelledRows};
use super::part_rows::{Composition, Holes, RowRuns};
use super::store::{Store, Stored, Version};
use crate::domain::{PartNumber, PositionRange, Reason};

/// The files of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartFiles {
    /// The highest generation that is known of, whether or not it stands.
    pub(super) last: Generation,
    /// The whole files that stand, and their sizes.
    pub(super) whole: BTreeMap<Generation, u64>,
    /// Generations whose names are burnt by a torn file that can't be removed.
    pub(super) burnt: BTreeSet<Generation>,
    /// Where a part is one file: which bytes stand there, as they were listed.
    pub(super) version: Option<Version>,
    /// Where nothing is replaced: the rows that stand in a file.
    pub(super) held: RowRuns,
    /// Where nothing is replaced: the rows that stand in no file, each without a label.
    pub(super) holes: Holes,
}

impl PartFiles {
    /// The newest whole file.
    fn whole_last(&self) -> Generation {
        self.whole.last_key_value().map_or(0, |(generation, _)| *generation)
    }

    /// The generation to write next.
    pub(super) fn next_generation(&self) -> Generation {
        let burnt = self.burnt.last().copied().unwrap_or(0);
        self.last.max(burnt) + 1
    }
}

impl Found {
    /// Holds the files that stand against their records.
    pub(super) fn compare(
        &mut self,
        store: &dyn Store,
        mut manifest: Manifest,
        top: &[Stored],
    ) -> Result<(), PartError> {
        let mut places: BTreeMap<PartNumber, Vec<(Generation, &Stored)>> = BTreeMap::new();
        for part in manifest.records.keys() {
            places.entry(*part).or_default();
        }
        for stored in top {
            if let Some((part, generation)) = names::parse_part_file(self.job.layout, &stored.name)
            {
                places.entry(part).or_default().push((generation, stored));
            }
        }
        for (part, mut listed) in places {
            listed.sort_by_key(|(generation, _)| *generation);
            let records = manifest.records.remove(&part).unwrap_or_default();
            match self.job.layout {
                Layout::Replace => self.compare_file(store, part, listed.first(), records)?,
                Layout::Append => self.compare_files(store, part, &listed, records)?,
            }
        }
        Ok(())
    }

    /// A part that is one file, whichever generation it is.
    fn compare_file(
        &mut self,
        store: &dyn Store,
        part: PartNumber,
        listed: Option<&(Generation, &Stored)>,
        records: BTreeMap<Generation, PartRecord>,
    ) -> Result<(), PartError> {
        let record = records.into_values().next_back();
        let last = record.as_ref().map_or(0, |record| record.generation);
        let mut files = PartFiles { last, ..PartFiles::default() };
        let Some((_, stored)) = listed else {
            self.problems.push(Problem::Missing { part });
            self.files.insert(part, files);
            return Ok(());
        };
        files.version = Some(stored.version.clone());
        match self.judge(store, part, stored, record.as_ref())? {
            None => {
                files.whole.insert(last, stored.bytes);
                self.records.extend(record.map(|record| (part, record)));
            }
            Some(problem) => self.problems.push(problem),
        }
        self.files.insert(part, files);
        Ok(())
    }

    /// What is wrong with a part; `None` if it is as `record` says.
    fn judge(
        &self,
        store: &dyn Store,
        part: PartNumber,
        stored: &Stored,
        record: Option<&PartRecord>,
    ) -> Result<Option<Problem>, PartError> {
        let planned = self.planned(part, &stored.name)?;
        let recorded =
            record.filter(|record| record.bytes == stored.bytes && record.range == planned);
        // A refill can leave the size as it was; where all rows have labels there is none to come.
        if recorded.is_some_and(|record| record.unlabelled.is_empty()) {
            return Ok(None);
        }
        let identity = match self.identify(store, part, &stored.name)? {
            Ok(identity) => identity,
            Err(reason) => {
                let name = stored.name.clone();
                return Ok(Some(Problem::Torn { part, generation: 1, name, reason }));
            }
        };
        if recorded.is_some_and(|record| record.generation >= identity.generation) {
            return Ok(None);
        }
        let after = record.map_or(1, |record| record.generation + 1);
        let generation = identity.generation.max(after);
        Ok(Some(Problem::Unrecorded { identity: Box::new(identity), generation }))
    }

    /// A part of one file for each generation, of which none changes.
    fn compare_files(
        &mut self,
        store: &dyn Store,
        part: PartNumber,
        listed: &[(Generation, &Stored)],
        mut records: BTreeMap<Generation, PartRecord>,
    ) -> Result<(), PartError> {
        let last = records.last_key_value().map_or(0, |(generation, _)| *generation);
        let mut files = PartFiles { last, ..PartFiles::default() };
        if self.is_closed(part, listed, &records) {
            let sizes = listed.iter().map(|(generation, stored)| (*generation, stored.bytes));
            files.whole = sizes.collect();
            files.held = RowRuns::all(self.plan.range_of(part).map_or(0, |range| range.rows));
            self.records.extend(records.remove(&last).map(|record| (part, record)));
            self.files.insert(part, files);
            return Ok(());
        }
        let mut newest = None;
        let mut whole = Composition::new(self.plan.range_of(part).map_or(0, |range| range.rows));
        for (generation, stored) in listed {
            let (generation, name) = (*generation, stored.name.clone());
            let identity = match self.identify(store, part, &name)? {
                Ok(identity) => identity,
                Err(reason) => {
                    self.problems.push(Problem::Torn { part, generation, name, reason });
                    continue;
                }
            };
            for offset in identity.offsets() {
                refuse_overlap(part, generation, whole.put(offset, generation))?;
            }
            files.whole.insert(generation, stored.bytes);
            files.last = files.last.max(generation);
            let record = records.remove(&generation).filter(|it| it.bytes == stored.bytes);
            if record.is_none() {
                let identity = Box::new(identity.clone());
                self.problems.push(Problem::Unrecorded { identity, generation });
            }
            newest = Some((identity, record));
        }
        match newest {
            Some((identity, record)) => {
                files.held = whole.held();
                files.holes = whole.holes(&identity.holes);
                let is_newer_gone =
                    records.keys().any(|generation| *generation > files.whole_last());
                if files.holes.rows() > identity.holes.rows() || is_newer_gone {
                    self.problems.push(Problem::Missing { part });
                }
                if let Some(mut record) = record {
                    record.add_lost(&files.holes);
                    self.records.insert(part, record);
                }
            }
            None if !records.is_empty() => self.problems.push(Problem::Missing { part }),
            None => {}
        }
        self.files.insert(part, files);
        Ok(())
    }

    /// Whether the records alone say that every row of a part stands in these files.
    fn is_closed(
        &self,
        part: PartNumber,
        listed: &[(Generation, &Stored)],
        records: &BTreeMap<Generation, PartRecord>,
    ) -> bool {
        let planned = self.plan.range_of(part);
        let each = listed.iter().map(|(generation, stored)| {
            records
                .get(generation)
                .filter(|record| record.bytes == stored.bytes && Some(record.range) == planned)
        });
        let Some(standing) = each.collect::<Option<Vec<_>>>() else { return false };
        let rows: u64 = standing.iter().map(|record| record.rows_held()).sum();
        let newest = records.values().next_back();
        newest == standing.last().copied()
            && newest.is_some_and(|newest| newest.absent_rows() == 0 && newest.range.rows == rows)
    }

    fn planned(&self, part: PartNumber, name: &str) -> Result<PositionRange, PartError> {
        let planned = self.plan.range_of(part);
        planned.ok_or_else(|| PartError::Foreign { path: name.to_owned() })
    }

    /// What the file `name` says of itself, or why it is torn.
    fn identify(
        &self,
        store: &dyn Store,
        part: PartNumber,
        name: &str,
    ) -> Result<Result<PartIdentity, String>, PartError> {
        let identity = match PartIdentity::read(store, name, self.fingerprint) {
            Err(PartError::Torn { reason, .. }) => return Ok(Err(reason)),
            identity => identity?,
        };
        let is_its_own = self.job.layout == Layout::Replace
            || names::part_file(self.job.layout, part, identity.generation) == name;
        if identity.part != part || identity.range != self.planned(part, name)? || !is_its_own {
            return Err(PartError::Foreign { path: name.to_owned() });
        }
        Ok(Ok(identity))
    }
}

/// Rows of a part never stand in two of its files.
pub(super) fn refuse_overlap(
    part: PartNumber,
    generation: Generation,
    stood_in: Option<Generation>,
) -> Result<(), PartError> {
    let Some(other) = stood_in else { return Ok(()) };
    let name = |generation| names::part_file(Layout::Append, part, generation);
    Err(PartError::Overlap { path: name(generation), other: name(other) })
}

impl PartRecord {
    /// Counts the rows among `holes` that no record knows of: what held them is gone.
    pub(super) fn add_lost(&mut self, holes: &Holes) {
        let lost = holes.rows().saturating_sub(self.absent_rows());
        if lost == 0 {
            return;
        }
        let rows = UnlabelledRows { reason: Reason::Missing, attempts: 0, rows: lost };
        self.unlabelled.push(rows);
        self.open.get_or_insert_default().push(rows);
    }
}
