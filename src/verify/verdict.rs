//! What was looked at and what was found: a list of named checks.

use serde::Serialize;

/// Problems that a check lists at most; the others are only counted.
const LISTED_PROBLEMS: usize = 10;

/// How a check came out, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Ok,
    /// Nothing is wrong, but a run has to go on first.
    NotDone,
    /// It does not hold.
    Failed,
}

/// One thing that an output promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was looked at, with counts.
    pub detail: String,
    /// What is wrong or not done, a sentence each; the first ten.
    pub problems: Vec<String>,
    /// How many there are in all.
    pub problems_found: u64,
}

/// All checks of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The worst of the checks' states.
    pub state: State,
    /// The checks, in the order in which they build on each other.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// The verdict of these checks.
    pub fn of(checks: Vec<Check>) -> Verdict {
        let state = checks.iter().map(|check| check.state).max().unwrap_or(State::Ok);
        Verdict { state, checks }
    }
}

/// A check under way.
#[derive(Debug)]
pub(super) struct Finding {
    name: &'static str,
    state: State,
    problems: Vec<String>,
    problems_found: u64,
}

impl Finding {
    /// Nothing found yet.
    pub(super) fn new(name: &'static str) -> Finding {
        Finding { name, state: State::Ok, problems: Vec::new(), problems_found: 0 }
    }

    /// Something is wrong.
    pub(super) fn fail(&mut self, problem: impl Into<String>) {
        self.add(State::Failed, problem.into());
    }

    /// Something is still to come.
    pub(super) fn not_done(&mut self, what: impl Into<String>) {
        self.add(State::NotDone, what.into());
    }

    /// Whether something is wrong.
    pub(super) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// The finished check.
    pub(super) fn check(self, detail: impl Into<String>) -> Check {
        let Finding { name, state, problems, problems_found } = self;
        Check { name, state, detail: detail.into(), problems, problems_found }
    }

    fn add(&mut self, state: State, problem: String) {
        self.state = self.state.max(state);
        self.problems_found += 1;
        if self.problems.len() < LISTED_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_counts_and_problems_beyond_ten_are_only_counted() {
        let mut finding = Finding::new("parts");
        for number in 0..12 {
            finding.fail(format!("{number}"));
        }
        finding.not_done("later");
        let check = finding.check("all");
        assert_eq!((check.problems.len(), check.problems_found), (10, 13));
        let verdict = Verdict::of(vec![Finding::new("job").check(""), check]);
        assert_eq!(verdict.state, State::Failed);
        assert_eq!(Verdict::of(Vec::new()).state, State::Ok);
    }
}
