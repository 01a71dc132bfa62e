//! Matches a reply to the rows of its batch: by key, never by place, and nothing fuzzy.
//!
//! A row has a label only if its own key stands in the reply, every answer to that key means one
//! label, and no other row of the batch has the key.

use std::collections::HashMap;

use crate::domain::codebook::Meaning;
use crate::domain::{Codebook, LabelIndex, Reason};

use super::keys::Key;
use super::reply_reader::{Member, SEPARATORS, read_members};

/// Marks that a model sets around a key or a code and that mean nothing.
const WRAPPERS: [char; 5] = ['"', '\'', '`', '*', ' '];

/// What a reply says of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This label.
    Label(LabelIndex),
    /// The model declined.
    Unsure,
    /// Nothing that counts: `Missing`, `UnknownCode` or `Conflicting`.
    Unresolved(Reason),
}

/// A reply, matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedReply {
    /// One answer per key of the batch, in the order of the keys.
    pub answers: Vec<Answer>,
    /// Complete answers in the reply, to whatever key.
    pub members: usize,
    /// Of those, answers to keys that the batch doesn't have.
    pub foreign: usize,
    /// Of those, answers to a key that had one already.
    pub repeated: usize,
}

/// What `reply` says of each of `keys`. `is_cut` says that it ended because it was too long.
///
/// Every answer to a key has to mean the same: two codes, one of them unknown, are a conflict. If
/// two rows share a key, the reply can't tell them apart and neither has an answer.
pub fn match_reply(reply: &str, is_cut: bool, keys: &[Key], codebook: &Codebook) -> MatchedReply {
    let mut matcher = Matcher::new(keys, codebook);
    for member in read_members(reply, is_cut) {
        matcher.take(&member);
    }
    matcher.finish()
}

/// What the answers to a key have said until now.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    None,
    Means(Meaning),
    Unknown,
    Conflict,
}

struct Matcher<'a> {
    codebook: &'a Codebook,
    /// A key's place; `None` if several rows share it.
    places: HashMap<&'a str, Option<usize>>,
    verdicts: Vec<Verdict>,
    members: usize,
    foreign: usize,
    repeated: usize,
}

impl<'a> Matcher<'a> {
    fn new(keys: &'a [Key], codebook: &'a Codebook) -> Matcher<'a> {
        let mut places = HashMap::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            places.entry(key.as_str()).and_modify(|place| *place = None).or_insert(Some(place));
        }
        let verdicts = vec![Verdict::None; keys.len()];
        Matcher { codebook, places, verdicts, members: 0, foreign: 0, repeated: 0 }
    }

    fn take(&mut self, member: &Member<'_>) {
        let (key, found) = match member {
            Member::Pair { key, code } => match self.place_of(key) {
                Some(place) => (&**key, Some((place, self.meaning_of(code)))),
                // `{"answer":"417:B"}`
                None => (&**key, self.split(code)),
            },
            Member::Joined(text) => {
                (text.split(SEPARATORS).next().unwrap_or_default(), self.split(text))
            }
        };
        match found {
            Some((place, meaning)) => {
                self.members += 1;
                self.record(place, meaning);
            }
            None if is_key_like(key) => {
                self.members += 1;
                self.foreign += 1;
            }
            // Prose with a colon in it, a field such as `"why":"..."`.
            None => {}
        }
    }

    fn record(&mut self, place: usize, meaning: Option<Meaning>) {
        let answer = meaning.map_or(Verdict::Unknown, Verdict::Means);
        let verdict = &mut self.verdicts[place];
        if *verdict == Verdict::None {
            *verdict = answer;
        } else {
            self.repeated += 1;
            if *verdict != answer {
                *verdict = Verdict::Conflict;
            }
        }
    }

    /// Splits `KEY:CODE` at its first separator (a label's full name may have colons in it) or at
    /// its last (an id may). `None` if neither leaves a key of the batch, or both leave an answer.
    fn split(&self, text: &str) -> Option<(usize, Option<Meaning>)> {
        let (first, last) = (text.find(SEPARATORS)?, text.rfind(SEPARATORS)?);
        let at = |at: usize| {
            let place = self.place_of(&text[..at])?;
            Some((place, self.meaning_of(&text[at + 1..])))
        };
        let at_last = if last == first { None } else { at(last) };
        match (at(first), at_last) {
            (Some((_, Some(_))), Some((_, Some(_)))) => None,
            (Some((_, None)), Some(answer @ (_, Some(_)))) => Some(answer),
            (Some(answer), _) | (None, Some(answer)) => Some(answer),
            (None, None) => None,
        }
    }

    fn place_of(&self, word: &str) -> Option<usize> {
        let find = |word: &str| self.places.get(word).copied().flatten();
        let word = word.trim();
        find(word)
            .or_else(|| find(word.trim_matches(WRAPPERS)))
            // A key that was written as a number with a fraction.
            .or_else(|| find(word.strip_suffix(".0")?))
    }

    fn meaning_of(&self, word: &str) -> Option<Meaning> {
        let word = word.trim();
        self.codebook.meaning(word).or_else(|| {
            let bare = word.trim_matches(WRAPPERS);
            self.codebook.meaning(bare).or_else(|| self.code_with_name(bare))
        })
    }

    /// `B = Rural Fringe`, `B (Rural Fringe)`: a code and the full name of the same label.
    fn code_with_name(&self, word: &str) -> Option<Meaning> {
        let end =
            word.find(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '_' | '-'))?;
        let (code, name) = word.split_at(end);
        let name = name.trim_start_matches([' ', '\t', ':', '=', '-', '–', '(']);
        let meaning = self.codebook.meaning(code)?;
        let names_it = |name: &str| self.codebook.meaning(name) == Some(meaning);
        (names_it(name) || name.strip_suffix(')').is_some_and(names_it)).then_some(meaning)
    }

    fn finish(self) -> MatchedReply {
        let answer = |verdict: Verdict| match verdict {
            Verdict::Means(Meaning::Label(label)) => Answer::Label(label),
            Verdict::Means(Meaning::Unsure) => Answer::Unsure,
            Verdict::None => Answer::Unresolved(Reason::Missing),
            Verdict::Unknown => Answer::Unresolved(Reason::UnknownCode),
            Verdict::Conflict => Answer::Unresolved(Reason::Conflicting),
        };
        MatchedReply {
            answers: self.verdicts.into_iter().map(answer).collect(),
            members: self.members,
            foreign: self.foreign,
            repeated: self.repeated,
        }
    }
}

