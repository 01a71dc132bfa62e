//! What may be typed. `batchclass INPUT OUT` is `batchclass run INPUT OUT`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::settings::{Positive32, Settings, StorageSettings};
use super::simulate_command::SimulateArguments;
use super::values::{self, Bytes};
use crate::domain::Compression;
use crate::quality::Confidence;

const USAGE: &str = "batchclass INPUT OUT [FLAGS]\n       batchclass <COMMAND>";

const EXAMPLES: &str = "\
Examples:
  batchclass init                            write a commented batchclass.toml to start from
  batchclass preview rows.parquet            what 20 rows get, the exact request and its cost
  batchclass rows.parquet out/ --limit 1000  the first thousand rows
  batchclass rows.parquet out/               all of them; run it again to resume
  batchclass verify out/                     each row stands there exactly once

`batchclass run --help` lists every setting; each is a flag, a key of batchclass.toml and an
environment variable (BATCHCLASS_ROWS_PER_CALL). Flags beat the environment, which beats the file.";

const EXIT_CODES: &str = "\
Exit codes:
  0    every row has a label (or no more lack one than --max-unlabelled)
  1    internal error
  2    the command line, the config or the input can't be used as it is
  3    done, but some rows have no label
  4    stopped by the provider or by storage; run it again to resume
  5    quota or money ran out; run it again to resume
  130  interrupted (Ctrl-C); run it again to resume
  143  terminated or hung up; run it again to resume";

const VERIFY_EXIT_CODES: &str = "\
Exit codes:
  0    every check holds
  2    there is no output at OUT, or the input can't be used
  3    nothing is wrong, but not all rows are done
  4    a check failed, or a file can't be read";

const CHECK_EXIT_CODES: &str = "\
Exit codes:
  0    an output can stand there
  2    OUT can't be used as it is
  4    nothing can be written there, or a promise that an output needs is not kept";

const COMPACT_EXIT_CODES: &str = "\
Exit codes:
  0    every row stands in DEST
  2    OUT is not finished, or DEST holds something else
  4    storage failed, or a part can't be read; run it again";

const CALIBRATE_EXIT_CODES: &str = "\
Exit codes:
  0    every size is measured
  1    internal error
  2    the command line, the config or the input can't be used as it is, or it would cost money and
       nobody said --yes
  4    stopped by the provider or by storage; run it again to resume
  5    quota or money ran out; run it again to resume
  130  interrupted (Ctrl-C); run it again to resume
  143  terminated or hung up; run it again to resume";

const SETTINGS_NOTE: &str = "\
Every flag is also a key of batchclass.toml and an environment variable: --rows-per-call is
BATCHCLASS_ROWS_PER_CALL. Flags beat the environment, which beats the file.";

