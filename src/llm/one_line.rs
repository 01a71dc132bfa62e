//! Folds a text to one line, so that no row can forge another's and nothing in it is invisible.

use std::borrow::Cow;

/// `text` with every line break, tab and control character turned into a space, one for one.
///
/// So are U+2028 and U+2029, zero-width spaces, direction marks and tag characters, which a person
/// doesn't see and a model reads. The two joiners U+200C and U+200D stay: Persian, Indic scripts
/// and emoji are spelled with them. Borrows if there is nothing to fold.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) || !text.contains(is_folded) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|char| if is_folded(char) { ' ' } else { char }).collect())
}

fn is_folded(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_or_hides_a_line_becomes_a_space() {
        assert_eq!(fold("a\nb\r\nc\td\u{0}e\u{85}f\u{2028}g\u{2029}h"), "a b  c d e f g h");
        assert_eq!(fold("a\u{202e}b\u{feff}c\u{2066}d\u{200b}e\u{e0041}f"), "a b c d e f");
    }

    #[test]
    fn other_text_is_borrowed_unchanged() {
        for text in ["", "  1 High St ", "naïve 漢字", "می\u{200c}خواهم", "👩\u{200d}👧"]
        {
            assert!(matches!(fold(text), Cow::Borrowed(folded) if folded == text), "{text}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        let once = fold("a\n\u{202e}b").into_owned();
        assert!(matches!(fold(&once), Cow::Borrowed(_)));
    }
}
