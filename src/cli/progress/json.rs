//! One JSON line per event on stderr, for programs that watch a run.
//!
//! Every line has `v` (the form's version), `at` (RFC 3339, UTC) and `event`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::tally::Tally;
use super::{Display, Print, Time};
use crate::domain::event::EVENT_VERSION;
use crate::domain::{Event, Moment, UnixMillis};

/// Prints every event as it comes.
pub(super) struct JsonLines {
    print: Print,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl JsonLines {
    pub(super) fn new(print: Print) -> Self {
        JsonLines { print }
    }
}

impl Display for JsonLines {
    fn event(&mut self, event: &Event, _tally: &Tally, time: Time) {
        let line = Line { v: EVENT_VERSION, at: rfc3339(time.wall), event };
        if let Ok(json) = serde_json::to_string(&line) {
            (self.print)(&json);
        }
    }

    fn tick(&mut self, _tally: &Tally, _now: Moment) {}

    fn finish(&mut self, _tally: &Tally, _now: Moment) {}

    fn period(&self) -> Option<Duration> {
        None
    }
}

fn rfc3339(wall: UnixMillis) -> String {
    let millis = i64::try_from(wall.0).unwrap_or(i64::MAX);
    let time = DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH);
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::domain::Reason;

    #[test]
    fn every_event_is_one_line_with_version_and_time() {
        let (sent, lines) = channel();
        let mut display = JsonLines::new(Box::new(move |line| {
            let _ = sent.send(line.to_owned());
        }));
        let time = Time { now: Moment::default(), wall: UnixMillis(1_700_000_000_123) };
        let tally = Tally::default();
        display.event(&Event::RowsUnresolved { reason: Reason::Missing, rows: 2 }, &tally, time);
        display.event(&Event::Warning { message: "a\nb".into() }, &tally, time);
        assert_eq!(
            lines.try_iter().collect::<Vec<_>>(),
            [
                r#"{"v":1,"at":"2023-11-14T22:13:20.123Z","event":"rows_unresolved","reason":"missing","rows":2}"#,
                r#"{"v":1,"at":"2023-11-14T22:13:20.123Z","event":"warning","message":"a\nb"}"#,
            ]
        );
    }
}
