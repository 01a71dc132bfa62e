//! A row on its way to the model.

use serde::{Deserialize, Serialize};

use super::{Attempts, RowId, TextHash, Tokens};

/// A row's place in the plan, counted from 0; in an input, a row's place in id order. The two are the
/// same until the input changes.
///
/// In the plan it names the part that the row belongs to and the row's line in it, and nothing
/// else: replies are matched by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

/// Positions `first..first + rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRange {
    /// The first position.
    pub first: Position,
    /// How many rows follow each other from there.
    pub rows: u64,
}

impl PositionRange {
    /// The first position after the range.
    pub fn end(&self) -> Position {
        Position(self.first.0 + self.rows)
    }

    /// Whether `position` lies in the range.
    pub fn contains(&self, position: Position) -> bool {
        (self.first..self.end()).contains(&position)
    }
}

/// A row that the model is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the plan.
    pub position: Position,
    /// Its name in the input; journaled, and sent only if the user asks for it.
    pub id: RowId,
    /// The rendered text, folded to one line: what the model reads.
    pub text: Box<str>,
    /// The hash of the rendered text before folding.
    pub text_hash: TextHash,
    /// Tokens of the row's whole line in a request: key, tab, text and line end.
    pub tokens: Tokens,
    /// How often it has been asked, over all runs.
    pub attempts: Attempts,
}
