//! All limits of the simulated account, and a second client that takes its share of them.
//!
//! Pure: time comes in as an argument and never moves backwards.

use std::time::Duration;

use super::gauge::Gauge;
use super::settings::{LimitChange, MinuteKind, Settings};
use super::window::{MINUTE, Overrun};
use crate::domain::Moment;

/// Tokens of each call of the second client.
const SECOND_CLIENTS_CALL: u64 = 1_500;

/// What a limit counts, and over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Tokens,
    Requests,
    Input,
    Output,
    RequestsOfDay,
    TokensOfDay,
}

/// What a request counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    /// Towards limits on tokens.
    pub(super) tokens: u64,
    /// Towards limits on input tokens.
    pub(super) input: u64,
    /// Towards limits on output tokens.
    pub(super) output: u64,
}

/// What a limit has left, for the reply's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The limit.
    pub(super) limit: u64,
    /// What is left of it.
    pub(super) remaining: u64,
    /// Until all of it is back.
    pub(super) reset: Duration,
}

/// The limits.
#[derive(Debug)]
pub(super) struct Account {
    /// Those of minutes and days first, then those of slices.
    gauges: Vec<(Counted, Gauge)>,
    second_client: Option<SecondClient>,
    /// Changes of the minute's limits that are to come, the first one last.
    changes: Vec<LimitChange>,
    first: Option<Moment>,
}

#[derive(Debug)]
struct SecondClient {
    every: Duration,
    due: Moment,
}

impl Account {
    /// An account of which nothing is used.
    pub(super) fn new(settings: &Settings) -> Account {
        let minute = settings.minute;
        let day = Duration::from_secs(u64::from(settings.day_seconds));
        let slice = Duration::from_secs(u64::from(settings.slice_seconds));
        let limits = [
            (Counted::Tokens, settings.tokens_per_minute, MINUTE, minute),
            (Counted::Requests, settings.requests_per_minute, MINUTE, minute),
            (Counted::Input, settings.input_tokens_per_minute, MINUTE, minute),
            (Counted::Output, settings.output_tokens_per_minute, MINUTE, minute),
            (Counted::RequestsOfDay, settings.requests_per_day, day, MinuteKind::Fixed),
            (Counted::TokensOfDay, settings.tokens_per_day, day, MinuteKind::Fixed),
        ];
        let limits = limits.into_iter().filter_map(|(counted, limit, span, kind)| {
            Some((counted, u64::from(limit?), span, kind))
        });
        let gauges = limits
            .clone()
            .map(|(counted, limit, span, kind)| (counted, Gauge::new(limit, span, kind)));
        let slices = limits.filter(|(_, _, span, _)| *span == MINUTE && !slice.is_zero());
        let slices = slices.map(|(counted, limit, ..)| {
            let part = (limit * slice.as_secs() / MINUTE.as_secs()).max(1);
            (counted, Gauge::new(part, slice, MinuteKind::Rolling))
        });
        let second_client = settings.tokens_per_minute.and_then(|limit| {
            let theirs = f64::from(limit) * settings.second_client / MINUTE.as_secs_f64();
            let every = Duration::try_from_secs_f64(SECOND_CLIENTS_CALL as f64 / theirs).ok()?;
            Some(SecondClient { every, due: Moment::default() })
        });
        let mut changes = settings.limit_changes.clone();
        changes.sort_by_key(|change| std::cmp::Reverse(change.after_seconds));
        Account { gauges: gauges.chain(slices).collect(), second_client, changes, first: None }
    }

    /// Changes the limits as far as that is due, and lets the second client do what it does until
    /// `now`. What does not fit is refused to it, too. The first call is that of the first request.
    pub(super) fn move_to(&mut self, now: Moment) {
        let first = *self.first.get_or_insert(now);
        let is_due = |change: &mut LimitChange| {
            now.since(first) >= Duration::from_secs(u64::from(change.after_seconds))
        };
        while let Some(LimitChange { share, .. }) = self.changes.pop_if(is_due) {
            let minutes = self.gauges.iter_mut().filter(|(counted, _)| !counted.is_daily());
            minutes.for_each(|(_, gauge)| gauge.change(share, now));
        }
        let theirs = Amounts {
            tokens: SECOND_CLIENTS_CALL,
            input: SECOND_CLIENTS_CALL * 9 / 10,
            output: SECOND_CLIENTS_CALL / 10,
        };
        while let Some(client) = &mut self.second_client
            && client.due <= now
        {
            let due = client.due;
            client.due = due + client.every.max(Duration::from_micros(100));
            if self.check(theirs, due).is_ok() {
                self.charge(theirs, due);
            }
        }
    }

    /// Whether a request fits into every limit at `now`.
    ///
    /// # Errors
    /// The longest wait of those that it does not fit into.
    pub(super) fn check(&mut self, amounts: Amounts, now: Moment) -> Result<(), Overrun> {
        let checks =
            self.gauges.iter_mut().map(|(counted, gauge)| gauge.check(counted.of(amounts), now));
        checks.filter_map(Result::err).max().map_or(Ok(()), Err)
    }

