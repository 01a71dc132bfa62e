//! Makes a service's own words safe to log: no key, no row text, one short line.

use std::collections::HashSet;

use super::ApiKey;

/// Most characters of a service's message that are kept.
pub(super) const MAX_MESSAGE_CHARS: usize = 300;

/// Stands for a message that may hold row texts.
pub(super) const WITHHELD: &str = "(its message quotes the request and is withheld)";

/// A stretch of the request of this many bytes in a message counts as a quotation.
const QUOTED_RUN: usize = 20;

/// A whole row counts as quoted from this length on; anything shorter is likely a word.
const QUOTED_ROW: usize = 8;

/// `message` on one line of at most [`MAX_MESSAGE_CHARS`], without `key`; [`WITHHELD`] if it
/// quotes `user`, the rows of the request.
pub(super) fn scrub(message: &str, key: Option<&ApiKey>, user: &str) -> String {
    let keyless = match key {
        Some(key) => key.redact(message),
        None => message.to_owned(),
    };
    if quotes(&keyless, user) {
        return WITHHELD.to_owned();
    }
    one_line(&keyless)
}

/// `text` with white space and control characters folded to single spaces, and cut.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let visible = |char: &char| !char.is_control() && !char.is_whitespace();
    let mut chars = 0;
    for word in text.split(|char: char| !visible(&char)).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
            chars += 1;
        }
        for char in word.chars() {
            if chars >= MAX_MESSAGE_CHARS - 3 {
                line.truncate(line.trim_end().len());
                line.push_str("...");
                return line;
            }
            line.push(char);
            chars += 1;
        }
    }
    line
}

/// Whether `message` shares a run with `user`, or holds one of its rows whole. Both are compared
/// as words, so that escaped quotes and folded white space don't hide a quotation.
fn quotes(message: &str, user: &str) -> bool {
    let message = words(message);
    let windows: HashSet<&[u8]> = message.as_bytes().windows(QUOTED_RUN).collect();
    user.lines().any(|line| {
        let text = words(line.split_once('\t').map_or(line, |(_, text)| text));
        text.as_bytes().windows(QUOTED_RUN).any(|run| windows.contains(run))
            || (text.len() >= QUOTED_ROW && message.contains(&text))
    })
}

fn words(text: &str) -> String {
    let parts = text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut joined = String::with_capacity(text.len());
    for part in parts {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(part);
    }
    joined.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "417\t12 Queen's Road, Brighton \"rear flat\"\n902\tMill Lane 7\n";

    #[test]
    fn a_message_that_quotes_a_row_is_withheld() {
        for message in [
            "invalid content: 12 Queen's Road, Brighton",
            r#"bad value {"content":"417\t12 Queen's Road, Brighton \"rear flat\""}"#,
            "could not read `mill lane 7`",
        ] {
            assert_eq!(scrub(message, None, USER), WITHHELD, "{message}");
        }
    }

    #[test]
    fn a_message_of_its_own_stands() {
        let message = "The model `gpt-4` does not exist or you do not have access to it.";
        assert_eq!(scrub(message, None, USER), message);
    }

    #[test]
    fn the_key_goes_before_the_cut_can_halve_it() {
        let key = ApiKey::new("sk-secret-123456").unwrap();
        let message = format!("{} sk-secret-123456", "x".repeat(288));
        let scrubbed = scrub(&message, Some(&key), "");
        assert!(!scrubbed.contains("sk-"), "{scrubbed}");
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(scrub("two\r\n\x1b[31m lines\t\u{85}end", None, ""), "two [31m lines end");
        let long = scrub(&"é ".repeat(400), None, "");
        assert!(long.chars().count() <= MAX_MESSAGE_CHARS);
        assert!(long.ends_with("..."));
    }
}
