//! The questions that are put to the parts, as Polars queries.
//!
//! They name their columns and fold as they stream; what comes back has one row per label and
//! reason.

use std::path::PathBuf;

use polars::io::HiveOptions;
use polars::prelude::{
    DataFrame, DataType, Engine, Expr, LazyFrame, PlRefPath, PolarsError, PolarsResult,
    ScanArgsParquet, SortMultipleOptions, len,
};

use super::columns::Wanted;
use super::{Group, LabelCount, SummaryError};

const LABEL: &str = "label";
const REASON: &str = "reason";
const GOLD: &str = "gold";
const ROWS: &str = "rows";
const COMPARED: &str = "compared";
const CORRECT: &str = "correct";

/// The rows of `files`, counted by label and reason.
pub(super) fn groups(files: &[PathBuf], wanted: &Wanted) -> Result<Vec<Group>, SummaryError> {
    let counts = counts_by_label_and_reason(files, wanted).map_err(failed)?;
    read_groups(&counts).map_err(failed)
}

/// The most frequent known answer among the rows that have a label and one; of equally frequent
/// ones the first by name.
pub(super) fn most_frequent_answer(
    files: &[PathBuf],
    wanted: &Wanted,
) -> Result<Option<LabelCount>, SummaryError> {
    let ask = || {
        let both = named(LABEL).is_not_null().and(named(GOLD).is_not_null());
        let order = SortMultipleOptions::new().with_order_descending_multi([true, false]);
        let top = scan(files, wanted)?
            .filter(both)
            .group_by([named(GOLD)])
            .agg([len().alias(ROWS)])
            .sort_by_exprs([named(ROWS), named(GOLD)], order)
            .limit(1);
        let top = collected(top)?;
        let label = text_at(&top, GOLD, 0)?;
        Ok(match label {
            Some(label) => Some(LabelCount { label, rows: count_at(&top, ROWS, 0)? }),
            None => None,
        })
    };
    ask().map_err(failed)
}

fn counts_by_label_and_reason(files: &[PathBuf], wanted: &Wanted) -> PolarsResult<DataFrame> {
    let mut counts = vec![len().alias(ROWS)];
    if wanted.gold.is_some() {
        // A sum skips the nulls that a comparison with null gives.
        let both = named(LABEL).is_not_null().and(named(GOLD).is_not_null());
        counts.push(both.sum().alias(COMPARED));
        counts.push(named(LABEL).eq(named(GOLD)).sum().alias(CORRECT));
    }
    collected(scan(files, wanted)?.group_by([named(LABEL), named(REASON)]).agg(counts))
}

/// The wanted columns of all files, as text, under fixed names.
fn scan(files: &[PathBuf], wanted: &Wanted) -> PolarsResult<LazyFrame> {
    let paths =
        files.iter().map(|file| PlRefPath::try_from_path(file)).collect::<PolarsResult<_>>()?;
    let literally = ScanArgsParquet {
        glob: false,
        hive_options: HiveOptions::new_disabled(),
        cache: false,
        ..ScanArgsParquet::default()
    };
    let mut columns = vec![as_text(&wanted.label, LABEL), as_text(&wanted.reason, REASON)];
    columns.extend(wanted.gold.as_deref().map(|gold| as_text(gold, GOLD)));
    Ok(LazyFrame::scan_parquet_files(paths, literally)?.select(columns))
}

fn as_text(column: &str, name: &str) -> Expr {
    named(column).cast(DataType::String).alias(name)
}

/// This column and no other: `col` would read `*` and `^...$` as patterns.
fn named(column: &str) -> Expr {
    Expr::Column(column.into())
}

fn collected(query: LazyFrame) -> PolarsResult<DataFrame> {
    Ok(query.collect_with_engine(Engine::Streaming)?.unwrap_single())
}

fn read_groups(counts: &DataFrame) -> PolarsResult<Vec<Group>> {
    let has_gold = counts.column(COMPARED).is_ok();
    let count_if_gold = |name, row| if has_gold { count_at(counts, name, row) } else { Ok(0) };
    (0..counts.height())
        .map(|row| {
            Ok(Group {
                label: text_at(counts, LABEL, row)?,
                reason: text_at(counts, REASON, row)?,
                rows: count_at(counts, ROWS, row)?,
                compared: count_if_gold(COMPARED, row)?,
                correct: count_if_gold(CORRECT, row)?,
            })
        })
        .collect()
}

fn text_at(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<Option<String>> {
    Ok(frame.column(column)?.str()?.get(row).map(str::to_owned))
}

fn count_at(frame: &DataFrame, column: &str, row: usize) -> PolarsResult<u64> {
    Ok(frame.column(column)?.get(row)?.extract::<u64>().unwrap_or_default())
}

fn failed(error: PolarsError) -> SummaryError {
    let message = error.to_string();
    SummaryError::Engine { message: message.lines().next().unwrap_or_default().to_owned() }
}
