//! All limits of an account, asked as one.

use std::time::Duration;

use super::MINUTE;
use super::call::{Reservation, UsedUp};
use super::meter::{LimitName, Meter};
use super::penalty::Penalty;
use super::window::{Calendar, Window};
use crate::domain::limits::{Limits, MinuteWindow};
use crate::domain::{Charge, ChargeSum, Moment, Tokens, UnixMillis};
use crate::llm::provider::RateHeaders;

/// The limits: one meter for each name, then those of slices.
#[derive(Debug)]
pub(super) struct Meters(Vec<Meter>);

impl Meters {
    /// Empty meters at `now`, where the time of day is `wall`.
    pub(super) fn new(limits: Limits, now: Moment, wall: UnixMillis) -> Meters {
        let rules = limits.rules;
        let day = Window::day(rules.day_window, Calendar::new(now, wall));
        let mut meters: Vec<Meter> = LimitName::ALL
            .into_iter()
            .map(|name| {
                let own = own(&limits, name);
                if name.is_daily() {
                    Meter::day(name, own, day)
                } else if rules.minute_window == MinuteWindow::Bucket {
                    Meter::bucket(name, own, now)
                } else {
                    Meter::rolling(name, own, MINUTE)
                }
            })
            .collect();
        meters.extend(LimitName::ALL.into_iter().filter_map(|name| {
            let slice =
                if name.counts_requests() { rules.request_slice } else { rules.token_slice };
            slice_of(name, own(&limits, name)?, slice?)
        }));
        Meters(meters)
    }

    /// Whether the user gave a limit a minute, so that the ledgers pace the calls.
    pub(super) fn are_minutes_limited(&self) -> bool {
        self.0.iter().any(|meter| !meter.name().is_daily() && meter.own().is_some())
    }

    /// The limit that a call of `charge` is over all by itself.
    pub(super) fn never_hold(&self, charge: Charge) -> Option<(LimitName, u64)> {
        let charge = ChargeSum::from(charge);
        self.0.iter().find_map(|meter| {
            let own = meter.own().filter(|own| meter.name().amount(charge) > *own)?;
            Some((meter.name(), own))
        })
    }

    /// The first moment, `now` or later, at which `needed` fits everywhere, and the limit that
    /// decides.
    pub(super) fn room_from(
        &self,
        needed: ChargeSum,
        penalty: &Penalty,
        now: Moment,
    ) -> (Moment, LimitName) {
        let rooms =
            self.0.iter().map(|meter| (room_from(meter, needed, penalty, now), meter.name()));
        rooms.max_by_key(|(room, _)| *room).unwrap_or((now, LimitName::TokensPerMinute))
    }

    /// Whether `needed` waits at `now` for nothing but room in a slice.
    pub(super) fn only_slices_are_full(
        &self,
        needed: ChargeSum,
        penalty: &Penalty,
        now: Moment,
    ) -> bool {
        let mut full = self.0.iter().filter(|meter| room_from(meter, needed, penalty, now) > now);
        let first = full.next().map(Meter::is_slice);
        first == Some(true) && full.all(Meter::is_slice)
    }

    /// The day's limit that `needed` does not fit into at `now`.
    pub(super) fn used_up(
        &self,
        needed: ChargeSum,
        penalty: &Penalty,
        now: Moment,
    ) -> Option<UsedUp> {
        let days = self.0.iter().filter(|meter| meter.name().is_daily());
        let used_up = days.filter_map(|meter| {
            let until = room_from(meter, needed, penalty, now);
            let limit = meter.limit(now).unwrap_or_default();
            (until > now).then_some(UsedUp { name: meter.name(), limit, until })
        });
        used_up.max_by_key(|it| it.until)
    }

    /// Writes a call down that is sent at `now`.
    pub(super) fn add(&mut self, charge: ChargeSum, transit: Duration, now: Moment) {
        for meter in &mut self.0 {
            meter.add(meter.name().amount(charge), transit, now);
        }
    }

    /// Enters calls of an earlier run.
    pub(super) fn restore(&mut self, charge: ChargeSum, age: Duration, now: Moment) {
        for meter in &mut self.0 {
            meter.restore(meter.name().amount(charge), age, now);
        }
    }

    /// A call counts `charged` instead of its reservation.
    pub(super) fn settle(&mut self, call: &Reservation, charged: ChargeSum, now: Moment) {
        let reserved = ChargeSum::from(call.charge);
        for meter in &mut self.0 {
            let amount = |charge| meter.name().amount(charge);
            let (reserved, charged) = (amount(reserved), amount(charged));
            meter.settle(reserved, charged, (call.sent, call.transit), now);
        }
    }

    /// What stands under each name.
    pub(super) fn standing(&self, now: Moment) -> [u64; LimitName::ALL.len()] {
        let mut standing = [0; LimitName::ALL.len()];
        for (standing, meter) in standing.iter_mut().zip(&self.0) {
            *standing = meter.standing(now);
        }
        standing
    }

