//! Reads whatever a model answered into members, in the order of the text, losing none.
//!
//! Tolerant: fences, prose, a byte-order mark, trailing or missing commas and a cut end are
//! survived. A member counts only once what ends it was seen (a comma, a bracket, a line end, or
//! the end of a reply that was not cut), so a cut never changes what a member says. One pass, no
//! recursion, at most `MAX_DEPTH` containers deep. What members mean is not decided here.

use std::borrow::Cow;

/// Containers within each other that are followed; no form of an answer needs more than four.
const MAX_DEPTH: usize = 32;

/// Longest key that is taken from a field; it is repeated for every code field of its object.
const MAX_FIELD_KEY: usize = 512;
/// What may stand between a key and its code in one text.
pub const SEPARATORS: [char; 3] = [':', '=', '\t'];
/// Names under which a row's key may stand beside its code, the surest first.
const KEY_NAMES: [&str; 4] = ["key", "k", "id", "row"];
/// Names under which its code may stand.
const CODE_NAMES: [&str; 6] = ["c", "code", "label", "category", "answer", "class"];

/// One answer as it stands in a reply: unescaped, not yet trimmed or judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member<'a> {
    /// Key and code stood apart, as in `"417":"B"` or `{"id":417,"c":"B"}`.
    Pair {
        /// What stood in the key's place.
        key: Cow<'a, str>,
        /// What stood in the code's place.
        code: Cow<'a, str>,
    },
    /// Key and code stood in one text with a colon, an equals sign or a tab in it, as in `417:B`.
    Joined(Cow<'a, str>),
}

/// The members of `reply`, repeated ones too. `is_cut` says that the reply ended because it was too
/// long, so that a last word without an end is none.
///
/// Objects with an id and a code field are one member per code field; in other objects each name
/// with a plain value is one, whatever surrounds it. Text outside JSON is read line by line.
pub fn read_members(reply: &str, is_cut: bool) -> Vec<Member<'_>> {
    let text = skip_thoughts(reply.strip_prefix('\u{feff}').unwrap_or(reply));
    let mut reader = Reader { text, at: 0, is_cut, frames: Vec::new(), members: Vec::new() };
    while reader.at < text.len() {
        if reader.frames.is_empty() { reader.read_line() } else { reader.read_json() }
    }
    reader.end_of_text();
    reader.members
}

/// Reasoning that some services leave in front of the answer is none of it.
fn skip_thoughts(text: &str) -> &str {
    const CLOSE: &str = "</think>";
    if !text.trim_start().starts_with("<think>") {
        return text;
    }
    text.find(CLOSE).map_or("", |at| &text[at + CLOSE.len()..])
}

/// A container that is open at the reader's place.
struct Frame<'a> {
    /// `}` or `]`.
    close: u8,
    /// In an object: the name whose value comes next.
    name: Option<Cow<'a, str>>,
    /// A plain value that still lacks its end.
    pending: Option<Cow<'a, str>>,
    /// An object's finished names and plain values.
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Frame<'_> {
    fn new(close: u8) -> Self {
        Frame { close, name: None, pending: None, pairs: Vec::new() }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    is_cut: bool,
    /// Empty between JSON values.
    frames: Vec<Frame<'a>>,
    members: Vec<Member<'a>>,
}

impl<'a> Reader<'a> {
    /// Outside JSON: takes a line, or what stands before the first bracket in it.
    fn read_line(&mut self) {
        let rest = &self.text[self.at..];
        let Some(length) = rest.find(['\n', '\r', '{', '[']) else {
            if !self.is_cut {
                self.take_line(rest);
            }
            self.at = self.text.len();
            return;
        };
        self.at += length + 1;
        match rest.as_bytes()[length] {
            b'{' => self.frames.push(Frame::new(b'}')),
            b'[' => self.frames.push(Frame::new(b']')),
            _ => self.take_line(&rest[..length]),
        }
    }

    fn take_line(&mut self, line: &'a str) {
        let line = line.trim();
        let line = ["- ", "* ", "• "].iter().find_map(|dot| line.strip_prefix(dot)).unwrap_or(line);
        let line = line.strip_suffix(',').unwrap_or(line);
        if has_separator(line) {
            self.members.push(Member::Joined(line.into()));
        }
    }

