//! One line for each step: what it was, what it saw, and how long it took.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints steps as they happen, and counts them.
pub struct Report {
    started: Instant,
    passed: u32,
    failed: u32,
}

impl Default for Report {
    fn default() -> Self {
        Self { started: Instant::now(), passed: 0, failed: 0 }
    }
}

impl Report {
    /// A heading for the steps that follow.
    pub fn chapter(&self, title: &str) {
        print(&format!("\n{title}\n"));
    }

    /// Text between steps, such as what a command printed.
    pub fn show(&self, text: &str) {
        for line in text.trim_end().lines() {
            print(&format!("        {line}\n"));
        }
    }

    /// Runs one step. It gives what the following steps need, and a few words about what it saw.
    ///
    /// # Errors
    /// The step's own, which is printed as well.
    pub fn step<T>(&mut self, title: &str, step: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        print(&format!("  {:>2}  {title}: ", self.passed + self.failed + 1));
        let started = Instant::now();
        let outcome = step();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok((value, saw)) => {
                self.passed += 1;
                print(&format!("{saw} ({seconds:.1} s)\n"));
                Ok(value)
            }
            Err(error) => {
                self.failed += 1;
                print(&format!("FAILED ({seconds:.1} s)\n"));
                self.show(&format!("{error:#}"));
                Err(error)
            }
        }
    }

    /// A step that others do not depend on: when it fails, the suite goes on.
    pub fn check(&mut self, title: &str, step: impl FnOnce() -> Result<String>) {
        // The failure is printed and counted; that is all there is to do about it here.
        let _ = self.step(title, || step().map(|saw| ((), saw)));
    }

    /// Time since the first step.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether every step so far has passed.
    #[must_use]
    pub fn all_passed(&self) -> bool {
        self.failed == 0
    }

    /// The last line: how many steps passed and failed.
    pub fn close(&self) {
        print(&format!("\n{} passed, {} failed\n", self.passed, self.failed));
    }
}

/// Standard output may be gone (a pipe that was closed); the steps go on all the same.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
