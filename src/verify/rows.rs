//! One part's rows: ids ascend, and each row has a label that may stand there or a known reason.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};

use super::verdict::Finding;
use crate::domain::spec::{IdSource, reason_column};
use crate::domain::{Attempts, Reason, RowId};
use crate::input::{InputError, ROW_NUMBER_COLUMN, existing_labels, row_ids};
use crate::output::{Holes, Job, UnlabelledRows};

/// What the rows of a job's parts have to be like.
pub(super) struct RowRules<'a> {
    id_column: &'a str,
    label_column: &'a str,
    reason_column: String,
    names: HashSet<&'a str>,
    own_labels: OwnLabels<'a>,
}

/// Where labels that the input came with stand.
enum OwnLabels<'a> {
    /// It came with none.
    None,
    /// In this column, beside ours.
    Beside(&'a str),
    /// In ours alone: any label may be one.
    Replaced,
}

/// What was found about rows, over all parts.
pub(super) struct RowFindings {
    pub(super) ids: Finding,
    pub(super) labels: Finding,
    pub(super) reasons: Finding,
}

/// The rows of one file or part that were looked at.
#[derive(Debug, Default)]
pub(super) struct RowTally {
    /// How many.
    pub(super) rows: u64,
    /// Of those, how many have a label.
    pub(super) labelled: u64,
    unlabelled: BTreeMap<(Reason, Attempts), u64>,
}

impl RowTally {
    /// Counts the rows of a further file.
    pub(super) fn add(&mut self, other: &RowTally) {
        self.rows += other.rows;
        self.labelled += other.labelled;
        for (kind, rows) in &other.unlabelled {
            *self.unlabelled.entry(*kind).or_default() += rows;
        }
    }

    /// Counts rows without a label that stand in no file.
    pub(super) fn add_absent(&mut self, holes: &Holes) {
        for rows in holes.counts() {
            *self.unlabelled.entry((rows.reason, rows.attempts)).or_default() += rows.rows;
        }
    }

    /// Its rows without a label, as a footer counts them.
    pub(super) fn unlabelled(&self) -> Vec<UnlabelledRows> {
        let counts = self.unlabelled.iter();
        counts
            .map(|(&(reason, attempts), &rows)| UnlabelledRows { reason, attempts, rows })
            .collect()
    }
}

impl<'a> RowRules<'a> {
    /// The rules of `job`.
    pub(super) fn of(job: &'a Job) -> RowRules<'a> {
        let columns = job.input.columns.as_deref();
        let goes_along =
            |name: &str| columns.is_none_or(|columns| columns.iter().any(|column| column == name));
        let own_labels = match job.input.existing_label.as_deref() {
            None => OwnLabels::None,
            Some(column) if column == job.label_column || !goes_along(column) => {
                OwnLabels::Replaced
            }
            Some(column) => OwnLabels::Beside(column),
        };
        RowRules {
            id_column: match &job.input.id {
                IdSource::Column(name) => name,
                IdSource::RowNumber => ROW_NUMBER_COLUMN,
            },
            label_column: &job.label_column,
            reason_column: reason_column(&job.label_column),
            names: job.prompt.labels.iter().map(|label| label.name.as_str()).collect(),
            own_labels,
        }
    }

    /// The columns that are looked at.
    pub(super) fn columns(&self) -> Vec<&str> {
        let own = match self.own_labels {
            OwnLabels::Beside(column) => Some(column),
            OwnLabels::None | OwnLabels::Replaced => None,
        };
        [self.id_column, self.label_column, &self.reason_column].into_iter().chain(own).collect()
    }

    /// The column with the ids.
    pub(super) fn id_column(&self) -> &'a str {
        self.id_column
    }

    /// The ids of `batch`.
    ///
    /// # Errors
    /// If it has none, or one is null.
    pub(super) fn ids(&self, batch: &RecordBatch) -> Result<Vec<RowId>, InputError> {
        row_ids(batch, self.id_column)
    }

