//! What a run does about an input that changed: it is compared with the finished parts, once, and
//! what they lack is planned.
//!
//! Every decision follows from the input and the parts alone, so that a run which was killed in
//! between is repeated, not repaired. Parts that were not written when the input changed are
//! released and all rows that stand in no part are planned anew: a position never changes its row.

use arrow::array::{Array as _, RecordBatch};

use super::RunError;
use super::merge::{Changes, Finished, Text};
use super::standing_rows::{StandingRow, StandingRows};
use super::work::Work;
use crate::domain::{Interleaved, JobSpec, PartNumber, Position, PositionRange, RowId};
use crate::input::{InputReader, InputRow, OrderedInput};
use crate::output::{
    Job, KnownInput, Layout, OpenOutput, OutputError, PartError, PartRecord, PartScan, Revision,
};

/// How the input stands to the output, after everything to be done is planned.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// How it differs from the finished parts; `None` if a row's place in it is its position.
    pub(super) changes: Option<Changes>,
    /// What a person should know of it, a sentence.
    pub(super) message: Option<String>,
}

/// Plans what the `input` of the job `now` has and the `output` lacks.
///
/// # Errors
/// If the input or a part can't be read, the plan can't be written, or the change is one that the
/// output can't follow. Then the plan is as it was.
pub(super) fn settle(
    job: &JobSpec,
    now: &Job,
    input: &OrderedInput,
    output: &mut OpenOutput,
) -> Result<Growth, RunError> {
    let is_known = output.known_input().is_read_by(now);
    let goes_on = is_known && !lacks_earlier_parts(output);
    if goes_on {
        output.extend_plan(rows_wanted(job, output.known_input()), job.output.rows_per_part())?;
        let known = output.known_input();
        let is_in_place = !known.is_later() || !reads_input(job, output);
        if is_in_place && known.has_its_texts(output.records()) {
            return Ok(Growth::default());
        }
    }
    let changes = compare(job, input, output)?;
    if goes_on && fits(&changes, output) {
        return Ok(Growth { changes: Some(changes), message: None });
    }
    let undone = rows_in_no_file(output);
    if !can_follow(output.job().layout) && undone > 0 && changes.are_none(undone) {
        // The same rows in files of another time or name; nothing has to be noted to go on.
        output.extend_plan(rows_wanted(job, output.known_input()), job.output.rows_per_part())?;
        return Ok(Growth::default());
    }
    let description = describe(&changes, output);
    if is_refused(can_follow(output.job().layout), &changes) {
        return Err(RunError::CanNotGrow { path: location(output), changes: description });
    }
    let generation = |part: &PartNumber| Some((*part, output.records().get(part)?.generation));
    let revision = Revision {
        files: now.input.files.clone(),
        rows: now.input.rows,
        vanished: changes.vanished,
        released: Revision::runs_of(missing_parts(output)),
        changed: changes.changed.keys().filter_map(generation).collect(),
    };
    let wanted = limited(job, revision.rows) + revision.vanished;
    output.revise_plan(revision, wanted, job.output.rows_per_part())?;
    Ok(Growth { changes: Some(changes), message: (!is_known).then_some(description) })
}

/// Whether rows of the input are needed for the parts that are to be written.
fn reads_input(job: &JobSpec, output: &OpenOutput) -> bool {
    let has_texts = output.reader().schema().hash_column().is_none();
    let work = Work::find(job, output.plan(), output.records(), None);
    missing_parts(output).next().is_some() || !(has_texts || work.is_empty())
}

/// How many rows of an output over `input` are to be planned in all.
pub(super) fn rows_wanted(job: &JobSpec, input: &KnownInput) -> u64 {
    limited(job, input.revision.rows) + input.revision.vanished
}

fn limited(job: &JobSpec, rows: u64) -> u64 {
    job.row_limit.map_or(rows, |limit| limit.get().min(rows))
}

