//! The config reader: a text to settings, and settings to a job.
//!
//! Held to: settings or one error of one line, no key in what is said, and the same answer twice.

#![no_main]

use std::path::Path;

use batchclass::cli::config_file::{self, ConfigError};
use batchclass::cli::job::{self, JobError};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Stands for a key in the seeds and the dictionary.
const SECRET: &str = "sk-proj-Zq7Xw9";

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    let file = Path::new("batchclass.toml");
    let settings = match config_file::parse(text, file) {
        Ok(settings) => settings,
        Err(error) => {
            let said = error.to_string();
            assert_eq!(said, config_file::parse(text, file).unwrap_err().to_string());
            assert!(!said.is_empty() && said.len() < 600, "{said:.700}");
            assert!(!said.contains(['\n', '\r', '\u{1b}']), "more than a line: {said:?}");
            // A name that is a key stands where no key would be put by mistake.
            if matches!(error, ConfigError::Unfit { .. } | ConfigError::Syntax { .. }) {
                let key = text.split_once(SECRET).map_or("", |(before, _)| before);
                let is_value = key.ends_with(['"', '\'', ' ']);
                assert!(!is_value || !said.contains(SECRET), "a key is shown: {said}");
            }
            return Corpus::Keep;
        }
    };
    // A file that the config names would be read, whatever it is.
    if settings.task.instructions_file.is_some() {
        return Corpus::Keep;
    }
    let labels = settings.labels.len();
    match job::job(settings, "in.csv".into(), "out".into(), Some(file)) {
        Ok(job) => {
            assert_eq!(job.codebook.labels().len(), labels);
            assert!((1..=900).contains(&job.batch.rows_per_call.get()));
        }
        Err(JobError::Missing(_)) => {}
        Err(error) => {
            let said = error.to_string();
            for place in [format!(":{SECRET}@"), format!("?key={SECRET}")] {
                assert!(!said.contains(&place), "a key is shown: {said}");
            }
            let is_name = !matches!(error, JobError::NoVariableName);
            assert!(is_name || !said.contains(SECRET), "a key is shown: {said}");
        }
    }
    Corpus::Keep
});
