//! Time as a value: a monotonic [`Moment`] to decide with, a [`UnixMillis`] to write down.
//!
//! Pure code takes both as arguments. Only [`SystemClock`] asks the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;

/// Time since an arbitrary origin that never moves backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(wait))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, as the machine's wall clock gives them.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// Where the edge takes the time from.
pub trait Clock: Send + Sync {
    /// Monotonic time.
    fn now(&self) -> Moment;
    /// Wall-clock time.
    fn wall(&self) -> UnixMillis;

    /// Waits, within the runtime that polls it. A clock that a test drives may make it shorter.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move { tokio::time::sleep(wait).await })
    }
}

/// The machine's own clocks.
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose [`Moment`]s count from now.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn start() -> Self {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
