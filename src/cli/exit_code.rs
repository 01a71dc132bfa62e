//! What the process says when it ends. Scripts rely on these numbers; they never change meaning.
//!
//! For `verify`, 3 is an output that is not done yet and 4 one of which a check failed.

use crate::domain::event::RunEnd;
use crate::verify::State;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: every planned row has a label, or no more lack one than `max_unlabelled` allows.
    Done,
    /// 1: a defect in the program.
    Internal,
    /// 2: the command line, the config or the input can't be used as they are.
    Usage,
    /// 3: the run is done, and more rows than `max_unlabelled` have no label. Of `verify`: nothing
    /// is wrong, but not all rows are done.
    Unlabelled,
    /// 4: the provider or the storage stopped the run; the same command resumes it. Of `verify`: a
    /// check failed.
    Stopped,
    /// 5: quota, money or the budget ran out; the same command resumes it.
    Quota,
    /// 130: interrupted from the keyboard; the same command resumes it.
    Interrupted,
    /// 143: told to end by the system; the same command resumes it.
    Terminated,
}

impl ExitCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [ExitCode; 8] = [
        ExitCode::Done,
        ExitCode::Internal,
        ExitCode::Usage,
        ExitCode::Unlabelled,
        ExitCode::Stopped,
        ExitCode::Quota,
        ExitCode::Interrupted,
        ExitCode::Terminated,
    ];

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Internal => 1,
            ExitCode::Usage => 2,
            ExitCode::Unlabelled => 3,
            ExitCode::Stopped => 4,
            ExitCode::Quota => 5,
            ExitCode::Interrupted => 130,
            ExitCode::Terminated => 143,
        }
    }

    /// What it means, as the help says it.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::Done => "every row has a label (or no more lack one than --max-unlabelled)",
            ExitCode::Internal => "internal error",
            ExitCode::Usage => "the command line, the config or the input can't be used as it is",
            ExitCode::Unlabelled => "done, but some rows have no label",
            ExitCode::Stopped => "stopped by the provider or by storage; run it again to resume",
            ExitCode::Quota => "quota or money ran out; run it again to resume",
            ExitCode::Interrupted => "interrupted (Ctrl-C); run it again to resume",
            ExitCode::Terminated => "terminated or hung up; run it again to resume",
        }
    }

    /// The code of a run that ended as `end` with `unlabelled` rows without a label.
    ///
    /// `interruption` is the code of the signal that stopped it, where one did.
    pub fn of_run(
        end: RunEnd,
        unlabelled: u64,
        max_unlabelled: u64,
        interruption: Option<ExitCode>,
    ) -> ExitCode {
        match end {
            RunEnd::Complete if unlabelled <= max_unlabelled => ExitCode::Done,
            RunEnd::Complete => ExitCode::Unlabelled,
            RunEnd::Interrupted => interruption.unwrap_or(ExitCode::Interrupted),
            RunEnd::Provider | RunEnd::Storage => ExitCode::Stopped,
            RunEnd::Input => ExitCode::Usage,
            RunEnd::Quota => ExitCode::Quota,
        }
    }

    /// The code of an output that was verified.
    pub fn of_verdict(state: State) -> ExitCode {
        match state {
            State::Ok => ExitCode::Done,
            State::NotDone => ExitCode::Unlabelled,
            State::Failed => ExitCode::Stopped,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_run_fails_only_above_the_allowed_unlabelled_rows() {
        assert_eq!(ExitCode::of_run(RunEnd::Complete, 3, 3, None), ExitCode::Done);
        assert_eq!(ExitCode::of_run(RunEnd::Complete, 4, 3, None), ExitCode::Unlabelled);
    }

    #[test]
    fn an_interrupted_run_ends_with_the_code_of_its_signal() {
        let code = |signal| ExitCode::of_run(RunEnd::Interrupted, 0, 0, signal).number();
        assert_eq!(code(Some(ExitCode::Terminated)), 143);
        assert_eq!(code(None), 130);
    }

    #[test]
    fn a_stopped_run_is_told_apart_from_one_without_money() {
        assert_eq!(ExitCode::of_run(RunEnd::Storage, 0, 0, None).number(), 4);
        assert_eq!(ExitCode::of_run(RunEnd::Provider, 0, 0, None).number(), 4);
        assert_eq!(ExitCode::of_run(RunEnd::Input, 0, 0, None).number(), 2);
        assert_eq!(ExitCode::of_run(RunEnd::Quota, 0, 0, None).number(), 5);
    }
}
