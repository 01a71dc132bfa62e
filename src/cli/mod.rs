//! What was typed, the environment, progress and exit codes.

/// Runs the program; the exit code is the process's.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