    /// Holds the labels and reasons of `batch`, of the part called `name`, against the rules;
    /// `attempts` are those of its rows without a label.
    pub(super) fn judge(
        &self,
        name: &str,
        batch: &RecordBatch,
        attempts: &mut impl Iterator<Item = Attempts>,
        tally: &mut RowTally,
        found: &mut RowFindings,
    ) {
        let before = tally.rows;
        tally.rows += batch.num_rows() as u64;
        let Some((labels, reasons)) = self.label_columns(batch) else {
            found.labels.fail(format!("{name} has no columns for labels and reasons"));
            return;
        };
        let own = match self.own_labels {
            OwnLabels::Beside(column) => match existing_labels(batch, column) {
                Ok(own) => own,
                Err(error) => return found.labels.fail(format!("{name}: {error}")),
            },
            OwnLabels::None | OwnLabels::Replaced => Vec::new(),
        };
        for at in 0..batch.num_rows() {
            let place = || format!("row {} of {name}", before + at as u64 + 1);
            let label = labels.is_valid(at).then(|| labels.value(at));
            let reason = reasons.is_valid(at).then(|| reasons.value(at));
            let own = own.get(at).and_then(Option::as_deref);
            if let Some(problem) = self.problem_with(label, own) {
                found.labels.fail(format!("{} {problem}", place()));
            }
            match (label, reason) {
                (Some(_), None) => tally.labelled += 1,
                (Some(_), Some(_)) => {
                    tally.labelled += 1;
                    found.reasons.fail(format!("{} has a label and a reason for none", place()));
                }
                (None, None) => {
                    found.reasons.fail(format!("{} has neither a label nor a reason", place()));
                }
                (None, Some(reason)) => match Reason::from_name(reason) {
                    Some(reason) => {
                        let asked = attempts.next().unwrap_or_default();
                        *tally.unlabelled.entry((reason, asked)).or_default() += 1;
                    }
                    None => {
                        found
                            .reasons
                            .fail(format!("{} has the unknown reason {reason:?}", place()));
                    }
                },
            }
        }
    }

    fn label_columns<'b>(
        &self,
        batch: &'b RecordBatch,
    ) -> Option<(&'b StringArray, &'b StringArray)> {
        let strings = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
        Some((strings(self.label_column)?, strings(&self.reason_column)?))
    }

    fn problem_with(&self, label: Option<&str>, own: Option<&str>) -> Option<String> {
        if matches!(self.own_labels, OwnLabels::Replaced) {
            return None;
        }
        match (label, own) {
            (Some(label), Some(own)) if label == own => None,
            (_, Some(_)) => Some("does not have the label that the input gives it".to_owned()),
            (Some(label), None) if !self.names.contains(label) => {
                Some(format!("has the label {label:?}, which is not in the codebook"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::super::verdict::State;
    use super::*;

    fn rules(own_labels: OwnLabels<'static>) -> RowRules<'static> {
        RowRules {
            id_column: "id",
            label_column: "label",
            reason_column: "label_reason".into(),
            names: HashSet::from(["x", "y"]),
            own_labels,
        }
    }

    /// Judges rows of label, reason and own label; the states of labels and reasons, and the tally.
    fn judged(
        own_labels: OwnLabels<'static>,
        rows: &[(Option<&str>, Option<&str>, Option<&str>)],
    ) -> (State, State, RowTally) {
        let strings = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", ids, false),
            ("own", strings(rows.iter().map(|row| row.2).collect()), true),
            ("label", strings(rows.iter().map(|row| row.0).collect()), true),
            ("label_reason", strings(rows.iter().map(|row| row.1).collect()), true),
        ])
        .unwrap();
        let mut found = RowFindings {
            ids: Finding::new("ids"),
            labels: Finding::new("labels"),
            reasons: Finding::new("reasons"),
        };
        let mut tally = RowTally::default();
        let mut attempts = [3, 1].into_iter();
        rules(own_labels).judge("part", &batch, &mut attempts, &mut tally, &mut found);
        (found.labels.check("").state, found.reasons.check("").state, tally)
    }

    #[test]
    fn labels_of_the_codebook_and_known_reasons_hold_and_are_counted() {
        let rows =
            [(Some("x"), None, None), (None, Some("missing"), None), (None, Some("no_text"), None)];
        let (labels, reasons, tally) = judged(OwnLabels::None, &rows);
        assert_eq!((labels, reasons), (State::Ok, State::Ok));
        assert_eq!((tally.rows, tally.labelled), (3, 1));
        assert_eq!(
            tally.unlabelled(),
            [
                UnlabelledRows { reason: Reason::Missing, attempts: 3, rows: 1 },
                UnlabelledRows { reason: Reason::NoText, attempts: 1, rows: 1 },
            ]
        );
    }

    #[test]
    fn an_unknown_label_fails_unless_it_may_be_the_inputs_own() {
        let foreign = [(Some("z"), None, None)];
        assert_eq!(judged(OwnLabels::None, &foreign).0, State::Failed);
        assert_eq!(judged(OwnLabels::Beside("own"), &foreign).0, State::Failed);
        assert_eq!(judged(OwnLabels::Replaced, &foreign).0, State::Ok);
        let own = |label| [(label, None, Some("z"))];
        assert_eq!(judged(OwnLabels::Beside("own"), &own(Some("z"))).0, State::Ok);
        assert_eq!(judged(OwnLabels::Beside("own"), &own(Some("x"))).0, State::Failed);
        assert_eq!(judged(OwnLabels::Beside("own"), &own(None)).0, State::Failed);
    }

    #[test]
    fn exactly_one_of_label_and_known_reason_is_set() {
        for row in
            [(None, None, None), (Some("x"), Some("missing"), None), (None, Some("because"), None)]
        {
            assert_eq!(judged(OwnLabels::None, &[row]).1, State::Failed, "{row:?}");
        }
    }
}
