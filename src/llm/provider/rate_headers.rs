//! What a reply's headers say of the limits, in every spelling and time format that is in use.
//!
//! `x-ratelimit-*` (OpenAI and most others, Azure), `x-rate-limit-*` (some gateways) and
//! `anthropic-ratelimit-*`. With Groq the `-requests` figures are those of a day, not of a minute;
//! nothing in the headers tells.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::HeaderMap;

use super::RateHeaders;
use crate::domain::UnixMillis;

impl RateHeaders {
    /// Reads `headers`; `now` turns a time of day into a wait.
    pub(super) fn read(headers: &HeaderMap, now: UnixMillis) -> RateHeaders {
        let count = |what: &str, unit: &str| find(headers, what, unit).and_then(parse_count);
        let reset = |unit: &str| {
            find(headers, "reset", unit)
                .and_then(|value| parse_wait(value, now))
                .filter(|wait| !wait.is_zero())
        };
        // A project's share is the tighter of two limits that both hold.
        let tokens = |what: &str| {
            let project = header(headers, &format!("x-ratelimit-{what}-project-tokens"))
                .and_then(parse_count);
            [count(what, "tokens"), project].into_iter().flatten().min()
        };
        RateHeaders {
            limit_tokens: tokens("limit"),
            remaining_tokens: tokens("remaining"),
            reset_tokens: reset("tokens"),
            limit_requests: count("limit", "requests"),
            remaining_requests: count("remaining", "requests"),
            reset_requests: reset("requests"),
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

fn find<'a>(headers: &'a HeaderMap, what: &str, unit: &str) -> Option<&'a str> {
    let anthropic_units: &[&str] =
        if unit == "tokens" { &["tokens", "input-tokens"] } else { &[unit] };
    header(headers, &format!("x-ratelimit-{what}-{unit}"))
        .or_else(|| header(headers, &format!("x-rate-limit-{what}-{unit}")))
        .or_else(|| {
            let name = |unit: &&str| format!("anthropic-ratelimit-{unit}-{what}");
            anthropic_units.iter().find_map(|unit| header(headers, &name(unit)))
        })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A positive whole number; `-1` and `0` stand for "unknown" with some services.
fn parse_count(value: &str) -> Option<u64> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 1.0)?;
    Some(number as u64)
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

    #[test]
    fn openai_headers_are_read() {
        let rate = RateHeaders::read(
            &headers(&[
                ("x-ratelimit-limit-tokens", "200000"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-tokens", "6m0s"),
                ("x-ratelimit-limit-requests", "500"),
                ("x-ratelimit-remaining-requests", "499"),
                ("x-ratelimit-reset-requests", "120ms"),
            ]),
            NOW,
        );
        assert_eq!(
            rate,
            RateHeaders {
                limit_tokens: Some(200_000),
                remaining_tokens: Some(149_984),
                reset_tokens: Some(Duration::from_secs(360)),
                limit_requests: Some(500),
                remaining_requests: Some(499),
                reset_requests: Some(Duration::from_millis(120)),
            }
        );
    }

    #[test]
    fn a_projects_tighter_share_holds() {
        let rate = RateHeaders::read(
            &headers(&[
                ("x-ratelimit-limit-tokens", "200000"),
                ("x-ratelimit-limit-project-tokens", "50000"),
            ]),
            NOW,
        );
        assert_eq!(rate.limit_tokens, Some(50_000));
    }

    #[test]
    fn other_spellings_are_read() {
        let rate = RateHeaders::read(
            &headers(&[
                ("x-rate-limit-reset-tokens", "10"),
                ("anthropic-ratelimit-requests-limit", "1000"),
                ("anthropic-ratelimit-input-tokens-limit", "2000000"),
                ("anthropic-ratelimit-requests-reset", "2026-09-21T14:13:50Z"),
            ]),
            NOW,
        );
        assert_eq!(rate.reset_tokens, Some(Duration::from_secs(10)));
        assert_eq!(rate.limit_requests, Some(1000));
        assert_eq!(rate.limit_tokens, Some(2_000_000));
        assert_eq!(rate.reset_requests, Some(Duration::from_secs(30)));
    }

    #[test]
    fn minus_one_and_zero_are_unknown() {
        let rate = RateHeaders::read(
            &headers(&[
                ("x-ratelimit-limit-tokens", "-1"),
                ("x-ratelimit-remaining-tokens", "-1"),
                ("x-ratelimit-reset-tokens", "0"),
                ("x-ratelimit-limit-requests", "0"),
                ("x-ratelimit-reset-requests", "soon"),
            ]),
            NOW,
        );
        assert_eq!(rate, RateHeaders::default());
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
