//! Tells once each time the rolling minute rises through 85, 95 or 98 per cent of the limit.

/// The marks, per cent of the limit.
const PERCENTS: [u8; 3] = [85, 95, 98];
/// How far the window must fall below a mark before crossing it counts again, per cent of the
/// limit: else every call of a full window would cross the highest one.
const REARM_BELOW: u64 = 5;

/// The rolling minute crossed a mark upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowMark {
    /// 85, 95 or 98 per cent of the limit.
    pub percent: u8,
    /// Tokens in the window.
    pub window_tokens: u64,
    /// The limit in force, tokens a minute.
    pub limit: u64,
}

/// Which marks have been crossed.
#[derive(Debug, Default)]
pub(super) struct WindowMarks {
    is_crossed: [bool; PERCENTS.len()],
    untold: Vec<WindowMark>,
}

impl WindowMarks {
    /// Looks at the window after it changed.
    pub(super) fn update(&mut self, window_tokens: u64, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        for (is_crossed, percent) in self.is_crossed.iter_mut().zip(PERCENTS) {
            let hundredfold = window_tokens.saturating_mul(100);
            if hundredfold >= limit.saturating_mul(u64::from(percent)) {
                if !*is_crossed {
                    *is_crossed = true;
                    self.untold.push(WindowMark { percent, window_tokens, limit });
                }
            } else if hundredfold < limit.saturating_mul(u64::from(percent) - REARM_BELOW) {
                *is_crossed = false;
            }
        }
    }

    /// The crossings since the last time, oldest first.
    pub(super) fn take(&mut self) -> Vec<WindowMark> {
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(marks: &mut WindowMarks, window: u64) -> Vec<u8> {
        marks.update(window, Some(1_000));
        marks.take().iter().map(|mark| mark.percent).collect()
    }

    #[test]
    fn each_crossing_is_told_once_and_again_after_a_fall() {
        let mut marks = WindowMarks::default();
        assert!(crossed(&mut marks, 849).is_empty());
        assert_eq!(crossed(&mut marks, 850), [85]);
        assert!(crossed(&mut marks, 900).is_empty());
        assert_eq!(crossed(&mut marks, 990), [95, 98]);
        assert!(crossed(&mut marks, 940).is_empty());
        assert!(crossed(&mut marks, 990).is_empty());
        assert!(crossed(&mut marks, 920).is_empty());
        assert_eq!(crossed(&mut marks, 990), [98]);
        assert!(crossed(&mut marks, 0).is_empty());
        assert_eq!(crossed(&mut marks, 1_000), [85, 95, 98]);
    }

    #[test]
    fn without_a_limit_there_are_no_marks() {
        let mut marks = WindowMarks::default();
        marks.update(u64::MAX, None);
        assert!(marks.take().is_empty());
    }
}
