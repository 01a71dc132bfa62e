//! The most that a provider can count for a prompt, learned from what it counted so far.
//!
//! Pure. A provider whose counts have always been above ours by the same number counts as we do,
//! and adds something of its own (a schema, a hidden prompt). One that tells no counts is believed to
//! do so where its model's vocabulary is known. Of any other, and before there are three replies, only
//! this is sure: a token holds at least one byte.

use crate::domain::Tokens;

/// Replies that have to agree before a provider is believed to count as we do.
const REPLIES: u32 = 3;

/// What was seen of a provider's counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct PromptCeiling {
    /// Whether the model's vocabulary is the one that is counted with here.
    is_vocabulary_known: bool,
    /// Replies that told a count.
    seen: u32,
    /// Replies that told none.
    silent: u32,
    /// By how much their counts were above ours at the most.
    most: u32,
    /// Whether one of them was above by another number.
    varies: bool,
}

impl PromptCeiling {
    /// A ceiling for a model that nothing was seen of.
    pub fn new(is_vocabulary_known: bool) -> PromptCeiling {
        PromptCeiling { is_vocabulary_known, ..PromptCeiling::default() }
    }

    /// Takes note of a reply that told no count.
    pub fn learn_nothing(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    /// Learns from a prompt that was counted as `counted` here and as `charged` there.
    pub fn learn(&mut self, counted: Tokens, charged: Tokens) {
        let beyond = charged.saturating_sub(counted).0;
        self.varies |= self.seen > 0 && self.most != beyond;
        self.most = self.most.max(beyond);
        self.seen = self.seen.saturating_add(1);
    }

    /// The most that a prompt is counted as that was counted as `counted` here and has so many
    /// `bytes`, framing included.
    pub fn most(&self, counted: Tokens, bytes: impl FnOnce() -> usize) -> Tokens {
        let as_seen = counted + Tokens(self.most);
        let is_silent = self.seen == 0 && self.silent >= REPLIES;
        if (self.seen >= REPLIES && !self.varies) || (is_silent && self.is_vocabulary_known) {
            return as_seen;
        }
        as_seen.max(Tokens(u32::try_from(bytes()).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn before_there_are_replies_every_byte_may_be_a_token() {
        let ceiling = PromptCeiling::default();
        assert_eq!(ceiling.most(Tokens(100), || 450), Tokens(450));
        assert_eq!(ceiling.most(Tokens(100), || 50), Tokens(100));
    }

    #[test]
    fn a_provider_that_counts_alike_is_believed_and_one_that_varies_never_again() {
        let mut ceiling = PromptCeiling::default();
        for counted in [100, 300, 50] {
            assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(900));
            ceiling.learn(Tokens(counted), Tokens(counted + 7));
        }
        assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(207));
        for _ in 0..5 {
            ceiling.learn(Tokens(300), Tokens(309));
            assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(900));
        }
    }

    #[test]
    fn a_provider_that_tells_nothing_is_believed_where_its_vocabulary_is_known() {
        for is_known in [true, false] {
            let mut ceiling = PromptCeiling::new(is_known);
            for _ in 0..3 {
                assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(900));
                ceiling.learn_nothing();
            }
            let believed = if is_known { 200 } else { 900 };
            assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(believed));
            ceiling.learn(Tokens(100), Tokens(113));
            assert_eq!(ceiling.most(Tokens(200), || 900), Tokens(900));
        }
    }

    proptest! {
        /// A tokenizer of its own takes another share of each text's bytes for a token.
        #[test]
        fn no_tokenizer_counts_more_than_it_is_allowed_to(
            prompts in prop::collection::vec((100_u32..5_000, 1_u32..5), 4..40),
            constant in 0_u32..300,
            counts_alike in any::<bool>(),
        ) {
            let mut ceiling = PromptCeiling::default();
            // Two texts of the same length, so that a tokenizer of its own shows.
            let first = [(1_000, 1), (1_000, 4), (1_000, 2)];
            for (counted, density) in first.into_iter().chain(prompts) {
                let bytes = counted * 4 + constant;
                let charged = if counts_alike { counted + constant } else { bytes / density };
                let most = ceiling.most(Tokens(counted), || bytes as usize);
                prop_assert!(most >= Tokens(charged), "{most} < {charged}");
                ceiling.learn(Tokens(counted), Tokens(charged));
            }
        }
    }
}
