//! A fair sample in a random order, the same one at every call.
//!
//! A row's place in it is a hash of the seed and the row's text. So the order has nothing to do
//! with the input's, a larger sample begins with the smaller one, rows with the same text are one
//! (a run asks them once), and an answer stays with its text whatever else is added to the gold.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::domain::{JobSpec, RowId};
use crate::eval::{GoldError, GoldRow, GoldRows};

/// Rows to ask at every size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The rows, in the order in which they are asked; their ids are their places.
    pub rows: Vec<GoldRow>,
    /// Rows that could have been drawn; of those with the same text one can.
    pub available: u64,
    /// Rows that were left out because nothing is known of them.
    pub without_gold: u64,
    /// Rows that were left out because they brought a label along.
    pub with_own_label: u64,
}

impl Sample {
    /// Draws `most` rows at most from the job's input: those with a known answer in the column
    /// `gold`, or without a column any that have a text and no label.
    ///
    /// # Errors
    /// If the input can't be read, a known answer is no label's name, or there is no row.
    pub fn draw(
        job: &JobSpec,
        gold: Option<&str>,
        most: usize,
        seed: u64,
    ) -> Result<Sample, GoldError> {
        let mut drawn = BTreeMap::<u64, GoldRow>::new();
        let mut available = 0;
        let counts = GoldRows::read(job, gold, |row| {
            let Some(text) = &row.text else { return };
            available += 1;
            let place = place_of(text, seed);
            let is_among =
                drawn.len() < most || drawn.last_key_value().is_some_and(|(last, _)| place < *last);
            if !is_among {
                return;
            }
            // Of rows with the same text the first in id order stands for all.
            drawn.entry(place).or_insert(GoldRow { id: RowId::Integer(place.into()), ..row });
            if drawn.len() > most {
                drawn.pop_last();
            }
        })?;
        if drawn.is_empty() {
            return Err(GoldError::NoRows);
        }
        Ok(Sample {
            rows: drawn.into_values().collect(),
            available,
            without_gold: counts.without_gold,
            with_own_label: counts.with_own_label,
        })
    }
}

/// Where a text stands among all: a number of 63 bits, so that any reader of integers takes it.
fn place_of(text: &str, seed: u64) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(text).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first) >> 1
}
