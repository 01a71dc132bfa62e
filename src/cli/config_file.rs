//! Reads `batchclass.toml` into settings. Whatever it can't read, it names: key, table, file, line
//! and what is wanted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::console::one_line;
use super::label_setting::LabelSetting;
use super::section::Refusal;
use super::settings::Settings;
use super::values::Setting as _;
use crate::domain::Location;

/// The config that is read when none is named: in the current folder, nowhere else.
pub const DEFAULT_PATH: &str = "batchclass.toml";

/// A place in a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file.display(), self.line)
    }
}

/// Why a config can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("can't read the config {}", .file.display())]
    Unreadable {
        /// The file, as it was named.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no TOML.
    #[error("{place}: {problem}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong, in the parser's words.
        problem: String,
    },
    /// A key that no table has.
    #[error("unknown key `{key}`{table}, {place}{hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table that it stands in.
        table: TableName,
        /// Where.
        place: Place,
        /// What may have been meant.
        hint: Hint,
    },
    /// A table that a config doesn't have.
    #[error("unknown table [{name}], {place}{hint}")]
    UnknownTable {
        /// Its name.
        name: String,
        /// Where.
        place: Place,
        /// What may have been meant.
        hint: Hint,
    },
    /// A value that isn't what its key wants.
    #[error("`{key}`{table}, {place}, wants {wanted}, not {found}")]
    Unfit {
        /// The key.
        key: String,
        /// The table that it stands in.
        table: TableName,
        /// Where.
        place: Place,
        /// What it wants.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A key in a file that is copied, shared and committed.
    #[error(
        "`{key}` in {place}: a key never stands in the config; put it into an environment \
         variable and name that: api_key_env = \"OPENAI_API_KEY\""
    )]
    KeyInFile {
        /// The key's name.
        key: String,
        /// Where.
        place: Place,
    },
}

/// A table's name in a sentence: ` in [batch]`, or nothing for the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(&'static str);

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " in [{}]", self.0) }
    }
}

/// What may have been meant: `; did you mean ...?`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint(Option<String>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |hint| write!(f, "; did you mean {hint}?"))
    }
}

/// Reads the config at `file`; a path in it counts from the config's folder.
///
/// # Errors
/// If the file can't be read, or holds anything that is no setting.
pub fn read(file: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let mut settings = parse(&text, file)?;
    let paths = [
        &mut settings.task.instructions_file,
        &mut settings.input.temp_dir,
        &mut settings.output.journal_folder,
    ];
    let fit = settings.model.fit.as_mut().filter(|fit| !is_object_url(fit));
    for path in paths.into_iter().flatten().chain(fit) {
        *path = file.parent().unwrap_or(Path::new("")).join(&*path);
    }
    Ok(settings)
}

/// Whether what was written is no path; whatever it is else, whoever reads it says what is wrong.
fn is_object_url(path: &Path) -> bool {
    !matches!(Location::parse(path.as_os_str()), Ok(Location::Path(_)))
}

