//! Which rows stand in which part: fixed when rows are planned, by place alone.
//!
//! Part k holds the k-th run of `rows_per_part` planned rows. Rows that are planned later (a raised
//! row limit, a grown input) form further parts. A position means one row for ever: a part that was
//! not written before the input changed is released, and its rows are planned anew.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Position, PositionRange};

/// A part's number, from 1, as in `part-000001.parquet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartNumber(pub u32);

impl PartNumber {
    /// The part's file name.
    pub fn file_name(self) -> String {
        format!("part-{:06}.parquet", self.0)
    }
}

impl std::fmt::Display for PartNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Rows that were planned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Their positions.
    pub range: PositionRange,
    /// Rows in each of their parts; the last part may have fewer.
    pub rows_per_part: NonZeroU32,
    /// The number of their first part.
    pub first_part: PartNumber,
}

impl Stretch {
    fn parts(&self) -> u32 {
        let parts = self.range.rows.div_ceil(u64::from(self.rows_per_part.get()));
        u32::try_from(parts).unwrap_or(u32::MAX)
    }
}

/// All planned rows, as stretches that follow each other without a gap from position 0, less the
/// parts that were released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    stretches: Vec<Stretch>,
    released: BTreeSet<PartNumber>,
    released_rows: u64,
}

impl Plan {
    /// A plan of these stretches; `None` unless each follows its predecessor.
    pub fn from_stretches(stretches: Vec<Stretch>) -> Option<Plan> {
        let mut plan = Plan::default();
        stretches.into_iter().all(|stretch| plan.push(stretch)).then_some(plan)
    }

    /// Adds a stretch that was planned later; `false`, and nothing is added, unless it follows.
    pub fn push(&mut self, stretch: Stretch) -> bool {
        let follows = stretch.range.first == self.end()
            && stretch.first_part.0.checked_sub(1) == Some(self.parts())
            && stretch.range.rows > 0;
        if follows {
            self.stretches.push(stretch);
        }
        follows
    }

    /// Plans further rows so that `rows` are planned in all; returns the new stretch, if any.
    pub fn extend_to(&mut self, rows: u64, rows_per_part: NonZeroU32) -> Option<Stretch> {
        let further = rows.checked_sub(self.rows()).filter(|further| *further > 0)?;
        let stretch = Stretch {
            range: PositionRange { first: self.end(), rows: further },
            rows_per_part,
            first_part: PartNumber(self.parts() + 1),
        };
        self.stretches.push(stretch);
        Some(stretch)
    }

    /// The stretches, in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Gives planned parts up: they are never written, and their numbers and positions never used
    /// again. What is not planned is passed over.
    pub fn release(&mut self, parts: impl IntoIterator<Item = PartNumber>) {
        for part in parts {
            if let Some(range) = self.range_of(part) {
                self.released.insert(part);
                self.released_rows += range.rows;
            }
        }
    }

    /// Whether the part was planned and given up.
    pub fn is_released(&self, part: PartNumber) -> bool {
        self.released.contains(&part)
    }

    /// How many rows are planned.
    pub fn rows(&self) -> u64 {
        self.end().0 - self.released_rows
    }

    /// The first position that no row ever had.
    pub fn end(&self) -> Position {
        self.stretches.last().map_or(Position(0), |stretch| stretch.range.end())
    }

    /// The highest number of a part, which is how many there are if none was released.
    pub fn parts(&self) -> u32 {
        self.stretches.last().map_or(0, |stretch| stretch.first_part.0 - 1 + stretch.parts())
    }

    /// The positions of a planned part; `None` too if it was released.
    pub fn range_of(&self, part: PartNumber) -> Option<PositionRange> {
        if self.is_released(part) {
            return None;
        }
        let stretch = self.stretches.iter().rfind(|stretch| stretch.first_part <= part)?;
        let index = part.0 - stretch.first_part.0;
        if index >= stretch.parts() {
            return None;
        }
        let rows_per_part = u64::from(stretch.rows_per_part.get());
        let skipped = u64::from(index) * rows_per_part;
        Some(PositionRange {
            first: Position(stretch.range.first.0 + skipped),
            rows: rows_per_part.min(stretch.range.rows - skipped),
        })
    }

    /// The part of a position, be it released.
    pub fn part_of(&self, position: Position) -> Option<PartNumber> {
        let stretch = self.stretches.iter().find(|stretch| stretch.range.contains(position))?;
        let index = (position.0 - stretch.range.first.0) / u64::from(stretch.rows_per_part.get());
        Some(PartNumber(stretch.first_part.0 + u32::try_from(index).ok()?))
    }

    /// Every planned part, in order.
    pub fn part_numbers(&self) -> impl Iterator<Item = PartNumber> {
        (1..=self.parts()).map(PartNumber).filter(|part| !self.is_released(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_part(rows: u32) -> NonZeroU32 {
        NonZeroU32::new(rows).unwrap()
    }

    #[test]
    fn later_rows_form_further_parts_and_planned_ones_stay() {
        let mut plan = Plan::default();
        plan.extend_to(25, per_part(10)).unwrap();
        let third = plan.range_of(PartNumber(3)).unwrap();
        assert_eq!(third, PositionRange { first: Position(20), rows: 5 });

        assert_eq!(plan.extend_to(25, per_part(10)), None);
        plan.extend_to(60, per_part(20)).unwrap();
        assert_eq!(plan.range_of(PartNumber(3)).unwrap(), third);
        assert_eq!(plan.parts(), 5);
        assert_eq!(
            plan.range_of(PartNumber(5)),
            Some(PositionRange { first: Position(45), rows: 15 })
        );
        assert_eq!(plan.range_of(PartNumber(6)), None);
        assert_eq!(Plan::from_stretches(plan.stretches().to_vec()), Some(plan));
    }

    #[test]
    fn each_planned_position_is_in_the_part_that_holds_it() {
        let mut plan = Plan::default();
        plan.extend_to(7, per_part(3)).unwrap();
        plan.extend_to(20, per_part(4)).unwrap();
        for position in (0..20).map(Position) {
            let part = plan.part_of(position).unwrap();
            assert!(plan.range_of(part).unwrap().contains(position));
        }
        assert_eq!(plan.part_of(Position(20)), None);
    }
    #[test]
    fn what_is_released_is_planned_anew_under_numbers_that_were_never_used() {
        let mut plan = Plan::default();
        plan.extend_to(25, per_part(10)).unwrap();
        plan.release([PartNumber(2), PartNumber(2), PartNumber(9)]);
        assert_eq!((plan.rows(), plan.range_of(PartNumber(2))), (15, None));
        assert_eq!(plan.part_of(Position(12)), Some(PartNumber(2)), "a journal may still name it");

        let stretch = plan.extend_to(30, per_part(10)).unwrap();
        assert_eq!(stretch.range, PositionRange { first: Position(25), rows: 15 });
        assert_eq!((stretch.first_part, plan.rows()), (PartNumber(4), 30));
        let numbers: Vec<u32> = plan.part_numbers().map(|part| part.0).collect();
        assert_eq!(numbers, [1, 3, 4, 5]);
    }
}
