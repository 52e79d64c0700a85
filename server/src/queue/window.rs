//! How many attempts a destination gets at once: few at first, more while they succeed, fewer when it pushes back, as
//! congestion control does it (RFC 5681). Pure. Used by [`super::destinations`].

/// Attempts at once for a destination of which nothing is known.
pub const INITIAL: u32 = 2;
/// Attempts at once at most: more would look like an attack to many servers.
pub const MOST: u32 = 20;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    size: u32,
    /// Up to here each success adds one, which doubles it with each round of attempts; beyond, each round adds one.
    threshold: u32,
    /// Successes since it last grew.
    successes: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: INITIAL, threshold: MOST, successes: 0 }
    }
}

impl Window {
    /// Attempts at once.
    #[must_use]
    pub fn size(self) -> usize {
        self.size as usize
    }

    /// An attempt went well.
    pub fn succeeded(&mut self) {
        self.successes += 1;
        let needed = if self.size < self.threshold { 1 } else { self.size };
        if self.successes >= needed {
            self.size = (self.size + 1).min(MOST);
            self.successes = 0;
        }
    }

    /// The destination asked for less: 421, or 4.7.x.
    pub fn pushed_back(&mut self) {
        self.threshold = (self.size / 2).max(1);
        (self.size, self.successes) = (self.threshold, 0);
    }

    /// It could not be reached: it begins anew, and carefully.
    pub fn lost(&mut self) {
        self.threshold = (self.size / 2).max(1);
        (self.size, self.successes) = (1, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_until_it_was_pushed_back_and_then_grows_slowly() {
        let mut window = Window::default();
        let mut rounds = 0;
        while window.size() < MOST as usize {
            (0..window.size()).for_each(|_| window.succeeded());
            rounds += 1;
        }
        assert!(rounds <= 4, "{rounds}");
        window.pushed_back();
        assert_eq!(window.size(), 10);
        (0..10).for_each(|_| window.succeeded());
        assert_eq!(window.size(), 11);
        window.lost();
        assert_eq!(window.size(), 1);
    }

    proptest! {
        #[test]
        fn it_stays_in_its_bounds(events in proptest::collection::vec(0..3_u8, 0..200)) {
            let mut window = Window::default();
            for event in events {
                match event {
                    0 => window.pushed_back(),
                    1 => window.lost(),
                    _ => window.succeeded(),
                }
                prop_assert!((1..=MOST as usize).contains(&window.size()));
            }
        }
    }
}
