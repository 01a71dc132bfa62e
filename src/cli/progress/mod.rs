//! Shows a run while it goes on: three readers of one stream of events.
//!
//! Every display is fed by events and by a clock of its own, so that a run in which nothing happens
//! still says so.

mod bar;
mod json;
mod plain;
pub mod tally;
pub mod words;

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::tally::Tally;
use super::console;
use super::values::ProgressMode;
use crate::domain::{Clock, Event, EventSink, Moment, UnixMillis};

/// Where a display's lines go.
type Print = Box<dyn FnMut(&str) + Send>;

/// One way to show a run.
trait Display: Send {
    /// Takes an event that `tally` holds already.
    fn event(&mut self, event: &Event, tally: &Tally, time: Time);
    /// Takes note of the time; called once every [`Display::period`].
    fn tick(&mut self, tally: &Tally, now: Moment);
    /// Shows the end; nothing comes after it.
    fn finish(&mut self, tally: &Tally, now: Moment);
    /// How often it is told the time, if at all.
    fn period(&self) -> Option<Duration>;
}

/// When something happened, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Time {
    now: Moment,
    wall: UnixMillis,
}

/// A display at work: an [`EventSink`] until it is finished.
pub struct Progress {
    shared: Arc<Shared>,
    ticker: Mutex<Option<Ticker>>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    display: Box<dyn Display>,
}

impl Progress {
    /// Shows a run on stderr as `mode` says.
    pub fn start(mode: ProgressMode, clock: Arc<dyn Clock>) -> Progress {
        let can_redraw = std::io::stderr().is_terminal() && !super::environment::is_dumb_terminal();
        let message: Print = Box::new(console::message);
        let display: Box<dyn Display> = match settle(mode, can_redraw) {
            ProgressMode::Bar => Box::new(bar::Bar::on_stderr(message)),
            ProgressMode::Json => Box::new(json::JsonLines::new(Box::new(console::json_line))),
            ProgressMode::None => Box::new(plain::Plain::quiet(message)),
            ProgressMode::Plain | ProgressMode::Auto => Box::new(plain::Plain::new(message)),
        };
        Progress::with_display(display, clock)
    }

    fn with_display(display: Box<dyn Display>, clock: Arc<dyn Clock>) -> Progress {
        let period = display.period();
        let state = Mutex::new(State { tally: Tally::default(), display });
        let shared = Arc::new(Shared { clock, state });
        let ticking = Arc::clone(&shared);
        let ticker = period.and_then(|period| Ticker::start(period, move || ticking.tick()));
        Progress { shared, ticker: Mutex::new(ticker) }
    }

    /// Shows the end and returns what was counted. Events that come later are not shown.
    pub fn finish(&self) -> Tally {
        drop(lock(&self.ticker).take());
        let now = self.shared.clock.now();
        let state = &mut *lock(&self.shared.state);
        state.display.finish(&state.tally, now);
        state.tally.clone()
    }
}

impl EventSink for Progress {
    fn emit(&self, event: Event) {
        let time = Time { now: self.shared.clock.now(), wall: self.shared.clock.wall() };
        let state = &mut *lock(&self.shared.state);
        state.tally.fold(&event, time.now);
        state.display.event(&event, &state.tally, time);
    }
}

impl Shared {
    fn tick(&self) {
        let now = self.clock.now();
        let state = &mut *lock(&self.state);
        state.display.tick(&state.tally, now);
    }
}

/// The display that `mode` comes to: a bar needs a terminal that can redraw.
fn settle(mode: ProgressMode, can_redraw: bool) -> ProgressMode {
    match mode {
        ProgressMode::Auto | ProgressMode::Bar if can_redraw => ProgressMode::Bar,
        ProgressMode::Auto | ProgressMode::Bar => ProgressMode::Plain,
        other => other,
    }
}

