//! Keeps `docs/command-line.md`, the settings' table and the help one and the same.
//!
//! `UPDATE=1 cargo test reference` writes the page anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _, Parser as _};

use super::arguments::{Command as Typed, CommandLine};
use super::config_file::parse;
use super::init_command::STARTER;
use super::job::{JobError, job};
use super::settings::Settings;
use crate::domain::{part_encoding, spec};

/// Flags that are no settings: they say where settings come from, what to print, or what is meant
/// for this one run.
const NO_SETTINGS: [&str; 3] = ["config", "help", "takeover"];

/// Every setting: its table, its key, its flag, and a value as a flag and as TOML.
const SETTINGS: &[(&str, &str, &str, &str, &str)] = &[
    ("", "id", "id", "@row", "'@row'"),
    ("", "text", "text", "{a}: {b}", "'{a}: {b}'"),
    ("", "instructions", "instructions", "Sort.", "'Sort.'"),
    ("", "instructions_file", "instructions-file", "Cargo.toml", "'Cargo.toml'"),
    ("", "unsure", "unsure", "U", "'U'"),
    ("", "none_of_these", "none-of-these", "other", "'other'"),
    ("", "labels", "label", "x=y\nz", "[{ name = 'x', description = 'y' }, { name = 'z' }]"),
    ("model", "provider", "provider", "lexical", "'lexical'"),
    ("model", "fit", "fit", "train.csv", "'train.csv'"),
    ("model", "fit_label", "fit-label", "class", "'class'"),
    ("model", "name", "model", "gpt-4", "'gpt-4'"),
    ("model", "base_url", "base-url", "http://localhost:1/v1", "'http://localhost:1/v1'"),
    ("model", "api_key_env", "api-key-env", "SOME_KEY", "'SOME_KEY'"),
    ("model", "vocabulary", "vocabulary", "cl100k", "'cl100k'"),
    ("model", "answer_form", "answer-form", "lines", "'lines'"),
    ("model", "key", "key", "id", "'id'"),
    ("model", "reasoning_effort", "reasoning-effort", "low", "'low'"),
    ("model", "max_output_tokens", "max-output-tokens", "4000", "4_000"),
    ("model", "prompt_cache", "prompt-cache", "off", "'off'"),
    ("model", "connect_timeout_s", "connect-timeout-s", "3", "3"),
    ("model", "read_timeout_s", "read-timeout-s", "4", "4"),
    ("model", "reply_timeout_s", "reply-timeout-s", "5", "5"),
    ("limits", "tokens_per_minute", "tokens-per-minute", "90_000", "90_000"),
    ("limits", "requests_per_minute", "requests-per-minute", "7", "7"),
    ("limits", "input_tokens_per_minute", "input-tokens-per-minute", "80_000", "80_000"),
    ("limits", "output_tokens_per_minute", "output-tokens-per-minute", "8_000", "8_000"),
    ("limits", "requests_per_day", "requests-per-day", "10_000", "10_000"),
    ("limits", "tokens_per_day", "tokens-per-day", "5_000_000_000", "5_000_000_000"),
    ("limits", "on_daily_limit", "on-daily-limit", "stop", "'stop'"),
    ("limits", "vendor", "vendor", "groq", "'groq'"),
    ("limits", "charge_rule", "charge-rule", "sum", "'sum'"),
    ("limits", "cached_tokens", "cached-tokens", "free", "'free'"),
    ("limits", "refused_calls", "refused-calls", "free", "'free'"),
    ("limits", "minute_window", "minute-window", "bucket", "'bucket'"),
    ("limits", "day_window", "day-window", "pacific", "'pacific'"),
    ("limits", "slice_s", "slice-s", "10", "10"),
    ("limits", "max_cost", "max-cost", "12.50", "12.50"),
    ("limits", "max_tokens", "max-tokens", "3_000_000", "3_000_000"),
    ("price", "input", "price-in", "0.15", "0.15"),
    ("price", "cached_input", "price-cached-in", "0.075", "0.075"),
    ("price", "cache_write", "price-cache-write", "2", "2"),
    ("price", "output", "price-out", "0.6", "0.60"),
    ("batch", "rows_per_call", "rows-per-call", "900", "900"),
    ("batch", "tokens_per_call", "tokens-per-call", "4000", "4000"),
    ("batch", "max_attempts", "max-attempts", "9", "9"),
    ("batch", "dedupe_texts", "dedupe-texts", "0", "0"),
    ("batch", "isolate", "isolate", "false", "false"),
    ("quality", "probe", "probe", "0.01", "0.01"),
    ("quality", "probe_max", "probe-max", "0.1", "0.1"),
    ("quality", "probe_baseline", "probe-baseline", "0.02", "0.02"),
    ("input", "existing_label", "existing-label", "old", "'old'"),
    ("input", "gold", "gold", "known", "'known'"),
    ("input", "format", "format", "csv", "'csv'"),
    ("input", "delimiter", "delimiter", "\\t", "\"\\t\""),
    ("input", "quote", "quote", "none", "'none'"),
    ("input", "encoding", "encoding", "latin-1", "'windows-1252'"),
    ("input", "header", "header", "false", "false"),
    ("input", "id_type", "id-type", "string", "'string'"),
    ("input", "hive_partitioning", "hive-partitioning", "false", "false"),
    ("input", "on_duplicate_id", "on-duplicate-id", "first", "'first'"),
    ("input", "sort_memory", "sort-memory", "32MiB", "33_554_432"),
    ("input", "temp_dir", "temp-dir", "scratch", "'scratch'"),
    ("output", "columns", "columns", "id,city", "['id', 'city']"),
    ("output", "compression", "compression", "snappy", "'snappy'"),
    ("output", "row_group_rows", "row-group-rows", "5000", "5_000"),
    ("output", "rows_per_part", "rows-per-part", "1000", "1_000"),
    ("output", "layout", "layout", "append", "'append'"),
    ("output", "label_column", "label-column", "class", "'class'"),
    ("output", "max_unlabelled", "max-unlabelled", "12", "12"),
    ("output", "retry", "retry", "refused,unsure", "['refused', 'unsure']"),
    ("storage", "endpoint_url", "endpoint-url", "http://localhost:9000", "'http://localhost:9000'"),
    ("storage", "region", "region", "eu-west-1", "'eu-west-1'"),
    ("output", "journal_folder", "journal-folder", "/data/j", "'/data/j'"),
    ("run", "limit", "limit", "1000", "1_000"),
    ("run", "give_up_after", "give-up-after", "2h", "'2h'"),
    ("run", "progress", "progress", "json", "'json'"),
];

