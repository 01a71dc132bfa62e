//! Decides the right code of each row, before anything goes wrong.

use super::gold::Gold;
use crate::llm::fitted_prompt::FittedPrompt;

/// Where right answers come from.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Known answers, which go first.
    pub(super) gold: Option<Gold>,
    /// Answer the others by their hash instead of their words.
    pub(super) is_fixed: bool,
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
    /// One code for each of `rows`, in their order.
    pub(super) fn codes<'f>(
        &self,
        fitted: &'f FittedPrompt,
        rows: &[AskedRow<'_>],
    ) -> Vec<&'f str> {
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
        let answers = Answers { gold: Some(gold), is_fixed: false };
        assert_eq!(answers.codes(&fitted, &rows), ["B", "B", "A"]);
        assert_eq!(Answers::default().codes(&fitted, &rows), ["A", "B", "A"]);
        let fixed = Answers { gold: None, is_fixed: true };
        assert_eq!(fixed.codes(&fitted, &rows), ["A", "A", "A"]);
    }
}