    /// Inside a container: takes one bracket, comma, colon, string or bare word.
    fn read_json(&mut self) {
        let rest = &self.text[self.at..];
        let word = rest.trim_start_matches(|char: char| char.is_whitespace());
        self.at += rest.len() - word.len();
        let Some(&first) = word.as_bytes().first() else { return };
        match first {
            b'{' => self.open(b'}'),
            b'[' => self.open(b']'),
            b'}' | b']' => self.close(first),
            b',' => {
                self.at += 1;
                self.finish_value();
            }
            b':' => self.take_colon(),
            b'"' => match read_string(&word[1..]) {
                Some((string, length)) => {
                    self.at += 1 + length;
                    self.take_value(string);
                }
                None => self.skip_broken_string(word),
            },
            _ => {
                let in_object = self.frames.last().is_some_and(|frame| frame.close == b'}');
                let ends = |char: char| match char {
                    ',' | '[' | ']' | '{' | '}' | '"' | '\n' | '\r' => true,
                    ':' => in_object,
                    _ => false,
                };
                let length = word.find(ends).unwrap_or(word.len());
                self.at += length;
                self.take_value(word[..length].trim().trim_matches(['\'', '`']).into());
            }
        }
    }

    fn open(&mut self, close: u8) {
        self.at += 1;
        self.finish_value();
        if self.frames.len() < MAX_DEPTH {
            self.frames.push(Frame::new(close));
        } else {
            self.abandon();
        }
    }

    fn close(&mut self, close: u8) {
        self.at += 1;
        self.finish_value();
        let Some(frame) = self.frames.pop() else { return };
        let is_whole = frame.close == close;
        self.take_pairs(frame.pairs, is_whole);
        match self.frames.last_mut() {
            // The container was the value of its parent's name.
            Some(parent) if is_whole => parent.name = None,
            Some(_) => self.abandon(),
            None => {}
        }
    }

    /// The word before a colon is a name.
    fn take_colon(&mut self) {
        self.at += 1;
        let Some(frame) = self.frames.last_mut() else { return };
        match frame.pending.take() {
            Some(name) if frame.name.is_none() => frame.name = Some(name),
            _ => self.abandon(),
        }
    }

    fn take_value(&mut self, value: Cow<'a, str>) {
        self.finish_value();
        if let Some(frame) = self.frames.last_mut() {
            frame.pending = Some(value);
        }
    }

    /// What ends a value was seen: a comma, a bracket, or the next value if the comma is missing.
    fn finish_value(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        let Some(value) = frame.pending.take() else { return };
        if let Some(name) = frame.name.take() {
            frame.pairs.push((name, value));
        } else if has_separator(&value) {
            self.members.push(Member::Joined(value));
        }
    }

    /// Makes members of a container's names and plain values. Fields such as `id` and `code` are
    /// only understood in a whole object, since what contradicts them may stand in a missing end.
    fn take_pairs(&mut self, pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>, is_whole: bool) {
        let key_of_fields = KEY_NAMES
            .iter()
            .find_map(|wanted| pairs.iter().find(|(name, _)| name == wanted))
            .map(|(_, key)| key)
            .or_else(|| self.frames.last().and_then(|parent| parent.name.as_ref()))
            .filter(|key| key.len() <= MAX_FIELD_KEY)
            .cloned();
        for (name, value) in pairs {
            let is_code_field = CODE_NAMES.contains(&&*name);
            match &key_of_fields {
                _ if !is_code_field && !KEY_NAMES.contains(&&*name) => {
                    self.members.push(Member::Pair { key: name, code: value });
                }
                Some(key) if is_whole && is_code_field => {
                    self.members.push(Member::Pair { key: key.clone(), code: value });
                }
                None if is_whole => self.members.push(Member::Pair { key: name, code: value }),
                _ => {}
            }
        }
    }

    /// A string without its closing quote: the rest of its line is lost.
    fn skip_broken_string(&mut self, string: &str) {
        self.finish_value();
        match string.find(['\n', '\r']) {
            Some(length) => {
                self.at += length;
                self.abandon();
            }
            None => self.at = self.text.len(),
        }
    }

    /// This is no JSON: what is complete stands, and the rest is read as text.
    fn abandon(&mut self) {
        while let Some(frame) = self.frames.pop() {
            self.take_pairs(frame.pairs, false);
        }
    }

    /// The end of a reply that was not cut ends everything that is open.
    fn end_of_text(&mut self) {
        if self.is_cut {
            return self.abandon();
        }
        self.finish_value();
        while let Some(frame) = self.frames.pop() {
            self.take_pairs(frame.pairs, true);
        }
    }
}

