//! How high one limit's ledger may stand: never above the user's limit, lower for a while when
//! reply headers say so.
//!
//! Left alone, a ceiling only rises, at moments that are known: so the end of a wait can be
//! computed.

use std::time::Duration;

use crate::domain::Moment;

/// How long a lower limit from a reply's headers holds after it was last seen.
const OBSERVED_LIMIT_LASTS: Duration = Duration::from_secs(300);
/// How long "so much is left" from a reply's headers holds without a reset time, and at most where
/// the limit is a minute's: by then all of it has come back.
const OBSERVED_LEFT_LASTS: Duration = Duration::from_secs(60);
/// So much of the limit, in thousandths, may be missing without anybody else using it: what is
/// rounded, counted otherwise or still on its way.
const UNEXPLAINED: u64 = 20;
/// Beside another user of the same limit, so much of it is left free, in thousandths, for what that
/// one sends before the next reply tells of it.
const BESIDE_OTHERS: u64 = 20;
/// And so much more where the reply is a minute late.
const MORE_EACH_MINUTE: u64 = 20;
/// By so much, in thousandths of the limit, the pace beside another user is faster than what that
/// one leaves.
const FASTER: u64 = 60;

/// The highest that one ledger may stand.
#[derive(Debug)]
pub(super) struct Ceiling {
    own: Option<u64>,
    limit: Option<Passing>,
    left: Option<Passing>,
    /// How long "so much is left" holds at most.
    left_lasts: Duration,
}

/// A bound that is forgotten at a known moment.
#[derive(Clone, Copy, Debug)]
struct Passing {
    most: u64,
    until: Moment,
    /// When the call was sent whose reply told it.
    as_of: Moment,
}

impl Passing {
    fn at(bound: Option<Passing>, now: Moment) -> Option<u64> {
        bound.filter(|bound| now < bound.until).map(|bound| bound.most)
    }

    /// Whether a reply to a call that was sent at `sent` is news: the reply to a later one, which
    /// may well come first, is not undone by it.
    fn is_news(bound: Option<Passing>, sent: Moment, now: Moment) -> bool {
        bound.is_none_or(|bound| bound.as_of <= sent || bound.until <= now)
    }
}

impl Ceiling {
    /// The user's limit over a time of `span`; `None` is no limit.
    pub(super) fn new(own: Option<u64>, span: Duration) -> Ceiling {
        let left_lasts = span.max(OBSERVED_LEFT_LASTS);
        Ceiling { own, limit: None, left: None, left_lasts }
    }

    /// The user's limit.
    pub(super) fn own(&self) -> Option<u64> {
        self.own
    }

    /// The limit in force at `now`: the user's, or a lower one of the provider's.
    pub(super) fn limit(&self, now: Moment) -> Option<u64> {
        lower(self.own, Passing::at(self.limit, now))
    }

    /// The limit at `now`, with `share` thousandths of it left by 429s.
    pub(super) fn lowered(&self, now: Moment, share: u64) -> Option<u64> {
        self.limit(now).map(|limit| (limit * share / 1000).max(1))
    }

    /// The highest that the ledger may stand at `now`.
    pub(super) fn at(&self, now: Moment, share: u64) -> Option<u64> {
        lower(self.lowered(now, share), Passing::at(self.left, now))
    }

    /// What may be sent in one span, for the even pace. Beside others it is a little more than the
    /// ledger may hold, so that what they leave for a moment is not lost, and no less than a quarter
    /// of the limit, since a hold is no pace.
    pub(super) fn pace(&self, now: Moment, share: u64) -> Option<u64> {
        let limit = self.limit(now)?;
        let most = self.lowered(now, share)?;
        let left = Passing::at(self.left, now).map_or(most, |left| left + limit * FASTER / 1000);
        Some(most.min(left).max(limit / 4).max(1))
    }

    /// The moments at which it may rise.
    pub(super) fn rises(&self) -> impl Iterator<Item = Moment> {
        [self.limit, self.left].into_iter().flatten().map(|bound| bound.until)
    }

    /// A reply to a call that was sent at `sent` says that the limit is `most`.
    pub(super) fn observe_limit(&mut self, most: u64, sent: Moment, now: Moment) {
        if Passing::is_news(self.limit, sent, now) {
            let until = now + OBSERVED_LIMIT_LASTS;
            self.limit = Some(Passing { most, until, as_of: sent });
        }
    }

