//! Numbers, times and events in the words that every display shares.

use std::time::Duration;

use crate::cli::console::one_line;
use crate::cli::summary_view::dollars;
use crate::domain::event::{Disagreement, Event, WaitFor};

pub use crate::domain::grouped;

/// A rounded rate, grouped.
pub fn grouped_rate(rate: f64) -> String {
    grouped(rate.max(0.0).round() as u64)
}

/// `4.2 s`, `5 m 12 s`, `5 h 54 m`, `3 d 4 h`: two units at most.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `4 of 180 rows that were asked twice differ: 2.2 % (95 % between 0.9 % and 5.6 %)`.
pub fn disagreement(probes: &Disagreement) -> String {
    let Disagreement { probes: of, differing, low, high } = *probes;
    format!(
        "{} of {} rows that were asked twice differ: {} (95 % between {} and {})",
        grouped(differing),
        grouped(of),
        percent(differing as f64 / of.max(1) as f64),
        percent(low),
        percent(high)
    )
}

/// `probes differ 0.9-5.6 %`: where the share lies, in short.
pub fn differing(probes: &Disagreement) -> String {
    format!("probes differ {:.1}-{:.1} %", probes.low * 100.0, probes.high * 100.0)
}

/// What the run waits for.
pub fn wait(wait: WaitFor) -> &'static str {
    match wait {
        WaitFor::Tokens => "token window",
        WaitFor::Requests => "request window",
        WaitFor::InputTokens => "input token window",
        WaitFor::OutputTokens => "output token window",
        WaitFor::Day => "day's limit",
        WaitFor::Spread => "even pace",
        WaitFor::RetryAfter => "provider's retry-after",
        WaitFor::Backoff => "backing off",
        WaitFor::Replies => "replies",
        WaitFor::Budget => "room under the bound on cost",
        WaitFor::Storage => "storage",
    }
}

/// Shorter pauses that a provider asks for are not worth a line.
const SHORT_HOLD_SECONDS: f64 = 10.0;

/// The line that an event is worth on a terminal or in a log; `None` for what only counts.
pub fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunStarted { .. } => started(event)?,
        Event::PartReopened { part, rows } => {
            format!("part {part} is opened again: {} rows are asked again", grouped(*rows))
        }
        Event::ParameterDropped { parameter } => {
            format!("the model takes no `{parameter}`; it is left out from now on")
        }
        Event::FormChanged { from, to } => {
            format!("answers are asked as `{to}` instead of `{from}` from now on")
        }
        Event::CommitFailed { failures, message, retry_in, .. } => {
            let times = match failures {
                1 => String::new(),
                times => format!(" ({times} times in a row)"),
            };
            let next = match retry_in {
                Some(seconds) => format!(
                    "no call starts meanwhile; tried again in {}",
                    span(super::tally::duration(*seconds))
                ),
                None => "not tried again".into(),
            };
            format!("storage: {}{times}; {next}", one_line(message))
        }
        Event::CommitStalled { part, seconds } => format!(
            "storage: {} has been on its way for {}; no call starts until it is there",
            part.file_name(),
            span(super::tally::duration(*seconds))
        ),
        Event::Held { seconds, asked } if *seconds >= SHORT_HOLD_SECONDS => {
            let pause = span(super::tally::duration(*seconds));
            match asked.filter(|asked| *asked > *seconds) {
                Some(asked) => format!(
                    "the provider asks to wait for {}; one call asks again in {pause}",
                    span(super::tally::duration(asked))
                ),
                None => format!("the provider asks to wait; no call starts for {pause}"),
            }
        }
        Event::DailyLimitUsed { limit, most, resets_in } => format!(
            "limits.{limit} of {} is used up; there is room again in {}",
            grouped(*most),
            span(super::tally::duration(*resets_in))
        ),
        Event::Spending { is_final: false, .. } => spending(event)?,
        Event::RowsPerCallChanged { from, to, disagreement, bound } => format!(
            "{to} rows a call instead of {from} from now on: {}; the bound is {}",
            self::disagreement(disagreement),
            percent(*bound)
        ),
        Event::JournalReplayed { rows } => {
            format!("{} paid answers of an earlier run are taken from its journal", grouped(*rows))
        }
        Event::ScorerFitted { rows, right, labels_without_rows } => {
            let right = right.map_or_else(String::new, |right| {
                let percent = right as f64 * 100.0 / (*rows).max(1) as f64;
                format!("; cross-validated, {percent:.1} % of them are right")
            });
            let without = match labels_without_rows {
                0 => String::new(),
                1 => "; 1 label has no row there and is never given".into(),
                labels => format!("; {labels} labels have no row there and are never given"),
            };
            format!("the scorer learned from {} rows{right}{without}", grouped(*rows))
        }
        Event::Warning { message } => format!("warning: {}", one_line(message)),
        _ => return None,
    })
}

