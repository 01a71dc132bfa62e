//! Writes a commented config to start from, and never over anything.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The config that is written: a job as it stands.
pub const STARTER: &str = include_str!("starter.toml");

/// Why no config was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something stands there.
    #[error("{} exists already and is left as it is; name another path", .0.display())]
    Exists(PathBuf),
    /// The file can't be made.
    #[error("can't write {}", .file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the starting config to `path`, which must not exist.
///
/// # Errors
/// If something stands at `path`, or it can't be written.
#[expect(
    clippy::disallowed_methods,
    reason = "a config for the user to edit, no part of an output"
)]
pub fn init(path: &Path) -> Result<(), InitError> {
    let unwritable = |source| InitError::Unwritable { file: path.to_owned(), source };
    let mut file = std::fs::File::create_new(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(path.to_owned()),
        _ => unwritable(source),
    })?;
    file.write_all(STARTER.as_bytes()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::super::config_file::parse;
    use super::super::job::job;
    use super::*;

    #[test]
    fn the_config_that_is_written_is_a_job_as_it_stands() {
        let settings = parse(STARTER, Path::new("starter.toml")).unwrap();
        let job = job(settings, "in.csv".into(), "out".into(), None).unwrap();
        assert_eq!(job.codebook.labels().len(), 3);
        assert_eq!(job.limits.tokens_per_minute.map(u32::from), Some(200_000));
    }

    #[test]
    fn every_line_that_is_commented_out_is_a_setting() {
        let is_setting = |line: &&str| {
            let key = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && key.chars().all(|char| char.is_ascii_lowercase() || char == '_')
        };
        let bare = |line: &str| line.trim_start_matches("# ").to_owned();
        let uncommented = STARTER.lines().filter(|line| line.starts_with("# "));
        let count = uncommented.map(bare).filter(|line| is_setting(&line.as_str())).count();
        assert_eq!(count, 9);
        let all: String = STARTER
            .lines()
            .map(|line| if is_setting(&bare(line).as_str()) { bare(line) } else { line.into() } + "\n")
            .collect();
        assert!(parse(&all, Path::new("starter.toml")).is_ok());
    }

    #[test]
    fn a_file_that_exists_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batchclass.toml");
        init(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), STARTER);
        assert!(matches!(init(&path), Err(InitError::Exists(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), STARTER);
    }

    #[test]
    fn a_folder_that_is_missing_is_said() {
        let error = init(Path::new("no/such/folder/x.toml")).unwrap_err();
        assert!(matches!(error, InitError::Unwritable { .. }), "{error}");
    }
}
