//! What the end of a call means for its rows. Pure: a reply or an error in, verdicts out.
//!
//! A row leaves with a label, goes back to be asked again, or is given up with a reason; no row is
//! ever lost and none gets a label that its own key did not earn.

use std::borrow::Cow;
use std::time::Duration;

use super::probes::{Guest, with_guests};

use crate::domain::{Moment, Outcome, Reason, Row};
use crate::llm::batcher::halve;
use crate::llm::provider::{Finish, ProviderError};
use crate::llm::reply_matcher::{Answer, MatchedReply};

/// How often the same rows may fail while other calls succeed before they are split or given up.
const FAILURES_AMONG_ANSWERS: u16 = 4;
/// The same where nothing else is left to ask, so that nothing can tell an outage from their fault.
const FAILURES_AT_THE_END: u16 = 12;

/// Rows that are asked together as they are, not packed with others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parcel {
    /// The rows, in the order of the request.
    pub(super) rows: Vec<Row>,
    /// Probes that sit among them, in the order of their seats. They come and go with the call, and
    /// no verdict is about them.
    pub(super) guests: Vec<Guest>,
    /// How often the provider failed on them while that told something of them.
    pub(super) failures: u16,
    /// When it first failed on them or on the larger parcel that they come from.
    pub(super) first_failed: Option<Moment>,
}

impl Parcel {
    /// A parcel that has not failed yet.
    pub(super) fn of(rows: Vec<Row>) -> Parcel {
        Parcel { rows, guests: Vec::new(), failures: 0, first_failed: None }
    }

    /// As [`Parcel::of`], with probes among the rows.
    pub(super) fn with_guests(rows: Vec<Row>, guests: Vec<Guest>) -> Parcel {
        Parcel { guests, ..Parcel::of(rows) }
    }

    /// All that is asked, in the order of the request.
    pub(super) fn asked(&self) -> Cow<'_, [Row]> {
        match self.guests.is_empty() {
            true => Cow::Borrowed(&self.rows),
            false => Cow::Owned(with_guests(&self.rows, &self.guests)),
        }
    }

    /// Two parcels with half of the rows each; one if there is a single row.
    fn halves(self) -> Vec<Parcel> {
        let Parcel { rows, failures, first_failed, .. } = self;
        let (first, second) = halve(rows);
        let halves = [first, second].into_iter().filter(|rows| !rows.is_empty());
        let half = |rows| Parcel { failures: failures / 2, first_failed, ..Parcel::of(rows) };
        halves.map(half).collect()
    }
}

/// What is to be done about the rows of a call.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Rows that are done.
    pub(super) settled: Vec<(Row, Outcome)>,
    /// Rows that are packed again with others, ahead of new ones.
    pub(super) again: Vec<Row>,
    /// Rows that are asked again by themselves.
    pub(super) parcels: Vec<Parcel>,
    /// How long the parcels wait first.
    pub(super) delay: Duration,
    /// Rows left out or misanswered by this reply, by reason; they are in one of the lists above.
    pub(super) unresolved: Vec<(Reason, u64)>,
    /// Whether the room for a reply was too small.
    pub(super) room: Room,
    /// A single row came to nothing, and was alone in its request.
    pub(super) refused_alone: bool,
    /// The run ends.
    pub(super) stop: Option<StopReason>,
}

/// Whether a reply had room enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Room {
    /// As far as can be told.
    #[default]
    Enough,
    /// Hidden reasoning took a part of it: raise it for the calls to come.
    Raise,
    /// Not one answer fitted: raise it and ask again, or split the rows where it can't be raised.
    RaiseOrSplit,
}

/// Why a run ends before its rows are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The provider rejects what no retry mends.
    Rejected(String),
    /// The account is out of quota or money.
    OutOfQuota(String),
}

/// What is known when a call ends, beside the call itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// How often a row is asked, over all runs.
    pub(super) max_attempts: u16,
    /// When a call of this run was last answered.
    pub(super) last_answer: Option<Moment>,
    /// Whether nothing is left to ask but rows that have failed before.
    pub(super) only_failed_rows_left: bool,
    /// Now.
    pub(super) now: Moment,
}