fn has_separator(text: &str) -> bool {
    text.contains(SEPARATORS)
}

/// Reads the string whose opening quote stands before `text`: its content, and its length with the
/// closing quote. `None` if a line end or the end of the reply comes first.
fn read_string(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let end = text.find(['"', '\\', '\n', '\r'])?;
    match text.as_bytes()[end] {
        b'"' => Some((Cow::Borrowed(&text[..end]), end + 1)),
        b'\\' => {
            let mut content = text[..end].to_owned();
            let mut chars = text[end..].chars();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\n' | '\r' => return None,
                    '\\' => content.push(read_escape(&mut chars)?),
                    char => content.push(char),
                }
            }
            Some((Cow::Owned(content), text.len() - chars.as_str().len()))
        }
        _ => None,
    }
}

/// What an escape stands for; an unknown one stands for its own character.
fn read_escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => {
            let first = read_hex(chars)?;
            let second = chars.as_str().strip_prefix("\\u").map(str::chars);
            match (first, second) {
                (0xd800..=0xdbff, Some(mut rest)) => match read_hex(&mut rest)? {
                    low @ 0xdc00..=0xdfff => {
                        *chars = rest;
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00))?
                    }
                    _ => char::REPLACEMENT_CHARACTER,
                },
                _ => char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
            }
        }
        // No line end stands in a string, or a cut after it would change what the string is.
        '\n' | '\r' => return None,
        char => char,
    })
}

