//! How much may be done in a time: a bucket that fills at a steady rate. Pure; the caller says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    most: f64,
    left: f64,
    at: Option<Instant>,
}

impl Allowance {
    /// So many a second, and at most `most` together after a quiet time.
    #[must_use]
    pub fn new(per_second: u32, most: u32) -> Self {
        Self { per_second: f64::from(per_second), most: f64::from(most), left: f64::from(most), at: None }
    }

    /// Takes one, or says how long to wait for it.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        self.at = Some(now);
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.most);
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_steady_rate() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(10, 3);
        let taken = |allowance: &mut Allowance, now| (0..100).take_while(|_| allowance.take(now).is_ok()).count();
        assert_eq!(taken(&mut allowance, begin), 3);
        let wait = allowance.take(begin).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(taken(&mut allowance, begin + Duration::from_millis(250)), 2);
        assert_eq!(taken(&mut allowance, begin + Duration::from_secs(60)), 3);
    }
}
