//! What the server has seen: charges, rows and how requests ended.
//!
//! Pure: time comes in as an argument. A request is counted when it arrives, its rows when it is
//! admitted, its end exactly once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::account::{Account, Amounts, Counted};
use super::prompt_cache::CacheUse;
use super::settings::Settings;
use super::window::{MINUTE, Overrun, Rolling};
use crate::domain::{Moment, UnixMillis};

/// What `GET /stats` answers. All counts are since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Chat requests that arrived, whatever became of them.
    pub requests: u64,
    /// Requests whose reply, HTTP 200, was handed to the connection as a whole.
    pub answered: u64,
    /// Requests that were answered 429 because of a limit.
    pub rejected_429: u64,
    /// Requests that were answered 429 as a fault.
    pub injected_429: u64,
    /// Requests that were answered 500 as a fault.
    pub injected_500: u64,
    /// Replies whose connection was broken as a fault.
    pub injected_resets: u64,
    /// Requests that were left hanging as a fault.
    pub injected_hangs: u64,
    /// Requests that were answered 400: malformed, or with a parameter that is refused.
    pub bad_requests: u64,
    /// Requests that were refused for what is in them, or by a model's whim as a fault.
    pub refused: u64,
    /// Requests whose client left before the reply was handed over.
    pub disconnects: u64,
    /// Requests that are waiting for their reply now.
    pub open_requests: u64,
    /// Prompt tokens of admitted requests, as `usage` reports them.
    pub prompt_tokens: u64,
    /// Completion tokens of admitted requests, as `usage` reports them, hidden ones included.
    pub completion_tokens: u64,
    /// Of `prompt_tokens`: tokens that came from the prompt cache.
    pub cached_tokens: u64,
    /// Of `prompt_tokens`: tokens that were written into it.
    pub cache_write_tokens: u64,
    /// Tokens that were charged to the rolling minute.
    pub charged_tokens: u64,
    /// The most tokens that any 60 seconds were charged.
    pub fullest_minute_tokens: u64,
    /// The most requests that any 60 seconds were charged.
    pub fullest_minute_requests: u64,
    /// Rows in admitted requests, repeated ones too.
    pub rows_asked: u64,
    /// Different texts among them.
    pub rows_distinct: u64,
    /// Of `rows_asked`: rows whose text had been asked before, for whatever reason.
    pub rows_asked_again: u64,
    /// Different texts that were answered properly: with one known code, in a reply that was
    /// handed over as a whole.
    pub rows_answered: u64,
    /// Of `rows_asked_again`: rows whose text had been answered properly. They are paid twice.
    pub rows_answered_again: u64,
    /// Different texts in requests whose client left before the reply, and that were not answered
    /// before. After a crash of the client they may rightly be asked once more.
    pub rows_open_at_disconnect: u64,
    /// Different texts that were answered properly in a reply of which nobody can tell whether the
    /// client read it: the client left with bytes unread (it reset the connection), or within
    /// 100 ms of the reply, in both cases without another request on that connection. After a
    /// crash of the client they may rightly be asked once more, too.
    pub rows_unconfirmed_at_disconnect: u64,
    /// Of `rows_answered_again`: rows whose text was neither open nor unconfirmed at a disconnect
    /// since it was last answered properly. Nothing but the client explains them.
    pub rows_asked_again_unexplained: u64,
    /// When the first request arrived; 0 before it.
    pub first_request_ms: u64,
    /// When the last request arrived; 0 before the first.
    pub last_request_ms: u64,
    /// Seconds between the two.
    pub seconds: f64,
    /// Tokens charged in each minute since the first request; the last one is not over.
    pub tokens_by_minute: Vec<u64>,
    /// Tokens charged from the second full minute to the last full one, as a share of what the
    /// limit allows in that time. Absent without a limit or before two full minutes.
    pub share_after_first_minute: Option<f64>,
}

/// What is known of one text.
#[derive(Clone, Copy, Debug, Default)]
struct RowState {
    is_answered: bool,
    was_open_at_disconnect: bool,
    was_unconfirmed_at_disconnect: bool,
    /// Whether the client has an answer as far as can be known.
    is_held: bool,
}