fn read_hex(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let digits = chars.as_str().get(..4)?;
    let value = u32::from_str_radix(digits, 16).ok()?;
    *chars = chars.as_str()[4..].chars();
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Members as `key>code` or the joined text.
    fn read(reply: &str) -> Vec<String> {
        show(read_members(reply, false))
    }

    fn read_cut(reply: &str) -> Vec<String> {
        show(read_members(reply, true))
    }

    fn show(members: Vec<Member<'_>>) -> Vec<String> {
        let show = |member| match member {
            Member::Pair { key, code } => format!("{key}>{code}"),
            Member::Joined(text) => text.into_owned(),
        };
        members.into_iter().map(show).collect()
    }

    #[test]
    fn every_form_of_an_answer_is_read() {
        for (reply, members) in [
            (r#"{"r":["417:B","902:A"]}"#, vec!["417:B", "902:A"]),
            (r#"["417:B","902:A"]"#, vec!["417:B", "902:A"]),
            (r#"{"answers": [ "417:B" , "902:A" ]}"#, vec!["417:B", "902:A"]),
            (r#"{"417":"B","902":"A"}"#, vec!["417>B", "902>A"]),
            (r#"{"417":5,"902":true}"#, vec!["417>5", "902>true"]),
            (r#"{"r":{"417":"B","902":"A"}}"#, vec!["417>B", "902>A"]),
            (r#"[{"417":"B"},{"902":"A"}]"#, vec!["417>B", "902>A"]),
            (r#"[{"id":417,"c":"B"},{"c":"A","id":"902"}]"#, vec!["417>B", "902>A"]),
            (r#"{"417":{"label":"B"},"902":{"code":"A"}}"#, vec!["417>B", "902>A"]),
            ("417:B\n902\tA\n", vec!["417:B", "902\tA"]),
            ("- 417: B\r\n* 902 = A", vec!["417: B", "902 = A"]),
        ] {
            assert_eq!(read(reply), members, "{reply}");
        }
    }

    #[test]
    fn what_surrounds_an_answer_is_survived() {
        for reply in [
            "\u{feff}{\"r\":[\"417:B\",\"902:A\"]}",
            "```json\n{\"r\":[\"417:B\",\"902:A\"]}\n```",
            "Sure! {\"r\":[\"417:B\",\"902:A\"]} I hope [this] helps.",
            "{\"r\":[\"417:B\",\"902:A\",],}",
            "{\"r\":[\"417:B\" \"902:A\"]",
            "{'r': [417:B, 902:A]}",
            "{\"r\":[\"\\u0034\\u0031\\u0037:\\u0042\",\"902:A\"}}",
            "<think>417: A or {\"417\":\"A\"}?</think>\n417:B\n902:A",
            "Answers [two]:\n417:B\n902:A\n",
            "```\n417:B\n902:A\n```",
        ] {
            let members: Vec<String> = read(reply)
                .into_iter()
                .filter(|member| member.starts_with(|char: char| char.is_ascii_digit()))
                .collect();
            assert_eq!(members, ["417:B", "902:A"], "{reply}");
        }
    }

    #[test]
    fn repeated_keys_are_all_kept() {
        assert_eq!(read(r#"{"417":"B","417":"A"}"#), ["417>B", "417>A"]);
        assert_eq!(read(r#"{"r":["417:B"]} {"r":["417:A"]}"#), ["417:B", "417:A"]);
        assert_eq!(read("417:A\n{\"417\":\"B\"}"), ["417:A", "417>B"]);
    }

    #[test]
    fn a_word_without_its_end_is_no_member_of_a_cut_reply() {
        assert_eq!(read_cut(r#"{"r":["902:A","417:B"#), ["902:A"]);
        assert_eq!(read_cut(r#"{"r":["902:A","417:B""#), ["902:A"]);
        assert_eq!(read_cut(r#"{"r":["902:A","417:B","#), ["902:A", "417:B"]);
        assert_eq!(read_cut(r#"{"902":"A","417":"B"#), ["902>A"]);
        assert_eq!(read_cut(r#"[{"id":902,"c":"A"},{"id":417,"c":"B","#), ["902>A"]);
        assert_eq!(read_cut("902:A\n417:B"), ["902:A"]);
        assert_eq!(read_cut("<think>902:A\n"), [""; 0]);
    }

    #[test]
    fn the_end_of_a_whole_reply_ends_its_last_word() {
        assert_eq!(read("902:A\n417:B"), ["902:A", "417:B"]);
        assert_eq!(read(r#"{"902":"A","417":"B""#), ["902>A", "417>B"]);
        assert_eq!(read(r#"[{"id":417,"c":"B""#), ["417>B"]);
        assert_eq!(read(r#"{"r":["902:A","417:B"#), ["902:A"]);
    }

    #[test]
    fn fields_beside_id_and_code_are_no_answer_to_the_row() {
        assert_eq!(read(r#"{"id":417,"c":"B","why":"near"}"#), ["417>B", "why>near"]);
        assert_eq!(read(r#"{"row":1,"key":417,"c":"B"}"#), ["417>B"]);
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(read(r#"["5:\ud83d\ude00\u00e9\/\"\\"]"#), ["5:😀é/\"\\"]);
        assert_eq!(read(r#"["5:\ud83d"]"#), ["5:\u{fffd}"]);
        assert_eq!(read(r#"["5:\ud83dx","6:\u12"]"#), ["5:\u{fffd}x"]);
    }

    #[test]
    fn a_megabyte_of_brackets_or_quotes_is_read_in_one_pass() {
        for unit in [
            "[", "{", "[[{", "\"", "\\", "{\"a\":", "]", ":", "[\"", "[\n", "{\"\n", "a:[", "\"\\u",
        ] {
            let text = unit.repeat(1_000_000 / unit.len());
            for is_cut in [false, true] {
                let _ = read_members(&text, is_cut);
            }
        }
    }

    fn reply_like() -> impl Strategy<Value = String> {
        let bit = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\n",
            "417",
            "902",
            "B",
            "A",
            "\"417:B\"",
            "\"902\"",
            "\"id\":417",
            "\"c\":\"B\"",
            "\"r\":[",
            "417:B",
            "\\",
            "\\u00",
            " ",
            "- ",
            "é",
            "<think>",
            "</think>",
            "```",
            "'",
            "\t",
            "=",
            "\u{feff}",
            "\"code\":",
        ]);
        prop::collection::vec(bit, 0..40).prop_map(|bits| bits.concat())
    }

    #[test]
    fn a_line_end_breaks_a_string_even_behind_a_backslash() {
        let reply = "{\"\\\n{={\"417:B\"";
        for (at, _) in reply.char_indices() {
            let whole = read(reply);
            assert!(read_cut(&reply[..at]).iter().all(|member| whole.contains(member)), "{at}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn a_cut_reply_has_no_member_that_the_whole_lacks(reply in reply_like()) {
            let whole = read(&reply);
            for (at, _) in reply.char_indices() {
                let mut left = whole.clone();
                for member in read_cut(&reply[..at]) {
                    let found = left.iter().position(|other| *other == member);
                    prop_assert!(found.is_some(), "{member:?} of {:?} is not in {left:?}", &reply[..at]);
                    left.swap_remove(found.unwrap());
                }
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(reply in any::<String>(), is_cut in any::<bool>()) {
            read_members(&reply, is_cut);
        }
    }
}
