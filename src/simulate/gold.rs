//! Known answers from a CSV file: text to label name.
//!
//! Texts are compared with every run of white space and control characters as one space, since
//! that is how a prompt carries them.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

/// Known answers. Of a text that stands twice, the first label counts.
#[derive(Debug, Default)]
pub struct Gold {
    labels: Vec<String>,
    by_text: HashMap<u64, u32>,
}

/// Why a gold file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GoldError {
    /// It can't be opened.
    #[error("can't open the gold file `{}`", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no CSV file with a header.
    #[error("can't read the gold file `{}` as CSV with a header", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the reader says.
        source: csv::Error,
    },
    /// A column that it lacks.
    #[error("the gold file `{}` has no column `{column}`; it has {present}", path.display())]
    NoColumn {
        /// Its path.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// The columns that it has.
        present: String,
    },
}

impl Gold {
    /// Reads the columns `text` and `label` of a CSV file with a header.
    ///
    /// # Errors
    /// If the file can't be opened or read, or lacks one of the columns.
    pub fn read(path: &Path, text: &str, label: &str) -> Result<Gold, GoldError> {
        let open =
            File::open(path).map_err(|source| GoldError::Open { path: path.into(), source })?;
        let unreadable = |source| GoldError::Read { path: path.into(), source };
        let mut reader = csv::Reader::from_reader(open);
        let names = reader.headers().map_err(unreadable)?.clone();
        let place = |column: &str| {
            names.iter().position(|name| name == column).ok_or_else(|| GoldError::NoColumn {
                path: path.into(),
                column: column.to_owned(),
                present: quoted(&names),
            })
        };
        let (text_place, label_place) = (place(text)?, place(label)?);
        let mut gold = Gold::default();
        let mut places: HashMap<String, u32> = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let field = |place: usize| record.get(place).filter(|field| !field.is_empty());
            let (Some(text), Some(label)) = (field(text_place), field(label_place)) else {
                continue;
            };
            let next = gold.labels.len() as u32;
            let place = *places.entry(label.to_owned()).or_insert(next);
            if place == next {
                gold.labels.push(label.to_owned());
            }
            gold.by_text.entry(hash_folded(text)).or_insert(place);
        }
        Ok(gold)
    }

    /// The label of `text`, if it is known.
    pub fn label_of(&self, text: &str) -> Option<&str> {
        let place = *self.by_text.get(&hash_folded(text))?;
        self.labels.get(place as usize).map(String::as_str)
    }
}

fn quoted(names: &csv::StringRecord) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn hash_folded(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in text.split(|char: char| char.is_whitespace() || char.is_control()) {
        if !word.is_empty() {
            hasher.write(word.as_bytes());
            hasher.write_u8(b' ');
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    #[test]
    fn texts_are_found_however_their_spaces_are_folded() {
        let file =
            file("id,label,text\n1,a,\"two\nlines, \"\"quoted\"\"\"\n2,b,two\n3,c,two\n4,,x\n");
        let gold = Gold::read(file.path(), "text", "label").unwrap();
        assert_eq!(gold.label_of("two lines, \"quoted\" "), Some("a"));
        assert_eq!(gold.label_of("two"), Some("b"));
        assert_eq!((gold.label_of("x"), gold.label_of("twolines")), (None, None));
    }

    #[test]
    fn a_missing_column_and_a_missing_file_are_named() {
        let file = file("text,category\nx,y\n");
        let error = Gold::read(file.path(), "text", "label").unwrap_err().to_string();
        assert!(error.ends_with("has no column `label`; it has `text`, `category`"), "{error}");
        let error = Gold::read(Path::new("/no/such/file"), "text", "label").unwrap_err();
        assert!(matches!(error, GoldError::Open { .. }));
    }
}
