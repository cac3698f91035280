//! The `mixode` command.

fn main() -> std::process::ExitCode {
    mixode::cli::main()
}
