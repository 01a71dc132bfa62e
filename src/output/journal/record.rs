//! The lines of a segment.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::super::job::Fingerprint;
use crate::domain::spec::AnswerForm;
use crate::domain::{Position, RowId, TextHash, UnixMillis, Usage};

/// One line of a segment; the first is its header.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Segment(SegmentHeader),
    Reply(Cow<'a, ReplyRecord>),
}

/// Binds a segment's lines to their job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentHeader {
    pub(super) version: u32,
    pub(super) job: Fingerprint,
    pub(super) run: String,
    pub(super) started: UnixMillis,
}

/// A reply as it came, and the rows that were asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyRecord {
    /// The call's number in its run.
    pub call: u64,
    /// When the reply was whole.
    pub at: UnixMillis,
    /// The rows of the call, in the order of the request.
    pub rows: Vec<JournaledRow>,
    /// The form that was asked for.
    pub form: AnswerForm,
    /// How the reply ended.
    pub end: ReplyEnd,
    /// Its text, unparsed.
    pub reply: String,
    /// What it used, if the provider said so.
    pub usage: Option<Usage>,
    /// The model that answered, if the provider named it.
    pub model: Option<String>,
}

/// A row of a call: what binds a key of the reply to a row of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournaledRow {
    /// The key that stood for it.
    pub key: Box<str>,
    /// Its place in id order.
    pub position: Position,
    /// Its id.
    pub id: RowId,
    /// The hash of its text.
    pub text_hash: TextHash,
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyEnd {
    /// The model was done.
    Whole,
    /// It reached the most tokens that it may have.
    Cut,
    /// The request was refused as a whole.
    Refused,
}

/// The file of a segment.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:06}.jsonl")
}

/// The number of a segment's file.
pub(super) fn parse_segment(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".jsonl")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
pub(in crate::output) mod tests {
    use super::*;
    use crate::domain::Tokens;

    /// A reply to a call for the rows at `positions`.
    pub(in crate::output) fn reply_for(call: u64, positions: &[u64]) -> ReplyRecord {
        let row = |position: &u64| JournaledRow {
            key: format!("{}", 100 + position).into(),
            position: Position(*position),
            id: RowId::Integer(i128::from(*position) * 10),
            text_hash: TextHash::of(&format!("text {position}")),
        };
        ReplyRecord {
            call,
            at: UnixMillis(1_800_000_000_000 + call),
            rows: positions.iter().map(row).collect(),
            form: AnswerForm::Array,
            end: ReplyEnd::Whole,
            reply: "{\"r\":[\"101:A\"]}\n".into(),
            usage: Some(Usage { prompt: Tokens(700), completion: Tokens(20), ..Usage::default() }),
            model: Some("gpt-4o-mini-2024-07-18".into()),
        }
    }

    #[test]
    fn segment_names_read_back() {
        assert_eq!(parse_segment(&segment_name(12)), Some(12));
        assert_eq!(parse_segment("charges.jsonl"), None);
        assert_eq!(parse_segment("12.jsonl"), None);
    }
}
