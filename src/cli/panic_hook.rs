//! A defect ends the program with one sentence, not with a trace, and never half alive.

use std::panic::{self, PanicHookInfo};

use super::exit_code::ExitCode;
use super::{console, environment};

/// From now on a panic on any thread prints one sentence and ends the process with exit code 1.
///
/// The message of the panic is left out, since it may hold a row's text; `RUST_BACKTRACE=1` shows
/// it with the trace. Nothing is lost: what was paid for is on disk before anything else happens.
pub(super) fn install() {
    let detailed = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        console::clear_bar();
        console::message(&sentence(info));
        if environment::wants_backtrace() {
            detailed(info);
        }
        end();
    }));
}

fn sentence(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(String::new, |location| format!(" at {location}"));
    format!(
        "error: internal error{place}; this is a defect in batchclass, please report it with the \
         output of RUST_BACKTRACE=1; run the same command again to resume"
    )
}

#[expect(clippy::disallowed_methods, reason = "a defect on any thread ends the process")]
fn end() -> ! {
    std::process::exit(ExitCode::Internal.number().into());
}
