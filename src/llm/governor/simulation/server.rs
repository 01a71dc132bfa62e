//! A provider that enforces its limits exactly, of whatever kind they are, at its own clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::ChargeSum;
use crate::llm::governor::meter::LimitName;
use crate::llm::provider::{RateHeaders, Reading};

/// Over which time a limit adds up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any so long a time.
    Rolling(Duration),
    /// A counter that begins anew after so long, first at the second time.
    Fixed(Duration, Duration),
    /// A bucket that drains in so long a time.
    Bucket(Duration),
}

/// One limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enforced {
    pub(super) name: LimitName,
    pub(super) limit: u64,
    pub(super) kind: Kind,
}

/// A limit and what is taken of it.
struct Gauge {
    enforced: Enforced,
    /// Arrivals in the window, rolling or fixed.
    window: VecDeque<(Duration, u64)>,
    taken: u64,
    /// Of a bucket, and when it was right.
    level: (f64, Duration),
}

impl Gauge {
    fn move_to(&mut self, at: Duration) {
        let Enforced { limit, kind, .. } = self.enforced;
        let has_left = |arrived: Duration| match kind {
            Kind::Rolling(span) => arrived + span <= at,
            Kind::Fixed(span, first) => {
                let period = |time: Duration| (time + span - first).as_nanos() / span.as_nanos();
                period(arrived) < period(at)
            }
            Kind::Bucket(_) => true,
        };
        while let Some(&(arrived, amount)) = self.window.front()
            && has_left(arrived)
        {
            self.taken -= amount;
            self.window.pop_front();
        }
        if let Kind::Bucket(span) = kind {
            let drained = limit as f64 * (at - self.level.1).as_secs_f64() / span.as_secs_f64();
            self.level = ((self.level.0 - drained).max(0.0), at);
        }
    }

    fn charge(&mut self, at: Duration, amount: u64) {
        match self.enforced.kind {
            Kind::Bucket(_) => self.level.0 += amount as f64,
            Kind::Rolling(_) | Kind::Fixed(..) => {
                self.window.push_back((at, amount));
                self.taken += amount;
            }
        }
    }

    fn taken(&self) -> u64 {
        // A millionth of a token is nobody's fault.
        self.taken + (self.level.0 - 1e-6).max(0.0).ceil() as u64
    }
}

/// The provider.
pub(super) struct Server {
    gauges: Vec<Gauge>,
    pub(super) turned_away: u64,
    /// What was let in and turned away after the first minute, of ours.
    pub(super) charged: ChargeSum,
    pub(super) arrivals: Vec<Duration>,
    /// Tokens of ours in each minute.
    pub(super) tokens_by_minute: Vec<u64>,
}

impl Server {
    pub(super) fn new(limits: &[Enforced]) -> Server {
        let gauge = |enforced: &Enforced| Gauge {
            enforced: *enforced,
            window: VecDeque::new(),
            taken: 0,
            level: (0.0, Duration::ZERO),
        };
        Server {
            gauges: limits.iter().map(gauge).collect(),
            turned_away: 0,
            charged: ChargeSum::default(),
            arrivals: Vec::new(),
            tokens_by_minute: Vec::new(),
        }
    }

    /// Changes every limit to `share` of what it was.
    pub(super) fn scale(&mut self, share: f64) {
        for gauge in &mut self.gauges {
            gauge.enforced.limit = (gauge.enforced.limit as f64 * share).round() as u64;
        }
    }

    /// Whether a call of ours is let in. One that is turned away counts all the same.
    pub(super) fn arrive(&mut self, at: Duration, charge: ChargeSum) -> bool {
        let is_let_in = self.charge(at, charge);
        self.turned_away += u64::from(!is_let_in);
        if at >= Duration::from_secs(60) {
            self.charged += charge;
        }
        self.arrivals.push(at);
        let minute = (at.as_secs() / 60) as usize;
        self.tokens_by_minute.resize(self.tokens_by_minute.len().max(minute + 1), 0);
        self.tokens_by_minute[minute] += charge.tokens;
        is_let_in
    }

    /// Charges a call, ours or another client's, and says whether it fits.
    pub(super) fn charge(&mut self, at: Duration, charge: ChargeSum) -> bool {
        let mut is_let_in = true;
        for gauge in &mut self.gauges {
            gauge.move_to(at);
            gauge.charge(at, gauge.enforced.name.amount(charge));
            is_let_in &= gauge.taken() <= gauge.enforced.limit;
        }
        is_let_in
    }

    /// The headers of a reply whose call has just arrived.
    pub(super) fn headers(&self) -> RateHeaders {
        let mut headers = RateHeaders::default();
        for gauge in &self.gauges {
            let reading = match gauge.enforced.name {
                LimitName::TokensPerMinute => &mut headers.tokens,
                LimitName::RequestsPerMinute => &mut headers.requests,
                _ => continue,
            };
            let left = gauge.enforced.limit.saturating_sub(gauge.taken());
            *reading = Reading {
                limit: Some(gauge.enforced.limit),
                remaining: Some(left),
                reset: Some(Duration::from_secs(60)),
            };
        }
        headers
    }

    /// When a call that has just been turned away would fit, from the moment of its arrival.
    pub(super) fn retry_after(&self, at: Duration) -> Duration {
        let waits = self.gauges.iter().map(|gauge| {
            let Enforced { limit, kind, .. } = gauge.enforced;
            let mut over = gauge.taken().saturating_sub(limit);
            let leaving = gauge.window.iter().find(|(_, amount)| {
                over = over.saturating_sub(*amount);
                over == 0
            });
            match (kind, leaving) {
                (Kind::Rolling(span), Some((arrived, _))) => (*arrived + span).saturating_sub(at),
                _ => Duration::ZERO,
            }
        });
        waits.max().unwrap_or_default()
    }

    /// The most calls that arrived within a second.
    pub(super) fn most_in_a_second(&self) -> usize {
        let mut first = 0;
        let within = self.arrivals.iter().enumerate().map(|(last, at)| {
            while self.arrivals[first] + Duration::from_secs(1) <= *at {
                first += 1;
            }
            last + 1 - first
        });
        within.max().unwrap_or(0)
    }
}
