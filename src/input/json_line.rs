//! One line of NDJSON as the members of its object, with every value as it is written.
//!
//! serde_json judges whether the line is an object; only then is it taken apart, by its own text, so
//! that numbers and nested values keep every character.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// What may stand between the tokens of JSON.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string, quoted and escaped.
    String(&'a str),
    /// An object or array, as it is written.
    Nested(&'a str),
}

impl<'a> Value<'a> {
    /// What a column of strings holds of it: the string itself, of others their JSON text. `None` is
    /// null, and `Err` an escape that stands for no character.
    pub(super) fn text(self) -> Result<Option<Cow<'a, str>>, BadEscape> {
        Ok(Some(match self {
            Value::Null => return Ok(None),
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            Value::Number(text) | Value::Nested(text) => text.into(),
            Value::String(quoted) => unescaped(quoted)?,
        }))
    }
}

/// An escape sequence that stands for no character, such as half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadEscape;

/// The string that `quoted` stands for.
pub(super) fn unescaped(quoted: &str) -> Result<Cow<'_, str>, BadEscape> {
    match quoted.contains('\\') {
        false => Ok(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().into()),
        true => serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| BadEscape),
    }
}

/// Proves that `line` is a JSON object.
///
/// # Errors
/// The column (from 1) from which on it is none.
pub(super) fn check(line: &str) -> Result<(), usize> {
    let text = line.trim_matches(SPACE);
    let begins = line.find(|char| !SPACE.contains(&char)).unwrap_or(0);
    if !text.starts_with('{') {
        return Err(begins + 1);
    }
    let judged = serde_json::from_str::<IgnoredAny>(text);
    judged.map(|_| ()).map_err(|error| begins + error.column().max(1))
}

/// The members of the object that `line` is, as [`check`] proved: the name, still quoted, and the
/// value of each.
pub(super) fn members(line: &str) -> Members<'_> {
    let text = line.trim_start_matches(SPACE);
    Members { rest: text.strip_prefix('{').unwrap_or_default() }
}

/// What is left of an object that is known to be one.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    /// Takes the first `bytes` of what is left.
    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self, punctuation: char) {
        let is_skipped = |char| char == punctuation || SPACE.contains(&char);
        self.rest = self.rest.trim_start_matches(is_skipped);
    }

    fn value(&mut self) -> Option<Value<'a>> {
        let bytes = self.rest.as_bytes();
        Some(match bytes.first()? {
            b'"' => Value::String(self.take(string_end(bytes)?)?),
            b'{' | b'[' => Value::Nested(self.take(nested_end(bytes)?)?),
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                match self.take(bytes.iter().position(ends)?)? {
                    "null" => Value::Null,
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    number => Value::Number(number),
                }
            }
        })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<(&'a str, Value<'a>)> {
        self.skip(',');
        if !self.rest.starts_with('"') {
            return None;
        }
        let name = self.take(string_end(self.rest.as_bytes())?)?;
        self.skip(':');
        Some((name, self.value()?))
    }
}

/// Where the string at the start of `bytes` ends, its quotes included.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the object or array at the start of `bytes` ends.
fn nested_end(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += string_end(&bytes[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_keep_every_character() {
        let line =
            r#" { "a" : 1.50e3,"b":"x\"}\u00e9" , "c":{"k":[1, "]}"]},"d":[] ,"e":null,"f":true} "#;
        check(line).unwrap();
        let found: Vec<_> = members(line).collect();
        assert_eq!(
            found,
            [
                (r#""a""#, Value::Number("1.50e3")),
                (r#""b""#, Value::String(r#""x\"}\u00e9""#)),
                (r#""c""#, Value::Nested(r#"{"k":[1, "]}"]}"#)),
                (r#""d""#, Value::Nested("[]")),
                (r#""e""#, Value::Null),
                (r#""f""#, Value::Bool(true)),
            ]
        );
        assert_eq!(found[1].1.text(), Ok(Some("x\"}é".into())));
    }

    #[test]
    fn what_is_no_object_is_told_by_its_column() {
        for (line, column) in [
            ("[1]", 1),
            ("  7", 3),
            (r#"{"a":1"#, 6),
            (r#"{"a":01}"#, 7),
            (r#"{"a":1} {"a":2}"#, 9),
            (r#"{"a":NaN}"#, 6),
            ("{'a':1}", 2),
        ] {
            assert_eq!(check(line), Err(column), "{line}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let line = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(check(&line), Ok(()));
        assert_eq!(members(&line).count(), 1);
    }

    #[test]
    fn half_a_pair_is_no_text() {
        assert_eq!(unescaped(r#""\ud800""#), Err(BadEscape));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z\"\\\\{}\\[\\],:é\n]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let name = "[a-z\"\\\\}]{0,3}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_taken_apart_is_the_object(
            object in prop::collection::btree_map("[a-z\"\\\\]{0,4}", json(), 0..5),
        ) {
            let line = serde_json::to_string(&object).unwrap();
            prop_assert_eq!(check(&line), Ok(()));
            let back: std::collections::BTreeMap<String, serde_json::Value> = members(&line)
                .map(|(name, value)| {
                    let value = match value {
                        Value::Null => serde_json::Value::Null,
                        Value::Bool(is_true) => is_true.into(),
                        Value::Number(text) | Value::String(text) | Value::Nested(text) => {
                            serde_json::from_str(text).unwrap()
                        }
                    };
                    (unescaped(name).unwrap().into_owned(), value)
                })
                .collect();
            prop_assert_eq!(back, object);
        }
    }
}
