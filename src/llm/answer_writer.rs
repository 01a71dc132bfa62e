//! Writes an answer the way a model would: `{"r":["417:B"]}`, `{"417":"B"}` or `417:B`.
//!
//! It writes what it is given, in that order, repeated keys too, so that a rehearsal can also
//! misbehave.

use crate::domain::spec::AnswerForm;

/// An answer's text, and how far each of its members reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenAnswer {
    /// The whole text.
    pub content: String,
    /// For each member, the bytes of `content` up to and including its terminator: a comma, a
    /// bracket, a line end. A reply that is cut before that does not hold the member.
    pub ends: Vec<usize>,
}

/// Writes `members`, pairs of key and code, in the given form.
pub fn write_answer(form: AnswerForm, members: &[(&str, &str)]) -> WrittenAnswer {
    let (opening, separator, closing) = match form {
        AnswerForm::Array => ("{\"r\":[", ",", "]}"),
        AnswerForm::Object => ("{", ",", "}"),
        AnswerForm::Lines => ("", "\n", ""),
    };
    let mut content = String::with_capacity(members.len() * 12 + 8);
    let mut ends = Vec::with_capacity(members.len());
    content.push_str(opening);
    for (at, (key, code)) in members.iter().enumerate() {
        if at > 0 {
            content.push_str(separator);
            ends.push(content.len());
        }
        match form {
            AnswerForm::Array => {
                content.push('"');
                push_escaped(&mut content, key);
                content.push(':');
                push_escaped(&mut content, code);
                content.push('"');
            }
            AnswerForm::Object => {
                content.push('"');
                push_escaped(&mut content, key);
                content.push_str("\":\"");
                push_escaped(&mut content, code);
                content.push('"');
            }
            AnswerForm::Lines => {
                content.push_str(key);
                content.push(':');
                content.push_str(code);
            }
        }
    }
    content.push_str(closing);
    if !members.is_empty() {
        ends.push(content.len());
    }
    WrittenAnswer { content, ends }
}

/// Appends `text` as the inside of a JSON string.
fn push_escaped(content: &mut String, text: &str) {
    let needs_none = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(needs_none) {
        content.push_str(text);
        return;
    }
    let quoted = serde_json::Value::from(text).to_string();
    content.push_str(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [(&str, &str); 2] = [("417", "B"), ("902", "A")];

    #[test]
    fn each_form_is_written_as_documented() {
        let content = |form| write_answer(form, &MEMBERS).content;
        assert_eq!(content(AnswerForm::Array), r#"{"r":["417:B","902:A"]}"#);
        assert_eq!(content(AnswerForm::Object), r#"{"417":"B","902":"A"}"#);
        assert_eq!(content(AnswerForm::Lines), "417:B\n902:A");
    }

    #[test]
    fn a_member_ends_with_its_terminator() {
        let written = write_answer(AnswerForm::Array, &MEMBERS);
        assert_eq!(&written.content[..written.ends[0]], r#"{"r":["417:B","#);
        assert_eq!(written.ends[1], written.content.len());
        let written = write_answer(AnswerForm::Lines, &MEMBERS);
        assert_eq!(&written.content[..written.ends[0]], "417:B\n");
    }

    #[test]
    fn strange_keys_stay_valid_json() {
        let written = write_answer(AnswerForm::Object, &[("a\"\\\u{1}é", "B")]);
        let read: serde_json::Value = serde_json::from_str(&written.content).unwrap();
        assert_eq!(read["a\"\\\u{1}é"], "B");
    }

    #[test]
    fn no_members_is_an_empty_answer() {
        let written = write_answer(AnswerForm::Array, &[]);
        assert_eq!((written.content.as_str(), written.ends.len()), (r#"{"r":[]}"#, 0));
    }
}
