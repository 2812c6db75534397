//! What faces the network under libFuzzer; the first byte says which reader:
//!
//! ```text
//! cargo +nightly fuzz run network -- -timeout=10 -max_len=4096
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/network.rs"]
mod network;

fuzz_target!(|data: &[u8]| {
    if let Some((reader, bytes)) = data.split_first() {
        let _ = network::read(*reader, bytes);
    }
});
