//! No spending on bad storage: whether a paid call may start, as far as commits go.
//!
//! No call starts while a commit fails, from its first failure until it has succeeded, nor while
//! one has been under way for 5 s, since a mount that died may take 80 s to say so. Pure: time
//! comes in as an argument.

use std::time::Duration;

use super::retry::Backoff;
use crate::domain::{Moment, PartNumber};

/// A commit that takes longer holds new calls.
const STALLS_AFTER: Duration = Duration::from_secs(5);

/// What is known of the output's storage.
#[derive(Debug)]
pub(super) struct StorageWatch {
    give_up_after: Duration,
    backoff: Backoff,
    /// The commit under way, and since when.
    under_way: Option<(PartNumber, Moment)>,
    failing: Option<Failing>,
    is_stall_told: bool,
    is_ending: bool,
    had_last_try: bool,
}

/// A commit that failed and has not succeeded since.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Moment,
    failures: u32,
    next_try: Moment,
}

impl StorageWatch {
    /// Nothing is known yet. A run gives up after `give_up_after` of nothing but failures.
    pub(super) fn new(give_up_after: Duration, seed: u64) -> StorageWatch {
        StorageWatch {
            give_up_after,
            backoff: Backoff::new(seed),
            under_way: None,
            failing: None,
            is_stall_told: false,
            is_ending: false,
            had_last_try: false,
        }
    }

    /// The writer began with a commit, or began with it again.
    pub(super) fn begun(&mut self, part: PartNumber, now: Moment) {
        self.under_way = Some((part, now));
        self.is_stall_told = false;
    }

    /// The commit under way succeeded.
    pub(super) fn committed(&mut self) {
        self.under_way = None;
        self.failing = None;
        self.backoff.succeeded();
    }

    /// The commit under way failed for now. Says when to try again; `None` if no more.
    pub(super) fn failed(&mut self, now: Moment) -> Option<Moment> {
        self.under_way = None;
        let next_try = match (self.is_ending, self.had_last_try) {
            (true, true) => return None,
            (true, false) => now,
            (false, _) => now + self.backoff.pause(),
        };
        self.had_last_try = self.is_ending;
        let earlier = self.failing;
        self.failing = Some(Failing {
            since: earlier.map_or(now, |it| it.since),
            failures: earlier.map_or(0, |it| it.failures) + 1,
            next_try,
        });
        Some(next_try)
    }

    /// The run is about to end: what fails is tried once more, at once.
    pub(super) fn end(&mut self, now: Moment) {
        self.is_ending = true;
        if let (Some(failing), None) = (&mut self.failing, self.under_way) {
            failing.next_try = now;
            self.had_last_try = true;
        }
    }

    /// How often the commit has failed that fails now.
    pub(super) fn failures(&self) -> u32 {
        self.failing.map_or(0, |failing| failing.failures)
    }

    /// Whether the writer may begin with a commit.
    pub(super) fn may_commit(&self, now: Moment) -> bool {
        self.under_way.is_none() && self.failing.is_none_or(|failing| failing.next_try <= now)
    }

    /// Until when no call may start, as far as can be told; `None` if one may start.
    pub(super) fn hold(&self, now: Moment) -> Option<Moment> {
        match (self.under_way, self.failing) {
            (None, Some(failing)) => Some(failing.next_try.max(now)),
            (Some(_), Some(_)) => Some(now + STALLS_AFTER),
            (Some((_, begun)), None) if now >= begun + STALLS_AFTER => Some(now + STALLS_AFTER),
            _ => None,
        }
    }

    /// A commit that holds calls only because it takes so long, and for how long; told once.
    pub(super) fn take_stall(&mut self, now: Moment) -> Option<(PartNumber, Duration)> {
        let (part, begun) = self.under_way?;
        if self.is_stall_told || now < begun + STALLS_AFTER {
            return None;
        }
        self.is_stall_told = true;
        Some((part, now.since(begun)))
    }

    /// When nothing but failures, or one commit that does not end, is enough.
    pub(super) fn give_up_at(&self) -> Option<Moment> {
        let failing = self.failing.map(|failing| failing.since);
        let since = failing.or(self.under_way.map(|(_, begun)| begun))?;
        Some(since + self.give_up_after)
    }