/// What an admitted request asks and costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge<'a> {
    /// Prompt tokens, as `usage` will report them.
    pub(super) prompt: u64,
    /// Completion tokens, as `usage` will report them.
    pub(super) completion: u64,
    /// What it counts towards the limits.
    pub(super) amounts: Amounts,
    /// Hashes of the rows' texts.
    pub(super) rows: &'a [u64],
}

/// How a request ended. [`Tally::arrive`] counts those that are not admitted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A whole reply was handed over.
    Answered,
    /// A whole reply was handed over that refuses to answer.
    Refused,
    /// The server answered 500.
    Failed,
    /// The server broke the connection.
    Reset,
    /// The client left.
    Disconnected,
    /// The server was shut down.
    Closed,
}

/// All counts, and the account.
#[derive(Debug)]
pub(super) struct Tally {
    counts: Stats,
    account: Account,
    /// Tokens and requests of any 60 seconds, whatever the limits are.
    tokens: Rolling,
    requests: Rolling,
    charge_rejected: bool,
    rows: HashMap<u64, RowState>,
    first: Option<Moment>,
    last: Moment,
    charged_by_second: Vec<u64>,
}

impl Tally {
    /// An empty tally with the limits of `settings`.
    pub(super) fn new(settings: &Settings) -> Tally {
        Tally {
            counts: Stats::default(),
            account: Account::new(settings),
            tokens: Rolling::new(None, MINUTE),
            requests: Rolling::new(None, MINUTE),
            charge_rejected: settings.charge_rejected,
            rows: HashMap::new(),
            first: None,
            last: Moment::default(),
            charged_by_second: Vec::new(),
        }
    }

    /// Forgets all counts and rows. The windows keep their charges, and requests that are open
    /// stay open.
    pub(super) fn reset(&mut self) {
        self.counts = Stats { open_requests: self.counts.open_requests, ..Stats::default() };
        self.tokens.restart_record();
        self.requests.restart_record();
        self.rows.clear();
        self.first = None;
        self.charged_by_second.clear();
    }

    /// Counts a request that arrived at `now`. Returns a moment that never moves backwards, for
    /// the windows.
    pub(super) fn arrive(&mut self, now: Moment, wall: UnixMillis) -> Moment {
        let now = now.max(self.last);
        self.last = now;
        if self.first.is_none() {
            self.first = Some(now);
            self.counts.first_request_ms = wall.0;
        }
        self.counts.last_request_ms = self.counts.last_request_ms.max(wall.0);
        self.counts.requests += 1;
        self.account.move_to(now);
        now
    }

    /// Counts a request that is answered 400.
    pub(super) fn count_bad_request(&mut self) {
        self.counts.bad_requests += 1;
    }

    /// Counts a request that is left hanging.
    pub(super) fn count_hang(&mut self) {
        self.counts.injected_hangs += 1;
    }

    /// Counts a request that is answered 429 as a fault.
    pub(super) fn inject_429(&mut self, charge: &Charge<'_>, now: Moment) {
        self.counts.injected_429 += 1;
        if self.charge_rejected {
            self.charge(charge.amounts, now);
        }
    }

