//! What is claimed of pacing, held against the simulation.

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;

use super::server::Kind;
use super::*;
use crate::domain::limits::{ChargeRule, DayWindow, MinuteWindow};
use crate::llm::governor::vendors::VENDORS;

const LIMIT: u32 = 200_000;
/// Noon of some winter's day, UTC.
const NOON: UnixMillis = UnixMillis(1_768_478_400_000);

fn limits(tokens: u32, requests: u32) -> Limits {
    Limits {
        tokens_per_minute: NonZeroU32::new(tokens),
        requests_per_minute: NonZeroU32::new(requests),
        ..Limits::default()
    }
}

/// What a server does that keeps to the rules and limits which the governor was told. Its minute
/// begins 17 s after ours, its days so much after midnight as `skew` says, seconds.
fn as_told(limits: &Limits, skew: i64) -> Vec<Enforced> {
    let rules = limits.rules;
    let minute = match rules.minute_window {
        MinuteWindow::Rolling => Kind::Rolling(MINUTE),
        MinuteWindow::Fixed => Kind::Fixed(MINUTE, Duration::from_secs(17)),
        MinuteWindow::Bucket => Kind::Bucket(MINUTE),
    };
    let day = match rules.day_window {
        DayWindow::Rolling => Kind::Rolling(window::DAY),
        // From noon to midnight, and to midnight eight hours west.
        DayWindow::Utc => Kind::Fixed(window::DAY, seconds(43_200 + skew)),
        DayWindow::Pacific => Kind::Fixed(window::DAY, seconds(72_000 + skew)),
    };
    let mut enforced = Vec::new();
    let mut add = |name: LimitName, limit: Option<u64>, slice: Option<Duration>| {
        let Some(limit) = limit else { return };
        let kind = if name.is_daily() { day } else { minute };
        enforced.push(Enforced { name, limit, kind });
        if let Some(slice) = slice {
            let part = limit * slice.as_secs() / 60;
            if part > 0 {
                enforced.push(Enforced { name, limit: part, kind: Kind::Rolling(slice) });
            }
        }
    };
    let wide = |limit: Option<NonZeroU32>| limit.map(|limit| u64::from(limit.get()));
    let (tokens, requests) = (rules.token_slice, rules.request_slice);
    add(LimitName::TokensPerMinute, wide(limits.tokens_per_minute), tokens);
    add(LimitName::RequestsPerMinute, wide(limits.requests_per_minute), requests);
    add(LimitName::InputTokensPerMinute, wide(limits.input_tokens_per_minute), tokens);
    add(LimitName::OutputTokensPerMinute, wide(limits.output_tokens_per_minute), tokens);
    add(LimitName::RequestsPerDay, limits.requests_per_day.map(NonZeroU64::get), None);
    add(LimitName::TokensPerDay, limits.tokens_per_day.map(NonZeroU64::get), None);
    enforced
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds as u64)
}

impl World {
    fn new(tokens: u32, latency: u64) -> World {
        World::within(limits(LIMIT, 0), tokens, latency)
    }

    /// A world whose server enforces what the governor is told.
    fn within(limits: Limits, tokens: u32, latency: u64) -> World {
        World {
            enforced: as_told(&limits, 0),
            limits,
            tokens: tokens..=tokens,
            output: 85,
            overestimate: 0..=0,
            transit: 0..=200,
            latency: latency..=latency,
            lateness: 0..=3,
            failures: 0,
            restart_every: None,
            second_client: None,
            headers: false,
            change: None,
            wall: NOON,
            hours: 1.0,
            seed: 1,
        }
    }
}

/// Tokens after the first minute as a share of the limit.
fn share_of_limit(world: &World, server: &Server) -> f64 {
    let minutes = world.hours * 60.0 - 1.0;
    server.charged.tokens as f64 / (minutes * f64::from(LIMIT))
}

/// The share of the limit that whole calls of this size can fill.
fn whole_calls(tokens: u32) -> f64 {
    f64::from(LIMIT / tokens * tokens) / f64::from(LIMIT)
}

