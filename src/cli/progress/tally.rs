//! A run's counters and rates, folded from its events.
//!
//! Pure: time comes in. Rates are those of the last 60 s; while nothing happens, a slower average
//! stands in, so that a wait does not make the rest of the run look endless.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::Moment;
use crate::domain::event::{Disagreement, Event, RunEnd, Source, WaitFor};

/// What rates look back on.
const WINDOW: Duration = Duration::from_secs(60);
/// How slowly the long average forgets.
const MEMORY: Duration = Duration::from_secs(300);

/// What a run has done so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Planned rows.
    pub rows: u64,
    /// Rows with an outcome, over all runs.
    pub done: u64,
    /// Of those, rows without a label.
    pub unlabelled: u64,
    /// Calls sent in this run.
    pub calls: u64,
    /// Calls in flight.
    pub in_flight: u64,
    /// Tokens charged in this run, prompt and reply.
    pub tokens: u64,
    /// Tokens in the ledger's last 60 s.
    pub window_tokens: u64,
    /// Tokens a minute, if there is a limit.
    pub limit: Option<u32>,
    /// Rows that a reply left out or misanswered, each time counted.
    pub skips: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Parts committed in this run.
    pub parts: u64,
    /// How often the latest probes disagreed, once there were some.
    pub disagreement: Option<Disagreement>,
    /// How the run ended, once it has.
    pub end: Option<RunEnd>,
    waiting: Option<(WaitFor, Moment)>,
    started: Option<Moment>,
    rows_rate: Rate,
    tokens_rate: Rate,
}

impl Tally {
    /// Takes one event that happened at `now`.
    pub fn fold(&mut self, event: &Event, now: Moment) {
        match event {
            Event::RunStarted { rows, rows_done, unlabelled, tokens_per_minute, .. } => {
                self.rows = *rows;
                self.done = *rows_done;
                self.unlabelled = *unlabelled;
                self.limit = *tokens_per_minute;
                self.started = Some(now);
            }
            Event::PartReopened { rows, .. } => {
                self.done = self.done.saturating_sub(*rows);
                self.unlabelled = self.unlabelled.saturating_sub(*rows);
            }
            Event::RowsSettled { source, labelled, unlabelled } => {
                self.done += labelled + unlabelled;
                self.unlabelled += unlabelled;
                // What was known already says nothing of the speed to come.
                if matches!(source, Source::Reply | Source::SameText | Source::GivenUp) {
                    self.rows_rate.add(labelled + unlabelled, now);
                }
            }
            Event::CallStarted { in_flight, .. } => {
                self.calls += 1;
                self.in_flight = *in_flight;
                self.waiting = None;
            }
            Event::CallFinished { prompt_tokens, completion_tokens, window_tokens, .. } => {
                let tokens = u64::from(prompt_tokens.0) + u64::from(completion_tokens.0);
                self.tokens += tokens;
                self.tokens_rate.add(tokens, now);
                self.window_tokens = *window_tokens;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            Event::CallFailed { .. } => {
                self.errors += 1;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            Event::RowsUnresolved { rows, .. } => self.skips += rows,
            Event::Waiting { wait, seconds, window_tokens } => {
                self.waiting = Some((*wait, now + duration(*seconds)));
                self.window_tokens = *window_tokens;
            }
            Event::Probed { recent, .. } => self.disagreement = Some(*recent),
            Event::WindowCrossed { window_tokens, .. } => self.window_tokens = *window_tokens,
            Event::PartCommitted { .. } => self.parts += 1,
            Event::RunFinished { end, .. } => self.end = Some(*end),
            Event::ParameterDropped { .. }
            | Event::FormChanged { .. }
            | Event::CommitFailed { .. }
            | Event::CommitStalled { .. }
            | Event::JournalReplayed { .. }
            | Event::ScorerFitted { .. }
            | Event::Spending { .. }
            | Event::RowsIsolated { .. }
            | Event::RowsPerCallChanged { .. }
            | Event::Held { .. }
            | Event::DailyLimitUsed { .. }
            | Event::Warning { .. }
            | Event::Interrupted => {}
        }
    }

    /// Rows with a label, over all runs.
    pub fn labelled(&self) -> u64 {
        self.done.saturating_sub(self.unlabelled)
    }

    /// The share of rows that are done, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.rows == 0 { 1.0 } else { (self.done as f64 / self.rows as f64).min(1.0) }
    }

    /// Rows settled by asking, per minute.
    pub fn rows_per_minute(&self, now: Moment) -> f64 {
        self.rows_rate.per_minute(now)
    }

    /// Tokens charged in the last minute; never extrapolated, since it stands beside the limit.
    pub fn tokens_per_minute(&self, now: Moment) -> u64 {
        self.tokens_rate.last_minute(now)
    }

    /// Time since asking began.
    pub fn elapsed(&self, now: Moment) -> Duration {
        self.started.map_or(Duration::ZERO, |started| now.since(started))
    }

    /// How long the rest takes at this speed; `None` while there is none.
    pub fn time_left(&self, now: Moment) -> Option<Duration> {
        let per_minute = self.rows_per_minute(now);
        let left = self.rows.saturating_sub(self.done);
        (self.end.is_none() && per_minute > 0.0).then(|| duration(left as f64 / per_minute * 60.0))
    }

    /// What the run waits for and for how much longer.
    pub fn waiting(&self, now: Moment) -> Option<(WaitFor, Duration)> {
        let (wait, until) = self.waiting?;
        (until > now).then(|| (wait, until.since(now)))
    }
}

/// Seconds as a duration; nonsense is none, and nothing is longer than a century.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 3.2e9)).unwrap_or_default()
}