fn missing_parts(output: &OpenOutput) -> impl Iterator<Item = PartNumber> {
    output.plan().part_numbers().filter(|part| !output.records().contains_key(part))
}

/// Whether a part is gone that held rows of an earlier input: which ones nobody knows any more.
fn lacks_earlier_parts(output: &OpenOutput) -> bool {
    let first_part = output.known_input().first_part;
    missing_parts(output).next().is_some_and(|part| part < first_part)
}

/// Whether the rows that stand in no part are as many as the output lacks. If not, a file changed
/// and kept its size and time.
fn fits(changes: &Changes, output: &OpenOutput) -> bool {
    changes.unfinished_rows() == rows_lacking(output)
}

/// Rows of the input as it was known that stand in no part.
fn rows_lacking(output: &OpenOutput) -> u64 {
    let finished: u64 = output.records().values().map(|record| record.range.rows).sum();
    output.known_input().whole_rows().saturating_sub(finished)
}

/// Rows of the input as it was known that stand in no file.
fn rows_in_no_file(output: &OpenOutput) -> u64 {
    let absent: u64 = output.records().values().map(PartRecord::absent_rows).sum();
    rows_lacking(output) + absent
}

/// Whether finished rows can be asked again, and new ones join them.
fn can_follow(layout: Layout) -> bool {
    match layout {
        Layout::Replace => true,
        Layout::Append => false,
    }
}

fn is_refused(can_follow: bool, changes: &Changes) -> bool {
    !can_follow && (changes.unfinished_rows() > 0 || changes.changed_rows() > 0)
}

fn describe(changes: &Changes, output: &OpenOutput) -> String {
    in_words(changes, rows_lacking(output) > 0)
}

/// What changed, with counts. Where rows `were_lacking` before, new ones can't be told from them.
fn in_words(changes: &Changes, were_lacking: bool) -> String {
    let mut found = Vec::new();
    match (changes.unfinished_rows(), were_lacking) {
        (0, _) => {}
        (rows, false) => found.push(format!("{rows} new rows")),
        (rows, true) => found.push(format!("{rows} rows that are new or were not done")),
    }
    match changes.changed_rows() {
        0 => {}
        rows => found.push(format!("{rows} with another text")),
    }
    if changes.vanished > 0 {
        let mut ids: Vec<String> = changes.first_vanished.iter().map(RowId::to_string).collect();
        if changes.vanished > ids.len() as u64 {
            ids.push("...".to_owned());
        }
        let (rows, ids) = (changes.vanished, ids.join(", "));
        found.push(format!("{rows} finished rows that it no longer has (ids {ids})"));
    }
    match found.is_empty() {
        true => "the input's files changed, its rows did not".to_owned(),
        false => format!("the input changed: {}", found.join(", ")),
    }
}

fn location(output: &OpenOutput) -> String {
    output.folder().location().to_string()
}

/// Merges the input with the parts that stand.
fn compare(job: &JobSpec, input: &OrderedInput, output: &OpenOutput) -> Result<Changes, RunError> {
    let label_column = job.output.label_column.as_str();
    let reader = output.reader();
    let has_texts = reader.schema().hash_column().is_none();
    let is_replaced = job.input.existing_label.as_deref() == Some(label_column);
    if has_texts && is_replaced && job.input.text.columns().any(|column| column == label_column) {
        let (path, column) = (location(output), label_column.to_owned());
        return Err(RunError::CanNotCompare { path, column });
    }
    let rows = StandingRows::new(job, reader.schema())?;
    let columns = rows.columns();
    // No file of a part begins before the part does.
    let files = output.records().values().flat_map(|record| {
        let names = reader.file_names(record.part).into_iter();
        names.map(|name| (record.first_id.clone(), (record.part, name)))
    });
    let finished = Interleaved::new(files, |(part, name)| {
        let damaged = |source| damaged_part(output, source);
        let scan = reader.scan(&name, &columns).map_err(damaged)?;
        let differences = reader.schema().differences_from(scan.schema());
        if !differences.is_empty() {
            let path = location(output);
            return Err(OutputError::JobChanged { path, differences }.into());
        }
        let range = scan.identity().range;
        let positions = scan.identity().offsets().map(|offset| Position(range.first.0 + offset));
        let positions = positions.collect::<Vec<_>>().into_iter();
        let (batch, needs_text) = (Vec::new().into_iter(), Vec::new().into_iter());
        Ok(PartRows { output, part, rows: &rows, scan, positions, offset: 0, batch, needs_text })
    });
    let all = PositionRange { first: Position(0), rows: input.rows() };
    let chunks = input.read(vec![all])?;
    Changes::find(InputTexts { chunks, batch: Vec::new().into_iter() }, finished)
}

