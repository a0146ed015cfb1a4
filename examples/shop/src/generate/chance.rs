//! The generator's own dice: whole numbers, the same on every machine and in every version.

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from zero up to, not including, `bound`, which is above zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

/// Zipf's law over ranks: the second is drawn half as often as the first, the third a third as often, and so on.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    /// For each rank the share of it and all better ones.
    cumulative: Vec<u64>,
}

impl Zipf {
    pub(super) fn new(ranks: u64) -> Self {
        const FIRST: u64 = 1_000_000_000;
        let shares = (1..=ranks).map(|rank| FIRST / rank);
        let cumulative = shares.scan(0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        Self { cumulative: cumulative.collect() }
    }

    /// A rank, counted from zero.
    pub(super) fn draw(&self, chance: &mut Chance) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let drawn = chance.below(total);
        self.cumulative.partition_point(|share| *share <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_splitmix64() {
        let mut chance = Chance::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| chance.next()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let mut chance = Chance::new(1);
        assert!((0..10_000).all(|_| chance.below(3) < 3));
        assert_eq!(chance.below(1), 0);
    }

    #[test]
    fn a_better_rank_is_drawn_more_often_by_zipfs_law() {
        let zipf = Zipf::new(100);
        let mut chance = Chance::new(1);
        let mut drawn = [0u32; 100];
        for _ in 0..519_000 {
            drawn[zipf.draw(&mut chance)] += 1;
        }
        // The harmonic number of 100 is 5.19.
        for (rank, expected) in [(0, 100_000u32), (1, 50_000), (9, 10_000), (99, 1_000)] {
            assert!(drawn[rank].abs_diff(expected) < expected / 10, "rank {rank}: {}", drawn[rank]);
        }
    }
}
