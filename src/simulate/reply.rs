//! Composes a reply: the right answers, and whatever is to go wrong with them.
//!
//! No fault may make a strict client give a wrong label. So a row that is answered twice gets its
//! right code first: a cut that hides the second leaves the right one standing.

use std::borrow::Cow;
use std::collections::HashSet;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::answers::AskedRow;
use super::settings::Faults;
use crate::domain::spec::AnswerForm;
use crate::llm::answer_writer::write_answer;

/// What befalls a request as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Answered 429.
    pub(super) is_throttled: bool,
    /// Answered 500.
    pub(super) fails: bool,
    /// Never answered.
    pub(super) hangs: bool,
    /// Broken off in mid-body.
    pub(super) is_reset: bool,
    /// Refused by the model.
    pub(super) is_refused: bool,
    /// Members in another order.
    pub(super) is_shuffled: bool,
    /// Ends early.
    pub(super) is_cut: bool,
    /// In a code fence between sentences.
    pub(super) is_fenced: bool,
}

impl Fate {
    /// Draws a fate; always as many draws, so that one share does not move the others' fates.
    pub(super) fn draw(faults: &Faults, random: &mut impl Rng) -> Fate {
        Fate {
            is_throttled: happens(faults.status_429, random),
            fails: happens(faults.status_500, random),
            hangs: happens(faults.hang, random),
            is_reset: happens(faults.reset, random),
            is_refused: happens(faults.refuse, random),
            is_shuffled: happens(faults.shuffle, random),
            is_cut: happens(faults.cut, random),
            is_fenced: happens(faults.fence, random),
        }
    }
}

fn happens(share: f64, random: &mut impl Rng) -> bool {
    random.random::<f64>() < share
}

/// A reply's text before it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Composed {
    /// The text.
    pub(super) content: String,
    /// Rows that are answered properly, by hash, each with the bytes of `content` that it takes
    /// to be sure of it.
    proper: Vec<(u64, usize)>,
}

impl Composed {
    /// The hashes of rows that the first `bytes` of the text answer properly.
    pub(super) fn answered_within(&self, bytes: usize) -> Vec<u64> {
        self.proper.iter().filter(|(_, end)| *end <= bytes).map(|(hash, _)| *hash).collect()
    }

    /// Puts `text` in at the byte `at`.
    pub(super) fn insert(&mut self, at: usize, text: &str) {
        self.content.insert_str(at, text);
        for (_, end) in self.proper.iter_mut().filter(|(_, end)| *end > at) {
            *end += text.len();
        }
    }

    /// A text that answers nothing properly.
    #[cfg(test)]
    pub(super) fn of(content: &str) -> Composed {
        Composed { content: content.to_owned(), proper: Vec::new() }
    }
}

