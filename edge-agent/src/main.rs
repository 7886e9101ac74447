//! The edge agent's binary.

fn main() -> std::process::ExitCode {
    edge_agent::cli::main()
}
