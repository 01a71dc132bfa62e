//! A way that holds so many bytes at a time: what is wider waits, alone, until the way is free.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A way for what takes memory.
#[derive(Clone, Debug)]
pub(super) struct ByteGate {
    shared: Arc<(Mutex<u64>, Condvar)>,
    most: u64,
}

/// Bytes on their way; dropped, they have arrived.
#[derive(Debug)]
pub(super) struct Passage {
    shared: Arc<(Mutex<u64>, Condvar)>,
    bytes: u64,
}

impl ByteGate {
    /// A free way for `most` bytes.
    pub(super) fn new(most: u64) -> ByteGate {
        ByteGate { shared: Arc::default(), most }
    }

    /// Waits until there is room for `bytes`, or nothing is on its way.
    pub(super) fn enter(&self, bytes: u64) -> Passage {
        let (held, freed) = &*self.shared;
        let is_full = |held: &mut u64| *held > 0 && held.saturating_add(bytes) > self.most;
        let mut held =
            freed.wait_while(lock(held), is_full).unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_add(bytes);
        Passage { shared: Arc::clone(&self.shared), bytes }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let (held, freed) = &*self.shared;
        let mut held = lock(held);
        *held = held.saturating_sub(self.bytes);
        freed.notify_all();
    }
}

fn lock(held: &Mutex<u64>) -> MutexGuard<'_, u64> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_has_room_passes_and_what_has_none_waits_for_the_others_to_arrive() {
        let gate = ByteGate::new(10);
        let (first, second) = (gate.enter(4), gate.enter(6));
        let (sender, passed) = channel();
        let waiting = gate.clone();
        let thread = std::thread::spawn(move || {
            let wide = waiting.enter(1_000);
            sender.send(()).unwrap();
            drop(wide);
        });
        drop(first);
        assert!(passed.try_recv().is_err(), "one is still on its way");
        drop(second);
        passed.recv().unwrap();
        thread.join().unwrap();
        drop(gate.enter(11));
    }
}
