//! The control plane's binary.

fn main() -> std::process::ExitCode {
    cloud_control::cli::main()
}
