//! Asks equal texts once: the first row of a text goes to the model, later ones share its outcome.
//!
//! Bounded by a number of distinct texts; one that is remembered takes about 64 bytes. Forgetting a
//! text costs a second call at most, never a wrong label. A text whose first row is still under way
//! is never forgotten, so that no row that waits for it is lost.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::domain::{Attempts, LabelIndex, Reason, TextHash};

/// What the first row of a text ended with, and what its equals get without a call.
///
/// Equals share a missing label too: asking the same text again would most likely cost the same
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This label.
    Label(LabelIndex),
    /// No label.
    None {
        /// Why.
        reason: Reason,
        /// How often the text was asked.
        attempts: Attempts,
    },
}

impl Verdict {
    /// Whether it is true of the text, and not of the hour in which it was asked.
    fn is_lasting(self) -> bool {
        !matches!(self, Verdict::None { reason: Reason::ProviderError, .. })
    }
}

/// What is to be done with a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Met<T> {
    /// It is the first of its text: ask, and [`Dedupe::settle`] its text afterwards.
    First(T),
    /// An equal one is under way; the row is kept until that one is settled.
    Waiting,
    /// The verdict on its text is known.
    Known(T, Verdict),
}

/// Texts that were met, and rows (`T`) that wait for an equal one.
#[derive(Debug)]
pub struct Dedupe<T> {
    capacity: usize,
    // Every row looks its text up twice, so the hasher counts; foldhash is seeded, as the usual
    // one is.
    texts: HashMap<TextHash, State<T>, RandomState>,
    /// The texts with a verdict, next to be forgotten first.
    queue: VecDeque<TextHash>,
    parked: usize,
}

/// How far a text is.
#[derive(Debug)]
enum State<T> {
    /// Its first row is being asked; these wait for it.
    UnderWay(Vec<T>),
    Known {
        verdict: Verdict,
        /// Met again since it last stood at the head of the queue: it then gets another turn.
        is_popular: bool,
    },
}

impl<T> Dedupe<T> {
    /// Remembers up to `capacity` verdicts; with 0 every row is the first of its text.
    pub fn new(capacity: usize) -> Dedupe<T> {
        Dedupe { capacity, texts: HashMap::default(), queue: VecDeque::new(), parked: 0 }
    }

    /// Meets a row whose text has this hash.
    pub fn meet(&mut self, hash: TextHash, row: T) -> Met<T> {
        if self.capacity == 0 {
            return Met::First(row);
        }
        match self.texts.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(State::UnderWay(Vec::new()));
                Met::First(row)
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                State::UnderWay(parked) => {
                    parked.push(row);
                    self.parked += 1;
                    Met::Waiting
                }
                State::Known { verdict, is_popular } => {
                    *is_popular = true;
                    Met::Known(row, *verdict)
                }
            },
        }
    }

    /// The first row of a text ended so. Returns the rows that waited for it, in the order in which
    /// they were met: they end likewise. Later equals do too, unless the provider was at fault.
    pub fn settle(&mut self, hash: TextHash, verdict: Verdict) -> Vec<T> {
        let parked = if verdict.is_lasting() {
            self.remember(hash, verdict)
        } else {
            match self.texts.entry(hash) {
                Entry::Occupied(entry) if matches!(entry.get(), State::UnderWay(_)) => {
                    entry.remove().into_parked()
                }
                _ => Vec::new(),
            }
        };
        self.parked -= parked.len();
        parked
    }

    /// Enters a label from a journal or a finished part. A text that is under way stays so.
    pub fn seed(&mut self, hash: TextHash, label: LabelIndex) {
        if !matches!(self.texts.get(&hash), Some(State::UnderWay(_))) {
            self.remember(hash, Verdict::Label(label));
        }
    }

    /// Rows that wait for an equal one.
    pub fn waiting_rows(&self) -> usize {
        self.parked
    }

    /// Notes a verdict; returns the rows that waited for it.
    fn remember(&mut self, hash: TextHash, verdict: Verdict) -> Vec<T> {
        if self.capacity == 0 {
            return Vec::new();
        }
        self.make_room();
        match self.texts.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(State::Known { verdict, is_popular: false });
                self.queue.push_back(hash);
                Vec::new()
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                State::Known { verdict: known, .. } => {
                    *known = verdict;
                    Vec::new()
                }
                State::UnderWay(_) => {
                    self.queue.push_back(hash);
                    entry.insert(State::Known { verdict, is_popular: false }).into_parked()
                }
            },
        }
    }

    /// Forgets verdicts until one more has room; popular ones last.
    fn make_room(&mut self) {
        while self.queue.len() >= self.capacity {
            let Some(oldest) = self.queue.pop_front() else { return };
            match self.texts.get_mut(&oldest) {
                Some(State::Known { is_popular, .. }) if *is_popular => {
                    *is_popular = false;
                    self.queue.push_back(oldest);
                }
                _ => {
                    self.texts.remove(&oldest);
                }
            }
        }
    }
}

