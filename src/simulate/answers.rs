//! Decides the code of each row: the right one, or the one that the model mistakes it for.

use super::gold::Gold;
use super::quality::{Asking, Quality};
use crate::llm::fitted_prompt::FittedPrompt;

/// Where right answers come from.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Known answers, which go first.
    pub(super) gold: Option<Gold>,
    /// Answer the others by their hash instead of their words.
    pub(super) is_fixed: bool,
    /// How often the right answer is not the one that is given.
    pub(super) quality: Quality,
    /// Where what is drawn for that begins.
    pub(super) seed: u64,
}

/// A row of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskedRow<'a> {
    /// Its key in this request.
    pub(super) key: &'a str,
    /// Its text.
    pub(super) text: &'a str,
    /// A hash of its text.
    pub(super) hash: u64,
}

impl Answers {
    /// What the model says of each of `rows`, in their order; `call` is a hash of the request.
    pub(super) fn given<'f>(
        &self,
        fitted: &'f FittedPrompt,
        rows: &[AskedRow<'_>],
        call: u64,
    ) -> Vec<&'f str> {
        let mut codes = self.codes(fitted, rows);
        let labels = &fitted.prompt().labels;
        let Answers { quality, seed, .. } = self;
        for (place, (row, code)) in rows.iter().zip(&mut codes).enumerate() {
            let asking = Asking { row: row.hash, call, place, rows: rows.len() };
            if !quality.is_right(*seed, &asking) {
                let right = labels.iter().position(|label| label.code == *code).unwrap_or(0);
                let mistake = quality.mistake(*seed, row.hash, right, labels.len());
                *code = &labels[mistake].code;
            }
        }
        if quality.slips(*seed, call) && !codes.is_empty() {
            codes.rotate_left(1);
        }
        codes
    }

    /// The right code for each of `rows`, in their order.
    fn codes<'f>(&self, fitted: &'f FittedPrompt, rows: &[AskedRow<'_>]) -> Vec<&'f str> {
        let labels = &fitted.prompt().labels;
        let known = |text| fitted.code_of_name(self.gold.as_ref()?.label_of(text)?);
        if self.is_fixed {
            let by_hash = |hash: u64| labels[(hash % labels.len() as u64) as usize].code.as_str();
            return rows
                .iter()
                .map(|row| known(row.text).unwrap_or_else(|| by_hash(row.hash)))
                .collect();
        }
        let mut scratch = fitted.scorer().scratch();
        rows.iter()
            .map(|row| known(row.text).unwrap_or_else(|| fitted.code_for(row.text, &mut scratch)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn gold_goes_before_the_scorer() {
        let system = "Labels, one per line (CODE = name):\nA = card arrival\nB = exchange rate\n";
        let fitted = FittedPrompt::new(system).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"text,label\nmy card,exchange rate\nthe rate,gone\n").unwrap();
        let gold = Gold::read(file.path(), "text", "label").unwrap();
        let rows: Vec<AskedRow<'_>> = ["my card", "the rate", "a card"]
            .into_iter()
            .map(|text| AskedRow { key: "1", text, hash: 0 })
            .collect();
        let answers = Answers { gold: Some(gold), ..Answers::default() };
        assert_eq!(answers.codes(&fitted, &rows), ["B", "B", "A"]);
        assert_eq!(Answers::default().codes(&fitted, &rows), ["A", "B", "A"]);
        let fixed = Answers { is_fixed: true, ..Answers::default() };
        assert_eq!(fixed.codes(&fitted, &rows), ["A", "A", "A"]);
    }

    #[test]
    fn a_slip_keeps_every_answer_and_gives_each_to_the_row_before() {
        let system = "Labels, one per line (CODE = name):\nA = x\nB = y\nC = z\n";
        let fitted = FittedPrompt::new(system).unwrap();
        let row = |hash| AskedRow { key: "1", text: "", hash };
        let rows: Vec<AskedRow<'_>> = [0, 1, 2].map(row).into();
        let quality = Quality { shift_rows: 1.0, ..Quality::default() };
        let answers = Answers { is_fixed: true, quality, ..Answers::default() };
        assert_eq!(answers.given(&fitted, &rows, 1), ["B", "C", "A"]);
    }

    #[test]
    fn a_wrong_row_has_another_code() {
        let system = "Labels, one per line (CODE = name):\nA = x\nB = y\n";
        let fitted = FittedPrompt::new(system).unwrap();
        let rows = [AskedRow { key: "1", text: "", hash: 0 }];
        let quality = Quality { accuracy: Some(0.0.into()), ..Quality::default() };
        let answers = Answers { is_fixed: true, quality, ..Answers::default() };
        assert_eq!(answers.given(&fitted, &rows, 1), ["B"]);
    }
}
