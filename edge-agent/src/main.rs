//! The edge agent's binary.

/// Runs move between threads, so what one asked for another gives back; musl, which static binaries come with, has one lock for
/// all of that, and glibc hands memory to the kernel to ask for it again a moment later.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    edge_agent::cli::main()
}
