//! What of `models` is written for each kind of processor, with its tests and with next to no dependencies: so it is built for another
//! processor, and run under an emulator, in a minute or two (`cross/test`). Holds no code of its own and is no part of any program.

// Of these files much is used by the rest of `models` alone.
#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../models/src/decoder/mod.rs"]
mod decoder;
#[path = "../../models/src/encoder"]
mod encoder {
    mod attention;
    mod panels;
    mod product;
    mod rounded;
    mod steps;
    mod tensors;
    pub(crate) use panels::Precision;
    #[cfg(test)]
    mod tests {
        mod products;
        mod steps;
    }
}
#[path = "../../models/src/error.rs"]
mod error;
#[path = "../../models/src/gguf/mod.rs"]
mod gguf;
#[path = "../../models/src/index"]
mod index {
    mod codes;
}
#[path = "../../models/src/lanes/mod.rs"]
mod lanes;
#[path = "../../models/src/pool.rs"]
mod pool;
#[path = "../../models/src/product/mod.rs"]
mod product;

pub use error::Error;

/// An emulator that does not tell what its processor has would have the plain code tested again and again; `cross/test` says what
/// is expected of which.
#[cfg(all(test, target_arch = "aarch64"))]
#[test]
fn the_emulated_processor_has_the_lanes_that_are_to_be_tested() {
    let found: Vec<_> = lanes::Processor::all().into_iter().map(lanes::Processor::name).collect();
    let expected = std::env::var("SKERRY_LANES").unwrap_or_else(|_| "NEON i8mm, NEON dotprod, NEON, plain".to_owned());
    assert_eq!(found.join(", "), expected);
}