/// Classify the rows of a Parquet, CSV or NDJSON file with a language model
///
/// Reads rows in id order, asks a model for many of them per call, within a tokens-per-minute
/// limit, and writes them with their labels as numbered Parquet parts. Run the same command again
/// to go on where it stopped: nothing is paid for twice.
#[derive(Parser, Debug)]
#[command(
    name = "batchclass",
    version,
    override_usage = USAGE,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Classify INPUT into OUT, or go on where that stopped (`run` may be left out)
    ///
    /// OUT becomes a folder of Parquet parts that any dataset reader takes as one table: the
    /// input's columns, the label, and the reason where there is none.
    #[command(after_help = SETTINGS_NOTE, after_long_help = format!("{SETTINGS_NOTE}\n\n{EXIT_CODES}"))]
    Run(Box<RunArguments>),
    /// Write a commented batchclass.toml
    Init(InitArguments),
    /// Ask for 20 rows: their labels, the exact request, its tokens and cost; write nothing
    ///
    /// The call is paid for like any other.
    #[command(after_help = SETTINGS_NOTE)]
    Preview(Box<PreviewArguments>),
    /// Measure the labels on rows whose answer is known: accuracy, per label, against baselines
    ///
    /// Runs the job on the rows of GOLD that have a value in the gold column (--gold, or `gold` in
    /// `[input]`): a label's name, letter for letter. Their answers are kept, so that a second call
    /// with the same settings asks nothing. docs/quality.md says how to read the figures.
    #[command(after_help = SETTINGS_NOTE, after_long_help = format!("{SETTINGS_NOTE}\n\n{EXIT_CODES}"))]
    Eval(Box<EvalArguments>),
    /// Ask the same rows at several numbers of rows a call, and say which to take
    ///
    /// Draws rows of GOLD at random, asks them at each size and compares the labels row by row: with
    /// known answers (--gold) by accuracy, without by agreement with the smallest size. It says first
    /// what that takes. Answers are kept: a second call, also with another bound, asks nothing, and
    /// more rows cost only the new ones. docs/quality.md says how to read the figures.
    #[command(after_help = SETTINGS_NOTE, after_long_help = format!("{SETTINGS_NOTE}\n\n{CALIBRATE_EXIT_CODES}"))]
    Calibrate(Box<CalibrateArguments>),
    /// Serve an OpenAI-compatible chat endpoint on this machine, with limits, latency and faults
    ///
    /// Rehearse a job against it before you pay for one: it enforces a rolling minute, takes its
    /// time and can lose, cut, repeat or garble answers. It prints its address, for --base-url.
    Simulate(Box<SimulateArguments>),
    /// Prove from its files that each row stands in OUT exactly once; change nothing
    ///
    /// Reads every part: checksums, footers and records say the same, ids ascend from part to part,
    /// each row has a label or a reason. With --input its ids are compared with the input's.
    #[command(after_help = VERIFY_EXIT_CODES)]
    Verify(VerifyArguments),
    /// Say what the storage of OUT can promise, before a token is spent
    ///
    /// Stores a small object there, reads, lists, replaces and removes it. OUT need not exist, and
    /// an output that stands there is not touched.
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckArguments),
    /// Rewrite the small or refilled parts of a finished OUT into full ones, in a new output DEST
    ///
    /// Rows, labels and reasons stay as they are, and OUT is not changed; nothing is asked. DEST is
    /// an output of the same job: later runs can go on with it in place of OUT. Run the same
    /// command again after a crash.
    #[command(after_help = COMPACT_EXIT_CODES)]
    Compact(CompactArguments),
    /// Draw the tokens of the last minute over the time of a run, against the limit, as an SVG
    ///
    /// From the events that `--progress json` writes: batchclass rows.parquet out/ --progress json
    /// 2> events.jsonl, then batchclass plot events.jsonl > window.svg. It can be done while the
    /// run goes on.
    Plot(PlotArguments),
}

/// What `run` takes.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// A Parquet, CSV or NDJSON file, a folder of them, or a glob in quotes; also s3://BUCKET/KEY
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// The output folder; it is made if it isn't there. Also s3://BUCKET/FOLDER/
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Where the settings come from.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Take OUT over from a run on another host that is dead, before its claim has expired
    ///
    /// A run that died on this host is recognised at once; one that died elsewhere holds OUT until
    /// ten minutes after its last sign of life. Only for a run that you know to be dead: one that
    /// lives stops at its next sign of life, and what it pays for until then may be paid twice.
    #[arg(long)]
    pub takeover: bool,
    /// Settings that beat the config's.
    #[command(flatten)]
    pub settings: Settings,
}

/// What `preview` takes.
#[derive(Args, Debug)]
pub struct PreviewArguments {
    /// A Parquet, CSV or NDJSON file, a folder of them, or a glob in quotes; also s3://BUCKET/KEY
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where the settings come from.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Settings that beat the config's.
    #[command(flatten)]
    pub settings: Settings,
}

/// What `eval` takes.
#[derive(Args, Debug)]
pub struct EvalArguments {
    /// Rows with known answers: a file, a folder or a glob in quotes, as for a run
    #[arg(value_name = "GOLD")]
    pub input: PathBuf,
    /// Where the answers are kept.
    #[command(flatten)]
    pub kept: KeptArguments,
    /// Where the settings come from.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Settings that beat the config's.
    #[command(flatten)]
    pub settings: Settings,
}

