//! How much room a reply gets, and how much a call is expected to be charged, learned from what
//! earlier calls used.
//!
//! Pure. The room is tight, because providers charge it on admission, but it never loses an
//! answer twice for the same want of room: hidden reasoning that was seen is provided for.

use crate::domain::{Tokens, Usage};

/// Beyond the expected answer, for a closing brace or a stray line break.
const SLACK: u32 = 16;

/// Room for hidden reasoning before any reply told how much there is.
const FIRST_REASONING_ROOM: f64 = 1024.0;

/// The least that a cut reply adds to the room.
const LEAST_RAISE: f64 = 256.0;

/// A hidden prompt of a gateway or a tokenizer of its own may add this much, tokens, and no more.
const ODD_PROMPT: u64 = 4096;

/// The share of a new observation in a moving average, once there are enough of them.
const SMOOTHING: f64 = 0.1;

/// Sets `max_completion_tokens` and estimates what a call is charged.
#[derive(Clone, Debug)]
pub struct OutputBudget {
    most: Tokens,
    /// Tokens beyond the expected answer: jumps to a new peak, shrinks slowly.
    room: f64,
    prompt: PromptCharge,
    /// Visible reply tokens for each expected one.
    answer_ratio: Average,
    /// Hidden reasoning tokens of a call.
    reasoning: Average,
    /// The share of a prompt that comes from the provider's cache.
    cached_share: Average,
}

/// How the provider's count of a prompt follows from ours: `charged = ratio * counted + constant`.
/// The constant holds a schema that is charged, the ratio another tokenizer.
#[derive(Clone, Debug, Default)]
struct PromptCharge {
    counted: Average,
    charged: Average,
    variance: f64,
    covariance: f64,
}

/// A mean that forgets: exact for the first few observations, exponential afterwards.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    value: f64,
    seen: u32,
}

impl OutputBudget {
    /// A budget for a model that takes at most `most` tokens of output. A model that is known to
    /// reason gets room for it from the start.
    pub fn new(most: Tokens, is_reasoning_model: bool) -> OutputBudget {
        OutputBudget {
            most,
            room: if is_reasoning_model { FIRST_REASONING_ROOM } else { 0.0 },
            prompt: PromptCharge::default(),
            answer_ratio: Average::default(),
            reasoning: Average::default(),
            cached_share: Average::default(),
        }
    }

    /// The limit for a reply whose answer is expected to take `answer` tokens: a tenth and
    /// 16 tokens more, and the room for hidden reasoning; at most the model's own limit, at
    /// least 1.
    pub fn max_completion_tokens(&self, answer: Tokens) -> Tokens {
        let tight = answer + Tokens(answer.0 / 10 + SLACK);
        (tight + Tokens(self.room.ceil() as u32)).min(self.most).max(Tokens(1))
    }

    /// What a call is expected to use: `prompt` as counted here, `answer` as expected.
    pub fn expected_usage(&self, prompt: Tokens, answer: Tokens) -> Usage {
        let ratio = if self.answer_ratio.seen == 0 { 1.0 } else { self.answer_ratio.value };
        let reply = f64::from(answer.0) * ratio + self.reasoning.value;
        let prompt = self.estimate_prompt(prompt);
        Usage {
            prompt,
            completion: Tokens(reply.ceil() as u32).min(self.max_completion_tokens(answer)),
            reasoning: Tokens(self.reasoning.value.round() as u32),
            cached: Tokens((f64::from(prompt.0) * self.cached_share.value) as u32),
            written: Tokens::ZERO,
        }
    }

    /// What the provider is expected to charge for a prompt that was counted as `prompt` here.
    pub fn estimate_prompt(&self, prompt: Tokens) -> Tokens {
        Tokens(self.prompt.predict(f64::from(prompt.0)).round() as u32)
    }

    /// Learns from a reply to a call with `prompt` tokens as counted here, whose answer was
    /// expected to take `answer` tokens.
    ///
    /// A usage that can't be true is passed over: believed, it would make every later call look
    /// too large.
    pub fn learn(&mut self, prompt: Tokens, answer: Tokens, usage: &Usage) {
        let most_prompt = u64::from(prompt.0) * 8 + ODD_PROMPT;
        if u64::from(usage.prompt.0) > most_prompt || usage.completion > self.most {
            return;
        }
        if usage.prompt > Tokens::ZERO && prompt > Tokens::ZERO {
            self.prompt.learn(f64::from(prompt.0), f64::from(usage.prompt.0));
            let cached = f64::from(usage.cached.0.min(usage.prompt.0));
            self.cached_share.learn(cached / f64::from(usage.prompt.0));
        }
        if answer == Tokens::ZERO {
            return;
        }
        let visible = usage.completion.saturating_sub(usage.reasoning);
        self.answer_ratio.learn(f64::from(visible.0) / f64::from(answer.0));
        self.reasoning.learn(f64::from(usage.reasoning.0));
        // Services that don't report reasoning show it as an answer that is far too long.
        let beyond = usage.reasoning.max(usage.completion.saturating_sub(answer));
        let beyond = f64::from(beyond.0);
        let spare = beyond + beyond / 4.0;
        self.room = spare.max(self.room + SMOOTHING * (spare - self.room));
    }