fn damaged_part(output: &OpenOutput, source: PartError) -> RunError {
    OutputError::Part { path: location(output), source }.into()
}

/// The ids and texts of an input, in order.
struct InputTexts {
    chunks: InputReader,
    batch: std::vec::IntoIter<InputRow>,
}

impl Iterator for InputTexts {
    type Item = Result<(RowId, Text), RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok((row.id, Text::of(row.text))));
            }
            match self.chunks.next()? {
                Ok(chunk) => self.batch = chunk.rows.into_iter(),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// The ids and texts of a part, in order.
struct PartRows<'a> {
    output: &'a OpenOutput,
    part: PartNumber,
    rows: &'a StandingRows,
    scan: PartScan,
    positions: std::vec::IntoIter<Position>,
    offset: usize,
    batch: std::vec::IntoIter<StandingRow>,
    /// Whether each row of the batch has no label, where it does not have its text either.
    needs_text: std::vec::IntoIter<bool>,
}

impl PartRows<'_> {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        if self.rows.lack_text() {
            let labels = batch.column_by_name(self.output.reader().schema().label_column());
            let no_labels = || RunError::Internal("a part without labels".into());
            let labels = labels.ok_or_else(no_labels)?;
            let needs_text: Vec<bool> = (0..labels.len()).map(|at| labels.is_null(at)).collect();
            self.needs_text = needs_text.into_iter();
        }
        self.batch = self.rows.read(batch)?.into_iter();
        Ok(())
    }
}

impl Iterator for PartRows<'_> {
    type Item = Result<(RowId, Finished), RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                let (part, offset) = (self.part, self.offset);
                let needs_text = self.needs_text.next().unwrap_or(false);
                let (id, text) = row.into_text();
                // A file with more rows than its footer says is torn, and was not opened.
                let position = self.positions.next().unwrap_or(Position(u64::MAX));
                self.offset += 1;
                return Some(Ok((id, Finished { part, offset, position, text, needs_text })));
            }
            let read = match self.scan.next()? {
                Ok(batch) => self.take(&batch),
                Err(source) => Err(damaged_part(self.output, source)),
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(unfinished: u64, vanished: u64) -> Changes {
        let range = PositionRange { first: Position(0), rows: unfinished };
        Changes {
            unfinished: vec![range],
            vanished,
            first_vanished: (0..vanished.min(2)).map(|id| RowId::Integer(id.into())).collect(),
            ..Changes::default()
        }
    }

    #[test]
    fn a_change_is_told_with_counts_and_the_first_ids() {
        assert_eq!(in_words(&changes(0, 0), true), "the input's files changed, its rows did not");
        assert_eq!(in_words(&changes(1200, 0), false), "the input changed: 1200 new rows");
        assert_eq!(
            in_words(&changes(7, 3), true),
            "the input changed: 7 rows that are new or were not done, 3 finished rows that it no \
             longer has (ids 0, 1, ...)"
        );
    }

    #[test]
    fn where_nothing_can_be_replaced_new_rows_are_refused_and_a_touched_file_is_not() {
        assert!(is_refused(false, &changes(1, 0)) && !is_refused(true, &changes(1, 0)));
        assert!(!is_refused(false, &changes(0, 5)));
    }
}
