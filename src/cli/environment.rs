//! The one place that reads environment variables that are no settings.

/// The variable's value; `None` if it is unset, empty or no text.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the environment asks for backtraces.
pub fn wants_backtrace() -> bool {
    variable("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

/// Whether the terminal can't redraw a line.
pub fn is_dumb_terminal() -> bool {
    variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// The names of all variables that are text.
pub fn names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}
