//! The waits of a claim that meets another: random, so that two don't meet again and again.

use std::time::Duration;

/// Lets time pass.
pub(in crate::output) trait Pauses {
    /// Waits for a random time between `least` and `most`.
    fn pause(&mut self, least: Duration, most: Duration);
}

/// Sleeps, on the thread that wants to claim.
pub(in crate::output) struct Sleep;

impl Pauses for Sleep {
    #[expect(
        clippy::disallowed_methods,
        reason = "a run that can't begin yet has nothing else to do"
    )]
    fn pause(&mut self, least: Duration, most: Duration) {
        // Without randomness two would meet again, and one of them gives up in the end.
        let chance = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        std::thread::sleep(least + most.saturating_sub(least).mul_f64(chance));
    }
}
