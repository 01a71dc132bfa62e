//! The values that settings take. Each is read from text (a flag, a variable) and from TOML alike,
//! and says what it wants in the same words in both places.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::domain::limits::{ChargeRule, Counting, DayWindow, MinuteWindow, OnDailyLimit, Vendor};
use crate::domain::reading::{Encoding, FileFormat, HivePartitioning, IdType};
use crate::domain::spec::{AnswerForm, KeySource, Layout, OnDuplicateId, ProviderKind, Vocabulary};
use crate::domain::{Compression, Dollars, Reason};

/// A value that a setting takes.
pub trait Setting: Sized + Clone + Send + Sync + 'static {
    /// What is wanted, such as `a whole number from 1 to 900`.
    fn wanted() -> String;
    /// Reads a flag or a variable; `None` if it is not what is wanted.
    fn from_text(text: &str) -> Option<Self>;
    /// Reads a TOML value; `None` if it is not what is wanted.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;
}

/// What was wanted instead of what a flag or variable holds.
#[derive(Debug, thiserror::Error)]
#[error("it wants {0}")]
pub struct Unfit(String);

/// Reads a flag or a variable.
///
/// # Errors
/// If it is not what the setting wants.
pub fn parse<T: Setting>(text: &str) -> Result<T, Unfit> {
    T::from_text(text).ok_or_else(|| Unfit(T::wanted()))
}

