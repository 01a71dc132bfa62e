//! What one file of a part holds: all rows of its range, or, where nothing can be replaced, the
//! answered ones that stand in no file yet.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use super::part_identity::{PartError, UnlabelledRows};
use super::part_rows::{Holes, RowRuns};
use super::part_writer::SealedPart;
use crate::domain::{Outcome, PartNumber, PositionRange, RowId};

/// Rows on their way into a file.
pub(super) struct PartFile<'a> {
    pub(super) number: PartNumber,
    /// The positions of the part's rows, in this file or not.
    pub(super) range: PositionRange,
    /// The ids of the range's first and last row.
    pub(super) ids: (&'a RowId, &'a RowId),
    /// The input's columns of the file's rows, in id order.
    pub(super) columns: Vec<RecordBatch>,
    /// What became of them, in the same order.
    pub(super) outcomes: Vec<&'a Outcome>,
    /// Which rows of the range they are; `None`: all.
    pub(super) held: Option<RowRuns>,
    /// The rows of the range that stand in no file once this one does.
    pub(super) holes: Holes,
    /// All rows of the range without a label, in a file or not.
    pub(super) unlabelled: Vec<UnlabelledRows>,
}

impl<'a> PartFile<'a> {
    /// All rows of `part`.
    ///
    /// # Errors
    /// If rows, outcomes and range have different lengths.
    pub(super) fn whole(part: &'a SealedPart) -> Result<PartFile<'a>, PartError> {
        check_lengths(part.number, part.range, &part.columns, Some(part.outcomes.len()))?;
        Ok(PartFile {
            number: part.number,
            range: part.range,
            ids: (&part.first_id, &part.last_id),
            columns: part.columns.clone(),
            outcomes: part.outcomes.iter().collect(),
            held: None,
            holes: Holes::default(),
            unlabelled: UnlabelledRows::count(&part.outcomes),
        })
    }

    /// The rows of `part` that have a label and are not among `held`.
    ///
    /// It may come to no row at all. The file is made even so: reasons and attempts of the others
    /// stand in its footer, and rows whose attempts were kept nowhere would be asked, and paid for,
    /// by every run anew.
    ///
    /// # Errors
    /// If rows, outcomes and range have different lengths.
    pub(super) fn answered(
        part: &'a SealedPart,
        held: &RowRuns,
    ) -> Result<PartFile<'a>, PartError> {
        let whole = PartFile::whole(part)?;
        let mut is_held = vec![false; part.outcomes.len()];
        for offset in held.offsets() {
            if let Some(is_held) = usize::try_from(offset).ok().and_then(|at| is_held.get_mut(at)) {
                *is_held = true;
            }
        }
        let left = part.outcomes.iter().zip(&is_held).zip(0..);
        let holes = Holes::of(left.filter_map(|((outcome, is_held), offset)| match outcome {
            Outcome::Unlabelled { reason, attempts } if !is_held => {
                Some((offset, *reason, *attempts))
            }
            _ => None,
        }));
        let outcomes = part.outcomes.iter().zip(&is_held);
        let mask: Vec<bool> =
            outcomes.map(|(outcome, is_held)| outcome.is_labelled() && !is_held).collect();
        let wanted = part.outcomes.iter().zip(&mask).filter(|(_, wanted)| **wanted);
        Ok(PartFile {
            columns: filter(&part.columns, &mask).map_err(encode_error(part.number))?,
            outcomes: wanted.map(|(outcome, _)| outcome).collect(),
            held: mask.contains(&false).then(|| RowRuns::of_mask(&mask)),
            holes,
            ..whole
        })
    }