impl<T> State<T> {
    fn into_parked(self) -> Vec<T> {
        match self {
            State::UnderWay(parked) => parked,
            State::Known { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn hash(text: u8) -> TextHash {
        TextHash([text; 16])
    }

    const A: Verdict = Verdict::Label(LabelIndex(0));

    fn gone(reason: Reason) -> Verdict {
        Verdict::None { reason, attempts: 3 }
    }

    #[test]
    fn equal_rows_wait_for_the_first_and_share_its_label() {
        let mut dedupe = Dedupe::new(10);
        assert_eq!(dedupe.meet(hash(1), 'a'), Met::First('a'));
        assert_eq!(dedupe.meet(hash(1), 'b'), Met::Waiting);
        assert_eq!(dedupe.meet(hash(2), 'c'), Met::First('c'));
        assert_eq!(dedupe.meet(hash(1), 'd'), Met::Waiting);
        assert_eq!(dedupe.waiting_rows(), 2);
        assert_eq!(dedupe.settle(hash(1), A), ['b', 'd']);
        assert_eq!(dedupe.waiting_rows(), 0);
        assert_eq!(dedupe.meet(hash(1), 'e'), Met::Known('e', A));
        assert_eq!(dedupe.meet(hash(2), 'f'), Met::Waiting);
    }

    #[test]
    fn a_text_without_a_label_is_not_asked_again_for_its_equals() {
        let mut dedupe = Dedupe::new(10);
        dedupe.meet(hash(1), 'a');
        dedupe.meet(hash(1), 'b');
        assert_eq!(dedupe.settle(hash(1), gone(Reason::Refused)), ['b']);
        assert_eq!(dedupe.meet(hash(1), 'c'), Met::Known('c', gone(Reason::Refused)));
    }

    #[test]
    fn a_provider_at_fault_says_nothing_about_later_equals() {
        let mut dedupe = Dedupe::new(10);
        dedupe.meet(hash(1), 'a');
        dedupe.meet(hash(1), 'b');
        assert_eq!(dedupe.settle(hash(1), gone(Reason::ProviderError)), ['b']);
        assert_eq!(dedupe.meet(hash(1), 'c'), Met::First('c'));
    }

    #[test]
    fn capacity_zero_asks_for_every_row() {
        let mut dedupe = Dedupe::new(0);
        assert_eq!(dedupe.meet(hash(1), 'a'), Met::First('a'));
        assert_eq!(dedupe.meet(hash(1), 'b'), Met::First('b'));
        assert!(dedupe.settle(hash(1), A).is_empty());
        dedupe.seed(hash(1), LabelIndex(0));
        assert_eq!(dedupe.meet(hash(1), 'c'), Met::First('c'));
    }

    #[test]
    fn popular_texts_outlive_those_met_once() {
        let mut dedupe = Dedupe::new(2);
        dedupe.seed(hash(1), LabelIndex(1));
        dedupe.seed(hash(2), LabelIndex(2));
        dedupe.meet(hash(1), 'a');
        dedupe.seed(hash(3), LabelIndex(3));
        assert_eq!(dedupe.meet(hash(1), 'b'), Met::Known('b', Verdict::Label(LabelIndex(1))));
        assert_eq!(dedupe.meet(hash(2), 'c'), Met::First('c'));
    }

    #[test]
    fn more_texts_under_way_than_the_capacity_lose_no_row() {
        let mut dedupe = Dedupe::new(1);
        for text in 0..50 {
            assert_eq!(dedupe.meet(hash(text), text), Met::First(text));
            assert_eq!(dedupe.meet(hash(text), text + 100), Met::Waiting);
        }
        for text in 0..50 {
            assert_eq!(dedupe.settle(hash(text), A), [text + 100]);
        }
        assert_eq!((dedupe.texts.len(), dedupe.queue.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn every_row_is_asked_answered_or_handed_back_and_memory_stays_bounded(
            capacity in 0..6_usize,
            steps in prop::collection::vec((0..12_u8, any::<bool>()), 0..300),
        ) {
            let mut dedupe = Dedupe::new(capacity);
            let mut asked = Vec::new();
            let mut done = HashSet::new();
            for (row, (text, is_settled)) in steps.iter().enumerate() {
                match dedupe.meet(hash(*text), row) {
                    Met::First(row) => asked.push((*text, row)),
                    Met::Known(row, verdict) => {
                        prop_assert_eq!(verdict, Verdict::Label(LabelIndex(u16::from(*text))));
                        prop_assert!(done.insert(row));
                    }
                    Met::Waiting => {}
                }
                if *is_settled && !asked.is_empty() {
                    let (text, first) = asked.remove(0);
                    let verdict = Verdict::Label(LabelIndex(u16::from(text)));
                    for row in dedupe.settle(hash(text), verdict).into_iter().chain([first]) {
                        prop_assert!(done.insert(row));
                    }
                }
                prop_assert!(dedupe.queue.len() <= capacity);
                let under_way = if capacity == 0 { 0 } else { asked.len() };
                prop_assert_eq!(dedupe.texts.len(), dedupe.queue.len() + under_way);
            }
            for (text, first) in asked {
                let verdict = Verdict::Label(LabelIndex(u16::from(text)));
                for row in dedupe.settle(hash(text), verdict).into_iter().chain([first]) {
                    prop_assert!(done.insert(row));
                }
            }
            prop_assert_eq!(done.len(), steps.len());
            prop_assert_eq!(dedupe.waiting_rows(), 0);
        }
    }
}