/// A display is still right after a thread panicked beside it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that calls something once every period, until it is dropped.
struct Ticker {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// `None` where the system has no thread left: then events alone drive the display.
    fn start(period: Duration, mut tick: impl FnMut() + Send + 'static) -> Option<Ticker> {
        let (end, ended) = channel::<()>();
        let run = move || {
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(run).ok()?;
        Some(Ticker { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Lets one failure through every few seconds and counts the rest: a provider that is down fails
/// every call, and its hundredth line says no more than its first.
#[derive(Debug, Default)]
struct FailureLines {
    last: Option<Moment>,
    withheld: u64,
}

impl FailureLines {
    const PAUSE: Duration = Duration::from_secs(5);

    /// The line to show for `event`, if it is a failure and one is due.
    fn due(&mut self, event: &Event, now: Moment) -> Option<String> {
        let line = words::failure(event)?;
        if self.last.is_some_and(|last| now.since(last) < Self::PAUSE) {
            self.withheld += 1;
            return None;
        }
        self.last = Some(now);
        match std::mem::take(&mut self.withheld) {
            0 => Some(line),
            withheld => Some(format!("{line} (and {withheld} more since the last such line)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands still until it is set.
    #[derive(Default)]
    pub(super) struct SetClock(Mutex<Duration>);

    impl Clock for SetClock {
        fn now(&self) -> Moment {
            Moment(*lock(&self.0))
        }

        fn wall(&self) -> UnixMillis {
            UnixMillis(1_700_000_000_123)
        }
    }

    impl SetClock {
        pub(super) fn set(&self, seconds: u64) {
            *lock(&self.0) = Duration::from_secs(seconds);
        }
    }

    fn failed(call: u64) -> Event {
        Event::CallFailed {
            call,
            rows: 50,
            kind: "timeout".into(),
            status: None,
            message: "no reply within 300 s".into(),
            retry_in: None,
            seconds: 300.0,
        }
    }

    #[test]
    fn a_bar_needs_a_terminal_that_can_redraw() {
        assert_eq!(settle(ProgressMode::Auto, true), ProgressMode::Bar);
        assert_eq!(settle(ProgressMode::Auto, false), ProgressMode::Plain);
        assert_eq!(settle(ProgressMode::Bar, false), ProgressMode::Plain);
        assert_eq!(settle(ProgressMode::Json, true), ProgressMode::Json);
    }

    #[test]
    fn a_storm_of_failures_is_one_line_every_few_seconds() {
        let mut lines = FailureLines::default();
        let at = |seconds| Moment(Duration::from_secs(seconds));
        assert!(lines.due(&failed(1), at(0)).is_some());
        assert_eq!(lines.due(&failed(2), at(1)), None);
        assert_eq!(lines.due(&failed(3), at(4)), None);
        let line = lines.due(&failed(4), at(5)).unwrap();
        assert!(line.ends_with("(and 2 more since the last such line)"), "{line}");
        assert_eq!(lines.due(&Event::Interrupted, at(20)), None);
    }

    #[test]
    fn the_clock_ticks_without_any_event_and_stops_with_the_display() {
        let (tick, ticked) = channel();
        let ticker = Ticker::start(Duration::from_millis(1), move || {
            let _ = tick.send(());
        });
        assert!(ticked.recv_timeout(Duration::from_secs(10)).is_ok());
        drop(ticker);
        while ticked.try_recv().is_ok() {}
        assert_eq!(ticked.recv(), Err(std::sync::mpsc::RecvError));
    }

    #[test]
    fn events_reach_the_display_with_their_tally() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&lines);
        let print: Print = Box::new(move |line| lock(&seen).push(line.to_owned()));
        let clock = Arc::new(SetClock::default());
        let progress =
            Progress::with_display(Box::new(plain::Plain::new(print)), Arc::clone(&clock) as _);
        progress.emit(failed(7));
        clock.set(3);
        assert_eq!(progress.finish().errors, 1);
        assert!(lock(&lines)[0].starts_with("call 7 "), "{lines:?}");
    }
}
