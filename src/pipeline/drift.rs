//! Notices when labels of recent parts leave the range of the first ones: one label that takes
//! over, or rows that come back without one.
//!
//! Pure, over the parts of this run in the order in which they are whole. It only ever warns, and
//! seldom: ids are often clustered, so that labels of neighbouring parts are alike and those of
//! distant ones are not.

use crate::domain::{Codebook, LabelIndex, Outcome, Reason};

/// Fewest rows of a part that say anything.
const LEAST_ROWS: usize = 500;
/// A part begins a new stretch if this share of its labels is others than the stretch's.
const NEW_STRETCH: f64 = 0.3;
/// The least share of a label that takes over.
const TAKES_OVER: f64 = 0.5;
/// By how much its share is over any that it had in an earlier part.
const BEYOND: f64 = 0.15;
/// Fewest parts that a stretch is held against. If they were all alike, one that is as long is no
/// chance.
const STEADY_PARTS: usize = 20;
/// Fewest parts of a stretch that is told of, where labels come and go.
const LEAST_PARTS: usize = 8;
/// Parts in a row with too many rows left without a label.
const FAILING_PARTS: usize = 3;
/// Parts that these are compared with, at least.
const FIRST_PARTS: usize = 5;
/// What is too many: this many times the worst part before, and so much more than it.
const FAILING_TIMES: f64 = 3.0;
const FAILING_MORE: f64 = 0.05;

/// What left its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finding {
    /// A label has a share that it never had before.
    LabelTakesOver {
        /// Which; `None` is that the model declines.
        label: Option<LabelIndex>,
        /// Its share in the latest parts.
        share: f64,
        /// How many parts these are.
        parts: usize,
        /// The largest share that it had in a part before.
        before: f64,
    },
    /// Rows come back without a label.
    RowsFail {
        /// The least share of them in each of the latest parts.
        share: f64,
        /// How many parts these are.
        parts: usize,
        /// The largest share in a part before.
        before: f64,
    },
}

/// Parts that follow each other and have alike labels.
#[derive(Debug)]
struct Stretch {
    parts: usize,
    /// The mean share of each label.
    mean: Vec<f64>,
    /// The largest share of each label in a part.
    highest: Vec<f64>,
}

/// What is known of the parts so far.
#[derive(Debug)]
pub(super) struct Drift {
    current: Option<Stretch>,
    /// The largest share of each label in a part of an earlier stretch.
    highest: Vec<f64>,
    /// Earlier stretches, their parts, and the parts of the longest.
    stretches: usize,
    earlier: usize,
    longest: usize,
    /// Shares of rows that failed in the latest parts, and the largest in those before.
    failing: Vec<f64>,
    worst: f64,
    parts: usize,
    has_told_of_labels: bool,
    has_told_of_failures: bool,
}

impl Drift {
    /// No parts yet, of a job with so many labels.
    pub(super) fn new(labels: usize) -> Drift {
        Drift {
            current: None,
            highest: vec![0.0; labels + 1],
            stretches: 0,
            earlier: 0,
            longest: 0,
            failing: Vec::new(),
            worst: 0.0,
            parts: 0,
            has_told_of_labels: false,
            has_told_of_failures: false,
        }
    }

