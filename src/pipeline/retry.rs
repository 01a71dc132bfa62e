//! Storage that fails for now is tried again: soon at first, then ever more rarely, and never in
//! step with others that met the same failure.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::RunError;
use crate::domain::Clock;
use crate::output::OutputError;

/// The first pause is half of this to all of it; each further one is drawn from twice as much.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what a run does before its first call and after its last one is tried.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long to wait after the next failure.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    chance: ChaCha8Rng,
}

impl Backoff {
    /// One that has seen no failure yet.
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, chance: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The pause after one more failure.
    pub(super) fn pause(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures += 1;
        let most = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.chance.random_range(most / 2..=most))
    }

    /// It succeeded: the next failure is a first one.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// An error that says whether the same call may succeed in a moment.
pub(super) trait Retryable {
    /// Whether it may, with nobody doing anything.
    fn is_retryable(&self) -> bool;
}

impl Retryable for OutputError {
    fn is_retryable(&self) -> bool {
        OutputError::is_retryable(self)
    }
}

impl Retryable for RunError {
    fn is_retryable(&self) -> bool {
        matches!(self, RunError::Output(error) if error.is_retryable())
    }
}

/// Does what touches the output, again while it fails for now, for 15 s from its first failure.
///
/// # Errors
/// The last failure; one that lasts at once.
pub(super) async fn persist<T, E: Retryable>(
    clock: &dyn Clock,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut failing_since = None;
    let mut backoff = Backoff::new(getrandom::u64().unwrap_or_default());
    loop {
        let error = match attempt() {
            Err(error) if error.is_retryable() => error,
            ended => return ended,
        };
        let pause = backoff.pause();
        let since = *failing_since.get_or_insert(clock.now());
        if clock.now().since(since) + pause > PATIENCE {
            return Err(error);
        }
        clock.sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Mutex;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::domain::{Moment, UnixMillis};
    use crate::output::store::StoreError;

    /// A clock on which waiting takes no time.
    #[derive(Default)]
    struct JumpingClock(Mutex<Duration>);

    impl Clock for JumpingClock {
        fn now(&self) -> Moment {
            Moment(*self.0.lock().unwrap())
        }

        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }

        fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
            *self.0.lock().unwrap() += wait;
            futures::future::ready(()).boxed()
        }
    }

    fn failure(kind: ErrorKind) -> OutputError {
        StoreError::from_io("reading", "out/x".into(), kind.into()).into()
    }

    #[test]
    fn pauses_double_to_their_cap_and_are_drawn_from_their_upper_half() {
        for seed in 0..20 {
            let mut backoff = Backoff::new(seed);
            for most in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
                let pause = backoff.pause().as_millis();
                assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
            }
            (0..100).for_each(|_| assert!(backoff.pause() <= LONGEST_PAUSE));
            backoff.succeeded();
            assert!(backoff.pause() <= FIRST_PAUSE);
        }
    }

    #[test]
    fn what_passes_is_tried_until_it_has_passed() {
        let clock = JumpingClock::default();
        let mut left = 3;
        let done = persist(&clock, || {
            left -= 1;
            if left > 0 { Err(failure(ErrorKind::TimedOut)) } else { Ok(7) }
        });
        assert_eq!(done.now_or_never().unwrap().unwrap(), 7);
    }

    #[test]
    fn what_does_not_pass_is_given_up_within_15_s_after_several_tries() {
        let clock = JumpingClock::default();
        let mut tries = 0;
        let ended = persist(&clock, || -> Result<(), _> {
            tries += 1;
            Err(failure(ErrorKind::TimedOut))
        });
        ended.now_or_never().unwrap().unwrap_err();
        assert!(clock.now() <= Moment(PATIENCE) && (4..=8).contains(&tries), "{tries} tries");
    }

    #[test]
    fn what_lasts_is_not_tried_again() {
        let clock = JumpingClock::default();
        let mut tries = 0;
        let ended = persist(&clock, || -> Result<(), _> {
            tries += 1;
            Err(failure(ErrorKind::StorageFull))
        });
        ended.now_or_never().unwrap().unwrap_err();
        assert_eq!((tries, clock.now()), (1, Moment::default()));
    }
}
