//! Numbers that a seed decides (SplitMix64).

/// See the module.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// What `POWER_CUT_SEED` says, or a new one, which is told.
    pub fn seed() -> u64 {
        let seed = match std::env::var("POWER_CUT_SEED") {
            Ok(text) => text.parse().expect("POWER_CUT_SEED is a number"),
            Err(_) => jiff::Timestamp::now().as_nanosecond() as u64 % 1_000_000_007,
        };
        println!("POWER_CUT_SEED={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}
