//! The fuzzer: `FUZZ_TARGET=name fuzz [libFuzzer's options] CORPUS…`. Built and run by `scripts/fuzz`.

#![no_main]
// A fuzzer talks to the person who started it, and ends when something is wrong.
#![allow(clippy::panic, missing_docs)]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use paquebot_fuzz::{Target, target};

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target"))
    });
    if bytes.len() <= target.longest {
        (target.run)(bytes);
    }
});