    /// When to look again, if nothing is heard before.
    pub(super) fn next_look(&self, now: Moment) -> Option<Moment> {
        let due = match self.under_way {
            Some((_, begun)) if now < begun + STALLS_AFTER => Some(begun + STALLS_AFTER),
            Some(_) => Some(now + STALLS_AFTER),
            None => self.failing.map(|failing| failing.next_try),
        };
        due.into_iter().chain(self.give_up_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: PartNumber = PartNumber(2);
    const GIVE_UP_AFTER: Duration = Duration::from_secs(1_800);

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn watch() -> StorageWatch {
        StorageWatch::new(GIVE_UP_AFTER, 1)
    }

    #[test]
    fn no_call_starts_from_the_first_failure_of_a_commit_until_it_succeeds() {
        let mut watch = watch();
        watch.begun(PART, at(0));
        assert_eq!(watch.hold(at(10)), None);
        let next_try = watch.failed(at(10)).unwrap();
        assert_eq!(watch.hold(at(10)), Some(next_try));
        assert!(!watch.may_commit(at(11)) && watch.may_commit(next_try));
        assert_eq!(watch.next_look(at(10)), Some(next_try));
        watch.begun(PART, next_try);
        assert!(watch.hold(next_try).is_some(), "one that is tried again has not succeeded yet");
        watch.failed(next_try).unwrap();
        assert_eq!(watch.failures(), 2);
        watch.begun(PART, at(5_000));
        watch.committed();
        assert_eq!((watch.hold(at(5_000)), watch.next_look(at(5_000))), (None, None));
        assert_eq!(watch.failures(), 0);
    }

    #[test]
    fn no_call_starts_once_a_commit_has_been_under_way_for_5_s() {
        let mut watch = watch();
        watch.begun(PART, at(1_000));
        assert_eq!(watch.next_look(at(1_000)), Some(at(6_000)));
        assert_eq!((watch.hold(at(5_999)), watch.take_stall(at(5_999))), (None, None));
        assert!(watch.hold(at(6_000)).is_some());
        assert_eq!(watch.take_stall(at(6_000)), Some((PART, Duration::from_secs(5))));
        assert_eq!(watch.take_stall(at(7_000)), None);
        // It says so only after 80 s.
        watch.failed(at(81_000)).unwrap();
        assert!(watch.hold(at(81_000)).is_some());
    }

    #[test]
    fn commits_that_follow_each_other_swiftly_hold_nothing() {
        let mut watch = watch();
        for second in 0..100 {
            watch.begun(PART, at(second * 1_000));
            watch.committed();
        }
        assert_eq!(watch.hold(at(100_000)), None);
    }

    #[test]
    fn it_gives_up_after_nothing_but_failures_and_on_a_commit_that_never_ends() {
        let mut watch = watch();
        watch.begun(PART, at(0));
        assert_eq!(watch.give_up_at(), Some(Moment(GIVE_UP_AFTER)));
        let mut now = at(700);
        while now < Moment(GIVE_UP_AFTER) {
            now = watch.failed(now).unwrap();
            assert_eq!(watch.give_up_at(), Some(at(700) + GIVE_UP_AFTER));
            watch.begun(PART, now);
        }
        watch.committed();
        assert_eq!(watch.give_up_at(), None);
    }

    #[test]
    fn when_the_run_ends_what_fails_is_tried_once_more_and_at_once() {
        // It waits for its next try.
        let mut watch = watch();
        watch.begun(PART, at(0));
        watch.failed(at(0)).unwrap();
        watch.end(at(1));
        assert!(watch.may_commit(at(1)));
        watch.begun(PART, at(1));
        assert_eq!(watch.failed(at(2)), None);
        // It is under way.
        let mut watch = self::watch();
        watch.begun(PART, at(0));
        watch.end(at(1));
        assert_eq!(watch.failed(at(2)), Some(at(2)));
        watch.begun(PART, at(2));
        assert_eq!(watch.failed(at(3)), None);
    }
}
