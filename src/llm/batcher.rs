//! Packs rows into calls. Each row that goes in comes out in exactly one batch, in the order in
//! which it came, and no row waits behind one that fits nowhere.
//!
//! Rows that are asked again leave before new ones. Packing is greedy: a batch closes when the next
//! row in order no longer fits.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use crate::domain::{Row, Tokens};

/// How large a call may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchLimits {
    /// Most rows in one call.
    pub rows_per_call: NonZeroUsize,
    /// Most tokens of one call: prompt and expected answer.
    pub tokens_per_call: Tokens,
    /// What every call costs before its first row: the system message, the framing of messages and
    /// reply, the fixed part of a schema.
    pub fixed: Tokens,
    /// What each row adds beside its own line: its answer and its share of a schema, tokens.
    pub per_row: f64,
}

impl BatchLimits {
    /// Tokens of a call with `rows` rows whose lines take `row_tokens` together.
    pub fn call_tokens(&self, rows: usize, row_tokens: Tokens) -> Tokens {
        // A float cast saturates: no count of rows wraps around.
        self.fixed + row_tokens + Tokens((self.per_row * rows as f64).ceil() as u32)
    }

    fn fits(&self, rows: usize, row_tokens: Tokens, room: Tokens) -> bool {
        rows <= self.rows_per_call.get() && self.call_tokens(rows, row_tokens) <= room
    }

    fn fits_alone(&self, row: &Row) -> bool {
        self.fits(1, row.tokens, self.tokens_per_call)
    }
}

/// Room in a call that rows of the batch don't get: guests have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenSeats {
    /// How many guests.
    pub rows: usize,
    /// Tokens of their lines.
    pub tokens: Tokens,
}

/// A row that is too long for any call, even alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong(pub Row);

/// Rows that wait to be asked.
#[derive(Debug)]
pub struct Batcher {
    limits: BatchLimits,
    again: VecDeque<Row>,
    new: VecDeque<Row>,
    waiting: usize,
}

impl Batcher {
    /// A batcher with no rows.
    pub fn new(limits: BatchLimits) -> Batcher {
        Batcher { limits, again: VecDeque::new(), new: VecDeque::new(), waiting: 0 }
    }

    /// The limits in force.
    pub fn limits(&self) -> &BatchLimits {
        &self.limits
    }

    /// Changes the limits for all batches to come, also of rows that wait already. Returns the
    /// rows that no call can take any more.
    pub fn set_limits(&mut self, limits: BatchLimits) -> Vec<TooLong> {
        self.limits = limits;
        let mut too_long = Vec::new();
        for queue in [&mut self.again, &mut self.new] {
            let (fitting, outgrown) = sort_out(&limits, std::mem::take(queue));
            *queue = fitting;
            too_long.extend(outgrown);
        }
        self.waiting -= too_long.len();
        too_long
    }

    /// Takes a new row.
    ///
    /// # Errors
    /// Gives the row back if it is too long for any call.
    pub fn push(&mut self, row: Row) -> Result<(), TooLong> {
        if !self.limits.fits_alone(&row) {
            return Err(TooLong(row));
        }
        self.new.push_back(row);
        self.waiting += 1;
        Ok(())
    }

    /// Takes rows that are asked again: packed with others, ahead of new rows. Returns those that
    /// are too long for any call.
    pub fn push_again(&mut self, rows: Vec<Row>) -> Vec<TooLong> {
        let (fitting, too_long) = sort_out(&self.limits, rows);
        self.waiting += fitting.len();
        self.again.extend(fitting);
        too_long
    }

    /// The next batch: a full one, or with `flush` whatever waits.
    ///
    /// `room` makes this one call smaller than the limits do. `None` if nothing is ready, or if
    /// the first row does not fit in `room`.
    pub fn next(&mut self, flush: bool, room: Option<Tokens>) -> Option<Vec<Row>> {
        self.next_beside(TakenSeats::default(), flush, room)
    }

    /// As [`Batcher::next`], with fewer rows by those that sit in the call already. Also `None` if
    /// no row has room beside them.
    pub fn next_beside(
        &mut self,
        taken: TakenSeats,
        flush: bool,
        room: Option<Tokens>,
    ) -> Option<Vec<Row>> {
        let most = self.limits.tokens_per_call;
        let room = room.map_or(most, |room| room.min(most));
        let count = fitting(&self.limits, taken, self.again.iter().chain(&self.new), room);
        let is_full = count + taken.rows == self.limits.rows_per_call.get() || count < self.waiting;
        if !is_full && !flush {
            return None;
        }
        let from_again = count.min(self.again.len());
        let batch =
            self.again.drain(..from_again).chain(self.new.drain(..count - from_again)).collect();
        self.hand_out(batch)
    }

    fn hand_out(&mut self, batch: Vec<Row>) -> Option<Vec<Row>> {
        self.waiting -= batch.len();
        (!batch.is_empty()).then_some(batch)
    }

    /// Tokens of a call with these rows: prompt and expected answer.
    pub fn call_tokens(&self, rows: &[Row]) -> Tokens {
        self.limits.call_tokens(rows.len(), rows.iter().map(|row| row.tokens).sum())
    }

