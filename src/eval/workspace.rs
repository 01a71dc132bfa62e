//! Where the rows of an evaluation and their answers are kept: a folder that only its owner reads,
//! named by what is asked, so that nothing is asked twice and no answer stands for another question.
//!
//! It holds `rows.parquet`, an ordinary input, and an ordinary output for each way to ask.

use std::fs::DirBuilder;
use std::num::NonZeroU64;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::{AnswersError, GoldRow};
use crate::domain::spec::{IdSource, LABEL_COLUMN, Layout};
use crate::domain::{JobSpec, Location, RowId, Template, TextHash, UnixMillis};
use crate::output::store::{LocalStore, Store as _, StoreError, put};
use crate::output::{Job, OutputError, Secret, journal};

/// The file with the rows.
const ROWS: &str = "rows.parquet";
const ID: &str = "id";
const TEXT: &str = "text";

/// A folder with rows and their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    folder: PathBuf,
}

impl Workspace {
    /// The workspace below `all` for `job`'s way of asking the input at its location. `purpose`
    /// tells apart what else decides what is asked.
    ///
    /// # Errors
    /// If the machine has no randomness, which a job's identity draws, or it has no JSON form.
    pub fn below(all: &Path, job: &JobSpec, purpose: &str) -> Result<Workspace, AnswersError> {
        let location = match &job.input.location {
            Location::Path(path) => journal::absolute(path).to_string_lossy().into_owned(),
            Location::Object(url) => url.canonical(),
        };
        let unknown = || AnswersError::Identity;
        let mut identity = Job::new(job, Vec::new(), 0, UnixMillis(0)).map_err(|_| unknown())?;
        identity.secret = Secret::from_bytes([0; 32]);
        identity.batchclass = String::new();
        // What says only how an output looks decides no answer.
        identity.layout = Layout::Replace;
        identity.label_column = String::new();
        identity.input.columns = None;
        let identity = identity.encode().map_err(|_| unknown())?;
        let model = &job.model;
        let asked = format!(
            "{purpose}\n{}\n{:?} {:?} {:?} {}\n{}",
            job.batch.tokens_per_call,
            model.answer_form,
            model.key,
            model.reasoning_effort,
            job.input.gold.as_deref().unwrap_or_default(),
            String::from_utf8_lossy(&identity)
        );
        let hash = TextHash::of(&asked).to_hex();
        let folder = format!("{}-{}", journal::folder_name(&location), &hash[..12]);
        Ok(Workspace { folder: all.join(folder) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept beside the answers under `name`.
    ///
    /// # Errors
    /// If it stands there and can't be read.
    pub fn note(&self, name: &str) -> Result<Option<Bytes>, AnswersError> {
        match LocalStore::new(&self.folder).read(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(OutputError::from(error).into()),
        }
    }

    /// Keeps `bytes` beside the answers under `name`, in place of what stood there.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), AnswersError> {
        put(&LocalStore::new(&self.folder), name, bytes).map_err(OutputError::from)?;
        Ok(())
    }

    /// Lays the rows out as an input, in their order, which is that of their ids. A file that begins
    /// with them already is not touched.
    ///
    /// # Errors
    /// If the folder can't be written.
    pub fn lay_out(&self, rows: &[GoldRow]) -> Result<(), AnswersError> {
        let batch = batch(rows).map_err(|error| AnswersError::Encode(error.into()))?;
        if self.note(ROWS)?.is_some_and(|stands| begins_with(stands, &batch)) {
            return Ok(());
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let name = self.folder.display().to_string();
        made.map_err(|error| OutputError::from(StoreError::from_io("making", name, error)))?;
        self.keep(ROWS, &encoded(&batch).map_err(AnswersError::Encode)?)
    }

    /// The job that asks these rows as `job` asks its own, into the output `name`.
    pub fn job(&self, job: &JobSpec, rows: &[GoldRow], name: &str) -> JobSpec {
        let mut asked = job.clone();
        let input = &mut asked.input;
        input.location = self.folder.join(ROWS).into();
        input.reading = Default::default();
        input.id = IdSource::Column(ID.to_owned());
        input.text = Template::column(TEXT);
        input.existing_label = None;
        input.gold = None;
        input.columns = Some(Vec::new());
        let output = &mut asked.output;
        output.location = self.folder.join(name).into();
        output.layout = None;
        output.journal_folder = None;
        output.label_column = LABEL_COLUMN.to_owned();
        // Each row is asked once, at the size that is measured.
        asked.quality.probe = 0.0;
        // More rows may stand there than are asked for today.
        asked.row_limit = NonZeroU64::new(rows.len() as u64);
        asked
    }
}

fn batch(rows: &[GoldRow]) -> Result<RecordBatch, ArrowError> {
    let texts: StringArray = rows.iter().map(|row| row.text.as_deref()).collect();
    let columns: [(&str, ArrayRef, bool); 2] =
        [(ID, ids(rows), false), (TEXT, Arc::new(texts), true)];
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn encoded(batch: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(batch)?;
    writer.into_inner()
}

/// Whether `file` holds these rows, and perhaps more after them.
fn begins_with(file: Bytes, rows: &RecordBatch) -> bool {
    let read = || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        let reader = reader.with_batch_size(rows.num_rows()).build().ok()?;
        let stands: Result<Vec<RecordBatch>, _> = reader.take(1).collect();
        let stands = stands.ok()?.into_iter().next()?;
        Some(stands.schema() == rows.schema() && stands.columns() == rows.columns())
    };
    // What can't be read is written anew.
    read().unwrap_or(false)
}

/// The ids, in the type that the input had them in.
fn ids(rows: &[GoldRow]) -> ArrayRef {
    let integers = rows.iter().map(|row| match row.id {
        RowId::Integer(id) => Some(id),
        RowId::Text(_) => None,
    });
    let signed: Option<Vec<i64>> = integers.clone().map(|id| i64::try_from(id?).ok()).collect();
    if let Some(ids) = signed {
        return Arc::new(Int64Array::from(ids));
    }
    let unsigned: Option<Vec<u64>> = integers.map(|id| u64::try_from(id?).ok()).collect();
    if let Some(ids) = unsigned {
        return Arc::new(UInt64Array::from(ids));
    }
    let texts = rows.iter().map(|row| match &row.id {
        RowId::Integer(id) => Some(id.to_string()),
        RowId::Text(id) => Some(id.to_string()),
    });
    Arc::new(texts.collect::<StringArray>())
}
