//! Says every two minutes that this run lives, from its first moment to its last.
//!
//! On a thread of its own, so that neither a wait for quota nor a slow disk makes the run look dead
//! to others. Storage that fails now and then is asked again soon; it matters once the claim has
//! lapsed, and then nothing is paid for until the claim is proved anew.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::domain::{Clock, Moment};
use crate::output::{Claim, ClaimError, RENEW_EVERY, RETRY_RENEWAL_AFTER, Standing};

/// How long the end of a run waits for a renewal that hangs in the storage.
const PATIENCE: Duration = Duration::from_secs(2);

/// The running thread; ends when dropped.
pub(super) struct Heartbeat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    claim: Arc<Claim>,
    clock: Arc<dyn Clock>,
    give_up_after: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the claim is to be renewed at once.
    is_wanted: bool,
    is_closing: bool,
    has_ended: bool,
    failing: Option<Failing>,
}

/// Since when renewing fails, and with what.
struct Failing {
    since: Moment,
    cause: String,
}

impl Heartbeat {
    /// Starts the thread. A claim that has lapsed and can't be renewed for `give_up_after` counts
    /// as lost.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(
        claim: Arc<Claim>,
        clock: Arc<dyn Clock>,
        give_up_after: Duration,
    ) -> io::Result<Heartbeat> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { claim, clock, give_up_after, state, changed });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("heartbeat".to_owned());
        let thread = thread.spawn(move || worker.work())?;
        Ok(Heartbeat { shared, thread: Some(thread) })
    }

    /// How the claim stands; asks no storage. One that has lapsed is being proved anew from now on.
    pub(super) fn standing(&self) -> Standing {
        let standing = self.shared.claim.standing(self.shared.clock.wall());
        if !matches!(standing, Standing::Lapsed) {
            return standing;
        }
        let mut state = self.shared.state();
        let Some(failing) = &state.failing else {
            state.is_wanted = true;
            self.shared.changed.notify_all();
            return standing;
        };
        let failing_for = self.shared.clock.now().since(failing.since);
        if failing_for < self.shared.give_up_after {
            return standing;
        }
        Standing::Lost(ClaimError::Unproven {
            folder: self.shared.claim.folder().to_owned(),
            minutes: failing_for.as_secs() / 60,
            cause: failing.cause.clone(),
        })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_closing = true;
        self.shared.changed.notify_all();
        let runs = |state: &mut State| !state.has_ended;
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, runs);
        let has_ended = waited.unwrap_or_else(PoisonError::into_inner).0.has_ended;
        // One that hangs in the storage keeps the claim, which dies with the process.
        if let Some(thread) = self.thread.take().filter(|_| has_ended) {
            // Its panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut wait = RENEW_EVERY;
        loop {
            let idle = |state: &mut State| !state.is_wanted && !state.is_closing;
            let waited = self.changed.wait_timeout_while(self.state(), wait, idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_closing {
                state.has_ended = true;
                self.changed.notify_all();
                return;
            }
            drop(state);
            wait = self.renew();
        }
    }

    /// Renews the claim; says how long to wait for the next time.
    fn renew(&self) -> Duration {
        let renewed = self.claim.renew(self.clock.wall());
        let mut state = self.state();
        state.is_wanted = false;
        match renewed {
            Ok(()) => {
                state.failing = None;
                RENEW_EVERY
            }
            Err(error) => {
                let cause = super::error::with_sources(&error);
                let since = state.failing.take().map(|failing| failing.since);
                let since = since.unwrap_or_else(|| self.clock.now());
                state.failing = Some(Failing { since, cause });
                RETRY_RENEWAL_AFTER
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::UnixMillis;
    use crate::output::store::{Fault, FaultyStore, MemoryStore, Then};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Both clocks, moved by hand.
    #[derive(Default)]
    struct Hands(AtomicU64);

    impl Hands {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Moment {
            Moment(Duration::from_millis(self.wall().0))
        }

        fn wall(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::SeqCst))
        }
    }

    fn shared(claim: Claim, clock: &Arc<Hands>) -> Shared {
        Shared {
            claim: Arc::new(claim),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            give_up_after: 30 * MINUTE,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    #[test]
    fn a_renewal_that_fails_is_tried_soon_and_matters_once_the_claim_has_lapsed() {
        let clock = Arc::new(Hands::default());
        // Two calls claim; a renewal fails at its second, after which nothing works.
        let store =
            FaultyStore::new(Arc::new(MemoryStore::default()), 4, Fault::Passing, Then::StaysDown);
        let claim = Claim::in_store(Arc::new(store), "r1", clock.wall());
        let shared = Arc::new(shared(claim, &clock));
        let heartbeat = Heartbeat { shared: Arc::clone(&shared), thread: None };
        clock.advance(2 * MINUTE);
        assert_eq!(shared.renew(), RETRY_RENEWAL_AFTER);
        assert!(matches!(heartbeat.standing(), Standing::Held));
        clock.advance(7 * MINUTE);
        assert_eq!(shared.renew(), RETRY_RENEWAL_AFTER);
        assert!(matches!(heartbeat.standing(), Standing::Lapsed));
        // Storage that fails is not pestered by everybody who asks.
        assert!(!shared.state().is_wanted);
        clock.advance(22 * MINUTE);
        assert!(matches!(heartbeat.standing(), Standing::Lapsed));
        clock.advance(MINUTE);
        let Standing::Lost(error) = heartbeat.standing() else { panic!("not lost") };
        let said = error.to_string();
        assert!(said.contains("for 30 minutes") && said.contains("(using _batchclass"), "{said}");
        // No thread ends here, and so nobody is to wait for it.
        shared.state().has_ended = true;
    }

    #[test]
    fn a_renewal_that_succeeds_comes_again_in_two_minutes() {
        let clock = Arc::new(Hands::default());
        let claim = Claim::in_store(Arc::new(MemoryStore::default()), "r1", clock.wall());
        let shared = shared(claim, &clock);
        clock.advance(9 * MINUTE);
        assert_eq!(shared.renew(), RENEW_EVERY);
        assert!(matches!(shared.claim.standing(clock.wall()), Standing::Held));
    }

    #[test]
    fn a_claim_that_lapsed_is_proved_by_the_thread_as_soon_as_somebody_asks() {
        let clock = Arc::new(Hands::default());
        let store = Arc::new(MemoryStore::default());
        let claim = Claim::in_store(Arc::clone(&store) as _, "r1", clock.wall());
        let times = Arc::clone(&clock) as Arc<dyn Clock>;
        let heartbeat = Heartbeat::start(Arc::new(claim), times, 30 * MINUTE).unwrap();
        clock.advance(60 * MINUTE);
        assert!(matches!(heartbeat.standing(), Standing::Lapsed));
        while !matches!(heartbeat.standing(), Standing::Held) {
            std::thread::yield_now();
        }
        // Another takes it for dead while it sleeps: the thread finds out.
        clock.advance(60 * MINUTE);
        store.set_time(clock.wall());
        let other = Claim::in_store(store, "r2", clock.wall());
        while !matches!(heartbeat.standing(), Standing::Lost(_)) {
            std::thread::yield_now();
        }
        drop(heartbeat);
        assert!(matches!(other.standing(clock.wall()), Standing::Held));
    }
}