fn run_parser() -> Command {
    let parser = CommandLine::command();
    parser.find_subcommand("run").unwrap().clone()
}

fn flags() -> Vec<Arg> {
    let is_flag = |arg: &&Arg| arg.get_long().is_some_and(|long| !NO_SETTINGS.contains(&long));
    run_parser().get_arguments().filter(is_flag).cloned().collect()
}

fn typed(arguments: &[&str]) -> Settings {
    let line = ["batchclass", "run", "in", "out"].iter().chain(arguments);
    match CommandLine::try_parse_from(line).unwrap().command {
        Typed::Run(arguments) => arguments.settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flag_is_a_key_and_every_key_a_flag() {
    let by_flag: BTreeMap<&str, &str> = SETTINGS.iter().map(|row| (row.2, row.1)).collect();
    let flags = flags();
    assert_eq!(flags.len(), SETTINGS.len());
    for flag in &flags {
        let long = flag.get_long().unwrap();
        let key = by_flag.get(long).unwrap_or_else(|| panic!("--{long} has no key"));
        // Two keys of [price] have the names of INPUT and OUT.
        let id = flag.get_id().as_str().trim_start_matches("price_");
        assert_eq!(id, *key, "--{long}");
    }
    let keys = Settings::TABLES
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| (*table, *key)))
        .chain([("", "labels")]);
    for key in keys {
        assert!(SETTINGS.iter().any(|row| (row.0, row.1) == key), "{key:?} has no flag");
    }
}

