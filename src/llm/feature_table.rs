//! Finds features by their hash.

/// Feature numbers by hash: open addressing, at most half full, so that a miss costs one look.
#[derive(Clone, Debug)]
pub(super) struct FeatureTable {
    slots: Vec<(u64, u32)>,
    mask: usize,
}

const EMPTY: u32 = u32::MAX;

impl FeatureTable {
    /// A table of these hashes and their numbers.
    pub(super) fn new(ids: impl ExactSizeIterator<Item = (u64, u32)>) -> FeatureTable {
        let size = (ids.len() * 2).next_power_of_two().max(2);
        let mut table = FeatureTable { slots: vec![(0, EMPTY); size], mask: size - 1 };
        for (hash, id) in ids {
            let mut at = table.home(hash);
            while table.slots[at].1 != EMPTY {
                at = (at + 1) & table.mask;
            }
            table.slots[at] = (hash, id);
        }
        table
    }

    fn home(&self, hash: u64) -> usize {
        (hash ^ (hash >> 32)) as usize & self.mask
    }

    /// The number of the feature with this hash; `None` if it is unknown.
    pub(super) fn find(&self, hash: u64) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            match self.slots[at] {
                (_, EMPTY) => return None,
                (found, id) if found == hash => return Some(id),
                _ => at = (at + 1) & self.mask,
            }
        }
    }
}
