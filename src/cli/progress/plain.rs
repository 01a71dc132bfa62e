//! A line every 10 seconds, for logs: one when asking begins, one at the end, whatever happens
//! between.

use std::time::Duration;

use super::tally::Tally;
use super::words::{differing, grouped, grouped_rate, line, percent, span, wait};
use super::{Display, FailureLines, Print, Time};
use crate::domain::{Event, Moment};

/// How often a line is printed.
const PERIOD: Duration = Duration::from_secs(10);

/// Prints lines; a quiet one only warnings and failures.
pub(super) struct Plain {
    print: Print,
    failures: FailureLines,
    is_quiet: bool,
    has_started: bool,
}

impl Plain {
    pub(super) fn new(print: Print) -> Self {
        Plain { print, failures: FailureLines::default(), is_quiet: false, has_started: false }
    }

    pub(super) fn quiet(print: Print) -> Self {
        Plain { is_quiet: true, ..Plain::new(print) }
    }
}

impl Display for Plain {
    fn event(&mut self, event: &Event, _tally: &Tally, time: Time) {
        self.has_started |= matches!(event, Event::RunStarted { .. });
        let is_trouble = matches!(
            event,
            Event::Warning { .. } | Event::CommitFailed { .. } | Event::CommitStalled { .. }
        );
        let is_shown = !self.is_quiet || is_trouble;
        if let Some(line) = line(event).filter(|_| is_shown) {
            (self.print)(&line);
        }
        if let Some(line) = self.failures.due(event, time.now) {
            (self.print)(&line);
        }
    }

    fn tick(&mut self, tally: &Tally, now: Moment) {
        let line = match self.has_started {
            true => status(tally, now),
            false => "looking at the input and the output".into(),
        };
        (self.print)(&line);
    }

    fn finish(&mut self, tally: &Tally, now: Moment) {
        if self.has_started && !self.is_quiet {
            (self.print)(&status(tally, now));
        }
    }

    fn period(&self) -> Option<Duration> {
        (!self.is_quiet).then_some(PERIOD)
    }
}

/// Where a run stands, on one line.
fn status(tally: &Tally, now: Moment) -> String {
    let limit = tally.limit.map_or_else(String::new, |limit| format!("/{}", grouped(limit.into())));
    let mut parts = vec![
        format!(
            "{}: {}/{} rows ({})",
            span(tally.elapsed(now)),
            grouped(tally.done),
            grouped(tally.rows),
            percent(tally.share())
        ),
        format!("{} rows/min", grouped_rate(tally.rows_per_minute(now))),
        format!("{}{limit} tokens/min", grouped(tally.tokens_per_minute(now))),
        format!("{} calls in flight", tally.in_flight),
        format!("{} skips", grouped(tally.skips)),
        format!("{} errors", grouped(tally.errors)),
    ];
    if let Some(probes) = tally.disagreement {
        parts.push(differing(&probes));
    }
    if let Some(left) = tally.time_left(now) {
        parts.push(format!("{} left", span(left)));
    }
    if let Some((what, left)) = tally.waiting(now) {
        parts.push(format!("waiting for the {} ({})", wait(what), span(left)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::domain::UnixMillis;
    use crate::domain::event::{RunEnd, Source, WaitFor};

    fn captured(quiet: bool) -> (Plain, Receiver<String>) {
        let (sent, lines) = channel();
        let print: Print = Box::new(move |line| {
            let _ = sent.send(line.to_owned());
        });
        (if quiet { Plain::quiet(print) } else { Plain::new(print) }, lines)
    }

    fn at(seconds: u64) -> Time {
        Time { now: Moment(Duration::from_secs(seconds)), wall: UnixMillis(0) }
    }

    fn play(display: &mut Plain) {
        let mut tally = Tally::default();
        let mut event = |display: &mut Plain, event: Event, seconds| {
            tally.fold(&event, at(seconds).now);
            display.event(&event, &tally, at(seconds));
            tally.clone()
        };
        event(
            display,
            Event::RunStarted {
                run: "r".into(),
                rows: 2_000,
                rows_done: 0,
                unlabelled: 0,
                provider: "lexical".into(),
                model: "lexical".into(),
                host: String::new(),
                api_key_env: None,
                tokens_per_minute: Some(200_000),
                rows_per_call: 50,
            },
            0,
        );
        event(
            display,
            Event::RowsSettled { source: Source::Reply, labelled: 990, unlabelled: 10 },
            9,
        );
        let wait = Event::Waiting { wait: WaitFor::Tokens, seconds: 4.0, window_tokens: 190_000 };
        let tally_now = event(display, wait, 9);
        if display.period().is_some() {
            display.tick(&tally_now, at(10).now);
        }
        event(display, Event::Warning { message: "usage is missing".into() }, 11);
        let end = Event::RunFinished {
            end: RunEnd::Interrupted,
            rows: 2_000,
            labelled: 990,
            unlabelled: 10,
            calls: 20,
            tokens: 70_000,
            seconds: 12.0,
            stopped_by: None,
            isolated: 0,
            probes: None,
        };
        let tally_now = event(display, end, 12);
        display.finish(&tally_now, at(12).now);
    }

    #[test]
    fn a_line_at_the_start_one_every_period_and_one_at_the_end() {
        let (mut display, lines) = captured(false);
        play(&mut display);
        insta::assert_snapshot!(lines.try_iter().collect::<Vec<_>>().join("\n"), @r"
        2,000 rows; lexical (offline); at most 50 rows a call; 200,000 tokens/min
        10 s: 1,000/2,000 rows (50.0 %), 12,000 rows/min, 0/200,000 tokens/min, 0 calls in flight, 0 skips, 0 errors, 5.0 s left, waiting for the token window (3.0 s)
        warning: usage is missing
        12 s: 1,000/2,000 rows (50.0 %), 12,000 rows/min, 0/200,000 tokens/min, 0 calls in flight, 0 skips, 0 errors, waiting for the token window (1.0 s)
        ");
    }

    #[test]
    fn a_quiet_display_shows_warnings_only() {
        let (mut display, lines) = captured(true);
        play(&mut display);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["warning: usage is missing"]);
    }

    #[test]
    fn before_asking_begins_a_line_says_so() {
        let (mut display, lines) = captured(false);
        display.tick(&Tally::default(), at(10).now);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["looking at the input and the output"]);
    }
}
