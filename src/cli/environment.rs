//! The one place that reads environment variables that are no settings.

use std::path::PathBuf;

/// The variable's value; `None` if it is unset, empty or no text.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The system's folder for temporary files.
pub fn temp_dir() -> PathBuf {
    std::env::temp_dir()
}

/// The user's folder for what is kept between runs: `$XDG_STATE_HOME/batchclass`, else
/// `~/.local/state/batchclass`; `None` if there is no home. Relative paths don't count.
pub fn state_folder() -> Option<PathBuf> {
    state_folder_of(variable)
}

fn state_folder_of(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("batchclass"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_between_runs_stands_where_the_xdg_base_directories_say() {
        let state = |variables: &[(&str, &str)]| {
            let find = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Some(state_folder_of(find)?.display().to_string())
        };
        let home = ("HOME", "/home/me");
        assert_eq!(state(&[home]).as_deref(), Some("/home/me/.local/state/batchclass"));
        let given = state(&[home, ("XDG_STATE_HOME", "/data/state")]);
        assert_eq!(given.as_deref(), Some("/data/state/batchclass"));
        let relative = state(&[home, ("XDG_STATE_HOME", "state")]);
        assert_eq!(relative.as_deref(), Some("/home/me/.local/state/batchclass"));
        assert_eq!(state(&[]), None);
    }
}
