//! The rate headers of a reply, as one vendor or another spells them.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use super::account::{Account, Counted, Left};
use super::act::Headers;
use super::settings::HeaderStyle;
use crate::domain::{Moment, UnixMillis};

/// What `account` has left at `now`, where it has a limit. `wall` is the time of day.
pub(super) fn rate_headers(
    style: HeaderStyle,
    account: &mut Account,
    now: Moment,
    wall: UnixMillis,
) -> Headers {
    let mut headers = Headers::new();
    let named: &[(Counted, &str)] = match style {
        HeaderStyle::None => &[],
        HeaderStyle::Openai | HeaderStyle::Azure => {
            &[(Counted::Tokens, "tokens"), (Counted::Requests, "requests")]
        }
        HeaderStyle::Groq => &[(Counted::Tokens, "tokens"), (Counted::RequestsOfDay, "requests")],
        HeaderStyle::Anthropic => &[
            (Counted::Tokens, "tokens"),
            (Counted::Requests, "requests"),
            (Counted::Input, "input-tokens"),
            (Counted::Output, "output-tokens"),
        ],
    };
    for (counted, unit) in named {
        let Some(Left { limit, remaining, reset }) = account.left(*counted, now) else { continue };
        let is_anthropic = style == HeaderStyle::Anthropic;
        // Anthropic rounds tokens to the nearest thousand.
        let remaining = match is_anthropic && *counted != Counted::Requests {
            true => (remaining + 500) / 1000 * 1000,
            false => remaining,
        };
        let reset = match style {
            HeaderStyle::Azure => whole_seconds(reset).to_string(),
            HeaderStyle::Anthropic => rfc3339(wall, reset),
            HeaderStyle::None | HeaderStyle::Openai | HeaderStyle::Groq => go_duration(reset),
        };
        for (what, value) in
            [("limit", limit.to_string()), ("remaining", remaining.to_string()), ("reset", reset)]
        {
            let name = match is_anthropic {
                true => format!("anthropic-ratelimit-{unit}-{what}"),
                false => format!("x-ratelimit-{what}-{unit}"),
            };
            headers.extend(header(&name, &value));
        }
    }
    headers
}

/// How long to wait, on a 429.
pub(super) fn retry_after(style: HeaderStyle, wait: Duration) -> Headers {
    let millis = wait.as_millis().to_string();
    let own = (style == HeaderStyle::Azure).then(|| header("retry-after-ms", &millis)).flatten();
    let seconds = header("retry-after", &whole_seconds(wait).to_string());
    own.into_iter().chain(seconds).collect()
}

/// Seconds, rounded up.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn rfc3339(wall: UnixMillis, wait: Duration) -> String {
    let seconds = wall.0.div_ceil(1000).saturating_add(whole_seconds(wait));
    let time = i64::try_from(seconds).ok().and_then(|it| chrono::DateTime::from_timestamp(it, 0));
    time.unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A duration the way Go prints it, to the millisecond: `0s`, `120ms`, `1.5s`, `6m0s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let seconds = match (millis / 1000, millis % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (0, millis) if minutes == 0 => return format!("{millis}ms"),
        (seconds, millis) => {
            format!("{seconds}.{}s", format!("{millis:03}").trim_end_matches('0'))
        }
    };
    if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::super::account::Amounts;
    use super::super::settings::Settings;
    use super::*;

    fn seen(style: HeaderStyle) -> Vec<String> {
        let mut account = Account::new(&Settings {
            tokens_per_minute: Some(10_000),
            requests_per_minute: Some(50),
            output_tokens_per_minute: Some(2_000),
            requests_per_day: Some(900),
            ..Settings::default()
        });
        let now = Moment(Duration::from_secs(600));
        account.charge(Amounts { tokens: 1_300, input: 1_000, output: 300 }, now);
        let later = Moment(Duration::from_millis(601_500));
        let headers = rate_headers(style, &mut account, later, UnixMillis(1_790_000_000_000));
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn each_vendors_headers_are_spelled_its_way() {
        assert_eq!(
            seen(HeaderStyle::Openai),
            [
                "x-ratelimit-limit-tokens: 10000",
                "x-ratelimit-remaining-tokens: 8700",
                "x-ratelimit-reset-tokens: 58.5s",
                "x-ratelimit-limit-requests: 50",
                "x-ratelimit-remaining-requests: 49",
                "x-ratelimit-reset-requests: 58.5s",
            ]
        );
        assert_eq!(seen(HeaderStyle::Azure)[2], "x-ratelimit-reset-tokens: 59");
        assert_eq!(
            seen(HeaderStyle::Groq)[3..],
            [
                "x-ratelimit-limit-requests: 900",
                "x-ratelimit-remaining-requests: 899",
                "x-ratelimit-reset-requests: 1429m58.5s",
            ]
        );
        let anthropic = seen(HeaderStyle::Anthropic);
        assert_eq!(anthropic[1], "anthropic-ratelimit-tokens-remaining: 9000");
        assert_eq!(anthropic[2], "anthropic-ratelimit-tokens-reset: 2026-09-21T14:14:19Z");
        assert_eq!(anthropic[7], "anthropic-ratelimit-output-tokens-remaining: 2000");
        assert!(seen(HeaderStyle::None).is_empty());
    }

    #[test]
    fn a_429_says_how_long_in_seconds_and_with_azure_in_milliseconds_too() {
        let names = |style| {
            let headers = retry_after(style, Duration::from_millis(1_200));
            let values = headers.iter().map(|(_, value)| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        assert_eq!(names(HeaderStyle::Openai), ["2"]);
        assert_eq!(names(HeaderStyle::Azure), ["1200", "2"]);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (120, "120ms"),
            (1500, "1.5s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (60_500, "1m0.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
