//! Numbers of several repetitions, and what is said about them. Pure.

/// What was measured again and again, in the order of the repetitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle value, or the mean of the two in the middle; 0 of nothing.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => 0.0,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    pub fn smallest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn largest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// This over `other`, repetition by repetition: both ran within seconds, so what disturbed one disturbed the other.
    pub fn over(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0).filter(|(_, below)| **below > 0.0);
        Self(pairs.map(|(above, below)| above / below).collect())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_ratios_are_those_of_the_repetitions() {
        let ours = Samples::from_iter([10.0, 30.0, 20.0]);
        let theirs = Samples::from_iter([1.0, 2.0, 4.0]);
        assert_eq!(ours.median(), 20.0);
        assert_eq!(Samples::from_iter([4.0, 1.0]).median(), 2.5);
        assert_eq!(ours.over(&theirs).values(), [10.0, 15.0, 5.0]);
        assert_eq!((ours.smallest(), ours.largest()), (10.0, 30.0));
        assert!(Samples::default().median() == 0.0);
    }
}
