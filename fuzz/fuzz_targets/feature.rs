//! The feature language under libFuzzer:
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run feature -- -timeout=10 -max_len=2048
//! ```
#![no_main]

use std::panic;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;

#[path = "../../operators/tests/fuzzed/check.rs"]
mod check;

/// libFuzzer's hook ends the process at any panic, also at those of the expression library that are
/// caught and become errors. Without it, a panic that nobody catches still ends the process.
static HOOK: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    HOOK.call_once(|| drop(panic::take_hook()));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = check::check(text);
    }
});
