//! The walk over an output's parts, in the order of the plan.
//!
//! While the input is the one that the output was begun with, ids ascend on that way. Later parts
//! interleave with earlier ones; then the ids are held against each other in a second walk.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::VerifyError;
use super::comparison::{Comparison, InputIds};
use super::interleaved::ids_in_order;
use super::place::{Place, PlacedRow, generations};
use super::rows::{RowFindings, RowRules, RowTally};
use super::totals::{self, Counts};
use super::verdict::{Finding, Verdict};
use crate::domain::{PartNumber, RowId};
use crate::output::store::{Store, StoreError};
use crate::output::{
    Evidence, Generation, Layout, OutputError, PartIdentity, PartRecord, PartScan,
};

/// An output under examination.
pub(super) struct Examination<'a> {
    evidence: &'a Evidence,
    store: &'a dyn Store,
    rules: RowRules<'a>,
    comparison: Option<Comparison<InputIds>>,
    manifest: Finding,
    parts: Finding,
    checksums: Finding,
    footers: Finding,
    rows: Finding,
    row: RowFindings,
    counts: Counts,
    /// The last id that was read, and the file that it stands in.
    last_id: Option<(RowId, String)>,
    /// The first id of each file of the parts that were read whole.
    first_ids: Vec<(RowId, String)>,
    /// Whether the parts interleave.
    is_interleaved: bool,
}

impl<'a> Examination<'a> {
    /// Nothing looked at yet.
    pub(super) fn new(
        evidence: &'a Evidence,
        store: &'a dyn Store,
        comparison: Option<Comparison<InputIds>>,
    ) -> Examination<'a> {
        Examination {
            evidence,
            store,
            rules: RowRules::of(&evidence.job),
            comparison,
            manifest: Finding::new("manifest"),
            parts: Finding::new("parts"),
            checksums: Finding::new("checksums"),
            footers: Finding::new("footers"),
            rows: Finding::new("rows"),
            row: RowFindings {
                ids: Finding::new("ids"),
                labels: Finding::new("labels"),
                reasons: Finding::new("reasons"),
            },
            counts: Counts::default(),
            last_id: None,
            first_ids: Vec::new(),
            is_interleaved: evidence.known_input.is_later(),
        }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// If storage fails or the input can't be read.
    pub(super) fn run(mut self) -> Result<Verdict, VerifyError> {
        let plan = &self.evidence.plan;
        let listed: BTreeSet<(PartNumber, Generation)> = self.evidence.files().collect();
        for number in plan.part_numbers() {
            let Some(planned) = plan.range_of(number) else { continue };
            let mut place = Place::new(number, planned);
            for generation in generations(self.evidence, number, &listed) {
                // A run that is at work may have written it after the folder was listed.
                let name = self.evidence.file_name(number, generation);
                match self.read(&name)? {
                    Some(bytes) => self.file(&mut place, generation, name, bytes)?,
                    None => place.gone.push(name),
                }
            }
            self.place(place)?;
        }
        if self.is_interleaved {
            self.ids_across()?;
        }
        self.records();
        self.end()
    }

    fn read(&self, name: &str) -> Result<Option<Bytes>, VerifyError> {
        match self.store.read(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(OutputError::from(error).into()),
        }
    }