/// What a reply means for the rows that it was asked about; `matched` has one answer for each.
pub(super) fn judge_reply(
    parcel: Parcel,
    finish: Finish,
    hidden_reasoning: bool,
    is_prose: bool,
    matched: &MatchedReply,
    circumstances: Circumstances,
) -> Verdict {
    let mut verdict = Verdict::default();
    let is_cut = finish == Finish::Length;
    match nothing_answered(finish, is_prose, matched) {
        Some(Nothing::Cut) => {
            verdict.room = Room::RaiseOrSplit;
            verdict.parcels = vec![parcel];
            return verdict;
        }
        Some(Nothing::Refused) => return refuse(parcel, Reason::Refused),
        Some(Nothing::Empty | Nothing::Flooded) if parcel.rows.len() > 1 => {
            verdict.parcels = parcel.halves();
            return verdict;
        }
        Some(Nothing::Empty | Nothing::Flooded) | None => {}
    }

    let is_alone = parcel.rows.len() == 1;
    let mut left = Vec::new();
    for (mut row, answer) in parcel.rows.into_iter().zip(&matched.answers) {
        row.attempts = row.attempts.saturating_add(1);
        match *answer {
            Answer::Label(label) => verdict.settled.push((row, Outcome::Labelled(label))),
            Answer::Unsure => {
                let attempts = row.attempts;
                let reason = Reason::Unsure;
                verdict.settled.push((row, Outcome::Unlabelled { reason, attempts }));
            }
            Answer::Unresolved(reason) => {
                count(&mut verdict.unresolved, reason);
                if row.attempts >= circumstances.max_attempts {
                    verdict.refused_alone = is_alone;
                    let attempts = row.attempts;
                    verdict.settled.push((row, Outcome::Unlabelled { reason, attempts }));
                } else {
                    left.push(row);
                }
            }
        }
    }
    if is_cut {
        // Packed to the full again, they would be cut again.
        verdict.room = if hidden_reasoning { Room::Raise } else { Room::Enough };
        verdict.parcels = match left.len() {
            0 => Vec::new(),
            _ => Parcel::of(left).halves(),
        };
    } else {
        verdict.again = left;
    }
    verdict
}

/// Why a reply holds nothing for any row. Such a reply halves its rows and costs none an attempt,
/// since a single one of them may be to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    /// It was cut before its first answer.
    Cut,
    /// It refused, by a filter or in prose.
    Refused,
    /// It is whole and says nothing: empty, or a form without an answer in it.
    Empty,
    /// It was cut, and answers many rows that nobody asked about: a row's text may have talked the
    /// model into answers that pushed out its own.
    Flooded,
}

/// Answers to keys that were not asked which a cut reply may hold, whatever its size.
const FOREIGN_BY_CHANCE: usize = 3;
/// The same, as one of so many rows.
const FOREIGN_ONE_IN: usize = 5;

/// Whether a reply holds nothing for any row, and why.
pub(super) fn nothing_answered(
    finish: Finish,
    is_prose: bool,
    matched: &MatchedReply,
) -> Option<Nothing> {
    let foreign_by_chance = FOREIGN_BY_CHANCE.max(matched.answers.len() / FOREIGN_ONE_IN);
    if finish == Finish::Length && matched.foreign > foreign_by_chance {
        return Some(Nothing::Flooded);
    }
    let is_missing = |answer: &Answer| *answer == Answer::Unresolved(Reason::Missing);
    if !matched.answers.iter().all(is_missing) {
        return None;
    }
    match finish {
        Finish::Length => Some(Nothing::Cut),
        Finish::Refused | Finish::Stop if matched.members > 0 => None,
        Finish::Refused => Some(Nothing::Refused),
        Finish::Stop if is_prose => Some(Nothing::Refused),
        Finish::Stop => Some(Nothing::Empty),
    }
}

