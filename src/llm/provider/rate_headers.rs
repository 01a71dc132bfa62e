//! What a reply's headers say of the limits, in every spelling and time format that is in use.
//!
//! `x-ratelimit-*` (OpenAI and most others, Azure; also with `-minute` or `-day` at the end),
//! `x-ratelimit-*-project-tokens`, `x-rate-limit-*` (some gateways), `anthropic-ratelimit-*`, and
//! `x-ratelimit-*` without a unit, which means requests. With Groq the `-requests` figures are those
//! of a day; nothing in the headers tells.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::HeaderMap;

use super::{RateHeaders, Reading};
use crate::domain::UnixMillis;

/// Anthropic rounds remaining tokens to the nearest thousand: so many may be missing.
const ANTHROPIC_ROUNDS_BY: u64 = 500;

impl RateHeaders {
    /// Reads `headers`; `now` turns a time of day into a wait.
    pub(super) fn read(headers: &HeaderMap, now: UnixMillis) -> RateHeaders {
        let reader = Reader { headers, now };
        let anthropic =
            |unit: &str| reader.reading(|what| format!("anthropic-ratelimit-{unit}-{what}"));
        let anthropic_tokens = |unit: &str| {
            let mut reading = anthropic(unit);
            reading.remaining =
                reading.remaining.map(|left| left.saturating_sub(ANTHROPIC_ROUNDS_BY));
            reading
        };
        let named = |unit: &str| {
            let suffixed = reader.reading(|what| format!("x-ratelimit-{what}-{unit}-minute"));
            reader
                .reading(|what| format!("x-ratelimit-{what}-{unit}"))
                .or(reader.reading(|what| format!("x-rate-limit-{what}-{unit}")))
                .or(suffixed)
        };
        let daily = |unit: &str| reader.reading(|what| format!("x-ratelimit-{what}-{unit}-day"));
        let project = reader.reading(|what| format!("x-ratelimit-{what}-project-tokens"));
        let bare = reader.reading(|what| format!("x-ratelimit-{what}"));
        RateHeaders {
            // A project's share is the tighter of two limits that both hold.
            tokens: named("tokens").tighter(project).or(anthropic_tokens("tokens")),
            requests: named("requests").or(anthropic("requests")).or(bare),
            input: anthropic_tokens("input-tokens"),
            output: anthropic_tokens("output-tokens"),
            tokens_day: daily("tokens"),
            requests_day: daily("requests"),
        }
    }
}

impl Reading {
    /// Field by field, this one where it says something.
    fn or(self, other: Reading) -> Reading {
        Reading {
            limit: self.limit.or(other.limit),
            remaining: self.remaining.or(other.remaining),
            reset: self.reset.or(other.reset),
        }
    }

    fn tighter(self, other: Reading) -> Reading {
        let lower = |one: Option<u64>, other: Option<u64>| [one, other].into_iter().flatten().min();
        Reading {
            limit: lower(self.limit, other.limit),
            remaining: lower(self.remaining, other.remaining),
            reset: self.reset.or(other.reset),
        }
    }
}

struct Reader<'a> {
    headers: &'a HeaderMap,
    now: UnixMillis,
}

impl Reader<'_> {
    /// Reads `limit`, `remaining` and `reset` under the names that `name` gives them.
    fn reading(&self, name: impl Fn(&str) -> String) -> Reading {
        let value = |what| header(self.headers, &name(what));
        let reset = value("reset")
            .and_then(|value| parse_reset(value, self.now))
            .filter(|wait| !wait.is_zero());
        let count = |what| value(what).and_then(parse_count);
        Reading {
            limit: count("limit").filter(|limit| *limit > 0),
            // Some replies have zeros throughout where nothing is known.
            remaining: count("remaining").filter(|left| *left > 0 || reset.is_some()),
            reset,
        }
    }
}

/// How long the service asks to wait: `retry-after-ms`, or `Retry-After` in seconds, fractions of
/// them, or as an HTTP date.
pub(super) fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    if let Some(millis) = header(headers, "retry-after-ms").and_then(parse_seconds) {
        return Some(millis / 1000);
    }
    let value = header(headers, "retry-after")?;
    parse_wait(value, now)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A whole number; a negative one stands for "unknown" with some services.