/// Reads the text of a config; `file` is only named in errors.
///
/// # Errors
/// If the text holds anything that is no setting.
pub fn parse(text: &str, file: &Path) -> Result<Settings, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let reader = Reader { text, file };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: reader.place(error.span().map_or(0, |span| span.start)),
        problem: error.message().trim().replace('\n', "; "),
    })?;
    reader.settings(document.get_ref())
}

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Reader<'_> {
    fn settings(&self, document: &DeTable<'_>) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for (key, value) in document {
            let name = key.get_ref().as_ref();
            let table =
                Settings::TABLES.iter().find(|(table, _)| !table.is_empty() && *table == name);
            match (table, value.get_ref()) {
                _ if name == "labels" => settings.labels = self.labels(value)?,
                (Some((table, _)), DeValue::Table(entries)) => {
                    for (key, value) in entries {
                        self.set(&mut settings, table, key, value)?;
                    }
                }
                (Some(_), _) => {
                    let wanted = format!("a table: write [{name}] on a line of its own");
                    return Err(self.unfit("", key, value, wanted));
                }
                (None, DeValue::Table(_)) if !is_top_key(name) => {
                    let names = Settings::TABLES.iter().map(|(table, _)| *table);
                    return Err(ConfigError::UnknownTable {
                        name: shown(name),
                        place: self.place(key.span().start),
                        hint: nearest(name, names)
                            .map_or(Hint(None), |table| Hint(Some(format!("[{table}]")))),
                    });
                }
                (None, _) => self.set(&mut settings, "", key, value)?,
            }
        }
        Ok(settings)
    }

    fn set(
        &self,
        settings: &mut Settings,
        table: &'static str,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Result<(), ConfigError> {
        match settings.set(table, key.get_ref(), value.get_ref()) {
            Ok(()) => Ok(()),
            Err(Refusal::UnknownKey) => Err(self.unknown(table, key)),
            Err(Refusal::Unfit { wanted }) => Err(self.unfit(table, key, value, wanted)),
        }
    }

    fn labels(&self, value: &Value<'_>) -> Result<Vec<LabelSetting>, ConfigError> {
        let wanted = || "tables: write [[labels]] on a line of its own for each label".to_owned();
        let unfit = |found: &Value<'_>| ConfigError::Unfit {
            key: "labels".into(),
            table: TableName(""),
            place: self.place(found.span().start),
            wanted: wanted(),
            found: found_in_words(found.get_ref()),
        };
        let tables = value.get_ref().as_array().ok_or_else(|| unfit(value))?;
        let read = |entry: &Value<'_>| match entry.get_ref() {
            DeValue::Table(entries) => self.label(entries),
            _ => Err(unfit(entry)),
        };
        tables.iter().map(read).collect()
    }

    fn label(&self, entries: &DeTable<'_>) -> Result<LabelSetting, ConfigError> {
        const TABLE: &str = "[labels]";
        let mut label = LabelSetting::default();
        for (key, value) in entries {
            let text = || {
                String::from_toml(value.get_ref())
                    .ok_or_else(|| self.unfit(TABLE, key, value, String::wanted()))
            };
            match key.get_ref().as_ref() {
                "name" => label.name = text()?,
                "code" => label.code = Some(text()?),
                "description" => label.description = text()?,
                "examples" => {
                    let texts = value.get_ref().as_array().and_then(|examples| {
                        examples.iter().map(|text| String::from_toml(text.get_ref())).collect()
                    });
                    let wanted = || "a list of texts, such as [\"...\", \"...\"]".to_owned();
                    label.examples =
                        texts.ok_or_else(|| self.unfit(TABLE, key, value, wanted()))?;
                }
                _ => return Err(self.unknown(TABLE, key)),
            }
        }
        Ok(label)
    }

    fn unknown(&self, table: &'static str, key: &Key<'_>) -> ConfigError {
        let place = self.place(key.span().start);
        let name = key.get_ref().as_ref();
        let is_key = matches!(fold(name).as_str(), "apikey" | "openaiapikey" | "secret" | "token");
        if is_key {
            return ConfigError::KeyInFile { key: shown(name), place };
        }
        let hint = Hint(suggestion(table, name));
        ConfigError::UnknownKey { key: shown(name), table: TableName(table), place, hint }
    }

    fn unfit(
        &self,
        table: &'static str,
        key: &Key<'_>,
        value: &Value<'_>,
        wanted: String,
    ) -> ConfigError {
        ConfigError::Unfit {
            key: shown(key.get_ref()),
            table: TableName(table),
            place: self.place(value.span().start),
            wanted,
            found: found_in_words(value.get_ref()),
        }
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        Place { file: self.file.to_owned(), line }
    }
}

fn is_top_key(name: &str) -> bool {
    Settings::TABLES.iter().any(|(table, keys)| table.is_empty() && keys.contains(&name))
}

/// The key that `name` may be: of its own table first, then the same key of another one.
fn suggestion(table: &str, name: &str) -> Option<String> {
    if table == "[labels]" {
        return nearest(name, LabelSetting::KEYS.iter().copied()).map(|key| format!("`{key}`"));
    }
    let tables = || Settings::TABLES.iter();
    let elsewhere = tables().find(|(other, keys)| *other != table && keys.contains(&name));
    if let Some((other, _)) = elsewhere {
        let place = match *other {
            "" => "at the top of the file, above the first [table]".to_owned(),
            other => format!("in [{other}]"),
        };
        return Some(format!("`{name}` {place}"));
    }
    let own = tables().filter(|(own, _)| *own == table).flat_map(|(_, keys)| keys.iter().copied());
    let top_level = if table.is_empty() { Some("labels") } else { None };
    nearest(name, own.chain(top_level)).map(|key| format!("`{key}`"))
}

/// The one of `names` that `name` is nearest to, if it is near.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_SHOWN {
        return None;
    }
    let near = |candidate: &&str| strsim::damerau_levenshtein(&fold(name), &fold(candidate));
    let (distance, best) = names
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| (near(&candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1.max(name.len() / 3)).then_some(best)
}

