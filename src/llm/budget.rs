//! What a job may cost: a call starts only if everything that it can possibly be billed for still
//! fits, beside what is spent and what calls in flight can be billed for.
//!
//! Pure. Sums are exact, so a bound is met to the last token and never passed.

use std::collections::BTreeMap;
use std::fmt;

use super::provider::ProviderError;
use crate::domain::spec::BudgetSpec;
use crate::domain::{Billed, Dollars, Price};

/// The ledger of a job's whole life, against its bounds.
#[derive(Clone, Debug)]
pub struct Budget {
    spec: BudgetSpec,
    /// What is billed for certain, over all runs; calls that ended without an account of it in the
    /// worst case.
    spent: Billed,
    /// The worst case of each call in flight, by its number.
    in_flight: BTreeMap<u64, Billed>,
    reserved: Billed,
}

/// Whether a call fits under the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does, whatever becomes of the calls in flight.
    Fits,
    /// Not beside the worst case of the calls in flight; when they end there may be room.
    Later,
    /// Not even alone.
    Full(BoundName),
}

/// One of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundName {
    /// `max_cost`.
    Cost,
    /// `max_tokens`.
    Tokens,
}

impl BoundName {
    /// Its key in `[limits]`.
    pub fn key(self) -> &'static str {
        match self {
            BoundName::Cost => "max_cost",
            BoundName::Tokens => "max_tokens",
        }
    }
}

/// A bound that has no room for another row, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Which bound.
    pub bound: BoundName,
    /// What it allows, in words.
    pub most: String,
    /// What is spent of it, in words.
    pub spent: String,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exhausted { bound, most, spent } = self;
        write!(
            f,
            "limits.{} of {most} has no room for another row: {spent} are spent over the whole life \
             of this job; raise it to go on",
            bound.key()
        )
    }
}

/// What a call is billed for that failed so, where it could be billed for `most`: nothing, if it was
/// turned down before anything was made of it; the prompt, if it was turned down for what is in it,
/// since some providers (Azure) bill the reading; everything, if an answer may have been made.
pub fn billed_of_failure(error: &ProviderError, most: Billed) -> Billed {
    match error {
        ProviderError::ParameterRefused { .. }
        | ProviderError::RateLimited { .. }
        | ProviderError::OutOfQuota { .. }
        | ProviderError::Rejected { .. }
        | ProviderError::ServerError { status: 300..400, .. }
        | ProviderError::Connection { was_sent: false, .. } => Billed::NOTHING,
        ProviderError::ContentRefused | ProviderError::TooLong => Billed { completion: 0, ..most },
        ProviderError::ServerError { .. }
        | ProviderError::Connection { was_sent: true, .. }
        | ProviderError::Timeout { .. } => most,
    }
}

impl Budget {
    /// The ledger of a job for which `spent` was billed before this run.
    pub fn new(spec: BudgetSpec, spent: Billed) -> Budget {
        Budget { spec, spent, in_flight: BTreeMap::new(), reserved: Billed::NOTHING }
    }

    /// Whether a call that is billed for `worst` at the most may start now.
    pub fn room_for(&self, worst: Billed) -> Room {
        if self.passed_by(self.spent + self.reserved + worst).is_none() {
            return Room::Fits;
        }
        match self.passed_by(self.spent + worst) {
            Some(bound) if self.in_flight.is_empty() => Room::Full(bound),
            _ => Room::Later,
        }
    }

    /// Whether there is any bound.
    pub fn is_bounded(&self) -> bool {
        self.spec.max_cost.is_some() || self.spec.max_tokens.is_some()
    }

    /// The bound that `billed` passes, if it passes one.
    fn passed_by(&self, billed: Billed) -> Option<BoundName> {
        let passes_cost = self.spec.max_cost.is_some_and(|most| self.cost(&billed) > most);
        let passes_tokens = self.spec.max_tokens.is_some_and(|most| billed.tokens() > most.get());
        match (passes_cost, passes_tokens) {
            (true, _) => Some(BoundName::Cost),
            (false, true) => Some(BoundName::Tokens),
            (false, false) => None,
        }
    }

    /// Reserves `worst` for call `call`, which is sent at this moment.
    pub fn reserve(&mut self, call: u64, worst: Billed) {
        self.settle(call, Billed::NOTHING);
        self.in_flight.insert(call, worst);
        self.reserved += worst;
    }