/// Whether a word that is no key of the batch could be one of another: one word with a digit in it.
fn is_key_like(word: &str) -> bool {
    let word = word.trim().trim_matches(WRAPPERS);
    word.bytes().any(|byte| byte.is_ascii_digit()) && !word.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Label, RowId};

    const A: Answer = Answer::Label(LabelIndex(0));
    const B: Answer = Answer::Label(LabelIndex(1));
    const MISSING: Answer = Answer::Unresolved(Reason::Missing);
    const UNKNOWN: Answer = Answer::Unresolved(Reason::UnknownCode);
    const CONFLICT: Answer = Answer::Unresolved(Reason::Conflicting);

    fn codebook() -> Codebook {
        let label = |name: &str, code: &str| Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        };
        let labels = vec![
            label("City: Prime", "A"),
            label("Rural Fringe", "B"),
            label("Fees (other)", "BA"),
        ];
        Codebook::new(labels, Some("U".into())).unwrap()
    }

    fn keys() -> Vec<Key> {
        ["417", "902", "333"].map(|key| Key(key.into())).into()
    }

    fn answers(reply: &str) -> Vec<Answer> {
        match_reply(reply, false, &keys(), &codebook()).answers
    }

    #[test]
    fn every_form_labels_the_same_rows() {
        for reply in [
            r#"{"r":["417:B","902:A","333:U"]}"#,
            r#"["417:B","902:A","333:U"]"#,
            r#"{"417":"B","902":"A","333":"U"}"#,
            r#"{"r":{"417":"B","902":"A","333":"U"}}"#,
            r#"[{"id":417,"c":"B"},{"id":" 902","c":"a"},{"id":333.0,"c":"U"}]"#,
            r#"[{"key":"417","label":"Rural Fringe"},{"k":902,"code":"A"},{"row":333,"class":"U"}]"#,
            "417:B\n902\tA\n333 = u",
            "**417**: `B`\n- 902: City: Prime\n333:U\n",
            "417: B = Rural Fringe\n902: A (City: Prime)\n333: U",
            "```json\n{\"417\": \"B\",\n \"902\": \"A\",\n \"333\": \"U\"}\n```",
        ] {
            assert_eq!(answers(reply), [B, A, Answer::Unsure], "{reply}");
        }
    }

    #[test]
    fn shuffled_reply_labels_the_same_rows() {
        assert_eq!(answers("333:B\n417:A\n902:B"), [A, B, B]);
        assert_eq!(answers(r#"{"r":["902:B","333:B","417:A"]}"#), [A, B, B]);
    }

    #[test]
    fn a_reply_without_keys_labels_nothing() {
        assert_eq!(answers(r#"["B","A","B"]"#), [MISSING; 3]);
        assert_eq!(answers("B\nA\nB"), [MISSING; 3]);
        assert_eq!(answers("1:B\n2:A\n3:B"), [MISSING; 3]);
    }

    #[test]
    fn a_reply_of_another_batch_matches_nothing() {
        let matched = match_reply(r#"{"r":["418:B","903:A"]}"#, false, &keys(), &codebook());
        assert_eq!(matched.answers, [MISSING; 3]);
        assert_eq!((matched.members, matched.foreign, matched.repeated), (2, 2, 0));
    }

    #[test]
    fn unknown_code_skips_only_its_row() {
        assert_eq!(answers("417:B\n902:Z\n333:A"), [B, UNKNOWN, A]);
    }

    #[test]
    fn nothing_fuzzy_is_accepted() {
        for code in
            ["Rural", "B.", "B or A", "B (Prime)", "BB", "Rural  Fringe", "", "null", "BA B"]
        {
            let answers = answers(&format!("417: {code}\n"));
            assert!(matches!(answers[0], UNKNOWN | MISSING), "{code}: {answers:?}");
        }
        for key in ["0417", "4170", "17", "417.5", "+417", "4 17", "417 "] {
            let expected = if key.trim() == "417" { B } else { MISSING };
            assert_eq!(answers(&format!("{{\"{key}\":\"B\"}}"))[0], expected, "{key}");
        }
    }

    #[test]
    fn answers_to_one_key_have_to_agree() {
        assert_eq!(answers(r#"{"417":"B","417":"b","902":"A","902":"B"}"#), [B, CONFLICT, MISSING]);
        assert_eq!(answers("417:B\n417:Rural Fringe\n902:A\n902:Z"), [B, CONFLICT, MISSING]);
        assert_eq!(answers("902:Z\n902:A\n333:Z\n333:Y"), [MISSING, CONFLICT, UNKNOWN]);
        assert_eq!(answers(r#"{"r":["417:B"]} no: {"r":["417:A"]}"#), [CONFLICT, MISSING, MISSING]);
        assert_eq!(answers("417:U\n417:A")[0], CONFLICT);
        let matched = match_reply("417:B\n417:B\n417:B\n1:A", false, &keys(), &codebook());
        assert_eq!((matched.members, matched.foreign, matched.repeated), (4, 1, 2));
    }

    #[test]
    fn a_code_that_was_cut_is_no_answer() {
        let cut = |reply| match_reply(reply, true, &keys(), &codebook()).answers[0];
        assert_eq!(cut("417:B"), MISSING);
        assert_eq!(cut(r#"{"r":["417:B"#), MISSING);
        assert_eq!(cut(r#"{"417":"B"#), MISSING);
        assert_eq!(cut("417:B\n"), B);
        assert_eq!(cut(r#"{"r":["417:BA","#), Answer::Label(LabelIndex(2)));
    }

    #[test]
    fn a_cut_at_any_byte_answers_nothing_that_the_whole_reply_does_not() {
        for reply in [
            r#"{"r":["417:BA","902:A","333:B"]}"#,
            r#"{"417":"BA","902":"A","333":"B"}"#,
            r#"Here: {"r": {"417": "BA", "902": "A", "333": "B"}}"#,
            r#"[{"id":417,"c":"BA"},{"id":902,"c":"A"},{"id":333,"c":"B"}]"#,
            "417:BA\n902:A\n333:B\n",
            "417 = BA\r\n902\tCity: Prime\r\n333: B = Rural Fringe\r\n",
        ] {
            let whole = answers(reply);
            assert!(whole.iter().all(|answer| matches!(answer, Answer::Label(_))), "{reply}");
            let mut most = 0;
            for at in 0..=reply.len() {
                let cut = match_reply(&reply[..at], true, &keys(), &codebook()).answers;
                for (cut, whole) in cut.iter().zip(&whole) {
                    assert!(cut == whole || *cut == MISSING, "{cut:?} at {at} of {reply}");
                }
                let answered = cut.iter().filter(|answer| **answer != MISSING).count();
                assert!(answered >= most, "a longer cut lost an answer at {at} of {reply}");
                most = answered;
            }
            assert_eq!(most, 3, "{reply}");
        }
    }

    #[test]
    fn prose_is_no_foreign_answer() {
        let matched = match_reply(
            "Here is the answer: {\"417\":\"B\",\"why\":\"near: city\"}\nNote: done",
            false,
            &keys(),
            &codebook(),
        );
        assert_eq!((matched.members, matched.foreign), (1, 0));
    }

    #[test]
    fn rows_that_share_a_key_have_no_answer() {
        let keys = ["5", "5", "6"].map(|key| Key(key.into()));
        let matched = match_reply("5:A\n6:B", false, &keys, &codebook());
        assert_eq!(matched.answers, [MISSING, MISSING, B]);
    }

    #[test]
    fn ids_with_colons_are_keys_too() {
        let ids = ["urn:x:1", "urn", "a b"].map(|id| Key::of_id(&RowId::Text(id.into())));
        let reply = r#"{"r":["urn:x:1:B","urn:A","a b:B"]}"#;
        assert_eq!(match_reply(reply, false, &ids, &codebook()).answers, [B, A, B]);
    }

    #[test]
    fn a_split_that_could_mean_two_rows_means_none() {
        let ids = ["1", "1:City"].map(|id| Key(id.into()));
        let mut labels = codebook().labels().to_vec();
        labels[1].name = "City:A".into();
        let codebook = Codebook::new(labels, None).unwrap();
        let matched = match_reply("1:City:A", false, &ids, &codebook);
        assert_eq!(matched.answers, [MISSING; 2]);
    }

    proptest! {
        #[test]
        fn only_rows_whose_key_stands_in_the_reply_are_answered(reply in "[0-9:\\[\\]{}\", ABUZ\n]{0,80}") {
            let answers = answers(&reply);
            for (key, answer) in keys().iter().zip(answers) {
                prop_assert!(answer == MISSING || reply.contains(key.as_str()));
            }
        }
    }
}
