//! The rows whose answer is known, in memory: a person made each of them, so they are few.
//!
//! A known answer is a label's name, letter for letter. One that is none is a mistake in the gold
//! or in the config, and is refused before anything is asked.

use crate::domain::{JobSpec, LabelIndex, Position, PositionRange, RowId};
use crate::input::{InputError, OrderedInput, existing_labels};

/// Rows to ask, and what is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoldRows {
    /// The rows, in id order.
    pub rows: Vec<GoldRow>,
    /// Rows that were left out because their known answer is null or blank.
    pub without_gold: u64,
    /// Rows that were left out because they brought a label along: it is not the model's.
    pub with_own_label: u64,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// Its id.
    pub id: RowId,
    /// The rendered text; `None` if it is blank.
    pub text: Option<Box<str>>,
    /// The known answer; `None` where none is asked for.
    pub known: Option<LabelIndex>,
}

/// Why rows can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum GoldError {
    /// The input can't be read as it is.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Values that are no label's name.
    #[error(
        "the gold column `{column}` holds no label's name in {rows} rows, first in the one with id \
         {first}; write each as `name` in [[labels]] has it, or leave it empty"
    )]
    Unknown {
        /// The column.
        column: String,
        /// In how many rows.
        rows: u64,
        /// The first of them, in id order.
        first: RowId,
    },
    /// Nothing to compare with.
    #[error("no row can be judged: the gold column `{column}` is empty in all of them")]
    Nothing {
        /// The column.
        column: String,
    },
    /// Nothing to ask.
    #[error("no row can be asked: each has a label already, or no text")]
    NoRows,
}

impl GoldError {
    /// Whether the user has to change the command or a file.
    pub fn is_usage(&self) -> bool {
        match self {
            GoldError::Input(error) => error.is_usage(),
            GoldError::Unknown { .. } | GoldError::Nothing { .. } | GoldError::NoRows => true,
        }
    }
}

impl GoldRows {
    /// The rows of the job's input with a known answer in the column `gold`, up to the job's row
    /// limit; without a column, all that bring no label of their own. Each is handed to `take`, in id
    /// order, and none is kept.
    ///
    /// # Errors
    /// If the input can't be read, a known answer is no label's name, or no row is left.
    pub fn read(
        job: &JobSpec,
        gold: Option<&str>,
        mut take: impl FnMut(GoldRow),
    ) -> Result<GoldRows, GoldError> {
        let mut input = job.input.clone();
        input.gold = gold.map(str::to_owned);
        // What goes to a run's output is of no interest here.
        input.columns = Some(Vec::new());
        let input = OrderedInput::open(&input)?;
        let rows = job.row_limit.map_or(input.rows(), |limit| input.rows().min(limit.get()));
        let mut found = Found::default();
        for chunk in input.read(vec![PositionRange { first: Position(0), rows }])? {
            let chunk = chunk?;
            let known = match gold {
                Some(column) => existing_labels(&chunk.columns, column)?,
                None => vec![None; chunk.rows.len()],
            };
            for (row, known) in chunk.rows.into_iter().zip(known) {
                if row.existing_label.is_some() {
                    found.counts.with_own_label += 1;
                    continue;
                }
                let known = match (gold, known) {
                    (Some(_), None) => {
                        found.counts.without_gold += 1;
                        continue;
                    }
                    (_, Some(name)) => match job.codebook.index_of_name(&name) {
                        None => {
                            found.note_unknown(row.id);
                            continue;
                        }
                        known => known,
                    },
                    (None, None) => None,
                };
                found.taken += 1;
                take(GoldRow { id: row.id, text: row.text, known });
            }
        }
        found.judge(gold)
    }

    /// All rows of the job's input whose answer is known in the column `gold`.
    ///
    /// # Errors
    /// As [`GoldRows::read`].
    pub fn all(job: &JobSpec, gold: &str) -> Result<GoldRows, GoldError> {
        let mut rows = Vec::new();
        let counts = GoldRows::read(job, Some(gold), |row| rows.push(row))?;
        Ok(GoldRows { rows, ..counts })
    }
}

/// What was met on the way through the input.
#[derive(Default)]
struct Found {
    counts: GoldRows,
    taken: u64,
    unknown: u64,
    first_unknown: Option<RowId>,
}

impl Found {
    fn note_unknown(&mut self, id: RowId) {
        self.unknown += 1;
        self.first_unknown.get_or_insert(id);
    }

    fn judge(self, gold: Option<&str>) -> Result<GoldRows, GoldError> {
        let column = || gold.unwrap_or_default().to_owned();
        match self.first_unknown {
            Some(first) => Err(GoldError::Unknown { column: column(), rows: self.unknown, first }),
            None if self.taken > 0 => Ok(self.counts),
            None if self.counts.without_gold > 0 => Err(GoldError::Nothing { column: column() }),
            None => Err(GoldError::NoRows),
        }
    }
}
