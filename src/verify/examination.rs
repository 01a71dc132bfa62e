//! The walk over an output's parts, in the order of the plan.
//!
//! While the input is the one that the output was begun with, ids ascend on that way. Later parts
//! interleave with earlier ones; then the ids are held against each other in a second walk.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::VerifyError;
use super::comparison::{Comparison, InputIds};
use super::interleaved::ids_in_order;
use super::rows::{RowFindings, RowRules, RowTally};
use super::verdict::{Check, Finding, Verdict};
use crate::domain::{PartNumber, PositionRange, RowId};
use crate::output::store::{Store, StoreError};
use crate::output::{Evidence, OutputError, PartIdentity, PartRecord, PartScan, SUCCESS, Success};

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
    /// The last id that was read, and the part that it stands in.
    last_id: Option<(RowId, PartNumber)>,
    /// The first id of each part that was read whole.
    first_ids: Vec<(RowId, PartNumber)>,
    /// Whether the parts interleave.
    is_interleaved: bool,
}

/// What was looked at.
#[derive(Default)]
struct Counts {
    parts: u64,
    bytes: u64,
    rows: u64,
    labelled: u64,
    rows_not_done: u64,
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
        let listed: BTreeSet<PartNumber> = self.evidence.parts().collect();
        let recorded = &self.evidence.manifest.newest;
        for number in plan.part_numbers() {
            let Some(planned) = plan.range_of(number) else { continue };
            // A run that is at work may have written it after the folder was listed.
            let is_known = listed.contains(&number) || recorded.contains_key(&number);
            let part = if is_known { self.read(&number.file_name())? } else { None };
            match part {
                Some(bytes) => self.part(number, planned, bytes)?,
                None => self.absent(number, planned, recorded.contains_key(&number)),
            }
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

    fn absent(&mut self, number: PartNumber, planned: PositionRange, is_recorded: bool) {
        if is_recorded {
            let (name, rows) = (number.file_name(), planned.rows);
            self.parts.fail(format!("{name} with {rows} rows is recorded, but it is gone"));
        } else {
            self.counts.rows_not_done += planned.rows;
        }
        self.skip(planned.rows);
    }

    /// Rows that can't be compared with the input's.
    fn skip(&mut self, rows: u64) {
        if let Some(comparison) = &mut self.comparison {
            comparison.absent(rows);
        }
    }

    fn part(
        &mut self,
        number: PartNumber,
        planned: PositionRange,
        bytes: Bytes,
    ) -> Result<(), VerifyError> {
        let name = number.file_name();
        self.counts.parts += 1;
        self.counts.bytes += bytes.len() as u64;
        let evidence = self.evidence;
        let record = evidence.manifest.newest.get(&number);
        let columns = self.rules.columns();
        let scan = match PartScan::open(&name, bytes.clone(), evidence.fingerprint, &columns) {
            Ok(scan) => scan,
            Err(error) => {
                self.footers.fail(error.to_string());
                if let Some(record) = record {
                    self.hold_bytes(&name, &bytes, record);
                }
                self.skip(planned.rows);
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
        match record {
            Some(record) if record.generation >= identity.generation => {
                self.hold_bytes(&name, &bytes, record);
                self.hold_footer(&name, &identity, record);
            }
            // A crash between a part and its record, or a run at work, leaves this.
            _ => self.manifest.not_done(format!("{name} has no record yet; a run makes it")),
        }
        drop(bytes);
        self.scan(number, planned, &identity, scan)
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
        let recorded = record.identity();
        let differing = [
            (identity.part != recorded.part, "part"),
            (identity.range != recorded.range, "range"),
            (identity.first_id != recorded.first_id, "first_id"),
            (identity.last_id != recorded.last_id, "last_id"),
            (identity.unlabelled != recorded.unlabelled, "unlabelled"),
            (identity.provider != recorded.provider, "provider"),
            (identity.model != recorded.model, "model"),
            (identity.run != recorded.run, "run"),
        ];
        let fields: Vec<&str> =
            differing.iter().filter(|(differs, _)| *differs).map(|(_, field)| *field).collect();
        if !fields.is_empty() {
            let (file, fields) = (record.file_name(), fields.join(", "));
            self.footers.fail(format!("the footer of {name} and {file} differ in {fields}"));
        }
    }

    /// Reads the rows of a part.
    fn scan(
        &mut self,
        number: PartNumber,
        planned: PositionRange,
        identity: &PartIdentity,
        scan: PartScan,
    ) -> Result<(), VerifyError> {
        let name = number.file_name();
        let mut tally = RowTally::default();
        let attempts = scan.attempts().to_vec();
        let mut attempts = attempts.into_iter();
        let mut first_id = None;
        if self.is_interleaved {
            self.last_id = None;
        }
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
                    first_id = first_id.or_else(|| ids.first().cloned());
                    self.ids(number, tally.rows, ids)?;
                }
                Err(error) => self.row.ids.fail(format!("{name}: {error}")),
            }
            self.rules.judge(&name, &batch, &mut attempts, &mut tally, &mut self.row);
        }
        self.counts.rows += tally.rows;
        self.counts.labelled += tally.labelled;
        if tally.rows != planned.rows {
            let (is, planned) = (tally.rows, planned.rows);
            self.rows.fail(format!("{name} gives {is} rows, where {planned} are planned"));
            self.skip(if self.is_interleaved { planned } else { planned.saturating_sub(is) });
            return Ok(());
        }
        self.first_ids.extend(first_id.clone().map(|id| (id, number)));
        let last_id = self.last_id.as_ref().map(|(id, _)| id);
        if (first_id.as_ref(), last_id) != (Some(&identity.first_id), Some(&identity.last_id)) {
            self.row
                .ids
                .fail(format!("{name} begins or ends with another id than its footer says"));
        }
        if tally.unlabelled() != identity.unlabelled {
            self.row.reasons.fail(format!(
                "{name} has {} rows without a label, its footer says {}, or for other reasons",
                tally.rows - tally.labelled,
                identity.unlabelled_rows()
            ));
        }
        Ok(())
    }

