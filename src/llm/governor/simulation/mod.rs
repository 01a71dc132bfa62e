//! The governor against a server that enforces its limits exactly and charges when a call arrives.
//!
//! Time is simulated: seven hours take about a second.

mod claims;
mod server;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::RangeInclusive;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::server::{Enforced, Server};
use super::*;
use crate::domain::Usage;

/// A world to run a governor in. Times are in milliseconds.
#[derive(Clone, Debug)]
struct World {
    /// What the governor is told.
    limits: Limits,
    /// What the server enforces.
    enforced: Vec<Enforced>,
    /// What calls really use, prompt and reply.
    tokens: RangeInclusive<u32>,
    /// The share of that which is the reply's, in thousandths.
    output: u32,
    /// By how many thousandths the estimate is above that.
    overestimate: RangeInclusive<i64>,
    transit: RangeInclusive<u64>,
    latency: RangeInclusive<u64>,
    /// How late the process wakes up.
    lateness: RangeInclusive<u64>,
    /// Of a thousand calls, how many fail after they were charged.
    failures: u32,
    /// The process is killed and started again this often.
    restart_every: Option<u64>,
    /// Somebody else sends calls of so many tokens this often.
    second_client: Option<(u64, RangeInclusive<u64>)>,
    /// Whether replies have rate headers.
    headers: bool,
    /// From when to when, minutes, the server allows only this share of its limits.
    change: Option<(u64, u64, f64)>,
    /// The time of day at the beginning.
    wall: UnixMillis,
    hours: f64,
    seed: u64,
}

/// A call as the journal would know it.
struct Sent {
    reservation: Reservation,
    charge: Charge,
    actual: Charge,
    process: u32,
    is_let_in: bool,
    headers: RateHeaders,
    retry_after: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival(usize),
    Reply(usize),
    Restart,
    Foreign,
    Change(bool),
}

type Agenda = BinaryHeap<Reverse<(Duration, Happening)>>;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs `world` to its end, with something to ask at all times.
fn run(world: &World) -> Server {
    let mut random = ChaCha8Rng::seed_from_u64(world.seed);
    let end = Duration::from_secs_f64(world.hours * 3600.0);
    let mut server = Server::new(&world.enforced);
    let mut governor = Governor::new(world.limits, world.seed, Moment::default(), world.wall);
    let mut calls: Vec<Sent> = Vec::new();
    let mut agenda = first_agenda(world);
    let mut process = 0;
    let mut now = Duration::ZERO;
    let mut promised = None;
    let mut next = next_call(world, &mut random);
    while now < end {
        let (actual, estimate) = next;
        let wake = match governor.admit(estimate, Moment(now)) {
            Admission::Start => {
                let reservation = governor.reserve(estimate, Moment(now));
                let latency = random.random_range(world.latency.clone());
                let transit = random.random_range(world.transit.clone()).min(latency);
                let number = calls.len();
                agenda.push(Reverse((now + millis(transit), Happening::Arrival(number))));
                agenda.push(Reverse((now + millis(latency.max(1)), Happening::Reply(number))));
                calls.push(Sent {
                    reservation,
                    charge: estimate,
                    actual,
                    process,
                    is_let_in: false,
                    headers: RateHeaders::default(),
                    retry_after: None,
                });
                next = next_call(world, &mut random);
                promised = None;
                continue;
            }
            Admission::Wait { until, wait } => {
                assert!(promised != Some(now), "{wait:?}: not admitted at the promised moment");
                assert!(until.is_none_or(|until| until.0 > now), "{wait:?} ends in the past");
                promised = until.filter(|_| wait != WaitFor::Replies).map(|until| until.0);
                until.map(|until| until.0 + millis(random.random_range(world.lateness.clone())))
            }
            Admission::Never { name, limit } => {
                panic!("{estimate:?} never fits in {limit} {name:?}")
            }
        };
        let happens = agenda.peek().map(|Reverse((at, _))| *at);
        match (wake, happens) {
            (Some(wake), happens) if happens.is_none_or(|at| wake < at) => now = wake,
            (_, Some(at)) => {
                now = at;
                promised = None;
                let Some(Reverse((_, happening))) = agenda.pop() else { continue };
                match happening {
                    Happening::Arrival(number) => {
                        let call = &mut calls[number];
                        call.is_let_in = server.arrive(now, call.actual.into());
                        call.headers = server.headers();
                        if world.headers && !call.is_let_in {
                            call.headers = call.headers.without_resets();
                            call.retry_after = Some(server.retry_after(now));
                        }
                        if !call.is_let_in {
                            // Nobody waits for a model to be turned away; a second end is none.
                            agenda.push(Reverse((now + millis(50), Happening::Reply(number))));
                        }
                    }
                    Happening::Reply(number) if calls[number].process == process => {
                        let is_failure = random.random_range(0..1000) < world.failures;
                        end_call(world, &mut governor, &mut calls[number], is_failure, now);
                    }
                    Happening::Reply(_) => {}
                    Happening::Restart => {
                        process += 1;
                        let wall = UnixMillis(world.wall.0 + now.as_millis() as u64);
                        governor = Governor::new(world.limits, world.seed, Moment(now), wall);
                        governor.restore(journaled(world, &calls, Moment(now)), Moment(now));
                        let every = millis(world.restart_every.unwrap_or_default());
                        agenda.push(Reverse((now + every, Happening::Restart)));
                    }
                    Happening::Foreign => {
                        if let Some((tokens, every)) = &world.second_client {
                            let charge =
                                ChargeSum { calls: 1, tokens: *tokens, ..ChargeSum::default() };
                            server.charge(now, charge);
                            let gap = random.random_range(every.clone());
                            agenda.push(Reverse((now + millis(gap), Happening::Foreign)));
                        }
                    }
                    Happening::Change(begins) => {
                        let share = world.change.map_or(1.0, |(_, _, share)| share);
                        server.scale(if begins { share } else { 1.0 / share });
                    }
                }
            }
            _ => panic!("waits for a reply with nothing in flight"),
        }
    }
    server
}

