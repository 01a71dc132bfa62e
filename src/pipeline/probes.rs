//! Rows that are asked a second time, to see whether their labels hold: in another call, at another
//! place, among other rows.
//!
//! A probe's answer is only ever counted. It changes no label, is no attempt and stands in no
//! journal. Pure: what is drawn follows from the seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::back_off::{BackOff, Decision};
use super::share::Share;
use crate::domain::spec::QualitySpec;
use crate::domain::{LabelIndex, Outcome, Row};
use crate::llm::reply_matcher::Answer;

/// Labelled rows that are kept to be drawn from.
const KNOWN: usize = 256;
/// Longest text that is kept, bytes.
const LONGEST_TEXT: usize = 4_096;
/// The share of the first rows at a size that is probed, so that an interval is there early.
const EARLY_SHARE: f64 = 0.05;
/// How many rows are the first; from there on the share falls with the rows.
const EARLY_ROWS: f64 = 2_000.0;
/// Once enough are kept, one labelled row in so many takes the place of another.
const REPLACED_ONE_IN: u32 = 10;
/// Most probes that may be overdue, while nothing can be drawn.
const MOST_DUE: f64 = 8.0;
/// At most one row in so many of a call is a probe.
const ONE_IN_A_CALL: usize = 10;
/// How far from its old place a probe sits, as a share of the call.
const AWAY: f64 = 0.25;

/// A labelled row that is asked again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probe {
    /// The row.
    pub(super) row: Row,
    label: LabelIndex,
    /// Its place in the call that labelled it, from 0 (first) to 1 (last).
    place: f64,
    /// The rows per call that were in force then.
    rows_per_call: usize,
}

/// A probe with its seat in a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Guest {
    /// Who sits there.
    pub(super) probe: Probe,
    /// The place in the request, from 0, among the call's own rows and other guests.
    pub(super) seat: usize,
}

/// What the answers to some probes say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct News {
    /// The latest probes at the rows per call in force, before the decision.
    pub(super) recent: Share,
    /// All of this run.
    pub(super) all: Share,
    /// The rows per call that `recent` is of.
    pub(super) rows_per_call: usize,
    /// What follows.
    pub(super) decision: Decision,
}

/// The probes of a run.
#[derive(Debug)]
pub(super) struct Probes {
    /// The share of rows that is probed in the long run; 0 probes none.
    share: f64,
    back_off: BackOff,
    random: ChaCha8Rng,
    known: Vec<Probe>,
    /// Probes that are due.
    due: f64,
    /// Rows asked since the rows per call last changed.
    asked: f64,
    all: Share,
}

impl Probes {
    /// Probes of a job with `rows_per_call`.
    pub(super) fn new(spec: QualitySpec, rows_per_call: usize, seed: u64) -> Probes {
        Probes {
            share: spec.probe,
            back_off: BackOff::new(rows_per_call, spec.probe_baseline + spec.probe_max),
            random: ChaCha8Rng::seed_from_u64(seed),
            known: Vec::new(),
            due: 0.0,
            asked: 0.0,
            all: Share::default(),
        }
    }

    /// All probes of this run that were answered, and those of them that disagreed.
    pub(super) fn all(&self) -> Share {
        self.all
    }

    /// The probes that are to share the next call; none where calls are not shared.
    pub(super) fn invite(&mut self) -> Vec<Probe> {
        let seats = self.back_off.rows_per_call() / ONE_IN_A_CALL;
        let seats = if self.back_off.rows_per_call() > 1 { seats.max(1) } else { 0 };
        let wanted = (self.due as usize).min(seats);
        (0..wanted).map_while(|_| self.draw()).collect()
    }

    /// A probe that is to be asked alone, where every row is.
    pub(super) fn invite_alone(&mut self) -> Option<Probe> {
        let is_due = self.back_off.rows_per_call() == 1 && self.due >= 1.0;
        if is_due { self.draw() } else { None }
    }