    /// A reply to a call that was sent at `sent` says that `left` is left until `reset` has passed,
    /// where the ledger had `standing`.
    pub(super) fn observe_left(
        &mut self,
        standing: u64,
        left: u64,
        reset: Option<Duration>,
        sent: Moment,
        now: Moment,
    ) {
        if !Passing::is_news(self.left, sent, now) {
            return;
        }
        let mut lasts = reset.unwrap_or(OBSERVED_LEFT_LASTS).min(self.left_lasts);
        let explained = standing.saturating_add(left);
        let missing = self.limit(now).map(|limit| (limit, limit.saturating_sub(explained)));
        let most = match missing {
            Some((limit, missing)) if missing > limit * UNEXPLAINED / 1000 && missing > 0 => {
                // Somebody else is using it. Nothing left until a moment means none for us either,
                // whatever leaves our own ledger meanwhile.
                let margin =
                    BESIDE_OTHERS + now.since(sent).as_secs().min(60) * MORE_EACH_MINUTE / 60;
                let beside = explained.saturating_sub(limit * margin / 1000);
                if left == 0 && reset.is_some() {
                    0
                } else {
                    // By the reset all would be back if nobody sent anything, which they go on to do.
                    lasts = lasts.max(OBSERVED_LEFT_LASTS);
                    beside
                }
            }
            _ => explained,
        };
        self.left = Some(Passing { most, until: now + lasts, as_of: sent });
    }
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn headers_lower_the_limit_for_five_minutes_and_never_raise_it() {
        let mut ceiling = Ceiling::new(Some(1_000), MINUTE);
        ceiling.observe_limit(5_000, at(0), at(0));
        assert_eq!(ceiling.at(at(1), 1000), Some(1_000));
        ceiling.observe_limit(400, at(2), at(2));
        assert_eq!(ceiling.at(at(301), 1000), Some(400));
        assert_eq!(ceiling.at(at(302), 1000), Some(1_000));
    }

    #[test]
    fn a_late_reply_to_an_early_call_undoes_nothing() {
        let mut ceiling = Ceiling::new(Some(1_000), MINUTE);
        ceiling.observe_limit(500, at(40), at(41));
        ceiling.observe_limit(1_000, at(39), at(60));
        ceiling.observe_left(0, 200, None, at(50), at(51));
        ceiling.observe_left(0, 450, None, at(49), at(60));
        assert_eq!((ceiling.limit(at(60)), ceiling.at(at(60), 1000)), (Some(500), Some(190)));
        ceiling.observe_limit(1_000, at(41), at(70));
        assert_eq!(ceiling.limit(at(70)), Some(1_000));
        ceiling.observe_left(0, 1_000, None, at(49), at(112));
        assert_eq!(ceiling.at(at(112), 1000), Some(1_000), "what was told later is forgotten");
    }

    #[test]
    fn headers_alone_make_a_limit_where_the_user_set_none() {
        let mut ceiling = Ceiling::new(None, MINUTE);
        assert_eq!(ceiling.at(at(0), 1000), None);
        ceiling.observe_limit(400, at(0), at(0));
        assert_eq!(ceiling.at(at(0), 1000), Some(400));
    }

    #[test]
    fn what_is_left_holds_until_its_reset_and_a_minute_at_most() {
        let mut ceiling = Ceiling::new(Some(1_000), MINUTE);
        ceiling.observe_left(0, 990, Some(Duration::from_secs(7)), at(0), at(0));
        assert_eq!(ceiling.at(at(6), 1000), Some(990));
        assert_eq!(ceiling.at(at(7), 1000), Some(1_000));
        ceiling.observe_left(0, 990, Some(Duration::from_secs(86_400)), at(10), at(10));
        assert_eq!(ceiling.at(at(69), 1000), Some(990));
        assert_eq!(ceiling.at(at(70), 1000), Some(1_000));
    }

    #[test]
    fn a_days_remainder_holds_until_the_day_is_over() {
        let mut ceiling = Ceiling::new(Some(1_000), Duration::from_hours(24));
        ceiling.observe_left(200, 0, Some(Duration::from_hours(5)), at(0), at(0));
        assert_eq!(ceiling.at(at(17_999), 1000), Some(0));
        assert_eq!(ceiling.at(at(18_000), 1000), Some(1_000));
    }

    #[test]
    fn somebody_elses_share_is_theirs_and_a_little_more_is_left_free() {
        let mut ceiling = Ceiling::new(Some(1_000), MINUTE);
        ceiling.observe_left(300, 200, None, at(0), at(0));
        assert_eq!(ceiling.at(at(0), 1000), Some(480));
        ceiling.observe_left(300, 690, None, at(0), at(0));
        assert_eq!(ceiling.at(at(0), 1000), Some(990), "one per cent is nobody");
    }

    #[test]
    fn nothing_left_holds_until_its_reset_unless_it_was_us_who_took_it() {
        let mut ceiling = Ceiling::new(Some(1_000), MINUTE);
        ceiling.observe_left(300, 0, Some(Duration::from_secs(9)), at(0), at(0));
        assert_eq!(ceiling.at(at(8), 1000), Some(0));
        assert_eq!(ceiling.at(at(9), 1000), Some(1_000));
        ceiling.observe_left(1_000, 0, Some(Duration::from_secs(60)), at(10), at(10));
        assert_eq!(ceiling.at(at(11), 1000), Some(1_000), "our own calls leave by themselves");
    }
}