/// Whether a reply says something in another form than any that holds answers.
pub(super) fn is_prose(reply: &str) -> bool {
    !reply.trim().is_empty() && !reply.contains(['{', '['])
}

/// What a failure means for the rows that were asked about.
///
/// `retry_in` is the governor's word on how long such a call waits.
pub(super) fn judge_error(
    mut parcel: Parcel,
    error: &ProviderError,
    retry_in: Duration,
    circumstances: Circumstances,
) -> Verdict {
    let mut verdict = Verdict::default();
    match error {
        ProviderError::ParameterRefused { .. } => verdict.parcels = vec![parcel],
        ProviderError::ContentRefused => return refuse(parcel, Reason::Refused),
        ProviderError::TooLong => return refuse(parcel, Reason::TooLong),
        ProviderError::OutOfQuota { message } => {
            verdict.stop = Some(StopReason::OutOfQuota(message.clone()));
            verdict.parcels = vec![parcel];
        }
        ProviderError::Rejected { status, message } => {
            // What is about the account or the address is no row's fault.
            if !matches!(status, 401..=404) {
                return refuse(parcel, Reason::ProviderError);
            }
            let words = format!("the provider answered {status}: {message}");
            verdict.stop = Some(StopReason::Rejected(words));
            verdict.parcels = vec![parcel];
        }
        ProviderError::RateLimited { .. } => {
            verdict.parcels = vec![parcel];
            verdict.delay = retry_in;
        }
        ProviderError::ServerError { .. }
        | ProviderError::Connection { .. }
        | ProviderError::Timeout { .. } => {
            let first_failed = *parcel.first_failed.get_or_insert(circumstances.now);
            let others_answered = circumstances.last_answer.is_some_and(|at| at > first_failed);
            // In an outage, failures tell nothing of these rows.
            if others_answered || circumstances.only_failed_rows_left {
                parcel.failures += 1;
            }
            let most = if others_answered { FAILURES_AMONG_ANSWERS } else { FAILURES_AT_THE_END };
            if parcel.failures >= most {
                verdict = Verdict { refused_alone: false, ..refuse(parcel, Reason::ProviderError) };
            } else {
                verdict.parcels = vec![parcel];
            }
            verdict.delay = retry_in;
        }
    }
    verdict
}

/// Halves rows that were refused as a whole, until the one at fault stands alone and is settled.
fn refuse(parcel: Parcel, reason: Reason) -> Verdict {
    let mut verdict = Verdict::default();
    if parcel.rows.len() > 1 {
        verdict.parcels = parcel.halves();
        return verdict;
    }
    verdict.refused_alone = true;
    for mut row in parcel.rows {
        row.attempts = row.attempts.saturating_add(1);
        let attempts = row.attempts;
        verdict.settled.push((row, Outcome::Unlabelled { reason, attempts }));
    }
    verdict
}

/// What is left to do when the room for a reply could not be raised: smaller calls, and an end for
/// a row whose reply fills all the room there is.
pub(super) fn split_cut(parcels: Vec<Parcel>) -> Verdict {
    let mut verdict = Verdict::default();
    for parcel in parcels {
        let split = refuse(parcel, Reason::Missing);
        verdict.parcels.extend(split.parcels);
        verdict.settled.extend(split.settled);
        verdict.refused_alone |= split.refused_alone;
    }
    verdict
}