/// What `calibrate` takes.
#[derive(Args, Debug)]
pub struct CalibrateArguments {
    /// Rows like those of the job: a file, a folder or a glob in quotes, as for a run
    #[arg(value_name = "GOLD")]
    pub input: PathBuf,
    /// Rows to ask at each size
    ///
    /// Where two sizes answer 2 rows in 100 differently, 1,300 tell a loss of one point from none; at
    /// 5 in 100 it takes 3,100. More rows later cost only the new ones.
    #[arg(long, value_name = "ROWS", default_value_t = crate::calibrate::ROWS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rows: u32,
    /// The sizes: rows a call, with commas between them, each from 1 to 900
    ///
    /// The smallest is what the others are held against.
    #[arg(long, value_name = "SIZES", default_value = "1,10,25,50,100,200", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=900))]
    pub sizes: Vec<u32>,
    /// The loss that is too much, in points: hundredths of the rows
    #[arg(long, value_name = "POINTS", default_value = "1", value_parser = points)]
    pub max_loss: f64,
    /// How sure it has to be that the loss is smaller, in percent: over 50, below 100
    #[arg(long, value_name = "PERCENT", default_value = "95", value_parser = confidence)]
    pub confidence: Confidence,
    /// Which rows are drawn, and in which order they are asked
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Write the size that it comes to into the config, as rows_per_call in `[batch]`
    ///
    /// Comments and layout stay as they are. `probe_baseline` in `[quality]` is written too: the share
    /// of rows that the size labels otherwise than the smallest one, which a run's probes are held
    /// against.
    #[arg(long)]
    pub write_config: bool,
    /// Ask without a question first, where that costs money
    ///
    /// On a terminal the price is shown and a question asked; elsewhere, without this, nothing is
    /// asked and the exit code is 2. The embedded scorer and models on this machine need no yes.
    #[arg(long)]
    pub yes: bool,
    /// Where the answers are kept.
    #[command(flatten)]
    pub kept: KeptArguments,
    /// Where the settings come from.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Settings that beat the config's.
    #[command(flatten)]
    pub settings: Settings,
}

/// Reads a share in hundredths: over 0, at most 100.
fn points(text: &str) -> Result<f64, &'static str> {
    let points = text.trim().parse::<f64>().ok().filter(|points| *points > 0.0 && *points <= 100.0);
    points.map(|points| points / 100.0).ok_or("it wants points such as 1 or 0.5")
}

fn confidence(text: &str) -> Result<Confidence, &'static str> {
    let percent = text.trim().parse::<f64>().ok();
    let confidence = percent.and_then(|percent| Confidence::new(percent / 100.0));
    confidence.ok_or("it wants a percentage over 50 and below 100, such as 95")
}

/// Where answers are kept, and how figures are printed.
#[derive(Args, Debug)]
pub struct KeptArguments {
    /// The folder for the rows and their answers [default: the user's state folder]
    ///
    /// Each way to ask has a folder of its own in it, so answers to another prompt never count. The
    /// default is $XDG_STATE_HOME/batchclass or ~/.local/state/batchclass.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub struct VerifyArguments {
    /// The output folder
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The input that OUT was made of: compare its ids with those in OUT
    #[arg(long, value_name = "INPUT")]
    pub input: Option<PathBuf>,
    /// Most memory for sorting an unsorted input, bytes or like 1GiB [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::parse::<Bytes>, requires = "input")]
    pub sort_memory: Option<Bytes>,
    /// Where a larger one is sorted [default: the system's folder for temporary files]
    #[arg(long, value_name = "PATH", requires = "input")]
    pub temp_dir: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Where object storage is.
    #[command(flatten)]
    pub storage: StorageSettings,
}

/// What `check` takes.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// The output folder, or where it will be: a path or s3://BUCKET/KEY
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Where object storage is.
    #[command(flatten)]
    pub storage: StorageSettings,
}

/// What `compact` takes.
#[derive(Args, Debug)]
pub struct CompactArguments {
    /// The finished output folder
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The folder of the new output; it is made if it isn't there
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,
    /// Rows in each new part
    #[arg(long, value_name = "ROWS", default_value = "50000")]
    #[arg(value_parser = values::parse::<Positive32>)]
    pub rows_per_part: Positive32,
    /// How they are compressed: zstd, snappy, lz4, gzip, brotli, none [default: zstd(1)]
    #[arg(long, value_name = "CODEC", value_parser = values::parse::<Compression>)]
    pub compression: Option<Compression>,
    /// Most rows in a row group [default: 131072]
    #[arg(long, value_name = "ROWS", value_parser = values::parse::<Positive32>)]
    pub row_group_rows: Option<Positive32>,
    /// Where object storage is.
    #[command(flatten)]
    pub storage: StorageSettings,
}