    fn draw(&mut self) -> Option<Probe> {
        if self.known.is_empty() {
            return None;
        }
        self.due -= 1.0;
        let drawn = self.random.random_range(0..self.known.len());
        Some(self.known.swap_remove(drawn))
    }

    /// Takes probes back that found no seat, or whose call failed.
    pub(super) fn take_back(&mut self, probes: impl IntoIterator<Item = Probe>) {
        for probe in probes {
            if probe.rows_per_call == self.back_off.rows_per_call() {
                self.due = (self.due + 1.0).min(MOST_DUE);
                self.known.push(probe);
            }
        }
    }

    /// Seats `probes` in a call with `rows` other rows, each away from its old place.
    pub(super) fn seat(&mut self, probes: Vec<Probe>, rows: usize) -> Vec<Guest> {
        let seats = rows + probes.len();
        let mut guests: Vec<Guest> = Vec::with_capacity(probes.len());
        for probe in probes {
            let is_free = |seat: &usize| guests.iter().all(|guest| guest.seat != *seat);
            let is_away = |seat: &usize| {
                let place = *seat as f64 / (seats.max(2) - 1) as f64;
                (place - probe.place).abs() >= AWAY
            };
            let free: Vec<usize> = (0..seats).filter(is_free).collect();
            let away: Vec<usize> = free.iter().copied().filter(is_away).collect();
            let choice = if away.is_empty() { &free } else { &away };
            let seat = choice[self.random.random_range(0..choice.len())];
            guests.push(Guest { probe, seat });
        }
        guests.sort_by_key(|guest| guest.seat);
        guests
    }

    /// Counts rows that were packed and may be probed: so many more probes are due.
    pub(super) fn count_rows(&mut self, rows: usize) {
        if self.share == 0.0 {
            return;
        }
        let early = EARLY_SHARE * EARLY_ROWS / self.asked.max(EARLY_ROWS);
        self.due = (self.due + self.share.max(early) * rows as f64).min(MOST_DUE);
        self.asked += rows as f64;
    }

    /// Keeps some of the rows that a call of `rows` rows labelled, given in their order.
    pub(super) fn note<'r>(
        &mut self,
        settled: impl ExactSizeIterator<Item = (&'r Row, &'r Outcome)>,
        rows: usize,
        may_be_seated: impl Fn(&Row) -> bool,
    ) {
        let rows_per_call = self.back_off.rows_per_call();
        // A larger call was packed before the rows per call went down.
        if self.share == 0.0 || rows > rows_per_call {
            return;
        }
        let last = settled.len().saturating_sub(1).max(1) as f64;
        for (at, (row, outcome)) in settled.enumerate() {
            let Outcome::Labelled(label) = *outcome else { continue };
            let is_full = self.known.len() >= KNOWN;
            if is_full && self.random.random_range(0..REPLACED_ONE_IN) > 0 {
                continue;
            }
            if row.text.len() > LONGEST_TEXT || !may_be_seated(row) {
                continue;
            }
            let probe = Probe { row: row.clone(), label, place: at as f64 / last, rows_per_call };
            match is_full {
                true => {
                    let replaced = self.random.random_range(0..self.known.len());
                    self.known[replaced] = probe;
                }
                false => self.known.push(probe),
            }
        }
    }

    /// Counts what was answered to probes. A row that was left out says nothing.
    pub(super) fn take_answers(&mut self, answered: &[(Probe, Answer)]) -> Option<News> {
        let mut news = None;
        for (probe, answer) in answered {
            let differs = match *answer {
                Answer::Label(label) => label != probe.label,
                Answer::Unsure => true,
                Answer::Unresolved(_) => continue,
            };
            self.all.add(differs);
            let rows_per_call = self.back_off.rows_per_call();
            if probe.rows_per_call != rows_per_call {
                continue;
            }
            let mut recent = self.back_off.recent();
            let decision = self.back_off.add(differs);
            match decision {
                // Labels that were given at another size say nothing of this one.
                Decision::Step(_) | Decision::NotTheSize(_) => self.begin_anew(),
                Decision::Stay => recent = self.back_off.recent(),
            }
            news = Some(News { recent, all: self.all, rows_per_call, decision });
            if decision != Decision::Stay {
                break;
            }
        }
        news
    }

    fn begin_anew(&mut self) {
        self.known.clear();
        self.due = 0.0;
        self.asked = 0.0;
    }
}