    /// How full the fullest limit a minute was when `call` had just been sent, in thousandths.
    pub(super) fn fullest(&self, call: &Reservation, now: Moment) -> u64 {
        let meters = self.0.iter().zip(call.standing).filter(|(meter, _)| !meter.name().is_daily());
        let shares = meters.filter_map(|(meter, standing)| {
            let limit = meter.limit(now)?;
            Some(standing.saturating_mul(1000) / limit.max(1))
        });
        shares.max().unwrap_or(1000)
    }

    /// Reads the headers of the reply to `call`.
    pub(super) fn observe(
        &mut self,
        call: &Reservation,
        headers: &RateHeaders,
        request_headers_are_daily: bool,
        now: Moment,
    ) {
        let charge = ChargeSum::from(call.charge);
        for (meter, standing) in self.0.iter_mut().zip(call.standing) {
            let reading = match meter.name() {
                LimitName::TokensPerMinute => headers.tokens,
                LimitName::InputTokensPerMinute => headers.input,
                LimitName::OutputTokensPerMinute => headers.output,
                LimitName::TokensPerDay => headers.tokens_day,
                LimitName::RequestsPerMinute if request_headers_are_daily => continue,
                LimitName::RequestsPerMinute => headers.requests,
                LimitName::RequestsPerDay if request_headers_are_daily => headers.requests,
                LimitName::RequestsPerDay => headers.requests_day,
            };
            let amount = meter.name().amount(charge);
            meter.observe(reading, amount, (call.sent, standing), now);
        }
    }

    /// The most tokens that one call should take, and what says so.
    pub(super) fn largest_call(&self) -> Option<(Tokens, &'static str)> {
        let of_tokens = self.0.iter().filter_map(|meter| {
            let why = match (meter.name(), meter.is_slice()) {
                (LimitName::TokensPerMinute, false) => "half of limits.tokens_per_minute",
                (LimitName::TokensPerMinute, true) => "a slice of limits.tokens_per_minute",
                (LimitName::InputTokensPerMinute, false) => {
                    "half of limits.input_tokens_per_minute"
                }
                (LimitName::InputTokensPerMinute, true) => {
                    "a slice of limits.input_tokens_per_minute"
                }
                (LimitName::TokensPerDay, _) => "half of limits.tokens_per_day",
                (LimitName::OutputTokensPerMinute, _)
                | (LimitName::RequestsPerMinute | LimitName::RequestsPerDay, _) => return None,
            };
            let largest = u32::try_from(meter.largest_call()?).unwrap_or(u32::MAX);
            Some((Tokens(largest), why))
        });
        of_tokens.min_by_key(|(tokens, _)| *tokens)
    }

    /// The share of the minute that a call takes.
    pub(super) fn interval(&self, charge: ChargeSum, share: u64, now: Moment) -> Duration {
        let intervals =
            self.0.iter().map(|meter| meter.interval(meter.name().amount(charge), share, now));
        intervals.max().unwrap_or_default()
    }

    /// The limit on tokens a minute that is in force.
    pub(super) fn tokens_limit(&self, now: Moment) -> Option<u64> {
        let tokens = self.0.iter().find(|meter| meter.name() == LimitName::TokensPerMinute);
        tokens.and_then(|meter| meter.limit(now))
    }
}

fn room_from(meter: &Meter, needed: ChargeSum, penalty: &Penalty, now: Moment) -> Moment {
    let needed = meter.name().amount(needed);
    meter.room_from(needed.min(meter.own().unwrap_or(u64::MAX)), penalty, now)
}

fn own(limits: &Limits, name: LimitName) -> Option<u64> {
    match name {
        LimitName::TokensPerMinute => limits.tokens_per_minute.map(|it| it.get().into()),
        LimitName::RequestsPerMinute => limits.requests_per_minute.map(|it| it.get().into()),
        LimitName::InputTokensPerMinute => limits.input_tokens_per_minute.map(|it| it.get().into()),
        LimitName::OutputTokensPerMinute => {
            limits.output_tokens_per_minute.map(|it| it.get().into())
        }
        LimitName::RequestsPerDay => limits.requests_per_day.map(Into::into),
        LimitName::TokensPerDay => limits.tokens_per_day.map(Into::into),
    }
}

/// The slice of a minute's limit: its part of it, or one in the time that one takes.
fn slice_of(name: LimitName, limit: u64, slice: Duration) -> Option<Meter> {
    if name.is_daily() || slice.is_zero() || slice >= MINUTE {
        return None;
    }
    let part = u128::from(limit) * slice.as_nanos() / MINUTE.as_nanos();
    match u64::try_from(part).unwrap_or(u64::MAX) {
        0 => {
            let slice = MINUTE / u32::try_from(limit.max(1)).unwrap_or(u32::MAX);
            (slice < MINUTE).then(|| Meter::rolling(name, Some(1), slice))
        }
        part => Some(Meter::rolling(name, Some(part), slice)),
    }
}
