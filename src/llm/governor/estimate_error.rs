//! Learns by how much calls cost more than was reserved for them, so that room is kept for what the
//! calls in flight may still turn out to cost.
//!
//! Errors of many calls cancel out in part: the room grows with the square root of their number,
//! beside what estimates miss on average. Estimates that are never too low cost nothing.

use crate::domain::{Charge, ChargeSum, Tokens};

/// Of about how many calls the memory is.
const CALLS_REMEMBERED: f64 = 128.0;
/// In about how many calls the worst miss is forgotten.
const WORST_REMEMBERED: f64 = 2048.0;
/// How many standard deviations are kept free.
const DEVIATIONS: f64 = 4.0;

/// What estimates missed of late, as shares of what was reserved.
#[derive(Debug, Default)]
pub(super) struct EstimateError {
    mean: f64,
    /// Calls learned from, up to [`CALLS_REMEMBERED`].
    calls: f64,
    /// Mean square of what lay above the mean: cheaper calls than expected do no harm.
    square_above: f64,
    /// The worst miss, forgotten slowly.
    worst: f64,
}

impl EstimateError {
    /// A call for which `reserved` tokens stood in the ledger cost `charged`.
    pub(super) fn learn(&mut self, reserved: u32, charged: u32) {
        if reserved == 0 {
            return;
        }
        let error = f64::from(charged) / f64::from(reserved) - 1.0;
        self.calls = (self.calls + 1.0).min(CALLS_REMEMBERED);
        self.mean += (error - self.mean) / self.calls;
        let above = (error - self.mean).max(0.0);
        self.square_above += (above * above - self.square_above) / self.calls;
        self.worst = error.max(self.worst * (1.0 - 1.0 / WORST_REMEMBERED));
    }

    /// Tokens to keep free for `calls` in flight that hold `reserved` tokens together.
    pub(super) fn room_for(&self, calls: usize, reserved: u64) -> u64 {
        let deviation = (2.0 * self.square_above).sqrt();
        let share = self.mean + DEVIATIONS * deviation / (calls as f64).sqrt();
        // A float cast saturates, and makes zero of no calls.
        (share.min(self.worst) * reserved as f64) as u64
    }
}

/// What estimates missed of late, for each kind of token, and what the calls in flight reserved.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    tokens: EstimateError,
    input: EstimateError,
    output: EstimateError,
    reserved: ChargeSum,
}

impl Estimates {
    /// What has to be free for a call of `charge` as one of `calls` in flight.
    pub(super) fn with_margin(&self, charge: Charge, calls: usize) -> ChargeSum {
        let needed = ChargeSum::from(charge);
        let with_margin = |error: &EstimateError, needed: u64, reserved: u64| {
            needed + error.room_for(calls, reserved + needed)
        };
        ChargeSum {
            calls: needed.calls,
            tokens: with_margin(&self.tokens, needed.tokens, self.reserved.tokens),
            input: with_margin(&self.input, needed.input, self.reserved.input),
            output: with_margin(&self.output, needed.output, self.reserved.output),
        }
    }

    /// A call is in flight.
    pub(super) fn reserve(&mut self, charge: Charge) {
        self.reserved += charge.into();
    }

    /// A call is in flight no more.
    pub(super) fn end(&mut self, charge: Charge) {
        let ended = ChargeSum::from(charge);
        self.reserved.tokens -= ended.tokens;
        self.reserved.input -= ended.input;
        self.reserved.output -= ended.output;
    }

    /// A call that had reserved `reserved` counts `charged`.
    pub(super) fn learn(&mut self, reserved: Charge, charged: Charge) {
        let learn = |error: &mut EstimateError, reserved: Tokens, charged: Tokens| {
            error.learn(reserved.0, charged.0);
        };
        learn(&mut self.tokens, reserved.tokens, charged.tokens);
        learn(&mut self.input, reserved.input, charged.input);
        learn(&mut self.output, reserved.output, charged.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(charges: &[u32]) -> EstimateError {
        let mut error = EstimateError::default();
        charges.iter().cycle().take(1_000).for_each(|charged| error.learn(1_000, *charged));
        error
    }

    #[test]
    fn estimates_that_are_never_too_low_keep_nothing_free() {
        for charges in [&[1_000][..], &[700, 1_000, 900], &[970, 985, 1_000]] {
            assert_eq!(learned(charges).room_for(80, 100_000), 0);
        }
        assert_eq!(EstimateError::default().room_for(80, 100_000), 0);
    }

    #[test]
    fn a_steady_miss_is_kept_free_in_full() {
        let error = learned(&[1_100]);
        assert!((9_990..=10_010).contains(&error.room_for(80, 100_000)));
        assert_eq!(error.room_for(0, 0), 0);
    }

    #[test]
    fn misses_both_ways_cancel_out_over_many_calls() {
        let error = learned(&[970, 985, 1_000, 1_015, 1_030]);
        let (one, many) = (error.room_for(1, 100_000), error.room_for(81, 100_000));
        assert!((2_800..=3_100).contains(&one), "no more than the worst miss: {one}");
        assert!((500..=1_100).contains(&many), "{many}");
    }
}
