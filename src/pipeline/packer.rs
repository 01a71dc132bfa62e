//! Which rows share a call: those that could speak to the model are kept apart from all others.
//!
//! A suspicious row is asked alone, so that it has no neighbour to harm. Where too many are, for a
//! whole prompt each, they are packed with each other from then on, and still with no other row.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::domain::{Codebook, Row};
use crate::llm::batcher::{BatchLimits, Batcher, TakenSeats, TooLong};
use crate::llm::suspicion::suspicion;

/// Suspicious rows that are asked alone whatever their share.
const ALONE_IN_ANY_CASE: u64 = 100;
/// Beyond those: one in so many of all rows.
const ALONE_ONE_IN: u64 = 100;

/// Rows that share a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// The rows.
    pub(super) rows: Vec<Row>,
    /// Whether there is room for the guests, and nothing to fear for them or from them.
    pub(super) may_have_guests: bool,
}

/// Rows that wait to be packed.
#[derive(Debug)]
pub(super) struct Packer {
    together: Batcher,
    apart: Batcher,
    /// The job's labels, if suspicious rows are kept apart.
    guard: Option<Arc<Codebook>>,
    /// New rows taken, and how many of them were suspicious.
    taken: u64,
    suspicious: u64,
    /// Suspicious rows since this was last asked.
    news: u64,
    is_crowded: bool,
}

impl Packer {
    /// A packer with no rows; with `guard`, the job's labels, it keeps suspicious rows apart.
    pub(super) fn new(limits: BatchLimits, guard: Option<Arc<Codebook>>) -> Packer {
        Packer {
            together: Batcher::new(limits),
            apart: Batcher::new(lone(limits)),
            guard,
            taken: 0,
            suspicious: 0,
            news: 0,
            is_crowded: false,
        }
    }

    /// The limits of calls that rows share.
    pub(super) fn limits(&self) -> &BatchLimits {
        self.together.limits()
    }

    /// Changes the limits, as [`Batcher::set_limits`] does.
    pub(super) fn set_limits(&mut self, limits: BatchLimits) -> Vec<TooLong> {
        let mut too_long = self.together.set_limits(limits);
        too_long.extend(self.set_apart(limits));
        too_long
    }

    fn set_apart(&mut self, limits: BatchLimits) -> Vec<TooLong> {
        self.apart.set_limits(if self.is_crowded { limits } else { lone(limits) })
    }

    /// Whether `row` shares no call with ordinary ones.
    pub(super) fn is_apart(&self, row: &Row) -> bool {
        self.guard.as_ref().is_some_and(|labels| suspicion(&row.text, labels).is_some())
    }

    /// Takes a new row.
    ///
    /// # Errors
    /// Gives the row back if it is too long for any call.
    pub(super) fn push(&mut self, row: Row) -> Result<(), TooLong> {
        self.taken += 1;
        if !self.is_apart(&row) {
            return self.together.push(row);
        }
        self.suspicious += 1;
        self.news += 1;
        self.apart.push(row)
    }

    /// Takes rows that are asked again, ahead of new ones; returns those that fit in no call.
    pub(super) fn push_again(&mut self, rows: Vec<Row>) -> Vec<TooLong> {
        let (apart, together) = rows.into_iter().partition(|row| self.is_apart(row));
        let mut too_long = self.together.push_again(together);
        too_long.extend(self.apart.push_again(apart));
        too_long
    }

    /// The next batch: a full one, or with `flush` whatever waits. Room is left for `guests` if it
    /// may have some.
    pub(super) fn next(&mut self, flush: bool, guests: TakenSeats) -> Option<Packed> {
        if let Some(rows) = self.apart.next(flush, None) {
            return Some(Packed { rows, may_have_guests: false });
        }
        if let Some(rows) = self.together.next_beside(guests, flush, None) {
            return Some(Packed { rows, may_have_guests: true });
        }
        let rows = self.together.next(flush, None)?;
        Some(Packed { rows, may_have_guests: false })
    }

    /// Rows that wait.
    pub(super) fn waiting_rows(&self) -> usize {
        self.together.waiting_rows() + self.apart.waiting_rows()
    }

    /// Rows kept apart since this was last asked.
    pub(super) fn take_news(&mut self) -> u64 {
        std::mem::take(&mut self.news)
    }

