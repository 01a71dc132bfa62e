//! The labels that a job may give, and the short codes that travel for them.
//!
//! Codes and names are unique together after trimming and case folding, so that whatever a reply
//! says means one label or none.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A label and what the model is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The name that stands in the output.
    pub name: String,
    /// The short code that the model answers with: 1-8 characters of `[A-Za-z0-9_-]`.
    pub code: String,
    /// What the label covers; may be empty.
    #[serde(default)]
    pub description: String,
    /// Texts that carry this label; may be empty.
    #[serde(default)]
    pub examples: Vec<String>,
}

/// A label's place in its [`Codebook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelIndex(pub u16);

/// What a code in a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This label.
    Label(LabelIndex),
    /// The decline code: the model leaves the row without a label.
    Unsure,
}

/// The labels of a job, with lookup by code or full name.
#[derive(Clone, Debug)]
pub struct Codebook {
    labels: Vec<Label>,
    unsure_code: Option<String>,
    none_of_these: Option<LabelIndex>,
    meanings: HashMap<String, Meaning>,
}

/// Why labels can't form a codebook. Numbers count labels from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodebookError {
    /// Fewer than two labels leave nothing to decide.
    #[error("a job needs at least two labels; {0} given")]
    TooFew(usize),
    /// More labels than the codes can name.
    #[error("{0} labels given; at most 5000 can be told apart by short codes")]
    TooMany(usize),
    /// A label without a name.
    #[error("label {number} has no name; give it `name = \"...\"`")]
    NoName {
        /// Which label, from 1.
        number: usize,
    },
    /// A code that can't travel.
    #[error(
        "label `{name}` has the code `{code}`; a code is 1-8 characters of A-Z, a-z, 0-9, _ and -"
    )]
    BadCode {
        /// The label's name.
        name: String,
        /// Its code.
        code: String,
    },
    /// A catch-all that no label is.
    #[error("none_of_these names `{name}`, and no label is called so")]
    NoCatchAll {
        /// The name.
        name: String,
    },
    /// A job in which the catch-all is the only choice.
    #[error("beside the label `{name}` for whatever fits none, a job needs at least two labels")]
    OnlyCatchAll {
        /// The catch-all's name.
        name: String,
    },
    /// Two labels that one word could mean.
    #[error(
        "labels `{first}` and `{second}` both answer to `{word}`; \
         codes and names must differ in more than case"
    )]
    Ambiguous {
        /// The name of the label that had the word first.
        first: String,
        /// The name of the other label.
        second: String,
        /// The shared code or name, folded.
        word: String,
    },
}

/// Most labels that a codebook takes.
pub const MAX_LABELS: usize = 5000;

impl Codebook {
    /// A codebook of `labels`, with an optional code by which the model declines.
    ///
    /// # Errors
    /// If there are fewer than two labels or more than [`MAX_LABELS`], one has no name or a
    /// malformed code, or two share a code or name after folding.
    pub fn new(labels: Vec<Label>, unsure_code: Option<String>) -> Result<Self, CodebookError> {
        if labels.len() < 2 {
            return Err(CodebookError::TooFew(labels.len()));
        }
        if labels.len() > MAX_LABELS {
            return Err(CodebookError::TooMany(labels.len()));
        }
        let mut meanings: HashMap<String, Meaning> = HashMap::new();
        for (at, label) in labels.iter().enumerate() {
            if label.name.trim().is_empty() {
                return Err(CodebookError::NoName { number: at + 1 });
            }
            if !is_code(&label.code) {
                return Err(CodebookError::BadCode {
                    name: label.name.clone(),
                    code: label.code.clone(),
                });
            }
            let meaning = Meaning::Label(LabelIndex(at as u16));
            for word in [fold(&label.code), fold(&label.name)] {
                if let Some(earlier) = meanings.insert(word.clone(), meaning)
                    && earlier != meaning
                {
                    let first = match earlier {
                        Meaning::Label(index) => labels[usize::from(index.0)].name.clone(),
                        Meaning::Unsure => "unsure".to_owned(),
                    };
                    return Err(CodebookError::Ambiguous {
                        first,
                        second: label.name.clone(),
                        word,
                    });
                }
            }
        }
        if let Some(code) = &unsure_code {
            if !is_code(code) {
                return Err(CodebookError::BadCode { name: "unsure".into(), code: code.clone() });
            }
            if let Some(Meaning::Label(index)) = meanings.insert(fold(code), Meaning::Unsure) {
                return Err(CodebookError::Ambiguous {
                    first: labels[usize::from(index.0)].name.clone(),
                    second: "unsure".into(),
                    word: fold(code),
                });
            }
        }
        Ok(Codebook { labels, unsure_code, none_of_these: None, meanings })
    }

