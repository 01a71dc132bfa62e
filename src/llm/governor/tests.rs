//! The governor as a whole, with a clock that the tests set.

use std::num::NonZeroU32;

use super::*;
use crate::llm::provider::Reading;

/// Noon of some day, UTC.
const NOON: UnixMillis = UnixMillis(1_790_000_000_000 / 86_400_000 * 86_400_000 + 43_200_000);

fn at(millis: u64) -> Moment {
    Moment(Duration::from_millis(millis))
}

fn with_limits(limits: Limits) -> Governor {
    Governor::new(limits, 7, at(0), NOON)
}

/// A call of so many tokens, whatever they are.
fn of(tokens: u32) -> Charge {
    Charge::of_tokens(Tokens(tokens))
}

fn governor(tokens: u32, requests: u32) -> Governor {
    with_limits(Limits {
        tokens_per_minute: NonZeroU32::new(tokens),
        requests_per_minute: NonZeroU32::new(requests),
        ..Limits::default()
    })
}

/// A governor whose first call was answered at 100 ms.
fn warm_governor(tokens: u32, requests: u32) -> Governor {
    let mut governor = governor(tokens, requests);
    let first = governor.reserve(of(10), at(0));
    governor.settle(first, of(10), at(100));
    governor
}

/// The moment at which a call of `tokens` starts when nothing else happens.
fn starts_at(governor: &mut Governor, tokens: u32, mut now: Moment) -> Moment {
    for _ in 0..3 {
        match governor.admit(of(tokens), now) {
            Admission::Start => return now,
            Admission::Wait { until: Some(until), .. } => now = until,
            other => panic!("{other:?}"),
        }
    }
    panic!("no progress by {now:?}")
}

fn wait(governor: &mut Governor, tokens: u32, now: Moment) -> Option<WaitFor> {
    match governor.admit(of(tokens), now) {
        Admission::Wait { wait, .. } => Some(wait),
        _ => None,
    }
}

const DOWN: Failure = Failure::Capacity { retry_after: None };

#[test]
fn the_first_call_goes_alone_until_it_is_answered() {
    let mut governor = governor(200_000, 0);
    let first = governor.reserve(of(1_000), at(0));
    assert_eq!(wait(&mut governor, 1_000, at(5_000)), Some(WaitFor::Replies));
    governor.settle(first, of(1_000), at(5_000));
    assert_eq!(governor.admit(of(1_000), at(5_000)), Admission::Start);
}

#[test]
fn a_first_call_that_failed_is_followed_by_another_lone_one() {
    let mut governor = governor(200_000, 0);
    let first = governor.reserve(of(10), at(0));
    governor.fail(first, Failure::Refused, at(1_000));
    assert_eq!(governor.admit(of(10), at(1_000)), Admission::Start);
    governor.reserve(of(10), at(1_000));
    assert_eq!(wait(&mut governor, 10, at(60_999)), Some(WaitFor::Replies));
    assert_eq!(governor.admit(of(10), at(61_000)), Admission::Start);
}

#[test]
fn a_call_over_the_whole_limit_never_starts_and_says_so() {
    let mut governor = governor(1_000, 0);
    assert_eq!(
        governor.admit(of(1_001), at(0)),
        Admission::Never { name: LimitName::TokensPerMinute, limit: 1_000 }
    );
    assert_eq!(governor.admit(of(1_000), at(0)), Admission::Start);
    assert_eq!(governor.largest_call(), Some((Tokens(500), "half of limits.tokens_per_minute")));
}

#[test]
fn without_any_limit_replies_alone_hold_calls_back() {
    let mut governor = warm_governor(0, 0);
    assert_eq!(governor.largest_call(), None);
    for _ in 0..FIRST_IN_FLIGHT {
        assert_eq!(governor.admit(of(u32::MAX), at(100)), Admission::Start);
        governor.reserve(of(u32::MAX), at(100));
    }
    assert_eq!(
        governor.admit(of(1), at(100)),
        Admission::Wait { until: None, wait: WaitFor::Replies }
    );
}

#[test]
fn a_full_window_opens_when_its_oldest_charge_has_certainly_left() {
    let mut governor = warm_governor(1_000, 0);
    governor.reserve(of(990), at(1_000));
    assert_eq!(wait(&mut governor, 500, at(60_200)), Some(WaitFor::Tokens));
    assert_eq!(starts_at(&mut governor, 500, at(60_200)), at(61_260));
}

#[test]
fn a_settled_estimate_frees_what_it_did_not_need() {
    let mut governor = warm_governor(1_000, 0);
    let call = governor.reserve(of(900), at(1_000));
    governor.settle(call, of(400), at(2_000));
    governor.settle(call, of(0), at(2_000));
    assert_eq!(governor.window_tokens(at(2_000)), 410);
}

#[test]
fn a_failed_call_stays_charged_and_a_released_one_does_not() {
    let mut governor = warm_governor(1_000, 0);
    let failed = governor.reserve(of(300), at(1_000));
    let released = governor.reserve(of(200), at(1_000));
    governor.fail(failed, DOWN, at(1_500));
    governor.release(released, at(1_500));
    assert_eq!(governor.window_tokens(at(1_500)), 310);
    assert_eq!(governor.in_flight(), 0);
}