/// The line of a failed call; `None` for any other event.
pub fn failure(event: &Event) -> Option<String> {
    let Event::CallFailed { call, rows, kind, status, message, retry_in, .. } = event else {
        return None;
    };
    let status = status.map_or_else(String::new, |status| format!(" {status}"));
    let next = match retry_in {
        Some(seconds) => format!("tried again in {}", span(super::tally::duration(*seconds))),
        None => "not tried again".into(),
    };
    Some(format!("call {call} ({rows} rows) failed: {kind}{status}: {}; {next}", one_line(message)))
}

fn started(event: &Event) -> Option<String> {
    let Event::RunStarted {
        rows,
        rows_done,
        provider,
        model,
        host,
        api_key_env,
        tokens_per_minute,
        rows_per_call,
        ..
    } = event
    else {
        return None;
    };
    let done = match rows_done {
        0 => String::new(),
        done => format!(", {} of them done", grouped(*done)),
    };
    let who = match (host.as_str(), api_key_env) {
        ("", _) => format!("{provider} (offline)"),
        (host, Some(variable)) => format!("{model} at {host}, key from {variable}"),
        (host, None) => format!("{model} at {host}, no key sent"),
    };
    let limit = match tokens_per_minute {
        Some(limit) => format!("{} tokens/min", grouped(u64::from(*limit))),
        None => "no token limit".into(),
    };
    Some(
        one_line(&format!(
            "{} rows{done}; {who}; at most {rows_per_call} rows a call; {limit}",
            grouped(*rows)
        ))
        .into_owned(),
    )
}

