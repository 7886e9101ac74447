# Names for common commands; no logic of its own.

# The whole story on this machine, in about two minutes.
demo *args:
    cargo demo {{args}}

# Everything that a change must pass.
test *names:
    tests/run {{names}}

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Throughput, latency, memory, start-up time and size, with their medians.
bench *args:
    tests/bench/run {{args}}

# Kills, cut links and full disks: what the scenarios' names tell of.
sim:
    tests/run kill disk link simulated cuts seeds

# A static binary and a Debian package for a gateway: just cross aarch64-unknown-linux-musl
cross target:
    cross/build {{target}}