    /// Makes more room after a reply was cut at `sent` tokens without one complete answer. The
    /// answer was expected to take `answer` tokens. Many replies cut at the same limit raise it
    /// once.
    ///
    /// Returns whether the next such call has more room: if not, the model's limit is reached.
    pub fn raise(&mut self, answer: Tokens, sent: Tokens) -> bool {
        // Every try is paid for, and what the reply had used when it was cut says little of what it
        // needs: from 200 to 16,000 tokens in three tries.
        let raised = (f64::from(sent.0) * 4.0).max(f64::from(sent.0) + LEAST_RAISE);
        if f64::from(self.max_completion_tokens(answer).0) < raised {
            self.room = raised.min(f64::from(self.most.0));
        }
        self.max_completion_tokens(answer) > sent
    }
}

impl PromptCharge {
    fn learn(&mut self, counted: f64, charged: f64) {
        let weight = self.counted.next_weight();
        let (from_counted, from_charged) =
            (counted - self.counted.value, charged - self.charged.value);
        self.variance = (1.0 - weight) * (self.variance + weight * from_counted * from_counted);
        self.covariance = (1.0 - weight) * (self.covariance + weight * from_counted * from_charged);
        self.counted.learn(counted);
        self.charged.learn(charged);
    }

    fn predict(&self, counted: f64) -> f64 {
        if self.counted.seen == 0 {
            return counted;
        }
        // Calls of one size tell nothing of the ratio, so it leans towards 1 until sizes differ.
        let lean = (0.05 * self.counted.value).powi(2);
        let ratio = ((self.covariance + lean) / (self.variance + lean)).clamp(0.25, 4.0);
        (self.charged.value + ratio * (counted - self.counted.value)).max(1.0)
    }
}

impl Average {
    fn next_weight(self) -> f64 {
        (1.0 / (f64::from(self.seen) + 1.0)).max(SMOOTHING)
    }

