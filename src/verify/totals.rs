//! What an output says of itself as a whole: its totals, and the files that are read with it.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::{Check, Finding};
use crate::output::{Evidence, Layout, PartRecord, SUCCESS, Success};

/// What was looked at.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) parts: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) labelled: u64,
    pub(super) rows_not_done: u64,
}

/// Whether `_SUCCESS` says what the records say.
///
/// `unplanned` rows of the input are not planned; `is_damaged` says that parts are.
pub(super) fn success(
    evidence: &Evidence,
    counts: &Counts,
    unplanned: u64,
    is_damaged: bool,
) -> Check {
    let Evidence { fingerprint, manifest, success, .. } = evidence;
    let mut finding = Finding::new("success");
    let is_unfinished = counts.rows_not_done > 0 || unplanned > 0;
    let Some(success) = success else {
        let unlabelled = counts.rows - counts.labelled;
        let is_append = evidence.job.layout == Layout::Append;
        let detail = if evidence.has_success_file() && is_append && !is_unfinished {
            // It can't be written again, and says nothing but totals.
            "cut in its making"
        } else if evidence.has_success_file() {
            finding.fail(format!("{SUCCESS} can't be read"));
            "unreadable"
        } else if is_unfinished || is_damaged {
            "not written: rows are not done"
        } else if unlabelled > 0 {
            "not written: rows have no label"
        } else {
            finding.not_done("all rows stand, but no run has come to its end yet");
            "not written"
        };
        return finding.check(detail);
    };
    if is_unfinished {
        finding.fail(format!("{SUCCESS} stands, but rows are not done"));
    }
    let newest = manifest.records.values().filter_map(|records| records.values().next_back());
    let files: Vec<&PartRecord> = match evidence.job.layout {
        Layout::Replace => newest.clone().collect(),
        Layout::Append => {
            let standing: BTreeSet<_> = evidence.files().collect();
            let records = manifest.records.values().flat_map(BTreeMap::values);
            records.filter(|it| standing.contains(&(it.part, it.generation))).collect()
        }
    };
    let (count, bytes) = (files.len() as u64, files.iter().map(|record| record.bytes).sum());
    let finished = success.finished;
    let totals = Success::of(*fingerprint, newest, count, bytes, manifest.spent, finished);
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

/// Parquet files that readers of the folder would take for data.
pub(super) fn foreign_files(evidence: &Evidence) -> Check {
    let mut finding = Finding::new("files");
    let foreign = evidence.foreign();
    let files = evidence.files().count() + foreign.len();
    for name in foreign {
        finding.fail(format!("{name} is no part, but `*.parquet` reads it too"));
    }
    let unplanned = evidence.files().filter(|(part, _)| evidence.plan.range_of(*part).is_none());
    for (part, generation) in unplanned {
        finding.fail(format!("{} is not planned", evidence.file_name(part, generation)));
    }
    finding.check(format!("{files} Parquet files in the folder"))
}