    /// Takes the outcomes of a part whose rows were asked in this run. Each kind of finding is told
    /// once.
    pub(super) fn take<'o>(&mut self, outcomes: impl Iterator<Item = &'o Outcome>) -> Vec<Finding> {
        let declined = self.highest.len() - 1;
        let mut counts = vec![0_u32; self.highest.len()];
        let mut failed = 0;
        for outcome in outcomes {
            match outcome {
                Outcome::Labelled(label) => {
                    if let Some(count) = counts.get_mut(usize::from(label.0)) {
                        *count += 1;
                    }
                }
                Outcome::Unlabelled { reason: Reason::Unsure, .. } => counts[declined] += 1,
                // These are about the text, not about the model.
                Outcome::Unlabelled { reason: Reason::NoText | Reason::TooLong, .. }
                | Outcome::Existing(_) => {}
                Outcome::Unlabelled { .. } => failed += 1,
            }
        }
        self.take_counts(&counts, failed)
    }

    /// As [`Drift::take`]: rows by label, the declined ones last, and those that failed.
    fn take_counts(&mut self, counts: &[u32], failed: u32) -> Vec<Finding> {
        let answered: u32 = counts.iter().sum();
        let rows = answered + failed;
        if (rows as usize) < LEAST_ROWS {
            return Vec::new();
        }
        let mut found = Vec::new();
        found.extend(self.take_failures(f64::from(failed) / f64::from(rows)));
        if answered as usize >= LEAST_ROWS {
            let shares = counts.iter().map(|count| f64::from(*count) / f64::from(answered));
            found.extend(self.take_labels(shares.collect()));
        }
        found
    }

    fn take_failures(&mut self, share: f64) -> Option<Finding> {
        self.parts += 1;
        self.failing.push(share);
        if self.failing.len() > FAILING_PARTS {
            self.worst = self.worst.max(self.failing.remove(0));
        }
        let most = (self.worst * FAILING_TIMES).max(self.worst + FAILING_MORE);
        let is_over = self.failing.iter().all(|share| *share > most);
        if self.has_told_of_failures || self.parts < FIRST_PARTS + FAILING_PARTS || !is_over {
            return None;
        }
        self.has_told_of_failures = true;
        let share = self.failing.iter().copied().fold(1.0, f64::min);
        Some(Finding::RowsFail { share, parts: FAILING_PARTS, before: self.worst })
    }

    fn take_labels(&mut self, shares: Vec<f64>) -> Option<Finding> {
        match &mut self.current {
            Some(stretch) if stretch.is_like(&shares) => stretch.add(&shares),
            _ => {
                if let Some(past) = self.current.replace(Stretch::of(shares)) {
                    self.stretches += 1;
                    self.earlier += past.parts;
                    self.longest = self.longest.max(past.parts);
                    raise(&mut self.highest, &past.highest);
                }
            }
        }
        let stretch = self.current.as_ref()?;
        if self.has_told_of_labels || !self.is_long(stretch.parts) {
            return None;
        }
        let labels = stretch.mean.iter().zip(&self.highest).enumerate();
        let (at, (share, before)) = labels
            .filter(|(_, (share, before))| **share >= TAKES_OVER && **share >= **before + BEYOND)
            .max_by(|(_, (one, _)), (_, (other, _))| one.total_cmp(other))?;
        self.has_told_of_labels = true;
        let declined = self.highest.len() - 1;
        let label = u16::try_from(at).ok().filter(|_| at != declined).map(LabelIndex);
        let (share, before) = (*share, *before);
        Some(Finding::LabelTakesOver { label, share, parts: stretch.parts, before })
    }

    /// Whether a stretch is so long that it is none of those that came and went.
    ///
    /// Of stretches whose length is by chance, one is over c times as long as the longest of n
    /// before it with a chance of 1 in (n + c over n).
    fn is_long(&self, parts: usize) -> bool {
        if self.earlier < STEADY_PARTS {
            return false;
        }
        let times = match self.stretches {
            0 | 1 => return parts >= STEADY_PARTS,
            2 => 8,
            3 => 6,
            4 => 5,
            _ => 4,
        };
        parts >= LEAST_PARTS.max(times * self.longest)
    }
}

impl Stretch {
    fn of(shares: Vec<f64>) -> Stretch {
        Stretch { parts: 1, mean: shares.clone(), highest: shares }
    }

    fn is_like(&self, shares: &[f64]) -> bool {
        let apart: f64 =
            self.mean.iter().zip(shares).map(|(mean, share)| (mean - share).abs()).sum();
        apart / 2.0 <= NEW_STRETCH
    }