    /// The record of a file.
    fn record(&self, number: PartNumber, generation: Generation) -> Option<&'a PartRecord> {
        let evidence = self.evidence;
        match evidence.job.layout {
            Layout::Replace => evidence.manifest.newest(number),
            Layout::Append => evidence.manifest.records.get(&number)?.get(&generation),
        }
    }

    fn file(
        &mut self,
        place: &mut Place,
        generation: Generation,
        name: String,
        bytes: Bytes,
    ) -> Result<(), VerifyError> {
        self.counts.files += 1;
        self.counts.bytes += bytes.len() as u64;
        let (number, planned) = (place.number, place.planned);
        let record = self.record(number, generation);
        let (fingerprint, columns) = (self.evidence.fingerprint, self.rules.columns());
        let scan = match PartScan::open(&name, bytes.clone(), fingerprint, &columns) {
            Ok(scan) => scan,
            Err(error) => {
                self.footers.fail(error.to_string());
                if let Some(record) = record {
                    self.hold_bytes(&name, &bytes, record);
                }
                place.is_sound = false;
                return Ok(());
            }
        };
        let identity = scan.identity().clone();
        if identity.part != number || identity.range != planned {
            let (part, first, rows) = (identity.part, identity.range.first.0, identity.range.rows);
            self.footers.fail(format!(
                "the footer of {name} is that of part {part} with {rows} rows from {first} on, not \
                 of {number} with {} from {} on",
                planned.rows, planned.first.0
            ));
        }
        let is_its_own = self.evidence.job.layout == Layout::Replace;
        if !is_its_own && identity.generation != generation {
            self.footers.fail(format!(
                "the footer of {name} is that of generation {}, not {generation}",
                identity.generation
            ));
        }
        match record {
            Some(record) if record.generation >= identity.generation => {
                self.hold_bytes(&name, &bytes, record);
                self.hold_footer(&name, &identity, record);
            }
            // A crash between a part and its record, or a run at work, leaves this.
            _ => self.manifest.not_done(format!("{name} has no record yet; a run makes it")),
        }
        drop(bytes);
        self.scan(place, name, scan);
        place.newest = Some(identity);
        Ok(())
    }

    fn hold_bytes(&mut self, name: &str, bytes: &Bytes, record: &PartRecord) {
        if bytes.len() as u64 != record.bytes {
            let (is, was) = (bytes.len(), record.bytes);
            self.checksums.fail(format!("{name} has {is} bytes, its record says {was}"));
        } else if !record.has_checksum_of(bytes) {
            self.checksums.fail(format!("{name} does not have the SHA-256 of its record"));
        }
    }

    fn hold_footer(&mut self, name: &str, identity: &PartIdentity, record: &PartRecord) {
        let fields = record.differences(identity);
        if !fields.is_empty() {
            let (file, fields) = (record.file_name(), fields.join(", "));
            self.footers.fail(format!("the footer of {name} and {file} differ in {fields}"));
        }
    }

    /// Reads the rows of a file.
    fn scan(&mut self, place: &mut Place, name: String, scan: PartScan) {
        let mut tally = RowTally::default();
        let held = scan.identity().rows_held();
        let attempts = scan.attempts().to_vec();
        let mut attempts = attempts.into_iter();
        let identity = scan.identity().clone();
        let mut offsets = identity.offsets();
        let file = place.files.len();
        place.files.push(name.clone());
        for batch in scan {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.rows.fail(error.to_string());
                    break;
                }
            };
            match self.rules.ids(&batch) {
                Ok(ids) => {
                    for ((row, id), offset) in (tally.rows + 1..).zip(ids).zip(&mut offsets) {
                        if let Some(other) = place.put(offset, PlacedRow { id, file, row }) {
                            let other = &place.files[other.file];
                            self.row.ids.fail(format!("row {row} of {name} stands in {other} too"));
                        }
                    }
                }
                Err(error) => self.row.ids.fail(format!("{name}: {error}")),
            }
            self.rules.judge(&name, &batch, &mut attempts, &mut tally, &mut self.row);
        }
        if tally.rows != held {
            let is = tally.rows;
            self.rows.fail(format!("{name} gives {is} rows, where {held} are planned"));
            place.is_sound = false;
        }
        place.tally.add(&tally);
    }

    /// Holds the rows of a part's files, taken together, against the plan.
    fn place(&mut self, place: Place) -> Result<(), VerifyError> {
        let (number, planned) = (place.number, place.planned);
        self.counts.rows += place.tally.rows;
        self.counts.labelled += place.tally.labelled;
        self.counts.parts += u64::from(!place.files.is_empty() || !place.is_sound);
        if let Some(newest) = place.newest.as_ref().filter(|_| place.is_sound) {
            // A recorded file that is gone said last which rows wait.
            let record = self.evidence.manifest.newest(number);
            let later = record.filter(|record| record.generation > newest.generation);
            let later = later.filter(|_| !place.gone.is_empty());
            let open = later.map_or(newest.holes.rows(), PartRecord::absent_rows);
            let absent = place.absent_rows();
            if absent > open {
                let (lost, gone) = (absent - open, place.gone.join(", "));
                let stood = if gone.is_empty() { gone } else { format!("; {gone} is gone") };
                self.parts.fail(format!("{lost} rows of part {number} stand in no file{stood}"));
            }
            self.counts.rows_not_done += absent.min(open);
            self.hold_totals(&place, newest);
        } else if place.is_sound && !place.gone.is_empty() {
            let (name, rows) = (number.file_name(), planned.rows);
            self.parts.fail(format!("{name} with {rows} rows is recorded, but it is gone"));
        } else if place.is_sound {
            self.counts.rows_not_done += planned.rows;
        }
        if self.is_interleaved {
            self.last_id = None;
            if !place.is_sound {
                self.skip(planned.rows);
                return Ok(());
            }
            self.first_ids.extend(place.first_ids());
        }
        let Place { files, rows, .. } = place;
        for row in rows {
            match row {
                Some(PlacedRow { id, file, row }) => self.id(&files[file], row, id)?,
                None => self.skip(1),
            }
        }
        Ok(())
    }

    /// What the newest footer says of all rows of its part.
    fn hold_totals(&mut self, place: &Place, newest: &PartIdentity) {
        let name = place.files.last().map_or("", String::as_str);
        let differs = |id: Option<&RowId>, said: &RowId| id.is_some_and(|id| id != said);
        let (first, last) = place.ends();
        if differs(first, &newest.first_id) || differs(last, &newest.last_id) {
            self.row
                .ids
                .fail(format!("{name} begins or ends with another id than its footer says"));
        }
        let mut tally = RowTally::default();
        tally.add(&place.tally);
        tally.add_absent(&newest.holes);
        if tally.unlabelled() != newest.unlabelled {
            self.row.reasons.fail(format!(
                "{name} has {} rows without a label, its footer says {}, or for other reasons",
                tally.rows - tally.labelled + newest.holes.rows(),
                newest.unlabelled_rows()
            ));
        }
    }

    /// Rows that can't be compared with the input's.
    fn skip(&mut self, rows: u64) {
        if let Some(comparison) = &mut self.comparison {
            comparison.absent(rows);
        }
    }

    /// Holds the id of a row against the one before it.
    fn id(&mut self, name: &str, row: u64, id: RowId) -> Result<(), VerifyError> {
        if let Some((last, file)) = self.last_id.as_ref().filter(|(last, _)| id <= *last) {
            let problem = if id == *last { "again after" } else { "after the greater" };
            self.row.ids.fail(format!("row {row} of {name}: id {id} {problem} {last} in {file}"));
        }
        if let Some(comparison) = self.comparison.as_mut().filter(|_| !self.is_interleaved) {
            comparison.stands(&id)?;
        }
        match &mut self.last_id {
            Some((last, file)) if file == name => *last = id,
            last => *last = Some((id, name.to_owned())),
        }
        Ok(())
    }

    /// Holds the ids of all parts against each other, and against the input's.
    fn ids_across(&mut self) -> Result<(), VerifyError> {
        if self.row.ids.has_failed() {
            return Ok(());
        }
        let files = std::mem::take(&mut self.first_ids);
        let mut before: Option<(RowId, Arc<str>)> = None;
        for row in ids_in_order(self.evidence, self.store, self.rules.id_column(), files) {
            let (id, name) = row?;
            if let Some((_, other)) = before.as_ref().filter(|(last, _)| *last == id) {
                self.row.ids.fail(format!("id {id} stands in {other} and again in {name}"));
            }
            if let Some(comparison) = &mut self.comparison {
                comparison.stands(&id)?;
            }
            before = Some((id, name));
        }
        Ok(())
    }

    /// What the records are like, taken alone.
    fn records(&mut self) {
        let Evidence { plan, manifest, .. } = self.evidence;
        for name in &manifest.damaged {
            self.manifest.fail(format!("{name} is damaged"));
        }
        for name in &manifest.foreign {
            self.manifest.fail(format!("{name} is of another job or part, or of a later version"));
        }
        for (number, record) in manifest.records.iter().flat_map(|(number, records)| {
            records.values().next_back().map(|newest| (number, newest))
        }) {
            let name = record.file_name();
            match plan.range_of(*number) {
                None => self.manifest.fail(format!("{name} is of a part that is not planned")),
                Some(planned) if planned != record.range => {
                    self.manifest.fail(format!("{name} has another range than is planned"));
                }
                Some(_) => {}
            }
        }
    }

    fn end(mut self) -> Result<Verdict, VerifyError> {
        let evidence = self.evidence;
        let plan = &evidence.plan;
        let unplanned = evidence.known_input.whole_rows().saturating_sub(plan.rows());
        let planned_parts = plan.part_numbers().count();
        self.skip(unplanned);
        if self.counts.rows_not_done > 0 {
            self.parts.not_done(format!("{} rows are not done yet", self.counts.rows_not_done));
        }
        if unplanned > 0 {
            self.parts.not_done(format!("{unplanned} rows of the input are not planned yet"));
        }
        let success = totals::success(evidence, &self.counts, unplanned, self.parts.has_failed());
        let compared = match self.comparison {
            Some(comparison) => Some(comparison.end(!self.row.ids.has_failed())?),
            None => None,
        };
        let Counts { parts, files, bytes, rows, labelled, .. } = self.counts;
        let records = evidence.manifest.records.len();
        let unlabelled = rows - labelled;
        let planned = format!("{} rows planned in {planned_parts} parts", plan.rows());
        let checks = [
            Finding::new("job").check(planned),
            self.manifest.check(format!("{records} parts recorded")),
            self.parts.check(format!("{parts} of {planned_parts} parts stand")),
            self.checksums.check(format!("{bytes} bytes in {files} files")),
            self.footers.check(format!("{files} footers")),
            self.rows.check(format!("{rows} rows read")),
            self.row.ids.check(format!("{rows} ids read")),
            self.row.labels.check(format!("{labelled} rows with a label")),
            self.row.reasons.check(format!("{unlabelled} rows without a label")),
            success,
            totals::foreign_files(evidence),
        ];
        Ok(Verdict::of(checks.into_iter().chain(compared).collect()))
    }
}
