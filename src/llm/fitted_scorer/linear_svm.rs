//! What separates the vectors of one label from all others: a linear support vector machine.
//!
//! L2-regularized, squared hinge loss, by dual coordinate descent with shrinking, after C.-J. Hsieh,
//! K.-W. Chang, C.-J. Lin, S. S. Keerthi, S. Sundararajan: "A Dual Coordinate Descent Method for
//! Large-scale Linear SVM", ICML 2008. One coordinate of the dual is a row; rows that can't matter
//! any more are set aside, which leaves the few that lie at the border.

use super::random_order::RandomOrder;

/// What a row on the wrong side costs against the length of the weights.
///
/// The usual value. On the training rows of Banking77, cross-validated, 0.5 and 2 are no better.
const COST: f32 = 1.0;

/// How far the steepest and the flattest coordinate may differ at the end.
const TOLERANCE: f32 = 0.1;

/// Most passes over the rows; a few dozen do, and rows that contradict each other end here.
const MAX_PASSES: usize = 200;

/// Steps smaller than this change no weight.
const SMALLEST_STEP: f32 = 1e-12;

/// Sparse vectors, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Vectors {
    entries: Vec<(u32, f32)>,
    /// Where each vector ends in `entries`.
    ends: Vec<usize>,
}

impl Vectors {
    /// Adds a vector: feature and value, each feature once.
    pub(super) fn push(&mut self, vector: &[(u32, f32)]) {
        self.entries.extend_from_slice(vector);
        self.ends.push(self.entries.len());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, at: usize) -> &[(u32, f32)] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[at]]
    }
}

/// The plane between a label's vectors and the others: positive is on the label's side.
#[derive(Clone, Debug)]
pub(super) struct Separator {
    /// By feature.
    pub(super) weights: Vec<f32>,
    /// What is added to every sum.
    pub(super) bias: f32,
}

impl Separator {
    fn score(&self, vector: &[(u32, f32)]) -> f32 {
        vector
            .iter()
            .fold(self.bias, |sum, (feature, value)| sum + self.weights[*feature as usize] * value)
    }

    fn add(&mut self, vector: &[(u32, f32)], step: f32) {
        for (feature, value) in vector {
            self.weights[*feature as usize] += step * value;
        }
        self.bias += step;
    }
}

/// The separator of the vectors for which `is_inside` holds, given their places; `features` is
/// above every feature in `vectors`.
pub(super) fn separate(
    vectors: &Vectors,
    features: usize,
    is_inside: impl Fn(usize) -> bool,
) -> Separator {
    const RIDGE: f32 = 0.5 / COST;
    let rows = vectors.len();
    let sides: Vec<f32> = (0..rows).map(|row| if is_inside(row) { 1.0 } else { -1.0 }).collect();
    let curvature: Vec<f32> = (0..rows)
        .map(|row| {
            let square = |sum, (_, value): &(u32, f32)| sum + value * value;
            RIDGE + vectors.get(row).iter().fold(1.0, square)
        })
        .collect();
    let mut separator = Separator { weights: vec![0.0; features], bias: 0.0 };
    let mut multipliers = vec![0.0_f32; rows];
    let mut order: Vec<u32> = (0..rows as u32).collect();
    let mut random = RandomOrder::new(0);
    let mut active = rows;
    // A row without influence whose slope is above this is set aside.
    let mut bound = f32::INFINITY;
    for _ in 0..MAX_PASSES {
        let (mut steepest, mut flattest) = (f32::NEG_INFINITY, f32::INFINITY);
        random.shuffle(&mut order[..active]);
        let mut at = 0;
        while at < active {
            let row = order[at] as usize;
            let vector = vectors.get(row);
            let slope = separator.score(vector) * sides[row] - 1.0 + multipliers[row] * RIDGE;
            let is_at_edge = multipliers[row] == 0.0;
            if is_at_edge && slope > bound {
                active -= 1;
                order.swap(at, active);
                continue;
            }
            let downhill = if is_at_edge { slope.min(0.0) } else { slope };
            steepest = steepest.max(downhill);
            flattest = flattest.min(downhill);
            if downhill.abs() > SMALLEST_STEP {
                let before = multipliers[row];
                multipliers[row] = (before - slope / curvature[row]).max(0.0);
                separator.add(vector, (multipliers[row] - before) * sides[row]);
            }
            at += 1;
        }
        if steepest - flattest <= TOLERANCE {
            if active == rows {
                break;
            }
            // Done without the rows that were set aside: once more with them.
            active = rows;
            bound = f32::INFINITY;
        } else {
            bound = if steepest > 0.0 { steepest } else { f32::INFINITY };
        }
    }
    separator
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(rows: &[&[(u32, f32)]]) -> Vectors {
        let mut vectors = Vectors::default();
        for row in rows {
            vectors.push(row);
        }
        vectors
    }

    #[test]
    fn rows_that_a_plane_divides_are_divided() {
        let rows =
            vectors(&[&[(0, 1.0)], &[(0, 0.8), (2, 0.6)], &[(1, 1.0)], &[(1, 0.8), (2, 0.6)]]);
        let separator = separate(&rows, 3, |row| row < 2);
        for row in 0..4 {
            assert_eq!(separator.score(rows.get(row)) > 0.0, row < 2, "row {row}");
        }
        assert!(separator.weights[2].abs() < 0.05, "what both sides have says nothing");
    }

    #[test]
    fn the_solution_is_the_one_that_can_be_worked_out() {
        // One row in, its mirror image out: minimize w²/2 + b²/2 + 2 max(0, 1 - w)². So w = 4 / 5.
        let rows = vectors(&[&[(0, 1.0)], &[(0, -1.0)]]);
        let separator = separate(&rows, 1, |row| row == 0);
        assert!((separator.weights[0] - 0.8).abs() < 0.03, "{separator:?}");
        assert!(separator.bias.abs() < 0.03, "{separator:?}");
    }

    #[test]
    fn rows_that_contradict_each_other_come_to_an_end() {
        let row: &[(u32, f32)] = &[(0, 1.0)];
        let rows = vectors(&[row; 50]);
        let separator = separate(&rows, 1, |row| row % 2 == 0);
        assert!(separator.score(rows.get(0)).abs() < 0.1, "{separator:?}");
    }

    #[test]
    fn empty_vectors_are_borne() {
        let rows = vectors(&[&[], &[(0, 1.0)], &[]]);
        let separator = separate(&rows, 1, |row| row == 1);
        assert!(separator.score(rows.get(1)) > separator.score(rows.get(0)));
        assert!(separate(&Vectors::default(), 0, |_| true).weights.is_empty());
    }
}
