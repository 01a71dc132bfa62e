//! What happens in a run, as typed events. The core reports; the edge prints.
//!
//! A bar, plain lines and JSON lines are three readers of this one stream. Events hold counts and
//! part numbers, never a row's text or a key.

use serde::Serialize;

use super::{PartNumber, Reason, Tokens};

/// The version of the events' JSON form.
pub const EVENT_VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The input is proved sound and the output is claimed; asking begins.
    RunStarted {
        /// This run's name.
        run: String,
        /// Planned rows.
        rows: u64,
        /// Of those, rows that stand in finished parts already.
        rows_done: u64,
        /// Of the finished ones, rows without a label.
        unlabelled: u64,
        /// Who answers.
        provider: String,
        /// The model's name.
        model: String,
        /// The host that is asked; empty for the embedded provider.
        host: String,
        /// The variable that holds the key, if one is sent.
        api_key_env: Option<String>,
        /// The limit, if there is one.
        tokens_per_minute: Option<u32>,
        /// Most rows in one call.
        rows_per_call: u32,
    },
    /// The embedded scorer learned from rows with known labels.
    ScorerFitted {
        /// How many rows.
        rows: u64,
        /// How many of them it labels rightly when it learns from others alone (five-fold
        /// cross-validation); `None` where finding out would take long.
        right: Option<u64>,
        /// Labels that none of the rows has, so that they are never given.
        labels_without_rows: u64,
    },
    /// What the job may cost and what it has cost over all runs: before the first call, and at the
    /// end. Only where something has a price or a bound.
    Spending {
        /// Tokens billed so far, prompt and completion; calls without an account in the worst case.
        tokens: u64,
        /// What they cost, US dollars, where prices are known.
        cost_usd: Option<f64>,
        /// The bound on tokens.
        max_tokens: Option<u64>,
        /// The bound on money, US dollars.
        max_cost_usd: Option<f64>,
        /// Whose prices these are, in words.
        prices: Option<String>,
        /// Whether this is the end of the run.
        is_final: bool,
    },
    /// A finished part is opened again because some of its rows are asked again.
    PartReopened {
        /// Which part.
        part: PartNumber,
        /// How many of its rows are asked again.
        rows: u64,
    },
    /// Rows got their outcome.
    RowsSettled {
        /// Where it came from.
        source: Source,
        /// Rows that got a label.
        labelled: u64,
        /// Rows that end without a label.
        unlabelled: u64,
    },
    /// A call was sent.
    CallStarted {
        /// Its number in this run, from 1.
        call: u64,
        /// Rows in it.
        rows: u64,
        /// Tokens reserved for it.
        reserved: Tokens,
        /// Calls in flight, this one included.
        in_flight: u64,
    },
    /// A reply was read.
    CallFinished {
        /// Which call.
        call: u64,
        /// Rows in it.
        rows: u64,
        /// Rows that the reply settled.
        settled: u64,
        /// Tokens of the request as charged.
        prompt_tokens: Tokens,
        /// Tokens of the reply as charged.
        completion_tokens: Tokens,
        /// Tokens in the ledger's last 60 s.
        window_tokens: u64,
        /// From sending to the last byte, seconds.
        seconds: f64,
    },
    /// A call failed; waiting for capacity is not among the failures.
    CallFailed {
        /// Which call.
        call: u64,
        /// Rows in it.
        rows: u64,
        /// What kind of failure, such as `rate_limited`, `server_error`, `timeout`.
        kind: String,
        /// The HTTP status, if there was a reply.
        status: Option<u16>,
        /// What failed, in words.
        message: String,
        /// When such a call is tried again, seconds; `None` if not.
        retry_in: Option<f64>,
        /// From sending to the failure, seconds.
        seconds: f64,
    },
    /// Rows were left out or misanswered and go back to be asked again.
    RowsUnresolved {
        /// Why.
        reason: Reason,
        /// How many.
        rows: u64,
    },
    /// Rows were kept apart from others, since their texts speak of keys, codes or instructions.
    RowsIsolated {
        /// How many.
        rows: u64,
    },
    /// Rows that have a label were asked a second time.
    Probed {
        /// The rows per call in force.
        rows_per_call: u64,
        /// The latest of them, up to 400, labelled and asked again at that size.
        recent: Disagreement,
        /// All of this run.
        run: Disagreement,
    },
    /// More or fewer rows share a call from now on, for how often such rows were answered otherwise.
    RowsPerCallChanged {
        /// Rows per call until now.
        from: u64,
        /// Rows per call from now on.
        to: u64,
        /// What it was decided by.
        disagreement: Disagreement,
        /// The bound, a share.
        bound: f64,
    },
    /// No call can start for a while.
    Waiting {
        /// For what.
        wait: WaitFor,
        /// How long, seconds.
        seconds: f64,
        /// Tokens in the ledger's last 60 s.
        window_tokens: u64,
    },
    /// The provider answered 429: no call starts for a while.
    Held {
        /// For how long, seconds.
        seconds: f64,
        /// How long the provider asked to wait, seconds, if it said so. After ten minutes one call
        /// asks again all the same.
        asked: Option<f64>,
    },
    /// A day's limit is used up: the run waits, or ends if it was told to.
    DailyLimitUsed {
        /// Its key in `[limits]`.
        limit: String,
        /// What it allows.
        most: u64,
        /// Until there is room for another call, seconds.
        resets_in: f64,
    },
    /// The rolling minute crossed a mark upwards.
    WindowCrossed {
        /// 85, 95 or 98 per cent of the limit.
        percent: u8,
        /// Tokens in the window.
        window_tokens: u64,
        /// The limit.
        limit: u64,
    },
    /// The provider refused a parameter; it is not sent again in this run.
    ParameterDropped {
        /// Its name.
        parameter: String,
    },
    /// The answer's form stepped down.
    FormChanged {
        /// The form until now.
        from: String,
        /// The form from now on.
        to: String,
    },
    /// A part was committed: file and manifest entry are on disk.
    PartCommitted {
        /// Which part.
        part: PartNumber,
        /// Its rows.
        rows: u64,
        /// Of those, rows without a label.
        unlabelled: u64,
        /// Its size.
        bytes: u64,
    },
    /// A part could not be committed. No call starts until one of its next tries succeeds.
    CommitFailed {
        /// Which part.
        part: PartNumber,
        /// How often it has failed in a row.
        failures: u32,
        /// What failed, in words.
        message: String,
        /// When it is tried again, seconds; `None` if not.
        retry_in: Option<f64>,
    },
    /// A part has been on its way to storage for so long that no call starts until it is there.
    CommitStalled {
        /// Which part.
        part: PartNumber,
        /// For how long, seconds.
        seconds: f64,
    },
    /// Answers of an earlier run were taken from its journal instead of being paid again.
    JournalReplayed {
        /// Rows that got their outcome from it.
        rows: u64,
    },
    /// Something that a person should know and that stops nothing.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The run was told to stop; what is in flight is finished first.
    Interrupted,
    /// The run ended.
    RunFinished {
        /// How.
        end: RunEnd,
        /// Planned rows.
        rows: u64,
        /// Rows with a label, over all runs.
        labelled: u64,
        /// Rows that are done and have no label, over all runs.
        unlabelled: u64,
        /// Calls of this run.
        calls: u64,
        /// Tokens of this run as charged.
        tokens: u64,
        /// How long it took.
        seconds: f64,
        /// What stopped it, in words, if something did.
        #[serde(skip_serializing_if = "Option::is_none")]
        stopped_by: Option<String>,
        /// Rows of this run that were kept apart from others, if there were any.
        #[serde(skip_serializing_if = "is_zero")]
        isolated: u64,
        /// How many labels held when their rows were asked a second time, if any were.
        #[serde(skip_serializing_if = "Option::is_none")]
        probes: Option<Disagreement>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How often rows that were asked a second time were answered otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// Rows that were asked again and answered.
    pub probes: u64,
    /// Of those, rows whose second answer is not their label.
    pub differing: u64,
    /// Where the true share lies with a confidence of 95 %: at least here.
    pub low: f64,
    /// At most here.
    pub high: f64,
}

/// Where a row's outcome came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A reply in this run.
    Reply,
    /// A row with the same text.
    SameText,
    /// The journal of an earlier run.
    Journal,
    /// The input's own label column.
    Input,
    /// Given up on, or never asked (no text, too long).
    GivenUp,
}

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// The token window.
    Tokens,
    /// The request window.
    Requests,
    /// The window of input tokens.
    InputTokens,
    /// The window of output tokens.
    OutputTokens,
    /// A day's limit that is used up.
    Day,
    /// The even spread of calls over the minute.
    Spread,
    /// A 429's Retry-After.
    RetryAfter,
    /// Backing off after failures.
    Backoff,
    /// Replies to calls in flight.
    Replies,
    /// Replies that leave room under `max_cost` or `max_tokens`.
    Budget,
    /// Storage that fails, or does not answer.
    Storage,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// Every planned row is done.
    Complete,
    /// Told to stop.
    Interrupted,
    /// The provider stopped it.
    Provider,
    /// Storage stopped it.
    Storage,
    /// The input stopped it: a file is damaged further on.
    Input,
    /// Quota or money stopped it.
    Quota,
}

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Takes one event. Never blocks for long and never fails.
    fn emit(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> EventSink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}
