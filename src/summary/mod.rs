//! Counts and accuracy over finished parts.
//!
//! Every number is counted from the parts themselves, by one scan that reads the label, its reason
//! and the known answer and no other column, in memory that does not grow with the rows.

mod agreement;
mod columns;
mod scan;

use std::path::PathBuf;

use serde::Serialize;

pub use agreement::Agreement;
pub use columns::ColumnUse;

use crate::domain::spec::reason_column;

/// What stands in a set of finished parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// All rows.
    pub rows: u64,
    /// Of those, rows with a label; the empty string is one.
    pub labelled: u64,
    /// Each label that occurs, the most frequent first, equal ones by name.
    pub labels: Vec<LabelCount>,
    /// Why the other rows have none, the most frequent reason first.
    pub unlabelled: Vec<ReasonCount>,
    /// How the labels compare with the known answers, if a column of them was named.
    pub agreement: Option<Agreement>,
}

/// How often a label occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCount {
    /// The label's name.
    pub label: String,
    /// Rows that carry it.
    pub rows: u64,
}

/// How often there is no label for this reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// The reason as it stands in the output; `None` where the part gives none.
    pub reason: Option<String>,
    /// Rows without a label for this reason.
    pub rows: u64,
}

/// Why parts can't be summed up.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The file system refused.
    #[error("part {} can't be opened", .part.display())]
    Open {
        /// Which part.
        part: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file's end is no Parquet footer.
    #[error("part {} is no complete Parquet file; `batchclass verify` says which parts are", .part.display())]
    Footer {
        /// Which part.
        part: PathBuf,
        /// What is wrong with it.
        source: parquet::errors::ParquetError,
    },
    /// A column that is to be counted is not there.
    #[error("part {} has no {of} `{column}`", .part.display())]
    NoColumn {
        /// Which part.
        part: PathBuf,
        /// What the column is for.
        of: ColumnUse,
        /// Its name.
        column: String,
    },
    /// A column that is to be counted can't be compared as text.
    #[error(
        "the {of} `{column}` of part {} is of the type {kind}; it has to be text, an integer or a boolean",
        .part.display()
    )]
    NotText {
        /// Which part.
        part: PathBuf,
        /// What the column is for.
        of: ColumnUse,
        /// Its name.
        column: String,
        /// Its Arrow type.
        kind: String,
    },
    /// The counting engine can't open a file with such a column, even unread.
    #[error(
        "labels can't be counted: the column `{column}` of part {} is of the type {kind}, \
         which the counting engine does not know; the parts themselves are sound",
        .part.display()
    )]
    UnknownType {
        /// Which part.
        part: PathBuf,
        /// The column's name.
        column: String,
        /// Its Arrow type.
        kind: String,
    },
    /// The counting engine failed.
    #[error("labels can't be counted: {message}")]
    Engine {
        /// The first line of what it says.
        message: String,
    },
}

/// Sums up the parts `files`, whose labels stand in `label_column` and the reasons for missing ones
/// in the column that adds `_reason` to its name; `gold` names a column with known answers.
///
/// No files are no rows. The order of `files` does not matter.
///
/// # Errors
/// If a part can't be opened or is not whole, lacks one of the columns, or has one whose type can't
/// be counted. Whatever the files hold, it does not panic.
pub fn of_parts(
    files: &[PathBuf],
    label_column: &str,
    gold: Option<&str>,
) -> Result<Summary, SummaryError> {
    let Some(first) = files.first() else {
        return Ok(Summary { agreement: gold.map(|_| Agreement::default()), ..Summary::default() });
    };
    let wanted = columns::Wanted {
        label: label_column.to_owned(),
        reason: reason_column(label_column),
        gold: gold.map(str::to_owned),
    };
    columns::check(first, &wanted)?;
    let groups = isolated(|| scan::groups(files, &wanted))?;
    let mut summary = summed_up(groups, gold.is_some());
    if let Some(agreement) = &mut summary.agreement
        && agreement.compared > 0
    {
        agreement.majority = isolated(|| scan::most_frequent_answer(files, &wanted))?;
    }
    Ok(summary)
}

