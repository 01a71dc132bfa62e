//! How the bytes of an input's files become rows, where their names and contents don't say it.
//!
//! All of it belongs to the identity of a job: the same files read otherwise are other rows.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The quote of CSV fields unless another is named.
pub const QUOTE: char = '"';

/// How the files are to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// The format of every file, whatever its name; `None` goes by the names.
    pub format: Option<FileFormat>,
    /// Stands between the fields of CSV, one byte; `None` is a comma, in TSV a tab.
    pub delimiter: Option<char>,
    /// Encloses a field of CSV or TSV that holds delimiters or line ends, one byte; `None` encloses
    /// none, so that quotes are part of the text.
    pub quote: Option<char>,
    /// The encoding of text files.
    pub encoding: Encoding,
    /// Whether the first row of CSV and TSV names the columns; otherwise they are `column_1` and on.
    pub header: bool,
    /// What the ids are where the files don't say it.
    pub id_type: IdType,
    /// Whether the names of folders are columns.
    pub hive_partitioning: HivePartitioning,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            format: None,
            delimiter: None,
            quote: Some(QUOTE),
            encoding: Encoding::default(),
            header: true,
            id_type: IdType::Auto,
            hive_partitioning: HivePartitioning::Auto,
        }
    }
}

impl Reading {
    /// Whether nothing is told but what holds by itself.
    pub fn is_default(&self) -> bool {
        *self == Reading::default()
    }
}

/// How a file is written, compression aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Rows of fields with commas between them.
    Csv,
    /// Rows of fields with tabs between them.
    Tsv,
    /// One JSON object a line.
    Ndjson,
}

/// Whether folders called `key=value` are columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HivePartitioning {
    /// They are where there are some.
    #[default]
    Auto,
    /// They are, and every file stands in some.
    True,
    /// They are names like any other.
    False,
}

/// What the ids of CSV, TSV and NDJSON are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdType {
    /// Integers if all of them are, else strings.
    #[default]
    Auto,
    /// Integers, all of them.
    Integer,
    /// Strings, whatever they look like.
    String,
}

/// A character encoding of the web's standard (<https://encoding.spec.whatwg.org>).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// The encoding that goes by `label`, such as `utf-8`, `latin-1` or `utf-16`; `None` if there is
    /// none. As on the web, ISO 8859-1 and ASCII are read as windows-1252, of which they are parts.
    pub fn of(label: &str) -> Option<Encoding> {
        let label = label.trim().to_ascii_lowercase();
        // Names that people write and the standard doesn't list.
        let label = match label.as_str() {
            "latin-1" => "latin1",
            "utf8-sig" | "utf-8-sig" => "utf-8",
            "cp932" => "shift_jis",
            label => label,
        };
        encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).map(Encoding)
    }

    /// Whether the text is read as it stands.
    pub fn is_utf8(self) -> bool {
        self.0 == encoding_rs::UTF_8
    }

    /// A decoder for one text, which drops a byte-order mark and believes one of another encoding.
    pub fn decoder(self) -> encoding_rs::Decoder {
        self.0.new_decoder()
    }
}

impl Default for Encoding {
    fn default() -> Encoding {
        Encoding(encoding_rs::UTF_8)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoding({self})")
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let label = String::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom("no encoding of that name is known");
        Encoding::of(&label).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_goes_by_many_names_and_is_kept_by_its_own() {
        for (label, name) in [
            ("utf8", "UTF-8"),
            ("Latin-1", "windows-1252"),
            ("iso-8859-15", "ISO-8859-15"),
            ("cp1252", "windows-1252"),
            ("utf-16", "UTF-16LE"),
            ("utf-16be", "UTF-16BE"),
        ] {
            let encoding = Encoding::of(label).unwrap();
            assert_eq!(encoding.to_string(), name);
            assert_eq!(Encoding::of(name), Some(encoding), "{name}");
        }
        assert_eq!(Encoding::of("utf-9"), None);
        assert_eq!(Encoding::of("replacement"), None);
    }

    #[test]
    fn what_is_told_reads_back_and_what_is_left_out_holds_by_itself() {
        let told = Reading {
            format: Some(FileFormat::Csv),
            delimiter: Some(';'),
            quote: None,
            encoding: Encoding::of("utf-16").unwrap(),
            header: false,
            id_type: IdType::String,
            hive_partitioning: HivePartitioning::True,
        };
        let json = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&json).unwrap(), told);
        let bare: Reading = serde_json::from_str("{}").unwrap();
        assert!(bare.is_default());
    }
}
