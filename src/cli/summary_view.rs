//! What a run comes to, in words: printed to stderr when it ends.

use std::fmt::Write as _;

use super::exit_code::ExitCode;
use super::progress::words::{disagreement, grouped, grouped_rate, percent, span};
use crate::domain::event::RunEnd;
use crate::domain::{Location, Reason};
use crate::pipeline::RunReport;

/// What a run comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The run itself, in numbers.
    pub run: RunReport,
    /// How the labels compare with known answers, where a column has some.
    pub accuracy: Option<Accuracy>,
    /// What it cost, where the model's price is known.
    pub cost: Option<Cost>,
    /// The output folder, as it was typed.
    pub output: Location,
    /// Rows that may lack a label in a run that counts as a success.
    pub max_unlabelled: u64,
}

/// What calls cost, US dollars. Those without an account of it are in it in the worst case.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The calls of this run.
    pub of_run: f64,
    /// Those of all runs.
    pub in_all: f64,
    /// Whose prices these are, in words.
    pub prices: String,
}

/// How labels compare with known answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Rows whose label is the known answer.
    pub right: u64,
    /// Rows that have both.
    pub compared: u64,
    /// Where the share lies with a confidence of 95 %, from 0 to 1.
    pub interval: Option<(f64, f64)>,
}

impl Summary {
    /// The process's exit code; `interruption` is that of the signal that stopped it, if one did.
    pub fn exit_code(&self, interruption: Option<ExitCode>) -> ExitCode {
        let unlabelled = self.run.unlabelled_rows();
        ExitCode::of_run(self.run.end, unlabelled, self.max_unlabelled, interruption)
    }
}

/// The summary in words, a line for each matter, without a line end after the last.
pub fn summary(summary: &Summary) -> String {
    let run = &summary.run;
    let mut text = headline(run);
    let mut fact = |name: &str, value: String| {
        let _ = write!(text, "\n  {name:<11} {value}");
    };
    fact("rows", grouped(run.rows));
    fact("labelled", grouped(run.labelled));
    if run.unlabelled_rows() > 0 {
        fact("unlabelled", unlabelled(run));
    }
    if run.absent > 0 {
        let rows = grouped(run.absent);
        fact(
            "absent",
            format!("{rows} rows without a label stand in no part until it is finished"),
        );
    }
    if run.rows_left() > 0 {
        fact("not done", grouped(run.rows_left()));
    }
    if run.unwritten > 0 && run.end != RunEnd::Storage {
        fact(
            "kept",
            format!("{} answered rows wait for their part to be written", grouped(run.unwritten)),
        );
    }
    if let Some(probes) = run.probes {
        fact("probes", disagreement(&probes));
    }
    if run.isolated > 0 {
        let rows = grouped(run.isolated);
        fact("kept apart", format!("{rows} rows that speak of keys, codes or instructions"));
    }
    if run.dropped_duplicates > 0 {
        fact("dropped", format!("{} rows with a repeated id", grouped(run.dropped_duplicates)));
    }
    if let Some(known) = summary.accuracy.filter(|known| known.compared > 0) {
        fact("accuracy", accuracy(&known));
    }
    if run.calls > 0 {
        fact("calls", grouped(run.calls));
        fact("tokens", tokens(run));
    }
    if let Some(Cost { of_run, in_all, prices }) = &summary.cost {
        let job = match in_all > of_run {
            true => format!(", {} over all runs", dollars(*in_all)),
            false => String::new(),
        };
        fact("cost", format!("{}{job} ({prices})", dollars(*of_run)));
    }
    fact("time", time(run));
    fact("output", summary.output.to_string());
    if let Some(advice) = advice(run, summary.max_unlabelled) {
        let _ = write!(text, "\n{advice}");
    }
    text
}

fn accuracy(known: &Accuracy) -> String {
    let Accuracy { right, compared, interval } = *known;
    let mut text = percent(right as f64 / compared as f64);
    if let Some((low, high)) = interval {
        let _ = write!(text, " (95 % between {} and {})", percent(low), percent(high));
    }
    let _ = write!(text, ", {} of {} known", grouped(right), grouped(compared));
    text
}