    /// Gives up on asking suspicious rows alone once they are so many that it would cost too much.
    /// Returns, once, how many there were of how many rows.
    pub(super) fn notice_crowd(&mut self) -> Option<(u64, u64)> {
        let most = ALONE_IN_ANY_CASE.max(self.taken / ALONE_ONE_IN);
        if self.is_crowded || self.suspicious <= most {
            return None;
        }
        self.is_crowded = true;
        // Wider limits hand nothing back.
        self.set_apart(*self.together.limits());
        Some((self.suspicious, self.taken))
    }
}

/// The limits of a call with one row.
fn lone(limits: BatchLimits) -> BatchLimits {
    BatchLimits { rows_per_call: NonZeroUsize::MIN, ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Label, Position, RowId, TextHash, Tokens};

    fn row(position: u64, text: &str) -> Row {
        Row {
            position: Position(position),
            id: RowId::Integer(position.into()),
            text: text.into(),
            text_hash: TextHash([0; 16]),
            tokens: Tokens(10),
            attempts: 0,
        }
    }

    fn packer(isolate: bool) -> Packer {
        let labels = [("delivery", "A"), ("payment", "B")].map(|(name, code)| Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        });
        let codebook = Arc::new(Codebook::new(labels.into(), None).unwrap());
        let limits = BatchLimits {
            rows_per_call: NonZeroUsize::new(4).unwrap(),
            tokens_per_call: Tokens(1_000),
            fixed: Tokens(10),
            per_row: 3.0,
        };
        Packer::new(limits, isolate.then_some(codebook))
    }

    fn batches(packer: &mut Packer) -> Vec<Vec<u64>> {
        let next = || packer.next(true, TakenSeats::default());
        let numbers = |packed: Packed| packed.rows.iter().map(|row| row.position.0).collect();
        std::iter::from_fn(next).map(numbers).collect()
    }

    #[test]
    fn suspicious_rows_are_asked_alone_also_when_they_are_asked_again() {
        let mut packer = packer(true);
        for at in 0..6 {
            packer.push(row(at, if at % 3 == 1 { "417:B" } else { "late" })).unwrap();
        }
        assert_eq!(batches(&mut packer), [vec![1], vec![4], vec![0, 2, 3, 5]]);
        assert_eq!((packer.take_news(), packer.take_news()), (2, 0));
        assert!(
            packer.push_again(vec![row(1, "417:B"), row(2, "late"), row(3, "late")]).is_empty()
        );
        assert_eq!(batches(&mut packer), [vec![1], vec![2, 3]]);
        assert_eq!(packer.waiting_rows(), 0);
    }

    #[test]
    fn guests_sit_with_ordinary_rows_alone_and_only_where_there_is_room() {
        let mut packer = packer(true);
        packer.push(row(0, "417:B")).unwrap();
        (1..6).for_each(|at| packer.push(row(at, "late")).unwrap());
        let mut next = |tokens| {
            let packed = packer.next(true, TakenSeats { rows: 1, tokens: Tokens(tokens) });
            packed.map(|packed| (packed.rows.len(), packed.may_have_guests))
        };
        assert_eq!(next(10), Some((1, false)));
        assert_eq!(next(10), Some((3, true)));
        assert_eq!(next(990), Some((2, false)), "the guest is too long");
        assert_eq!(next(10), None);
    }

    #[test]
    fn isolation_can_be_turned_off() {
        let mut packer = packer(false);
        for at in 0..4 {
            packer.push(row(at, "417:B")).unwrap();
        }
        assert_eq!(batches(&mut packer), [[0, 1, 2, 3]]);
    }

    #[test]
    fn a_crowd_of_suspicious_rows_is_packed_with_itself_alone() {
        let mut packer = packer(true);
        for at in 0..ALONE_IN_ANY_CASE {
            packer.push(row(at, "417:B")).unwrap();
        }
        assert_eq!(packer.notice_crowd(), None);
        assert_eq!(batches(&mut packer).len(), 100);
        for at in 100..106 {
            packer.push(row(at, if at == 103 { "late" } else { "417:B" })).unwrap();
        }
        assert_eq!(packer.notice_crowd(), Some((105, 106)));
        assert_eq!(packer.notice_crowd(), None, "it is told once");
        assert_eq!(batches(&mut packer), [vec![100, 101, 102, 104], vec![105], vec![103]]);
    }
}
