# Everything that must hold before a change lands.
check:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets
    bash tests/run

# All tests.
test:
    bash tests/run

# The documentation of all packages.
docs:
    cargo doc --workspace --no-deps

# The feature language under libFuzzer, until it is stopped.
fuzz:
    cargo +nightly fuzz run feature -- -timeout=10 -max_len=2048
