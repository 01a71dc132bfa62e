//! The one place that prints: data to stdout, messages to stderr.
//!
//! What is printed can't steer the terminal: control characters are shown, not sent. A reader that
//! went away (`| head`) is no error. While a bar is drawn, messages stand above it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, WeakProgressBar};

/// The bar that messages have to stand above.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Makes room above `bar` for every later message, until it is dropped or cleared.
pub fn stand_above(bar: &ProgressBar) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
}

/// Takes the bar off the terminal, so that the shell finds a clean line.
///
/// Gives up rather than wait: a thread that holds the bar may be the one that ends the program.
pub fn clear_bar() {
    let bar = BAR.try_lock().ok().and_then(|mut bar| bar.take());
    if let Some(bar) = bar.and_then(|bar| bar.upgrade()) {
        bar.finish_and_clear();
    }
}

/// Prints data: the lines of `text` to stdout.
///
/// # Errors
/// If stdout can't be written; a reader that went away is no error.
pub fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    ignore_closed_pipe(stdout.write_all(printable(text).as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints a message: the lines of `text` to stderr, a line end added.
pub fn message(text: &str) {
    write_line(&printable(text.trim_end()));
}

/// Asks `question` on stderr and waits for a line on stdin; whether that says yes.
pub fn is_agreed(question: &str) -> bool {
    let mut answer = String::new();
    let shown = write!(io::stderr().lock(), "{} [y/N] ", printable(question));
    let is_read = shown.is_ok() && io::stdin().read_line(&mut answer).is_ok();
    is_read && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Whether a person can be asked: both ends are a terminal.
pub fn is_conversation() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Prints one line of JSON to stderr; it stays valid JSON.
pub fn json_line(json: &str) {
    write_line(&json_escaped(json));
}

fn json_escaped(json: &str) -> Cow<'_, str> {
    escape(json, steers, |char, line| {
        let _ = write!(line, "\\u{:04x}", u32::from(char));
    })
}

fn write_line(text: &str) {
    let line = format!("{text}\n");
    let write = || {
        // Where stderr is gone there is nobody left to tell.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    };
    let bar = BAR.try_lock().ok().and_then(|bar| bar.as_ref().and_then(WeakProgressBar::upgrade));
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Prints `error: ...` with every cause behind it.
pub fn error(error: &dyn Error) {
    message(&format!("error: {}", chain(error)));
}

/// An error and its sources, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// `text` with everything that could steer a terminal shown as an escape; line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |char| !matches!(char, '\n' | '\t') && steers(char), show)
}

/// `text` on one line: like [`printable`], with line ends and tabs shown as escapes too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, steers, show)
}

fn show(char: char, line: &mut String) {
    line.extend(char.escape_default());
}

fn escape(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escaped_as: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_escaped(char) {
            escaped_as(char, &mut escaped);
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, and the marks that turn the direction of the text around them.
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn ignore_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_in_user_data_are_shown_not_sent() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(one_line("a\tb\r\nc"), "a\\tb\\r\\nc");
        assert_eq!(one_line("abc\u{202e}gpj"), "abc\\u{202e}gpj");
    }

    #[test]
    fn json_stays_json_when_it_is_escaped() {
        let json = serde_json::to_string("a\u{9b}31m\u{202e}b").unwrap();
        let escaped = json_escaped(&json);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), "a\u{9b}31m\u{202e}b");
    }

    #[test]
    fn plain_text_of_any_script_is_left_alone() {
        assert!(matches!(one_line("Café 東京 🏠"), Cow::Borrowed(_)));
    }

    #[test]
    fn every_cause_of_an_error_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("can't read `a.toml`")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "can't read `a.toml`: disk on fire");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let closed = || Err(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(ignore_closed_pipe(closed()).is_ok());
        assert!(ignore_closed_pipe(Err(io::Error::other("full"))).is_err());
    }
}