    /// Admits a request or answers it 429. An admitted one is open until [`Tally::end`].
    ///
    /// # Errors
    /// How long to wait if it does not fit into every limit.
    pub(super) fn admit(&mut self, charge: &Charge<'_>, now: Moment) -> Result<(), Overrun> {
        if let Err(overrun) = self.account.check(charge.amounts, now) {
            self.counts.rejected_429 += 1;
            if self.charge_rejected && overrun != Overrun::Never {
                self.charge(charge.amounts, now);
            }
            return Err(overrun);
        }
        self.charge(charge.amounts, now);
        self.counts.open_requests += 1;
        self.counts.prompt_tokens += charge.prompt;
        self.counts.completion_tokens += charge.completion;
        self.counts.rows_asked += charge.rows.len() as u64;
        for &row in charge.rows {
            match self.rows.get(&row) {
                Some(state) => {
                    self.counts.rows_asked_again += 1;
                    self.counts.rows_answered_again += u64::from(state.is_answered);
                    self.counts.rows_asked_again_unexplained += u64::from(state.is_held);
                }
                None => {
                    self.rows.insert(row, RowState::default());
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, amounts: Amounts, now: Moment) {
        let tokens = amounts.tokens;
        self.account.charge(amounts, now);
        self.tokens.charge(tokens, now);
        self.requests.charge(1, now);
        self.counts.charged_tokens += tokens;
        let second = now.since(self.first.unwrap_or(now)).as_secs() as usize;
        if self.charged_by_second.len() <= second {
            self.charged_by_second.resize(second + 1, 0);
        }
        self.charged_by_second[second] += tokens;
    }

    /// Counts what an admitted request did with the prompt cache.
    pub(super) fn count_cache(&mut self, used: CacheUse) {
        self.counts.cached_tokens += u64::from(used.cached);
        self.counts.cache_write_tokens += u64::from(used.written);
    }

    /// Ends an admitted request: `asked` are its rows, `answered` those of them that its reply
    /// answers properly.
    pub(super) fn end(&mut self, ending: Ending, asked: &[u64], answered: &[u64]) {
        self.counts.open_requests = self.counts.open_requests.saturating_sub(1);
        match ending {
            Ending::Answered => {
                self.counts.answered += 1;
                for row in answered {
                    if let Some(state) = self.rows.get_mut(row) {
                        self.counts.rows_answered += u64::from(!state.is_answered);
                        state.is_answered = true;
                        state.is_held = true;
                    }
                }
            }
            Ending::Refused => self.counts.refused += 1,
            Ending::Failed => self.counts.injected_500 += 1,
            Ending::Reset => self.counts.injected_resets += 1,
            Ending::Disconnected => {
                self.counts.disconnects += 1;
                for row in asked {
                    if let Some(state) = self.rows.get_mut(row) {
                        state.is_held = false;
                        if !state.is_answered && !state.was_open_at_disconnect {
                            state.was_open_at_disconnect = true;
                            self.counts.rows_open_at_disconnect += 1;
                        }
                    }
                }
            }
            Ending::Closed => {}
        }
    }

    /// Counts rows of which nobody can tell whether the client, which has left, read their answer.
    pub(super) fn lose(&mut self, rows: &[u64]) {
        for row in rows {
            // A row that is unknown was forgotten by a reset.
            if let Some(state) = self.rows.get_mut(row) {
                state.is_held = false;
                self.counts.rows_unconfirmed_at_disconnect +=
                    u64::from(!state.was_unconfirmed_at_disconnect);
                state.was_unconfirmed_at_disconnect = true;
            }
        }
    }

    /// The account, for the headers of a reply.
    pub(super) fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// All counts.
    pub(super) fn stats(&mut self) -> Stats {
        let seconds = self.first.map_or(0.0, |first| self.last.since(first).as_secs_f64());
        let share = self.share_after_first_minute(seconds as usize / 60);
        Stats {
            fullest_minute_tokens: self.tokens.fullest(),
            fullest_minute_requests: self.requests.fullest(),
            rows_distinct: self.rows.len() as u64,
            seconds,
            tokens_by_minute: self.charged_by_second.chunks(60).map(|it| it.iter().sum()).collect(),
            share_after_first_minute: share,
            ..self.counts.clone()
        }
    }

    fn share_after_first_minute(&mut self, full_minutes: usize) -> Option<f64> {
        let limit = self.account.left(Counted::Tokens, self.last)?.limit;
        let minutes = full_minutes.checked_sub(1).filter(|&minutes| minutes > 0)?;
        let seconds = self.charged_by_second.iter().skip(60).take(minutes * 60);
        Some(seconds.sum::<u64>() as f64 / (limit as f64 * minutes as f64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(tally: &mut Tally, second: u64, tokens: u64, rows: &[u64]) -> Result<(), Overrun> {
        let now = tally.arrive(Moment(Duration::from_secs(second)), UnixMillis(second * 1000));
        let amounts = Amounts { tokens, input: tokens, output: 0 };
        tally.admit(&Charge { prompt: tokens, completion: 0, amounts, rows }, now)
    }

    fn minute(tokens: u32, requests_per_minute: Option<u32>) -> Settings {
        let tokens_per_minute = Some(tokens);
        Settings { tokens_per_minute, requests_per_minute, ..Settings::default() }
    }

    #[test]
    fn a_row_is_paid_twice_only_if_it_had_been_answered() {
        let mut tally = Tally::new(&Settings::default());
        ask(&mut tally, 0, 1, &[1, 2, 3]).unwrap();
        tally.end(Ending::Answered, &[1, 2, 3], &[1]);
        ask(&mut tally, 1, 1, &[2, 3]).unwrap();
        tally.end(Ending::Disconnected, &[2, 3], &[]);
        ask(&mut tally, 2, 1, &[2, 3, 1]).unwrap();
        tally.end(Ending::Answered, &[2, 3, 1], &[2, 3, 1]);
        let stats = tally.stats();
        assert_eq!((stats.rows_asked, stats.rows_distinct), (8, 3));
        assert_eq!((stats.rows_asked_again, stats.rows_answered_again), (5, 1));
        assert_eq!((stats.rows_answered, stats.rows_open_at_disconnect), (3, 2));
        assert_eq!((stats.disconnects, stats.open_requests), (1, 0));
    }

    #[test]
    fn asking_again_is_explained_until_the_row_is_answered_anew() {
        let mut tally = Tally::new(&Settings::default());
        let answer = |tally: &mut Tally, second| {
            ask(tally, second, 1, &[1]).unwrap();
            tally.end(Ending::Answered, &[1], &[1]);
            tally.stats().rows_asked_again_unexplained
        };
        assert_eq!(answer(&mut tally, 0), 0);
        tally.lose(&[1]);
        ask(&mut tally, 1, 1, &[1]).unwrap();
        tally.end(Ending::Failed, &[1], &[]);
        assert_eq!(answer(&mut tally, 2), 0);
        assert_eq!(answer(&mut tally, 3), 1);
        ask(&mut tally, 4, 1, &[1]).unwrap();
        tally.end(Ending::Disconnected, &[1], &[]);
        assert_eq!(answer(&mut tally, 5), 2);
        tally.lose(&[1, 9]);
        assert_eq!(answer(&mut tally, 6), 2);
        let stats = tally.stats();
        assert_eq!((stats.rows_answered, stats.rows_answered_again), (1, 6));
        assert_eq!((stats.rows_unconfirmed_at_disconnect, stats.rows_open_at_disconnect), (1, 0));
    }

    #[test]
    fn a_rejected_request_asks_nothing_and_is_charged_only_if_told() {
        for (charge_rejected, charged) in [(false, 60), (true, 120)] {
            let mut tally = Tally::new(&Settings { charge_rejected, ..minute(100, None) });
            ask(&mut tally, 0, 60, &[1]).unwrap();
            let overrun = ask(&mut tally, 10, 60, &[2]).unwrap_err();
            assert_eq!(overrun, Overrun::Until(Duration::from_secs(50)));
            let stats = tally.stats();
            assert_eq!((stats.rows_asked, stats.rejected_429, stats.requests), (1, 1, 2));
            assert_eq!((stats.charged_tokens, stats.fullest_minute_tokens), (charged, charged));
        }
    }

    #[test]
    fn the_longer_wait_of_both_limits_is_told() {
        let mut tally = Tally::new(&minute(100, Some(1)));
        ask(&mut tally, 0, 10, &[]).unwrap();
        assert_eq!(ask(&mut tally, 20, 10, &[]), Err(Overrun::Until(Duration::from_secs(40))));
        assert_eq!(ask(&mut tally, 20, 101, &[]), Err(Overrun::Never));
    }

    #[test]
    fn the_share_leaves_out_the_first_and_the_unfinished_minute() {
        let mut tally = Tally::new(&minute(100, None));
        for (second, tokens) in [(0, 100), (60, 40), (119, 40), (179, 60), (190, 5)] {
            ask(&mut tally, second, tokens, &[]).unwrap();
        }
        let stats = tally.stats();
        assert_eq!(stats.tokens_by_minute, [100, 80, 60, 5]);
        assert_eq!(stats.share_after_first_minute, Some(0.7));
        assert_eq!((stats.seconds, stats.first_request_ms), (190.0, 0));
    }

    #[test]
    fn a_reset_keeps_what_the_windows_hold() {
        let mut tally = Tally::new(&minute(100, None));
        ask(&mut tally, 0, 80, &[1]).unwrap();
        tally.reset();
        tally.end(Ending::Answered, &[1], &[1]);
        assert!(ask(&mut tally, 1, 30, &[1]).is_err());
        let stats = tally.stats();
        assert_eq!((stats.requests, stats.rows_answered, stats.open_requests), (1, 0, 0));
        assert_eq!(stats.fullest_minute_tokens, 80);
    }
}