#[test]
fn charges_of_an_earlier_run_count_until_they_have_left() {
    let mut governor = governor(1_000, 0);
    let past = |seconds, tokens| PastCharge {
        age: Duration::from_secs(seconds),
        charge: of(tokens).into(),
    };
    governor.restore([past(10, 600), past(50, 300), past(70, 900)], at(0));
    assert_eq!(governor.window_tokens(at(0)), 900);
    assert_eq!(starts_at(&mut governor, 200, at(0)), at(11_010));
    assert_eq!(starts_at(&mut governor, 900, at(0)), at(51_010));
}

#[test]
fn a_429_holds_every_call_and_lowers_the_ceiling_for_a_while() {
    let mut governor = warm_governor(1_000, 0);
    let call = governor.reserve(of(10), at(1_000));
    let limited =
        Failure::RateLimited { retry_after: Some(Duration::from_secs(5)), had_room: false };
    let retry_in = governor.fail(call, limited, at(2_000)).unwrap();
    assert!((5_000..=5_250).contains(&(retry_in.as_millis() as u64)), "{retry_in:?}");
    assert_eq!(wait(&mut governor, 10, at(6_900)), Some(WaitFor::RetryAfter));
    assert_eq!(governor.failing_since(), None, "being told to wait is no failure");
    // All of it fits only when the ceiling is whole again, a minute after the 429.
    assert_eq!(starts_at(&mut governor, 1_000, at(61_000)), at(62_000));
}

#[test]
fn one_500_among_replies_delays_nobody_else() {
    let mut governor = warm_governor(1_000_000, 0);
    let failed = governor.reserve(of(10), at(1_000));
    let retry_in = governor.fail(failed, DOWN, at(2_000)).unwrap();
    assert!(retry_in <= Duration::from_secs(1));
    assert_eq!(governor.admit(of(10), at(2_000)), Admission::Start);
    assert_eq!(governor.failing_since(), Some(at(2_000)));
}

#[test]
fn an_outage_lets_one_probe_through_at_a_time_until_one_is_answered() {
    let mut governor = warm_governor(1_000_000, 0);
    let mut now = at(1_000);
    for _ in 0..5 {
        now = starts_at(&mut governor, 10, now);
        let call = governor.reserve(of(10), now);
        now = now + Duration::from_secs(1);
        governor.fail(call, DOWN, now);
    }
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let started = starts_at(&mut governor, 10, now);
        longest = longest.max(started.since(now));
        let probe = governor.reserve(of(10), started);
        assert_eq!(wait(&mut governor, 10, started), Some(WaitFor::Replies));
        now = started + Duration::from_secs(1);
        let retry_in = governor.fail(probe, DOWN, now).unwrap();
        assert!(retry_in >= starts_at(&mut governor, 10, now).since(now));
    }
    assert!(longest > Duration::from_secs(10) && longest <= Duration::from_secs(60));
    assert_eq!(governor.failing_since(), Some(at(2_000)));
    let started = starts_at(&mut governor, 10, now);
    let probe = governor.reserve(of(10), started);
    now = started + Duration::from_secs(1);
    governor.settle(probe, of(10), now);
    assert_eq!(governor.failing_since(), None);
    assert_eq!(governor.admit(of(10), now), Admission::Start);
    governor.reserve(of(10), now);
    assert!(starts_at(&mut governor, 10, now).since(now) < Duration::from_millis(2));
}

#[test]
fn headers_that_show_another_user_lower_the_ceiling_and_our_own_calls_do_not() {
    let mut governor = warm_governor(1_000, 0);
    let call = governor.reserve(of(190), at(1_000));
    let left = |tokens| {
        let tokens = Reading { remaining: Some(tokens), ..Reading::default() };
        RateHeaders { tokens, ..RateHeaders::default() }
    };
    // 200 of ours in the window: 800 left are all.
    governor.observe(call, &left(800), at(13_000));
    governor.settle(call, of(190), at(13_000));
    assert_eq!(starts_at(&mut governor, 800, at(13_000)), at(13_000));
    // 300 left: somebody else has 500. Forgotten after a minute.
    governor.observe(call, &left(300), at(13_000));
    assert_eq!(starts_at(&mut governor, 276, at(13_000)), at(13_000));
    assert_eq!(starts_at(&mut governor, 277, at(13_000)), at(60_110));
}

#[test]
fn a_limit_in_the_headers_paces_even_where_the_user_set_none() {
    let mut governor = warm_governor(0, 0);
    let call = governor.reserve(of(500), at(1_000));
    let tokens = Reading { limit: Some(1_000), ..Reading::default() };
    let headers = RateHeaders { tokens, ..RateHeaders::default() };
    governor.observe(call, &headers, at(2_000));
    governor.settle(call, of(500), at(2_000));
    assert_eq!(starts_at(&mut governor, 600, at(2_000)), at(61_260));
}

#[test]
fn a_filling_window_tells_its_marks() {
    let mut governor = warm_governor(1_000, 0);
    governor.reserve(of(850), at(1_000));
    governor.reserve(of(110), at(2_000));
    let percents: Vec<u8> = governor.take_marks().iter().map(|mark| mark.percent).collect();
    assert_eq!(percents, [85, 95]);
    assert!(governor.take_marks().is_empty());
}
