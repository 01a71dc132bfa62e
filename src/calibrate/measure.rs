//! Answers at several sizes, held against what is known or against the smallest size. Pure.

use std::collections::HashMap;

use super::places::Places;
use crate::domain::{LabelIndex, RowId};
use crate::eval::GoldRow;
use crate::output::Spent;
use crate::quality::{Bound, Choice, Fifths, Paired, Tested, choose};

/// What was asked at one size, and what came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct SizeAnswers {
    pub(super) rows_per_call: u32,
    /// The rows that are done, with their labels.
    pub(super) given: HashMap<RowId, Option<LabelIndex>>,
    pub(super) places: Places,
    pub(super) spent: Spent,
}

/// The figures of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeFigures {
    /// Most rows a call.
    pub rows_per_call: u32,
    /// Rows in its calls on an average, where that is known; fewer than the most where a limit on
    /// tokens closes calls earlier.
    pub mean_rows: Option<f64>,
    /// Rows that are judged: the same at every size.
    pub rows: u64,
    /// Of those, rows whose label is the known answer; without known answers, that of the base.
    pub right: u64,
    /// Of those, rows without a label.
    pub unlabelled: u64,
    /// Held against the base, row by row.
    pub paired: Paired,
    /// Rows with another label than at the base, of those that have one at both; as many.
    pub relabelled: u64,
    /// Rows that have a label at both.
    pub both_labelled: u64,
    /// By place in the call.
    pub fifths: Fifths,
    /// What all answers that are kept at this size cost.
    pub spent: Spent,
    /// How many these are.
    pub answers: u64,
}

impl SizeFigures {
    /// The share of rows that are right; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.right, self.rows)
    }

    /// Tokens a row, prompt and reply; `None` without answers.
    pub fn tokens_per_row(&self) -> Option<f64> {
        share(self.spent.prompt_tokens + self.spent.completion_tokens, self.answers)
    }

    /// The share of rows that are labelled otherwise than at the base; `None` without rows.
    pub fn disagreement(&self) -> Option<f64> {
        share(self.relabelled, self.both_labelled)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The figures of all sizes, the base being the first; none without sizes. Rows that are not done at
/// every size are left out, and without known answers those that have no label at the base.
pub(super) fn measure(
    rows: &[GoldRow],
    has_gold: bool,
    sizes: Vec<SizeAnswers>,
) -> Vec<SizeFigures> {
    let Some(base) = sizes.first() else { return Vec::new() };
    let judged: Vec<(&RowId, LabelIndex, Option<LabelIndex>)> = rows
        .iter()
        .filter(|row| sizes.iter().all(|size| size.given.contains_key(&row.id)))
        .filter_map(|row| {
            let at_base = base.given.get(&row.id).copied().flatten();
            let truth = if has_gold { row.known } else { at_base };
            Some((&row.id, truth?, at_base))
        })
        .collect();
    sizes.iter().map(|size| figures(&judged, size)).collect()
}

fn figures(judged: &[(&RowId, LabelIndex, Option<LabelIndex>)], size: &SizeAnswers) -> SizeFigures {
    let mut figures = SizeFigures {
        rows_per_call: size.rows_per_call,
        mean_rows: size.places.mean_rows(),
        rows: judged.len() as u64,
        right: 0,
        unlabelled: 0,
        paired: Paired::default(),
        relabelled: 0,
        both_labelled: 0,
        fifths: Fifths::default(),
        spent: size.spent,
        answers: size.given.len() as u64,
    };
    for (id, truth, at_base) in judged {
        let given = size.given.get(*id).copied().flatten();
        let is_right = given == Some(*truth);
        figures.right += u64::from(is_right);
        figures.unlabelled += u64::from(given.is_none());
        figures.paired.add(*at_base == Some(*truth), is_right);
        if let (Some(given), Some(at_base)) = (given, at_base) {
            figures.both_labelled += 1;
            figures.relabelled += u64::from(given != *at_base);
        }
        if let Some(it) = size.places.of(id) {
            figures.fifths.add(it.place, it.of, is_right);
        }
    }
    figures
}

/// The size to take, by the figures of all of them; `None` without any.
pub fn choose_size(sizes: &[SizeFigures], bound: Bound) -> Option<Choice> {
    let (base, larger) = sizes.split_first()?;
    let tested: Vec<Tested> = larger
        .iter()
        .map(|size| Tested { rows_per_call: size.rows_per_call, paired: size.paired })
        .collect();
    Some(choose(base.rows_per_call, &tested, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rows_per_call: u32, labels: &[Option<u16>]) -> SizeAnswers {
        let given = labels.iter().enumerate();
        let given = given.map(|(id, label)| (RowId::Integer(id as i128), label.map(LabelIndex)));
        SizeAnswers { rows_per_call, given: given.collect(), ..SizeAnswers::default() }
    }

    fn rows(known: &[Option<u16>]) -> Vec<GoldRow> {
        let rows = known.iter().enumerate().map(|(id, known)| GoldRow {
            id: RowId::Integer(id as i128),
            text: None,
            known: known.map(LabelIndex),
        });
        rows.collect()
    }

    #[test]
    fn sizes_are_held_against_known_answers_and_the_base_row_by_row() {
        let rows = rows(&[Some(0), Some(0), Some(1), Some(1)]);
        let one = answers(1, &[Some(0), Some(1), Some(1), None]);
        let ten = answers(10, &[Some(1), Some(0), Some(1), Some(0)]);
        let figures = measure(&rows, true, vec![one, ten]);
        let told = |at: usize| (figures[at].right, figures[at].unlabelled, figures[at].relabelled);
        assert_eq!((told(0), told(1)), ((2, 1, 0), (2, 0, 2)));
        assert_eq!(figures[1].paired, Paired { rows: 4, only_base: 1, only_other: 1 });
        assert_eq!(figures[1].disagreement(), Some(2.0 / 3.0));
    }

    #[test]
    fn without_known_answers_the_base_is_what_is_right() {
        let rows = rows(&[None; 4]);
        let one = answers(1, &[Some(0), Some(1), Some(1), None]);
        let ten = answers(10, &[Some(0), Some(0), None, Some(0)]);
        let figures = measure(&rows, false, vec![one, ten]);
        assert_eq!((figures[0].rows, figures[0].right), (3, 3), "no label, nothing to agree with");
        assert_eq!((figures[1].right, figures[1].unlabelled), (1, 1));
        assert_eq!(figures[1].paired, Paired { rows: 3, only_base: 2, only_other: 0 });
    }

    #[test]
    fn a_row_that_is_not_done_at_every_size_counts_at_none() {
        let rows = rows(&[Some(0), Some(0)]);
        let figures =
            measure(&rows, true, vec![answers(1, &[Some(0), Some(0)]), answers(10, &[Some(0)])]);
        assert_eq!((figures[0].rows, figures[1].rows), (1, 1));
        assert!(measure(&rows, true, Vec::new()).is_empty());
    }
}
