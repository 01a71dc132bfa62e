//! The `batchclass` program: see [`batchclass::cli`].

fn main() -> std::process::ExitCode {
    batchclass::cli::main()
}
