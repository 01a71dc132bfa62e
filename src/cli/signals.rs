//! Ctrl-C and its kin: the first asks the run to stop, the second ends the process at once.
//!
//! They are heard on a thread of their own, so that a busy or stuck run can't keep one waiting.

use std::io;

use tokio::sync::watch;

use super::console;
use super::exit_code::ExitCode;

/// What asked the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: the system or a scheduler.
    Terminate,
    /// SIGHUP: the terminal was closed.
    HangUp,
}

impl Signal {
    /// The exit code of a process that ended for it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Signal::Interrupt => ExitCode::Interrupted,
            Signal::Terminate | Signal::HangUp => ExitCode::Terminated,
        }
    }
}

/// Says whether the run was asked to stop. Clones hear the same request.
#[derive(Clone, Debug)]
pub struct StopSignal {
    signal: watch::Receiver<Option<Signal>>,
}

/// Asks the holders of a [`StopSignal`] to stop.
#[derive(Debug)]
pub struct Stopper {
    signal: watch::Sender<Option<Signal>>,
}

/// A signal and the hand that gives it.
pub fn stop_signal() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (Stopper { signal: sender }, StopSignal { signal: receiver })
}

impl Stopper {
    /// Asks to stop, for `signal`; the first one stands. Returns whether this was it.
    pub fn stop(&self, signal: Signal) -> bool {
        self.signal.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(signal);
            is_first
        })
    }
}

impl StopSignal {
    /// Whether the run was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.signal().is_some()
    }

    /// What asked it to.
    pub fn signal(&self) -> Option<Signal> {
        *self.signal.borrow()
    }

    /// Returns once the run is asked to stop; at once if it was already. Safe to drop and to call
    /// again.
    pub async fn wait(&self) {
        let mut signal = self.signal.clone();
        if signal.wait_for(Option::is_some).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

/// Listens for SIGINT, SIGTERM and SIGHUP until the process ends; `announce` tells the user that the
/// first was heard.
///
/// # Errors
/// If the system gives no thread or no signal handler.
pub fn listen(announce: impl Fn() + Send + 'static) -> io::Result<StopSignal> {
    let (stopper, stop) = stop_signal();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::new()?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = signals.next().await;
                if !stopper.stop(signal) {
                    end_now(signal);
                }
                announce();
            }
        });
    })?;
    Ok(stop)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for an end that waits for nothing"
)]
fn end_now(signal: Signal) -> ! {
    console::clear_bar();
    console::message("ended at once; run the same command again to go on from here");
    std::process::exit(signal.exit_code().number().into());
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hang_up.recv() => Signal::HangUp,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn every_holder_hears_the_first_signal_and_it_stands() {
        let (stopper, stop) = stop_signal();
        let other = stop.clone();
        assert!(!stop.is_stopping());
        assert_eq!(other.wait().now_or_never(), None);
        assert!(stopper.stop(Signal::Terminate));
        assert!(!stopper.stop(Signal::Interrupt));
        assert_eq!(other.wait().now_or_never(), Some(()));
        assert_eq!(other.wait().now_or_never(), Some(()));
        assert_eq!(stop.signal(), Some(Signal::Terminate));
    }

    #[test]
    fn a_signal_that_nobody_can_give_any_more_never_comes() {
        let (stopper, stop) = stop_signal();
        drop(stopper);
        assert_eq!(stop.wait().now_or_never(), None);
    }

    #[test]
    fn a_closed_terminal_ends_like_a_terminated_run() {
        assert_eq!(Signal::HangUp.exit_code().number(), 143);
        assert_eq!(Signal::Interrupt.exit_code().number(), 130);
    }
}
