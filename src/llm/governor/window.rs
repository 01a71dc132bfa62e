//! When a charge is certain to have left the server's window: a rolling span, or a day that begins
//! at midnight somewhere.

use std::time::Duration;

use chrono::{Datelike, NaiveDate, Weekday};

use crate::domain::limits::DayWindow;
use crate::domain::{Moment, UnixMillis};

/// A rolling day.
pub(super) const DAY: Duration = Duration::from_hours(24);
/// How far the server's clock may be off ours, transit included, where a day ends at midnight:
/// calls around midnight count in both days.
pub(super) const CLOCK_SKEW: Duration = Duration::from_mins(2);

/// The wall clock at a moment, so that a midnight becomes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    now: Moment,
    wall: UnixMillis,
}

impl Calendar {
    pub(super) fn new(now: Moment, wall: UnixMillis) -> Calendar {
        Calendar { now, wall }
    }

    fn wall_at(self, moment: Moment) -> Duration {
        let wall = Duration::from_millis(self.wall.0);
        (wall + moment.0).saturating_sub(self.now.0)
    }

    fn moment_at(self, wall: Duration) -> Moment {
        Moment((wall + self.now.0).saturating_sub(Duration::from_millis(self.wall.0)))
    }
}

/// The time over which one limit adds up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    /// Any so long a time.
    Rolling(Duration),
    /// From midnight to midnight.
    Midnight(DayWindow, Calendar),
}

impl Window {
    /// The day of a provider.
    pub(super) fn day(day: DayWindow, calendar: Calendar) -> Window {
        match day {
            DayWindow::Rolling => Window::Rolling(DAY),
            DayWindow::Utc | DayWindow::Pacific => Window::Midnight(day, calendar),
        }
    }

    /// When a call has certainly left that was sent at `sent` and took up to `transit` to arrive.
    pub(super) fn leaves(&self, sent: Moment, transit: Duration) -> Moment {
        match *self {
            Window::Rolling(span) => sent + span + transit,
            Window::Midnight(day, calendar) => {
                let reset = next_midnight(day, calendar.wall_at(sent) + CLOCK_SKEW);
                calendar.moment_at(reset + CLOCK_SKEW)
            }
        }
    }

    /// The same for a call of an earlier process; `None` if it has left.
    pub(super) fn leaves_after(
        &self,
        age: Duration,
        transit: Duration,
        now: Moment,
    ) -> Option<Moment> {
        match *self {
            Window::Rolling(span) => Some(now + (span + transit).checked_sub(age)?),
            Window::Midnight(day, calendar) => {
                let sent = calendar.wall_at(now).saturating_sub(age);
                let leaves = next_midnight(day, sent + CLOCK_SKEW) + CLOCK_SKEW;
                (leaves > calendar.wall_at(now)).then(|| calendar.moment_at(leaves))
            }
        }
    }

    /// When a call that was answered at `now` has left at the latest: it had arrived by then.
    pub(super) fn leaves_after_reply(&self, now: Moment) -> Option<Moment> {
        match *self {
            Window::Rolling(span) => Some(now + span),
            Window::Midnight(..) => None,
        }
    }
}

/// The first midnight after `wall`, both since 1970 in UTC.
fn next_midnight(day: DayWindow, wall: Duration) -> Duration {
    let west = |wall| match day {
        DayWindow::Pacific => pacific_behind_utc(wall),
        DayWindow::Rolling | DayWindow::Utc => Duration::ZERO,
    };
    let local = wall.saturating_sub(west(wall));
    let days = local.as_secs() / DAY.as_secs() + 1;
    let midnight = Duration::from_secs(days * DAY.as_secs());
    // The clocks change at two in the morning, after midnight.
    midnight + west(midnight + west(wall))
}

/// How far California is behind UTC: 7 hours from 10:00 UTC of the second Sunday in March to
/// 09:00 UTC of the first one in November, else 8.
fn pacific_behind_utc(wall: Duration) -> Duration {
    let (winter, summer) = (Duration::from_hours(8), Duration::from_hours(7));
    let seconds = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
    let Some(utc) = chrono::DateTime::from_timestamp(seconds, 0) else { return winter };
    let change = |month, nth, hour| {
        let day = NaiveDate::from_weekday_of_month_opt(utc.year(), month, Weekday::Sun, nth)?;
        day.and_hms_opt(hour, 0, 0)
    };
    match (change(3, 2, 10), change(11, 1, 9)) {
        (Some(from), Some(to)) if (from..to).contains(&utc.naive_utc()) => summer,
        _ => winter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Duration {
        let time = chrono::DateTime::parse_from_rfc3339(text).unwrap();
        Duration::from_millis(time.timestamp_millis() as u64)
    }

    #[test]
    fn midnight_in_california_moves_with_the_season() {
        for (now, midnight) in [
            ("2026-01-15T07:59:59Z", "2026-01-15T08:00:00Z"),
            ("2026-01-15T08:00:00Z", "2026-01-16T08:00:00Z"),
            ("2026-07-15T06:59:59Z", "2026-07-15T07:00:00Z"),
            ("2026-07-15T07:00:00Z", "2026-07-16T07:00:00Z"),
            // 8 March 2026 has 23 hours there, 1 November 25.
            ("2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-03-08T12:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z"),
            ("2026-11-01T12:00:00Z", "2026-11-02T08:00:00Z"),
        ] {
            assert_eq!(next_midnight(DayWindow::Pacific, utc(now)), utc(midnight), "{now}");
        }
        assert_eq!(
            next_midnight(DayWindow::Utc, utc("2026-01-15T00:00:00Z")),
            utc("2026-01-16T00:00:00Z")
        );
    }

    #[test]
    fn calls_around_midnight_count_in_both_days() {
        let now = Moment(Duration::from_secs(500));
        let calendar =
            Calendar::new(now, UnixMillis(utc("2026-01-15T12:00:00Z").as_millis() as u64));
        let window = Window::day(DayWindow::Utc, calendar);
        let leaves = |sent: &str| {
            let sent = calendar.moment_at(utc(sent));
            calendar.wall_at(window.leaves(sent, Duration::ZERO))
        };
        assert_eq!(leaves("2026-01-15T23:57:59Z"), utc("2026-01-16T00:02:00Z"));
        assert_eq!(leaves("2026-01-15T23:58:00Z"), utc("2026-01-17T00:02:00Z"));
        assert_eq!(leaves("2026-01-16T00:00:00Z"), utc("2026-01-17T00:02:00Z"));
    }

    #[test]
    fn a_charge_of_an_earlier_run_leaves_when_it_would_have() {
        let now = Moment(Duration::from_secs(7));
        let calendar =
            Calendar::new(now, UnixMillis(utc("2026-01-15T12:00:00Z").as_millis() as u64));
        let hours = Duration::from_hours;
        let midnight = Window::day(DayWindow::Utc, calendar);
        let left = midnight.leaves_after(hours(11), Duration::ZERO, now);
        assert_eq!(left, Some(now + hours(12) + CLOCK_SKEW));
        assert_eq!(midnight.leaves_after(hours(13), Duration::ZERO, now), None);
        let rolling = Window::day(DayWindow::Rolling, calendar);
        assert_eq!(rolling.leaves_after(hours(13), Duration::ZERO, now), Some(now + hours(11)));
        assert_eq!(rolling.leaves_after(hours(25), Duration::ZERO, now), None);
    }
}
