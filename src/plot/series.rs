//! What a picture of the rolling minute needs, taken from a run's events.

use std::io::{self, BufRead, Read as _};

use chrono::DateTime;
use serde::Deserialize;

use super::PlotError;
use crate::domain::event::EVENT_VERSION;

/// How many points a line may have; more would not be seen.
const MOST_POINTS: usize = 900;

/// How many bytes a line may have that is an event.
const LONGEST_LINE: u64 = 1 << 20;

/// Tokens in the last 60 seconds over time. Seconds are those since the first event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    /// Tokens a minute, if there is a limit.
    pub(super) limit: Option<u64>,
    /// When, and how many tokens.
    pub(super) window: Vec<(f64, u64)>,
    /// From when to when a 429 held all calls.
    pub(super) holds: Vec<(f64, f64)>,
    /// The model, as the first run names it.
    pub(super) model: String,
}

/// The fields of any event that are of use here.
#[derive(Deserialize)]
struct Line {
    v: u64,
    at: String,
    event: String,
    window_tokens: Option<u64>,
    tokens_per_minute: Option<u64>,
    seconds: Option<f64>,
    model: Option<String>,
}

impl Series {
    /// Reads events, one JSON object a line.
    pub(super) fn read(mut events: impl BufRead) -> Result<Series, PlotError> {
        let mut series = Series::default();
        let mut first = None;
        let mut text = Vec::new();
        for line in 1.. {
            let read = read_line(&mut events, &mut text);
            if !read.map_err(|source| PlotError::Read { line, source })? {
                break;
            }
            let Ok(event) = serde_json::from_slice::<Line>(&text) else { continue };
            if event.v != u64::from(EVENT_VERSION) {
                return Err(PlotError::Version { line, version: event.v });
            }
            let Ok(at) = DateTime::parse_from_rfc3339(&event.at) else { continue };
            let first = *first.get_or_insert(at);
            let seconds = (at - first).as_seconds_f64().max(0.0);
            series.take(event, seconds);
        }
        if series.window.is_empty() {
            return Err(PlotError::NoCalls);
        }
        series.window = thinned(&series.window);
        Ok(series)
    }

    fn take(&mut self, event: Line, at: f64) {
        match event.event.as_str() {
            "run_started" => {
                self.limit = event.tokens_per_minute.or(self.limit);
                if self.model.is_empty() {
                    self.model = event.model.unwrap_or_default();
                }
            }
            "held" => self.holds.push((at, at + event.seconds.unwrap_or_default())),
            _ => {}
        }
        self.window.extend(event.window_tokens.map(|tokens| (at, tokens)));
    }

    /// When the last thing happened.
    pub(super) fn end(&self) -> f64 {
        let holds = self.holds.iter().map(|(_, until)| *until);
        self.window.iter().map(|(at, _)| *at).chain(holds).fold(0.0, f64::max)
    }

    /// The most tokens that were in the window.
    pub(super) fn highest(&self) -> u64 {
        self.window.iter().map(|(_, tokens)| *tokens).max().unwrap_or_default()
    }
}

/// Reads the next line into `text`, of a longer one only its beginning; false at the end.
fn read_line(events: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    let mut read = events.by_ref().take(LONGEST_LINE).read_until(b'\n', text)?;
    if read == 0 {
        return Ok(false);
    }
    let mut rest = Vec::new();
    while read as u64 == LONGEST_LINE && rest.last().or(text.last()) != Some(&b'\n') {
        rest.clear();
        read = events.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut rest)?;
    }
    Ok(true)
}

/// The highest point of each of equally long stretches of time, so that no peak is lost.
fn thinned(points: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let end = points.iter().map(|(at, _)| *at).fold(0.0, f64::max);
    let stretch = end / MOST_POINTS as f64;
    let mut thinned: Vec<(f64, u64)> = Vec::new();
    let mut last = None;
    for &(at, tokens) in points {
        // Of no length at all, all points fall into the first.
        let number = if stretch > 0.0 { (at / stretch) as usize } else { 0 };
        match thinned.last_mut().filter(|_| last == Some(number)) {
            Some(highest) if highest.1 >= tokens => {}
            Some(highest) => *highest = (at, tokens),
            None => thinned.push((at, tokens)),
        }
        last = Some(number);
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_taken_from_every_event_that_tells_it() {
        let events = r#"
reading input
{"v":1,"at":"2026-01-01T00:00:00.000Z","event":"run_started","model":"m","tokens_per_minute":900,"rows":5}
{"v":1,"at":"2026-01-01T00:00:02.500Z","event":"call_finished","window_tokens":300,"seconds":0.5}
{"v":1,"at":"2026-01-01T00:00:04.000Z","event":"held","seconds":3.0,"asked":null}
{"v":1,"at":"2026-01-01T00:00:10.000Z","event":"waiting","wait":"tokens","window_tokens":890,"seconds":1.0}
"#;
        let series = Series::read(events.as_bytes()).unwrap();
        let model = "m".to_owned();
        let window = vec![(2.5, 300), (10.0, 890)];
        assert_eq!(series, Series { limit: Some(900), window, holds: vec![(4.0, 7.0)], model });
        assert_eq!((series.end(), series.highest()), (10.0, 890));
    }

    #[test]
    fn events_of_a_later_version_and_none_at_all_are_told_apart() {
        let later = r#"{"v":2,"at":"2026-01-01T00:00:00.000Z","event":"run_started"}"#;
        let error = Series::read(later.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 1 is an event of version 2"), "{error}");
        let error = Series::read(&b"no events here\n\xff\n"[..]).unwrap_err();
        assert!(matches!(error, PlotError::NoCalls), "{error}");
    }

    #[test]
    fn a_line_without_an_end_takes_little_memory_and_the_next_one_is_read() {
        let long = vec![b'a'; 3 << 20];
        let event = br#"{"v":1,"at":"2026-01-01T00:00:02Z","event":"waiting","window_tokens":3}"#;
        let lines = [&long[..], b"\n", event, b"\n", &long[..]].concat();
        let series = Series::read(&lines[..]).unwrap();
        assert_eq!(series.window, [(0.0, 3)]);
        let mut text = Vec::new();
        assert!(read_line(&mut &long[..], &mut text).unwrap());
        assert_eq!(text.len() as u64, LONGEST_LINE);
    }

    #[test]
    fn a_long_run_has_few_points_and_keeps_its_peaks() {
        let tokens = |at: u64| if at == 77_777 { 1_000 } else { at % 100 };
        let points: Vec<(f64, u64)> = (0..100_000).map(|at| (at as f64, tokens(at))).collect();
        let thinned = thinned(&points);
        assert!(thinned.len() <= MOST_POINTS + 1, "{}", thinned.len());
        assert!(thinned.contains(&(77_777.0, 1_000)));
        assert!(thinned.is_sorted_by_key(|(at, _)| *at));
    }
}
