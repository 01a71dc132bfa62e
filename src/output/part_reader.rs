//! A part's rows and what became of them. What is torn, damaged or another job's is refused, never
//! read as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::found::Found;
use super::job::{Fingerprint, Layout};
use super::names::{self, Generation};
use super::part_identity::{PartError, PartIdentity, guard};
use super::part_rows::Composition;
use super::part_scan::PartScan;
use super::part_schema::PartSchema;
use super::standing::refuse_overlap;
use super::store::{Store, StoreError};
use crate::domain::{Attempts, Codebook, Outcome, PartNumber, Reason};

const ROWS_PER_BATCH: usize = 8_192;

/// Reads parts of one job.
#[derive(Clone)]
pub struct PartReader {
    store: Arc<dyn Store>,
    job: Fingerprint,
    schema: PartSchema,
    codebook: Arc<Codebook>,
    layout: Layout,
    /// The generations that stand.
    files: Arc<BTreeMap<PartNumber, Vec<Generation>>>,
}

/// A part, read.
#[derive(Clone, Debug)]
pub struct PartContents {
    /// What its newest footer says.
    pub identity: PartIdentity,
    /// The input's columns of its rows that stand in a file, in id order, in batches of at most
    /// 8,192 rows. Where the output's label column took the place of the input's, it comes back
    /// with all labels.
    pub columns: Vec<RecordBatch>,
    /// What became of each row of the range, in the same order, also of those that stand in no
    /// file. A label of the codebook counts as given, any other as the input's own.
    pub outcomes: Vec<Outcome>,
}

impl PartReader {
    /// A reader of the parts of `job` in `store`, each of one file.
    pub(super) fn new(
        store: Arc<dyn Store>,
        job: Fingerprint,
        schema: PartSchema,
        codebook: Arc<Codebook>,
    ) -> PartReader {
        let files = Arc::default();
        PartReader { store, job, schema, codebook, layout: Layout::Replace, files }
    }

    /// This reader, for parts of the files that `found` tells of: where nothing is replaced, a
    /// part is more than one. What is written later it does not see.
    pub(super) fn of_files(self, found: &Found) -> PartReader {
        let files = found.files.iter();
        let files = files.map(|(part, files)| (*part, files.whole.keys().copied().collect()));
        PartReader { layout: found.job.layout, files: Arc::new(files.collect()), ..self }
    }

    /// The whole part: what stands in its files, put together.
    ///
    /// # Errors
    /// If a file is torn, damaged, foreign, newer than this program or can't be read, or if two
    /// files hold the same row.
    pub fn read(&self, part: PartNumber) -> Result<PartContents, PartError> {
        let first = [1];
        let generations = match (self.layout, self.files.get(&part)) {
            (Layout::Append, Some(generations)) => generations.as_slice(),
            _ => &first,
        };
        let mut files = Vec::with_capacity(generations.len());
        for generation in generations {
            let name = names::part_file(self.layout, part, *generation);
            files.push((*generation, self.decode(&name, self.store.read(&name)?)?));
        }
        match (files.pop(), files.is_empty()) {
            (Some((_, only)), true) if only.identity.held.is_none() => Ok(only),
            (Some((generation, newest)), _) => {
                let identity = newest.identity.clone();
                files.push((generation, newest));
                compose(identity, files)
            }
            (None, _) => Err(StoreError::NotFound { name: part.file_name() }.into()),
        }
    }

    /// The names of the part's files.
    pub fn file_names(&self, part: PartNumber) -> Vec<String> {
        let first = [1];
        let generations = match (self.layout, self.files.get(&part)) {
            (Layout::Append, Some(generations)) => generations.as_slice(),
            _ => &first,
        };
        let names = generations.iter();
        names.map(|generation| names::part_file(self.layout, part, *generation)).collect()
    }

    /// The `columns` of the part's file `name`, batch by batch; it is in memory meanwhile.
    ///
    /// # Errors
    /// If the file is torn, foreign, newer than this program or can't be read.
    pub fn scan(&self, name: &str, columns: &[&str]) -> Result<PartScan, PartError> {
        PartScan::open(name, self.store.read(name)?, self.job, columns)
    }

