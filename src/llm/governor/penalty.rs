//! What 429s take off every limit, and how it comes back.
//!
//! The curve is that of CUBIC congestion control (RFC 9438): after a 429 the limit falls a little
//! below where it was, soon comes near that again, stays about there for a while, and then goes on
//! ever faster until all of it is back, a minute after the 429. So whoever shares the limit with
//! us is met again rarely, and once they are gone the limit is ours within that minute.

use std::time::Duration;

use crate::domain::Moment;

/// What one 429 takes off, in thousandths of the limit.
const DROP: u64 = 50;
/// The lowest share of the limit that 429s leave, in thousandths, before that.
const LOWEST_SHARE: u64 = 250;
/// How long the limit takes to be whole again after the last 429.
const RECOVERY: Duration = Duration::from_secs(60);
/// In how many equal steps of time.
const STEPS: u32 = 30;
/// After what share of the recovery the limit is back where the 429 came.
const PLATEAU: f64 = 0.65;

/// What is left of the limit.
#[derive(Debug, Default)]
pub(super) struct Penalty {
    /// The share at which a 429 came, in thousandths, and when.
    last: Option<(u64, Moment)>,
}

impl Penalty {
    /// A 429 came while `standing` thousandths of the fullest limit were in use.
    pub(super) fn deepen(&mut self, standing: u64, now: Moment) {
        let share = self.share(now).min(standing).max(LOWEST_SHARE);
        self.last = Some((share, now));
    }

    /// What is left of the limit at `now`, in thousandths.
    pub(super) fn share(&self, now: Moment) -> u64 {
        let Some((met_at, since)) = self.last else { return 1000 };
        let step = (RECOVERY / STEPS).as_nanos();
        let steps = u32::try_from(now.since(since).as_nanos() / step).unwrap_or(STEPS);
        if steps >= STEPS {
            return 1000;
        }
        let passed = f64::from(steps) / f64::from(STEPS);
        let met_at = met_at as f64;
        let share = if passed < PLATEAU {
            met_at - DROP as f64 * ((PLATEAU - passed) / PLATEAU).powi(3)
        } else {
            met_at + (1000.0 - met_at) * ((passed - PLATEAU) / (1.0 - PLATEAU)).powi(3)
        };
        share as u64
    }

    /// The moments after `now` at which the share rises.
    pub(super) fn rises(&self, now: Moment) -> impl Iterator<Item = Moment> {
        let since = self.last.map(|(_, since)| since).filter(|since| now < *since + RECOVERY);
        let moments = since
            .into_iter()
            .flat_map(|since| (1..=STEPS).map(move |step| since + RECOVERY / STEPS * step));
        moments.filter(move |moment| *moment > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn it_falls_a_little_and_is_whole_again_after_a_minute_without_ever_falling_by_itself() {
        for standing in [1000, 700, 300] {
            let mut penalty = Penalty::default();
            assert_eq!(penalty.share(at(0)), 1000);
            penalty.deepen(standing, at(100));
            assert_eq!(penalty.share(at(100)), standing - DROP);
            let shares: Vec<u64> = (100..=160).map(|second| penalty.share(at(second))).collect();
            assert!(shares.is_sorted(), "{shares:?}");
            assert!(shares[42] >= standing - 1 && shares[42] <= standing + 30, "{shares:?}");
            assert_eq!(*shares.last().unwrap(), 1000);
        }
    }

    #[test]
    fn every_rise_is_announced() {
        let mut penalty = Penalty::default();
        penalty.deepen(600, at(0));
        let rises: Vec<Moment> = penalty.rises(at(0)).collect();
        for tenth in 1..=700_u64 {
            let (before, after) =
                (Duration::from_millis(tenth * 100 - 100), Duration::from_millis(tenth * 100));
            if penalty.share(Moment(before)) < penalty.share(Moment(after)) {
                assert!(rises.contains(&Moment(after)), "{after:?}");
            }
        }
        assert_eq!(penalty.rises(at(60)).count(), 0);
    }

    #[test]
    fn many_429s_leave_a_quarter_of_the_limit() {
        let mut penalty = Penalty::default();
        (0..100).for_each(|second| penalty.deepen(1000, at(second)));
        assert_eq!(penalty.share(at(99)), LOWEST_SHARE - DROP);
    }
}
