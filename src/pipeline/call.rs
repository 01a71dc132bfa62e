//! One call on its way: sent, journaled, matched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::beside::AnswerSink;
use super::probes::{Probe, without_guests};
use super::settlement::Parcel;
use crate::domain::{Clock, Codebook, Tokens};
use crate::llm::asker::{Asker, PreparedCall};
use crate::llm::governor::Reservation;
use crate::llm::keys::Key;
use crate::llm::provider::{ChatReply, Finish, ProviderError};
use crate::llm::reply_matcher::{Answer, MatchedReply, match_reply};
use crate::output::journal::{Journal, JournaledRow, ReplyEnd, ReplyRecord};
use crate::output::store::StoreError;

/// What a call needs from the run.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) asker: Arc<Asker>,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) codebook: Arc<Codebook>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) answers: Option<Arc<dyn AnswerSink>>,
}

impl Line {
    /// The journal, for one entry.
    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that ended.
pub(super) struct CallEnd {
    /// Its number in this run, from 1.
    pub(super) number: u64,
    /// Its rows.
    pub(super) parcel: Parcel,
    /// What was asked.
    pub(super) prepared: PreparedCall,
    /// What the governor holds for it.
    pub(super) reservation: Reservation,
    /// From sending to the end.
    pub(super) took: Duration,
    /// What it says of the probes among its rows.
    pub(super) probed: Vec<(Probe, Answer)>,
    /// The reply and what it says of its own rows, or why there is none.
    pub(super) result: Result<(ChatReply, MatchedReply), ProviderError>,
    /// What the journal did not take, and why: storage fails.
    pub(super) unjournaled: Option<(ReplyRecord, StoreError)>,
}

/// Sends a call and takes its reply: into the journal first, then apart.
pub(super) async fn run(
    line: Line,
    number: u64,
    mut parcel: Parcel,
    prepared: PreparedCall,
    reservation: Reservation,
) -> CallEnd {
    let sent = line.clock.now();
    let reply = line.asker.send(&prepared).await;
    let took = line.clock.now().since(sent);
    let (mut unjournaled, mut probed) = (None, Vec::new());
    let result = reply.map(|reply| {
        let guests = std::mem::take(&mut parcel.guests);
        // Probes stand in no journal, so no rerun can take their answers for their rows'.
        let (keys, their_keys) = without_guests(&prepared.keys, &guests);
        if !keys.is_empty() {
            let record = record(number, &parcel, &keys, &prepared, &reply, &*line.clock);
            let journaled = line.journal().reply(&record);
            unjournaled = journaled.err().map(|error| (record, error));
        }
        let is_cut = reply.finish == Finish::Length;
        let matched = |keys: &[Key]| match_reply(&reply.content, is_cut, keys, &line.codebook);
        if !guests.is_empty() {
            let probes = guests.into_iter().map(|guest| guest.probe);
            probed = probes.zip(matched(&their_keys).answers).collect();
        }
        let matched = matched(&keys);
        if let Some(sink) = &line.answers {
            let ids = parcel.rows.iter().map(|row| row.id.clone());
            sink.replied(ids.zip(matched.answers.iter().copied()).collect());
        }
        (reply, matched)
    });
    CallEnd { number, parcel, prepared, reservation, took, probed, result, unjournaled }
}

fn record(
    number: u64,
    parcel: &Parcel,
    keys: &[Key],
    prepared: &PreparedCall,
    reply: &ChatReply,
    clock: &dyn Clock,
) -> ReplyRecord {
    let rows = parcel.rows.iter().zip(keys);
    ReplyRecord {
        call: number,
        at: clock.wall(),
        rows: rows
            .map(|(row, key)| JournaledRow {
                key: key.0.clone(),
                position: row.position,
                id: row.id.clone(),
                text_hash: row.text_hash,
            })
            .collect(),
        form: prepared.request.dialect.form().answer_form(),
        end: match reply.finish {
            Finish::Stop => ReplyEnd::Whole,
            Finish::Length => ReplyEnd::Cut,
            Finish::Refused => ReplyEnd::Refused,
        },
        reply: reply.content.clone(),
        usage: reply.usage,
        model: reply.model.clone(),
    }
}

/// What a call costs: the provider's own count, or what was expected without one.
pub(super) fn cost(prepared: &PreparedCall, reply: &ChatReply) -> Tokens {
    let expected = || prepared.reserved.input + prepared.reserved.output;
    reply.usage.map_or_else(expected, |usage| usage.total())
}
