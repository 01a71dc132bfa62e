//! Keeps a panic inside a file's decoder from reaching the user: damaged Parquet can raise one.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

static QUIET_HOOK: Once = Once::new();

/// Runs `work`; `None` if it panicked. Nothing is printed for such a panic. The state that `work`
/// changed must not be used after a `None`.
pub fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    QUIET_HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                earlier(info);
            }
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work)).ok();
    IS_GUARDED.set(was_guarded);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value_and_the_next_call_works() {
        assert_eq!(without_panic(|| -> u8 { panic!("damaged") }), None);
        assert_eq!(without_panic(|| 7), Some(7));
        assert!(!IS_GUARDED.get());
    }
}