    /// Charges a request at `now`, whether it fits or not.
    pub(super) fn charge(&mut self, amounts: Amounts, now: Moment) {
        for (counted, gauge) in &mut self.gauges {
            gauge.charge(counted.of(amounts), now);
        }
    }

    /// What is left of what is counted so, in its minute or day; `None` without a limit.
    pub(super) fn left(&mut self, counted: Counted, now: Moment) -> Option<Left> {
        let (_, gauge) = self.gauges.iter_mut().find(|(it, _)| *it == counted)?;
        let remaining = gauge.remaining(now);
        Some(Left { limit: gauge.limit(), remaining, reset: gauge.reset_after(now) })
    }
}

impl Counted {
    fn is_daily(self) -> bool {
        matches!(self, Counted::RequestsOfDay | Counted::TokensOfDay)
    }

    fn of(self, amounts: Amounts) -> u64 {
        match self {
            Counted::Tokens | Counted::TokensOfDay => amounts.tokens,
            Counted::Requests | Counted::RequestsOfDay => 1,
            Counted::Input => amounts.input,
            Counted::Output => amounts.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn amounts(input: u64, output: u64) -> Amounts {
        Amounts { tokens: input + output, input, output }
    }

    /// When each of the calls of `amounts`, one a second, was refused.
    fn refused(settings: &Settings, amounts: Amounts, calls: u64) -> Vec<u64> {
        let mut account = Account::new(settings);
        let refused = (0..calls).filter(|second| {
            let fits = account.check(amounts, at(*second)).is_ok();
            if fits {
                account.charge(amounts, at(*second));
            }
            !fits
        });
        refused.collect()
    }

    #[test]
    fn every_limit_holds_by_itself() {
        let none = Settings::default();
        assert!(refused(&none, amounts(1_000, 1_000), 100).is_empty());
        let input = Settings { input_tokens_per_minute: Some(250), ..Settings::default() };
        assert_eq!(refused(&input, amounts(100, 900), 5), [2, 3, 4]);
        let output = Settings { output_tokens_per_minute: Some(250), ..Settings::default() };
        assert_eq!(refused(&output, amounts(900, 100), 5), [2, 3, 4]);
        let day = Settings { requests_per_day: Some(3), day_seconds: 10, ..Settings::default() };
        assert_eq!(refused(&day, amounts(1, 1), 14), [3, 4, 5, 6, 7, 8, 9, 13]);
        let tokens = Settings { tokens_per_day: Some(400), day_seconds: 10, ..Settings::default() };
        assert_eq!(refused(&tokens, amounts(100, 100), 12), [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_slice_takes_its_part_of_the_minute() {
        let settings =
            Settings { requests_per_minute: Some(12), slice_seconds: 10, ..Settings::default() };
        assert_eq!(refused(&settings, amounts(1, 1), 13), [2, 3, 4, 5, 6, 7, 8, 9, 12]);
    }

    #[test]
    fn limits_change_when_they_are_told_to_and_what_is_taken_stays_taken() {
        let change = |after_seconds, share| LimitChange { after_seconds, share };
        for minute in [MinuteKind::Rolling, MinuteKind::Bucket] {
            let settings = Settings {
                tokens_per_minute: Some(600),
                tokens_per_day: Some(100_000),
                limit_changes: vec![change(90, 1.0), change(30, 0.5)],
                minute,
                ..Settings::default()
            };
            let mut account = Account::new(&settings);
            let mut left_at = |second: u64| {
                account.move_to(at(1_000 + second));
                let left = account.left(Counted::Tokens, at(1_000 + second)).unwrap();
                account.charge(amounts(100, 0), at(1_000 + second));
                (left.limit, left.remaining)
            };
            assert_eq!(left_at(0), (600, 600));
            assert_eq!(left_at(29).0, 600);
            let (limit, left) = left_at(30);
            assert_eq!(limit, 300);
            assert!(left < 300, "{left}");
            assert_eq!(left_at(90).0, 600);
            assert_eq!(account.left(Counted::TokensOfDay, at(1_090)).unwrap().limit, 100_000);
        }
    }

    #[test]
    fn a_second_client_takes_its_share() {
        let settings =
            Settings { tokens_per_minute: Some(60_000), second_client: 0.5, ..Settings::default() };
        let mut account = Account::new(&settings);
        account.move_to(at(600));
        let left = account.left(Counted::Tokens, at(600)).unwrap();
        assert_eq!((left.limit, left.remaining), (60_000, 30_000));
        let mut alone = Account::new(&Settings { second_client: 0.0, ..settings });
        alone.move_to(at(600));
        assert_eq!(alone.left(Counted::Tokens, at(600)).unwrap().remaining, 60_000);
    }
}