    fn add(&mut self, shares: &[f64]) {
        self.parts += 1;
        for (mean, share) in self.mean.iter_mut().zip(shares) {
            *mean += (share - *mean) / self.parts as f64;
        }
        raise(&mut self.highest, shares);
    }
}

fn raise(highest: &mut [f64], shares: &[f64]) {
    for (highest, share) in highest.iter_mut().zip(shares) {
        *highest = highest.max(*share);
    }
}

impl Finding {
    /// A sentence for whoever runs the job.
    pub(super) fn message(&self, codebook: &Codebook) -> String {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        match *self {
            Finding::LabelTakesOver { label, share, parts, before } => {
                let what = match label {
                    Some(label) => format!("`{}` has", codebook.label(label).name),
                    None => "the model declines".into(),
                };
                format!(
                    "{what} {} of the last {parts} parts' rows and never had over {} of a part's \
                     before; if the input doesn't explain it, the model may have changed: look at \
                     some of those rows",
                    percent(share),
                    percent(before)
                )
            }
            Finding::RowsFail { share, parts, before } => format!(
                "at least {} of the rows of each of the last {parts} parts came back without a \
                 label, before never over {}; if the input doesn't explain it, the model may have \
                 changed",
                percent(share),
                percent(before)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::domain::Label;

    const LABELS: usize = 7;
    const ROWS: f64 = 2_000.0;

    /// An input whose ids are clustered: stretches of some length, each with a mix of labels and a
    /// share of failing rows of its own.
    struct Input {
        random: ChaCha8Rng,
        /// Mean length of a stretch, parts.
        length: f64,
        /// How uneven its mix is: 0 is even, at 4 one label has most.
        uneven: f64,
        mix: Vec<f64>,
        failing: f64,
        /// What is left of the stretch, parts.
        left: f64,
    }

    impl Input {
        fn new(seed: u64, length: f64, uneven: f64) -> Input {
            let random = ChaCha8Rng::seed_from_u64(seed);
            let mut input =
                Input { random, length, uneven, mix: Vec::new(), failing: 0.0, left: 0.0 };
            input.begin();
            input
        }

        fn exponential(&mut self) -> f64 {
            -(1.0 - self.random.random::<f64>()).ln()
        }

        fn begin(&mut self) {
            let weights: Vec<f64> =
                (0..LABELS).map(|_| self.exponential().powf(self.uneven)).collect();
            let all: f64 = weights.iter().sum();
            self.mix = weights.iter().map(|weight| weight / all).collect();
            self.failing = self.random.random_range(0.003..0.02);
            self.left = self.exponential() * self.length;
        }

        /// The shares of the labels in the next part, and that of the rows that fail.
        fn part(&mut self) -> (Vec<f64>, f64) {
            let (mut mix, mut failing, mut room) = (vec![0.0; LABELS], 0.0, 1.0);
            while room > 0.0 {
                let piece = self.left.min(room);
                for (share, own) in mix.iter_mut().zip(&self.mix) {
                    *share += own * piece;
                }
                failing += self.failing * piece;
                self.left -= piece;
                room -= piece;
                if self.left <= 0.0 {
                    self.begin();
                }
            }
            (mix, failing)
        }

        /// So many of `ROWS` rows, about as far off as chance is.
        fn count(&mut self, share: f64) -> u32 {
            let spread = (share * (1.0 - share) * ROWS).sqrt();
            let chance: f64 = (0..12).map(|_| self.random.random::<f64>()).sum();
            (share * ROWS + spread * (chance - 6.0)).round().max(0.0) as u32
        }
    }

    /// What is found in `parts` parts, and in which. From the part `from` on, a share of the rows
    /// gets one label, and a share fails.
    fn findings(
        mut input: Input,
        parts: usize,
        from: usize,
        (taken, failing): (f64, f64),
    ) -> Vec<(usize, Finding)> {
        let mut drift = Drift::new(LABELS);
        let mut found = Vec::new();
        for part in 0..parts {
            let (mut mix, mut failed) = input.part();
            if part >= from {
                mix.iter_mut().for_each(|share| *share *= 1.0 - taken);
                mix[3] += taken;
                failed += failing;
            }
            let mut counts: Vec<u32> =
                mix.iter().map(|share| input.count(share * (1.0 - failed))).collect();
            counts.push(0);
            let failed = input.count(failed);
            found.extend(drift.take_counts(&counts, failed).into_iter().map(|it| (part, it)));
        }
        found
    }

    #[test]
    fn clustered_ids_raise_no_alarm_in_98_of_100_trials() {
        for uneven in [0.5, 1.0, 2.0, 4.0] {
            let alarms = (0..100).filter(|seed| {
                // Stretches of a tenth of a part to ten parts.
                let length = 0.1 * 100.0_f64.powf(*seed as f64 / 99.0);
                !findings(Input::new(*seed, length, uneven), 120, 120, (0.0, 0.0)).is_empty()
            });
            let alarms = alarms.count();
            assert!(alarms <= 2, "unevenness {uneven}: {alarms} of 100 trials");
        }
    }

    #[test]
    fn a_label_that_takes_over_for_good_is_told_once() {
        for (length, wait) in [(0.01, 20), (0.5, 60)] {
            let mut told = 0;
            for seed in 0..100 {
                let found = findings(Input::new(seed, length, 1.0), 120, 40, (0.97, 0.0));
                let of_labels = |it: &&(usize, Finding)| {
                    matches!(it.1, Finding::LabelTakesOver { label: Some(LabelIndex(3)), .. })
                };
                let found: Vec<_> = found.iter().filter(of_labels).collect();
                told += usize::from(found.len() == 1 && found[0].0 <= 40 + wait);
            }
            assert!(told >= 95, "stretches of {length} parts: told in {told} of 100");
        }
    }

    #[test]
    fn rows_that_come_back_without_a_label_are_told_once_whatever_the_labels_do() {
        for length in [0.01, 1.0, 10.0] {
            for seed in 0..100 {
                let found = findings(Input::new(seed, length, 2.0), 60, 30, (0.0, 0.2));
                let failures = found.iter().filter(|it| matches!(it.1, Finding::RowsFail { .. }));
                let at: Vec<usize> = failures.map(|(at, _)| *at).collect();
                assert_eq!(at, [32], "stretches of {length} parts, seed {seed}");
            }
        }
    }

    fn labelled(label: usize) -> Outcome {
        Outcome::Labelled(LabelIndex(label as u16))
    }

    #[test]
    fn small_parts_and_texts_that_no_model_could_label_say_nothing() {
        let mut drift = Drift::new(LABELS);
        let blank = Outcome::Unlabelled { reason: Reason::NoText, attempts: 0 };
        for part in 0..60 {
            let label = if part < 30 { part % LABELS } else { 0 };
            let few = vec![labelled(label); LEAST_ROWS - 1];
            assert_eq!(drift.take(few.iter().chain(&vec![blank.clone(); 5_000])), []);
        }
    }

    #[test]
    fn findings_are_told_in_words_with_the_labels_name() {
        let labels = ["card lost", "top up"].into_iter().zip(["A", "B"]);
        let labels = labels.map(|(name, code)| Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        });
        let codebook = Codebook::new(labels.collect(), None).unwrap();
        let label = Some(LabelIndex(1));
        let found = Finding::LabelTakesOver { label, share: 0.934, parts: 20, before: 0.31 };
        assert_eq!(
            found.message(&codebook),
            "`top up` has 93.4 % of the last 20 parts' rows and never had over 31.0 % of a part's \
             before; if the input doesn't explain it, the model may have changed: look at some of \
             those rows"
        );
        let found = Finding::RowsFail { share: 0.19, parts: 3, before: 0.012 };
        assert!(found.message(&codebook).starts_with(
            "at least 19.0 % of the rows of each of the last 3 parts came back without a label, \
             before never over 1.2 %"
        ));
    }
}