#[test]
fn every_flag_has_the_variable_of_its_name() {
    for flag in flags() {
        let name = flag.get_long().unwrap().replace('-', "_").to_uppercase();
        let variable = flag.get_env().unwrap_or_else(|| panic!("{name} has no variable"));
        assert_eq!(variable.to_str().unwrap(), format!("BATCHCLASS_{name}"));
    }
}

#[test]
fn a_flag_and_its_key_say_the_same() {
    for (table, key, flag, text, toml) in SETTINGS {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        let by_key = parse(&format!("{header}{key} = {toml}"), Path::new("x")).unwrap();
        let by_flag = typed(&[&format!("--{flag}"), text]);
        assert_eq!(format!("{by_flag:?}"), format!("{by_key:?}"), "{key}");
        assert_ne!(format!("{by_key:?}"), format!("{:?}", Settings::default()), "{key}");
    }
}

#[test]
fn every_setting_reaches_the_job() {
    let starter = || parse(STARTER, Path::new("x")).unwrap();
    let made = |settings| format!("{:?}", job(settings, "in".into(), "out".into(), None).unwrap());
    let plain = made(starter());
    for (_, key, flag, text, _) in SETTINGS {
        let changed = typed(&[&format!("--{flag}"), text]).over(starter());
        match *key {
            // What the run shows is no part of the job.
            "progress" => assert!(changed.run.progress.is_some()),
            // Only the embedded scorer learns; that a job says so shows that it was told.
            "fit" | "fit_label" => {
                let refused = job(changed, "in".into(), "out".into(), None);
                assert!(matches!(refused, Err(JobError::Fit(_))), "{key}");
            }
            _ => assert_ne!(made(changed), plain, "{key}"),
        }
    }
}

#[test]
fn flags_beat_the_file_field_by_field() {
    let file = parse(STARTER, Path::new("x")).unwrap();
    let merged = typed(&["--rows-per-call", "7", "--label", "a", "--label", "b"]).over(file);
    assert_eq!(merged.batch.rows_per_call.map(|rows| rows.get()), Some(7));
    assert_eq!(merged.batch.tokens_per_call.map(|tokens| tokens.get()), Some(8_000));
    assert_eq!(merged.labels.len(), 2);
}

#[test]
fn instructions_that_were_typed_replace_the_files_however_they_are_given() {
    let file = parse("instructions = 'from the file'", Path::new("x")).unwrap();
    let merged = typed(&["--instructions-file", "prompt.md"]).over(file);
    assert_eq!(merged.task.instructions, None);
    assert_eq!(merged.task.instructions_file, Some(PathBuf::from("prompt.md")));
}