    /// This codebook, whose label `name` (spaces and case aside) is the one for whatever no other
    /// label fits. It is a label like any other: it stands in the output, and rows that have it are
    /// labelled.
    ///
    /// # Errors
    /// If no label has that name, or fewer than two others are left.
    pub fn with_none_of_these(mut self, name: &str) -> Result<Self, CodebookError> {
        let is_named = |label: &Label| fold(&label.name) == fold(name);
        let Some(at) = self.labels.iter().position(is_named) else {
            return Err(CodebookError::NoCatchAll { name: name.to_owned() });
        };
        if self.labels.len() < 3 {
            return Err(CodebookError::OnlyCatchAll { name: name.to_owned() });
        }
        self.none_of_these = Some(LabelIndex(at as u16));
        Ok(self)
    }

    /// The labels, in the order of the prompt.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The label at `index`.
    pub fn label(&self, index: LabelIndex) -> &Label {
        &self.labels[usize::from(index.0)]
    }

    /// The code by which the model may decline, if there is one.
    pub fn unsure_code(&self) -> Option<&str> {
        self.unsure_code.as_deref()
    }

    /// The label for whatever no other label fits, if there is one.
    pub fn none_of_these(&self) -> Option<&Label> {
        self.none_of_these.map(|index| self.label(index))
    }

    /// Every code that a reply may hold, in the order of the prompt, the decline code last.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.code.as_str()).chain(self.unsure_code())
    }

    /// What `word` means: a code or a full name, trimmed and case-folded, nothing fuzzy.
    pub fn meaning(&self, word: &str) -> Option<Meaning> {
        self.meanings.get(word).or_else(|| self.meanings.get(&fold(word))).copied()
    }

    /// The label whose name is exactly `name`.
    pub fn index_of_name(&self, name: &str) -> Option<LabelIndex> {
        match self.meanings.get(&fold(name)) {
            Some(Meaning::Label(index)) if self.label(*index).name == name => Some(*index),
            _ => None,
        }
    }
}

/// How codes and names are compared: trimmed, lower-cased.
pub fn fold(word: &str) -> String {
    word.trim().to_lowercase()
}

/// Whether `code` can travel: 1-8 characters of `[A-Za-z0-9_-]`.
pub fn is_code(code: &str) -> bool {
    (1..=8).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, code: &str) -> Label {
        Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        }
    }

    #[test]
    fn a_word_means_one_label_by_code_or_name_in_any_case() {
        let book =
            Codebook::new(vec![label("Card lost", "A"), label("Top up", "B")], None).unwrap();
        assert_eq!(book.meaning("b"), Some(Meaning::Label(LabelIndex(1))));
        assert_eq!(book.meaning(" card LOST "), Some(Meaning::Label(LabelIndex(0))));
        assert_eq!(book.meaning("card"), None);
    }

    #[test]
    fn a_code_equal_to_another_labels_name_is_refused() {
        let error = Codebook::new(vec![label("B", "A"), label("Other", "b")], None).unwrap_err();
        assert!(matches!(error, CodebookError::Ambiguous { .. }), "{error}");
    }

    #[test]
    fn a_label_may_be_named_like_its_own_code() {
        assert!(Codebook::new(vec![label("A", "A"), label("B", "B")], Some("U".into())).is_ok());
    }

    #[test]
    fn the_decline_code_is_no_label() {
        let book = Codebook::new(vec![label("x", "A"), label("y", "B")], Some("U".into())).unwrap();
        assert_eq!(book.meaning("u"), Some(Meaning::Unsure));
        assert_eq!(book.codes().collect::<Vec<_>>(), ["A", "B", "U"]);
    }

    #[test]
    fn the_catch_all_is_a_label_with_its_own_code() {
        let labels = vec![label("x", "A"), label("y", "B"), label("Other", "C")];
        let book = Codebook::new(labels, Some("U".into())).unwrap();
        assert_eq!(book.none_of_these(), None);
        let book = book.with_none_of_these(" other").unwrap();
        assert_eq!(book.none_of_these().map(|label| &*label.code), Some("C"));
        assert_eq!(book.meaning("other"), Some(Meaning::Label(LabelIndex(2))));
        assert_eq!(book.codes().collect::<Vec<_>>(), ["A", "B", "C", "U"]);
    }

    #[test]
    fn a_catch_all_needs_a_label_and_two_others() {
        let book = |number: usize| {
            let all = [label("x", "A"), label("y", "B"), label("z", "C")];
            Codebook::new(all[..number].to_vec(), None).unwrap()
        };
        let problem = |book: Codebook, name| book.with_none_of_these(name).unwrap_err();
        assert!(matches!(problem(book(3), "w"), CodebookError::NoCatchAll { .. }));
        assert!(matches!(problem(book(2), "y"), CodebookError::OnlyCatchAll { .. }));
    }
}