#[test]
fn ninety_eight_percent_of_the_limit_is_used_at_any_latency_and_no_call_is_turned_away() {
    for tokens in [1_200, 1_850, 3_000] {
        for latency in [10, 300, 3_000, 30_000] {
            for overestimate in [0..=0, 0..=30] {
                let world = World { overestimate, ..World::new(tokens, latency) };
                let server = run(&world);
                let share = share_of_limit(&world, &server) / whole_calls(tokens);
                assert!(share >= 0.98, "{share:.4} of whole calls in {world:?}");
                assert_eq!(server.turned_away, 0, "{world:?}");
            }
        }
    }
}

/// Calls of 80-100 % of `tokens`, with estimates that err by up to 3 % both ways.
fn uneven_world(tokens: u32, latency: u64) -> World {
    let tokens = tokens * 8 / 10..=tokens;
    World { tokens, overestimate: -30..=30, ..World::new(0, latency) }
}

#[test]
fn shares_of_the_limit_that_the_documentation_quotes() {
    let mut table = String::new();
    for tokens in [1_200, 1_850, 3_000] {
        let shares = [300, 3_000, 30_000].map(|latency| {
            let world = uneven_world(tokens, latency);
            let server = run(&world);
            assert_eq!(server.turned_away, 0, "{world:?}");
            format!("{:.1} %", 100.0 * share_of_limit(&world, &server))
        });
        table += &format!("| {tokens} | {} |\n", shares.join(" | "));
    }
    insta::assert_snapshot!(table, @"
    | 1200 | 99.3 % | 99.1 % | 98.9 % |
    | 1850 | 99.0 % | 99.0 % | 98.6 % |
    | 3000 | 98.7 % | 98.6 % | 98.1 % |
    ");
}

#[test]
fn seven_hours_pass_by_every_vendors_rules_without_drift() {
    for it in VENDORS {
        let limits = Limits {
            rules: it.rules,
            input_tokens_per_minute: NonZeroU32::new(LIMIT),
            output_tokens_per_minute: NonZeroU32::new(LIMIT / 10),
            requests_per_day: NonZeroU64::new(170_000),
            tokens_per_day: NonZeroU64::new(u64::from(LIMIT) * 1440),
            ..limits(LIMIT, 500)
        };
        let tokens = 1_480..=1_850;
        let world = World {
            tokens,
            overestimate: -30..=30,
            latency: 10..=30_000,
            hours: 7.0,
            ..World::within(limits, 0, 0)
        };
        let server = run(&world);
        let share = share_of_limit(&world, &server);
        assert!(share >= 0.98, "{share:.4} with {:?}", it.vendor);
        assert_eq!(server.turned_away, 0, "{:?}", it.vendor);
    }
}

#[test]
fn a_bucket_is_filled_by_calls_that_are_large_beside_it() {
    let rules = Rules { minute_window: MinuteWindow::Bucket, ..Rules::default() };
    for tokens in [1_850, 45_000, 90_000] {
        for latency in [300, 30_000] {
            let limits = Limits { rules, ..limits(LIMIT, 0) };
            let world = World { overestimate: 0..=30, ..World::within(limits, tokens, latency) };
            let server = run(&world);
            let share = share_of_limit(&world, &server);
            assert!(share >= 0.98, "{share:.4} {tokens} {latency}");
            assert_eq!(server.turned_away, 0, "{tokens} {latency}");
        }
    }
}

#[test]
fn with_slices_97_per_cent_of_whole_calls_are_used_and_no_slice_is_exceeded() {
    let slice = Duration::from_secs(10);
    for tokens in [1_200, 1_850, 3_000] {
        for latency in [300, 3_000, 30_000] {
            let rules =
                Rules { token_slice: Some(slice), request_slice: Some(slice), ..Rules::default() };
            let limits = Limits { rules, ..limits(LIMIT, 600) };
            let world = World::within(limits, tokens, latency);
            let server = run(&world);
            let whole = f64::from(LIMIT / 6 / tokens * tokens * 6) / f64::from(LIMIT);
            let share = share_of_limit(&world, &server) / whole;
            assert!(share >= 0.97, "{share:.4} {tokens} {latency}");
            assert_eq!(server.turned_away, 0, "{tokens} {latency}");
        }
    }
}

#[test]
fn every_day_is_used_up_and_no_day_is_exceeded() {
    for (day_window, skew) in [
        (DayWindow::Rolling, 0),
        (DayWindow::Utc, -100),
        (DayWindow::Utc, 100),
        (DayWindow::Pacific, 0),
    ] {
        for (requests, tokens) in [(2_000, 0), (0, 4_000_000)] {
            let limits = Limits {
                rules: Rules { day_window, ..Rules::default() },
                requests_per_day: NonZeroU64::new(requests),
                tokens_per_day: NonZeroU64::new(tokens),
                ..limits(LIMIT, 0)
            };
            let world = World {
                enforced: as_told(&limits, skew),
                hours: 100.0,
                // Killed at all times of the day.
                restart_every: Some(13_000_000),
                ..World::within(limits, 1_850, 3_000)
            };
            let server = run(&world);
            assert_eq!(server.turned_away, 0, "{day_window:?} {skew}");
            // 100 hours from noon hold four whole rolling days, and touch five of a calendar's.
            let days = if day_window == DayWindow::Rolling { 4.0 } else { 5.0 };
            let most = if requests > 0 { requests * 1_850 } else { tokens };
            let all: u64 = server.tokens_by_minute.iter().sum();
            let share = all as f64 / (most as f64 * days);
            assert!(share >= 0.98, "{share:.4} {day_window:?} {requests} {tokens}");
        }
    }
}

#[test]
fn estimates_that_are_always_too_low_are_found_out() {
    for latency in [300, 3_000, 30_000] {
        let world = World { overestimate: -150..=-50, ..World::new(1_850, latency) };
        let server = run(&world);
        assert!(server.turned_away <= 20, "{} {world:?}", server.turned_away);
        let share = share_of_limit(&world, &server);
        assert!(share >= 0.97, "{share} {world:?}");
    }
}

#[test]
fn a_limit_on_requests_is_used_and_held_too() {
    for (requests, latency) in [(500, 300), (500, 30_000), (60, 3_000), (3, 3_000)] {
        let world = World::within(limits(2_000_000, requests), 1_850, latency);
        let server = run(&world);
        assert_eq!(server.turned_away, 0, "{world:?}");
        let share = server.charged.calls as f64 / (f64::from(requests) * 59.0);
        assert!(share >= 0.98, "{share} {world:?}");
    }
}

#[test]
fn headers_of_a_server_that_is_ours_alone_cost_nothing() {
    for (tokens, requests, latency) in [(LIMIT, 500, 300), (LIMIT, 500, 30_000), (LIMIT, 3, 3_000)]
    {
        let world =
            World { headers: true, ..World::within(limits(tokens, requests), 1_850, latency) };
        let server = run(&world);
        let whole = (f64::from(LIMIT) * whole_calls(1_850)).min(f64::from(requests) * 1_850.0);
        let share = share_of_limit(&world, &server) / (whole / f64::from(LIMIT));
        assert!(share >= 0.98, "{share:.4} {requests} {latency}");
        assert_eq!(server.turned_away, 0);
    }
}

#[test]
fn limits_on_input_and_output_are_held_apart() {
    let base = Limits {
        rules: Rules { minute_window: MinuteWindow::Bucket, ..Rules::default() },
        input_tokens_per_minute: NonZeroU32::new(LIMIT),
        output_tokens_per_minute: NonZeroU32::new(20_000),
        ..Limits::default()
    };
    for (output, share_of) in [(50, 0.95), (400, 0.25)] {
        let world = World { output, ..World::within(base, 1_850, 3_000) };
        let server = run(&world);
        let share = share_of_limit(&world, &server) * if output == 50 { 0.95 } else { 1.0 };
        // With 5 % output the input is what binds, with 40 % the output.
        let bound = if output == 50 { 1.0 } else { share_of };
        assert!(share >= 0.98 * bound, "{share:.4} {output}");
        assert_eq!(server.turned_away, 0);
    }
}

#[test]
fn no_second_is_a_burst() {
    for latency in [10, 3_000, 30_000] {
        let world = World { lateness: 0..=0, ..World::new(1_850, latency) };
        let most = run(&world).most_in_a_second();
        // 1.8 calls a second on average; transit may bring neighbours together.
        assert!(most <= 4, "{most} {world:?}");
    }
}

#[test]
fn a_few_failures_among_replies_cost_only_their_own_tokens() {
    let world = World { failures: 50, ..World::new(1_850, 3_000) };
    let server = run(&world);
    let share = share_of_limit(&world, &server) / whole_calls(1_850);
    assert!(share >= 0.98, "{share}");
    assert_eq!(server.turned_away, 0);
}

/// Somebody who takes a fifth or half of the limit in calls of their own size.
fn beside(share: f64, headers: bool, latency: u64) -> World {
    let every = (1_500.0 / (f64::from(LIMIT) * share) * 60_000.0) as u64;
    let second_client = Some((1_500, every / 2..=every * 3 / 2));
    World { second_client, headers, ..World::new(1_850, latency) }
}

#[test]
fn beside_another_user_headers_leave_few_calls_to_be_turned_away() {
    for (theirs, latency) in [(0.2, 300), (0.5, 300), (0.5, 3_000), (0.5, 30_000)] {
        let (mut share, mut turned_away, mut calls) = (0.0, 0, 0);
        let worlds = 6;
        for seed in 0..worlds {
            let world = World { seed, hours: 0.5, ..beside(theirs, true, latency) };
            let server = run(&world);
            share += share_of_limit(&world, &server) / (1.0 - theirs) / worlds as f64;
            turned_away += server.turned_away;
            calls += server.charged.calls;
        }
        let turned_away = turned_away as f64 / calls as f64;
        assert!(share >= 0.9, "{share:.4} {theirs} {latency}");
        assert!(turned_away <= 0.01, "{turned_away:.4} {theirs} {latency}");
    }
}

#[test]
fn beside_another_user_without_headers_a_minute_passes_from_one_429_to_the_next() {
    for theirs in [0.2, 0.5] {
        let world = beside(theirs, false, 300);
        let server = run(&world);
        let share = share_of_limit(&world, &server) / (1.0 - theirs);
        assert!(share >= 0.85, "{share:.4} {theirs}");
        assert!(server.turned_away <= 90, "{} {theirs}", server.turned_away);
    }
}

#[test]
fn a_minute_after_a_change_95_per_cent_of_the_new_limit_are_used() {
    for headers in [true, false] {
        for share in [0.5, 0.8] {
            let world =
                World { headers, change: Some((10, 25, share)), ..World::new(1_850, 3_000) };
            let server = run(&world);
            let minutes = |range: std::ops::Range<usize>| {
                let tokens: u64 = server.tokens_by_minute[range.clone()].iter().sum();
                tokens as f64 / (range.len() as f64 * f64::from(LIMIT))
            };
            let raised = minutes(26..36);
            assert!(raised >= 0.95, "{raised:.4} after it rose, {headers} {share}");
            let lowered = minutes(11..25) / share;
            let least = if headers { 0.95 } else { 0.85 };
            assert!(lowered >= least, "{lowered:.4} after it fell, {headers} {share}");
        }
    }
}

/// Any window, any rule.
fn any_rules() -> impl Strategy<Value = Rules> {
    let slice = || prop::option::of(prop_oneof![Just(1_u64), Just(10), 2..59_u64]);
    let minute = prop_oneof![
        Just(MinuteWindow::Rolling),
        Just(MinuteWindow::Fixed),
        Just(MinuteWindow::Bucket)
    ];
    let day = prop_oneof![Just(DayWindow::Rolling), Just(DayWindow::Utc), Just(DayWindow::Pacific)];
    let charge = prop_oneof![
        Just(ChargeRule::Usage),
        Just(ChargeRule::Max),
        Just(ChargeRule::Sum),
        Just(ChargeRule::Input)
    ];
    (minute, day, charge, slice(), slice()).prop_map(|(minute, day, charge, tokens, requests)| {
        Rules {
            minute_window: minute,
            day_window: day,
            charge_rule: charge,
            token_slice: tokens.map(Duration::from_secs),
            request_slice: requests.map(Duration::from_secs),
            ..Rules::default()
        }
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let minute = || prop_oneof![1 => Just(0), 1 => 60_000..=3_000_000_u32];
    let requests = prop_oneof![2 => Just(0), 1 => 1..=2_000_u32];
    let day = prop_oneof![2 => Just(0), 1 => 1..=3_000_u64];
    (any_rules(), minute(), minute(), minute(), requests, day.clone(), day).prop_map(
        |(rules, tokens, input, output, requests, requests_a_day, thousands_a_day)| Limits {
            rules,
            input_tokens_per_minute: NonZeroU32::new(input),
            output_tokens_per_minute: NonZeroU32::new(output),
            requests_per_day: NonZeroU64::new(requests_a_day),
            tokens_per_day: NonZeroU64::new(thousands_a_day * 1_000),
            ..limits(tokens.max(60_000), requests)
        },
    )
}

fn tokens_per_minute(limits: &Limits) -> u32 {
    limits.tokens_per_minute.map_or(0, NonZeroU32::get)
}

/// A world whose estimates are never too low.
fn any_world() -> impl Strategy<Value = World> {
    let size = (100_u32..=60_000).prop_flat_map(|most| (1..=most, Just(most)));
    let latency = (10_u64..=30_000).prop_flat_map(|most| (10..=most, Just(most)));
    let restart = prop_oneof![Just(None), (500_u64..=200_000).prop_map(Some)];
    // Twelve minutes around a midnight, here or in California, or none.
    let wall = prop_oneof![
        Just(NOON),
        (0..600_000_u64).prop_map(|before| UnixMillis(NOON.0 + 43_200_000 - before)),
        (0..600_000_u64).prop_map(|before| UnixMillis(NOON.0 + 72_000_000 - before)),
    ];
    let rest = (0..=30_i64, 0..=500_u32, restart, 0..=50_u64, 0..=900_u32, wall, -100..=100_i64);
    (any_limits(), size, latency, rest, any::<u64>()).prop_map(
        |(
            limits,
            size,
            latency,
            (over, failures, restart_every, late, output, wall, skew),
            seed,
        )| {
            let base = World::within(limits, 1, 1);
            // Calls as large as the packer makes them.
            let largest = base.enforced.iter().filter(|it| !it.name.counts_requests());
            let largest = largest.map(|it| it.limit).min().unwrap_or(u64::MAX) * 4 / 10;
            let most = size.1.min(u32::try_from(largest).unwrap_or(u32::MAX)).max(20);
            // Some two thousand calls a minute are enough to find a fault with.
            let least = (tokens_per_minute(&limits) / 2_000).clamp(size.0.min(most), most);
            let shift = wall.0 as i64 - NOON.0 as i64;
            let enforced = as_told(&limits, skew).into_iter().map(|mut it| {
                if let Kind::Fixed(span, first) = &mut it.kind
                    && it.name.is_daily()
                {
                    let first_at = first.as_secs() as i64 - shift / 1_000;
                    *first = seconds(first_at.rem_euclid(span.as_secs() as i64));
                }
                it
            });
            World {
                enforced: enforced.collect(),
                tokens: least..=most,
                output,
                overestimate: 0..=over,
                latency: latency.0..=latency.1,
                lateness: 0..=late,
                failures,
                restart_every,
                wall,
                hours: 0.2,
                seed,
                ..base
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_minute_no_day_and_no_slice_at_the_server_is_ever_over_its_limit(world in any_world()) {
        let server = run(&world);
        prop_assert_eq!(server.turned_away, 0);
        prop_assert!(!server.arrivals.is_empty() || world.restart_every.is_some());
    }
}
