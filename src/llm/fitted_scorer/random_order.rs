//! A shuffled order that is the same on every machine.

/// A stream of numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct RandomOrder(u64);

impl RandomOrder {
    /// The stream of `seed`.
    pub(super) fn new(seed: u64) -> RandomOrder {
        RandomOrder(seed)
    }

    /// Shuffles `items`.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in 1..items.len() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }

    /// A number from 0 to below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_each_item_once_and_follows_from_the_seed() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            RandomOrder::new(seed).shuffle(&mut items);
            items
        };
        let shuffled = order(7);
        assert_eq!(shuffled, order(7));
        assert_ne!(shuffled, order(8));
        let mut sorted = shuffled.clone();
        sorted.sort_unstable();
        assert_ne!(sorted, shuffled);
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn every_place_is_as_likely() {
        let mut order = RandomOrder::new(1);
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            let mut items = [0, 1, 2, 3, 4];
            order.shuffle(&mut items);
            seen[items.iter().position(|item| *item == 0).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
    }
}