    /// The columns of all parts, as this run writes them.
    pub fn schema(&self) -> &PartSchema {
        &self.schema
    }

    fn decode(&self, name: &str, bytes: Bytes) -> Result<PartContents, PartError> {
        let torn = |reason: &str| PartError::Torn { path: name.into(), reason: reason.into() };
        let (identity, attempts, _) = PartIdentity::of_end(name, &bytes, self.job)?;
        let batches = guard(|| decode_rows(bytes)).ok_or_else(|| torn("its rows are damaged"))?;
        let mut attempts = attempts.into_iter();
        let mut columns = Vec::with_capacity(batches.len());
        let mut outcomes = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for batch in &batches {
            let rows = self.schema.split(batch).ok();
            columns.push(rows.ok_or_else(|| torn("it has other columns than this output"))?);
            self.outcomes(batch, &mut attempts, &mut outcomes)
                .ok_or_else(|| torn("its labels and reasons don't fit together"))?;
        }
        if outcomes.len() as u64 != identity.rows_held() || attempts.next().is_some() {
            return Err(torn("it has another number of rows than its footer says"));
        }
        Ok(PartContents { identity, columns, outcomes })
    }

    /// Appends the outcomes of `batch`; `None` if they contradict each other.
    fn outcomes(
        &self,
        batch: &RecordBatch,
        attempts: &mut impl Iterator<Item = Attempts>,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<()> {
        let labels = batch.column_by_name(self.schema.label_column())?.as_string_opt::<i32>()?;
        let reasons = batch.column_by_name(self.schema.reason_column())?.as_string_opt::<i32>()?;
        for row in 0..batch.num_rows() {
            outcomes.push(if labels.is_valid(row) {
                let label = labels.value(row);
                match self.codebook.index_of_name(label) {
                    Some(index) => Outcome::Labelled(index),
                    None => Outcome::Existing(label.into()),
                }
            } else {
                let reason = reasons.is_valid(row).then(|| reasons.value(row))?;
                let reason = Reason::from_name(reason)?;
                Outcome::Unlabelled { reason, attempts: attempts.next()? }
            });
        }
        Some(())
    }
}

/// One part of many files, each with the newest's range.
fn compose(
    identity: PartIdentity,
    files: Vec<(Generation, PartContents)>,
) -> Result<PartContents, PartError> {
    let (part, range) = (identity.part, identity.range);
    let mut rows = Composition::new(range.rows);
    let mut batches = Vec::new();
    for (generation, file) in files {
        if (file.identity.part, file.identity.range) != (part, range) {
            let path = names::part_file(Layout::Append, part, generation);
            return Err(PartError::Foreign { path });
        }
        let first = batches.len();
        let places = file
            .columns
            .iter()
            .zip(first..)
            .flat_map(|(batch, at)| (0..batch.num_rows()).map(move |row| (at, row)));
        for ((offset, outcome), place) in file.identity.offsets().zip(file.outcomes).zip(places) {
            let stood_in = rows.put(offset, (generation, outcome, place));
            refuse_overlap(part, generation, stood_in.map(|(other, ..)| other))?;
        }
        batches.extend(file.columns);
    }
    let holes = rows.holes(&identity.holes);
    let mut absent = holes.outcomes().into_iter();
    let mut places = Vec::new();
    let outcomes = rows.into_rows().into_iter().filter_map(|row| match row {
        Some((_, outcome, place)) => {
            places.push(place);
            Some(outcome)
        }
        None => absent.next(),
    });
    let outcomes = outcomes.collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let columns =
        places.chunks(ROWS_PER_BATCH).map(|places| interleave_record_batch(&batches, places));
    let columns = columns.collect::<Result<_, _>>();
    let columns = columns.map_err(|error| PartError::Encode { part, source: error.into() })?;
    Ok(PartContents { identity, columns, outcomes })
}

fn decode_rows(bytes: Bytes) -> Result<Vec<RecordBatch>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let reader = builder.with_batch_size(ROWS_PER_BATCH).build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
        FixedSizeBinaryArray, Float64Array, Int8Array, LargeStringArray, ListArray, StringArray,
        StringViewArray, StructArray, Time64MicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, Schema};

    use super::super::part_file::PartFile;
    use super::super::part_writer::tests::{codebook, provenance, schema, sealed};
    use super::super::part_writer::{PartWriter, SealedPart};
    use super::super::store::MemoryStore;
    use super::*;
    use crate::domain::{LabelIndex, PartEncoding, Position, PositionRange, RowId};

    const JOB: &[u8] = b"job";

    fn reader(schema: PartSchema) -> (Arc<MemoryStore>, PartReader) {
        let store = Arc::new(MemoryStore::default());
        let job = Fingerprint::of(JOB);
        (store.clone(), PartReader::new(store, job, schema, codebook()))
    }

    fn encode(schema: PartSchema, part: &SealedPart) -> Bytes {
        let job = Fingerprint::of(JOB);
        let encoding = PartEncoding::default();
        let writer = PartWriter::new(job, schema, codebook(), "id", provenance("r1"), encoding);
        writer.encode(&PartFile::whole(part).unwrap(), 1).unwrap().bytes
    }

    fn range(rows: u64) -> PositionRange {
        PositionRange { first: Position(0), rows }
    }

    /// Three rows of every kind of column, nulls among them.
    fn every_type() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
        let field = Arc::new(Field::new("inner", DataType::Utf8, true));
        let nested = StructArray::from(vec![(field, inner)]);
        let dictionary: DictionaryArray<Int8Type> =
            vec![Some("x"), None, Some("x")].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(UInt64Array::from(vec![1, 2, u64::MAX]))),
            ("int8", Arc::new(Int8Array::from(vec![Some(-1), None, Some(3)]))),
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            (
                "float",
                Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), None, Some(-0.0)])),
            ),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from(vec![Some(12_345), None, Some(-1)])
                        .with_precision_and_scale(20, 4)
                        .unwrap(),
                ),
            ),
            ("large", Arc::new(LargeStringArray::from(vec![Some("long"), None, Some("")]))),
            (
                "view",
                Arc::new(StringViewArray::from(vec![
                    Some("a text of some length"),
                    None,
                    Some(""),
                ])),
            ),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None, Some(b"")]))),
            (
                "uuid",
                Arc::new(
                    FixedSizeBinaryArray::try_from_iter([[1u8; 16], [2; 16], [3; 16]].iter())
                        .unwrap(),
                ),
            ),
            ("date", Arc::new(Date32Array::from(vec![Some(20_000), None, Some(-1)]))),
            ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(2)]))),
            (
                "zoned",
                Arc::new(
                    TimestampNanosecondArray::from(vec![Some(1), None, Some(-1)])
                        .with_timezone("Europe/London"),
                ),
            ),
            ("naive", Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(2)]))),
            ("dictionary", Arc::new(dictionary)),
            ("list", Arc::new(list)),
            ("nested", Arc::new(nested)),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, name != "id")),
        )
        .unwrap()
    }

    fn part_of(columns: RecordBatch, outcomes: Vec<Outcome>) -> SealedPart {
        SealedPart {
            number: PartNumber(1),
            range: range(columns.num_rows() as u64),
            first_id: RowId::Integer(1),
            last_id: RowId::Integer(u64::MAX.into()),
            columns: vec![columns],
            outcomes,
        }
    }

    #[test]
    fn every_type_of_column_passes_unchanged() {
        let columns = every_type();
        let schema = PartSchema::new(&columns.schema(), "label", None).unwrap();
        let outcomes = vec![
            Outcome::Labelled(LabelIndex(1)),
            Outcome::Unlabelled { reason: Reason::Refused, attempts: 2 },
            Outcome::Existing("of the input".into()),
        ];
        let part = part_of(columns.clone(), outcomes.clone());
        let (store, reader) = reader(schema.clone());
        store.create("part-000001.parquet", &encode(schema, &part)).unwrap();
        let contents = reader.read(PartNumber(1)).unwrap();
        assert_eq!(contents.outcomes, outcomes);
        assert_eq!(contents.columns, [columns]);
        assert_eq!(contents.identity.last_id, RowId::Integer(u64::MAX.into()));
        let name = PartNumber(1).file_name();
        let identity = PartIdentity::read(store.as_ref(), &name, Fingerprint::of(JOB)).unwrap();
        assert_eq!(contents.identity, identity);
    }

    #[test]
    fn rows_and_outcomes_of_many_batches_come_back_in_order() {
        let part = sealed(1, range(20_001));
        let (store, reader) = reader(schema());
        store.create("part-000001.parquet", &encode(schema(), &part)).unwrap();
        let contents = reader.read(PartNumber(1)).unwrap();
        assert_eq!(contents.outcomes, part.outcomes);
        let whole = |batches: &[RecordBatch]| concat_batches(schema().carried(), batches).unwrap();
        assert_eq!(whole(&contents.columns), whole(&part.columns));
        assert!(contents.columns.iter().all(|batch| batch.num_rows() <= ROWS_PER_BATCH));
    }

    #[test]
    fn a_replaced_label_column_comes_back_in_its_place_and_type() {
        let labels: DictionaryArray<Int8Type> =
            vec![Some("mine"), None, None].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(UInt64Array::from(vec![1, 2, 3]))),
            ("label", Arc::new(labels)),
            ("text", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ];
        let columns = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let schema = PartSchema::new(&columns.schema(), "label", Some("label")).unwrap();
        let outcomes = vec![
            Outcome::Existing("mine".into()),
            Outcome::Labelled(LabelIndex(0)),
            Outcome::Unlabelled { reason: Reason::Missing, attempts: 1 },
        ];
        let part = part_of(columns.clone(), outcomes.clone());
        let (store, reader) = reader(schema.clone());
        store.create("part-000001.parquet", &encode(schema.clone(), &part)).unwrap();
        let contents = reader.read(PartNumber(1)).unwrap();
        assert_eq!(contents.outcomes, outcomes);
        let rows = &contents.columns[0];
        assert_eq!(rows.schema(), columns.schema());
        let labels: DictionaryArray<Int8Type> =
            vec![Some("mine"), Some("Urban"), None].into_iter().collect();
        assert_eq!(rows.column(1).as_ref(), &labels as &dyn Array);
        // Read and written again, it is the same part.
        let again = part_of(rows.clone(), contents.outcomes.clone());
        assert_eq!(encode(schema.clone(), &again), encode(schema, &part));
    }

    #[test]
    fn a_part_cut_at_any_byte_is_torn() {
        let whole = encode(schema(), &sealed(1, range(9)));
        let (_, reader) = reader(schema());
        for cut in 0..whole.len() {
            let error = reader.decode("part-000001.parquet", whole.slice(..cut)).unwrap_err();
            assert!(matches!(error, PartError::Torn { .. }), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn a_changed_byte_never_panics_and_never_adds_or_drops_a_row() {
        let whole = encode(schema(), &sealed(1, range(9)));
        let (_, reader) = reader(schema());
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x20;
            if let Ok(contents) = reader.decode("part-000001.parquet", bytes.into()) {
                assert_eq!(contents.outcomes.len(), 9, "changed at {at}");
            }
        }
    }

    #[test]
    fn a_part_of_another_job_or_program_is_foreign() {
        let bytes = encode(schema(), &sealed(1, range(9)));
        let name = "part-000001.parquet";
        let other = PartIdentity::of_end(name, &bytes, Fingerprint::of(b"other")).unwrap_err();
        assert!(matches!(other, PartError::Foreign { .. }));
        let plain = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let writer =
            parquet::arrow::ArrowWriter::try_new(Vec::new(), Arc::new(plain), None).unwrap();
        let bytes = writer.into_inner().unwrap().into();
        let plain = PartIdentity::of_end(name, &bytes, Fingerprint::of(JOB)).unwrap_err();
        assert!(matches!(plain, PartError::Foreign { .. }));
    }

    #[test]
    fn a_footer_longer_than_usual_is_read_in_full() {
        let mut part = sealed(1, range(60_000));
        for (row, outcome) in part.outcomes.iter_mut().enumerate() {
            *outcome = Outcome::Unlabelled { reason: Reason::Missing, attempts: row as u16 % 2 };
        }
        let store = MemoryStore::default();
        let name = "part-000001.parquet";
        store.create(name, &encode(schema(), &part)).unwrap();
        let identity = PartIdentity::read(&store, name, Fingerprint::of(JOB)).unwrap();
        assert_eq!(identity.unlabelled_rows(), 60_000);
    }
}