/// `name` in lower case without separators, so that `rows-per-call` is near `rows_per_call`.
fn fold(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Most characters of a name or text that an error repeats.
const MAX_SHOWN: usize = 40;

/// A name or text from the file as an error repeats it: on one line, and cut if it is long.
fn shown(text: &str) -> String {
    let text = one_line(text);
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

/// Whether a text is more likely a service's key than anything that a setting wants.
fn looks_like_a_key(text: &str) -> bool {
    const BEGINNINGS: [&str; 8] = ["sk-", "sk_", "pk-", "gsk_", "hf_", "xai-", "AIza", "AKIA"];
    text.split(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '-' | '_'))
        .any(|word| BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
}

/// What a value is, in words; a text that may be secret is not repeated.
fn found_in_words(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if looks_like_a_key(text) => "a text that looks like a key".into(),
        DeValue::String(text) => format!("the text `{}`", shown(text)),
        // The parser keeps what stands there and is not strict about what a digit is.
        DeValue::Integer(number) => shown(&number.to_string()),
        DeValue::Float(number) => shown(&number.to_string()),
        DeValue::Boolean(is_true) => is_true.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn problem(text: &str) -> String {
        parse(text, Path::new(DEFAULT_PATH)).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        assert_snapshot!(problem("id = \"a\"\n\n[batch]\nrow_per_call = 5\n"), @"unknown key `row_per_call` in [batch], batchclass.toml line 4; did you mean `rows_per_call`?");
        assert_snapshot!(problem("txt = \"a\""), @"unknown key `txt`, batchclass.toml line 1; did you mean `text`?");
        assert_snapshot!(problem("label = []"), @"unknown key `label`, batchclass.toml line 1; did you mean `labels`?");
        assert_snapshot!(problem("[batch]\nzzz = 5"), @"unknown key `zzz` in [batch], batchclass.toml line 2");
        assert_snapshot!(problem("[model]\ntokens_per_minute = 5"), @"unknown key `tokens_per_minute` in [model], batchclass.toml line 2; did you mean `tokens_per_minute` in [limits]?");
        assert_snapshot!(problem("[model]\ninstructions = 'x'"), @"unknown key `instructions` in [model], batchclass.toml line 2; did you mean `instructions` at the top of the file, above the first [table]?");
        assert_snapshot!(problem("[[labels]]\nname = 'a'\ndescripton = 'b'"), @"unknown key `descripton` in [[labels]], batchclass.toml line 3; did you mean `description`?");
    }

    #[test]
    fn an_unknown_table_is_named_with_its_line_and_what_was_meant() {
        assert_snapshot!(problem("\n[limit]\ntokens_per_minute = 5"), @"unknown table [limit], batchclass.toml line 2; did you mean [limits]?");
        assert_snapshot!(problem("[elsewhere]\na = 5"), @"unknown table [elsewhere], batchclass.toml line 1");
    }

    #[test]
    fn a_key_in_the_place_of_another_value_is_not_shown() {
        assert_snapshot!(problem("[model]\nprovider = \"sk-proj-Zq7Xw9\"\n"), @"`provider` in [model], batchclass.toml line 2, wants `openai` or `lexical`, not a text that looks like a key");
        assert_snapshot!(problem("[batch]\nrows_per_call = \"Bearer sk-proj-Zq7Xw9\"\n"), @"`rows_per_call` in [batch], batchclass.toml line 2, wants a whole number from 1 to 900, not a text that looks like a key");
    }

    #[test]
    fn an_error_is_one_short_line_whatever_stands_in_the_file() {
        for text in [
            "\"a\\nb\\u001b[31m\" = 1",
            "[\"a\\nb\"]\nc = 1",
            "text = 1\n\"id\" = 2",
            "[batch]\ntokens_per_call = 80\u{1b}0",
            &format!("[batch]\ntokens_per_call = {}", "9".repeat(100_000)),
            "[model]\nprovider = \"\"\"a\nb\"\"\"",
            &format!("{} = 1", "k".repeat(1_000_000)),
            &format!("[model]\nprovider = '{}'", "é".repeat(100_000)),
        ] {
            let problem = problem(text);
            assert!(problem.len() < 300, "{problem:.300}");
            assert!(!problem.contains(char::is_control), "{problem:?}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_says_what_is_wanted() {
        assert_snapshot!(problem("[batch]\nrows_per_call = 901"), @"`rows_per_call` in [batch], batchclass.toml line 2, wants a whole number from 1 to 900, not 901");
        assert_snapshot!(problem("[batch]\nrows_per_call = \"many\""), @"`rows_per_call` in [batch], batchclass.toml line 2, wants a whole number from 1 to 900, not the text `many`");
        assert_snapshot!(problem("[limits]\ntokens_per_minute = -1"), @"`tokens_per_minute` in [limits], batchclass.toml line 2, wants a whole number from 0 to 4294967295, not -1");
        assert_snapshot!(problem("[limits]\ntokens_per_minute = 1.5"), @"`tokens_per_minute` in [limits], batchclass.toml line 2, wants a whole number from 0 to 4294967295, not 1.5");
        assert_snapshot!(problem("id = 7"), @"`id`, batchclass.toml line 1, wants a text in quotes, not 7");
        assert_snapshot!(problem("text = [\"a\"]"), @"`text`, batchclass.toml line 1, wants a text in quotes, not a list");
        assert_snapshot!(problem("[model]\nprovider = \"opnai\""), @"`provider` in [model], batchclass.toml line 2, wants `openai` or `lexical`, not the text `opnai`");
        assert_snapshot!(problem("[input]\nsort_memory = \"lots\""), @r#"`sort_memory` in [input], batchclass.toml line 2, wants a size of at least 1 MiB, in bytes or like "1GiB", not the text `lots`"#);
        assert_snapshot!(problem("[run]\ngive_up_after = 30"), @r#"`give_up_after` in [run], batchclass.toml line 2, wants a time such as "90s", "30m" or "1h30m", not 30"#);
        assert_snapshot!(problem("[output]\nretry = [\"refusal\"]"), @"`retry` in [output], batchclass.toml line 2, wants reasons out of `missing`, `unknown_code`, `conflicting`, `refused`, `too_long`, `provider_error`, `unsure` or `no_text`, not a list");
        assert_snapshot!(problem("model = \"gpt-4o-mini\""), @"`model`, batchclass.toml line 1, wants a table: write [model] on a line of its own, not the text `gpt-4o-mini`");
        assert_snapshot!(problem("[text]\na = 1"), @"`text`, batchclass.toml line 1, wants a text in quotes, not a table");
    }

    #[test]
    fn labels_that_are_no_tables_are_told_how_to_be_written() {
        assert_snapshot!(problem("labels = [\"a\", \"b\"]"), @"`labels`, batchclass.toml line 1, wants tables: write [[labels]] on a line of its own for each label, not the text `a`");
        assert_snapshot!(problem("labels = \"a\""), @"`labels`, batchclass.toml line 1, wants tables: write [[labels]] on a line of its own for each label, not the text `a`");
        assert_snapshot!(problem("[[labels]]\nname = 5"), @"`name` in [[labels]], batchclass.toml line 2, wants a text in quotes, not 5");
        assert_snapshot!(problem("[[labels]]\nname = 'a'\nexamples = 'x'"), @r#"`examples` in [[labels]], batchclass.toml line 3, wants a list of texts, such as ["...", "..."], not the text `x`"#);
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated() {
        let problem = problem("[model]\napi_key = \"sk-secret\"");
        assert!(!problem.contains("sk-secret"));
        assert_snapshot!(problem, @r#"`api_key` in batchclass.toml line 2: a key never stands in the config; put it into an environment variable and name that: api_key_env = "OPENAI_API_KEY""#);
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        assert_snapshot!(problem("id = \"a\"\ntext = \"b"), @r#"batchclass.toml line 2: invalid basic string, expected `"`"#);
        assert_snapshot!(problem("id = 'a'\nid = 'b'"), @"batchclass.toml line 2: duplicate key");
        assert_snapshot!(problem("id"), @"batchclass.toml line 1: key with no value, expected `=`");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such.toml")).unwrap_err();
        assert_snapshot!(super::super::console::chain(&error), @"can't read the config no/such.toml: No such file or directory (os error 2)");
    }

    #[test]
    fn digits_may_be_grouped_and_a_byte_order_mark_may_lead() {
        let settings =
            parse("\u{feff}[limits]\ntokens_per_minute = 200_000", Path::new("x")).unwrap();
        assert_eq!(settings.limits.tokens_per_minute.map(|limit| limit.get()), Some(200_000));
    }

    #[test]
    fn a_path_in_the_config_counts_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        let text = "instructions_file = 'prompt.md'\n[input]\ntemp_dir = 'tmp'\n\
                    [output]\njournal_folder = 'j'\n\
                    [model]\nfit = 'train.csv'";
        #[expect(clippy::disallowed_methods, reason = "a config to read")]
        std::fs::write(&file, text).unwrap();
        let settings = read(&file).unwrap();
        assert_eq!(settings.task.instructions_file, Some(folder.path().join("prompt.md")));
        assert_eq!(settings.input.temp_dir, Some(folder.path().join("tmp")));
        assert_eq!(settings.output.journal_folder, Some(folder.path().join("j")));
        assert_eq!(settings.model.fit, Some(folder.path().join("train.csv")));
        #[expect(clippy::disallowed_methods, reason = "a config to read")]
        std::fs::write(&file, "model.fit = 's3://bucket/train.csv'").unwrap();
        assert_eq!(read(&file).unwrap().model.fit, Some("s3://bucket/train.csv".into()));
    }
}