/// What the job has cost and may cost.
fn spending(event: &Event) -> Option<String> {
    let Event::Spending { tokens, cost_usd, max_tokens, max_cost_usd, prices, .. } = event else {
        return None;
    };
    let cost = cost_usd.map(|cost| format!(", {}", dollars(cost))).unwrap_or_default();
    let prices = prices.as_ref().map(|prices| format!(" ({prices})")).unwrap_or_default();
    let bounds =
        [max_cost_usd.map(dollars), max_tokens.map(|tokens| format!("{} tokens", grouped(tokens)))];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    let bounds = match bounds.is_empty() {
        true => String::new(),
        false => format!("; it may cost at most {}", bounds.join(" and ")),
    };
    Some(format!("the job has cost {} tokens{cost} so far{prices}{bounds}", grouped(*tokens)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PartNumber;

    #[test]
    fn numbers_are_grouped_by_three() {
        let grouped = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_the_job_may_cost_stands_beside_what_it_has_cost() {
        let spending = |prices: Option<&str>, max_tokens| Event::Spending {
            tokens: 412_000,
            cost_usd: prices.map(|_| 1.24),
            max_tokens,
            max_cost_usd: prices.map(|_| 12.5),
            prices: prices.map(str::to_owned),
            is_final: false,
        };
        assert_eq!(
            line(&spending(Some("prices of October 2026"), None)).unwrap(),
            "the job has cost 412,000 tokens, $1.24 so far (prices of October 2026); it may cost at \
             most $12.50"
        );
        assert_eq!(
            line(&spending(None, Some(3_000_000))).unwrap(),
            "the job has cost 412,000 tokens so far; it may cost at most 3,000,000 tokens"
        );
    }

    #[test]
    fn times_have_two_units_at_most() {
        let spans = [4, 59, 60, 3_599, 21_240, 273_600];
        let spans = spans.map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["4.0 s", "59 s", "1 m 0 s", "59 m 59 s", "5 h 54 m", "3 d 4 h"]);
    }

    #[test]
    fn host_and_key_variable_are_named_before_the_first_call() {
        let event = Event::RunStarted {
            run: "r".into(),
            rows: 2_000_000,
            rows_done: 50_000,
            unlabelled: 0,
            provider: "openai".into(),
            model: "gpt-4o-mini".into(),
            host: "api.openai.com".into(),
            api_key_env: Some("OPENAI_API_KEY".into()),
            tokens_per_minute: Some(200_000),
            rows_per_call: 50,
        };
        assert_eq!(
            line(&event).unwrap(),
            "2,000,000 rows, 50,000 of them done; gpt-4o-mini at api.openai.com, key from \
             OPENAI_API_KEY; at most 50 rows a call; 200,000 tokens/min"
        );
    }

    #[test]
    fn what_the_scorer_learned_is_told_with_what_it_is_worth() {
        let fitted = |right, labels_without_rows| {
            line(&Event::ScorerFitted { rows: 10_003, right, labels_without_rows }).unwrap()
        };
        assert_eq!(
            fitted(Some(9_045), 0),
            "the scorer learned from 10,003 rows; cross-validated, 90.4 % of them are right"
        );
        let without =
            "the scorer learned from 10,003 rows; 2 labels have no row there and are never given";
        assert_eq!(fitted(None, 2), without);
    }

    #[test]
    fn probes_are_told_with_their_interval_and_what_follows_from_them() {
        let probes = Disagreement { probes: 180, differing: 20, low: 0.073, high: 0.165 };
        let step =
            Event::RowsPerCallChanged { from: 100, to: 50, disagreement: probes, bound: 0.05 };
        assert_eq!(
            line(&step).unwrap(),
            "50 rows a call instead of 100 from now on: 20 of 180 rows that were asked twice differ: \
             11.1 % (95 % between 7.3 % and 16.5 %); the bound is 5.0 %"
        );
        assert_eq!(differing(&probes), "probes differ 7.3-16.5 %");
    }

    #[test]
    fn a_long_pause_and_a_used_up_day_are_told_with_their_end() {
        let held = |seconds, asked| line(&Event::Held { seconds, asked });
        assert_eq!(held(2.0, Some(2.0)), None);
        assert_eq!(
            held(20.2, Some(20.0)).unwrap(),
            "the provider asks to wait; no call starts for 20 s"
        );
        assert_eq!(
            held(600.1, Some(7_200.0)).unwrap(),
            "the provider asks to wait for 2 h 0 m; one call asks again in 10 m 0 s"
        );
        let used = Event::DailyLimitUsed {
            limit: "requests_per_day".into(),
            most: 10_000,
            resets_in: 12_000.0,
        };
        assert_eq!(
            line(&used).unwrap(),
            "limits.requests_per_day of 10,000 is used up; there is room again in 3 h 20 m"
        );
    }

    #[test]
    fn failing_storage_is_named_with_how_often_and_when_it_is_tried_again() {
        let failed = |failures, retry_in| Event::CommitFailed {
            part: PartNumber(2),
            failures,
            message: "writing out/part-000002.parquet failed for now: timed out".into(),
            retry_in,
        };
        assert_eq!(
            line(&failed(1, Some(0.5))).unwrap(),
            "storage: writing out/part-000002.parquet failed for now: timed out; no call starts \
             meanwhile; tried again in 0.5 s"
        );
        assert_eq!(
            line(&failed(7, None)).unwrap(),
            "storage: writing out/part-000002.parquet failed for now: timed out (7 times in a \
             row); not tried again"
        );
        let stalled = Event::CommitStalled { part: PartNumber(2), seconds: 5.0 };
        assert_eq!(
            line(&stalled).unwrap(),
            "storage: part-000002.parquet has been on its way for 5.0 s; no call starts until it \
             is there"
        );
    }

    #[test]
    fn a_providers_words_cant_steer_the_terminal() {
        let event = Event::CallFailed {
            call: 3,
            rows: 50,
            kind: "server_error".into(),
            status: Some(502),
            message: "\u{1b}[2Jbad\ngateway".into(),
            retry_in: Some(4.0),
            seconds: 1.0,
        };
        assert_eq!(
            failure(&event).unwrap(),
            "call 3 (50 rows) failed: server_error 502: \\u{1b}[2Jbad\\ngateway; tried again in 4.0 s"
        );
    }
}
