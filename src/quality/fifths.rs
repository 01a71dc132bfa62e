//! Accuracy by a row's place in its call: whether the last rows of a batch fare worse than the
//! first.

use super::interval::{Interval, wilson};

/// The rows of one fifth of their calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fifth {
    /// How many.
    pub rows: u64,
    /// Of those, rows that were answered rightly.
    pub right: u64,
}

/// The rows of calls of at least five, by fifths of their call: the first rows first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fifths([Fifth; 5]);

impl Fifth {
    /// The share that was answered rightly; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.right as f64 / self.rows as f64)
    }

    /// Where the true share lies, 95 %; `None` without rows.
    pub fn interval(&self) -> Option<Interval> {
        wilson(self.right, self.rows)
    }
}

impl Fifths {
    /// Counts the row at `place`, from 0, of a call with `of` rows; smaller calls than of five rows
    /// have no fifths.
    pub fn add(&mut self, place: u32, of: u32, is_right: bool) {
        if of < 5 || place >= of {
            return;
        }
        let at = u64::from(place) * 5 / u64::from(of);
        // Below 5, since the place is below the number of rows.
        if let Some(fifth) = self.0.get_mut(at as usize) {
            fifth.rows += 1;
            fifth.right += u64::from(is_right);
        }
    }

    /// The five of them.
    pub fn all(&self) -> &[Fifth; 5] {
        &self.0
    }

    /// Whether any row was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|fifth| fifth.rows == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cut_into_fifths_by_place() {
        let mut fifths = Fifths::default();
        for place in 0..12 {
            fifths.add(place, 12, place < 6);
        }
        // By hand: 0-2, 3-4, 5-7, 8-9, 10-11.
        let counted = fifths.all().map(|fifth| (fifth.rows, fifth.right));
        assert_eq!(counted, [(3, 3), (2, 2), (3, 1), (2, 0), (2, 0)]);
    }

    #[test]
    fn small_calls_have_no_fifths() {
        let mut fifths = Fifths::default();
        fifths.add(0, 4, true);
        fifths.add(7, 7, true);
        assert!(fifths.is_empty());
        assert_eq!(fifths.all()[0].accuracy(), None);
    }
}
