//! Gives each label the cheapest code that nothing else in the job could mean.
//!
//! Codes are deterministic, and a label keeps its code when labels are added behind it (unless one
//! of those is named like that code or brings it along).

use std::collections::HashSet;

use crate::domain::codebook::{self, MAX_LABELS, is_code};
use crate::domain::{Codebook, CodebookError, Label};

use super::token_counter::TokenCounter;

/// Words by which a model declines, agrees or includes everything: as codes they would be labels
/// by accident.
const NEVER_ASSIGNED: [&str; 15] = [
    "all", "any", "na", "nan", "nil", "no", "non", "not", "nul", "off", "ok", "on", "un", "unk",
    "yes",
];

/// A label as the user wrote it: the code may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelDraft {
    /// The name that stands in the output.
    pub name: String,
    /// The user's own code for it.
    pub code: Option<String>,
    /// What the label covers; may be empty.
    pub description: String,
    /// Texts that carry this label; may be empty.
    pub examples: Vec<String>,
}

/// A codebook of `drafts` in which every label has a code.
///
/// Given codes stay. A label whose name is itself as cheap as a code stands for itself. The others
/// take single capitals first, then two characters, then three letters, as long as those are one
/// token each; only then what is left of both. Within each the cheapest come first, as `counter`
/// counts them in a reply.
///
/// # Errors
/// Those of [`Codebook::new`].
pub fn assign(
    drafts: Vec<LabelDraft>,
    unsure: Option<String>,
    counter: &TokenCounter,
) -> Result<Codebook, CodebookError> {
    if drafts.len() > MAX_LABELS {
        return Err(CodebookError::TooMany(drafts.len()));
    }
    let given = drafts.iter().filter_map(|draft| draft.code.as_ref()).chain(&unsure);
    let given: HashSet<String> = given.map(|code| codebook::fold(code)).collect();
    let mut taken: HashSet<String> =
        drafts.iter().map(|draft| codebook::fold(&draft.name)).collect();
    taken.extend(NEVER_ASSIGNED.map(str::to_owned));
    taken.extend(given.iter().cloned());
    let cheap = cost("A", counter);
    let is_own_code = |name: &str| {
        is_code(name) && !given.contains(&codebook::fold(name)) && cost(name, counter) <= cheap
    };

    let mut free = in_order(counter)
        .into_iter()
        .flatten()
        .filter(|code| !taken.contains(&codebook::fold(code)));
    let number = drafts.len();
    let mut labels = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let LabelDraft { name, code, description, examples } = draft;
        let code = match code {
            Some(code) => code,
            None if is_own_code(&name) => name.clone(),
            None => free.next().ok_or(CodebookError::TooMany(number))?,
        };
        labels.push(Label { name, code, description, examples });
    }
    Codebook::new(labels, unsure)
}

/// Every code that may be assigned, as stretches that are made up when their turn comes: counting
/// 17,576 codes is only worth it for many labels.
fn in_order(counter: &TokenCounter) -> [Box<dyn Iterator<Item = String> + '_>; 4] {
    let singles = by_cost(capitals(1), counter);
    let costs = singles.iter().map(|code| cost(code, counter));
    let plain = costs.fold((0, 0), |most, cost| (most.0.max(cost.0), most.1.max(cost.1)));
    let is_one_token = move |code: &String| {
        let cost = cost(code, counter);
        cost.0 <= plain.0 && cost.1 <= plain.1
    };
    let codes = move |length: usize, is_cheap: bool| {
        std::iter::once_with(move || by_cost(capitals(length), counter))
            .flatten()
            .filter(move |code| is_one_token(code) == is_cheap)
    };
    [
        Box::new(singles.into_iter()),
        Box::new(codes(2, true)),
        Box::new(codes(3, true)),
        Box::new(codes(2, false).chain(codes(3, false))),
    ]
}

/// Tokens of an answer with `code` in a reply of the form `array`, then of the form `object`.
fn cost(code: &str, counter: &TokenCounter) -> (u32, u32) {
    let count = |text: &str| counter.count(text).0;
    (count(&format!("\"417:{code}\",\"")), count(&format!("\"417\":\"{code}\",\"")))
}

/// Every code of `length` characters: capitals, or a capital and a digit.
fn capitals(length: usize) -> Vec<String> {
    let letters = || 'A'..='Z';
    match length {
        1 => letters().map(String::from).collect(),
        2 => letters()
            .flat_map(|first| letters().chain('0'..='9').map(move |last| format!("{first}{last}")))
            .collect(),
        _ => capitals(2)
            .into_iter()
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_uppercase()))
            .flat_map(|pair| letters().map(move |last| format!("{pair}{last}")))
            .collect(),
    }
}

