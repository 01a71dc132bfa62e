//! Changes one value of a config and not a byte of what stands around it: comments and layout are
//! the user's.
//!
//! Pure. What comes out is read again before it is believed: it says what was wanted, and
//! everything else as before; else there is no edit.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A config that can't be changed without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its layout is not one that this program changes by itself")]
pub struct NoEdit;

/// `text` with `key` in `[table]` set to `value`, which is TOML.
///
/// A value that stands there is replaced; else the key comes below the table's header, and a table
/// that is not there comes at the end.
///
/// # Errors
/// If `text` is no TOML, or has the table in a form that has no place for a line of its own.
pub fn set(text: &str, table: &str, key: &str, value: &str) -> Result<String, NoEdit> {
    let before = DeTable::parse(text).map_err(|_| NoEdit)?;
    let edited = match standing_value(before.get_ref(), table, key) {
        Some(span) => format!("{}{value}{}", &text[..span.start], &text[span.end..]),
        None => with_line(text, table, &format!("{key} = {value}")),
    };
    let is_as_wanted = {
        let after = DeTable::parse(&edited).map_err(|_| NoEdit)?;
        let wanted = format!("{key} = {value}");
        let wanted = DeTable::parse(&wanted).map_err(|_| NoEdit)?;
        let set = value_of(after.get_ref(), table, key).map(plain);
        let is_set = set.is_some() && set == wanted.get_ref().values().next().map(plain);
        is_set && others(after.get_ref(), table, key) == others(before.get_ref(), table, key)
    };
    if is_as_wanted { Ok(edited) } else { Err(NoEdit) }
}

fn value_of<'a>(root: &'a DeTable<'_>, table: &str, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    root.get(table)?.get_ref().as_table()?.get(key)
}

fn standing_value(root: &DeTable<'_>, table: &str, key: &str) -> Option<Range<usize>> {
    value_of(root, table, key).map(Spanned::span)
}

/// A value without the places where it stands.
fn plain(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::Table(table) => {
            let members =
                table.iter().map(|(key, value)| format!("{:?}={}", key.get_ref(), plain(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        DeValue::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(","))
        }
        other => format!("{other:?}"),
    }
}

/// Everything but that one value; an empty table is none.
fn others(root: &DeTable<'_>, table: &str, key: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in root {
        match value.get_ref().as_table() {
            Some(members) if name.get_ref() == table => {
                let members = members.iter().filter(|(member, _)| member.get_ref() != key);
                all.extend(members.map(|(member, value)| {
                    format!("{table}.{:?}={}", member.get_ref(), plain(value))
                }));
            }
            _ => all.push(format!("{:?}={}", name.get_ref(), plain(value))),
        }
    }
    all
}

/// `text` with `line` below the header of `table`, or with both at its end.
fn with_line(text: &str, table: &str, line: &str) -> String {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut at = 0;
    for standing in text.split_inclusive('\n') {
        at += standing.len();
        if is_header(standing, table) {
            let gap = if standing.ends_with('\n') { "" } else { end };
            return format!("{}{gap}{line}{end}{}", &text[..at], &text[at..]);
        }
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    let space = if text.is_empty() { "" } else { end };
    format!("{text}{gap}{space}[{table}]{end}{line}{end}")
}

/// Whether a line is `[table]`, with or without a comment behind it.
fn is_header(line: &str, table: &str) -> bool {
    let inside = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inside.is_some_and(|(name, rest)| {
        let rest = rest.trim();
        name.trim() == table && (rest.is_empty() || rest.starts_with('#'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str) -> Result<String, NoEdit> {
        set(text, "batch", "rows_per_call", "100")
    }

    #[test]
    fn a_value_is_replaced_and_nothing_else_is_touched() {
        let text = "# mine\nid = 'id'\n\n[batch]   # packing\n  rows_per_call=50 # rows\n\ttokens_per_call = 8_000\n";
        assert_eq!(edited(text).unwrap(), text.replace("50 ", "100 "));
        let dotted = "batch.rows_per_call = 5\n[model]\nname = 'rows_per_call = 5'\n";
        assert_eq!(edited(dotted).unwrap(), dotted.replacen("= 5", "= 100", 1));
        assert_eq!(
            edited("batch = { rows_per_call = 0x10 }").unwrap(),
            "batch = { rows_per_call = 100 }"
        );
    }

    #[test]
    fn a_key_that_is_missing_comes_below_its_header() {
        let text = "[batch] # packing\r\nmax_attempts = 2\r\n[model]\r\n";
        assert_eq!(
            edited(text).unwrap(),
            "[batch] # packing\r\nrows_per_call = 100\r\nmax_attempts = 2\r\n[model]\r\n"
        );
        assert_eq!(edited("[ batch ]").unwrap(), "[ batch ]\nrows_per_call = 100\n");
    }

    #[test]
    fn a_table_that_is_missing_comes_at_the_end() {
        let labels = "id = 'id'\n[[labels]]\nname = 'a'";
        let wanted = "id = 'id'\n[[labels]]\nname = 'a'\n\n[batch]\nrows_per_call = 100\n";
        assert_eq!(edited(labels).unwrap(), wanted);
        assert_eq!(edited("").unwrap(), "[batch]\nrows_per_call = 100\n");
        assert_eq!(
            set(wanted, "quality", "probe_baseline", "0.031").unwrap(),
            format!("{wanted}\n[quality]\nprobe_baseline = 0.031\n")
        );
    }

    #[test]
    fn what_would_change_more_than_the_value_is_left_to_a_person() {
        for text in [
            "batch.max_attempts = 2\n",
            "batch = { max_attempts = 2 }\n",
            "batch = 5\n",
            "id = 'unclosed",
            // A header within a text is no header.
            "instructions = '''\n[batch]\n'''\n[batch]\nmax_attempts = 2\n",
        ] {
            assert_eq!(edited(text), Err(NoEdit), "{text}");
        }
    }
}
