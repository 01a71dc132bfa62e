//! What calls were charged in the last day, and what the job was billed for ever, over all runs: a
//! restart forgets neither what the provider remembers nor what was spent.
//!
//! A call is noted before it is sent; until its charge is known its reservation counts in full, and
//! until its bill is known its worst case. Calls whose charge will not change any more are folded, a
//! line for each minute, of the last three minutes one for each tenth of a second, so that the file
//! stays small however many there are. A fold counts from its last call on: it leaves no limit early.
//! Bills that leave the last day are added to one line that stays.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::checked_line;
use super::super::job::Fingerprint;
use super::super::store::{self, LocalStore, StoreError};
use super::JournalSpec;
use super::append_file::{AppendFile, make_private_folders};
use super::syncer::Syncer;
use crate::domain::{Billed, Charge, ChargeSum, Tokens, UnixMillis};

const FILE: &str = "charges.jsonl";
/// The longest ledger that a provider keeps: a day, which has 25 hours where the clocks are set
/// back, and an hour for clocks that are off.
const KEPT: Duration = Duration::from_hours(26);
/// For so long a limit a minute needs to know closely when calls were sent, and those whose charge is
/// not known stand by themselves.
const SINGLE: Duration = Duration::from_mins(3);
/// Calls that were sent within this are folded into one line.
const FOLD: Duration = Duration::from_mins(1);
/// Settled charges that are younger are summed over so long, as of the last of them: thousands of
/// calls a second take no more lines than a few.
const FINE_FOLD: Duration = Duration::from_millis(100);
/// After so many lines the file is folded.
const LINES_BETWEEN_FOLDS: u64 = 20_000;

/// Charges that may still stand in a provider's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// When the call was sent; the last one, of several.
    pub at: UnixMillis,
    /// What was charged, or what was reserved where that is not known.
    pub charge: ChargeSum,
    /// Whether the charge is known.
    pub is_settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Whose bills stand here: those before it count only if they are of the same job.
    Job(Fingerprint),
    /// What was billed longer ago than charges are kept.
    Spent(Billed),
    Sent {
        run: String,
        call: u64,
        #[serde(flatten)]
        charge: LineCharge,
        /// The most that the call can be billed for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billed: Option<Billed>,
        at: UnixMillis,
    },
    Settled {
        run: String,
        call: u64,
        #[serde(flatten)]
        charge: LineCharge,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billed: Option<Billed>,
    },
    Folded {
        at: UnixMillis,
        #[serde(flatten)]
        charge: ChargeSum,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billed: Option<Billed>,
    },
}

/// A charge on its line. Without its parts all of it may be input, and all of it output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LineCharge {
    tokens: Tokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Tokens>,
}

impl From<Charge> for LineCharge {
    fn from(charge: Charge) -> LineCharge {
        let Charge { tokens, input, output } = charge;
        LineCharge { tokens, input: Some(input), output: Some(output) }
    }
}

impl From<LineCharge> for ChargeSum {
    fn from(line: LineCharge) -> ChargeSum {
        let LineCharge { tokens, input, output } = line;
        Charge { tokens, input: input.unwrap_or(tokens), output: output.unwrap_or(tokens) }.into()
    }
}

/// The charges of the last 26 hours before `now` in the journal's `folder`, in order of time.
/// Reads only. One that claims to be later than `now` counts as of now: the clock was set back.
///
/// # Errors
/// If the file exists and can't be read.
pub fn past_charges(folder: &Path, now: UnixMillis) -> Result<Vec<PastCharge>, StoreError> {
    let noted = Noted::of(lines_in(&read(&folder.join(FILE))?));
    let calls = noted.calls.into_values().chain(noted.folded);
    let mut charges: Vec<PastCharge> = calls.map(|past| past.charge).collect();
    for charge in &mut charges {
        charge.at = charge.at.min(now);
    }
    charges.retain(|charge| age(charge.at, now) < KEPT);
    charges.sort_by_key(|charge| charge.at);
    Ok(charges)
}