/// Each code in its cheaper spelling, the cheapest first, otherwise in the given order. A single
/// letter stays a capital.
fn by_cost(codes: Vec<String>, counter: &TokenCounter) -> Vec<String> {
    let cheaper = |upper: String| {
        let lower = upper.to_ascii_lowercase();
        let (upper_cost, lower_cost) = (cost(&upper, counter), cost(&lower, counter));
        if upper.len() > 1 && lower_cost < upper_cost {
            (lower_cost, lower)
        } else {
            (upper_cost, upper)
        }
    };
    let mut codes: Vec<_> = codes.into_iter().map(cheaper).collect();
    codes.sort_by_key(|(cost, _)| *cost);
    codes.into_iter().map(|(_, code)| code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::codebook::Meaning;
    use crate::domain::spec::Vocabulary;

    fn counter() -> TokenCounter {
        TokenCounter::for_vocabulary(Vocabulary::O200k)
    }

    fn drafts(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<LabelDraft> {
        names
            .into_iter()
            .map(|name| LabelDraft { name: name.into(), ..Default::default() })
            .collect()
    }

    fn numbered(labels: usize) -> Vec<LabelDraft> {
        drafts((0..labels).map(|at| format!("label number {at}")))
    }

    fn codes(codebook: &Codebook) -> Vec<&str> {
        codebook.codes().collect()
    }

    #[test]
    fn up_to_26_labels_have_one_capital_each() {
        for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
            let counter = TokenCounter::for_vocabulary(vocabulary);
            let book = assign(numbered(26), None, &counter).unwrap();
            let mut letters = codes(&book);
            let costs: Vec<u32> = letters.iter().map(|code| cost(code, &counter).0).collect();
            assert!(costs.is_sorted(), "{costs:?}");
            letters.sort_unstable();
            assert_eq!(letters.concat(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        }
    }

    #[test]
    fn hundreds_of_labels_have_codes_of_one_token_each_also_where_they_stand_in_a_reply() {
        for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
            let counter = TokenCounter::for_vocabulary(vocabulary);
            for labels in [77, 300, 700, 2000] {
                let book = assign(numbered(labels), Some("U".into()), &counter).unwrap();
                for code in codes(&book) {
                    assert_eq!(counter.count(code).0, 1, "{code} alone, {vocabulary:?}");
                    for (before, after) in
                        [("\"417:", "\",\""), ("\"417\":\"", "\",\""), ("417:", "\n")]
                    {
                        let around = counter.count(before).0 + counter.count(after).0;
                        let whole = counter.count(&format!("{before}{code}{after}")).0;
                        assert!(whole <= around + 1, "{before}{code}{after} has {whole} tokens");
                    }
                }
            }
        }
    }

    #[test]
    fn five_thousand_labels_have_short_codes_that_mean_one_label_each() {
        let book = assign(numbered(5000), Some("U".into()), &counter()).unwrap();
        assert!(codes(&book).iter().all(|code| code.len() <= 3));
        assert_eq!(book.meaning("u"), Some(Meaning::Unsure));
        assert_eq!(
            assign(numbered(5001), None, &counter()).unwrap_err(),
            CodebookError::TooMany(5001)
        );
    }

    #[test]
    fn a_label_keeps_its_code_when_labels_are_added_behind_it() {
        let all = assign(numbered(3000), None, &counter()).unwrap();
        for fewer in [2, 26, 27, 900, 1100] {
            let book = assign(numbered(fewer), None, &counter()).unwrap();
            assert_eq!(codes(&book), codes(&all)[..fewer]);
        }
    }

    #[test]
    fn given_codes_stay_and_are_not_assigned_again() {
        let mut drafts = numbered(4);
        drafts[2].code = Some("a".into());
        let book = assign(drafts, Some("B".into()), &counter()).unwrap();
        let codes = codes(&book);
        assert_eq!(codes[2], "a");
        assert_eq!(codes[4], "B");
        assert!(!codes[..2].contains(&"A") && !codes.contains(&"b"));
    }

    #[test]
    fn no_code_is_another_labels_name_and_a_short_name_is_its_own_code() {
        let book = assign(drafts(["Top up", "A", "b"]), None, &counter()).unwrap();
        let codes = codes(&book);
        assert_eq!(codes[1], "A");
        assert!(!codes[0].eq_ignore_ascii_case("a") && !codes[0].eq_ignore_ascii_case("b"));
    }

    #[test]
    fn no_assigned_code_is_a_word_for_no_answer() {
        let book = assign(numbered(5000), None, &counter()).unwrap();
        for word in NEVER_ASSIGNED {
            assert_eq!(book.meaning(word), None, "{word}");
        }
    }

    #[test]
    fn what_the_codebook_refuses_is_refused() {
        let twice = assign(drafts(["Same", "same"]), None, &counter());
        assert!(matches!(twice, Err(CodebookError::Ambiguous { .. })));
        assert_eq!(
            assign(drafts(["one"]), None, &counter()).unwrap_err(),
            CodebookError::TooFew(1)
        );
    }
}
