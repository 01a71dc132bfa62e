//! Rows whose labels are known before anything is asked: what the embedded scorer learns from.

use sha2::{Digest, Sha256};

use super::{LabelIndex, hex};

/// Texts with their labels, in the order in which they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownRows {
    rows: Vec<(Box<str>, LabelIndex)>,
    labels: usize,
    fingerprint: String,
}

impl KnownRows {
    /// These rows of a job with `labels` labels.
    pub fn new(rows: Vec<(Box<str>, LabelIndex)>, labels: usize) -> KnownRows {
        // The number stands for how rows are learned from: whoever learns otherwise raises it.
        let mut hash = Sha256::new_with_prefix(b"known rows 1\n");
        for (text, label) in &rows {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
            hash.update(label.0.to_le_bytes());
        }
        KnownRows { fingerprint: hex::encode(&hash.finalize()), rows, labels }
    }

    /// Each row's text and its label.
    pub fn rows(&self) -> &[(Box<str>, LabelIndex)] {
        &self.rows
    }

    /// How many labels the job has, whether they have rows here or not.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// How many labels have no row here.
    pub fn labels_without_rows(&self) -> usize {
        let mut has_row = vec![false; self.labels];
        for (_, label) in &self.rows {
            if let Some(has_row) = has_row.get_mut(usize::from(label.0)) {
                *has_row = true;
            }
        }
        has_row.into_iter().filter(|has_row| !has_row).count()
    }

    /// 64 hexadecimal digits that name these rows in this order, and how they are learned from.
    /// Whatever file they came from, the same rows teach the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl std::fmt::Debug for KnownRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownRows({} rows, {})", self.rows.len(), self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(rows: &[(&str, u16)]) -> KnownRows {
        let rows = rows.iter().map(|(text, label)| ((*text).into(), LabelIndex(*label)));
        KnownRows::new(rows.collect(), 3)
    }

    #[test]
    fn the_fingerprint_is_that_of_texts_labels_and_their_order() {
        let rows = known(&[("ab", 0), ("c", 1)]);
        assert_eq!(rows.fingerprint(), known(&[("ab", 0), ("c", 1)]).fingerprint());
        for other in [
            known(&[("ab", 1), ("c", 1)]),
            known(&[("a", 0), ("bc", 1)]),
            known(&[("c", 1), ("ab", 0)]),
            known(&[("ab", 0)]),
        ] {
            assert_ne!(rows.fingerprint(), other.fingerprint());
        }
        assert_eq!(rows.fingerprint().len(), 64);
    }

    #[test]
    fn labels_without_rows_are_counted_and_texts_stay_out_of_debug_output() {
        assert_eq!(known(&[("secret", 0), ("c", 0)]).labels_without_rows(), 2);
        assert_eq!(known(&[("a", 0), ("b", 1), ("c", 2)]).labels_without_rows(), 0);
        assert!(!format!("{:?}", known(&[("secret", 0)])).contains("secret"));
    }
}