fn first_agenda(world: &World) -> Agenda {
    let mut agenda = Agenda::new();
    if let Some(every) = world.restart_every {
        agenda.push(Reverse((millis(every), Happening::Restart)));
    }
    if world.second_client.is_some() {
        agenda.push(Reverse((Duration::ZERO, Happening::Foreign)));
    }
    if let Some((from, to, _)) = world.change {
        agenda.push(Reverse((Duration::from_mins(from), Happening::Change(true))));
        agenda.push(Reverse((Duration::from_mins(to), Happening::Change(false))));
    }
    agenda
}

/// What the next call really counts, and what is expected of it.
fn next_call(world: &World, random: &mut ChaCha8Rng) -> (Charge, Charge) {
    let tokens = random.random_range(world.tokens.clone());
    let completion = (u64::from(tokens) * u64::from(world.output) / 1000) as u32;
    let most = Tokens(completion + completion / 10 + 16);
    let usage = |prompt: u32, completion: u32| Usage {
        prompt: Tokens(prompt),
        completion: Tokens(completion),
        ..Usage::default()
    };
    let over = random.random_range(world.overestimate.clone());
    let more = |tokens: u32| {
        let estimate = (i64::from(tokens) * (1000 + over) + 999) / 1000;
        u32::try_from(estimate).unwrap_or(u32::MAX)
    };
    let prompt = tokens - completion;
    let rules = world.limits.rules;
    let actual = rules.charge(&usage(prompt, completion), most);
    (actual, rules.charge(&usage(more(prompt), more(completion)), most))
}

fn end_call(
    world: &World,
    governor: &mut Governor,
    call: &mut Sent,
    is_failure: bool,
    now: Duration,
) {
    let now = Moment(now);
    if world.headers {
        governor.observe(call.reservation, &call.headers, now);
    }
    if !call.is_let_in {
        let had_room = world.headers && call.headers.have_room_for(call.charge);
        let limited = Failure::RateLimited { retry_after: call.retry_after, had_room };
        governor.fail(call.reservation, limited, now);
    } else if is_failure {
        governor.fail(call.reservation, Failure::Capacity { retry_after: None }, now);
    } else {
        call.charge = call.actual;
        governor.settle(call.reservation, call.charge, now);
    }
}

/// What the journal tells a new process: young calls one by one, older ones a minute at a time.
fn journaled(world: &World, calls: &[Sent], now: Moment) -> Vec<PastCharge> {
    let has_days = world.limits.requests_per_day.is_some() || world.limits.tokens_per_day.is_some();
    // Without a limit a day nothing older matters, and a test with many calls takes less time.
    let kept = if has_days { Duration::from_hours(26) } else { Duration::from_mins(4) };
    let mut past: Vec<PastCharge> = Vec::new();
    let mut minutes: BTreeMap<u64, (Duration, ChargeSum)> = BTreeMap::new();
    for call in calls.iter().rev() {
        let (sent, charge) = (call.reservation.sent, ChargeSum::from(call.charge));
        let age = now.since(sent);
        if age >= kept {
            break;
        }
        if age < Duration::from_mins(3) {
            past.push(PastCharge { age, charge });
        } else {
            let minute =
                minutes.entry(sent.0.as_secs() / 60).or_insert((age, ChargeSum::default()));
            minute.0 = minute.0.min(age);
            minute.1 += charge;
        }
    }
    past.extend(minutes.into_values().map(|(age, charge)| PastCharge { age, charge }));
    past
}