    /// Ends a call that is billed for `billed`. Ending one that is not in flight changes nothing.
    pub fn settle(&mut self, call: u64, billed: Billed) {
        if let Some(worst) = self.in_flight.remove(&call) {
            self.reserved = self.reserved.beyond(worst);
            self.spent += billed;
        }
    }

    /// What is billed for certain over the job's whole life, calls in flight left out.
    pub fn spent(&self) -> Billed {
        self.spent
    }

    /// What `billed` costs; nothing where there is no price.
    fn cost(&self, billed: &Billed) -> Dollars {
        self.spec.price.as_ref().map_or(Dollars::ZERO, |price| price.cost(billed))
    }

    /// A bound that is full, in words.
    pub fn exhausted(&self, bound: BoundName) -> Exhausted {
        let (most, spent) = match bound {
            BoundName::Cost => {
                let source = self.spec.price.as_ref().map_or("", |price: &Price| &price.source);
                let spent = format!("{} ({source})", self.cost(&self.spent));
                (self.spec.max_cost.unwrap_or_default().to_string(), spent)
            }
            BoundName::Tokens => {
                let most = self.spec.max_tokens.map_or(0, |most| most.get());
                (format!("{most} tokens"), format!("{} tokens", self.spent.tokens()))
            }
        };
        Exhausted { bound, most, spent }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::Tokens;

    fn price() -> Price {
        let of = |text| Dollars::parse(text).unwrap().a_millionth();
        Price {
            input: of("0.15"),
            cached_input: of("0.075"),
            cache_write: of("0.1875"),
            output: of("0.6"),
            source: "prices of some day".into(),
        }
    }

    fn spec(max_cost: Option<&str>, max_tokens: Option<u64>) -> BudgetSpec {
        BudgetSpec {
            max_cost: max_cost.and_then(Dollars::parse),
            max_tokens: max_tokens.and_then(NonZeroU64::new),
            price: Some(price()),
            ..BudgetSpec::default()
        }
    }

    fn call(prompt: u32, completion: u32) -> Billed {
        Billed::of_tokens(Tokens(prompt), Tokens(completion))
    }

    #[test]
    fn a_bound_is_met_to_the_last_token() {
        let mut budget = Budget::new(spec(None, Some(1_000)), Billed::NOTHING);
        assert_eq!(budget.room_for(call(900, 100)), Room::Fits);
        assert_eq!(budget.room_for(call(900, 101)), Room::Full(BoundName::Tokens));
        budget.reserve(1, call(500, 100));
        assert_eq!(budget.room_for(call(300, 100)), Room::Fits);
        assert_eq!(budget.room_for(call(300, 101)), Room::Later);
        budget.settle(1, call(500, 20));
        assert_eq!(budget.room_for(call(300, 180)), Room::Fits);
        assert_eq!(budget.room_for(call(300, 181)), Room::Full(BoundName::Tokens));
    }

    #[test]
    fn money_is_counted_without_rounding() {
        // 1,000 prompt tokens and 100 of a reply cost 0.00021 dollars.
        let budget = Budget::new(spec(Some("0.00021"), None), Billed::NOTHING);
        assert_eq!(budget.room_for(call(1_000, 100)), Room::Fits);
        assert_eq!(budget.room_for(call(1_001, 100)), Room::Full(BoundName::Cost));
        assert_eq!(budget.room_for(call(999, 100).all_written()), Room::Full(BoundName::Cost));
    }

    #[test]
    fn what_earlier_runs_spent_counts_under_a_bound_that_is_set_later() {
        let budget = Budget::new(spec(None, Some(1_000)), call(700, 250));
        assert_eq!(budget.room_for(call(40, 10)), Room::Fits);
        assert_eq!(budget.room_for(call(40, 11)), Room::Full(BoundName::Tokens));
        let words = budget.exhausted(BoundName::Tokens).to_string();
        assert_eq!(
            words,
            "limits.max_tokens of 1000 tokens has no room for another row: 950 tokens are spent over \
             the whole life of this job; raise it to go on"
        );
        let budget = Budget::new(spec(Some("0.01"), None), call(10_000, 10_000));
        assert_eq!(
            budget.exhausted(BoundName::Cost).to_string(),
            "limits.max_cost of $0.01 has no room for another row: $0.0075 (prices of some day) are \
             spent over the whole life of this job; raise it to go on"
        );
    }

    #[test]
    fn a_failure_is_billed_as_far_as_an_answer_may_have_been_made() {
        let most = call(800, 60);
        let message = String::new;
        let connection = |was_sent| ProviderError::Connection { message: message(), was_sent };
        let rejected = ProviderError::Rejected { status: 401, message: message() };
        let server_error =
            |status| ProviderError::ServerError { status, message: message(), retry_after: None };
        for (error, tokens) in [
            (rejected, 0),
            (server_error(302), 0),
            (server_error(502), 860),
            (ProviderError::RateLimited { retry_after: None, rate: Box::default() }, 0),
            (connection(false), 0),
            (ProviderError::ContentRefused, 800),
            (connection(true), 860),
            (ProviderError::Timeout { after: std::time::Duration::from_secs(1) }, 860),
        ] {
            assert_eq!(billed_of_failure(&error, most).tokens(), tokens, "{error:?}");
        }
    }

    #[test]
    fn without_bounds_everything_fits() {
        let budget = Budget::new(spec(None, None), call(u32::MAX, u32::MAX));
        assert_eq!(budget.room_for(call(u32::MAX, u32::MAX)), Room::Fits);
    }

    /// What becomes of a call: the share of its worst case that it is billed for, or all of it.
    #[derive(Clone, Debug)]
    struct Plan {
        prompt: u32,
        completion: u32,
        share: f64,
        fate: u8,
    }

    fn plans() -> impl Strategy<Value = Vec<Plan>> {
        let plan = (1_u32..2_000, 1_u32..400, 0.0_f64..=1.0, 0_u8..5);
        let plan = plan.prop_map(|(prompt, completion, share, fate)| Plan {
            prompt,
            completion,
            share,
            fate,
        });
        prop::collection::vec(plan, 1..120)
    }

    proptest! {
        /// Replies in any order, failures, missing usage and crashes: what the provider billed never
        /// passes a bound, and the job goes on until nothing fits any more.
        #[test]
        fn no_order_of_events_passes_a_bound(
            plans in plans(),
            picks in prop::collection::vec(any::<u16>(), 200),
            max_tokens in 1_000_u64..40_000,
            millionths in 200_u64..8_000,
        ) {
            let max_cost = format!("0.{millionths:06}");
            let spec = spec(Some(&max_cost), Some(max_tokens));
            let most = Dollars::parse(&max_cost).unwrap();
            let mut budget = Budget::new(spec.clone(), Billed::NOTHING);
            // What is really billed, and the journal: worst cases of open calls and settled ones.
            let mut billed = Billed::NOTHING;
            let mut open: Vec<(u64, Billed, Plan)> = Vec::new();
            let mut picks = picks.into_iter().cycle();
            let mut queue = plans.into_iter().zip(0_u64..).peekable();
            while let Some((plan, number)) = queue.peek().cloned() {
                let pick = usize::from(picks.next().unwrap());
                let worst = call(plan.prompt, plan.completion);
                let room = budget.room_for(worst);
                match room {
                    Room::Fits => {
                        budget.reserve(number, worst);
                        open.push((number, worst, plan));
                        queue.next();
                    }
                    Room::Later => prop_assert!(!open.is_empty()),
                    Room::Full(_) => {
                        prop_assert!(open.is_empty());
                        let with_it = budget.spent() + worst;
                        prop_assert!(
                            with_it.tokens() > max_tokens || price().cost(&with_it) > most
                        );
                        queue.next();
                    }
                }
                let must_end = room == Room::Later || pick % 3 == 0;
                if must_end && !open.is_empty() {
                    let (number, worst, plan) = open.swap_remove(pick % open.len());
                    let of = |tokens: u32| Tokens((f64::from(tokens) * plan.share) as u32);
                    let real = Billed::of_tokens(of(plan.prompt), of(plan.completion));
                    match plan.fate {
                        // Answered with usage; without; failed after sending; refused.
                        0 | 1 => { budget.settle(number, real); billed += real; }
                        2 => { budget.settle(number, worst); billed += real; }
                        3 => { budget.settle(number, worst); billed += worst; }
                        _ => budget.settle(number, Billed::NOTHING),
                    }
                }
                if pick % 17 == 0 {
                    // Killed: a new run finds what was settled, and open calls in the worst case.
                    let left: Billed = open.iter().map(|(_, worst, _)| *worst).sum();
                    billed += open.drain(..).map(|(_, worst, _)| worst).sum();
                    budget = Budget::new(spec.clone(), budget.spent() + left);
                }
                prop_assert!(billed.tokens() <= max_tokens);
                prop_assert!(price().cost(&billed) <= most);
            }
        }
    }
}