fn parse_count(value: &str) -> Option<u64> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)?;
    Some(number as u64)
}

/// When a limit is whole again: a wait as for Retry-After, or a time in seconds or milliseconds
/// since 1970.
fn parse_reset(value: &str, now: UnixMillis) -> Option<Duration> {
    let number = value.parse::<f64>().ok().filter(|number| *number >= 1e9);
    let Some(number) = number else { return parse_wait(value, now) };
    let millis = if number >= 1e12 { number } else { number * 1000.0 };
    Some(Duration::from_millis((millis as u64).saturating_sub(now.0)))
}

/// A wait from now: bare seconds, a Go duration (`6m0s`, `120ms`), RFC 3339 or an HTTP date. A
/// time that has passed is no wait.
fn parse_wait(value: &str, now: UnixMillis) -> Option<Duration> {
    parse_seconds(value)
        .or_else(|| parse_go_duration(value))
        .or_else(|| parse_time(value).map(|at| Duration::from_millis(at.saturating_sub(now.0))))
}

fn parse_seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// Milliseconds since 1970 of an RFC 3339 time or an HTTP date.
fn parse_time(value: &str) -> Option<u64> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(value) {
        return u64::try_from(time.timestamp_millis()).ok();
    }
    let since = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn parse_go_duration(value: &str) -> Option<Duration> {
    if value.is_empty() {
        return None;
    }
    let mut rest = value;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Charge, Tokens};
    use reqwest::header::{HeaderName, HeaderValue};

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn read(pairs: &[(&str, &str)]) -> RateHeaders {
        RateHeaders::read(&headers(pairs), NOW)
    }

    fn reading(limit: u64, remaining: u64, reset_millis: u64) -> Reading {
        Reading {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(Duration::from_millis(reset_millis)),
        }
    }

    #[test]
    fn openai_headers_are_read() {
        let rate = read(&[
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
        ]);
        let expected = RateHeaders {
            tokens: reading(200_000, 149_984, 360_000),
            requests: reading(500, 499, 120),
            ..RateHeaders::default()
        };
        assert_eq!(rate, expected);
    }

    #[test]
    fn a_projects_tighter_share_holds() {
        let rate = read(&[
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "150000"),
            ("x-ratelimit-limit-project-tokens", "50000"),
            ("x-ratelimit-remaining-project-tokens", "9000"),
        ]);
        assert_eq!((rate.tokens.limit, rate.tokens.remaining), (Some(50_000), Some(9_000)));
    }

    #[test]
    fn azure_headers_are_read_in_plain_seconds_and_under_their_older_name() {
        let rate = read(&[
            ("x-ratelimit-remaining-tokens", "1200"),
            ("x-ratelimit-reset-tokens", "10"),
            ("x-rate-limit-reset-requests", "300"),
        ]);
        assert_eq!(rate.tokens.remaining, Some(1_200));
        assert_eq!(rate.tokens.limit, None, "some replies have only what remains");
        assert_eq!(rate.tokens.reset, Some(Duration::from_secs(10)));
        assert_eq!(rate.requests.reset, Some(Duration::from_secs(300)));
    }

    #[test]
    fn anthropic_headers_are_read_with_input_and_output_apart() {
        let pairs = ["requests", "tokens", "input-tokens", "output-tokens"].map(|unit| {
            ["limit", "remaining", "reset"].map(|what| format!("anthropic-ratelimit-{unit}-{what}"))
        });
        let values = [
            ["1000", "999", "2026-09-21T14:13:50Z"],
            ["2400000", "2300000", "2026-09-21T14:13:51Z"],
            ["2000000", "1900000", "2026-09-21T14:13:52Z"],
            ["400000", "0", "2026-09-21T14:13:53Z"],
        ];
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .zip(values)
            .flat_map(|(names, values)| names.iter().map(String::as_str).zip(values))
            .collect();
        let rate = read(&pairs);
        let expected = RateHeaders {
            requests: reading(1_000, 999, 30_000),
            tokens: reading(2_400_000, 2_299_500, 31_000),
            input: reading(2_000_000, 1_899_500, 32_000),
            output: reading(400_000, 0, 33_000),
            ..RateHeaders::default()
        };
        assert_eq!(rate, expected);
    }

    #[test]
    fn a_unit_of_time_in_the_name_is_believed() {
        let rate = read(&[
            ("x-ratelimit-limit-requests-day", "14400"),
            ("x-ratelimit-remaining-requests-day", "14399"),
            ("x-ratelimit-reset-requests-day", "33011.382867"),
            ("x-ratelimit-limit-tokens-minute", "60000"),
            ("x-ratelimit-remaining-tokens-day", "900000"),
        ]);
        assert_eq!(rate.requests_day.limit, Some(14_400));
        assert_eq!(rate.requests_day.reset.map(|reset| reset.as_secs()), Some(33_011));
        assert_eq!(rate.tokens.limit, Some(60_000));
        assert_eq!(rate.tokens_day.remaining, Some(900_000));
        assert_eq!(rate.requests, Reading::default());
    }

    #[test]
    fn headers_without_a_unit_are_those_of_requests() {
        for reset in ["1790000030", "1790000030000", "30", "30s", "30000ms"] {
            let rate = read(&[
                ("X-RateLimit-Limit", "60"),
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", reset),
            ]);
            assert_eq!(rate.requests, reading(60, 0, 30_000), "{reset}");
        }
    }

    #[test]
    fn minus_one_and_zeros_throughout_are_unknown() {
        let rate = read(&[
            ("x-ratelimit-limit-tokens", "-1"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "0"),
            ("x-ratelimit-limit-requests", "0"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "soon"),
        ]);
        assert_eq!(rate, RateHeaders::default());
        assert_eq!(read(&[]), RateHeaders::default());
    }

    #[test]
    fn nothing_left_is_known_where_it_says_until_when() {
        for (reset, seconds) in [("1m0s", 60), ("7", 7), ("2026-09-21T14:13:50Z", 30)] {
            let rate =
                read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", reset)]);
            let expected = (Some(0), Some(Duration::from_secs(seconds)));
            assert_eq!((rate.tokens.remaining, rate.tokens.reset), expected, "{reset}");
        }
    }

    #[test]
    fn a_429_beside_enough_room_is_not_explained_by_the_limit() {
        let charge = Charge { tokens: Tokens(1_850), input: Tokens(1_650), output: Tokens(200) };
        let left = |tokens: &str, requests: &str| {
            let rate = read(&[
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "1s"),
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "1s"),
            ]);
            rate.have_room_for(charge)
        };
        assert!(left("1850", "3"));
        assert!(!left("1849", "3") && !left("5000", "0"));
        assert!(!RateHeaders::default().have_room_for(charge), "nothing is known");
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        for (name, value, millis) in [
            ("retry-after", "20", 20_000),
            ("retry-after", "1.5", 1_500),
            ("retry-after", "0", 0),
            ("retry-after", "Mon, 21 Sep 2026 14:14:20 GMT", 60_000),
            ("retry-after", "Mon, 21 Sep 2020 14:14:20 GMT", 0),
            ("retry-after-ms", "250", 250),
        ] {
            let wait = retry_after(&headers(&[(name, value)]), NOW);
            assert_eq!(wait, Some(Duration::from_millis(millis)), "{name}: {value}");
        }
        let both = headers(&[("retry-after", "2"), ("retry-after-ms", "1200")]);
        assert_eq!(retry_after(&both, NOW), Some(Duration::from_millis(1200)));
    }

    #[test]
    fn nonsense_is_no_wait_and_no_panic() {
        for value in
            ["", "soon", "-5", "NaN", "inf", "1e400", "5x", "1h-", "9999999999999999999999h"]
        {
            assert_eq!(retry_after(&headers(&[("retry-after", value)]), NOW), None, "{value}");
        }
    }

    #[test]
    fn go_durations_add_up() {
        assert_eq!(parse_go_duration("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(parse_go_duration("1d"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_go_duration("7"), None);
    }
}