/// Composes the reply to `rows`, of which each has its right code in `codes`; `all_codes` are
/// those that a reply may hold.
pub(super) fn compose(
    form: AnswerForm,
    rows: &[AskedRow<'_>],
    codes: &[&str],
    all_codes: &[&str],
    faults: &Faults,
    fate: Fate,
    random: &mut impl Rng,
) -> Composed {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    if fate.is_shuffled {
        order.shuffle(random);
    }
    let unknown = unknown_code(all_codes);
    let mut foreign = ForeignKeys::new(rows);
    let mut members: Vec<(Cow<'_, str>, &str)> = Vec::with_capacity(rows.len());
    let mut proper_members = Vec::with_capacity(rows.len());
    for at in order {
        let (row, code) = (&rows[at], codes[at]);
        let is_dropped = happens(faults.drop_row, random);
        let is_repeated = happens(faults.repeat_row, random);
        let is_unknown = happens(faults.unknown_code, random);
        let is_followed = happens(faults.foreign_key, random);
        if is_dropped {
        } else if is_unknown {
            members.push((row.key.into(), &unknown));
        } else if is_repeated {
            let other = all_codes.iter().copied().find(|other| *other != code);
            members.push((row.key.into(), code));
            members.push((row.key.into(), other.unwrap_or(&unknown)));
        } else {
            proper_members.push((row.hash, members.len()));
            members.push((row.key.into(), code));
        }
        if is_followed {
            members.push((foreign.draw(random).into(), code));
        }
    }
    let members: Vec<(&str, &str)> = members.iter().map(|(key, code)| (&**key, *code)).collect();
    let written = write_answer(form, &members);
    let proper = proper_members.into_iter().map(|(hash, member)| (hash, written.ends[member]));
    if !fate.is_fenced {
        return Composed { proper: proper.collect(), content: written.content };
    }
    let opening = "Sure, here is the answer.\n\n```json\n";
    let content =
        format!("{opening}{}\n```\nLet me know if you need anything else.", written.content);
    // One byte more: in lines, only the line end makes the last member whole.
    let proper = proper.map(|(hash, end)| (hash, end + opening.len() + 1)).collect();
    Composed { content, proper }
}

/// A code that no label has, not even after case folding.
fn unknown_code(all_codes: &[&str]) -> String {
    let mut code = "zq9".to_owned();
    while all_codes.iter().any(|known| known.eq_ignore_ascii_case(&code)) {
        code.push('z');
    }
    code
}

/// Keys that look like the request's but are none of them.
struct ForeignKeys<'a> {
    rows: &'a [AskedRow<'a>],
    taken: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> ForeignKeys<'a> {
    fn new(rows: &'a [AskedRow<'a>]) -> ForeignKeys<'a> {
        ForeignKeys { rows, taken: None }
    }

    fn draw(&mut self, random: &mut impl Rng) -> String {
        let rows = self.rows;
        let taken =
            self.taken.get_or_insert_with(|| rows.iter().map(|row| row.key.into()).collect());
        let mut key = random.random_range(100_u32..1000);
        while !taken.insert(key.to_string().into()) {
            key = if key == 999 { 1000 } else { key + 1 };
        }
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ALL_CODES: [&str; 3] = ["A", "B", "ZQ9"];

    fn asked() -> Vec<AskedRow<'static>> {
        ["100", "101", "102", "103"]
            .into_iter()
            .zip(0..)
            .map(|(key, hash)| AskedRow { key, text: "", hash })
            .collect()
    }

    fn composed(faults: Faults, form: AnswerForm) -> Composed {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let fate = Fate::draw(&faults, &mut random);
        compose(form, &asked(), &["A", "B", "A", "B"], &ALL_CODES, &faults, fate, &mut random)
    }

    fn all_answered(composed: &Composed) -> Vec<u64> {
        composed.answered_within(composed.content.len())
    }

    #[test]
    fn without_faults_the_answer_is_right_and_whole() {
        let reply = composed(Faults::default(), AnswerForm::Lines);
        assert_eq!(reply.content, "100:A\n101:B\n102:A\n103:B");
        assert_eq!(all_answered(&reply), [0, 1, 2, 3]);
        assert_eq!(reply.answered_within("100:A\n101:B".len()), [0]);
    }

    #[test]
    fn a_repeated_row_has_its_right_code_first() {
        let faults = Faults { repeat_row: 1.0, shuffle: 1.0, ..Faults::default() };
        let reply = composed(faults, AnswerForm::Lines);
        let lines: Vec<&str> = reply.content.lines().collect();
        assert_eq!(lines.len(), 8);
        for pair in lines.chunks(2) {
            let right = if ["100", "102"].contains(&&pair[0][..3]) { "A" } else { "B" };
            assert_eq!(&pair[0][4..], right);
            assert_eq!(pair[0][..3], pair[1][..3]);
            assert_ne!(pair[1], pair[0]);
        }
        assert!(all_answered(&reply).is_empty());
    }

    #[test]
    fn dropped_and_unknown_rows_are_not_answered() {
        let dropped = composed(Faults { drop_row: 1.0, ..Faults::default() }, AnswerForm::Array);
        assert_eq!(dropped.content, r#"{"r":[]}"#);
        let unknown =
            composed(Faults { unknown_code: 1.0, ..Faults::default() }, AnswerForm::Lines);
        assert_eq!(unknown.content, "100:zq9z\n101:zq9z\n102:zq9z\n103:zq9z");
        assert!(all_answered(&dropped).is_empty() && all_answered(&unknown).is_empty());
    }

    #[test]
    fn foreign_keys_are_none_of_the_requests() {
        let faults = Faults { foreign_key: 1.0, ..Faults::default() };
        let reply = composed(faults, AnswerForm::Lines);
        let keys: HashSet<&str> = reply.content.lines().map(|line| &line[..3]).collect();
        assert_eq!(keys.len(), 8);
        assert_eq!(all_answered(&reply), [0, 1, 2, 3]);
    }

    #[test]
    fn a_full_request_still_finds_foreign_keys() {
        let keys: Vec<String> = (100..1000).map(|key| key.to_string()).collect();
        let rows: Vec<AskedRow<'_>> =
            keys.iter().map(|key| AskedRow { key, text: "", hash: 0 }).collect();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut foreign = ForeignKeys::new(&rows);
        assert_eq!(foreign.draw(&mut random), "1000");
        assert_eq!(foreign.draw(&mut random), "1001");
    }

    #[test]
    fn a_fence_holds_the_whole_answer() {
        let reply = composed(Faults { fence: 1.0, ..Faults::default() }, AnswerForm::Object);
        let inner = reply.content.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
        assert_eq!(inner, r#"{"100":"A","101":"B","102":"A","103":"B"}"#);
        assert_eq!(all_answered(&reply), [0, 1, 2, 3]);
    }

    #[test]
    fn a_shuffle_keeps_every_member() {
        let faults = Faults { shuffle: 1.0, ..Faults::default() };
        let reply = composed(faults, AnswerForm::Lines);
        let mut lines: Vec<&str> = reply.content.lines().collect();
        assert_ne!(lines, ["100:A", "101:B", "102:A", "103:B"]);
        lines.sort_unstable();
        assert_eq!(lines, ["100:A", "101:B", "102:A", "103:B"]);
    }

    #[test]
    fn one_share_does_not_move_another_faults_fate() {
        let draw = |cut, fence| {
            let faults = Faults { cut, fence, ..Faults::default() };
            (0..50).map(move |seed| Fate::draw(&faults, &mut ChaCha8Rng::seed_from_u64(seed)))
        };
        let fenced: Vec<bool> = draw(0.0, 0.5).map(|fate| fate.is_fenced).collect();
        assert!(draw(1.0, 0.5).map(|fate| fate.is_fenced).eq(fenced.iter().copied()));
        assert!(fenced.contains(&true) && fenced.contains(&false));
    }
}