    fn learn(&mut self, value: f64) {
        self.value += self.next_weight() * (value - self.value);
        self.seen = self.seen.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: Tokens = Tokens(16_384);

    fn usage(prompt: u32, completion: u32, reasoning: u32) -> Usage {
        Usage {
            prompt: Tokens(prompt),
            completion: Tokens(completion),
            reasoning: Tokens(reasoning),
            cached: Tokens::ZERO,
            written: Tokens::ZERO,
        }
    }

    #[test]
    fn a_usage_that_cannot_be_true_teaches_nothing() {
        let mut budget = OutputBudget::new(Tokens(1000), false);
        let before = budget.expected_usage(Tokens(700), Tokens(50)).total();
        for (prompt, completion) in [(u32::MAX, 50), (700, 5000)] {
            let usage = Usage {
                prompt: Tokens(prompt),
                completion: Tokens(completion),
                ..Usage::default()
            };
            budget.learn(Tokens(700), Tokens(50), &usage);
        }
        assert_eq!(budget.expected_usage(Tokens(700), Tokens(50)).total(), before);
    }

    #[test]
    fn the_room_is_a_tenth_and_a_little() {
        let budget = OutputBudget::new(MOST, false);
        assert_eq!(budget.max_completion_tokens(Tokens(160)), Tokens(192));
        assert_eq!(budget.max_completion_tokens(Tokens(50_000)), MOST);
    }

    #[test]
    fn a_charged_schema_is_known_after_one_reply() {
        let mut budget = OutputBudget::new(MOST, false);
        assert_eq!(budget.expected_usage(Tokens(1650), Tokens(160)).total(), Tokens(1810));
        budget.learn(Tokens(1650), Tokens(160), &usage(1705, 155, 0));
        assert_eq!(budget.expected_usage(Tokens(1650), Tokens(160)).total(), Tokens(1860));
        assert_eq!(budget.estimate_prompt(Tokens(900)), Tokens(955));
    }

    #[test]
    fn another_tokenizer_shows_as_a_ratio() {
        let mut budget = OutputBudget::new(MOST, false);
        for size in [800, 1600, 2400, 800, 1600, 2400] {
            budget.learn(Tokens(size), Tokens(160), &usage(size * 13 / 10 + 60, 160, 0));
        }
        let estimate = budget.estimate_prompt(Tokens(2000));
        assert!(estimate.0.abs_diff(2660) <= 13, "{estimate}");
    }

    #[test]
    fn hidden_reasoning_gets_room_at_once_and_loses_it_slowly() {
        let mut budget = OutputBudget::new(MOST, false);
        budget.learn(Tokens(900), Tokens(160), &usage(900, 560, 400));
        assert!(budget.max_completion_tokens(Tokens(160)) >= Tokens(192 + 500));
        assert_eq!(budget.expected_usage(Tokens(900), Tokens(160)).total(), Tokens(1460));
        for _ in 0..60 {
            budget.learn(Tokens(900), Tokens(160), &usage(900, 160, 0));
        }
        assert!(budget.max_completion_tokens(Tokens(160)) <= Tokens(194));
    }

    #[test]
    fn unreported_reasoning_gets_room_too() {
        let mut budget = OutputBudget::new(MOST, false);
        budget.learn(Tokens(900), Tokens(160), &usage(900, 560, 0));
        assert!(budget.max_completion_tokens(Tokens(160)) >= Tokens(560));
    }

    #[test]
    fn a_model_that_reasons_starts_with_room() {
        let budget = OutputBudget::new(MOST, true);
        assert_eq!(budget.max_completion_tokens(Tokens(160)), Tokens(192 + 1024));
    }

    #[test]
    fn ten_replies_cut_at_one_limit_raise_it_once() {
        let mut budget = OutputBudget::new(MOST, false);
        let sent = budget.max_completion_tokens(Tokens(160));
        assert!(budget.raise(Tokens(160), sent));
        let raised = budget.max_completion_tokens(Tokens(160));
        assert!(raised >= Tokens(sent.0 * 2));
        for _ in 0..9 {
            assert!(budget.raise(Tokens(160), sent));
        }
        assert_eq!(budget.max_completion_tokens(Tokens(160)), raised);
    }

    #[test]
    fn a_model_that_thinks_at_length_has_room_after_three_lost_replies() {
        let mut budget = OutputBudget::new(MOST, false);
        let (answer, needed) = (Tokens(160), Tokens(3_160));
        let mut lost = 0;
        loop {
            let sent = budget.max_completion_tokens(answer);
            if sent >= needed {
                break;
            }
            lost += 1;
            budget.learn(Tokens(900), answer, &usage(900, sent.0, sent.0));
            assert!(budget.raise(answer, sent));
        }
        assert!(lost <= 3, "{lost}");
    }

    #[test]
    fn raising_ends_at_the_models_limit() {
        let mut budget = OutputBudget::new(MOST, false);
        let mut raises = 0;
        loop {
            let sent = budget.max_completion_tokens(Tokens(160));
            if !budget.raise(Tokens(160), sent) {
                assert_eq!(sent, MOST);
                break;
            }
            raises += 1;
        }
        assert!((1..=8).contains(&raises), "{raises}");
    }

    /// Calls of 30 to 60 rows of uneven length, as counted here: prompt and answer.
    fn uneven_calls() -> impl Iterator<Item = (u32, u32)> {
        let rows = [50, 34, 60, 47, 39, 58, 50, 44, 31, 55].into_iter().cycle().zip(0_u32..);
        rows.map(|(rows, call)| (755 + rows * (17 + call % 5), (rows * 31).div_ceil(10)))
    }

    #[test]
    fn after_ten_calls_reservations_are_right_within_one_per_cent() {
        // A service that counts 3 % more, one with a tokenizer and a hidden prompt of its own, and
        // one that writes a little around each answer and reads most of the prompt from its cache.
        let services: [&dyn Fn(u32, u32) -> Usage; 3] = [
            &|prompt, answer| usage((prompt * 103).div_ceil(100), (answer * 103).div_ceil(100), 0),
            &|prompt, answer| usage(prompt * 6 / 5 + 90, answer * 5 / 4, 0),
            &|prompt, answer| Usage {
                cached: Tokens(prompt * 5 / 8),
                ..usage(prompt, answer + 2, 0)
            },
        ];
        for (number, service) in services.into_iter().enumerate() {
            let mut budget = OutputBudget::new(MOST, false);
            for (call, (prompt, answer)) in uneven_calls().take(200).enumerate() {
                let truth = service(prompt, answer);
                let expected = budget.expected_usage(Tokens(prompt), Tokens(answer));
                if call >= 10 {
                    for (expected, truth) in [
                        (expected.prompt, truth.prompt),
                        (expected.completion, truth.completion),
                        (expected.total(), truth.total()),
                        (
                            expected.prompt.saturating_sub(expected.cached),
                            truth.prompt.saturating_sub(truth.cached),
                        ),
                    ] {
                        // A token is a token: an answer of 100 can't be nearer than that.
                        let within = (truth.0 / 100).max(2);
                        assert!(
                            expected.0.abs_diff(truth.0) <= within,
                            "service {number}, call {call}: {expected} {truth}"
                        );
                    }
                }
                budget.learn(Tokens(prompt), Tokens(answer), &truth);
            }
        }
    }

    proptest! {
        #[test]
        fn no_usage_breaks_the_bounds(
            calls in proptest::collection::vec((0u32.., 0u32.., 0u32.., 0u32.., 0u32..), 0..20),
            prompt in 0u32..2_000_000,
            answer in 0u32..200_000,
        ) {
            let mut budget = OutputBudget::new(MOST, false);
            for (counted, expected, prompt, completion, reasoning) in calls {
                budget.learn(Tokens(counted), Tokens(expected), &usage(prompt, completion, reasoning));
            }
            let limit = budget.max_completion_tokens(Tokens(answer));
            prop_assert!(limit >= Tokens(1) && limit <= MOST);
            let whole = budget.expected_usage(Tokens(prompt), Tokens(answer)).total();
            prop_assert!(whole >= budget.estimate_prompt(Tokens(prompt)));
        }
    }
}
