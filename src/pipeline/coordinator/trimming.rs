//! The last call before a slice is full: a few rows smaller, so that it starts in the room that is left.
//!
//! A slice of ten seconds holds a handful of calls, and where the last of them lacks a few tokens a
//! tenth of the limit is lost. A minute holds so many that this is worth less than the prompt that
//! the rows left out will pay for again.

use super::super::settlement::Parcel;
use super::Coordinator;
use crate::domain::{Moment, Row};
use crate::llm::governor::Admission;

/// One in so many rows may be left out of a call.
const ONE_IN: usize = 8;

/// What becomes of a call that has to wait.
pub(super) enum Trimmed {
    /// It starts, without some of its rows.
    Fits(Parcel),
    /// It waits, and is to be looked at again at that moment.
    Waits(Parcel, Option<Moment>),
}

impl Coordinator<'_> {
    /// As many rows of `parcel`, which waits until `until`, as a slice has room for at `now`, if that
    /// is nearly all of them; those left out are packed with others.
    pub(super) fn trimmed(
        &mut self,
        parcel: Parcel,
        until: Option<Moment>,
        now: Moment,
    ) -> Trimmed {
        let asker = &self.parts.line.asker;
        let rows = parcel.rows.len();
        let least = rows - rows / ONE_IN;
        let is_new = parcel.first_failed.is_none() && parcel.guests.is_empty();
        // Where calls come in sizes that share a schema, any other size would cost more.
        let is_free = is_new && least < rows && asker.is_on_ladder(rows - 1);
        if !is_free || !self.parts.governor.waits_for_slice(asker.estimate(&parcel.rows), now) {
            return Trimmed::Waits(parcel, until);
        }
        let mut admit = |rows: &[Row]| self.parts.governor.admit(asker.estimate(rows), now);
        match admit(&parcel.rows[..least]) {
            Admission::Start => {}
            Admission::Wait { until: earlier, .. } => {
                let earliest = [earlier, until].into_iter().flatten().min();
                return Trimmed::Waits(parcel, earliest);
            }
            Admission::Never { .. } => return Trimmed::Waits(parcel, until),
        }
        let most = (least..rows)
            .rev()
            .find(|&most| admit(&parcel.rows[..most]) == Admission::Start)
            .unwrap_or(least);
        let mut parcel = parcel;
        let rest = parcel.rows.split_off(most);
        let too_long = self.parts.packer.push_again(rest);
        self.give_up_too_long(too_long);
        Trimmed::Fits(parcel)
    }
}