impl Setting for String {
    fn wanted() -> String {
        "a text in quotes".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for PathBuf {
    fn wanted() -> String {
        "a path in quotes".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

impl Setting for bool {
    fn wanted() -> String {
        "`true` or `false`".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for Encoding {
    fn wanted() -> String {
        "an encoding such as `utf-8`, `windows-1252`, `latin-1` or `utf-16`".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        Encoding::of(text)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

impl Setting for HivePartitioning {
    fn wanted() -> String {
        or_list(&["auto", "true", "false"])
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(HivePartitioning::Auto),
            "true" => Some(HivePartitioning::True),
            "false" => Some(HivePartitioning::False),
            _ => None,
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value.as_bool() {
            Some(is_true) => Self::from_text(if is_true { "true" } else { "false" }),
            None => Self::from_text(value.as_str()?),
        }
    }
}

/// What stands between fields: a character of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiter(pub char);

impl Setting for Delimiter {
    fn wanted() -> String {
        "one ASCII character, or `\\t` for a tab".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "\\t" => Some(Delimiter('\t')),
            text => one_ascii(text).map(Delimiter),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

/// What encloses a field: a character of one byte, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote(pub Option<char>);

impl Setting for Quote {
    fn wanted() -> String {
        "one ASCII character, or `none`".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "" | "none" => Some(Quote(None)),
            text => one_ascii(text).map(|char| Quote(Some(char))),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

/// The only character of `text`, if it is one of ASCII and ends no line.
fn one_ascii(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let char =
        chars.next().filter(|char| char.is_ascii() && !matches!(char, '\r' | '\n' | '\0'))?;
    chars.next().is_none().then_some(char)
}

/// A whole number from `MIN` to `MAX`. Underscores may group its digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    fn checked(number: u64) -> Option<Self> {
        (MIN..=MAX).contains(&number).then_some(Count(number))
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Count<MIN, MAX> {
    fn wanted() -> String {
        match (MIN, MAX) {
            (0, u64::MAX) => "a whole number".into(),
            (_, u64::MAX) => format!("a whole number of at least {MIN}"),
            _ => format!("a whole number from {MIN} to {MAX}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::checked(whole_number(text)?)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::checked(toml_number(value)?)
    }
}

/// A size in bytes: a number, or one with a unit, as in `1GiB` or `500 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Setting for Bytes {
    fn wanted() -> String {
        "a size of at least 1 MiB, in bytes or like \"1GiB\"".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text.trim());
        let bytes_each: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return None,
        };
        let bytes = whole_number(number)?.checked_mul(bytes_each)?;
        (bytes >= 1 << 20).then_some(Bytes(bytes))
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str() {
            Some(text) => Self::from_text(text),
            None => Self::from_text(&toml_number(value)?.to_string()),
        }
    }
}

/// A length of time with units: `90s`, `30m`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Setting for Span {
    fn wanted() -> String {
        "a time such as \"90s\", \"30m\" or \"1h30m\"".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut seconds: u64 = 0;
        while !rest.is_empty() {
            let (number, tail) = split_unit(rest);
            let unit_end = tail.find(|char: char| char.is_ascii_digit()).unwrap_or(tail.len());
            let seconds_each = match tail[..unit_end].trim() {
                "s" => 1,
                "m" | "min" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            seconds = seconds.checked_add(whole_number(number)?.checked_mul(seconds_each)?)?;
            rest = &tail[unit_end..];
        }
        (seconds > 0).then(|| Span(Duration::from_secs(seconds)))
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

/// Reasons for which rows are asked again: names with commas between them, or a TOML list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(pub Vec<Reason>);

impl Setting for Reasons {
    fn wanted() -> String {
        format!("reasons out of {}", or_list(&Reason::ALL.map(Reason::name)))
    }

    fn from_text(text: &str) -> Option<Self> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(Reason::from_name).collect::<Option<Vec<_>>>().map(Reasons)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let names = value.as_array()?.iter().map(|name| name.get_ref().as_str());
        names.map(|name| Reason::from_name(name?)).collect::<Option<Vec<_>>>().map(Reasons)
    }
}

/// Columns: names with commas between them, or a TOML list for names that have commas of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(pub Vec<String>);

impl Setting for Columns {
    fn wanted() -> String {
        "names of columns, with commas between them, or a list of them".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Some(Columns(names.map(str::to_owned).collect()))
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        if let Some(text) = value.as_str() {
            return Columns::from_text(text);
        }
        let names = value.as_array()?.iter().map(|name| name.get_ref().as_str());
        names.map(|name| Some(name?.to_owned())).collect::<Option<Vec<_>>>().map(Columns)
    }
}

impl Setting for Compression {
    fn wanted() -> String {
        format!("{}, with a level where one is wanted: `zstd(3)`", or_list(&Compression::NAMES))
    }

    fn from_text(text: &str) -> Option<Self> {
        Compression::parse(text)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
}

/// How a run shows its progress on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A bar that is redrawn in place.
    Bar,
    /// A line every 10 seconds.
    Plain,
    /// One JSON line per event.
    Json,
    /// Nothing but warnings and errors.
    None,
}

/// How an output's parts are to be filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayoutChoice {
    /// As the storage allows, or as the output was begun.
    #[default]
    Auto,
    /// Null labels are filled by replacing the part.
    Replace,
    /// Nothing is ever replaced; rows that are answered later form further files.
    Append,
}

impl LayoutChoice {
    /// The wish, if it is one.
    pub fn wish(self) -> Option<Layout> {
        match self {
            LayoutChoice::Auto => None,
            LayoutChoice::Replace => Some(Layout::Replace),
            LayoutChoice::Append => Some(Layout::Append),
        }
    }
}

/// One of a few words.
macro_rules! choice {
    ($type:ty { $($variant:ident => $word:literal,)+ }) => {
        impl Setting for $type {
            fn wanted() -> String {
                or_list(&[$($word),+])
            }

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(<$type>::$variant),)+
                    _ => None,
                }
            }

            fn from_toml(value: &DeValue<'_>) -> Option<Self> {
                Self::from_text(value.as_str()?)
            }
        }
    };
}

choice!(ProviderKind { Openai => "openai", Lexical => "lexical", });
choice!(Vocabulary { O200k => "o200k", Cl100k => "cl100k", });
choice!(AnswerForm { Array => "array", Object => "object", Lines => "lines", });
choice!(Vendor {
    Openai => "openai",
    Azure => "azure",
    Anthropic => "anthropic",
    Gemini => "gemini",
    Groq => "groq",
    Mistral => "mistral",
    Deepseek => "deepseek",
    Together => "together",
    Cerebras => "cerebras",
    Openrouter => "openrouter",
    Local => "local",
    Other => "other",
});
choice!(ChargeRule { Usage => "usage", Max => "max", Sum => "sum", Input => "input", });
choice!(Counting { Counted => "counted", Free => "free", });
choice!(MinuteWindow { Rolling => "rolling", Fixed => "fixed", Bucket => "bucket", });
choice!(DayWindow { Rolling => "rolling", Utc => "utc", Pacific => "pacific", });
choice!(OnDailyLimit { Wait => "wait", Stop => "stop", });
choice!(KeySource { Random => "random", Id => "id", });
choice!(LayoutChoice { Auto => "auto", Replace => "replace", Append => "append", });
choice!(FileFormat {
    Parquet => "parquet",
    Csv => "csv",
    Tsv => "tsv",
    Ndjson => "ndjson",
});
choice!(PromptCache { Auto => "auto", Off => "off", });
choice!(IdType { Auto => "auto", Integer => "integer", String => "string", });
choice!(OnDuplicateId { Error => "error", First => "first", });
choice!(ProgressMode {
    Auto => "auto",
    Bar => "bar",
    Plain => "plain",
    Json => "json",
    None => "none",
});

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Setting for Share {
    fn wanted() -> String {
        "a share from 0 to 1, such as 0.05".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        share(text).ok().map(Share)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let number = value.as_float().map(|it| it.as_str());
        Self::from_text(number.or_else(|| value.as_integer().map(|it| it.as_str()))?)
    }
}

/// A share from 0 to 1, of calls or of rows.
///
/// # Errors
/// If `text` is no number from 0 to 1.
pub fn share(text: &str) -> Result<f64, Unfit> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Unfit(Share::wanted()))
}

/// `` `a`, `b` or `c` ``.
fn or_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

fn whole_number(text: &str) -> Option<u64> {
    let text = text.trim();
    if !text.starts_with(|char: char| char.is_ascii_digit()) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn toml_number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl Setting for Dollars {
    fn wanted() -> String {
        "US dollars such as `12.50`, with at most six decimals".into()
    }

    fn from_text(text: &str) -> Option<Self> {
        Dollars::parse(text)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value.as_float() {
            // As it is written, not as a float would have it.
            Some(float) => Dollars::parse(float.as_str()),
            None => Dollars::parse(&toml_number(value)?.to_string()),
        }
    }
}

/// Whether the provider's prompt cache is left to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptCache {
    /// It is written where that saves.
    #[default]
    Auto,
    /// The provider is told not to write it.
    Off,
}

/// The leading digits and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_their_bounds_and_take_underscores() {
        type Rows = Count<1, 900>;
        assert_eq!(Rows::from_text("900").map(Rows::get), Some(900));
        assert_eq!(Count::<0, { u64::MAX }>::from_text("200_000").map(Count::get), Some(200_000));
        for text in ["0", "901", "-1", "5.0", "", "_", "+5"] {
            assert_eq!(Rows::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_take_decimal_and_binary_units() {
        assert_eq!(Bytes::from_text("1GiB"), Some(Bytes(1 << 30)));
        assert_eq!(Bytes::from_text("500 MB"), Some(Bytes(500_000_000)));
        assert_eq!(Bytes::from_text("2097152"), Some(Bytes(2 << 20)));
        for text in ["1", "1TiBs", "99999999999 GiB", "GiB"] {
            assert_eq!(Bytes::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn what_separates_and_encloses_fields_is_one_character_of_one_byte() {
        assert_eq!(Delimiter::from_text("\\t"), Some(Delimiter('\t')));
        assert_eq!(Delimiter::from_text(";"), Some(Delimiter(';')));
        assert_eq!(Quote::from_text("none"), Some(Quote(None)));
        assert_eq!(Quote::from_text("'"), Some(Quote(Some('\''))));
        for text in ["", ";;", "\n", "¦", "\\n"] {
            assert_eq!(Delimiter::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        let seconds = |text| Span::from_text(text).map(|span| span.0.as_secs());
        assert_eq!(seconds("30m"), Some(1_800));
        assert_eq!(seconds("1h 30m"), Some(5_400));
        assert_eq!(seconds("90s"), Some(90));
        for text in ["30", "0s", "m", "1h30", "-1h", "99999999999999999999d", ""] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn reasons_are_known_names() {
        let reasons = Reasons::from_text("refused, too_long").unwrap();
        assert_eq!(reasons.0, [Reason::Refused, Reason::TooLong]);
        assert_eq!(Reasons::from_text("refusal"), None);
    }

    #[test]
    fn columns_are_names_with_commas_between_them() {
        assert_eq!(Columns::from_text("id, The City").unwrap().0, ["id", "The City"]);
        assert_eq!(Columns::from_text("").unwrap().0, Vec::<String>::new());
    }

    #[test]
    fn shares_stay_between_nothing_and_all() {
        assert_eq!(share("0.25").unwrap(), 0.25);
        for text in ["1.1", "-0.1", "NaN", "5%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