/// What all calls of `job` were billed for, as far as the journal's `folder` knows; calls without an
/// end in the worst case. `least` is what the output's own records say: where they know of more, the
/// journal was lost, and they count. Reads only.
///
/// # Errors
/// If the file exists and can't be read.
pub fn past_bill(folder: &Path, job: Fingerprint, least: Billed) -> Result<Billed, StoreError> {
    let mut noted = Noted::of(lines_in(&read(&folder.join(FILE))?));
    noted.belong_to(job, least);
    Ok(noted.bill())
}

/// Charges of one call or of several, with what they were billed for.
#[derive(Clone, Copy, Debug)]
struct Past {
    charge: PastCharge,
    billed: Billed,
}

impl Past {
    fn of(at: UnixMillis, charge: ChargeSum, billed: Option<Billed>, is_settled: bool) -> Past {
        let billed = billed.unwrap_or_else(|| billed_as(charge));
        Past { charge: PastCharge { at, charge, is_settled }, billed }
    }
}

/// What a charge was billed as, on a line of an earlier version, which tells of no bill. Where all of
/// it may be input and all of it output, it counts once, as output, which costs most.
fn billed_as(charge: ChargeSum) -> Billed {
    let ChargeSum { tokens, input, output, .. } = charge;
    let is_told = input != tokens || output != tokens;
    Billed { prompt: if is_told { input } else { 0 }, completion: output, ..Billed::NOTHING }
}

/// What the lines of a file come to.
#[derive(Debug, Default)]
struct Noted {
    /// Whose bills these are, if the file says so.
    job: Option<Fingerprint>,
    /// What was billed longer ago.
    spent: Billed,
    /// Calls by run and number.
    calls: BTreeMap<(String, u64), Past>,
    /// Those that are folded.
    folded: Vec<Past>,
}

impl Noted {
    fn of(lines: impl Iterator<Item = Line>) -> Noted {
        let mut noted = Noted::default();
        for line in lines {
            match line {
                Line::Job(job) => noted.belong_to(job, Billed::NOTHING),
                Line::Spent(billed) => noted.spent += billed,
                Line::Sent { run, call, charge, billed, at } => {
                    noted.calls.insert((run, call), Past::of(at, charge.into(), billed, false));
                }
                Line::Settled { run, call, charge, billed } => {
                    if let Some(known) = noted.calls.get_mut(&(run, call)) {
                        *known = Past::of(known.charge.at, charge.into(), billed, true);
                    }
                }
                Line::Folded { at, charge, billed } => {
                    noted.folded.push(Past::of(at, charge, billed, true));
                }
            }
        }
        noted
    }

    /// Makes these the bills of `job`, which come to `least` at the least: another job's are dropped,
    /// while what the provider charged stays.
    fn belong_to(&mut self, job: Fingerprint, least: Billed) {
        if self.job.is_some_and(|other| other != job) {
            self.spent = Billed::NOTHING;
            let all = self.calls.values_mut().chain(&mut self.folded);
            all.for_each(|past| past.billed = Billed::NOTHING);
        }
        self.job = Some(job);
        let known = self.bill();
        if least.tokens() > known.tokens() {
            self.spent += least.beyond(known);
        }
    }

    fn bill(&self) -> Billed {
        let all = self.calls.values().chain(&self.folded);
        self.spent + all.map(|past| past.billed).sum()
    }
}

/// The charges of this run, being written.
pub(super) struct Charges {
    path: PathBuf,
    job: Fingerprint,
    /// What the job was billed for at the least before this run.
    least: Billed,
    run: String,
    now: UnixMillis,
    file: Option<AppendFile>,
    lines_since_fold: u64,
    syncer: Arc<Syncer>,
}

