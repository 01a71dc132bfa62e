//! The reply reader and the matcher, over any text.
//!
//! The first byte says whether the reply was cut and whether it is repeated until it is long. Held
//! to: no answer for a key that doesn't stand in the reply, no answer of a cut reply that the
//! whole one contradicts, answers of strict JSON as a JSON parser reads it, and one pass.

#![no_main]

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use batchclass::domain::{Codebook, Label, LabelIndex, Reason};
use batchclass::llm::keys::Key;
use batchclass::llm::reply_matcher::{Answer, match_reply};
use batchclass::llm::reply_reader::{Member, read_members};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

const CODES: [&str; 3] = ["A", "B", "BA"];
/// Three digits, one key within another, and ids of users.
const KEYS: [&str; 7] = ["417", "902", "333", "4170", "a:b", "id 7", "é"];
/// Bytes up to which a reply is repeated.
const LONG: usize = 64 << 10;

static CODEBOOK: LazyLock<Codebook> = LazyLock::new(|| {
    let names = ["City: Prime", "Rural Fringe", "Fees (other)"];
    let label = |(name, code): (&str, &str)| Label {
        name: name.into(),
        code: code.into(),
        description: String::new(),
        examples: Vec::new(),
    };
    Codebook::new(names.into_iter().zip(CODES).map(label).collect(), Some("U".into())).unwrap()
});
static BATCH: LazyLock<Vec<Key>> = LazyLock::new(|| KEYS.map(|key| Key(key.into())).into());

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&how, text)) = data.split_first() else { return Corpus::Reject };
    let text = String::from_utf8_lossy(text);
    if how == 0xf0 && !text.is_empty() {
        reads_in_one_pass(&text.repeat(LONG / text.len()));
        return Corpus::Keep;
    }
    let is_cut = how & 1 == 1;
    answers_stand_in_the_reply(&text, is_cut);
    a_cut_adds_nothing(&text, is_cut);
    strict_json_is_read_as_json(&text);
    Corpus::Keep
});

fn answers_of(reply: &str, is_cut: bool) -> Vec<Answer> {
    match_reply(reply, is_cut, &BATCH, &CODEBOOK).answers
}

fn answers_stand_in_the_reply(reply: &str, is_cut: bool) {
    let matched = match_reply(reply, is_cut, &BATCH, &CODEBOOK);
    assert_eq!(matched.answers.len(), BATCH.len());
    let answered = matched.answers.iter().filter(|answer| **answer != MISSING).count();
    assert!(matched.members >= answered + matched.foreign);
    assert!(matched.members <= reply.len());
    let decoded = decoded(reply);
    for (key, answer) in BATCH.iter().zip(&matched.answers) {
        let stands = reply.contains(key.as_str()) || decoded.contains(key.as_str());
        assert!(*answer == MISSING || stands, "{answer:?} for {key}, which is not in {reply:?}");
    }
}

const MISSING: Answer = Answer::Unresolved(Reason::Missing);
const CONFLICTING: Answer = Answer::Unresolved(Reason::Conflicting);

/// Any beginning of a reply says what the whole says, or less; the whole may add a contradiction.
fn a_cut_adds_nothing(reply: &str, is_cut: bool) {
    let whole = answers_of(reply, is_cut);
    let members = sorted_members(reply, is_cut);
    let step = reply.len() / 48 + 1;
    for (at, _) in reply.char_indices().filter(|(at, _)| at % step == 0) {
        let (part, cut) = (&reply[..at], answers_of(&reply[..at], true));
        for ((cut, whole), key) in cut.iter().zip(&whole).zip(BATCH.iter()) {
            let is_kept = *cut == MISSING || cut == whole || *whole == CONFLICTING;
            assert!(is_kept, "{key}: {cut:?} in {part:?}, {whole:?} in {reply:?}");
        }
        let mut left = members.iter();
        for member in sorted_members(part, true) {
            assert!(left.any(|other| *other == member), "{member:?} of {part:?} not in {reply:?}");
        }
    }
}

fn sorted_members(reply: &str, is_cut: bool) -> Vec<String> {
    let in_words = |member: Member<'_>| match member {
        Member::Pair { key, code } => format!("{key}\u{1}{code}"),
        Member::Joined(text) => text.into_owned(),
    };
    let mut members: Vec<_> = read_members(reply, is_cut).into_iter().map(in_words).collect();
    members.sort_unstable();
    members
}

/// Where the whole reply is JSON in one of the forms that are asked for, and every answer in it is
/// of the plainest kind, the answers are those that a JSON parser finds.
fn strict_json_is_read_as_json(reply: &str) {
    let Ok(value) = serde_json::from_str::<Value>(reply) else { return };
    let pairs: Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> = match &value {
        Value::Object(entries) if entries.len() == 1 && entries.contains_key("r") => {
            let items = entries["r"].as_array().into_iter().flatten();
            items.map(|item| item.as_str()?.split_once(':')).map(borrowed).collect()
        }
        // A map keeps one of repeated names, so the reply must not have more than it kept.
        Value::Object(entries) if reply.matches(':').count() == entries.len() => {
            let plain = |(key, code): (&'_ String, &'_ Value)| {
                Some((key.clone().into(), code.as_str()?.to_owned().into()))
            };
            entries.iter().map(plain).collect()
        }
        _ => None,
    };
    let Some(pairs) = pairs.filter(|pairs| pairs.iter().all(is_plain)) else { return };
    let mut expected = vec![MISSING; KEYS.len()];
    for (key, code) in &pairs {
        let place = KEYS.iter().position(|other| other == key).unwrap();
        let label = CODES.iter().position(|other| other == code).unwrap();
        let answer = Answer::Label(LabelIndex(label.try_into().unwrap()));
        let agrees = expected[place] == MISSING || expected[place] == answer;
        expected[place] = if agrees { answer } else { CONFLICTING };
    }
    assert_eq!(answers_of(reply, false), expected, "{reply:?}");
}

fn borrowed<'a>(pair: Option<(&'a str, &'a str)>) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    pair.map(|(key, code)| (key.into(), code.into()))
}

fn is_plain((key, code): &(Cow<'_, str>, Cow<'_, str>)) -> bool {
    KEYS.contains(&&**key) && CODES.contains(&&**code)
}

/// `reply` with every escape decoded, wherever it stands.
fn decoded(reply: &str) -> String {
    let mut text = String::with_capacity(reply.len());
    let mut rest = reply;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escaped = &rest[at + 1..];
        let unicode = escaped.strip_prefix('u').and_then(|digits| digits.get(..4));
        let decoded = unicode.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        (rest, _) = match (decoded.and_then(char::from_u32), escaped.chars().next()) {
            (Some(char), _) => (&escaped[5..], text.push(char)),
            (None, Some(char)) => (&escaped[char.len_utf8()..], text.push(char)),
            (None, None) => ("", ()),
        };
    }
    text + rest
}

fn reads_in_one_pass(reply: &str) {
    let began = Instant::now();
    for is_cut in [false, true] {
        let _ = match_reply(reply, is_cut, &BATCH, &CODEBOOK);
        let bytes: usize = sorted_members(reply, is_cut).iter().map(String::len).sum();
        // A key stands before each code of its object, so members may be longer than the reply.
        assert!(bytes <= reply.len() * 64, "{bytes} bytes of members");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
