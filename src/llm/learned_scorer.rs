//! A fitted scorer that is made when it is first needed: a run that has nothing to ask learns
//! nothing.

use std::sync::{Arc, OnceLock};

use super::fitted_scorer::{CrossValidation, FOLDS, FittedScorer, cross_validated};
use crate::domain::{Event, EventSink, KnownRows};

/// Bytes of text times labels up to which it is also found out how well the scorer does: four times
/// the work of learning, which takes a few seconds then.
const MOST_CHECKED: u64 = 1 << 27;

/// Known rows, and what was learned from them.
pub struct LearnedScorer {
    rows: Arc<KnownRows>,
    events: Arc<dyn EventSink>,
    scorer: OnceLock<FittedScorer>,
}

impl LearnedScorer {
    /// A scorer that learns from `rows` and then says so to `events`.
    pub fn new(rows: Arc<KnownRows>, events: Arc<dyn EventSink>) -> LearnedScorer {
        LearnedScorer { rows, events, scorer: OnceLock::new() }
    }

    /// How many labels it tells apart.
    pub fn labels(&self) -> usize {
        self.rows.labels()
    }

    /// The scorer. The first call learns, which takes seconds, and emits [`Event::ScorerFitted`];
    /// others wait for it.
    pub fn get(&self) -> &FittedScorer {
        self.scorer.get_or_init(|| {
            let rows = self.rows.rows().iter();
            let rows: Vec<(&str, usize)> =
                rows.map(|(text, label)| (&**text, usize::from(label.0))).collect();
            let labels = self.rows.labels();
            let scorer = FittedScorer::fit(rows.iter().copied(), labels);
            self.events.emit(Event::ScorerFitted {
                rows: rows.len() as u64,
                right: checked(&rows, labels).map(|checked| checked.correct),
                labels_without_rows: self.rows.labels_without_rows() as u64,
            });
            scorer
        })
    }
}

/// How well a scorer does that learns from rows like these, each a text and its label's place below
/// `labels`, by cross-validation; `None` without rows, and where finding out would take long.
pub fn checked(rows: &[(&str, usize)], labels: usize) -> Option<CrossValidation> {
    let bytes: usize = rows.iter().map(|(text, _)| text.len()).sum();
    let is_checked = is_quickly_checked(bytes, labels) && !rows.is_empty();
    is_checked.then(|| cross_validated(rows, labels, FOLDS, 0))
}

fn is_quickly_checked(bytes: usize, labels: usize) -> bool {
    (bytes as u64).saturating_mul(labels as u64) <= MOST_CHECKED
}

impl std::fmt::Debug for LearnedScorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LearnedScorer").field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::domain::LabelIndex;

    fn learned(events: Arc<Mutex<Vec<Event>>>) -> LearnedScorer {
        let row = |at: usize| match at % 2 {
            0 => ("my card".into(), LabelIndex(0)),
            _ => ("which rate".into(), LabelIndex(2)),
        };
        let rows = KnownRows::new((0..20).map(row).collect(), 3);
        let sink = move |event: Event| events.lock().unwrap().push(event);
        LearnedScorer::new(Arc::new(rows), Arc::new(sink))
    }

    #[test]
    fn it_learns_once_and_says_how_well() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let learned = learned(Arc::clone(&events));
        assert!(events.lock().unwrap().is_empty());
        for _ in 0..2 {
            let scorer = learned.get();
            assert_eq!(scorer.best("the rate", &mut scorer.scratch()).label, 2);
        }
        let said = [Event::ScorerFitted { rows: 20, right: Some(20), labels_without_rows: 1 }];
        assert_eq!(*events.lock().unwrap(), said);
    }

    #[test]
    fn a_check_that_would_take_long_is_left_out() {
        assert!(is_quickly_checked(600_000, 77), "the training rows of Banking77");
        assert!(!is_quickly_checked(16 << 20, 77) && !is_quickly_checked(600_000, 700));
        assert!(!is_quickly_checked(usize::MAX, usize::MAX));
    }
}
