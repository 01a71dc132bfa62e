//! A prompt cache as GPT-5.6 and later models keep it: a prefix is found again only where it ends at
//! a breakpoint, and writing one is told, since it is charged.

use std::collections::HashSet;

/// The shortest prefix that is kept, tokens.
const LEAST: u32 = 1_024;

/// Where a request's prefix ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakpoint {
    /// At the end of the request, since it says nothing of it.
    Implicit,
    /// After the system message, as it says.
    AfterSystem,
    /// Nowhere, as it says.
    Nowhere,
}

/// What a request may leave in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// A hash of its text.
    pub(super) hash: u64,
    /// Its tokens.
    pub(super) tokens: u32,
}

/// Tokens of a prompt that came from the cache or went into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheUse {
    /// Read.
    pub(super) cached: u32,
    /// Written.
    pub(super) written: u32,
}

/// The prefixes that were written; nothing is ever forgotten.
#[derive(Debug, Default)]
pub(super) struct PromptCache(HashSet<u64>);

impl PromptCache {
    /// Looks a prefix up and keeps it.
    pub(super) fn take(&mut self, prefix: Prefix) -> CacheUse {
        let Prefix { hash, tokens } = prefix;
        if tokens < LEAST {
            CacheUse::default()
        } else if self.0.insert(hash) {
            CacheUse { cached: 0, written: tokens }
        } else {
            CacheUse { cached: tokens, written: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_written_once_and_a_short_one_never() {
        let mut cache = PromptCache::default();
        let mut take = |hash, tokens| {
            let CacheUse { cached, written } = cache.take(Prefix { hash, tokens });
            (cached, written)
        };
        assert_eq!(take(1, 1_024), (0, 1_024));
        assert_eq!(take(1, 1_024), (1_024, 0));
        assert_eq!(take(2, 1_500), (0, 1_500));
        assert_eq!([take(3, 1_023), take(3, 1_023)], [(0, 0); 2]);
    }
}