fn headline(report: &RunReport) -> String {
    let ended = match report.end {
        RunEnd::Complete if report.unlabelled_rows() == 0 => "done: every row has a label",
        RunEnd::Complete => "done: some rows have no label",
        RunEnd::Interrupted => "interrupted",
        RunEnd::Provider => "stopped by the provider",
        RunEnd::Storage => "stopped by storage",
        RunEnd::Input => "stopped by the input",
        RunEnd::Quota => "stopped: quota or money ran out",
    };
    match &report.stopped_by {
        Some(why) => format!("{ended}: {}", super::console::one_line(why)),
        None => ended.to_owned(),
    }
}

fn unlabelled(report: &RunReport) -> String {
    let present = report.unlabelled.iter().filter(|(_, rows)| **rows > 0);
    let reasons: Vec<String> =
        present.map(|(reason, rows)| format!("{reason} {}", grouped(*rows))).collect();
    format!("{} ({})", grouped(report.unlabelled_rows()), reasons.join(", "))
}

fn tokens(report: &RunReport) -> String {
    let total = report.prompt_tokens + report.completion_tokens;
    let mut text = format!(
        "{} ({} in, {} out)",
        grouped(total),
        grouped(report.prompt_tokens),
        grouped(report.completion_tokens)
    );
    if report.asked > 0 {
        let _ = write!(text, ", {:.1} a row", total as f64 / report.asked as f64);
    }
    text
}

fn time(report: &RunReport) -> String {
    let minutes = report.took.as_secs_f64() / 60.0;
    match report.settled {
        rows if rows > 0 && minutes > 0.0 => {
            format!("{}, {} rows/min", span(report.took), grouped_rate(rows as f64 / minutes))
        }
        _ => span(report.took),
    }
}

/// A price with as many decimals as it takes to see it.
pub fn dollars(price: f64) -> String {
    match price {
        price if price >= 1.0 => format!("${price:.2}"),
        price if price >= 0.001 || price == 0.0 => format!("${price:.4}"),
        price => format!("${price:.7}"),
    }
}