fn count(counts: &mut Vec<(Reason, u64)>, reason: Reason) {
    match counts.iter_mut().find(|(counted, _)| *counted == reason) {
        Some((_, rows)) => *rows += 1,
        None => counts.push((reason, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LabelIndex, Position, RowId, TextHash, Tokens};

    const NOW: Circumstances = Circumstances {
        max_attempts: 2,
        last_answer: Some(Moment(Duration::from_secs(90))),
        only_failed_rows_left: false,
        now: Moment(Duration::from_secs(60)),
    };

    fn rows(count: u64) -> Vec<Row> {
        (0..count)
            .map(|n| Row {
                position: Position(n),
                id: RowId::Integer(n.into()),
                text: format!("row {n}").into(),
                text_hash: TextHash::of(&n.to_string()),
                tokens: Tokens(5),
                attempts: 0,
            })
            .collect()
    }

    fn reply(answers: Vec<Answer>) -> MatchedReply {
        let members = answers.iter().filter(|a| matches!(a, Answer::Label(_))).count();
        MatchedReply { answers, members, foreign: 0, repeated: 0 }
    }

    fn judge(count: u64, finish: Finish, answers: Vec<Answer>) -> Verdict {
        judge_reply(Parcel::of(rows(count)), finish, false, true, &reply(answers), NOW)
    }

    fn positions(rows: &[Row]) -> Vec<u64> {
        rows.iter().map(|row| row.position.0).collect()
    }

    #[test]
    fn a_cut_reply_full_of_foreign_keys_counts_for_no_row_that_had_neighbours() {
        let label = Answer::Label(LabelIndex(1));
        let flooded = |count: usize, foreign| {
            let matched = MatchedReply { foreign, ..reply(vec![label; count]) };
            judge_reply(Parcel::of(rows(count as u64)), Finish::Length, false, false, &matched, NOW)
        };
        let verdict = flooded(20, 5);
        assert_eq!((verdict.settled.len(), verdict.parcels.len()), (0, 2));
        assert_eq!(flooded(20, 4).settled.len(), 20, "a few are chance");
        assert_eq!(flooded(1, 800).settled.len(), 1, "a lone row harms itself at most");
    }

    #[test]
    fn a_left_out_row_is_asked_again_and_the_others_stand() {
        let missing = Answer::Unresolved(Reason::Missing);
        let label = Answer::Label(LabelIndex(1));
        let verdict = judge(3, Finish::Stop, vec![label, missing, label]);
        assert_eq!(verdict.settled.len(), 2);
        assert_eq!(positions(&verdict.again), [1]);
        assert_eq!(verdict.again[0].attempts, 1);
        assert_eq!(verdict.unresolved, [(Reason::Missing, 1)]);
    }

    #[test]
    fn a_row_that_was_asked_often_enough_ends_with_its_reason() {
        let mut asked = rows(1);
        asked[0].attempts = 1;
        let matched = reply(vec![Answer::Unresolved(Reason::UnknownCode)]);
        let verdict = judge_reply(Parcel::of(asked), Finish::Stop, false, true, &matched, NOW);
        let outcome = Outcome::Unlabelled { reason: Reason::UnknownCode, attempts: 2 };
        assert_eq!(verdict.settled[0].1, outcome);
    }

    #[test]
    fn a_refusal_is_halved_to_the_poison_row_and_costs_no_attempt() {
        let mut open = vec![Parcel::of(rows(9))];
        let (mut refused, mut asked) = (Vec::new(), 0);
        while let Some(parcel) = open.pop() {
            asked += 1;
            assert!(parcel.rows.iter().all(|row| row.attempts == 0));
            if !positions(&parcel.rows).contains(&6) {
                continue;
            }
            let verdict = judge_error(parcel, &ProviderError::ContentRefused, Duration::ZERO, NOW);
            open.extend(verdict.parcels);
            refused.extend(verdict.settled);
        }
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0.position, Position(6));
        let outcome = Outcome::Unlabelled { reason: Reason::Refused, attempts: 1 };
        assert_eq!(refused[0].1, outcome);
        assert!(asked <= 9, "{asked} calls");
    }

    #[test]
    fn a_reply_without_an_answer_is_halved_and_ends_a_lone_row_by_what_it_says() {
        for prose in [true, false] {
            let judge = |count| {
                let matched = reply(vec![Answer::Unresolved(Reason::Missing); count as usize]);
                let parcel = Parcel::of(rows(count));
                judge_reply(parcel, Finish::Stop, false, prose, &matched, NOW)
            };
            let halved = judge(2);
            assert_eq!(halved.parcels.len(), 2);
            assert!(halved.parcels.iter().all(|parcel| parcel.rows[0].attempts == 0));
            let lone = judge(1);
            match prose {
                true => assert!(lone.refused_alone),
                false => assert_eq!(lone.again[0].attempts, 1),
            }
        }
    }

    #[test]
    fn a_cut_reply_keeps_its_answers_and_splits_the_rest() {
        let mut answers = vec![Answer::Unresolved(Reason::Missing); 5];
        answers[0] = Answer::Label(LabelIndex(0));
        let verdict = judge(5, Finish::Length, answers);
        assert_eq!(verdict.settled.len(), 1);
        let sizes: Vec<usize> = verdict.parcels.iter().map(|parcel| parcel.rows.len()).collect();
        assert_eq!(sizes, [2, 2]);
    }

    #[test]
    fn a_reply_cut_before_its_first_answer_asks_for_more_room_first() {
        let verdict = judge(4, Finish::Length, vec![Answer::Unresolved(Reason::Missing); 4]);
        assert_eq!(verdict.room, Room::RaiseOrSplit);
        assert_eq!(verdict.parcels, [Parcel::of(rows(4))]);
        let split = split_cut(verdict.parcels);
        assert!(split.settled.is_empty());
        let sizes: Vec<usize> = split.parcels.iter().map(|parcel| parcel.rows.len()).collect();
        assert_eq!(sizes, [2, 2]);
        let alone = split_cut(vec![Parcel::of(rows(1))]);
        let outcome = Outcome::Unlabelled { reason: Reason::Missing, attempts: 1 };
        assert_eq!(alone.settled[0].1, outcome);
        assert!(alone.refused_alone);
    }

    #[test]
    fn a_bad_key_stops_the_run_and_loses_no_row() {
        let error = ProviderError::Rejected { status: 401, message: "bad key".into() };
        let verdict = judge_error(Parcel::of(rows(3)), &error, Duration::ZERO, NOW);
        assert!(matches!(verdict.stop, Some(StopReason::Rejected(_))));
        assert_eq!(verdict.parcels[0].rows.len(), 3);
    }

    fn fail(parcel: Parcel, times: u16, circumstances: Circumstances) -> Verdict {
        let error =
            ProviderError::ServerError { status: 500, message: String::new(), retry_after: None };
        let mut verdict = Verdict { parcels: vec![parcel], ..Verdict::default() };
        for _ in 0..times {
            let parcel = verdict.parcels.remove(0);
            verdict = judge_error(parcel, &error, Duration::ZERO, circumstances);
        }
        verdict
    }

    #[test]
    fn rows_that_fail_while_others_succeed_are_split_and_at_last_given_up() {
        let verdict = fail(Parcel::of(rows(2)), FAILURES_AMONG_ANSWERS, NOW);
        assert_eq!(verdict.parcels.len(), 2);
        let verdict = fail(Parcel::of(rows(1)), FAILURES_AMONG_ANSWERS, NOW);
        let outcome = Outcome::Unlabelled { reason: Reason::ProviderError, attempts: 1 };
        assert_eq!(verdict.settled[0].1, outcome);
    }

    #[test]
    fn an_outage_is_no_rows_fault_unless_nothing_else_is_left_to_tell_by() {
        let outage = Circumstances { last_answer: None, ..NOW };
        assert_eq!(fail(Parcel::of(rows(2)), 100, outage).parcels[0].rows.len(), 2);
        let end = Circumstances { only_failed_rows_left: true, ..outage };
        let verdict = fail(Parcel::of(rows(1)), FAILURES_AT_THE_END, end);
        assert_eq!(verdict.settled.len(), 1);
    }

    #[test]
    fn a_request_rejected_for_one_row_is_halved_to_that_row() {
        let error = ProviderError::Rejected { status: 400, message: "bad row".into() };
        let verdict = judge_error(Parcel::of(rows(3)), &error, Duration::ZERO, NOW);
        assert_eq!((verdict.parcels.len(), verdict.stop), (2, None));
        let verdict = judge_error(Parcel::of(rows(1)), &error, Duration::ZERO, NOW);
        assert!(verdict.refused_alone);
    }
}