impl Charges {
    /// Writes nothing before the first call.
    pub(super) fn new(spec: &JournalSpec, syncer: Arc<Syncer>) -> Charges {
        Charges {
            path: spec.folder.join(FILE),
            job: spec.job,
            least: spec.least_billed,
            run: spec.run.clone(),
            now: spec.started,
            file: None,
            lines_since_fold: 0,
            syncer,
        }
    }

    /// A call that is about to be sent: what is reserved for it, and the most that it can be billed
    /// for.
    pub(super) fn sent(
        &mut self,
        call: u64,
        charge: Charge,
        most: Billed,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        self.now = self.now.max(at);
        let (run, charge) = (self.run.clone(), charge.into());
        self.append(&Line::Sent { run, call, charge, billed: Some(most), at })
    }

    pub(super) fn settled(
        &mut self,
        call: u64,
        charge: Charge,
        billed: Billed,
    ) -> Result<(), StoreError> {
        let (run, charge) = (self.run.clone(), charge.into());
        self.append(&Line::Settled { run, call, charge, billed: Some(billed) })
    }

    fn append(&mut self, line: &Line) -> Result<(), StoreError> {
        if self.lines_since_fold >= LINES_BETWEEN_FOLDS {
            self.file = None;
        }
        self.lines_since_fold += 1;
        let encoded = encode(&self.path, std::slice::from_ref(line))?;
        match &mut self.file {
            Some(file) => file.append(&encoded),
            None => {
                self.fold()?;
                self.lines_since_fold = 0;
                let file = AppendFile::open(self.path.clone(), Arc::clone(&self.syncer))?;
                self.file.insert(file).append(&encoded)
            }
        }
    }

    /// Leaves in the file what is kept at `now`, folded as far as it will not change any more, and
    /// makes the file if there is none.
    fn fold(&self) -> Result<(), StoreError> {
        let bytes = read(&self.path)?;
        let mut noted = Noted::of(lines_in(&bytes));
        noted.belong_to(self.job, self.least);
        let encoded = encode(&self.path, &folded(noted, &self.run, self.now))?;
        if bytes == encoded {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        make_private_folders(folder).map_err(|source| {
            StoreError::from_io("making", folder.display().to_string(), source)
        })?;
        let within = folder.file_name().unwrap_or_default().to_string_lossy();
        let above = folder.parent().unwrap_or(Path::new(""));
        store::put(&LocalStore::new(above), &format!("{within}/{FILE}"), &encoded).map(drop)
    }
}

/// The lines that are kept at `now`. Calls of `this_run` may yet be settled; those of others are over.
fn folded(noted: Noted, this_run: &str, now: UnixMillis) -> Vec<Line> {
    let Noted { job, mut spent, calls, folded: earlier } = noted;
    let mut sums: BTreeMap<(Duration, u128), (UnixMillis, ChargeSum, Billed)> = BTreeMap::new();
    let mut fold_in = |Past { charge: past, billed }: Past| {
        let width = if age(past.at, now) >= SINGLE { FOLD } else { FINE_FOLD };
        let key = (width, u128::from(past.at.0) / width.as_millis());
        let (at, sum, bill) = sums.entry(key).or_default();
        *at = past.at.max(*at);
        *sum += past.charge;
        *bill += billed;
    };
    let mut is_kept = |past: &Past| {
        let is_kept = age(past.charge.at, now) < KEPT;
        if !is_kept {
            spent += past.billed;
        }
        is_kept
    };
    earlier.into_iter().filter(&mut is_kept).for_each(&mut fold_in);
    let mut singles = Vec::new();
    for ((run, call), past) in calls.into_iter().filter(|(_, past)| is_kept(past)) {
        let PastCharge { at, charge, is_settled } = past.charge;
        if is_settled || (age(at, now) >= SINGLE && run != this_run) {
            fold_in(past);
            continue;
        }
        let narrow = |amount: u64| Tokens(u32::try_from(amount).unwrap_or(u32::MAX));
        let charge = LineCharge {
            tokens: narrow(charge.tokens),
            input: Some(narrow(charge.input)),
            output: Some(narrow(charge.output)),
        };
        singles.push(Line::Sent { run, call, charge, billed: Some(past.billed), at });
    }
    let sums = sums.into_values().map(|(at, charge, billed)| Line::Folded {
        at,
        charge,
        billed: Some(billed),
    });
    let spent = (spent != Billed::NOTHING).then_some(Line::Spent(spent));
    job.map(Line::Job).into_iter().chain(spent).chain(sums).chain(singles).collect()
}

fn encode(path: &Path, lines: &[Line]) -> Result<Vec<u8>, StoreError> {
    let encoded: serde_json::Result<Vec<Vec<u8>>> =
        lines.iter().map(checked_line::encode).collect();
    let encoded = encoded
        .map_err(|error| StoreError::from_io("writing", path.display().to_string(), error.into()));
    Ok(encoded?.concat())
}

/// The bytes of a file; none if there is no file.
fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes
            .map_err(|source| StoreError::from_io("reading", path.display().to_string(), source)),
    }
}

