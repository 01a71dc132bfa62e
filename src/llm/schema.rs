//! The JSON schema that a reply must obey, for services that enforce one.
//!
//! Objects come out with sorted names, so a schema has one text.

use serde_json::{Map, Value, json};

use crate::domain::Codebook;

use super::keys::Key;

/// Strict mode of hosted services takes at most this many enum values; with more codes the schema
/// says "a string" and the matcher alone rules unknown codes out.
const MAX_ENUM_CODES: usize = 1000;

/// `{"r":["417:B",...]}`. With `pattern`, what one answer looks like; see [`answer_pattern`].
pub fn array(pattern: Option<&str>) -> Value {
    let mut answer = json!({"type": "string"});
    if let Some(pattern) = pattern {
        answer["pattern"] = pattern.into();
    }
    json!({
        "type": "object",
        "properties": {"r": {"type": "array", "items": answer}},
        "required": ["r"],
        "additionalProperties": false,
    })
}

/// `{"417":"B",...}`: every key required, none but these, all codes shared through one definition.
pub fn object(keys: &[Key], codebook: &Codebook) -> Value {
    let codes: Vec<&str> = codebook.codes().collect();
    let mut code = json!({"type": "string"});
    if codes.len() <= MAX_ENUM_CODES {
        code["enum"] = json!(codes);
    }
    let shared = json!({"$ref": "#/$defs/code"});
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.as_str().to_owned(), shared.clone())).collect();
    let required: Vec<&str> = keys.iter().map(Key::as_str).collect();
    json!({
        "$defs": {"code": code},
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The regular expression of one answer in the form `array`. Codes are letters, digits, `_` and
/// `-`, so none needs escaping; codes of one character each make a class, which takes half the
/// tokens.
pub fn answer_pattern(codebook: &Codebook, keys_are_digits: bool) -> String {
    let mut codes: Vec<&str> = codebook.codes().collect();
    let key = if keys_are_digits { "[0-9]{3}" } else { ".+" };
    if codes.iter().all(|code| code.len() == 1) {
        // Between others a hyphen would mean a range.
        codes.sort_by_key(|code| *code == "-");
        return format!("^{key}:[{}]$", codes.concat());
    }
    format!("^{key}:({})$", codes.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Label;

    fn codebook(labels: usize) -> Codebook {
        let label = |at: usize| Label {
            name: format!("label {at}"),
            code: format!("c{at}"),
            description: String::new(),
            examples: Vec::new(),
        };
        Codebook::new((0..labels).map(label).collect(), Some("U".into())).unwrap()
    }

    #[test]
    fn codes_of_one_character_make_a_class_that_no_hyphen_turns_into_a_range() {
        let label = |code: &str| Label {
            name: format!("label {code}"),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        };
        let codebook = Codebook::new(vec![label("A"), label("-"), label("_")], None).unwrap();
        assert_eq!(answer_pattern(&codebook, true), "^[0-9]{3}:[A_-]$");
    }

    #[test]
    fn the_array_form_names_its_codes_in_a_pattern() {
        let pattern = answer_pattern(&codebook(2), true);
        assert_eq!(pattern, "^[0-9]{3}:(c0|c1|U)$");
        assert_eq!(answer_pattern(&codebook(2), false), "^.+:(c0|c1|U)$");
        assert_eq!(
            array(Some(&pattern)).to_string(),
            r#"{"additionalProperties":false,"properties":{"r":{"items":{"pattern":"^[0-9]{3}:(c0|c1|U)$","type":"string"},"type":"array"}},"required":["r"],"type":"object"}"#
        );
        assert_eq!(array(None)["properties"]["r"]["items"], json!({"type": "string"}));
    }

    #[test]
    fn the_object_form_requires_every_key_and_shares_the_codes() {
        let keys = [Key("417".into()), Key("902".into())];
        assert_eq!(
            object(&keys, &codebook(2)).to_string(),
            r##"{"$defs":{"code":{"enum":["c0","c1","U"],"type":"string"}},"additionalProperties":false,"properties":{"417":{"$ref":"#/$defs/code"},"902":{"$ref":"#/$defs/code"}},"required":["417","902"],"type":"object"}"##
        );
    }

    #[test]
    fn more_codes_than_an_enum_may_have_are_left_to_the_matcher() {
        let schema = object(&[Key("417".into())], &codebook(1200));
        assert_eq!(schema["$defs"]["code"], json!({"type": "string"}));
    }
}