/// What to do next, where something is left to do.
fn advice(report: &RunReport, max_unlabelled: u64) -> Option<String> {
    if report.end != RunEnd::Complete {
        let first = report.remedy.map_or_else(String::new, |remedy| format!("{remedy} and "));
        let saved = match (report.end, report.unwritten) {
            (RunEnd::Storage, answers) if answers > 0 => {
                let answers = grouped(answers);
                format!(": {answers} answers wait in the journal and are not paid again")
            }
            _ => " to go on from here".into(),
        };
        return Some(format!("{first}run the same command again{saved}"));
    }
    if report.unlabelled_rows() <= max_unlabelled {
        return None;
    }
    let is_there = |reason: &Reason| report.unlabelled.get(reason).is_some_and(|rows| *rows > 0);
    let mut kept = Reason::ALL
        .into_iter()
        .filter(|reason| !reason.is_asked_again() && *reason != Reason::NoText && is_there(reason));
    Some(match kept.next() {
        Some(first) => {
            let names = kept.fold(first.name().to_owned(), |names, next| format!("{names},{next}"));
            format!("to ask those rows again: --retry {names}")
        }
        None if Reason::ALL.iter().any(|reason| reason.is_asked_again() && is_there(reason)) => {
            "run the same command to ask those rows again; rows that were asked --max-attempts times \
             need a higher number"
                .into()
        }
        None => "--max-unlabelled says how many unlabelled rows still count as a success".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use insta::assert_snapshot;

    use std::path::Path;

    use super::*;
    use crate::domain::Billed;

    fn whole() -> Summary {
        Summary {
            run: RunReport {
                end: RunEnd::Complete,
                stopped_by: None,
                remedy: None,
                rows: 2_000_000,
                labelled: 2_000_000,
                unlabelled: BTreeMap::new(),
                absent: 0,
                files: Vec::new(),
                calls: 40_000,
                failures: BTreeMap::new(),
                prompt_tokens: 66_000_000,
                completion_tokens: 6_150_000,
                billed: Billed::NOTHING,
                billed_in_all: Billed::NOTHING,
                settled: 2_000_000,
                asked: 1_950_000,
                isolated: 0,
                probes: None,
                unwritten: 0,
                took: Duration::from_secs(21_600),
                dropped_duplicates: 0,
                is_success: true,
            },
            accuracy: Some(Accuracy {
                right: 962,
                compared: 1_000,
                interval: Some((0.948, 0.972)),
            }),
            cost: Some(Cost {
                of_run: 13.59,
                in_all: 13.59,
                prices: "prices of October 2026".into(),
            }),
            output: Path::new("out").into(),
            max_unlabelled: 0,
        }
    }

    #[test]
    fn a_whole_run_says_what_it_did_and_what_it_cost() {
        assert_snapshot!(summary(&whole()), @r"
        done: every row has a label
          rows        2,000,000
          labelled    2,000,000
          accuracy    96.2 % (95 % between 94.8 % and 97.2 %), 962 of 1,000 known
          calls       40,000
          tokens      72,150,000 (66,000,000 in, 6,150,000 out), 37.0 a row
          cost        $13.59 (prices of October 2026)
          time        6 h 0 m, 5,556 rows/min
          output      out
        ");
        assert_eq!(whole().exit_code(None), ExitCode::Done);
    }

    #[test]
    fn rows_without_a_label_are_counted_by_reason_with_the_way_on() {
        let unlabelled = BTreeMap::from([(Reason::Missing, 3), (Reason::Refused, 12)]);
        let mut ended = whole();
        ended.run = RunReport { labelled: 1_999_985, unlabelled, ..ended.run };
        assert_snapshot!(summary(&ended), @r"
        done: some rows have no label
          rows        2,000,000
          labelled    1,999,985
          unlabelled  15 (missing 3, refused 12)
          accuracy    96.2 % (95 % between 94.8 % and 97.2 %), 962 of 1,000 known
          calls       40,000
          tokens      72,150,000 (66,000,000 in, 6,150,000 out), 37.0 a row
          cost        $13.59 (prices of October 2026)
          time        6 h 0 m, 5,556 rows/min
          output      out
        to ask those rows again: --retry refused
        ");
        assert_eq!(ended.exit_code(None), ExitCode::Unlabelled);
    }

    #[test]
    fn a_run_that_was_stopped_says_how_to_resume() {
        let whole = whole();
        let run = RunReport {
            end: RunEnd::Provider,
            stopped_by: Some("the provider answered 401: bad\nkey".into()),
            labelled: 1_000,
            settled: 0,
            asked: 0,
            calls: 0,
            dropped_duplicates: 2,
            unwritten: 150,
            took: Duration::from_millis(1_500),
            ..whole.run
        };
        let ended = Summary { run, accuracy: None, cost: None, ..whole };
        assert_snapshot!(summary(&ended), @r"
        stopped by the provider: the provider answered 401: bad\nkey
          rows        2,000,000
          labelled    1,000
          not done    1,999,000
          kept        150 answered rows wait for their part to be written
          dropped     2 rows with a repeated id
          time        1.5 s
          output      out
        run the same command again to go on from here
        ");
        assert_eq!(ended.exit_code(None), ExitCode::Stopped);
    }

    #[test]
    fn a_run_that_storage_stopped_says_what_failed_and_how_to_go_on() {
        let whole = whole();
        let run = RunReport {
            end: RunEnd::Storage,
            stopped_by: Some(
                "writing out/part-000002.parquet failed: No space left on device (os error 28)"
                    .into(),
            ),
            remedy: Some("free space"),
            labelled: 50_000,
            unwritten: 1_200,
            is_success: false,
            ..whole.run
        };
        let ended = Summary { run, accuracy: None, cost: None, ..whole };
        assert_snapshot!(summary(&ended), @r"
        stopped by storage: writing out/part-000002.parquet failed: No space left on device (os error 28)
          rows        2,000,000
          labelled    50,000
          not done    1,950,000
          calls       40,000
          tokens      72,150,000 (66,000,000 in, 6,150,000 out), 37.0 a row
          time        6 h 0 m, 5,556 rows/min
          output      out
        free space and run the same command again: 1,200 answers wait in the journal and are not paid again
        ");
        assert_eq!(ended.exit_code(None), ExitCode::Stopped);
    }

    #[test]
    fn what_earlier_runs_cost_stands_beside_what_this_one_did() {
        let prices = "your own prices".to_owned();
        let cost = Some(Cost { of_run: 1.25, in_all: 14.84, prices });
        let words = summary(&Summary { cost, ..whole() });
        let line = "\n  cost        $1.25, $14.84 over all runs (your own prices)\n";
        assert!(words.contains(line), "{words}");
    }

    #[test]
    fn small_prices_show_their_first_digits() {
        assert_eq!(dollars(0.0), "$0.0000");
        assert_eq!(dollars(0.0123), "$0.0123");
        assert_eq!(dollars(0.0000123), "$0.0000123");
    }
}