/// What `plot` takes.
#[derive(Args, Debug)]
pub struct PlotArguments {
    /// The file with the events; - reads them from stdin
    #[arg(value_name = "EVENTS")]
    pub events: PathBuf,
}

/// Where the settings come from.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgument {
    /// The config [default: batchclass.toml in the current folder, if there is one]
    #[arg(long = "config", env = "BATCHCLASS_CONFIG", hide_env = true, value_name = "PATH")]
    pub path: Option<PathBuf>,
}

/// What `init` takes.
#[derive(Args, Debug)]
pub struct InitArguments {
    /// The file to write; one that exists is never touched
    #[arg(value_name = "PATH", default_value = super::config_file::DEFAULT_PATH)]
    pub path: PathBuf,
}

/// Makes `batchclass INPUT OUT` what it stands for: puts `run` before arguments that begin with
/// neither a command nor a flag of the program itself.
///
/// A first word that looks like a mistyped command and is no file is left alone, so that the
/// parser can say so.
pub fn with_command(
    mut arguments: Vec<OsString>,
    commands: &[&str],
    is_file: impl Fn(&OsString) -> bool,
) -> Vec<OsString> {
    const OWN_FLAGS: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let Some(first) = arguments.get(1) else {
        return arguments;
    };
    let word = first.to_string_lossy();
    let is_known = commands.contains(&word.as_ref()) || OWN_FLAGS.contains(&word.as_ref());
    let is_near =
        |command: &&str| strsim::damerau_levenshtein(&word, command) * 3 <= word.chars().count();
    let is_mistyped = commands.iter().any(is_near) && !is_file(first);
    if !is_known && !is_mistyped {
        arguments.insert(1, "run".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 10] = [
        "run",
        "init",
        "preview",
        "eval",
        "calibrate",
        "simulate",
        "verify",
        "check",
        "compact",
        "plot",
    ];

    fn typed(words: &[&str], is_file: bool) -> Vec<String> {
        let words = std::iter::once("batchclass").chain(words.iter().copied());
        let words = words.map(OsString::from).collect();
        let full = with_command(words, &COMMANDS, |_| is_file);
        full.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn run_may_be_left_out() {
        assert_eq!(typed(&["in.csv", "out"], true), ["run", "in.csv", "out"]);
        assert_eq!(typed(&["--limit", "5", "in.csv", "out"], false)[0], "run");
        assert_eq!(typed(&["run", "in.csv", "out"], true)[..2], ["run", "in.csv"]);
        assert_eq!(typed(&["--help"], false), ["--help"]);
        assert_eq!(typed(&["init"], true), ["init"]);
    }

    #[test]
    fn a_mistyped_command_is_not_taken_for_an_input() {
        assert_eq!(typed(&["previw", "in.csv"], false), ["previw", "in.csv"]);
        assert_eq!(typed(&["in", "out"], false), ["run", "in", "out"]);
        assert_eq!(typed(&["previw", "out"], true), ["run", "previw", "out"]);
    }

    #[test]
    fn the_help_names_every_exit_code() {
        use super::super::exit_code::ExitCode;
        for code in ExitCode::ALL {
            let line = format!("  {:<4} {}", code.number(), code.meaning());
            assert!(EXIT_CODES.lines().any(|there| there == line), "{line}");
        }
    }

    #[test]
    fn the_help_of_verify_names_its_exit_codes() {
        use super::super::exit_code::ExitCode;
        for code in [ExitCode::Done, ExitCode::Usage, ExitCode::Unlabelled, ExitCode::Stopped] {
            let start = format!("  {:<4} ", code.number());
            assert!(VERIFY_EXIT_CODES.lines().any(|line| line.starts_with(&start)), "{start}");
        }
    }

    #[test]
    fn the_program_without_arguments_prints_its_help_and_fails_as_usage() {
        let error = CommandLine::try_parse_from(["batchclass"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("batchclass INPUT OUT"), "{error}");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }
}