/// A count per minute.
#[derive(Clone, Debug, Default)]
struct Rate {
    /// Seconds since the clock's origin, and what was counted in each.
    buckets: VecDeque<(u64, u64)>,
    /// When counting began.
    since: Option<Moment>,
    /// The long average per minute, and until when it was brought up to date.
    average: Option<(f64, Moment)>,
}

impl Rate {
    fn add(&mut self, count: u64, now: Moment) {
        let since = *self.since.get_or_insert(now);
        let second = now.0.as_secs();
        match self.buckets.back_mut() {
            Some((last, sum)) if *last == second => *sum += count,
            _ => self.buckets.push_back((second, count)),
        }
        let oldest = second.saturating_sub(WINDOW.as_secs());
        while self.buckets.front().is_some_and(|(second, _)| *second <= oldest && oldest > 0) {
            self.buckets.pop_front();
        }
        let rate = self.in_window(now, since);
        self.average = Some(match self.average {
            Some((average, updated)) => {
                let elapsed = now.since(updated).as_secs_f64();
                let fresh = 1.0 - (-elapsed / MEMORY.as_secs_f64()).exp();
                // A young average is a plain mean, so that its first sample soon weighs no more.
                let fresh = fresh.max(elapsed / now.since(since).as_secs_f64().max(1.0));
                (average + (rate - average) * fresh, now)
            }
            None => (rate, now),
        });
    }

    fn per_minute(&self, now: Moment) -> f64 {
        let Some(since) = self.since else {
            return 0.0;
        };
        let rate = self.in_window(now, since);
        if rate > 0.0 { rate } else { self.average.map_or(0.0, |(average, _)| average) }
    }

    /// The rate over the last minute, or since counting began if that is less; at least over 5 s,
    /// so that the first reply does not look like a thousand.
    fn in_window(&self, now: Moment, since: Moment) -> f64 {
        let span = now.since(since).clamp(Duration::from_secs(5), WINDOW);
        self.last_minute(now) as f64 * 60.0 / span.as_secs_f64()
    }

    fn last_minute(&self, now: Moment) -> u64 {
        let oldest = now.0.as_secs().checked_sub(WINDOW.as_secs());
        let is_recent = |second: u64| oldest.is_none_or(|oldest| second > oldest);
        let recent = self.buckets.iter().filter(|(second, _)| is_recent(*second));
        recent.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PartNumber, Reason, Tokens};

    fn at(seconds: f64) -> Moment {
        Moment(Duration::from_secs_f64(1_000.0 + seconds))
    }

    fn started(rows: u64, rows_done: u64) -> Event {
        Event::RunStarted {
            run: "r".into(),
            rows,
            rows_done,
            unlabelled: 0,
            provider: "openai".into(),
            model: "m".into(),
            host: "h".into(),
            api_key_env: None,
            tokens_per_minute: Some(200_000),
            rows_per_call: 50,
        }
    }

    fn settled(source: Source, labelled: u64, unlabelled: u64) -> Event {
        Event::RowsSettled { source, labelled, unlabelled }
    }

    #[test]
    fn rows_done_before_count_as_done_but_not_as_speed() {
        let mut tally = Tally::default();
        tally.fold(&started(1_000, 400), at(0.0));
        tally.fold(&settled(Source::Journal, 100, 0), at(0.1));
        assert_eq!(tally.done, 500);
        assert_eq!(tally.rows_per_minute(at(1.0)), 0.0);
        assert_eq!(tally.time_left(at(1.0)), None);
    }