    /// Holds the ids of rows that follow the first `before` of a part against those before them.
    fn ids(&mut self, number: PartNumber, before: u64, ids: Vec<RowId>) -> Result<(), VerifyError> {
        for (row, id) in (before + 1..).zip(ids) {
            if let Some((last, part)) = self.last_id.as_ref().filter(|(last, _)| id <= *last) {
                let (name, part) = (number.file_name(), part.file_name());
                let problem = if id == *last { "again after" } else { "after the greater" };
                self.row
                    .ids
                    .fail(format!("row {row} of {name}: id {id} {problem} {last} in {part}"));
            }
            if let Some(comparison) = self.comparison.as_mut().filter(|_| !self.is_interleaved) {
                comparison.stands(&id)?;
            }
            self.last_id = Some((id, number));
        }
        Ok(())
    }

    /// Holds the ids of all parts against each other, and against the input's.
    fn ids_across(&mut self) -> Result<(), VerifyError> {
        if self.row.ids.has_failed() {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.first_ids);
        let mut before: Option<(RowId, PartNumber)> = None;
        for row in ids_in_order(self.evidence, self.store, self.rules.id_column(), parts) {
            let (id, part) = row?;
            if let Some((_, other)) = before.as_ref().filter(|(last, _)| *last == id) {
                let (name, other) = (part.file_name(), other.file_name());
                self.row.ids.fail(format!("id {id} stands in {other} and again in {name}"));
            }
            if let Some(comparison) = &mut self.comparison {
                comparison.stands(&id)?;
            }
            before = Some((id, part));
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
        for (number, record) in &manifest.newest {
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
        let success = self.success(unplanned > 0);
        let compared = match self.comparison {
            Some(comparison) => Some(comparison.end(!self.row.ids.has_failed())?),
            None => None,
        };
        let Counts { parts, bytes, rows, labelled, .. } = self.counts;
        let records = evidence.manifest.newest.len();
        let unlabelled = rows - labelled;
        let planned = format!("{} rows planned in {planned_parts} parts", plan.rows());
        let checks = [
            Finding::new("job").check(planned),
            self.manifest.check(format!("{records} parts recorded")),
            self.parts.check(format!("{parts} of {planned_parts} parts stand")),
            self.checksums.check(format!("{bytes} bytes in {parts} parts")),
            self.footers.check(format!("{parts} footers")),
            self.rows.check(format!("{rows} rows read")),
            self.row.ids.check(format!("{rows} ids read")),
            self.row.labels.check(format!("{labelled} rows with a label")),
            self.row.reasons.check(format!("{unlabelled} rows without a label")),
            success,
            foreign_files(evidence),
        ];
        Ok(Verdict::of(checks.into_iter().chain(compared).collect()))
    }

    /// Whether `_SUCCESS` says what the records say.
    fn success(&self, is_limited: bool) -> Check {
        let Evidence { fingerprint, manifest, success, .. } = self.evidence;
        let mut finding = Finding::new("success");
        let Some(success) = success else {
            let unlabelled = self.counts.rows - self.counts.labelled;
            let detail = if self.evidence.has_success_file() {
                finding.fail(format!("{SUCCESS} can't be read"));
                "unreadable"
            } else if self.counts.rows_not_done > 0 || is_limited || self.parts.has_failed() {
                "not written: rows are not done"
            } else if unlabelled > 0 {
                "not written: rows have no label"
            } else {
                finding.not_done("all rows stand, but no run has come to its end yet");
                "not written"
            };
            return finding.check(detail);
        };
        let totals = Success::of(*fingerprint, &manifest.newest, manifest.spent, success.finished);
        for (said, counted, what) in [
            (success.rows, totals.rows, "rows"),
            (success.labelled, totals.labelled, "labelled rows"),
            (success.parts, totals.parts, "parts"),
            (success.bytes, totals.bytes, "bytes"),
            (success.spent.calls, totals.spent.calls, "calls"),
        ] {
            if said != counted {
                finding.fail(format!("{SUCCESS} says {said} {what}, the records say {counted}"));
            }
        }
        let comparable = Success { version: success.version, ..totals };
        if *success != comparable && !finding.has_failed() {
            finding.fail(format!("{SUCCESS} and the records differ in job, reasons or tokens"));
        }
        finding.check("totals of all records")
    }
}

/// Parquet files that readers of the folder would take for data.
fn foreign_files(evidence: &Evidence) -> Check {
    let mut finding = Finding::new("files");
    let foreign = evidence.foreign();
    let files = evidence.parts().count() + foreign.len();
    for name in foreign {
        finding.fail(format!("{name} is no part, but `*.parquet` reads it too"));
    }
    for number in evidence.parts().filter(|number| evidence.plan.range_of(*number).is_none()) {
        finding.fail(format!("{} is not planned", number.file_name()));
    }
    finding.check(format!("{files} Parquet files in the folder"))
}
