//! The product as its users run it: real processes, real brokers, a real browser. One file per scenario.

mod approval;
mod asking;
mod audit;
mod bare_machine;
mod demo;
mod documents;
mod fleet;
mod full_disk;
mod harness_itself;
mod kills;
mod openai_client;
mod outcome;
mod real_input;
mod residency;
mod soak;
mod steering;
mod trial;