    /// Rows that wait.
    pub fn waiting_rows(&self) -> usize {
        self.waiting
    }
}

/// The rows that fit in a call, and those that fit in none, both in order.
fn sort_out(
    limits: &BatchLimits,
    rows: impl IntoIterator<Item = Row>,
) -> (VecDeque<Row>, Vec<TooLong>) {
    let (fitting, too_long): (VecDeque<Row>, VecDeque<Row>) =
        rows.into_iter().partition(|row| limits.fits_alone(row));
    (fitting, too_long.into_iter().map(TooLong).collect())
}

/// How many of `rows`, from the first on, fit in one call of `room` beside what is taken.
fn fitting<'a>(
    limits: &BatchLimits,
    taken: TakenSeats,
    rows: impl Iterator<Item = &'a Row>,
    room: Tokens,
) -> usize {
    let mut tokens = taken.tokens;
    let mut count = 0;
    for row in rows {
        tokens += row.tokens;
        if !limits.fits(taken.rows + count + 1, tokens, room) {
            break;
        }
        count += 1;
    }
    count
}

/// Splits a batch in two, the first half being the larger one; the second is empty for a lone row.
pub fn halve(mut rows: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    let second = rows.split_off(rows.len().div_ceil(2));
    (rows, second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Position, RowId, TextHash};

    fn row(position: u64, tokens: u32) -> Row {
        Row {
            position: Position(position),
            id: RowId::Integer(i128::from(position)),
            text: "".into(),
            text_hash: TextHash([0; 16]),
            tokens: Tokens(tokens),
            attempts: 0,
        }
    }

    fn rows(positions: std::ops::Range<u64>) -> Vec<Row> {
        positions.map(|position| row(position, 10)).collect()
    }

    fn limits(rows: usize, tokens: u32) -> BatchLimits {
        BatchLimits {
            rows_per_call: NonZeroUsize::new(rows).unwrap(),
            tokens_per_call: Tokens(tokens),
            fixed: Tokens(100),
            per_row: 3.1,
        }
    }

    fn batcher(rows: usize, tokens: u32) -> Batcher {
        Batcher::new(limits(rows, tokens))
    }

    fn positions(batch: Option<Vec<Row>>) -> Vec<u64> {
        batch.into_iter().flatten().map(|row| row.position.0).collect()
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_flushed() {
        let mut batcher = batcher(3, 1_000);
        rows(0..5).into_iter().for_each(|row| batcher.push(row).unwrap());
        assert_eq!(positions(batcher.next(false, None)), [0, 1, 2]);
        assert_eq!(batcher.next(false, None), None);
        assert_eq!(batcher.waiting_rows(), 2);
        assert_eq!(positions(batcher.next(true, None)), [3, 4]);
        assert_eq!(batcher.next(true, None), None);
    }

    #[test]
    fn the_token_budget_closes_a_batch_before_the_row_cap() {
        // 100 + 3 x (10 + 3.1) = 139.3
        let mut batcher = batcher(50, 140);
        rows(0..7).into_iter().for_each(|row| batcher.push(row).unwrap());
        let batch = batcher.next(false, None).unwrap();
        assert_eq!((batch.len(), batcher.call_tokens(&batch)), (3, Tokens(140)));
        assert_eq!(positions(batcher.next(false, None)), [3, 4, 5]);
        assert_eq!(batcher.next(false, None), None, "one row is no full batch");
    }

    #[test]
    fn rows_that_are_asked_again_come_before_new_ones() {
        let mut batcher = batcher(4, 1_000);
        rows(0..3).into_iter().for_each(|row| batcher.push(row).unwrap());
        assert!(batcher.push_again(rows(10..12)).is_empty());
        assert_eq!(positions(batcher.next(false, None)), [10, 11, 0, 1]);
        assert_eq!(positions(batcher.next(true, None)), [2]);
    }

    #[test]
    fn a_row_that_is_too_long_for_any_call_comes_back_and_holds_nobody_up() {
        let mut batcher = batcher(50, 140);
        assert_eq!(batcher.push(row(0, 37)), Err(TooLong(row(0, 37))));
        assert!(batcher.push(row(1, 36)).is_ok());
        assert_eq!(batcher.push_again(vec![row(2, 40), row(3, 10)]), [TooLong(row(2, 40))]);
        assert_eq!(batcher.waiting_rows(), 2);
        assert_eq!(positions(batcher.next(true, None)), [3]);
        assert_eq!(positions(batcher.next(true, None)), [1]);
    }

    #[test]
    fn narrower_limits_hand_back_what_no_longer_fits() {
        let mut batcher = batcher(50, 1_000);
        for waiting in [row(0, 10), row(1, 500), row(2, 20)] {
            batcher.push(waiting).unwrap();
        }
        let too_long = batcher.set_limits(limits(50, 200));
        assert_eq!(too_long, [TooLong(row(1, 500))]);
        assert_eq!(positions(batcher.next(true, None)), [0, 2]);
        assert_eq!(batcher.waiting_rows(), 0);
    }

    #[test]
    fn a_smaller_room_makes_a_smaller_batch_and_never_loses_the_rest() {
        let mut batcher = batcher(50, 1_000);
        rows(0..4).into_iter().for_each(|row| batcher.push(row).unwrap());
        assert_eq!(batcher.next(true, Some(Tokens(100))), None);
        assert_eq!(positions(batcher.next(false, Some(Tokens(130)))), [0, 1]);
        assert_eq!(positions(batcher.next(true, None)), [2, 3]);
    }

    #[test]
    fn guests_take_rows_and_tokens_from_a_batch_and_nothing_is_lost() {
        let taken = |rows, tokens| TakenSeats { rows, tokens: Tokens(tokens) };
        let mut batcher = batcher(4, 160);
        rows(0..6).into_iter().for_each(|row| batcher.push(row).unwrap());
        assert_eq!(positions(batcher.next_beside(taken(2, 10), false, None)), [0, 1]);
        // 100 + 27 + 2 x 3.1 + 2 x 10 = 153.2; a third row takes 13.1 more.
        assert_eq!(positions(batcher.next_beside(taken(1, 20), false, None)), [2, 3]);
        assert_eq!(batcher.next_beside(taken(4, 10), true, None), None);
        assert_eq!(batcher.next_beside(taken(1, 10), false, None), None, "it is not full");
        assert_eq!(positions(batcher.next_beside(taken(1, 10), true, None)), [4, 5]);
    }

    #[test]
    fn halving_ends_at_single_rows() {
        let (first, second) = halve(rows(0..5));
        assert_eq!((positions(Some(first)), positions(Some(second))), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!(halve(rows(0..1)), (rows(0..1), vec![]));
        assert_eq!(halve(vec![]), (vec![], vec![]));
    }

    #[derive(Clone, Debug)]
    enum Step {
        New(u32),
        Again(Vec<u32>),
        Next(bool, Option<u32>),
        Limits(usize, u32),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let sizes = || prop::collection::vec(0..400_u32, 0..12);
        prop_oneof![
            6 => (0..400_u32).prop_map(Step::New),
            1 => sizes().prop_map(Step::Again),
            3 => (any::<bool>(), prop::option::of(90..500_u32))
                .prop_map(|(flush, room)| Step::Next(flush, room)),
            1 => (1..20_usize, 110..500_u32).prop_map(|(rows, tokens)| Step::Limits(rows, tokens)),
        ]
    }

    proptest! {
        #[test]
        fn every_row_comes_out_exactly_once_in_order_and_within_the_limits(
            steps in prop::collection::vec(any_step(), 1..120),
        ) {
            let mut batcher = batcher(7, 300);
            let mut position = 0;
            let mut number = |sizes: Vec<u32>| -> Vec<Row> {
                let numbered = sizes.into_iter().map(|tokens| {
                    position += 1;
                    row(position, tokens)
                });
                numbered.collect()
            };
            let mut kinds = std::collections::HashMap::new();
            let mut out: Vec<u64> = Vec::new();
            let mut batches = Vec::new();
            for step in steps {
                let too_long = match step {
                    Step::New(tokens) => {
                        let row = number(vec![tokens]).remove(0);
                        kinds.insert(row.position.0, 0);
                        batcher.push(row).err().into_iter().collect()
                    }
                    Step::Again(sizes) => {
                        let rows = number(sizes);
                        kinds.extend(rows.iter().map(|row| (row.position.0, 1)));
                        batcher.push_again(rows)
                    }
                    Step::Limits(rows, tokens) => batcher.set_limits(limits(rows, tokens)),
                    Step::Next(flush, room) => {
                        if let Some(batch) = batcher.next(flush, room.map(Tokens)) {
                            let most = room.unwrap_or(u32::MAX);
                            let limits = *batcher.limits();
                            prop_assert!(!batch.is_empty());
                            prop_assert!(batch.len() <= limits.rows_per_call.get());
                            prop_assert!(batcher.call_tokens(&batch) <= limits.tokens_per_call);
                            prop_assert!(batcher.call_tokens(&batch) <= Tokens(most));
                            batches.push(positions(Some(batch)));
                        }
                        vec![]
                    }
                };
                out.extend(too_long.into_iter().map(|TooLong(row)| row.position.0));
            }
            let mut rounds = 0;
            while let Some(batch) = batcher.next(true, None) {
                batches.push(positions(Some(batch)));
                rounds += 1;
                prop_assert!(rounds < 2_000, "no progress");
            }
            prop_assert_eq!(batcher.waiting_rows(), 0);
            for kind in 0..2 {
                let left: Vec<u64> =
                    batches.iter().flatten().copied().filter(|at| kinds[at] == kind).collect();
                prop_assert!(left.is_sorted(), "kind {}: {:?}", kind, left);
            }
            out.extend(batches.into_iter().flatten());
            out.sort_unstable();
            prop_assert_eq!(out, (1..=position).collect::<Vec<u64>>());
        }
    }
}
