//! What calls may cost: which of them start under the job's bounds, and when none can any more.

use super::super::error::Stopped;
use super::super::settlement::Parcel;
use super::Coordinator;
use crate::domain::event::WaitFor;
use crate::domain::{Billed, Moment, Row};
use crate::llm::budget::Room;

impl Coordinator<'_> {
    /// What may start now of `parcel` under the bounds: all of it, or as many rows as fit once
    /// nothing is in flight whose bill may yet turn out lower; without its probes then, which may
    /// leave nothing of it. `None`: nothing now, or, where not one row fits, nothing any more.
    pub(super) fn within_budget(&mut self, parcel: Parcel, now: Moment) -> Option<Parcel> {
        if !self.parts.budget.is_bounded() {
            return Some(parcel);
        }
        match self.room_for(&parcel.asked()) {
            Room::Fits => Some(parcel),
            Room::Later => {
                self.ready = Some(parcel);
                self.announce(WaitFor::Budget, None, now);
                None
            }
            Room::Full(_) if !parcel.guests.is_empty() => {
                let without = Parcel { guests: Vec::new(), ..parcel };
                if without.rows.is_empty() {
                    Some(without)
                } else {
                    self.within_budget(without, now)
                }
            }
            Room::Full(bound) => {
                let Parcel { rows, failures, first_failed, .. } = parcel;
                let parcel = |rows| Parcel { failures, first_failed, ..Parcel::of(rows) };
                let (fits, rest) = as_many_as_fit(rows, |rows| self.room_for(rows) == Room::Fits);
                let (fits, beyond) = self.parts.line.asker.on_ladder(fits);
                for rows in [rest, beyond] {
                    if !rows.is_empty() {
                        self.parcels.push_front(parcel(rows));
                    }
                }
                if fits.is_empty() {
                    let exhausted = self.parts.budget.exhausted(bound);
                    self.stop(Stopped::Budget { exhausted, has_asked: self.started > 0 });
                    return None;
                }
                Some(parcel(fits))
            }
        }
    }

    fn room_for(&self, rows: &[Row]) -> Room {
        self.parts.budget.room_for(self.parts.line.asker.most_billed(rows))
    }

    /// Ends a call's part in the budget.
    pub(super) fn settle_bill(&mut self, call: u64, billed: Billed) {
        self.parts.budget.settle(call, billed);
        self.tally.billed += billed;
    }
}

/// As many of `rows` as fit together, the shortest ones, and the others; both in their order. More
/// rows never fit where fewer do not.
fn as_many_as_fit(rows: Vec<Row>, fits: impl Fn(&[Row]) -> bool) -> (Vec<Row>, Vec<Row>) {
    let mut by_length: Vec<usize> = (0..rows.len()).collect();
    by_length.sort_by_key(|&at| (rows[at].tokens, rows[at].text.len()));
    let shortest: Vec<Row> = by_length.iter().map(|&at| rows[at].clone()).collect();
    let (mut most, mut too_many) = (0, rows.len() + 1);
    while most + 1 < too_many {
        let middle = most.midpoint(too_many);
        if fits(&shortest[..middle]) {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    let mut is_chosen = vec![false; rows.len()];
    by_length.iter().take(most).for_each(|&at| is_chosen[at] = true);
    let (chosen, others): (Vec<_>, Vec<_>) = rows.into_iter().zip(is_chosen).partition(|it| it.1);
    let bare = |pairs: Vec<(Row, bool)>| pairs.into_iter().map(|(row, _)| row).collect();
    (bare(chosen), bare(others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Position, RowId, TextHash, Tokens};

    fn rows(lengths: &[u32]) -> Vec<Row> {
        let rows = lengths.iter().zip(0_u64..).map(|(&tokens, position)| Row {
            position: Position(position),
            id: RowId::Integer(position.into()),
            text: "x".into(),
            text_hash: TextHash::of(&position.to_string()),
            tokens: Tokens(tokens),
            attempts: 0,
        });
        rows.collect()
    }

    #[test]
    fn the_shortest_rows_go_first_and_none_is_lost() {
        let places = |rows: &[Row]| rows.iter().map(|row| row.position.0).collect::<Vec<_>>();
        let within = |room: u32| {
            let fits = |rows: &[Row]| rows.iter().map(|row| row.tokens).sum::<Tokens>().0 <= room;
            let (fit, rest) = as_many_as_fit(rows(&[9, 2, 7, 3]), fits);
            (places(&fit), places(&rest))
        };
        assert_eq!(within(5), (vec![1, 3], vec![0, 2]));
        assert_eq!(within(12), (vec![1, 2, 3], vec![0]));
        assert_eq!(within(1), (vec![], vec![0, 1, 2, 3]));
        assert_eq!(within(100), (vec![0, 1, 2, 3], vec![]));
    }
}