/// Rows that share a label and a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    label: Option<String>,
    reason: Option<String>,
    rows: u64,
    compared: u64,
    correct: u64,
}

fn summed_up(groups: Vec<Group>, has_gold: bool) -> Summary {
    let mut summary = Summary::default();
    let mut agreement = Agreement::default();
    let mut labels = std::collections::BTreeMap::<String, u64>::new();
    for group in groups {
        summary.rows += group.rows;
        agreement.compared += group.compared;
        agreement.correct += group.correct;
        match group.label {
            Some(label) => {
                summary.labelled += group.rows;
                *labels.entry(label).or_default() += group.rows;
            }
            None => {
                summary.unlabelled.push(ReasonCount { reason: group.reason, rows: group.rows });
            }
        }
    }
    summary.labels = labels.into_iter().map(|(label, rows)| LabelCount { label, rows }).collect();
    summary.labels.sort_by_key(|count| std::cmp::Reverse(count.rows));
    summary.unlabelled.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.reason.cmp(&b.reason)));
    summary.agreement = has_gold.then_some(agreement);
    summary
}

/// Runs `count` on a thread of its own: the engine blocks on a runtime that must not be entered
/// from within another, and a panic in it ends the thread, not the program.
fn isolated<T: Send>(
    count: impl FnOnce() -> Result<T, SummaryError> + Send,
) -> Result<T, SummaryError> {
    let failed = |message: &str| SummaryError::Engine { message: message.to_owned() };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("summary".to_owned())
            .spawn_scoped(scope, count)
            .map_err(|error| failed(&format!("no thread could be started: {error}")))?
            .join()
            .unwrap_or_else(|_| {
                Err(failed("a part is damaged; `batchclass verify` says which one"))
            })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use arrow::array::{
        Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array,
    };
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
    use parquet::arrow::ArrowWriter;
    use tempfile::TempDir;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test makes its own parts")]
    fn write_part(folder: &Path, number: u32, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = folder.join(format!("part-{number:06}.parquet"));
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn labelled(
        folder: &Path,
        number: u32,
        labels: &[Option<&str>],
        gold: &[Option<&str>],
    ) -> PathBuf {
        let reasons: Vec<_> =
            labels.iter().map(|label| label.map_or(Some("missing"), |_| None)).collect();
        let columns = vec![
            ("label", texts(labels)),
            ("label_reason", texts(&reasons)),
            ("gold", texts(gold)),
        ];
        write_part(folder, number, columns)
    }

    fn counts(summary: &Summary) -> Vec<(&str, u64)> {
        summary.labels.iter().map(|count| (count.label.as_str(), count.rows)).collect()
    }

    #[test]
    fn labels_and_reasons_are_counted_over_all_parts() {
        let folder = TempDir::new().unwrap();
        let one = write_part(
            folder.path(),
            1,
            vec![
                ("label", texts(&[Some("b"), None, Some("a"), Some("")])),
                ("label_reason", texts(&[None, Some("missing"), None, None])),
            ],
        );
        let two = write_part(
            folder.path(),
            2,
            vec![
                ("label", texts(&[Some("b"), None, None, None])),
                ("label_reason", texts(&[None, Some("refused"), Some("refused"), None])),
            ],
        );
        let summary = of_parts(&[two, one], "label", None).unwrap();
        assert_eq!((summary.rows, summary.labelled), (8, 4));
        assert_eq!(counts(&summary), [("b", 2), ("", 1), ("a", 1)]);
        let reasons: Vec<_> =
            summary.unlabelled.iter().map(|count| (count.reason.as_deref(), count.rows)).collect();
        assert_eq!(reasons, [(Some("refused"), 2), (None, 1), (Some("missing"), 1)]);
        assert_eq!(summary.agreement, None);
    }

    #[test]
    fn only_rows_with_a_label_and_an_answer_are_compared() {
        let folder = TempDir::new().unwrap();
        let labels = [Some("a"), Some("a"), Some("b"), None, Some("a"), Some("B")];
        let gold = [Some("a"), Some("b"), Some("b"), Some("a"), None, Some("b")];
        let part = labelled(folder.path(), 1, &labels, &gold);
        let agreement = of_parts(&[part], "label", Some("gold")).unwrap().agreement.unwrap();
        assert_eq!((agreement.compared, agreement.correct), (4, 2));
        assert_eq!(agreement.majority, Some(LabelCount { label: "b".into(), rows: 3 }));
        assert_eq!(agreement.majority_accuracy(), Some(0.75));
    }

    #[test]
    fn equally_frequent_answers_give_the_first_by_name() {
        let folder = TempDir::new().unwrap();
        let both = [Some("z"), Some("m"), Some("z"), Some("m"), Some("a")];
        let part = labelled(folder.path(), 1, &both, &both);
        let agreement = of_parts(&[part], "label", Some("gold")).unwrap().agreement.unwrap();
        assert_eq!(agreement.majority.unwrap().label, "m");
    }

    #[test]
    fn no_parts_and_no_labels_are_zeros_not_errors() {
        let empty = of_parts(&[], "label", Some("gold")).unwrap();
        assert_eq!((empty.rows, empty.agreement.unwrap().compared), (0, 0));

        let folder = TempDir::new().unwrap();
        let part = labelled(folder.path(), 1, &[None, None], &[Some("a"), None]);
        let summary = of_parts(&[part], "label", Some("gold")).unwrap();
        assert_eq!((summary.rows, summary.labelled), (2, 0));
        let agreement = summary.agreement.unwrap();
        assert_eq!((agreement.compared, agreement.accuracy(), agreement.majority), (0, None, None));
    }

    #[test]
    fn integer_boolean_and_dictionary_answers_compare_by_their_spelling() {
        let folder = TempDir::new().unwrap();
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let as_dictionary = cast(&texts(&[Some("3"), Some("true")]), &dictionary).unwrap();
        let answers: [(ArrayRef, u64); 3] = [
            (Arc::new(Int64Array::from(vec![3, 4])), 1),
            (Arc::new(BooleanArray::from(vec![false, true])), 1),
            (as_dictionary, 2),
        ];
        for (gold, correct) in answers {
            let part = write_part(
                folder.path(),
                1,
                vec![
                    ("label", texts(&[Some("3"), Some("true")])),
                    ("label_reason", texts(&[None, None])),
                    ("gold", Arc::clone(&gold)),
                ],
            );
            let summary = of_parts(&[part], "label", Some("gold")).unwrap();
            let agreement = summary.agreement.unwrap();
            assert_eq!(
                (agreement.compared, agreement.correct),
                (2, correct),
                "{}",
                gold.data_type()
            );
        }
    }

    /// Types that inputs hold beside their texts.
    fn types_beside() -> Vec<DataType> {
        let item = |kind| Arc::new(Field::new("item", kind, true));
        let pair = Fields::from(vec![
            Field::new("keys", DataType::Utf8, false),
            Field::new("values", DataType::Int32, true),
        ]);
        let mut types = vec![
            DataType::Null,
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Date32,
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Binary,
            DataType::LargeBinary,
            DataType::BinaryView,
            DataType::FixedSizeBinary(16),
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Decimal32(9, 2),
            DataType::Decimal64(18, 2),
            DataType::Decimal128(38, 10),
            DataType::List(item(DataType::Int64)),
            DataType::LargeList(item(DataType::Utf8)),
            DataType::FixedSizeList(item(DataType::Float32), 3),
            DataType::Struct(pair.clone()),
            DataType::List(item(DataType::Struct(pair.clone()))),
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false),
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
            DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::LargeUtf8)),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64)),
            DataType::Float16,
            DataType::Decimal256(70, 2),
            DataType::Interval(IntervalUnit::YearMonth),
            DataType::Interval(IntervalUnit::DayTime),
        ];
        for unit in
            [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
        {
            types.push(DataType::Duration(unit));
            for zone in
                [None, Some("UTC"), Some("Europe/Berlin"), Some("+02:00"), Some("Mars/Crater")]
            {
                types.push(DataType::Timestamp(unit, zone.map(Into::into)));
            }
        }
        types
    }

    #[test]
    fn a_column_of_any_type_beside_the_labels_is_counted_past_or_named() {
        let folder = TempDir::new().unwrap();
        let mut refused = Vec::new();
        for kind in types_beside() {
            let beside = new_null_array(&kind, 2);
            let part = write_part(
                folder.path(),
                1,
                vec![
                    ("beside", beside),
                    ("label", texts(&[Some("a"), None])),
                    ("label_reason", texts(&[None, Some("missing")])),
                ],
            );
            match of_parts(&[part], "label", None) {
                Ok(summary) => assert_eq!((summary.rows, summary.labelled), (2, 1), "{kind}"),
                Err(SummaryError::UnknownType { column, kind, .. }) => {
                    assert_eq!(column, "beside");
                    refused.push(kind);
                }
                Err(error) => panic!("{kind}: {error}"),
            }
        }
        assert_eq!(
            refused,
            ["Float16", "Decimal256(70, 2)", "Interval(YearMonth)", "Interval(DayTime)"]
        );
    }

    #[test]
    fn column_names_that_look_like_patterns_are_names() {
        let folder = TempDir::new().unwrap();
        for name in ["*", "^.*$", "a.b", "größe \"x\"", ""] {
            let part = write_part(
                folder.path(),
                1,
                vec![
                    (name, texts(&[Some("x")])),
                    (&reason_column(name), texts(&[None])),
                    ("gold", texts(&[Some("x")])),
                ],
            );
            let summary = of_parts(&[part], name, Some("gold")).unwrap();
            assert_eq!(counts(&summary), [("x", 1)], "{name}");
            assert_eq!(summary.agreement.unwrap().correct, 1, "{name}");
        }
    }

    #[test]
    fn paths_that_look_like_patterns_or_partitions_are_paths() {
        let folder = TempDir::new().unwrap();
        for name in ["label=7", "part[1]*?", "50% {x}", "a//b", "s3:"] {
            let inner = folder.path().join(name);
            std::fs::create_dir_all(&inner).unwrap();
            let part = labelled(&inner, 1, &[Some("a")], &[None]);
            let summary = of_parts(&[part], "label", None).unwrap();
            assert_eq!(counts(&summary), [("a", 1)], "{name}");
        }
    }

    #[test]
    fn a_missing_or_uncountable_column_is_named() {
        let folder = TempDir::new().unwrap();
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let part = write_part(
            folder.path(),
            1,
            vec![
                ("label", texts(&[None])),
                ("label_reason", texts(&[None])),
                ("answers", new_null_array(&list, 1)),
            ],
        );
        let missing = of_parts(std::slice::from_ref(&part), "label", Some("gold")).unwrap_err();
        assert!(missing.to_string().ends_with("has no gold column `gold`"), "{missing}");
        let missing = of_parts(std::slice::from_ref(&part), "category", None).unwrap_err();
        assert!(missing.to_string().ends_with("has no label column `category`"), "{missing}");
        let list = of_parts(&[part], "label", Some("answers")).unwrap_err();
        assert!(matches!(list, SummaryError::NotText { of: ColumnUse::Gold, .. }), "{list}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test damages its own parts")]
    fn damaged_and_absent_parts_are_errors_wherever_they_stand() {
        let folder = TempDir::new().unwrap();
        let sound = labelled(folder.path(), 1, &[Some("a")], &[None]);
        let bytes = std::fs::read(&sound).unwrap();
        let cut = folder.path().join("cut.parquet");
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let empty = folder.path().join("empty.parquet");
        std::fs::write(&empty, b"").unwrap();
        for bad in [cut, empty, folder.path().join("absent.parquet")] {
            for files in [vec![bad.clone()], vec![sound.clone(), bad.clone()]] {
                let error = of_parts(&files, "label", None).unwrap_err().to_string();
                assert!(!error.is_empty() && !error.contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn a_summary_can_be_asked_for_within_a_runtime() {
        let folder = TempDir::new().unwrap();
        let part = labelled(folder.path(), 1, &[Some("a")], &[Some("a")]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let summary = runtime.block_on(async { of_parts(&[part], "label", Some("gold")) }).unwrap();
        assert_eq!(summary.agreement.unwrap().accuracy(), Some(1.0));
    }
}
