//! Two lines at the foot of the terminal, redrawn at most ten times a second.
//!
//! What they say is a pure function of the tally and the width: the bar takes what room is left,
//! and where there is none, the least telling words go first. They use no colour.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;
use super::words::{differing, grouped, grouped_rate, line, percent, span, wait};
use super::{Display, FailureLines, Print, Time};
use crate::cli::console;
use crate::domain::{Event, Moment};

/// How often the lines are redrawn.
const PERIOD: Duration = Duration::from_millis(100);
/// The widest bar, in columns.
const MAX_BAR: usize = 60;
/// The narrowest bar that still says something.
const MIN_BAR: usize = 8;
/// Columns to assume where the terminal doesn't tell.
const COLUMNS: usize = 80;

/// Draws the lines; everything else stands above them.
pub(super) struct Bar {
    bar: ProgressBar,
    print: Print,
    failures: FailureLines,
    has_started: bool,
}

impl Bar {
    /// A bar on stderr; `print` has to make room for itself above it.
    pub(super) fn on_stderr(print: Print) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        console::stand_above(&bar);
        Bar { bar, print, failures: FailureLines::default(), has_started: false }
    }
}

impl Display for Bar {
    fn event(&mut self, event: &Event, _tally: &Tally, time: Time) {
        self.has_started |= matches!(event, Event::RunStarted { .. });
        for line in [line(event), self.failures.due(event, time.now)].into_iter().flatten() {
            (self.print)(&line);
        }
    }

    fn tick(&mut self, tally: &Tally, now: Moment) {
        let text = match self.has_started {
            true => lines(tally, now, columns()).join("\n"),
            false => "looking at the input and the output".into(),
        };
        self.bar.set_message(text);
    }

    fn finish(&mut self, _tally: &Tally, _now: Moment) {
        console::clear_bar();
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }
}

/// The width of the terminal on stderr.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS)
}

/// The two lines, each shorter than `columns`.
fn lines(tally: &Tally, now: Moment, columns: usize) -> [String; 2] {
    // A terminal wraps a line that fills its last column.
    let room = columns.saturating_sub(1);
    [first_line(tally, now, room), second_line(tally, now, room)]
}

fn first_line(tally: &Tally, now: Moment, room: usize) -> String {
    let left = tally.time_left(now).map(|left| format!("{} left", span(left)));
    let facts = [
        Some(percent(tally.share())),
        Some(format!("{}/{} rows", grouped(tally.done), grouped(tally.rows))),
        Some(format!("{} rows/min", grouped_rate(tally.rows_per_minute(now)))),
        left,
    ];
    let facts = fitting(facts.into_iter().flatten(), room);
    let bar_room = room.saturating_sub(facts.len() + 4).min(MAX_BAR);
    if bar_room < MIN_BAR {
        return facts;
    }
    let filled = ((bar_room as f64) * tally.share()) as usize;
    format!("[{}{}]  {facts}", "#".repeat(filled), "-".repeat(bar_room - filled))
}

fn second_line(tally: &Tally, now: Moment, room: usize) -> String {
    let used = grouped(tally.tokens_per_minute(now));
    let tokens = match tally.limit {
        Some(limit) => format!("{used}/{} tokens/min", grouped(limit.into())),
        None => format!("{used} tokens/min"),
    };
    let waiting =
        tally.waiting(now).map(|(what, left)| format!("waiting: {} {}", wait(what), span(left)));
    let facts = [
        Some(tokens),
        waiting,
        Some(format!("{} skips", grouped(tally.skips))),
        Some(format!("{} errors", grouped(tally.errors))),
        tally.disagreement.as_ref().map(differing),
        Some(format!("{} in flight", tally.in_flight)),
        Some(format!("{} without label", grouped(tally.unlabelled))),
        Some(format!("{} parts", grouped(tally.parts))),
    ];
    fitting(facts.into_iter().flatten(), room)
}

/// As many of `facts`, from the first, as stand in `room` columns.
fn fitting(facts: impl Iterator<Item = String>, room: usize) -> String {
    let mut text = String::new();
    for fact in facts {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.len() + gap.len() + fact.len() > room {
            break;
        }
        text.push_str(gap);
        text.push_str(&fact);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tokens;
    use crate::domain::event::{Source, WaitFor};

    const NOW: Moment = Moment(Duration::from_secs(99));

    fn tally() -> Tally {
        let mut tally = Tally::default();
        let events = [
            Event::RunStarted {
                run: "r".into(),
                rows: 2_000_000,
                rows_done: 250_000,
                unlabelled: 12,
                provider: "openai".into(),
                model: "m".into(),
                host: "h".into(),
                api_key_env: None,
                tokens_per_minute: Some(200_000),
                rows_per_call: 50,
            },
            Event::CallStarted { call: 1, rows: 50, reserved: Tokens(1_900), in_flight: 12 },
            Event::CallFinished {
                call: 1,
                rows: 50,
                settled: 50,
                prompt_tokens: Tokens(180_000),
                completion_tokens: Tokens(16_000),
                window_tokens: 196_000,
                seconds: 1.0,
            },
            Event::RowsSettled { source: Source::Reply, labelled: 5_250, unlabelled: 0 },
            Event::Waiting { wait: WaitFor::Tokens, seconds: 62.5, window_tokens: 196_000 },
        ];
        for event in events {
            tally.fold(&event, Moment(Duration::from_secs(40)));
        }
        tally
    }

    #[test]
    fn the_lines_fit_and_tell_what_matters_at_80_columns() {
        insta::assert_snapshot!(lines(&tally(), NOW, 80).join("\n"), @r"
        [#-------------]  12.8 %  255,250/2,000,000 rows  5,339 rows/min  5 h 26 m left
        196,000/200,000 tokens/min  waiting: token window 3.5 s  0 skips  0 errors
        ");
    }

    #[test]
    fn the_lines_fit_and_tell_everything_at_200_columns() {
        insta::assert_snapshot!(lines(&tally(), NOW, 200).join("\n"), @r"
        [#######-----------------------------------------------------]  12.8 %  255,250/2,000,000 rows  5,339 rows/min  5 h 26 m left
        196,000/200,000 tokens/min  waiting: token window 3.5 s  0 skips  0 errors  11 in flight  12 without label  0 parts
        ");
    }

    #[test]
    fn no_line_reaches_the_last_column_of_any_terminal() {
        for columns in 0..260 {
            for line in lines(&tally(), NOW, columns) {
                assert!(line.len() < columns.max(1), "{columns}: {line}");
                assert!(line.is_ascii(), "{line}");
            }
        }
    }
}