#[test]
fn a_flag_that_does_not_fit_says_what_is_wanted() {
    let problem = |flag: &str, value: &str| {
        let line = ["batchclass", "run", "in", "out", flag, value];
        let refused = CommandLine::try_parse_from(line).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        refused.to_string().lines().next().unwrap_or_default().to_owned()
    };
    let lines = [
        problem("--rows-per-call", "901"),
        problem("--provider", "opnai"),
        problem("--sort-memory", "lots"),
        problem("--give-up-after", "30"),
        problem("--retry", "refusal"),
        problem("--label", "=x"),
        problem("--row-per-call", "5"),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    error: invalid value '901' for '--rows-per-call <ROWS>': it wants a whole number from 1 to 900
    error: invalid value 'opnai' for '--provider <openai|lexical>': it wants `openai` or `lexical`
    error: invalid value 'lots' for '--sort-memory <SIZE>': it wants a size of at least 1 MiB, in bytes or like "1GiB"
    error: invalid value '30' for '--give-up-after <TIME>': it wants a time such as "90s", "30m" or "1h30m"
    error: invalid value 'refusal' for '--retry <REASONS>': it wants reasons out of `missing`, `unknown_code`, `conflicting`, `refused`, `too_long`, `provider_error`, `unsure` or `no_text`
    error: invalid value '=x' for '--label <NAME[=DESCRIPTION]>': it wants NAME or NAME=DESCRIPTION
    error: unexpected argument '--row-per-call' found
    "#);
}

#[test]
fn the_help_quotes_the_defaults() {
    let defaults = [
        ("rows_per_call", spec::ROWS_PER_CALL.to_string()),
        ("tokens_per_call", spec::TOKENS_PER_CALL.to_string()),
        ("max_attempts", spec::MAX_ATTEMPTS.to_string()),
        ("dedupe_texts", spec::DEDUPE_TEXTS.to_string()),
        ("probe", spec::PROBE.to_string()),
        ("probe_max", spec::PROBE_MAX.to_string()),
        ("rows_per_part", spec::ROWS_PER_PART.to_string()),
        ("row_group_rows", part_encoding::ROW_GROUP_ROWS.to_string()),
        ("label_column", spec::LABEL_COLUMN.to_owned()),
        ("sort_memory", format!("{}MiB", spec::SORT_MEMORY >> 20)),
        ("connect_timeout_s", spec::CONNECT_TIMEOUT_S.to_string()),
        ("read_timeout_s", spec::READ_TIMEOUT_S.to_string()),
        ("reply_timeout_s", spec::REPLY_TIMEOUT_S.to_string()),
        ("give_up_after", format!("{}m", spec::GIVE_UP_AFTER_S / 60)),
        ("base_url", spec::BASE_URL.to_owned()),
        ("api_key_env", format!("{} at the default address", spec::API_KEY_ENV)),
        ("max_output_tokens", spec::MAX_OUTPUT_TOKENS.to_string()),
    ];
    for (key, default) in defaults {
        let flag = flags().into_iter().find(|flag| flag.get_id() == key).unwrap();
        let help = flag.get_help().unwrap().to_string();
        assert!(help.ends_with(&format!("[default: {default}]")), "{key}: {help}");
    }
}

#[test]
fn short_help_is_one_line_and_long_help_says_why() {
    for flag in flags() {
        let (short, long) = (flag.get_help().unwrap(), flag.get_long_help().unwrap());
        assert!(!short.to_string().contains('\n'), "{}", flag.get_id());
        assert!(long.to_string().len() > short.to_string().len() + 20, "{}", flag.get_id());
    }
}

#[test]
fn the_configuration_page_names_every_key() {
    let page = std::fs::read_to_string(page("configuration.md")).unwrap();
    for (_, key, ..) in SETTINGS {
        let is_named = page.contains(&format!("`{key}`")) || page.contains(&format!("[{key}]"));
        assert!(is_named, "{key} is missing in docs/configuration.md");
    }
}

#[test]
fn the_command_line_reference_is_the_help() {
    let generated = reference();
    let path = page("command-line.md");
    #[expect(clippy::disallowed_methods, reason = "only a test with UPDATE=1 writes the page")]
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "docs/command-line.md is old: UPDATE=1 cargo test reference");
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn reference() -> String {
    let mut text = String::from(
        "# Command line\n\nThis page is the program's own `--help`, written by a test that keeps \
         it true. The config is described in [configuration.md](configuration.md).\n",
    );
    let mut parser = CommandLine::command().term_width(100);
    parser.build();
    section(&mut text, "batchclass", &mut parser.clone());
    for command in parser.get_subcommands_mut() {
        section(&mut text, &format!("batchclass {}", command.get_name()), &mut command.clone());
    }
    text.push_str(
        "\n## Flags, variables and keys\n\n| flag | variable | key |\n| --- | --- | --- |\n",
    );
    for (table, key, flag, ..) in SETTINGS {
        let variable = flag.replace('-', "_").to_uppercase();
        let place = if table.is_empty() { String::new() } else { format!(" in `[{table}]`") };
        let _ = writeln!(text, "| `--{flag}` | `BATCHCLASS_{variable}` | `{key}`{place} |");
    }
    text
}

fn section(text: &mut String, title: &str, command: &mut Command) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim().lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## {title}\n\n```text\n{}\n```\n", lines.join("\n"));
}