    #[test]
    fn a_steady_run_has_its_rate_and_its_time_left() {
        let mut tally = Tally::default();
        tally.fold(&started(100_000, 0), at(0.0));
        for second in 0..300 {
            tally.fold(&settled(Source::Reply, 50, 0), at(f64::from(second)));
        }
        let now = at(299.5);
        assert!(
            (tally.rows_per_minute(now) - 3_000.0).abs() < 60.0,
            "{}",
            tally.rows_per_minute(now)
        );
        let left = tally.time_left(now).unwrap().as_secs_f64();
        assert!((left - 1_700.0).abs() < 40.0, "{left}");
    }

    #[test]
    fn the_rate_looks_back_one_minute_only() {
        let mut tally = Tally::default();
        tally.fold(&started(1_000_000, 0), at(0.0));
        tally.fold(&settled(Source::Reply, 60_000, 0), at(0.0));
        for second in 61..121 {
            tally.fold(&settled(Source::Reply, 1, 0), at(f64::from(second)));
        }
        assert_eq!(tally.rows_per_minute(at(120.0)), 60.0);
    }

    #[test]
    fn a_long_wait_keeps_the_average_instead_of_endless_time() {
        let mut tally = Tally::default();
        tally.fold(&started(10_000, 0), at(0.0));
        for second in 0..60 {
            tally.fold(&settled(Source::Reply, 10, 0), at(f64::from(second)));
        }
        let rate = tally.rows_per_minute(at(600.0));
        assert!((rate - 600.0).abs() < 120.0, "{rate}");
        assert!(tally.time_left(at(600.0)).is_some());
    }

    #[test]
    fn tokens_of_the_first_seconds_are_not_blown_up_beyond_the_limit() {
        let mut tally = Tally::default();
        tally.fold(
            &Event::CallFinished {
                call: 1,
                rows: 50,
                settled: 50,
                prompt_tokens: Tokens(1_500),
                completion_tokens: Tokens(160),
                window_tokens: 1_660,
                seconds: 1.0,
            },
            at(1.0),
        );
        assert_eq!(tally.tokens_per_minute(at(2.0)), 1_660);
        assert_eq!(tally.tokens_per_minute(at(62.0)), 0);
        assert_eq!(tally.tokens, 1_660);
    }

    #[test]
    fn a_reopened_part_takes_its_rows_back() {
        let mut tally = Tally::default();
        tally.fold(&started(100, 100), at(0.0));
        tally.unlabelled = 5;
        tally.fold(&Event::PartReopened { part: PartNumber(1), rows: 5 }, at(0.0));
        assert_eq!((tally.done, tally.unlabelled, tally.labelled()), (95, 0, 95));
        tally.fold(&settled(Source::Reply, 3, 2), at(1.0));
        assert_eq!((tally.done, tally.unlabelled, tally.labelled()), (100, 2, 98));
    }

    #[test]
    fn skips_are_rows_and_errors_are_calls() {
        let mut tally = Tally::default();
        tally.fold(&Event::RowsUnresolved { reason: Reason::Missing, rows: 7 }, at(0.0));
        tally.fold(
            &Event::CallFailed {
                call: 1,
                rows: 50,
                kind: "server_error".into(),
                status: Some(500),
                message: "m".into(),
                retry_in: Some(2.0),
                seconds: 0.1,
            },
            at(0.0),
        );
        assert_eq!((tally.skips, tally.errors), (7, 1));
    }

    #[test]
    fn a_wait_ends_by_time_or_by_the_next_call() {
        let mut tally = Tally::default();
        let wait = Event::Waiting { wait: WaitFor::Tokens, seconds: 4.0, window_tokens: 9 };
        tally.fold(&wait, at(0.0));
        assert_eq!(tally.waiting(at(1.0)), Some((WaitFor::Tokens, Duration::from_secs(3))));
        assert_eq!(tally.waiting(at(5.0)), None);
        tally.fold(&wait, at(10.0));
        let call = Event::CallStarted { call: 1, rows: 1, reserved: Tokens(1), in_flight: 2 };
        tally.fold(&call, at(10.0));
        assert_eq!(tally.waiting(at(10.0)), None);
        assert_eq!(tally.in_flight, 2);
    }

    #[test]
    fn nonsense_durations_are_none() {
        assert_eq!(duration(f64::NAN), Duration::ZERO);
        assert_eq!(duration(-1.0), Duration::ZERO);
        assert!(duration(f64::INFINITY) > Duration::from_secs(1));
    }
}