/// The valid lines of a file.
fn lines_in(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes.split(|byte| *byte == b'\n').filter_map(checked_line::decode)
}

/// How long ago `at` was; nothing for what is to come.
fn age(at: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Plan;

    const HOUR: u64 = 3_600_000;

    fn job() -> Fingerprint {
        Fingerprint::of(b"job")
    }

    fn charges(folder: &Path, run: &str, now: u64) -> Charges {
        charges_of(folder, run, now, job(), 0)
    }

    /// The charges of a job that was billed for `least` prompt tokens by its records.
    fn charges_of(folder: &Path, run: &str, now: u64, job: Fingerprint, least: u64) -> Charges {
        let syncer = Syncer::start(Duration::ZERO, std::fs::File::sync_data).unwrap();
        let spec = JournalSpec {
            folder: folder.join("journal"),
            job,
            run: run.to_owned(),
            started: UnixMillis(now),
            least_billed: prompt(least),
            plan: Plan::default(),
            sync_within: Duration::ZERO,
            segment_bytes: 1,
        };
        Charges::new(&spec, Arc::new(syncer))
    }

    fn prompt(tokens: u64) -> Billed {
        Billed { prompt: tokens, ..Billed::NOTHING }
    }

    fn bill(folder: &Path) -> Billed {
        past_bill(&folder.join("journal"), job(), Billed::NOTHING).unwrap()
    }

    fn of(tokens: u32) -> Charge {
        Charge::of_tokens(Tokens(tokens))
    }

    fn past(folder: &Path, now: u64) -> Vec<(u64, u64, bool)> {
        let past = past_charges(&folder.join("journal"), UnixMillis(now)).unwrap();
        past.iter().map(|it| (it.at.0, it.charge.tokens, it.is_settled)).collect()
    }

    fn size(folder: &Path) -> u64 {
        std::fs::metadata(folder.join("journal").join(FILE)).unwrap().len()
    }

    #[test]
    fn an_unsettled_call_counts_in_full_and_runs_do_not_settle_each_others() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, of(500), prompt(500), UnixMillis(10)).unwrap();
        let mut second = charges(folder.path(), "r2", 0);
        second.sent(1, of(400), prompt(400), UnixMillis(20)).unwrap();
        second.settled(1, of(300), prompt(300)).unwrap();
        assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 300, true)]);
    }

    #[test]
    fn charges_are_forgotten_after_a_day_of_25_hours_and_one_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = charges(folder.path(), "r1", 0);
        for call in 0..1_000 {
            first.sent(call, of(1), prompt(1), UnixMillis(call)).unwrap();
            first.settled(call, of(1), prompt(1)).unwrap();
        }
        drop(first);
        assert_eq!(past(folder.path(), 26 * HOUR + 989).len(), 10);
        let later = 26 * HOUR + 989;
        charges(folder.path(), "r2", later).sent(0, of(9), prompt(9), UnixMillis(later)).unwrap();
        assert_eq!(bill(folder.path()), prompt(1_009));
        assert!(size(folder.path()) < 1_000, "{}", size(folder.path()));
        assert_eq!(past(folder.path(), later), [(999, 10, true), (later, 9, false)]);
    }

    #[test]
    fn the_file_stays_small_however_many_calls_a_run_makes() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = charges(folder.path(), "r1", 0);
        for call in 0..30_000_u64 {
            run.sent(call, of(2_000), prompt(2_000), UnixMillis(call * 500)).unwrap();
            if call % 1_000 != 7 {
                run.settled(call, of(1_850), prompt(1_850)).unwrap();
            }
        }
        // More than four hours: some 250 minutes, and what came since the last fold.
        assert!(size(folder.path()) < 4 << 20, "{}", size(folder.path()));
        let total: u64 = past(folder.path(), 15_000_000).iter().map(|(_, tokens, _)| tokens).sum();
        assert_eq!(total, 30 * 2_000 + 29_970 * 1_850);
        assert_eq!(bill(folder.path()), prompt(total));
    }

    #[test]
    fn a_call_in_flight_is_settled_after_a_fold() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = charges(folder.path(), "r1", 0);
        run.sent(1, of(500), prompt(500), UnixMillis(0)).unwrap();
        run.lines_since_fold = LINES_BETWEEN_FOLDS;
        run.sent(2, of(400), prompt(400), UnixMillis(HOUR)).unwrap();
        run.settled(1, of(300), prompt(300)).unwrap();
        assert_eq!(past(folder.path(), HOUR), [(0, 300, true), (HOUR, 400, false)]);
    }

    proptest! {
        #[test]
        fn folding_never_makes_a_charge_smaller_or_earlier(
            calls in prop::collection::vec((0_u64..100_000_000, 1_u32..5_000, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut lines = Vec::new();
            for (call, (at, tokens, is_settled, is_ours)) in (0..).zip(calls) {
                let run = if is_ours { "r2" } else { "r1" }.to_owned();
                let charge = LineCharge::from(of(tokens));
                let (at, billed) = (UnixMillis(at), Some(prompt(u64::from(tokens) + 5)));
                lines.push(Line::Sent { run: run.clone(), call, charge, billed, at });
                if is_settled {
                    let billed = Some(prompt(u64::from(tokens / 3)));
                    lines.push(Line::Settled { run, call, charge: of(tokens / 2).into(), billed });
                }
            }
            let now = UnixMillis(100_000_000);
            let noted = |lines: &[Line]| Noted::of(lines.iter().cloned());
            let folded = |lines: &[Line]| super::folded(noted(lines), "r2", now);
            let since = |lines: Vec<Line>, from: u64| -> u64 {
                let Noted { calls, folded, .. } = noted(&lines);
                let kept = calls.into_values().chain(folded).map(|past| past.charge);
                kept.filter(|it| it.at.0 >= from).map(|it| it.charge.tokens).sum()
            };
            let after = folded(&lines);
            prop_assert_eq!(noted(&after).bill(), noted(&lines).bill());
            for from in (now.0 - 26 * HOUR + 1..now.0).step_by(977_777) {
                prop_assert!(since(after.clone(), from) >= since(lines.clone(), from));
            }
            prop_assert_eq!(since(after.clone(), 0), since(lines, now.0 - 26 * HOUR + 1));
            prop_assert_eq!(folded(&after), after);
        }
    }

    #[test]
    fn a_torn_tail_costs_no_other_charge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal").join(FILE);
        charges(folder.path(), "r1", 0).sent(1, of(500), prompt(500), UnixMillis(10)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            let torn = [&whole[..], &whole[..cut]].concat();
            let store = LocalStore::new(folder.path());
            store::put(&store, "journal/charges.jsonl", &torn).unwrap();
            charges(folder.path(), "r2", 0).sent(1, of(1), prompt(1), UnixMillis(20)).unwrap();
            assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 1, false)], "cut {cut}");
        }
    }

    #[test]
    fn a_bill_outlives_the_charges_and_every_run() {
        let folder = tempfile::tempdir().unwrap();
        for day in 0..40 {
            let now = day * 24 * HOUR;
            let mut run = charges(folder.path(), &format!("r{day}"), now);
            run.sent(1, of(900), prompt(1_000), UnixMillis(now)).unwrap();
            run.settled(1, of(700), prompt(700)).unwrap();
            run.sent(2, of(900), prompt(1_000), UnixMillis(now)).unwrap();
            run.sent(3, of(900), prompt(1_000), UnixMillis(now)).unwrap();
            run.settled(3, of(900), Billed::NOTHING).unwrap();
        }
        // Of each run: one call as billed, one without an end in the worst case, one refused.
        assert_eq!(bill(folder.path()), prompt(40 * 1_700));
        assert!(size(folder.path()) < 2_000, "{}", size(folder.path()));
    }

    #[test]
    fn what_another_job_was_billed_for_in_the_same_place_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let other = Fingerprint::of(b"other");
        charges_of(folder.path(), "r1", 0, other, 0)
            .sent(1, of(500), prompt(500), UnixMillis(0))
            .unwrap();
        assert_eq!(bill(folder.path()), Billed::NOTHING);
        charges(folder.path(), "r2", 9).sent(1, of(40), prompt(40), UnixMillis(9)).unwrap();
        assert_eq!(bill(folder.path()), prompt(40));
        // What the provider charged stays, whoever asked.
        assert_eq!(past(folder.path(), 10), [(0, 500, false), (9, 40, false)]);
        charges(folder.path(), "r3", 9).sent(1, of(2), prompt(2), UnixMillis(9)).unwrap();
        assert_eq!(bill(folder.path()), prompt(42));
    }

    #[test]
    fn where_the_journal_was_lost_the_outputs_records_count_and_go_on_to_count() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        assert_eq!(past_bill(&journal, job(), prompt(800)).unwrap(), prompt(800));
        charges_of(folder.path(), "r1", 0, job(), 800)
            .sent(1, of(70), prompt(70), UnixMillis(0))
            .unwrap();
        assert_eq!(bill(folder.path()), prompt(870));
        // The records caught up with a part of it.
        assert_eq!(past_bill(&journal, job(), prompt(840)).unwrap(), prompt(870));
        let mut next = charges_of(folder.path(), "r2", 0, job(), 840);
        next.sent(1, of(5), prompt(5), UnixMillis(0)).unwrap();
        assert_eq!(bill(folder.path()), prompt(875));
    }

    #[test]
    fn lines_without_a_bill_count_by_their_charges() {
        let line = |json: &str| serde_json::from_str::<Line>(json).unwrap();
        let noted = Noted::of(
            [
                r#"{"sent":{"run":"r1","call":1,"tokens":900,"at":5}}"#,
                r#"{"settled":{"run":"r1","call":1,"tokens":720}}"#,
                r#"{"sent":{"run":"r1","call":2,"tokens":900,"input":800,"output":100,"at":5}}"#,
                r#"{"folded":{"at":3,"calls":2,"tokens":50,"input":40,"output":10}}"#,
            ]
            .into_iter()
            .map(line),
        );
        let expected = Billed { prompt: 840, completion: 720 + 110, ..Billed::NOTHING };
        assert_eq!(noted.bill(), expected);
    }

    #[test]
    fn a_charge_from_the_future_counts_as_of_now() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, of(5), prompt(5), UnixMillis(900)).unwrap();
        assert_eq!(past(folder.path(), 30), [(30, 5, false)]);
    }
}
