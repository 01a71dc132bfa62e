//! One limit: what it counts, over which time, how much of it is taken and how high it may stand.

use std::time::Duration;

use super::bucket::Bucket;
use super::ceiling::Ceiling;
use super::ledger::Ledger;
use super::penalty::Penalty;
use super::window::Window;
use super::{COLD_TRANSIT, MINUTE};
use crate::domain::event::WaitFor;
use crate::domain::{ChargeSum, Moment};
use crate::llm::provider::Reading;

/// The grid of ledgers for a minute and less. It costs at most 10 ms of every window.
const FINE_GRID: Duration = Duration::from_millis(10);
/// The grid of ledgers for a day.
const DAY_GRID: Duration = Duration::from_secs(60);

/// A limit's name, as in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// `tokens_per_minute`.
    TokensPerMinute,
    /// `requests_per_minute`.
    RequestsPerMinute,
    /// `input_tokens_per_minute`.
    InputTokensPerMinute,
    /// `output_tokens_per_minute`.
    OutputTokensPerMinute,
    /// `requests_per_day`.
    RequestsPerDay,
    /// `tokens_per_day`.
    TokensPerDay,
}

impl LimitName {
    /// All of them; a governor's meters begin in this order.
    pub(super) const ALL: [LimitName; 6] = [
        LimitName::TokensPerMinute,
        LimitName::RequestsPerMinute,
        LimitName::InputTokensPerMinute,
        LimitName::OutputTokensPerMinute,
        LimitName::RequestsPerDay,
        LimitName::TokensPerDay,
    ];

    /// How it is written in `[limits]`.
    pub fn key(self) -> &'static str {
        match self {
            LimitName::TokensPerMinute => "tokens_per_minute",
            LimitName::RequestsPerMinute => "requests_per_minute",
            LimitName::InputTokensPerMinute => "input_tokens_per_minute",
            LimitName::OutputTokensPerMinute => "output_tokens_per_minute",
            LimitName::RequestsPerDay => "requests_per_day",
            LimitName::TokensPerDay => "tokens_per_day",
        }
    }

    /// What a call counts towards it.
    pub(super) fn amount(self, charge: ChargeSum) -> u64 {
        match self {
            LimitName::TokensPerMinute | LimitName::TokensPerDay => charge.tokens,
            LimitName::RequestsPerMinute | LimitName::RequestsPerDay => charge.calls,
            LimitName::InputTokensPerMinute => charge.input,
            LimitName::OutputTokensPerMinute => charge.output,
        }
    }

    pub(super) fn counts_requests(self) -> bool {
        matches!(self, LimitName::RequestsPerMinute | LimitName::RequestsPerDay)
    }

    pub(super) fn is_daily(self) -> bool {
        matches!(self, LimitName::RequestsPerDay | LimitName::TokensPerDay)
    }

    pub(super) fn wait(self) -> WaitFor {
        match self {
            LimitName::TokensPerMinute => WaitFor::Tokens,
            LimitName::RequestsPerMinute => WaitFor::Requests,
            LimitName::InputTokensPerMinute => WaitFor::InputTokens,
            LimitName::OutputTokensPerMinute => WaitFor::OutputTokens,
            LimitName::RequestsPerDay | LimitName::TokensPerDay => WaitFor::Day,
        }
    }
}

/// One limit.
#[derive(Debug)]
pub(super) struct Meter {
    name: LimitName,
    ceiling: Ceiling,
    book: Book,
    /// The time that the limit is for; the pace of calls follows from it.
    span: Duration,
}

/// What is taken of a limit.
#[derive(Debug)]
enum Book {
    Window(Window, Ledger),
    Bucket(Bucket),
}

impl Meter {
    /// A limit over a rolling span. A counter that is reset each minute is kept as one, too: each
    /// of its minutes is a rolling one, whenever it begins.
    pub(super) fn rolling(name: LimitName, own: Option<u64>, span: Duration) -> Meter {
        let book = Book::Window(Window::Rolling(span), Ledger::new(FINE_GRID));
        Meter { name, ceiling: Ceiling::new(own, span), book, span }
    }

    /// A minute's limit that is kept as a bucket.
    pub(super) fn bucket(name: LimitName, own: Option<u64>, now: Moment) -> Meter {
        let book = Book::Bucket(Bucket::new(MINUTE, now));
        Meter { name, ceiling: Ceiling::new(own, MINUTE), book, span: MINUTE }
    }

    /// A day's limit.
    pub(super) fn day(name: LimitName, own: Option<u64>, window: Window) -> Meter {
        let span = Duration::from_hours(24);
        let book = Book::Window(window, Ledger::new(DAY_GRID));
        Meter { name, ceiling: Ceiling::new(own, span), book, span }
    }

    pub(super) fn name(&self) -> LimitName {
        self.name
    }

    /// The user's limit.
    pub(super) fn own(&self) -> Option<u64> {
        self.ceiling.own()
    }

    /// The limit in force at `now`.
    pub(super) fn limit(&self, now: Moment) -> Option<u64> {
        self.ceiling.limit(now)
    }

    /// The most that one call should take, so that none waits long for room: half of the limit,
    /// but of a slice nine tenths, which leaves room for what an estimate misses.
    pub(super) fn largest_call(&self) -> Option<u64> {
        let own = self.ceiling.own()?;
        Some(if self.is_slice() { own * 9 / 10 } else { own / 2 }.max(1))
    }

