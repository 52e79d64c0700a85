//! Chance, so that what is due at the same time for many is not done at the same moment. Asked by the engine, and where a
//! schedule is made.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A number from 0 to below 1, another one each time.
#[must_use]
pub fn jitter() -> f64 {
    // Each has keys of its own.
    let hash = RandomState::new().hash_one(());
    f64::from(u32::try_from(hash & 0xffff).unwrap_or_default()) / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spread() {
        let drawn: Vec<f64> = (0..1000).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        assert!((350..650).contains(&drawn.iter().filter(|number| **number < 0.5).count()));
    }
}