/// The rows of a request: a call's own rows with guests among them.
pub(super) fn with_guests(rows: &[Row], guests: &[Guest]) -> Vec<Row> {
    let mut own = rows.iter();
    let mut guests = guests.iter().peekable();
    let all = own.len() + guests.len();
    let seats = (0..all).filter_map(|seat| match guests.next_if(|guest| guest.seat == seat) {
        Some(guest) => Some(guest.probe.row.clone()),
        None => own.next().cloned(),
    });
    seats.collect()
}

/// Parts what stands in the order of a request into what is the call's own and what is the guests'.
pub(super) fn without_guests<T: Clone>(all: &[T], guests: &[Guest]) -> (Vec<T>, Vec<T>) {
    let is_guest = |seat: usize| guests.iter().any(|guest| guest.seat == seat);
    let (mut own, mut theirs) = (Vec::with_capacity(all.len()), Vec::with_capacity(guests.len()));
    for (seat, item) in all.iter().enumerate() {
        if is_guest(seat) { theirs.push(item.clone()) } else { own.push(item.clone()) }
    }
    (own, theirs)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::{Position, Reason, RowId, TextHash, Tokens};

    const LABEL: Outcome = Outcome::Labelled(LabelIndex(1));

    fn row(position: u64) -> Row {
        Row {
            position: Position(position),
            id: RowId::Integer(position.into()),
            text: format!("row {position}").into(),
            text_hash: TextHash([0; 16]),
            tokens: Tokens(5),
            attempts: 1,
        }
    }

    fn spec(probe: f64) -> QualitySpec {
        QualitySpec { probe, probe_max: 0.05, probe_baseline: 0.0 }
    }

    fn note(probes: &mut Probes, rows: &[Row]) {
        probes.note(rows.iter().map(|row| (row, &LABEL)), rows.len(), |_| true);
    }

    /// Runs `calls` calls of 50 rows; what was probed, by position, with the seat of each.
    fn run(probe: f64, calls: u64, seed: u64) -> (Probes, Vec<Guest>) {
        let mut probes = Probes::new(spec(probe), 50, seed);
        let mut seen = Vec::new();
        for call in 0..calls {
            let invited = probes.invite();
            let rows: Vec<Row> = (call * 50..).take(50 - invited.len()).map(row).collect();
            probes.count_rows(rows.len());
            let guests = probes.seat(invited, rows.len());
            let answers: Vec<(Probe, Answer)> = guests
                .iter()
                .map(|guest| (guest.probe.clone(), Answer::Label(LabelIndex(1))))
                .collect();
            probes.take_answers(&answers);
            seen.extend(guests);
            note(&mut probes, &rows);
        }
        (probes, seen)
    }

    #[test]
    fn one_row_in_twenty_is_probed_at_first_and_one_in_two_hundred_in_the_end() {
        let (_, early) = run(0.005, 40, 1);
        assert!((80..=105).contains(&early.len()), "{}", early.len());
        let (probes, all) = run(0.005, 4_000, 1);
        // 100 of the first 2,000, 230 until 20,000, then one in 200.
        assert!((1_180..=1_250).contains(&all.len()), "{}", all.len());
        assert_eq!(probes.all(), Share { hits: 0, of: all.len() as u64 });
    }

    #[test]
    fn nothing_is_probed_where_none_is_wanted() {
        let (probes, seen) = run(0.0, 100, 1);
        assert!(seen.is_empty() && probes.known.is_empty());
    }

    #[test]
    fn no_row_is_probed_twice_and_each_sits_away_from_its_old_place() {
        let (_, seen) = run(0.02, 2_000, 7);
        let positions: HashSet<Position> = seen.iter().map(|it| it.probe.row.position).collect();
        assert_eq!(positions.len(), seen.len());
        for guest in &seen {
            let place = guest.seat as f64 / 49.0;
            assert!((place - guest.probe.place).abs() >= AWAY - 1e-9, "{guest:?}");
        }
        let seats: HashSet<usize> = seen.iter().map(|guest| guest.seat).collect();
        assert_eq!(seats.len(), 50, "all seats are taken by and by");
    }

    #[test]
    fn the_same_seed_probes_the_same_rows() {
        assert_eq!(run(0.02, 100, 3).1, run(0.02, 100, 3).1);
        assert_ne!(run(0.02, 100, 3).1, run(0.02, 100, 4).1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (probes, _) = run(0.001, 500, 1);
        assert_eq!(probes.known.len(), KNOWN);
        let mut probes = Probes::new(spec(0.1), 50, 1);
        let long = Row { text: "x".repeat(LONGEST_TEXT + 1).into(), ..row(1) };
        note(&mut probes, &[long]);
        probes.note([(&row(2), &LABEL)].into_iter(), 1, |_| false);
        let none = Outcome::Unlabelled { reason: Reason::Missing, attempts: 1 };
        probes.note([(&row(3), &none)].into_iter(), 1, |_| true);
        assert!(probes.known.is_empty());
    }

    #[test]
    fn a_row_that_is_left_out_says_nothing_and_a_declined_one_disagrees() {
        let mut probes = Probes::new(spec(0.1), 50, 1);
        let probe = Probe { row: row(1), label: LabelIndex(1), place: 0.0, rows_per_call: 50 };
        let answers = [
            Answer::Unresolved(Reason::Missing),
            Answer::Unsure,
            Answer::Label(LabelIndex(1)),
            Answer::Label(LabelIndex(0)),
        ];
        let news = probes.take_answers(&answers.map(|answer| (probe.clone(), answer))).unwrap();
        assert_eq!(news.recent, Share { hits: 2, of: 3 });
    }

    #[test]
    fn a_step_begins_anew_with_labels_of_the_new_size() {
        let mut probes = Probes::new(spec(0.1), 50, 1);
        note(&mut probes, &(0..50).map(row).collect::<Vec<_>>());
        let old = Probe { row: row(1), label: LabelIndex(0), place: 0.0, rows_per_call: 50 };
        let wrong = vec![(old.clone(), Answer::Label(LabelIndex(1))); 60];
        let news = probes.take_answers(&wrong).unwrap();
        assert!(matches!(news.decision, Decision::Step(step) if (step.from, step.to) == (50, 25)));
        assert!(probes.known.is_empty());
        probes.take_back([old.clone()]);
        note(&mut probes, &(0..50).map(row).collect::<Vec<_>>());
        assert!(probes.known.is_empty(), "these were asked at the old size");
        assert_eq!(probes.take_answers(&[(old, Answer::Label(LabelIndex(1)))]), None);
    }

    #[test]
    fn where_rows_are_asked_alone_probes_are_too() {
        let mut probes = Probes::new(spec(0.5), 1, 1);
        for at in 0..4 {
            note(&mut probes, &[row(at)]);
            probes.count_rows(1);
        }
        assert!(probes.invite().is_empty());
        assert!(probes.invite_alone().is_some() && probes.invite_alone().is_some());
        assert_eq!(probes.invite_alone(), None);
    }

    #[test]
    fn guests_sit_where_they_are_seated_and_leave_the_others_in_order() {
        let probe = |at| Probe { row: row(at), label: LabelIndex(0), place: 0.0, rows_per_call: 5 };
        let guests = [Guest { probe: probe(90), seat: 1 }, Guest { probe: probe(91), seat: 4 }];
        let rows = with_guests(&[row(0), row(1), row(2)], &guests);
        let positions: Vec<u64> = rows.iter().map(|row| row.position.0).collect();
        assert_eq!(positions, [0, 90, 1, 2, 91]);
        let (own, theirs) = without_guests(&positions, &guests);
        assert_eq!((own, theirs), (vec![0, 1, 2], vec![90, 91]));
    }
}