    pub(super) fn is_slice(&self) -> bool {
        self.span < MINUTE
    }

    /// What is taken at `now`.
    pub(super) fn standing(&self, now: Moment) -> u64 {
        match &self.book {
            Book::Window(_, ledger) => ledger.total(now),
            Book::Bucket(bucket) => bucket.level(self.ceiling.limit(now).unwrap_or(u64::MAX), now),
        }
    }

    /// The first moment, `now` or later, at which `needed` more fits. What is more than all of it
    /// fits when nothing is taken.
    pub(super) fn room_from(&self, needed: u64, penalty: &Penalty, now: Moment) -> Moment {
        let mut rises: Vec<Moment> = Vec::new();
        let mut from = now;
        let mut next = 0;
        loop {
            // A 429 says nothing of a day's limit that its headers don't.
            let share = if self.name.is_daily() { 1000 } else { penalty.share(from) };
            let Some(highest) = self.ceiling.at(from, share) else { return from };
            let room_at = self.falls_to_make_room(needed, highest, share, from);
            if room_at == Some(from) {
                return from;
            }
            if next == 0 {
                rises = self.ceiling.rises().chain(penalty.rises(now)).collect();
                rises.retain(|rise| *rise > now);
                rises.sort_unstable();
            }
            let next_rise = rises.get(next).copied();
            next += 1;
            match (room_at, next_rise) {
                (Some(room_at), Some(rise)) if room_at < rise => return room_at,
                (_, Some(rise)) => from = rise,
                // The ceiling is whole again: only a call over the user's own limit has no room.
                (room_at, None) => return room_at.unwrap_or(from),
            }
        }
    }

    fn falls_to_make_room(
        &self,
        needed: u64,
        highest: u64,
        share: u64,
        from: Moment,
    ) -> Option<Moment> {
        match &self.book {
            Book::Window(_, ledger) => Some(ledger.falls_to(highest.checked_sub(needed)?, from)),
            Book::Bucket(bucket) => {
                let rate = self.ceiling.lowered(from, share)?;
                // Calls may arrive closer together than they were sent, by so much of the bucket.
                let together =
                    rate.saturating_mul(COLD_TRANSIT.as_secs()).div_ceil(MINUTE.as_secs());
                let highest = highest.saturating_sub(together);
                let most = match self.own() {
                    Some(own) => highest.saturating_sub(needed.min(own.saturating_sub(together))),
                    None => highest.saturating_sub(needed),
                };
                Some(bucket.falls_to(most, rate, from))
            }
        }
    }

    /// The share of the time that `amount` takes, for the even pace; none of a day's, which may be
    /// used up as fast as the minute allows.
    pub(super) fn interval(&self, amount: u64, share: u64, now: Moment) -> Duration {
        let Some(limit) = self.ceiling.pace(now, share).filter(|_| !self.name.is_daily()) else {
            return Duration::ZERO;
        };
        let nanos = self.span.as_nanos() * u128::from(amount) / u128::from(limit);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(MINUTE)
    }

    /// Writes down what a call of `amount` takes that is sent at `now`.
    pub(super) fn add(&mut self, amount: u64, transit: Duration, now: Moment) {
        let limit = self.ceiling.limit(now);
        match &mut self.book {
            Book::Window(window, ledger) => {
                ledger.prune(now);
                ledger.add(window.leaves(now, transit), amount);
            }
            Book::Bucket(bucket) => {
                bucket.prune(limit.unwrap_or(u64::MAX), now);
                bucket.add(now, amount);
            }
        }
    }

    /// Enters what calls of earlier runs took, `age` ago.
    pub(super) fn restore(&mut self, amount: u64, age: Duration, now: Moment) {
        match &mut self.book {
            Book::Window(window, ledger) => {
                if let Some(leaves) = window.leaves_after(age, COLD_TRANSIT, now) {
                    ledger.add(leaves, amount);
                }
            }
            Book::Bucket(bucket) => bucket.restore(age, now, amount),
        }
    }

    /// A call that was sent at `sent` was answered and counts `settled` instead of `reserved`.
    pub(super) fn settle(
        &mut self,
        reserved: u64,
        settled: u64,
        (sent, transit): (Moment, Duration),
        now: Moment,
    ) {
        match &mut self.book {
            Book::Window(window, ledger) => {
                ledger.prune(now);
                let leaves = window.leaves(sent, transit);
                let at_latest = window.leaves_after_reply(now).unwrap_or(leaves);
                ledger.settle(leaves, reserved, settled, at_latest);
            }
            Book::Bucket(bucket) => bucket.settle(sent, reserved, settled),
        }
    }

    /// Reads what a reply's headers say of this limit. Its call was sent at `sent` and counted
    /// `amount`, and with it `standing` was taken.
    pub(super) fn observe(
        &mut self,
        reading: Reading,
        amount: u64,
        (sent, standing): (Moment, u64),
        now: Moment,
    ) {
        if let Some(limit) = reading.limit {
            // A limit below a call that it let through is none.
            self.ceiling.observe_limit(limit.max(amount).max(1), sent, now);
        }
        if let Some(left) = reading.remaining {
            // Servers read their ledger when they let a call in. Our own later calls are no part of it,
            // and while a run begins there are many of them.
            self.ceiling.observe_left(standing, left, reading.reset, sent, now);
        }
    }
}