    /// The rows that were given up on, without labels: `holes`, whose outcomes are `outcomes`, of
    /// the whole range's `columns`.
    ///
    /// # Errors
    /// If `columns` are not those of the whole range.
    pub(super) fn given_up(
        number: PartNumber,
        range: PositionRange,
        ids: (&'a RowId, &'a RowId),
        columns: &[RecordBatch],
        holes: &Holes,
        outcomes: &'a [Outcome],
        unlabelled: Vec<UnlabelledRows>,
    ) -> Result<PartFile<'a>, PartError> {
        check_lengths(number, range, columns, None)?;
        let mut mask = vec![false; usize::try_from(range.rows).unwrap_or(usize::MAX)];
        for (offset, ..) in holes.iter() {
            if let Some(wanted) = usize::try_from(offset).ok().and_then(|at| mask.get_mut(at)) {
                *wanted = true;
            }
        }
        Ok(PartFile {
            number,
            range,
            ids,
            columns: filter(columns, &mask).map_err(encode_error(number))?,
            outcomes: outcomes.iter().collect(),
            held: mask.contains(&false).then(|| RowRuns::of_mask(&mask)),
            holes: Holes::default(),
            unlabelled,
        })
    }
}

fn filter(columns: &[RecordBatch], mask: &[bool]) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut rest = mask;
    let mut kept = Vec::with_capacity(columns.len());
    for batch in columns {
        let (these, after) = rest.split_at(batch.num_rows());
        rest = after;
        kept.push(filter_record_batch(batch, &BooleanArray::from(these.to_vec()))?);
    }
    Ok(kept)
}

fn encode_error(part: PartNumber) -> impl Fn(ArrowError) -> PartError {
    move |source| PartError::Encode { part, source: source.into() }
}

fn check_lengths(
    part: PartNumber,
    range: PositionRange,
    columns: &[RecordBatch],
    outcomes: Option<usize>,
) -> Result<(), PartError> {
    let rows: usize = columns.iter().map(RecordBatch::num_rows).sum();
    let counted = [Some((rows, "rows")), outcomes.map(|outcomes| (outcomes, "outcomes"))];
    for (found, what) in counted.into_iter().flatten() {
        if found as u64 != range.rows {
            return Err(PartError::Uneven {
                part,
                found: format!("{found} {what}"),
                wanted: format!("{}", range.rows),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::part_writer::tests::sealed;
    use super::*;
    use crate::domain::{Position, Reason};

    fn part() -> SealedPart {
        sealed(1, PositionRange { first: Position(0), rows: 7 })
    }

    #[test]
    fn a_file_holds_answered_rows_and_tells_of_the_others() {
        let part = part();
        let file = PartFile::answered(&part, &RowRuns::default()).unwrap();
        assert_eq!(
            file.held,
            Some(RowRuns::of_mask(&[false, true, true, false, true, true, false]))
        );
        assert_eq!(file.columns.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
        assert!(file.outcomes.iter().all(|outcome| outcome.is_labelled()));
        let holes: Vec<_> = file.holes.iter().collect();
        assert_eq!(holes, [0, 3, 6].map(|at| (at, Reason::Missing, (at % 2) as u16 + 1)));
        assert_eq!(file.unlabelled, file.holes.counts());
    }

    #[test]
    fn a_row_that_stands_goes_into_no_further_file() {
        let part = part();
        let held = RowRuns::of_mask(&[true, true, true, false, true, true, false]);
        let file = PartFile::answered(&part, &held).unwrap();
        assert_eq!((file.outcomes.len(), file.held), (0, Some(RowRuns::default())));
        assert_eq!(file.holes.iter().map(|(at, ..)| at).collect::<Vec<_>>(), [3, 6]);
        // The first row was given up on and stands; it still has no label.
        assert_eq!(file.unlabelled.iter().map(|rows| rows.rows).sum::<u64>(), 3);
    }

    #[test]
    fn given_up_rows_come_out_of_the_whole_ranges_columns() {
        let part = part();
        let open = PartFile::answered(&part, &RowRuns::default()).unwrap();
        let outcomes = open.holes.outcomes();
        let file = PartFile::given_up(
            part.number,
            part.range,
            open.ids,
            &part.columns,
            &open.holes,
            &outcomes,
            open.unlabelled,
        );
        let file = file.unwrap();
        assert_eq!(file.columns.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        assert_eq!(file.held.unwrap().offsets().collect::<Vec<_>>(), [0, 3, 6]);
        assert!(file.holes.is_empty());
    }
}
